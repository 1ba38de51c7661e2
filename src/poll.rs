//! The task of one target: asks, waits, and passes on what it saw.
//!
//! One connection, one request at a time. A request that stays unanswered is not cancelled and nothing more is
//! sent behind it: that it is unanswered is what we want to know. Deciding what it means is
//! [`watch`](crate::watch)'s.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::redis::Value;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::fleet::Watched;
use crate::parse::{
    BusyKind, Info, Malformed, Refusal, SECTIONS, Settings, SlowlogReply, bytes, function_stats, integer,
};
use crate::redis::{
    BREAKS_UNACKNOWLEDGED, Connection, Failure, Link, Peer, Question, Reach, TlsSetup, UNACKNOWLEDGED_LIMIT,
    connect, reach,
};
use crate::watch::{FailureReason, Feature, Heartbeat, Next, Observation, State};

/// The first pause before a connection that was lost at once is dialled again; it doubles from there.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The longest such pause.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// A connection that worked for so long is dialled again at once.
const HEALTHY_AFTER: Duration = Duration::from_secs(2);

/// Time for the TLS handshake with an address that has never answered.
const FIRST_HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Connections that only show whether one is accepted are at least this far apart.
const REACH_INTERVAL: Duration = Duration::from_secs(1);

/// FUNCTION STATS is asked this often while a function runs: its reply holds all arguments of the call.
const NAMING_INTERVAL: Duration = Duration::from_secs(1);

/// Requests of one poll of the slow log; a poll that needs more goes on with the next one.
const READS_PER_POLL: usize = 5;

/// Why a session is over.
#[derive(Debug)]
enum Over {
    /// The exporter stops.
    Stopped,
    /// The connection is of no use any more.
    Broken(String),
}

/// Why a question has no answer.
#[derive(Debug)]
enum Unanswered {
    /// The server said no, and the connection goes on.
    Refused(Refusal),
    /// What it said is not of the form that the command promises.
    Malformed(Malformed),
    /// The session is over.
    Over(Over),
}

impl From<Over> for Unanswered {
    fn from(over: Over) -> Self {
        Self::Over(over)
    }
}

impl From<Malformed> for Unanswered {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Watches one target until `stop`.
pub(crate) async fn watch(watched: Arc<Watched>, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        let began = watched.now().mono;
        match session(&watched, &stop).await {
            Over::Stopped => return,
            Over::Broken(detail) => debug!(target = &*watched.config().name, detail, "connection ended"),
        }
        let lasted = watched.now().mono.saturating_sub(began);
        if lasted >= HEALTHY_AFTER && watched.numbers().liveness().state().is_up() {
            backoff = Backoff::default();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(backoff.next()) => {}
        }
    }
}

