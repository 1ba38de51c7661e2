//! The edge of the check: connects to one server, asks each question once, and tells what it saw. What that means is
//! decided elsewhere.

use std::future::Future;
use std::time::Duration;

use ::redis::Value;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{
    Command, CommandError, Connection, DialError, TOO_MANY_CLIENTS, TlsSetup, connect_within,
};
use crate::clock::{Clock, Mono, Unix};
use crate::config::TargetConfig;
use crate::parse::{
    BusyKind, ErrorReply, Info, Privacy, RunningFunction, Settings, SlowlogReply, bytes, function_stats,
    integer,
};

/// Sections of INFO that the check reads.
const SECTIONS: &[&str] = &["server", "replication", "errorstats"];

/// The newest entries of the slow log that are read. Entries are at most 4 KiB, so the reply stays far below the limit.
pub(super) const ENTRIES: usize = 1000;

/// An answer that takes so long is waited for aloud.
const NOTICE_AFTER: Duration = Duration::from_secs(1);

/// How long a server that is BUSY may take to name its function.
const NAMING_TIME: Duration = Duration::from_secs(2);

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server answers it.
    Works,
    /// The user may not ask it.
    NotGranted,
    /// The server does not know it: a managed service, a renamed command.
    Unknown,
    /// Servers of this version do not have it.
    NotThere,
    /// The server answered something else, in these words.
    Odd(String),
}

/// How the server stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It answers.
    Answers,
    /// It accepts connections and answers nothing.
    Blocked {
        /// For so long.
        waited: Duration,
        /// It was the TLS handshake that stayed unanswered.
        handshake: bool,
    },
    /// It answers BUSY.
    Busy {
        /// With what.
        kind: BusyKind,
        /// How long it had left us without any answer before.
        waited: Duration,
        /// What runs, if it is a function and the server told.
        function: Option<RunningFunction>,
    },
    /// It loads its data set.
    Loading,
    /// It does not accept who we are.
    Unauthorized(String),
    /// It can't be reached.
    Unreachable(Unreachable),
}

/// Why a server can't be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreachable {
    /// The name has no address.
    Name(String),
    /// Nobody listens there.
    ErrorReply(String),
    /// Nothing comes back.
    Silence(String),
    /// The TLS handshake failed.
    Tls(String),
    /// Something else listens there.
    NotRedis,
    /// It has as many clients as it may have.
    Full,
    /// The connection broke.
    Lost(String),
}

/// What was seen of a server.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// How it stands.
    pub(super) standing: Standing,
    /// What became of each question that was asked, in that order.
    pub(super) answers: Vec<(Command, Answer)>,
    /// What INFO told.
    pub(super) info: Option<Info>,
    /// What CONFIG GET told.
    pub(super) settings: Settings,
    /// Entries in the slow log.
    pub(super) slowlog_length: Option<u64>,
    /// The newest of them.
    pub(super) slowlog: Option<SlowlogReply>,
    /// The longest time that an answer took.
    pub(super) slowest: Duration,
    /// The server's clock at the end; ours where it did not tell.
    pub(super) now: Unix,
}

/// Looks at one server for at most `limit`. `waiting` is called once if an answer takes long.
pub(super) async fn look(
    config: &TargetConfig,
    tls: Option<&TlsSetup>,
    limit: Duration,
    waiting: &(dyn Fn(&str) + Sync),
) -> Seen {
    let clock = Clock::start();
    let mut probe = Probe {
        config,
        clock,
        limit,
        deadline: clock.instant(clock.now().mono + limit),
        waiting,
        told: false,
        seen: Seen {
            standing: Standing::Answers,
            answers: Vec::new(),
            info: None,
            settings: Settings::default(),
            slowlog_length: None,
            slowlog: None,
            slowest: Duration::ZERO,
            now: clock.now().unix,
        },
    };
    if let Err(standing) = probe.all(tls).await {
        probe.seen.standing = standing;
    }
    let told = probe.seen.info.as_ref().and_then(|info| info.server_time);
    probe.seen.now = told.unwrap_or(clock.now().unix);
    probe.seen
}

/// A look at one server.
struct Probe<'a> {
    config: &'a TargetConfig,
    clock: Clock,
    /// How long all of it may take.
    limit: Duration,
    /// When that is over.
    deadline: Instant,
    /// Called when an answer takes long.
    waiting: &'a (dyn Fn(&str) + Sync),
    /// Whether it was called.
    told: bool,
    seen: Seen,
}

