//! I/O of the check: connects to one server and sends each command once.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use ::redis::Value;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{CommandError, Connection, KillGrant, TlsSetup, connect_within, kill_grant};
use crate::clock::{Clock, Mono, Unix};
use crate::config::{Endpoint, TargetConfig};
use crate::diagnosis::{Condition, RunningCall};
use crate::parse::{
    BusyKind, Command, ErrorReply, Info, Privacy, Settings, SlowlogReply, bytes, function_stats, integer,
};
use crate::text;
use crate::watch::{Outage, OutageReason};

/// Sections of INFO that are read.
const SECTIONS: &[&str] = &["server", "replication", "errorstats"];

/// Maximum number of slow log entries to read; the newest are read. An entry has at most 4 KiB, so the reply stays far below the
/// limit for replies.
pub(super) const MAX_ENTRIES: usize = 1000;

/// Time without a reply after which the user is notified.
const NOTICE_AFTER: Duration = Duration::from_secs(1);

/// Minimum time to wait for a BUSY server to name its function, even after the time limit of the check.
const NAMING_TIME: Duration = Duration::from_secs(2);

/// Outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandOutcome {
    /// The server answers the command.
    Works,
    /// The user is not permitted to run the command.
    NotPermitted,
    /// The server does not know the command: a managed service has disabled it, or it is renamed.
    Unknown,
    /// Servers of this version do not support the command.
    NotSupported,
    /// The connection is closed when the command is sent.
    Closed,
    /// Another error, or a reply in an unexpected format.
    Error(String),
}

/// Replies of one server.
#[derive(Debug, Clone)]
pub(super) struct ProbeResult {
    /// Condition of the server at the end.
    pub(super) condition: Condition,
    /// Outcome of each command that was sent, in that order.
    pub(super) outcomes: Vec<(Command, CommandOutcome)>,
    /// `None` if INFO is not available.
    pub(super) info: Option<Info>,
    /// Empty if CONFIG GET is not available.
    pub(super) settings: Settings,
    /// `None` if SLOWLOG LEN is not available.
    pub(super) slowlog_length: Option<u64>,
    /// The newest entries; `None` if SLOWLOG GET is not available.
    pub(super) slowlog: Option<SlowlogReply>,
    /// Number of addresses of the host name in one address family.
    pub(super) addresses: usize,
    /// Longest response time.
    pub(super) longest_reply: Duration,
    /// Result of testing the guard, if there is one and the server answers.
    pub(super) guard: Option<Result<KillGrant, String>>,
    /// Time at the end of the probe, by the server's clock, or by the local clock if the server did not report its time.
    pub(super) now: Unix,
}

/// Probes one server for at most `limit`. `on_wait` is called once if a reply takes a long time.
pub(super) async fn probe(
    config: &TargetConfig,
    tls: Option<&TlsSetup>,
    limit: Duration,
    on_wait: &(dyn Fn(&str) + Sync),
) -> ProbeResult {
    let clock = Clock::start();
    let mut probe = Probe {
        config,
        tls,
        has_replied: false,
        clock,
        limit,
        deadline: clock.instant(clock.now().mono + limit),
        on_wait,
        is_notified: false,
        result: ProbeResult {
            condition: Condition::Answers,
            outcomes: Vec::new(),
            info: None,
            settings: Settings::default(),
            slowlog_length: None,
            slowlog: None,
            addresses: 0,
            longest_reply: Duration::ZERO,
            guard: None,
            now: clock.now().unix,
        },
    };
    match (probe.run().await, &config.guard) {
        (Err(condition), _) => probe.result.condition = condition,
        (Ok(()), Some(guard)) => {
            let credentials = guard.credentials(config).clone();
            let config = TargetConfig { credentials, ..config.clone() };
            let result = probe.result.clone();
            let grant = Probe { config: &config, result, ..probe }.kill_grant().await;
            probe.result.guard = Some(grant);
        }
        (Ok(()), None) => {}
    }
    let server_time = probe.result.info.as_ref().and_then(|info| info.server_time);
    probe.result.now = server_time.unwrap_or(clock.now().unix);
    probe.result
}

