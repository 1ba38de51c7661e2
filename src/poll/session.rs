//! One connection in use: what is asked on it, when, and what the answers mean for it.

use std::time::Duration;

use ::redis::Value;
use tokio::time::sleep_until;

use super::waiter::Waiter;
use super::{SessionEnd, unauthorized, unreachable};
use crate::client::{Command, Connection, Failure, TOO_MANY_CLIENTS};
use crate::clock::Mono;
use crate::config::TargetConfig;
use crate::parse::{
    ErrorReply, Info, Malformed, SECTIONS, Settings, SlowlogReply, bytes, function_stats, integer,
};
use crate::poll::TargetHandle;
use crate::watch::{FailureReason, Feature, Heartbeat, Next, Observation, State};

/// FUNCTION STATS is asked this often while a function runs: its reply holds all arguments of the call.
const NAMING_INTERVAL: Duration = Duration::from_secs(1);

/// Sources of scripts are fetched this far apart.
const SOURCE_INTERVAL: Duration = Duration::from_secs(1);

/// Requests of one poll of the slow log; a poll that needs more goes on with the next one.
const READS_PER_POLL: usize = 5;

/// Time for a password file to be read.
const PASSWORD_LIMIT: Duration = Duration::from_secs(5);

/// Why a question has no answer.
#[derive(Debug)]
enum Unanswered {
    /// The server said no, and the connection goes on.
    ErrorReply(ErrorReply),
    /// What it said is not of the form that the command promises.
    Malformed(Malformed),
    /// The session is over.
    Over(SessionEnd),
}

impl Unanswered {
    /// Whether the same question may well be answered later.
    fn is_for_now(&self) -> bool {
        matches!(
            self,
            Self::ErrorReply(ErrorReply::Busy { .. } | ErrorReply::Loading | ErrorReply::MasterDown)
        )
    }
}

impl From<SessionEnd> for Unanswered {
    fn from(over: SessionEnd) -> Self {
        Self::Over(over)
    }
}

impl From<Malformed> for Unanswered {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// What a connection is used for, and when.
pub(super) struct Session<'a> {
    connection: Connection,
    waiter: Waiter<'a>,
    watched: &'a TargetHandle,
    /// Whether the server has answered anything on this connection.
    answered: bool,
    /// Whether it was found out which server answers.
    identified: bool,
    /// Whether INFO and CONFIG GET take several arguments (7.0+), as far as known.
    several: bool,
    /// When these were last begun.
    last: Last,
}

/// When things were last begun; `None` before the first time.
#[derive(Debug, Default)]
struct Last {
    heartbeat: Option<Mono>,
    poll: Option<Mono>,
    info: Option<Mono>,
    naming: Option<Mono>,
    source: Option<Mono>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Heartbeat,
    Name,
    Info,
    Poll,
    Source,
}

impl<'a> Session<'a> {
    pub(super) fn new(connection: Connection, waiter: Waiter<'a>) -> Self {
        let watched = waiter.watched;
        Self {
            connection,
            waiter,
            watched,
            answered: false,
            identified: false,
            several: false,
            last: Last::default(),
        }
    }

    /// Logs in and works until the connection or the exporter ends.
    pub(super) async fn run(mut self) -> SessionEnd {
        if let Err(over) = self.log_in().await {
            return over;
        }
        loop {
            let (due, action) = self.next_action();
            let clock = self.watched.clock();
            tokio::select! {
                () = self.waiter.stop.cancelled() => return SessionEnd::Stopped,
                () = sleep_until(clock.instant(due)) => {}
            }
            let result = match action {
                Action::Heartbeat => self.heartbeat().await,
                Action::Name => self.name_function().await,
                Action::Info => self.read_info().await,
                Action::Poll => self.read_slowlog().await,
                Action::Source => self.read_source().await,
            };
            if let Err(over) = result {
                return over;
            }
        }
    }