impl Probe<'_> {
    /// Everything, until it is done or can't go on.
    async fn all(&mut self, tls: Option<&TlsSetup>) -> Result<(), Standing> {
        let mut connection = self.connect(tls).await?;
        self.log_in(&mut connection).await?;
        // First, because the server does not count it as a BUSY error.
        self.ask(&mut connection, Command::Transaction).await?;
        self.ask(&mut connection, Command::Ping).await?;
        self.ask(&mut connection, Command::SetName).await?;
        self.read_info(&mut connection).await?;
        self.read_settings(&mut connection).await?;
        if self.major().is_some_and(|major| major < 7) {
            self.seen.answers.push((Command::FunctionStats, Answer::NotThere));
        } else {
            self.ask(&mut connection, Command::FunctionStats).await?;
        }
        if let Some(length) = self.ask(&mut connection, Command::SlowlogLen).await? {
            self.seen.slowlog_length = integer(&length).ok().and_then(|length| u64::try_from(length).ok());
        }
        let question = Command::SlowlogGet(ENTRIES);
        if let Some(reply) = self.ask(&mut connection, question).await? {
            match SlowlogReply::parse(reply, Privacy::default()) {
                Ok(reply) => self.seen.slowlog = Some(reply),
                Err(malformed) => self.note(question, Answer::Odd(malformed.to_string())),
            }
        }
        Ok(())
    }

    async fn connect(&mut self, tls: Option<&TlsSetup>) -> Result<Connection, Standing> {
        let silence = || {
            let limit = humantime::format_duration(self.limit);
            Standing::Unreachable(Unreachable::Silence(format!("no answer within {limit}")))
        };
        let connecting = connect_within(&self.config.address.endpoint, self.config.allow());
        let dialled = timeout_at(self.deadline, connecting).await;
        let link = match dialled.map_err(|_| silence())? {
            Ok(link) => link,
            Err(error) => return Err(Standing::Unreachable(undialled(&error))),
        };
        let link = match tls {
            None => link,
            Some(tls) => {
                let began = self.clock.now().mono;
                match self.wait(tls.handshake(link)).await {
                    Some(Ok(link)) => link,
                    Some(Err(error)) => {
                        return Err(Standing::Unreachable(Unreachable::Tls(error.to_string())));
                    }
                    None => return Err(Standing::Blocked { waited: self.since(began), handshake: true }),
                }
            }
        };
        Connection::open(link).await.map_err(|failure| Standing::Unreachable(lost(&failure)))
    }

    async fn log_in(&mut self, connection: &mut Connection) -> Result<(), Standing> {
        let TargetConfig { credentials, address, .. } = self.config;
        let Some(password) = &credentials.password else { return Ok(()) };
        let left = self.deadline.saturating_duration_since(self.clock.instant(self.clock.now().mono));
        let passwords = password.read_within(left).await;
        let password = passwords.and_then(|passwords| passwords.of(credentials.user.as_deref(), address));
        let Some(password) = password.map_err(Standing::Unauthorized)? else { return Ok(()) };
        let began = self.clock.now().mono;
        let answer = self.wait(connection.authenticate(credentials.user.as_deref(), &password)).await;
        match answer {
            None => Err(Standing::Blocked { waited: self.since(began), handshake: false }),
            Some(
                Ok(())
                | Err(CommandError::ErrorReply(
                    ErrorReply::Busy { .. } | ErrorReply::Loading | ErrorReply::MasterDown,
                )),
            ) => {
                self.seen.slowest = self.seen.slowest.max(self.since(began));
                Ok(())
            }
            Some(Err(CommandError::ErrorReply(ErrorReply::Unauthorized { text }))) => {
                Err(Standing::Unauthorized(text))
            }
            Some(Err(CommandError::ErrorReply(_))) => Err(Standing::Unauthorized("ERR".to_owned())),
            Some(Err(failure)) => Err(Standing::Unreachable(lost(&failure))),
        }
    }

    async fn read_info(&mut self, connection: &mut Connection) -> Result<(), Standing> {
        // Before 7.0 INFO takes one section a call.
        for section in SECTIONS.chunks(1) {
            let question = Command::Info(section);
            let Some(reply) = self.ask(connection, question).await? else { break };
            match bytes(reply) {
                Ok(text) => self.seen.info.get_or_insert_default().merge(Info::parse(&text)),
                Err(malformed) => self.note(question, Answer::Odd(malformed.to_string())),
            }
        }
        Ok(())
    }

    async fn read_settings(&mut self, connection: &mut Connection) -> Result<(), Standing> {
        // Servers that don't tell their version are asked in the way that all of them understand.
        let several = self.major().is_some_and(|major| major >= 7);
        let parameters = if several { Settings::PARAMETERS } else { Settings::PARAMETERS_BEFORE_7 };
        for chunk in parameters.chunks(if several { parameters.len() } else { 1 }) {
            let question = Command::ConfigGet(chunk);
            let Some(reply) = self.ask(connection, question).await? else { return Ok(()) };
            match Settings::parse(reply) {
                Ok(settings) => self.seen.settings.merge(settings),
                Err(malformed) => self.note(question, Answer::Odd(malformed.to_string())),
            }
        }
        if self.seen.settings.is_empty() {
            self.note(Command::ConfigGet(&[]), Answer::Odd("it tells none of the settings".to_owned()));
        }
        Ok(())
    }

    /// Asks one question. `None`: there is no answer to be had, which is noted.
    async fn ask(
        &mut self,
        connection: &mut Connection,
        question: Command,
    ) -> Result<Option<Value>, Standing> {
        let began = self.clock.now().mono;
        let answer = self.wait(connection.send(question)).await;
        let waited = self.since(began);
        let first = self.seen.answers.is_empty();
        let answer = answer.ok_or(Standing::Blocked { waited, handshake: false })?;
        self.seen.slowest = self.seen.slowest.max(waited);
        let noted = match answer {
            Ok(value) => {
                self.note(question, Answer::Works);
                return Ok(Some(value));
            }
            Err(CommandError::ErrorReply(refusal)) => match refusal {
                ErrorReply::Busy { kind, .. } => {
                    let function =
                        if kind == BusyKind::Function { self.running(connection).await } else { None };
                    return Err(Standing::Busy { kind, waited, function });
                }
                ErrorReply::Loading => return Err(Standing::Loading),
                ErrorReply::Unauthorized { text } => return Err(Standing::Unauthorized(text)),
                ErrorReply::Other { text } if first && text.contains(TOO_MANY_CLIENTS) => {
                    return Err(Standing::Unreachable(Unreachable::Full));
                }
                ErrorReply::NoPermission => Answer::NotGranted,
                ErrorReply::Unknown => Answer::Unknown,
                ErrorReply::MasterDown => {
                    Answer::Odd("MASTERDOWN: the link to its master is down".to_owned())
                }
                ErrorReply::Other { text } => Answer::Odd(text),
            },
            // The slow log is asked for last, so nothing more is wanted of this connection.
            Err(failure @ CommandError::ReplyTooLarge { .. })
                if matches!(question, Command::SlowlogGet(_)) =>
            {
                Answer::Odd(failure.to_string())
            }
            Err(failure) => return Err(Standing::Unreachable(lost(&failure))),
        };
        self.note(question, noted);
        Ok(None)
    }

    /// The function that runs, while the server is BUSY with one.
    async fn running(&mut self, connection: &mut Connection) -> Option<RunningFunction> {
        let until = self.deadline.max(self.clock.instant(self.clock.now().mono + NAMING_TIME));
        let answer = timeout_at(until, connection.send(Command::FunctionStats)).await.ok()?;
        match answer {
            Ok(value) => function_stats(value).ok()?,
            Err(CommandError::ErrorReply(ErrorReply::NoPermission)) => {
                self.note(Command::FunctionStats, Answer::NotGranted);
                None
            }
            Err(_) => None,
        }
    }

    /// Waits for an answer until the time is up.
    async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        let notice = self.clock.instant(self.clock.now().mono + NOTICE_AFTER);
        if !self.told && notice < self.deadline {
            tokio::select! {
                biased;
                answer = &mut answer => return Some(answer),
                () = sleep_until(notice) => {}
            }
            self.told = true;
            (self.waiting)(&self.config.name);
        }
        timeout_at(self.deadline, answer).await.ok()
    }

    fn since(&self, began: Mono) -> Duration {
        self.clock.now().mono.since(began)
    }

    fn major(&self) -> Option<u32> {
        self.seen.info.as_ref()?.compatible_major
    }

    /// Notes what became of a question; of one in several parts, the worst.
    fn note(&mut self, question: Command, answer: Answer) {
        let known = self.seen.answers.iter_mut().find(|(asked, _)| asked.name() == question.name());
        match known {
            None => self.seen.answers.push((question, answer)),
            Some((_, before)) if answer != Answer::Works => *before = answer,
            Some(_) => {}
        }
    }
}

fn undialled(error: &DialError) -> Unreachable {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    match error {
        DialError::Resolve { .. } => Unreachable::Name(error.to_string()),
        DialError::Connect(source) if matches!(source.kind(), ConnectionRefused | NotFound) => {
            Unreachable::ErrorReply(error.to_string())
        }
        DialError::Connect(_) | DialError::NotAllowed | DialError::Timeout => {
            Unreachable::Silence(error.to_string())
        }
    }
}

fn lost(failure: &CommandError) -> Unreachable {
    match failure {
        CommandError::NotRedis => Unreachable::NotRedis,
        CommandError::Unacknowledged => Unreachable::Silence(failure.to_string()),
        CommandError::ConnectionLost(text) if text.contains(TOO_MANY_CLIENTS) => Unreachable::Full,
        CommandError::ErrorReply(_)
        | CommandError::ReplyTooLarge { .. }
        | CommandError::ConnectionLost(_) => Unreachable::Lost(failure.to_string()),
    }
}