/// Probe of one server.
struct Probe<'a> {
    config: &'a TargetConfig,
    tls: Option<&'a TlsSetup>,
    /// True once the server has replied.
    has_replied: bool,
    clock: Clock,
    /// Maximum duration of the whole probe.
    limit: Duration,
    /// Latest time at which the probe ends.
    deadline: Instant,
    /// Called when a reply takes a long time.
    on_wait: &'a (dyn Fn(&str) + Sync),
    /// True once `on_wait` has been called.
    is_notified: bool,
    result: ProbeResult,
}

impl Probe<'_> {
    /// Sends all commands, unless the condition of the server ends the probe earlier.
    async fn run(&mut self) -> Result<(), Condition> {
        let mut connection = self.connect().await?;
        self.log_in(&mut connection).await?;
        // Sent first because a BUSY server does not count it as a BUSY error.
        self.ask(&mut connection, Command::Transaction).await?;
        self.ask(&mut connection, Command::Ping).await?;
        self.ask(&mut connection, Command::SetName).await?;
        self.read_info(&mut connection).await?;
        self.read_settings(&mut connection).await?;
        if self.major().is_some_and(|major| major < 7) {
            self.result.outcomes.push((Command::FunctionStats, CommandOutcome::NotSupported));
        } else {
            self.ask(&mut connection, Command::FunctionStats).await?;
        }
        if let Some(length) = self.ask(&mut connection, Command::SlowlogLen).await? {
            self.result.slowlog_length = integer(&length).ok().and_then(|length| u64::try_from(length).ok());
        }
        let command = Command::SlowlogGet(MAX_ENTRIES);
        if let Some(reply) = self.ask(&mut connection, command).await? {
            match SlowlogReply::parse(reply, Privacy::default()) {
                Ok(reply) => self.result.slowlog = Some(reply),
                Err(malformed) => self.record(command, CommandOutcome::Error(malformed.to_string())),
            }
        }
        Ok(())
    }

    /// Tests on a separate connection whether the guard's user is permitted to kill. No kill is executed.
    ///
    /// # Errors
    /// Returns the reason if it can't be tested.
    async fn kill_grant(mut self) -> Result<KillGrant, String> {
        let in_words = |condition| match condition {
            Condition::Unauthorized(text) => format!("the server rejects the user or the password: {text}"),
            _ => "no connection".to_owned(),
        };
        let mut connection = self.connect().await.map_err(in_words)?;
        self.log_in(&mut connection).await.map_err(in_words)?;
        let grant = self.wait(kill_grant(&mut connection)).await.ok_or("no answer")?;
        grant.map_err(|error| error.to_string())
    }

    async fn connect(&mut self) -> Result<Connection, Condition> {
        let silence = || {
            let limit = text::duration(self.limit);
            Condition::Unreachable(Outage::new(OutageReason::Silence, format!("no answer within {limit}")))
        };
        let connecting = connect_within(&self.config.address.endpoint, self.config.allow());
        let dialed = timeout_at(self.deadline, connecting).await;
        let link = match dialed.map_err(|_| silence())? {
            Ok(link) => link,
            Err(error) => return Err(Condition::Unreachable(error.outage())),
        };
        self.result.addresses = link.addresses;
        let link = match self.tls {
            None => link,
            Some(tls) => {
                let sent = self.clock.now().mono;
                match self.wait(tls.handshake(link)).await {
                    Some(Ok(link)) => link,
                    Some(Err(failure)) => return Err(Condition::Unreachable(failure.outage())),
                    None => return Err(self.blocked(sent, true)),
                }
            }
        };
        Ok(Connection::open(link, self.config.commands.clone()))
    }

    async fn log_in(&mut self, connection: &mut Connection) -> Result<(), Condition> {
        let TargetConfig { credentials, address, .. } = self.config;
        let Some(password) = &credentials.password else { return Ok(()) };
        let left = self.deadline.saturating_duration_since(self.clock.instant(self.clock.now().mono));
        let passwords = password.read_within(left).await;
        let password = passwords.and_then(|passwords| passwords.of(credentials.user.as_deref(), address));
        let Some(password) = password.map_err(Condition::Unauthorized)? else { return Ok(()) };
        let sent = self.clock.now().mono;
        let answer = self.wait(connection.authenticate(credentials.user.as_deref(), &password)).await;
        match answer {
            None => Err(self.blocked(sent, false)),
            Some(
                Ok(())
                | Err(CommandError::ErrorReply(
                    ErrorReply::Busy { .. } | ErrorReply::Loading | ErrorReply::MasterDown,
                )),
            ) => {
                self.has_replied = true;
                self.result.longest_reply = self.result.longest_reply.max(self.since(sent));
                Ok(())
            }
            Some(Err(CommandError::ErrorReply(ErrorReply::Unauthorized { text }))) => {
                Err(Condition::Unauthorized(text))
            }
            Some(Err(CommandError::ErrorReply(_))) => Err(Condition::Unauthorized("ERR".to_owned())),
            Some(Err(failure)) => Err(self.failure(None, &failure)),
        }
    }

    async fn read_info(&mut self, connection: &mut Connection) -> Result<(), Condition> {
        let mut rejected = BTreeSet::new();
        // Before 7.0, INFO accepts only one section.
        for section in SECTIONS.chunks(1) {
            let command = Command::Info(section);
            let Some(reply) = self.ask(connection, command).await? else {
                if matches!(self.outcome(command), Some(CommandOutcome::Error(_))) {
                    rejected.extend(section);
                    continue;
                }
                break;
            };
            match bytes(reply) {
                Ok(text) => self.result.info.get_or_insert_default().merge(Info::parse(&text)),
                Err(malformed) => self.record(command, CommandOutcome::Error(malformed.to_string())),
            }
        }
        if let Some(info) = &mut self.result.info
            && !rejected.is_empty()
        {
            info.rejected = rejected;
            // Without the section "server", INFO is considered unavailable.
            if !info.rejected.contains("server")
                && let Some(outcome @ CommandOutcome::Error(_)) = self.outcome(Command::Info(&[]))
            {
                *outcome = CommandOutcome::Works;
            }
        }
        Ok(())
    }

    async fn read_settings(&mut self, connection: &mut Connection) -> Result<(), Condition> {
        // Servers of an unknown version receive the form that all versions accept.
        let several = self.major().is_some_and(|major| major >= 7);
        let parameters = if several { Settings::PARAMETERS } else { Settings::PARAMETERS_BEFORE_7 };
        for chunk in parameters.chunks(if several { parameters.len() } else { 1 }) {
            let command = Command::ConfigGet(chunk);
            let Some(reply) = self.ask(connection, command).await? else { return Ok(()) };
            match Settings::parse(reply) {
                Ok(settings) => self.result.settings.merge(settings),
                Err(malformed) => self.record(command, CommandOutcome::Error(malformed.to_string())),
            }
        }
        if self.result.settings.is_empty() {
            self.record(
                Command::ConfigGet(&[]),
                CommandOutcome::Error("the reply has none of the settings".to_owned()),
            );
        }
        Ok(())
    }

    /// Sends one command and records its outcome. Returns `None` after an error reply.
    async fn ask(
        &mut self,
        connection: &mut Connection,
        command: Command,
    ) -> Result<Option<Value>, Condition> {
        let sent = self.clock.now().mono;
        let answer = self.wait(connection.send(command)).await;
        let waited = self.since(sent);
        let answer = answer.ok_or_else(|| self.blocked(sent, false))?;
        self.result.longest_reply = self.result.longest_reply.max(waited);
        self.has_replied |= matches!(answer, Ok(_) | Err(CommandError::ErrorReply(_)));
        let outcome = match answer {
            Ok(value) => {
                self.record(command, CommandOutcome::Works);
                return Ok(Some(value));
            }
            Err(CommandError::ErrorReply(reply)) => match reply {
                ErrorReply::Busy { kind, .. } => {
                    let running =
                        if kind == BusyKind::Function { self.running(connection).await } else { None };
                    return Err(Condition::Busy { kind, waited, running });
                }
                ErrorReply::Loading => return Err(Condition::Loading),
                ErrorReply::Unauthorized { text } => return Err(Condition::Unauthorized(text)),
                ErrorReply::NoPermission => CommandOutcome::NotPermitted,
                ErrorReply::Unknown => CommandOutcome::Unknown,
                ErrorReply::MasterDown => {
                    CommandOutcome::Error("MASTERDOWN: the link to its master is down".to_owned())
                }
                ErrorReply::Other { text } => CommandOutcome::Error(text),
            },
            // SLOWLOG GET is the last command, so the connection is no longer needed.
            Err(failure @ (CommandError::ReplyTooLarge { .. } | CommandError::OverBudget { .. }))
                if matches!(command, Command::SlowlogGet(_)) =>
            {
                CommandOutcome::Error(failure.to_string())
            }
            Err(failure @ CommandError::ConnectionLost(_)) => {
                self.reconnect(connection, command, &failure).await?;
                CommandOutcome::Closed
            }
            Err(failure) => return Err(self.failure(Some(command), &failure)),
        };
        self.record(command, outcome);
        Ok(None)
    }

    /// Connects again after the connection was lost at a command. A proxy may accept other commands.
    ///
    /// # Errors
    /// Returns the loss of the connection if PING is not answered, or the failure of the new connection.
    async fn reconnect(
        &mut self,
        connection: &mut Connection,
        command: Command,
        failure: &CommandError,
    ) -> Result<(), Condition> {
        if command == Command::Ping {
            return Err(self.failure(Some(command), failure));
        }
        *connection = self.connect().await?;
        self.log_in(connection).await?;
        let sent = self.clock.now().mono;
        let answer =
            self.wait(connection.send(Command::Ping)).await.ok_or_else(|| self.blocked(sent, false))?;
        match answer {
            Ok(_) | Err(CommandError::ErrorReply(_)) => {
                self.has_replied = true;
                Ok(())
            }
            Err(_) => Err(self.failure(Some(command), failure)),
        }
    }

    /// Returns the condition of a server after a connection has failed. `command` is the command that was sent, if any.
    fn failure(&self, command: Option<Command>, failure: &CommandError) -> Condition {
        let is_tcp = matches!(self.config.address.endpoint, Endpoint::Tcp(..));
        let may_want_tls = !self.has_replied && self.tls.is_none() && is_tcp;
        let at = match command.filter(|_| self.has_replied) {
            Some(command) => format!("at {}: ", command.name()),
            None => String::new(),
        };
        let Outage { reason, detail } = failure.outage(may_want_tls);
        Condition::Unreachable(Outage::new(reason, format!("{at}{detail}")))
    }

    /// Returns the running function of a server that is BUSY with a function.
    async fn running(&mut self, connection: &mut Connection) -> Option<RunningCall> {
        let until = self.deadline.max(self.clock.instant(self.clock.now().mono + NAMING_TIME));
        let answer = timeout_at(until, connection.send(Command::FunctionStats)).await.ok()?;
        match answer {
            Ok(value) => {
                let function = function_stats(value).ok()??;
                let name = String::from_utf8_lossy(&function.name).into_owned();
                Some(RunningCall { name, running_for: function.running_for })
            }
            Err(CommandError::ErrorReply(ErrorReply::NoPermission)) => {
                self.record(Command::FunctionStats, CommandOutcome::NotPermitted);
                None
            }
            Err(_) => None,
        }
    }

    /// Waits for an answer until the deadline.
    async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        let notice = self.clock.instant(self.clock.now().mono + NOTICE_AFTER);
        if !self.is_notified && notice < self.deadline {
            tokio::select! {
                biased;
                answer = &mut answer => return Some(answer),
                () = sleep_until(notice) => {}
            }
            self.is_notified = true;
            (self.on_wait)(&self.config.name);
        }
        timeout_at(self.deadline, answer).await.ok()
    }

    fn blocked(&self, sent: Mono, in_handshake: bool) -> Condition {
        Condition::Blocked { waited: self.since(sent), in_handshake, kind: None }
    }

    fn since(&self, sent: Mono) -> Duration {
        self.clock.now().mono.since(sent)
    }

    fn major(&self) -> Option<u32> {
        self.result.info.as_ref()?.compatible_major
    }

    /// Returns the recorded outcome of a command.
    fn outcome(&mut self, command: Command) -> Option<&mut CommandOutcome> {
        let outcomes = self.result.outcomes.iter_mut();
        outcomes
            .map(|(sent, outcome)| (sent.name(), outcome))
            .find(|(name, _)| *name == command.name())
            .map(|(_, outcome)| outcome)
    }

    /// Records the outcome of a command. A command sent in several parts keeps its worst outcome.
    fn record(&mut self, command: Command, outcome: CommandOutcome) {
        match self.outcome(command) {
            None => self.result.outcomes.push((command, outcome)),
            Some(earlier) if outcome != CommandOutcome::Works => *earlier = outcome,
            Some(_) => {}
        }
    }
}