    /// What is due first, and when.
    fn next_action(&self) -> (Mono, Action) {
        let intervals = self.watched.config().intervals;
        let numbers = self.watched.numbers();
        let due = |last: Option<Mono>, interval| last.map_or(Mono::EPOCH, |last| last + interval);
        let mut actions = vec![(
            due(self.last.heartbeat, numbers.heartbeat_interval(intervals.heartbeat)),
            Action::Heartbeat,
        )];
        if numbers.wants_function_name() {
            actions.push((due(self.last.naming, NAMING_INTERVAL), Action::Name));
        }
        // While the server is blocked, BUSY or loading, it is asked for nothing but a sign of life. And what its
        // slow log holds means nothing before it is known whose slow log that is.
        if self.answered && *numbers.liveness().state() == State::Ok {
            actions.push((due(self.last.info, intervals.info), Action::Info));
            if self.identified {
                actions.push((due(self.last.poll, numbers.poll_interval(intervals.poll)), Action::Poll));
                if self.watched.config().privacy.show_source
                    && numbers.worth_asking(Feature::ScriptShow, self.watched.now())
                    && self.watched.wanted_source(&numbers).is_some()
                {
                    actions.push((due(self.last.source, SOURCE_INTERVAL), Action::Source));
                }
            }
        }
        actions.into_iter().min_by_key(|(due, _)| *due).unwrap_or((Mono::EPOCH, Action::Heartbeat))
    }

    async fn log_in(&mut self) -> Result<(), SessionEnd> {
        let TargetConfig { credentials, address, .. } = self.watched.config();
        let Some(password) = &credentials.password else { return Ok(()) };
        let passwords = tokio::select! {
            () = self.waiter.stop.cancelled() => return Err(SessionEnd::Stopped),
            passwords = password.read_within(PASSWORD_LIMIT) => passwords,
        };
        let password = passwords.and_then(|passwords| passwords.of(credentials.user.as_deref(), address));
        let Some(password) = password.map_err(|problem| unauthorized(self.watched, problem))? else {
            return Ok(());
        };
        let answer = self.connection.authenticate(credentials.user.as_deref(), &password);
        match self.waiter.wait(answer).await? {
            Ok(())
            | Err(Failure::ErrorReply(
                ErrorReply::Busy { .. } | ErrorReply::Loading | ErrorReply::MasterDown,
            )) => Ok(()),
            Err(Failure::ErrorReply(refusal)) => {
                let code =
                    if let ErrorReply::Unauthorized { text } = &refusal { text.as_str() } else { "ERR" };
                let user = credentials.user_shown();
                let hint = match code {
                    "WRONGPASS" => "check the user and the password",
                    _ => "the server may have no password or no such user",
                };
                Err(unauthorized(
                    self.watched,
                    format!("AUTH as user {user:?} was refused with {code}: {hint}"),
                ))
            }
            Err(failure) => Err(self.broken(&failure)),
        }
    }

    /// Asks for a sign of life.
    async fn heartbeat(&mut self) -> Result<(), SessionEnd> {
        let now = self.watched.now();
        self.last.heartbeat = Some(now.mono);
        let question = match self.watched.numbers().heartbeat(now) {
            Heartbeat::Ping => Command::Ping,
            Heartbeat::Transaction => Command::Transaction,
            Heartbeat::SlowlogLen => Command::SlowlogLen,
        };
        let first = !self.answered;
        let answer = self.exchange(question).await?;
        let round_trip = self.watched.now().mono.since(now.mono);
        self.watched.observe(Observation::Heartbeat { round_trip });
        match &answer {
            // Said to whoever comes, before the connection is closed.
            Err(ErrorReply::Other { text }) if first && text.contains(TOO_MANY_CLIENTS) => {
                return Err(unreachable(self.watched, format!("the server refused us: {text}")));
            }
            // MISCONF and the like: another heartbeat shows what this one can't.
            Err(ErrorReply::Other { text }) if question == Command::Ping => {
                self.capability(Feature::Ping, false, Some(format!("PING is answered with: {text}")));
            }
            Err(ErrorReply::MasterDown) if question == Command::Ping => {
                self.capability(Feature::Ping, false, None);
            }
            _ => {}
        }
        done(self.understand(question, now.mono, answer))
    }

    /// Asks which function runs.
    async fn name_function(&mut self) -> Result<(), SessionEnd> {
        let sent = self.watched.now().mono;
        self.last.naming = Some(sent);
        let answer = self.exchange(Command::FunctionStats).await?;
        match answer.as_ref().ok().map(|value| function_stats(value.clone())) {
            // An answer that says that the server is still busy.
            Some(Ok(Some(function))) => {
                self.watched.observe(Observation::Running { function, since: sent });
                self.capability(Feature::FunctionStats, true, None);
                Ok(())
            }
            Some(Err(malformed)) => {
                self.trouble(Command::FunctionStats, malformed.to_string());
                self.capability(Feature::FunctionStats, false, None);
                Ok(())
            }
            Some(Ok(None)) | None => done(self.understand(Command::FunctionStats, sent, answer)),
        }
    }