/// Pauses between attempts: none, then doubling, with jitter so that many exporters don't come at once.
#[derive(Debug, Default)]
struct Backoff {
    /// The pause before this one, without jitter; `None` before the first attempt.
    last: Option<Duration>,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = self.last.map_or(Duration::ZERO, |last| (last * 2).clamp(FIRST_BACKOFF, LONGEST_BACKOFF));
        self.last = Some(pause);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// One connection, from the first byte to the last.
async fn session(watched: &Watched, stop: &CancellationToken) -> Over {
    let connecting = connect(&watched.config().address.endpoint);
    let link = tokio::select! {
        () = stop.cancelled() => return Over::Stopped,
        link = connecting => link,
    };
    let link = match link {
        Ok(link) => link,
        Err(error) => return unreachable(watched, error.to_string()),
    };
    watched.observe(Observation::Connected);
    let mut waiter = Waiter { watched, stop, peer: link.peer.clone(), last_reach: None, doubtful: false };
    let link = match watched.tls() {
        None => link,
        Some(tls) => match begin_tls(&mut waiter, tls, link).await {
            Ok(link) => link,
            Err(over) => return over,
        },
    };
    match Connection::open(link).await {
        Ok(connection) => Session::new(connection, waiter).run().await,
        Err(failure) => unreachable(watched, failure.to_string()),
    }
}

/// The TLS handshake. A blocked server leaves it unanswered; but so does a port that does not speak TLS (Redis waits
/// for the rest of what it takes for a command), so an address that has never answered is not waited for without end.
async fn begin_tls(waiter: &mut Waiter<'_>, tls: &TlsSetup, link: Link) -> Result<Link, Over> {
    let watched = waiter.watched;
    let (unknown, tried) = {
        let numbers = watched.numbers();
        (!numbers.liveness().has_answered(), numbers.liveness().tried())
    };
    waiter.doubtful = unknown && tried;
    let handshake = tls.begin(link);
    let limited =
        async { if unknown { timeout(FIRST_HANDSHAKE_LIMIT, handshake).await } else { Ok(handshake.await) } };
    let result = waiter.wait(limited).await?;
    waiter.doubtful = false;
    match result {
        Ok(Ok(link)) => Ok(link),
        Ok(Err(error)) => Err(unreachable(watched, format!("the TLS handshake failed: {error}"))),
        Err(_) => {
            let seconds = FIRST_HANDSHAKE_LIMIT.as_secs();
            let detail =
                format!("the TLS handshake was not answered within {seconds} s; does this port speak TLS?");
            Err(unreachable(watched, detail))
        }
    }
}

fn unreachable(watched: &Watched, detail: String) -> Over {
    watched.observe(Observation::Unreachable { detail: detail.clone() });
    Over::Broken(detail)
}

fn unauthorized(watched: &Watched, detail: String) -> Over {
    watched.observe(Observation::Unauthorized { detail: detail.clone() });
    Over::Broken(detail)
}

/// Waits for answers, and notices when they don't come.
struct Waiter<'a> {
    watched: &'a Watched,
    stop: &'a CancellationToken,
    /// Where the connection leads.
    peer: Peer,
    /// When it was last tried whether connections are accepted (monotonic).
    last_reach: Option<Duration>,
    /// The address has never answered and was given up before: that it is silent again says nothing new.
    doubtful: bool,
}

impl Waiter<'_> {
    /// Waits for what was sent just now. Without an answer for too long, a second connection, of which nothing
    /// but its being accepted is wanted, tells a server that is blocked from one that is gone.
    async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Over> {
        let clock = self.watched.clock();
        let since = clock.now().mono;
        let blocked_at = since.saturating_add(self.watched.config().intervals.blocked_after);
        let mut answer = pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer),
            () = self.stop.cancelled() => return Err(Over::Stopped),
            () = sleep_until(clock.instant(blocked_at)) => {}
        }
        let _held = loop {
            let earliest = self.last_reach.map_or(Duration::ZERO, |last| last.saturating_add(REACH_INTERVAL));
            let reaching = async {
                sleep_until(clock.instant(earliest)).await;
                (clock.now().mono, reach(&self.peer).await)
            };
            let (tried, reached) = tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                () = self.stop.cancelled() => return Err(Over::Stopped),
                reached = reaching => reached,
            };
            self.last_reach = Some(tried);
            match reached {
                Reach::Accepted(link) => break Some(link),
                Reach::Refused(error) => {
                    return Err(unreachable(
                        self.watched,
                        format!("it does not answer, and cannot be connected to: {error}"),
                    ));
                }
                Reach::Unclear => {}
            }
            // A full queue of new connections looks like a lost network. What tells them apart is whether the
            // peer's kernel still acknowledges what was sent: if not, our own connection breaks by itself.
            let unanswered = clock.now().mono.saturating_sub(since);
            if matches!(self.peer, Peer::Unix(_))
                || (BREAKS_UNACKNOWLEDGED && unanswered > UNACKNOWLEDGED_LIMIT * 2)
            {
                break None;
            }
            if unanswered > UNACKNOWLEDGED_LIMIT * 2 {
                return Err(unreachable(self.watched, "nothing comes back".to_owned()));
            }
        };
        if !self.doubtful {
            self.watched.observe(Observation::Silent { since });
        }
        // The second connection is held until the answer comes, so that the server never has more of them.
        tokio::select! {
            biased;
            answer = &mut answer => Ok(answer),
            () = self.stop.cancelled() => Err(Over::Stopped),
        }
    }
}