    /// Finds out which server answers. `false` if it can't tell now, and is to be asked again.
    async fn identify(&mut self) -> Result<bool, SessionEnd> {
        if !self.worth_asking(Feature::Info) {
            if !self.identified {
                self.watched.observe(Observation::Anonymous);
            }
            return Ok(true);
        }
        let began = self.watched.now().mono;
        self.watched.observe(Observation::PollBegan);
        match self.info().await {
            Ok(info) => {
                self.watched.observe(Observation::Info(Box::new(info)));
                self.polled(began);
            }
            Err(unanswered) => {
                let later = unanswered.is_for_now();
                self.poll_failed(Command::Info(SECTIONS), unanswered)?;
                if later {
                    return Ok(false);
                }
                self.watched.observe(Observation::Anonymous);
            }
        }
        Ok(true)
    }

    /// Reads INFO, CONFIG and the length of the slow log.
    async fn read_info(&mut self) -> Result<(), SessionEnd> {
        self.last.info = Some(self.watched.now().mono);
        if !self.identify().await? {
            self.last.info = None;
            return Ok(());
        }
        if !std::mem::replace(&mut self.identified, true) {
            self.introduce().await?;
        }
        self.read_settings().await?;
        if !self.worth_asking(Feature::SlowlogLength) {
            return Ok(());
        }
        let length = self.ask(Command::SlowlogLen).await;
        if let Some(length) = length.as_ref().ok().and_then(|value| u64::try_from(integer(value).ok()?).ok())
        {
            self.watched.observe(Observation::SlowlogLength(length));
        }
        done(length)
    }

    /// All sections of INFO, in one question where the server takes several (7.0+).
    async fn info(&mut self) -> Result<Info, Unanswered> {
        if !self.identified {
            let server = self.info_of(Command::Info(&["server"])).await?;
            self.several = server.compatible_major.is_some_and(|major| major >= 7);
        }
        if self.several {
            match self.info_of(Command::Info(SECTIONS)).await {
                Err(Unanswered::ErrorReply(ErrorReply::Other { .. })) => self.several = false,
                answer => return answer,
            }
        }
        let mut info = Info::default();
        for section in SECTIONS.chunks(1) {
            info.merge(self.info_of(Command::Info(section)).await?);
        }
        Ok(info)
    }

    async fn info_of(&mut self, question: Command) -> Result<Info, Unanswered> {
        Ok(Info::parse(&bytes(self.ask(question).await?)?))
    }

    /// What is done once on every connection: a name for CLIENT LIST, and a try of what is needed during BUSY.
    async fn introduce(&mut self) -> Result<(), SessionEnd> {
        done(self.ask(Command::SetName).await)?;
        if self.worth_asking(Feature::Transaction) {
            done(self.ask(Command::Transaction).await)?;
        }
        // Servers before 7.0 have no functions; one that does not tell its version is asked.
        let before_7 = self.watched.numbers().server().info().compatible_major.is_some_and(|major| major < 7);
        if before_7 {
            self.capability(Feature::FunctionStats, false, None);
        } else if self.worth_asking(Feature::FunctionStats) {
            self.name_function().await?;
        }
        Ok(())
    }

    async fn read_settings(&mut self) -> Result<(), SessionEnd> {
        if !self.worth_asking(Feature::Config) {
            return Ok(());
        }
        // Servers that don't tell their version are asked in the way that all of them understand.
        let several = self.several && self.watched.numbers().server().info().compatible_major.is_some();
        let step = if several { Settings::PARAMETERS.len() } else { 1 };
        let parameters = if several { Settings::PARAMETERS } else { Settings::PARAMETERS_BEFORE_7 };
        let mut settings = Settings::default();
        for chunk in parameters.chunks(step) {
            let question = Command::ConfigGet(chunk);
            let answer = self.ask(question).await;
            match answer.and_then(|value| Ok(Settings::parse(value)?)) {
                Ok(part) => settings.merge(part),
                Err(Unanswered::ErrorReply(_)) => return Ok(()),
                Err(unanswered) => return self.poll_failed(question, unanswered),
            }
        }
        self.capability(Feature::Config, !settings.is_empty(), None);
        if !settings.is_empty() {
            self.watched.observe(Observation::Settings(settings));
        }
        Ok(())
    }

    /// Reads what is new in the slow log.
    async fn read_slowlog(&mut self) -> Result<(), SessionEnd> {
        let began = self.watched.now().mono;
        self.last.poll = Some(began);
        if !self.worth_asking(Feature::Slowlog) {
            self.watched.observe(Observation::SlowlogUnreadable);
            return Ok(());
        }
        self.watched.observe(Observation::PollBegan);
        for _ in 0..READS_PER_POLL {
            let question = Command::SlowlogGet(self.watched.numbers().slowlog_request());
            let answer = self.ask(question).await;
            let privacy = self.watched.config().privacy;
            let reply = match answer.and_then(|value| Ok(SlowlogReply::parse(value, privacy)?)) {
                Ok(reply) => reply,
                Err(unanswered) => {
                    let later = unanswered.is_for_now();
                    self.poll_failed(question, unanswered)?;
                    if !later {
                        self.watched.observe(Observation::SlowlogUnreadable);
                    }
                    return Ok(());
                }
            };
            if reply.malformed > 0 {
                self.poll_failed(
                    question,
                    Malformed::new(
                        "a list of readable entries: those that can't be read are counted as lost",
                    )
                    .into(),
                )?;
            }
            match self.watched.observe(Observation::Slowlog(reply)) {
                Next::ReadOn => {}
                Next::Identify => {
                    if self.worth_asking(Feature::Info) {
                        self.identify().await?;
                    } else {
                        self.watched.observe(Observation::Anonymous);
                    }
                }
                Next::Continue => break,
            }
        }
        self.polled(began);
        Ok(())
    }

    /// Fetches the source of a script that is not known.
    async fn read_source(&mut self) -> Result<(), SessionEnd> {
        self.last.source = Some(self.watched.now().mono);
        let wanted = self.watched.wanted_source(&self.watched.numbers());
        let Some(sha1) = wanted else { return Ok(()) };
        let answer = self.ask(Command::ScriptShow(sha1)).await;
        match &answer {
            Ok(Value::BulkString(body)) => {
                self.watched.asks_source(sha1);
                self.watched.keep_source(sha1, body);
            }
            // It may yet be granted, or the server replaced by one that has it.
            Err(Unanswered::ErrorReply(
                ErrorReply::NoPermission
                | ErrorReply::Unknown
                | ErrorReply::Busy { .. }
                | ErrorReply::Loading
                | ErrorReply::MasterDown,
            )) => {}
            // It is not there any more, or too large.
            _ => self.watched.asks_source(sha1),
        }
        done(answer)
    }

    /// Asks a question and understands what its answer says about the server's state.
    async fn ask(&mut self, question: Command) -> Result<Value, Unanswered> {
        let sent = self.watched.now().mono;
        let answer = self.exchange(question).await?;
        self.understand(question, sent, answer)
    }

    /// Sends a question and waits for what comes.
    async fn exchange(&mut self, question: Command) -> Result<Result<Value, ErrorReply>, SessionEnd> {
        let answer = self.connection.ask(question);
        match self.waiter.wait(answer).await? {
            Ok(value) => {
                (self.answered, self.waiter.doubtful) = (true, false);
                Ok(Ok(value))
            }
            Err(Failure::ErrorReply(refusal)) => {
                (self.answered, self.waiter.doubtful) = (true, false);
                Ok(Err(refusal))
            }
            Err(failure) => {
                match failure {
                    Failure::TooLarge { .. } => self.too_large(question, &failure),
                    Failure::Lost(_) if matches!(question, Command::SlowlogGet(_)) => {
                        self.watched.observe(Observation::SlowlogBroken);
                    }
                    Failure::NotRedis if self.answered => self.trouble(question, failure.to_string()),
                    _ => {}
                }
                Err(self.broken(&failure))
            }
        }
    }

    fn understand(
        &self,
        question: Command,
        sent: Mono,
        answer: Result<Value, ErrorReply>,
    ) -> Result<Value, Unanswered> {
        let refusal = match answer {
            Ok(value) => {
                self.watched.observe(if question.is_answered_while_busy() {
                    Observation::Inconclusive
                } else {
                    Observation::Answered { since: sent }
                });
                match question.feature() {
                    // Some servers hide settings instead of refusing to tell them: that is seen in what they tell.
                    Some(Feature::Config) | None => {}
                    Some(feature) => self.capability(feature, true, None),
                }
                return Ok(value);
            }
            Err(refusal) => refusal,
        };
        let observation = match &refusal {
            ErrorReply::Busy { kind, counted } => {
                Observation::Busy { kind: *kind, counted: *counted, since: sent }
            }
            ErrorReply::Loading => Observation::Loading { since: sent },
            ErrorReply::Unauthorized { text } => {
                let text = text.trim_end_matches('.');
                let detail = format!("{text}; give a user and a password that the server accepts");
                return Err(Unanswered::Over(unauthorized(self.watched, detail)));
            }
            ErrorReply::MasterDown
            | ErrorReply::NoPermission
            | ErrorReply::Unknown
            | ErrorReply::Other { .. } => Observation::Inconclusive,
        };
        self.refused(question, &refusal);
        self.watched.observe(observation);
        Err(Unanswered::ErrorReply(refusal))
    }