/// What a connection is used for, and when.
struct Session<'a> {
    connection: Connection,
    waiter: Waiter<'a>,
    watched: &'a Watched,
    /// Whether the server has answered anything on this connection.
    answered: bool,
    /// Whether it was found out which server answers.
    identified: bool,
    /// Whether INFO and CONFIG GET take several arguments (7.0+).
    several: bool,
    /// When these were last begun (monotonic).
    last: Last,
}

/// When things were last begun (monotonic); `None` before the first time.
#[derive(Debug, Default)]
struct Last {
    heartbeat: Option<Duration>,
    poll: Option<Duration>,
    info: Option<Duration>,
    naming: Option<Duration>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Heartbeat,
    Name,
    Info,
    Poll,
}

impl<'a> Session<'a> {
    fn new(connection: Connection, waiter: Waiter<'a>) -> Self {
        let watched = waiter.watched;
        Self {
            connection,
            waiter,
            watched,
            answered: false,
            identified: false,
            several: true,
            last: Last::default(),
        }
    }

    /// Logs in and works until the connection or the exporter ends.
    async fn run(mut self) -> Over {
        if let Err(over) = self.log_in().await {
            return over;
        }
        loop {
            let (due, action) = self.next_action();
            let clock = self.watched.clock();
            tokio::select! {
                () = self.waiter.stop.cancelled() => return Over::Stopped,
                () = sleep_until(clock.instant(due)) => {}
            }
            let result = match action {
                Action::Heartbeat => self.heartbeat().await,
                Action::Name => self.name_function().await,
                Action::Info => self.read_info().await,
                Action::Poll => self.read_slowlog().await,
            };
            if let Err(over) = result {
                return over;
            }
        }
    }

    /// What is due first, and when (monotonic).
    fn next_action(&self) -> (Duration, Action) {
        let intervals = self.watched.config().intervals;
        let numbers = self.watched.numbers();
        let due = |last: Option<Duration>, interval| {
            last.map_or(Duration::ZERO, |last| last.saturating_add(interval))
        };
        let mut actions = vec![(
            due(self.last.heartbeat, numbers.heartbeat_interval(intervals.heartbeat)),
            Action::Heartbeat,
        )];
        if numbers.wants_function_name() {
            actions.push((due(self.last.naming, NAMING_INTERVAL), Action::Name));
        }
        // While the server is blocked, BUSY or loading, it is asked for nothing but a sign of life. And what its
        // slow log holds means nothing before it is known whose slow log that is.
        if self.answered && numbers.liveness().state() == State::Ok {
            actions.push((due(self.last.info, intervals.info), Action::Info));
            if self.identified {
                actions.push((due(self.last.poll, numbers.poll_interval(intervals.poll)), Action::Poll));
            }
        }
        actions.into_iter().min_by_key(|(due, _)| *due).unwrap_or((Duration::ZERO, Action::Heartbeat))
    }