    /// Notes what can't be asked here, and what to do about it.
    fn refused(&self, question: Command, refusal: &ErrorReply) {
        let Some(feature) = question.feature() else { return };
        let command = question.name();
        match refusal {
            ErrorReply::NoPermission => {
                let user = self.watched.config().credentials.user_shown();
                let grant = question.grant();
                let problem =
                    format!("user {user:?} may not run {command}; grant it: ACL SETUSER {user} {grant}");
                self.capability(feature, false, Some(problem));
            }
            // Servers before 7.0 have no functions, and only Valkey shows scripts: that is how they are.
            ErrorReply::Unknown if matches!(feature, Feature::FunctionStats | Feature::ScriptShow) => {
                self.capability(feature, false, None);
            }
            ErrorReply::Unknown => {
                self.capability(feature, false, Some(format!("the server does not know {command}")));
            }
            _ => {}
        }
    }

    fn capability(&self, feature: Feature, available: bool, problem: Option<String>) {
        self.watched.observe(Observation::Capability { feature, available, problem });
    }

    fn worth_asking(&self, feature: Feature) -> bool {
        self.watched.numbers().worth_asking(feature, self.watched.now())
    }

    fn polled(&self, began: Mono) {
        let took = self.watched.now().mono.since(began);
        self.watched.observe(Observation::Polled { took });
    }

    /// Counts a poll that failed, and tells why if that shows nowhere else.
    fn poll_failed(&self, question: Command, unanswered: Unanswered) -> Result<(), SessionEnd> {
        let reason = match &unanswered {
            Unanswered::Over(SessionEnd::Stopped) => None,
            Unanswered::Over(SessionEnd::Broken(_) | SessionEnd::Mute(_)) => Some(FailureReason::Connection),
            Unanswered::Malformed(_) => Some(FailureReason::Malformed),
            Unanswered::ErrorReply(refusal) => Some(FailureReason::of(refusal)),
        };
        if let Some(reason) = reason {
            self.watched.observe(Observation::PollFailed { reason });
        }
        match unanswered {
            Unanswered::Over(over) => return Err(over),
            Unanswered::Malformed(malformed) => self.trouble(question, malformed.to_string()),
            Unanswered::ErrorReply(ErrorReply::Other { text }) => self.trouble(question, text),
            Unanswered::ErrorReply(_) => {}
        }
        Ok(())
    }

    /// Tells of an unexpected answer.
    fn trouble(&self, question: Command, detail: String) {
        self.watched.observe(Observation::Trouble { command: question.name(), detail });
    }

    /// A reply was larger than we take: asks for less next time.
    fn too_large(&self, question: Command, failure: &Failure) {
        let detail = failure.to_string();
        match (question, question.feature()) {
            (Command::SlowlogGet(_), _) => {
                self.watched.observe(Observation::SlowlogTooLarge);
            }
            (_, Some(feature)) => {
                self.capability(feature, false, Some(detail.clone()));
            }
            (_, None) => {}
        }
        self.watched.observe(Observation::PollFailed { reason: FailureReason::TooLarge });
        self.trouble(question, detail);
    }

    /// The connection is of no use any more. Where it never was, or the network lost it, nobody is there.
    fn broken(&self, failure: &Failure) -> SessionEnd {
        let detail = failure.to_string();
        if self.answered && *failure != Failure::Unacknowledged {
            return SessionEnd::Broken(detail);
        }
        self.watched.observe(Observation::Unreachable { detail: detail.clone() });
        if self.answered { SessionEnd::Broken(detail) } else { SessionEnd::Mute(detail) }
    }
}

/// What remains of an answer that only its effects were wanted of.
fn done<T>(answer: Result<T, Unanswered>) -> Result<(), SessionEnd> {
    match answer {
        Ok(_) | Err(Unanswered::ErrorReply(_) | Unanswered::Malformed(_)) => Ok(()),
        Err(Unanswered::Over(over)) => Err(over),
    }
}