    async fn log_in(&mut self) -> Result<(), Over> {
        let credentials = &self.watched.config().credentials;
        let Some(password) = &credentials.password else { return Ok(()) };
        let password = password.read().map_err(|problem| unauthorized(self.watched, problem))?;
        let answer = self.connection.authenticate(credentials.user.as_deref(), &password);
        match self.waiter.wait(answer).await? {
            Ok(()) | Err(Failure::Refused(Refusal::Busy { .. } | Refusal::Loading | Refusal::MasterDown)) => {
                Ok(())
            }
            Err(Failure::Refused(refusal)) => {
                let code = if let Refusal::Unauthorized { text } = &refusal { text.as_str() } else { "ERR" };
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
    async fn heartbeat(&mut self) -> Result<(), Over> {
        let how = self.watched.numbers().heartbeat();
        let sent = self.watched.now().mono;
        self.last.heartbeat = Some(sent);
        let question = match how {
            Heartbeat::Ping => Question::Ping,
            Heartbeat::Transaction => Question::Transaction,
        };
        let first = !self.answered;
        let answer = self.exchange(question).await?;
        let round_trip = self.watched.now().mono.saturating_sub(sent);
        self.watched.observe(Observation::Heartbeat { round_trip });
        if let Err(Refusal::Other { text }) = &answer {
            if first {
                // "max number of clients reached", for one: this is all that it will say to us.
                return Err(unreachable(self.watched, format!("the server refused us: {text}")));
            }
            let detail = format!("{}: {text}", question.name());
            self.watched.observe(Observation::PollFailed { reason: FailureReason::Refused, detail });
        }
        done(self.understand(question, sent, answer))
    }

    /// Asks which function runs.
    async fn name_function(&mut self) -> Result<(), Over> {
        let sent = self.watched.now().mono;
        self.last.naming = Some(sent);
        let answer = self.exchange(Question::FunctionStats).await?;
        if let Ok(value) = &answer
            && let Ok(Some(function)) = function_stats(value.clone())
        {
            // An answer that says that the server is still busy.
            self.watched.observe(Observation::Busy { kind: BusyKind::Function, counted: false, since: sent });
            self.watched.observe(Observation::Running(function));
            return Ok(());
        }
        done(self.understand(Question::FunctionStats, sent, answer))
    }

    /// Reads INFO, CONFIG and the length of the slow log.
    async fn read_info(&mut self) -> Result<(), Over> {
        let began = self.watched.now().mono;
        self.last.info = Some(began);
        let first = !self.identified;
        if self.worth_asking(Feature::Info) {
            self.watched.observe(Observation::PollBegan);
            match self.info().await {
                Ok(info) => {
                    self.watched.observe(Observation::Info(Box::new(info)));
                    self.polled(began);
                }
                Err(unanswered) => {
                    let later =
                        matches!(unanswered, Unanswered::Refused(Refusal::Busy { .. } | Refusal::Loading));
                    self.poll_failed(Question::Info(SECTIONS), unanswered)?;
                    if later {
                        return Ok(());
                    }
                    self.watched.observe(Observation::Anonymous);
                }
            }
        } else if first {
            self.watched.observe(Observation::Anonymous);
        }
        self.identified = true;
        if first {
            self.introduce().await?;
        }
        self.read_settings().await?;
        if !self.worth_asking(Feature::SlowlogLength) {
            return Ok(());
        }
        let length = self.ask(Question::SlowlogLen).await;
        if let Some(length) = length.as_ref().ok().and_then(|value| u64::try_from(integer(value).ok()?).ok())
        {
            self.watched.observe(Observation::SlowlogLength(length));
        }
        done(length)
    }

    /// All sections of INFO, in one question where the server takes several (7.0+).
    async fn info(&mut self) -> Result<Info, Unanswered> {
        if !self.identified {
            let server = self.info_of(Question::Info(&["server"])).await?;
            self.several = server.compatible_major.is_some_and(|major| major >= 7);
        }
        if self.several {
            match self.info_of(Question::Info(SECTIONS)).await {
                Err(Unanswered::Refused(Refusal::Other { .. })) => self.several = false,
                answer => return answer,
            }
        }
        let mut info = Info::default();
        for section in SECTIONS.chunks(1) {
            info.merge(self.info_of(Question::Info(section)).await?);
        }
        Ok(info)
    }

    async fn info_of(&mut self, question: Question) -> Result<Info, Unanswered> {
        Ok(Info::parse(&bytes(self.ask(question).await?)?))
    }

    /// What is done once on every connection: a name for CLIENT LIST, and a try of what is needed during BUSY.
    async fn introduce(&mut self) -> Result<(), Over> {
        done(self.ask(Question::SetName).await)?;
        if self.worth_asking(Feature::Transaction) {
            done(self.ask(Question::Transaction).await)?;
        }
        if !self.several {
            self.capability(Feature::FunctionStats, false, None);
        } else if self.worth_asking(Feature::FunctionStats) {
            done(self.ask(Question::FunctionStats).await)?;
        }
        Ok(())
    }

    async fn read_settings(&mut self) -> Result<(), Over> {
        if !self.worth_asking(Feature::Config) {
            return Ok(());
        }
        // Servers that don't tell their version are asked in the way that all of them understand.
        let several = self.several && self.watched.numbers().server().info().compatible_major.is_some();
        let step = if several { Settings::PARAMETERS.len() } else { 1 };
        let parameters = if several { Settings::PARAMETERS } else { Settings::PARAMETERS_BEFORE_7 };
        let mut settings = Settings::default();
        for chunk in parameters.chunks(step) {
            let question = Question::ConfigGet(chunk);
            let answer = self.ask(question).await;
            match answer.and_then(|value| Ok(Settings::parse(value)?)) {
                Ok(part) => settings.merge(part),
                Err(Unanswered::Refused(_)) => return Ok(()),
                Err(unanswered) => return self.poll_failed(question, unanswered),
            }
        }
        if settings.is_empty() {
            self.capability(Feature::Config, false, None);
        } else {
            self.watched.observe(Observation::Settings(settings));
        }
        Ok(())
    }

    /// Reads what is new in the slow log.
    async fn read_slowlog(&mut self) -> Result<(), Over> {
        let began = self.watched.now().mono;
        self.last.poll = Some(began);
        if !self.worth_asking(Feature::Slowlog) {
            self.watched.observe(Observation::SlowlogUnreadable);
            return Ok(());
        }
        self.watched.observe(Observation::PollBegan);
        for _ in 0..READS_PER_POLL {
            let question = Question::SlowlogGet(self.watched.numbers().slowlog_ask());
            let answer = self.ask(question).await;
            let reply = match answer.and_then(|value| Ok(SlowlogReply::parse(value)?)) {
                Ok(reply) => reply,
                Err(unanswered) => {
                    self.poll_failed(question, unanswered)?;
                    self.watched.observe(Observation::SlowlogUnreadable);
                    return Ok(());
                }
            };
            if reply.malformed > 0 {
                self.poll_failed(
                    question,
                    Malformed::new("a list of slow log entries in each element").into(),
                )?;
            }
            match self.watched.observe(Observation::Slowlog(reply)) {
                Next::ReadOn => {}
                Next::Identify => self.read_info().await?,
                Next::Continue => break,
            }
        }
        self.polled(began);
        Ok(())
    }

    /// Asks a question and understands what its answer says about the server's state.
    async fn ask(&mut self, question: Question) -> Result<Value, Unanswered> {
        let sent = self.watched.now().mono;
        let answer = self.exchange(question).await?;
        self.understand(question, sent, answer)
    }

    /// Sends a question and waits for what comes.
    async fn exchange(&mut self, question: Question) -> Result<Result<Value, Refusal>, Over> {
        let answer = self.connection.ask(question);
        match self.waiter.wait(answer).await? {
            Ok(value) => {
                self.answered = true;
                Ok(Ok(value))
            }
            Err(Failure::Refused(refusal)) => {
                self.answered = true;
                Ok(Err(refusal))
            }
            Err(failure) => {
                match failure {
                    Failure::TooLarge => self.too_large(question),
                    Failure::NotRedis if self.answered => {
                        let detail = format!("{}: {failure}", question.name());
                        self.watched
                            .observe(Observation::PollFailed { reason: FailureReason::Malformed, detail });
                    }
                    _ => {}
                }
                Err(self.broken(&failure))
            }
        }
    }

    fn understand(
        &self,
        question: Question,
        sent: Duration,
        answer: Result<Value, Refusal>,
    ) -> Result<Value, Unanswered> {
        let refusal = match answer {
            Ok(value) => {
                self.watched.observe(Observation::Answered);
                if let Some(feature) = question.feature() {
                    self.capability(feature, true, None);
                }
                return Ok(value);
            }
            Err(refusal) => refusal,
        };
        let observation = match &refusal {
            Refusal::Busy { kind, counted } => {
                Observation::Busy { kind: *kind, counted: *counted, since: sent }
            }
            Refusal::Loading => Observation::Loading,
            Refusal::MasterDown => Observation::MasterDown,
            Refusal::Unauthorized { text } => {
                let text = text.trim_end_matches('.');
                let detail = format!("{text}; give a user and a password that the server accepts");
                return Err(Unanswered::Over(unauthorized(self.watched, detail)));
            }
            Refusal::NoPermission | Refusal::Unknown | Refusal::Other { .. } => Observation::Answered,
        };
        self.watched.observe(observation);
        self.refused(question, &refusal);
        Err(Unanswered::Refused(refusal))
    }

    /// Notes what can't be asked here, and what to do about it.
    fn refused(&self, question: Question, refusal: &Refusal) {
        let Some(feature) = question.feature() else { return };
        let command = question.name();
        match refusal {
            Refusal::NoPermission => {
                let user = self.watched.config().credentials.user_shown();
                let grant = question.grant();
                let problem =
                    format!("user {user:?} may not run {command}; grant it: ACL SETUSER {user} {grant}");
                self.capability(feature, false, Some(problem));
            }
            // Servers before 7.0 have no functions: that is how they are.
            Refusal::Unknown if feature == Feature::FunctionStats => self.capability(feature, false, None),
            Refusal::Unknown => {
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

    fn polled(&self, began: Duration) {
        let took = self.watched.now().mono.saturating_sub(began);
        self.watched.observe(Observation::Polled { took });
    }

    /// Counts a poll that failed.
    fn poll_failed(&self, question: Question, unanswered: Unanswered) -> Result<(), Over> {
        let failed = |reason, detail| {
            self.watched.observe(Observation::PollFailed { reason, detail });
        };
        match unanswered {
            Unanswered::Over(over) => {
                if matches!(over, Over::Broken(_)) {
                    failed(FailureReason::Connection, String::new());
                }
                return Err(over);
            }
            Unanswered::Malformed(malformed) => {
                failed(FailureReason::Malformed, format!("{}: {malformed}", question.name()));
            }
            Unanswered::Refused(refusal) => match refusal {
                Refusal::Busy { .. } => failed(FailureReason::Busy, String::new()),
                Refusal::Loading | Refusal::MasterDown => failed(FailureReason::Loading, String::new()),
                Refusal::Unauthorized { .. } => failed(FailureReason::Unauthorized, String::new()),
                Refusal::NoPermission | Refusal::Unknown => failed(FailureReason::Permission, String::new()),
                Refusal::Other { text } => {
                    failed(FailureReason::Refused, format!("{}: {text}", question.name()));
                }
            },
        }
        Ok(())
    }

    /// A reply was larger than we take: asks for less next time.
    fn too_large(&self, question: Question) {
        let detail = format!("{}: {}", question.name(), Failure::TooLarge);
        match question {
            Question::SlowlogGet(_) => {
                self.watched.observe(Observation::SlowlogTooLarge);
            }
            _ => {
                if let Some(feature) = question.feature() {
                    self.capability(feature, false, Some(detail.clone()));
                }
            }
        }
        self.watched.observe(Observation::PollFailed { reason: FailureReason::TooLarge, detail });
    }

    /// The connection is of no use any more. Where it never was, or the network lost it, nobody is there.
    fn broken(&self, failure: &Failure) -> Over {
        let detail = failure.to_string();
        if !self.answered || *failure == Failure::Unacknowledged {
            return unreachable(self.watched, detail);
        }
        Over::Broken(detail)
    }
}

/// What remains of an answer that only its effects were wanted of.
fn done<T>(answer: Result<T, Unanswered>) -> Result<(), Over> {
    match answer {
        Ok(_) | Err(Unanswered::Refused(_) | Unanswered::Malformed(_)) => Ok(()),
        Err(Unanswered::Over(over)) => Err(over),
    }
}
