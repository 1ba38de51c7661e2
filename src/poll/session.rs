//! Session on a connection: the schedule of commands, and the interpretation of their replies.

use std::pin::pin;
use std::time::Duration;

use ::redis::Value;

use super::waiter::Waiter;
use super::{SessionEnd, slot, unauthorized, unreachable};
use crate::client::{CommandError, Connection};
use crate::clock::Mono;
use crate::config::{Endpoint, TargetConfig};
use crate::diagnosis::{not_available, not_granted};
use crate::parse::{
    Command, ErrorReply, Info, Malformed, SECTIONS, Settings, SlowlogReply, bytes, function_stats, integer,
};
use crate::poll::TargetHandle;
use crate::shell::admin_cli;
use crate::text::Trouble;
use crate::watch::{Absence, Feature, Heartbeat, Next, Observation, State};

/// Interval between FUNCTION STATS commands while a function is running. The reply contains all arguments of the call and may be
/// large.
const NAMING_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum interval between heartbeats that are not replaced by another command.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between SCRIPT SHOW commands.
const SOURCE_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of SLOWLOG GET commands in one poll; the next poll continues.
const READS_PER_POLL: usize = 5;

/// Time limit for reading a password file.
const PASSWORD_LIMIT: Duration = Duration::from_secs(5);

/// Error returned by a request.
#[derive(Debug)]
enum RequestError {
    /// The server sent an error reply; the session continues.
    ErrorReply(ErrorReply),
    /// The reply does not have the expected form; the session continues.
    Malformed(Malformed),
    /// The session has ended.
    Ended(SessionEnd),
}

impl RequestError {
    /// True if the same command may succeed later without a change to the server's settings.
    fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::ErrorReply(ErrorReply::Busy { .. } | ErrorReply::Loading | ErrorReply::MasterDown)
        )
    }
}

impl From<SessionEnd> for RequestError {
    fn from(end: SessionEnd) -> Self {
        Self::Ended(end)
    }
}

impl From<Malformed> for RequestError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A session on a connection.
pub(super) struct Session<'a> {
    connection: Connection,
    waiter: Waiter<'a>,
    handle: &'a TargetHandle,
    /// True if the server has replied on this connection.
    has_replied: bool,
    /// True if the server has been identified by INFO, or is known to reject INFO.
    identified: bool,
    /// True if INFO and CONFIG GET are known to accept several arguments (7.0+).
    multi_arg: bool,
    last: LastBegun,
}

/// Time at which each action last began; `None` if it has never begun.
#[derive(Debug, Default)]
struct LastBegun {
    /// A heartbeat, or a command that replaced one.
    heartbeat: Option<Mono>,
    ping: Option<Mono>,
    poll: Option<Mono>,
    info: Option<Mono>,
    settings: Option<Mono>,
    length: Option<Mono>,
    naming: Option<Mono>,
    source: Option<Mono>,
}

/// A scheduled action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Heartbeat,
    NameFunction,
    Info,
    Settings,
    Length,
    Poll,
    Source,
}

impl Action {
    /// True if its command may replace a heartbeat.
    fn shows_liveness(self) -> bool {
        matches!(self, Self::Info | Self::Settings | Self::Length | Self::Poll)
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(connection: Connection, waiter: Waiter<'a>) -> Self {
        let handle = waiter.handle;
        Self {
            connection,
            waiter,
            handle,
            has_replied: false,
            identified: false,
            multi_arg: false,
            last: LastBegun::default(),
        }
    }

    /// Logs in and sends commands until the connection ends or the exporter stops.
    pub(super) async fn run(mut self) -> SessionEnd {
        if let Err(end) = self.log_in().await {
            return end;
        }
        loop {
            let (due, action) = self.next_action();
            self.waiter.sleep_until(due).await;
            let result = match action {
                Action::Heartbeat => self.heartbeat().await,
                Action::NameFunction => self.name_function().await,
                Action::Info => self.read_info().await,
                Action::Settings => self.read_settings().await,
                Action::Length => self.read_length().await,
                Action::Poll => self.read_slowlog().await,
                Action::Source => self.read_source().await,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    /// Returns the next action and the time at which it is due.
    fn next_action(&self) -> (Mono, Action) {
        let intervals = self.handle.config().intervals;
        let numbers = self.handle.numbers();
        let due = |last: Option<Mono>, interval| last.map_or(Mono::EPOCH, |last| last + interval);
        let interval = self.handle.heartbeat_interval(&numbers);
        let heartbeat = slot(due(self.last.heartbeat, interval), interval);
        let mut next = (heartbeat, Action::Heartbeat);
        let mut offer = |due: Mono, action: Action| {
            // An action that is due before the heartbeat after the next one replaces the next one.
            let replaces = action.shows_liveness()
                && self.may_replace_heartbeat(heartbeat)
                && due < heartbeat + interval;
            let due = match action {
                // The slow log may be read more often than heartbeats are sent.
                Action::Poll if replaces => due.min(heartbeat),
                // Not earlier, because each separate wake-up takes CPU time.
                _ if replaces && self.identified => heartbeat,
                _ => due,
            };
            if due < next.0 || replaces && due == next.0 && next.1 == Action::Heartbeat {
                next = (due, action);
            }
        };
        if numbers.wants_function_name() {
            offer(due(self.last.naming, NAMING_INTERVAL), Action::NameFunction);
        }
        // None of the following commands is sent while the server is blocked, BUSY or loading. The slow log is read only after the
        // server has been identified, because its ids are meaningful only together with the server's `run_id`.
        if self.has_replied && *numbers.liveness().state() == State::Ok {
            let info = self.handle.stretched(intervals.info);
            offer(due(self.last.info, info), Action::Info);
            if self.identified {
                offer(due(self.last.settings, info), Action::Settings);
                offer(due(self.last.length, info), Action::Length);
                offer(due(self.last.poll, numbers.poll_interval(intervals.poll)), Action::Poll);
                if self.handle.config().privacy.show_source
                    && numbers.should_try(Feature::ScriptShow, self.handle.now())
                    && self.handle.wanted_source(&numbers).is_some()
                {
                    offer(due(self.last.source, SOURCE_INTERVAL), Action::Source);
                }
            }
        }
        next
    }

    /// True if another command may replace the heartbeat at this time. Its reply also shows that the server is responsive, but does
    /// not measure the round trip of a PING. At least one PING per second is still sent, or fewer if heartbeats have been slowed
    /// down.
    fn may_replace_heartbeat(&self, at: Mono) -> bool {
        self.last.ping.is_some_and(|ping| at.since(ping) < self.handle.stretched(PING_INTERVAL))
    }

    async fn log_in(&mut self) -> Result<(), SessionEnd> {
        let TargetConfig { credentials, address, .. } = self.handle.config();
        let Some(password) = &credentials.password else { return Ok(()) };
        let passwords = password.read_within(PASSWORD_LIMIT).await;
        let password = passwords.and_then(|passwords| passwords.of(credentials.user.as_deref(), address));
        let Some(password) = password.map_err(|error| unauthorized(self.handle, error))? else {
            return Ok(());
        };
        let reply = self.connection.authenticate(credentials.user.as_deref(), &password);
        let answer = self.waiter.wait(pin!(reply)).await?;
        match answer {
            Ok(())
            | Err(CommandError::ErrorReply(
                ErrorReply::Busy { .. } | ErrorReply::Loading | ErrorReply::MasterDown,
            )) => Ok(()),
            Err(CommandError::ErrorReply(ErrorReply::Unauthorized { text })) => {
                Err(unauthorized(self.handle, text))
            }
            Err(CommandError::ErrorReply(_)) => Err(unauthorized(self.handle, "ERR".to_owned())),
            Err(error) => Err(self.end(&error)),
        }
    }

    /// Sends a heartbeat, with a command that the target supports, and reports its round trip.
    async fn heartbeat(&mut self) -> Result<(), SessionEnd> {
        let sent = self.handle.now();
        (self.last.heartbeat, self.last.ping) = (Some(sent.mono), Some(sent.mono));
        let command = match self.handle.numbers().heartbeat(sent) {
            Heartbeat::Ping => Command::Ping,
            Heartbeat::Transaction => Command::Transaction,
            Heartbeat::SlowlogLen => Command::SlowlogLen,
        };
        let reply = self.exchange(command).await?;
        let now = self.handle.now();
        let heartbeat = Observation::Heartbeat { round_trip: now.mono.since(sent.mono) };
        if reply.is_ok() {
            self.handle.observe_at(now, [heartbeat, Observation::Answered { since: sent.mono }]);
            if let Some(feature) = Feature::of(command) {
                self.available(feature);
            }
            return Ok(());
        }
        self.handle.observe_at(now, [heartbeat]);
        match &reply {
            // An error such as MISCONF does not show whether the server is BUSY; another heartbeat command does.
            Err(ErrorReply::Other { text }) if command == Command::Ping => {
                self.refused(Command::Ping, Feature::Ping, text);
            }
            Err(ErrorReply::MasterDown) if command == Command::Ping => {
                self.absent(Feature::Ping, Absence::Expected, None);
            }
            _ => {}
        }
        ignore_reply(self.interpret(command, sent.mono, reply))
    }

    /// Reads the name of the running function.
    async fn name_function(&mut self) -> Result<(), SessionEnd> {
        let sent = self.handle.mono();
        self.last.naming = Some(sent);
        let reply = self.exchange(Command::FunctionStats).await?;
        match reply.as_ref().ok().map(|value| function_stats(value.clone())) {
            // The function is still running: this reply does not prove that the server is free.
            Some(Ok(Some(function))) => {
                self.handle.observe(Observation::Running { function, since: sent });
                self.available(Feature::FunctionStats);
                Ok(())
            }
            Some(Err(malformed)) => {
                self.report_unexpected(Command::FunctionStats, malformed.to_string());
                self.absent(Feature::FunctionStats, Absence::Unusable(malformed.to_string()), None);
                Ok(())
            }
            Some(Ok(None)) | None => ignore_reply(self.interpret(Command::FunctionStats, sent, reply)),
        }
    }

    /// Identifies the server. Returns false if this must be repeated because of a temporary error.
    async fn identify(&mut self) -> Result<bool, SessionEnd> {
        if !self.should_try(Feature::Info) {
            if !self.identified {
                self.handle.observe(Observation::InfoUnavailable);
            }
            return Ok(true);
        }
        let began = self.handle.mono();
        self.handle.observe(Observation::PollBegan);
        match self.info().await {
            Ok(info) => {
                self.handle.observe(Observation::Info(Box::new(info)));
                self.polled(began);
            }
            Err(error) => {
                let is_temporary = error.is_temporary();
                self.poll_failed(Command::Info(SECTIONS), error)?;
                if is_temporary {
                    return Ok(false);
                }
                self.handle.observe(Observation::InfoUnavailable);
            }
        }
        Ok(true)
    }

    /// Reads INFO and, the first time, also CONFIG and the length of the slow log.
    async fn read_info(&mut self) -> Result<(), SessionEnd> {
        self.last.info = Some(self.handle.mono());
        if !self.identify().await? {
            self.last.info = None;
            return Ok(());
        }
        if !std::mem::replace(&mut self.identified, true) {
            self.initialize().await?;
            self.read_settings().await?;
            self.read_length().await?;
            // From now on, these reads are staggered: relative to those of other targets connected at the same time, and relative
            // to each other, so that each replaces a heartbeat.
            let interval = self.handle.stretched(self.handle.config().intervals.info);
            let info = self.handle.mono() - interval.mul_f64(rand::random_range(0.0..1.0));
            self.last.info = Some(info);
            self.last.settings = Some(info + interval / 3);
            self.last.length = Some(info + interval * 2 / 3);
        }
        Ok(())
    }

    /// Reads the length of the slow log.
    async fn read_length(&mut self) -> Result<(), SessionEnd> {
        self.last.length = Some(self.handle.mono());
        if !self.should_try(Feature::SlowlogLength) {
            return Ok(());
        }
        let length = self.request(Command::SlowlogLen).await;
        if let Some(length) = length.as_ref().ok().and_then(|value| u64::try_from(integer(value).ok()?).ok())
        {
            self.handle.observe(Observation::SlowlogLength(length));
        }
        ignore_reply(length)
    }

    /// Reads all sections of INFO, with one command if the server accepts several sections (7.0+).
    async fn info(&mut self) -> Result<Info, RequestError> {
        if !self.identified {
            let server = self.info_of(Command::Info(&["server"])).await?;
            self.multi_arg = server.compatible_major.is_some_and(|major| major >= 7);
        }
        if self.multi_arg {
            match self.info_of(Command::Info(SECTIONS)).await {
                Err(RequestError::ErrorReply(ErrorReply::Other { .. })) => self.multi_arg = false,
                result => return result,
            }
        }
        let mut info = Info::default();
        for section in SECTIONS.chunks(1) {
            match self.info_of(Command::Info(section)).await {
                Ok(part) => info.merge(part),
                // The section "server" is required to identify the server.
                Err(RequestError::ErrorReply(ErrorReply::Other { .. })) if section != ["server"] => {
                    info.rejected.extend(section);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(info)
    }

    async fn info_of(&mut self, command: Command) -> Result<Info, RequestError> {
        Ok(Info::parse(&bytes(self.request(command).await?)?))
    }

    /// Sends the commands needed once per connection: CLIENT SETNAME, and commands whose availability must be known before the
    /// server is BUSY.
    async fn initialize(&mut self) -> Result<(), SessionEnd> {
        if self.should_try(Feature::ClientName) {
            ignore_reply(self.request(Command::SetName).await)?;
        }
        if self.should_try(Feature::Transaction) {
            ignore_reply(self.request(Command::Transaction).await)?;
        }
        // Servers before 7.0 have no functions. A server that does not report its version is sent the command.
        let before_7 = self.handle.numbers().server().info().compatible_major.is_some_and(|major| major < 7);
        if before_7 {
            self.absent(Feature::FunctionStats, Absence::Expected, None);
        } else if self.should_try(Feature::FunctionStats) {
            self.name_function().await?;
        }
        Ok(())
    }

    /// Reads CONFIG.
    async fn read_settings(&mut self) -> Result<(), SessionEnd> {
        self.last.settings = Some(self.handle.mono());
        if !self.should_try(Feature::Config) {
            return Ok(());
        }
        // A server that does not report its version is sent the form that all versions accept.
        let multi_arg = self.multi_arg && self.handle.numbers().server().info().compatible_major.is_some();
        let step = if multi_arg { Settings::PARAMETERS.len() } else { 1 };
        let parameters = if multi_arg { Settings::PARAMETERS } else { Settings::PARAMETERS_BEFORE_7 };
        let mut settings = Settings::default();
        for chunk in parameters.chunks(step) {
            let command = Command::ConfigGet(chunk);
            let reply = self.request(command).await;
            match reply.and_then(|value| Ok(Settings::parse(value)?)) {
                Ok(part) => settings.merge(part),
                Err(RequestError::ErrorReply(_)) => return Ok(()),
                Err(error) => return self.poll_failed(command, error),
            }
        }
        if settings.is_empty() {
            let problem = "the reply has none of the settings".to_owned();
            self.absent(Feature::Config, Absence::Unusable(problem), None);
        } else {
            self.available(Feature::Config);
            self.handle.observe(Observation::Settings(settings));
        }
        Ok(())
    }

    /// Reads new entries of the slow log.
    async fn read_slowlog(&mut self) -> Result<(), SessionEnd> {
        let began = self.handle.mono();
        self.last.poll = Some(began);
        if !self.should_try(Feature::Slowlog) {
            self.handle.observe(Observation::SlowlogUnreadable);
            return Ok(());
        }
        self.handle.observe(Observation::PollBegan);
        for _ in 0..READS_PER_POLL {
            let command = Command::SlowlogGet(self.handle.numbers().slowlog_request());
            let reply = self.request(command).await;
            if reply.is_ok() && self.handle.numbers().liveness().is_unconfirmed() {
                // The reply may not contain the command that blocked the server. The slow log is read again when the server is
                // free.
                return Ok(());
            }
            let privacy = self.handle.config().privacy;
            let reply = match reply.and_then(|value| Ok(SlowlogReply::parse(value, privacy)?)) {
                Ok(reply) => reply,
                Err(error) => {
                    let is_temporary = error.is_temporary();
                    self.poll_failed(command, error)?;
                    if !is_temporary {
                        self.handle.observe(Observation::SlowlogUnreadable);
                    }
                    return Ok(());
                }
            };
            if reply.malformed > 0 {
                let error = Malformed::new("a list of readable entries; unreadable ones are counted as lost");
                self.poll_failed(command, error.into())?;
            }
            match self.handle.observe(Observation::Slowlog(reply)) {
                Next::ReadOn => {}
                Next::Identify => {
                    if self.should_try(Feature::Info) {
                        self.identify().await?;
                    } else {
                        self.handle.observe(Observation::InfoUnavailable);
                    }
                }
                Next::Continue | Next::Kill(_) => break,
            }
        }
        self.polled(began);
        Ok(())
    }

    /// Reads the source of a script whose source is still unknown.
    async fn read_source(&mut self) -> Result<(), SessionEnd> {
        self.last.source = Some(self.handle.mono());
        let wanted = self.handle.wanted_source(&self.handle.numbers());
        let Some(sha1) = wanted else { return Ok(()) };
        let reply = self.request(Command::ScriptShow(sha1)).await;
        match &reply {
            Ok(Value::BulkString(body)) => {
                self.handle.mark_source_requested(sha1);
                self.handle.keep_source(sha1, body);
            }
            // The command may succeed later, for example after an ACL change or on a new server at this address.
            Err(RequestError::ErrorReply(
                ErrorReply::NoPermission
                | ErrorReply::Unknown
                | ErrorReply::Busy { .. }
                | ErrorReply::Loading
                | ErrorReply::MasterDown,
            )) => {}
            // The server no longer has the script, or it is too large.
            _ => self.handle.mark_source_requested(sha1),
        }
        ignore_reply(reply)
    }

    /// Sends a command, waits for the reply and reports what the reply shows about the server's state.
    async fn request(&mut self, command: Command) -> Result<Value, RequestError> {
        let sent = self.handle.mono();
        if !command.is_accepted_while_busy() && self.may_replace_heartbeat(sent) {
            self.last.heartbeat = Some(sent);
        }
        let reply = self.exchange(command).await?;
        self.interpret(command, sent, reply)
    }

    /// Sends a command and waits for the reply.
    async fn exchange(&mut self, command: Command) -> Result<Result<Value, ErrorReply>, SessionEnd> {
        let reply = self.waiter.wait(pin!(self.connection.send(command))).await?;
        match reply {
            Ok(value) => {
                (self.has_replied, self.waiter.never_replied) = (true, false);
                Ok(Ok(value))
            }
            Err(CommandError::ErrorReply(error_reply)) => {
                (self.has_replied, self.waiter.never_replied) = (true, false);
                Ok(Err(error_reply))
            }
            Err(error) => {
                match error {
                    CommandError::ReplyTooLarge { .. } => self.reply_too_large(command, &error),
                    CommandError::OverBudget { .. } => {
                        if matches!(command, Command::SlowlogGet(_)) {
                            self.handle.observe(Observation::SlowlogBroken);
                        }
                        self.handle.observe(Observation::PollFailed);
                        self.report_unexpected(command, error.to_string());
                    }
                    CommandError::ConnectionLost(_) if matches!(command, Command::SlowlogGet(_)) => {
                        self.handle.observe(Observation::SlowlogBroken);
                    }
                    CommandError::NotRedis { .. } if self.has_replied => {
                        self.report_unexpected(command, error.to_string());
                    }
                    _ => {}
                }
                if self.has_replied
                    && matches!(error, CommandError::ConnectionLost(_) | CommandError::Refused(_))
                    && command != Command::Ping
                {
                    self.handle.observe(Observation::LostAt(command));
                }
                Err(self.end(&error))
            }
        }
    }

    /// Reports what a reply shows about the server's state.
    fn interpret(
        &self,
        command: Command,
        sent: Mono,
        reply: Result<Value, ErrorReply>,
    ) -> Result<Value, RequestError> {
        let error_reply = match reply {
            Ok(value) => {
                self.handle.observe(if command.is_accepted_while_busy() {
                    Observation::Inconclusive
                } else {
                    Observation::Answered { since: sent }
                });
                match Feature::of(command) {
                    // Some services hide the settings instead of rejecting the command, so success does not prove that they are
                    // available.
                    Some(Feature::Config) | None => {}
                    Some(feature) => self.available(feature),
                }
                return Ok(value);
            }
            Err(error_reply) => error_reply,
        };
        let observation = match &error_reply {
            ErrorReply::Busy { kind, counted } => {
                Observation::Busy { kind: *kind, counted: *counted, since: sent }
            }
            ErrorReply::Loading => Observation::Loading { since: sent },
            ErrorReply::Unauthorized { text } => {
                let detail = text.trim_end_matches('.').to_owned();
                return Err(RequestError::Ended(unauthorized(self.handle, detail)));
            }
            ErrorReply::MasterDown
            | ErrorReply::NoPermission
            | ErrorReply::Unknown
            | ErrorReply::Other { .. } => Observation::Inconclusive,
        };
        self.note_error_reply(command, &error_reply);
        self.handle.observe(observation);
        Err(RequestError::ErrorReply(error_reply))
    }

    /// Reports a feature that is unavailable according to an error reply, with the remedy.
    fn note_error_reply(&self, command: Command, error_reply: &ErrorReply) {
        let Some(feature) = Feature::of(command) else { return };
        let name = command.name();
        match error_reply {
            ErrorReply::NoPermission => {
                let config = self.handle.config();
                let user = config.credentials.user_shown();
                let rules = command.grant();
                let numbers = self.handle.numbers();
                let trouble = not_granted(numbers.server().info(), &admin_cli(config), user, name, rules);
                drop(numbers);
                self.absent(feature, Absence::NotPermitted, Some(trouble));
            }
            // Not a problem: servers before 7.0 have no functions, and only Valkey has SCRIPT SHOW.
            ErrorReply::Unknown if matches!(feature, Feature::FunctionStats | Feature::ScriptShow) => {
                self.absent(feature, Absence::Unknown, None);
            }
            ErrorReply::Unknown => {
                self.absent(feature, Absence::Unknown, Some(not_available(name).into()));
            }
            // INFO is repeated in the form that older servers accept.
            ErrorReply::Other { text } if !matches!(command, Command::Ping | Command::Info(_)) => {
                self.refused(command, feature, text);
            }
            _ => {}
        }
    }

    fn available(&self, feature: Feature) {
        // Nearly every reply only confirms what is already known.
        if self.handle.numbers().exporter().is_settled(feature) {
            return;
        }
        self.handle.observe(Observation::Capability { feature, absence: None, trouble: None });
    }

    fn absent(&self, feature: Feature, absence: Absence, trouble: Option<Trouble>) {
        self.handle.observe(Observation::Capability { feature, absence: Some(absence), trouble });
    }

    /// Reports a feature as unavailable because its command failed with an unrecognized error.
    fn refused(&self, command: Command, feature: Feature, text: &str) {
        let problem = format!("{} failed: {text}", command.name());
        self.absent(feature, Absence::Refused(text.to_owned()), Some(problem.into()));
    }

    fn should_try(&self, feature: Feature) -> bool {
        self.handle.numbers().should_try(feature, self.handle.now())
    }

    fn polled(&self, began: Mono) {
        let took = self.handle.mono().since(began);
        self.handle.observe(Observation::Polled { took });
    }

    /// Counts a failed poll, and reports the reason unless the state or a capability already shows it.
    fn poll_failed(&self, command: Command, error: RequestError) -> Result<(), SessionEnd> {
        self.handle.observe(Observation::PollFailed);
        match error {
            RequestError::Ended(end) => return Err(end),
            RequestError::Malformed(malformed) => self.report_unexpected(command, malformed.to_string()),
            RequestError::ErrorReply(ErrorReply::Other { text }) => self.report_unexpected(command, text),
            RequestError::ErrorReply(_) => {}
        }
        Ok(())
    }

    /// Reports an unexpected reply.
    fn report_unexpected(&self, command: Command, detail: String) {
        self.handle.observe(Observation::UnexpectedReply { command: command.name(), detail });
    }

    /// Reports a reply that exceeds its limit. The next SLOWLOG GET requests fewer entries; any other feature is reported as
    /// unavailable.
    fn reply_too_large(&self, command: Command, error: &CommandError) {
        let detail = error.to_string();
        match (command, Feature::of(command)) {
            (Command::SlowlogGet(_), _) => {
                self.handle.observe(Observation::SlowlogTooLarge);
            }
            (_, Some(feature)) => {
                self.absent(feature, Absence::Unusable(detail.clone()), Some(detail.clone().into()));
            }
            (_, None) => {}
        }
        self.handle.observe(Observation::PollFailed);
        self.report_unexpected(command, detail);
    }

    /// Ends the session. Reports the server as unreachable if it has not replied on this connection or the network has failed.
    fn end(&self, error: &CommandError) -> SessionEnd {
        let is_tcp = matches!(self.handle.config().address.endpoint, Endpoint::Tcp(..));
        let may_want_tls = !self.has_replied && is_tcp && self.handle.tls().is_none();
        let outage = error.outage(may_want_tls);
        if !self.has_replied && matches!(error, CommandError::Refused(_)) {
            return unreachable(self.handle, outage);
        }
        let detail = outage.detail.clone();
        if self.has_replied && *error != CommandError::Unacknowledged {
            return SessionEnd::Lost(detail);
        }
        self.handle.observe(Observation::Unreachable(outage));
        if self.has_replied { SessionEnd::Lost(detail) } else { SessionEnd::NoReply(detail) }
    }
}

/// Drops a reply that has already been reported.
fn ignore_reply<T>(result: Result<T, RequestError>) -> Result<(), SessionEnd> {
    match result {
        Ok(_) | Err(RequestError::ErrorReply(_) | RequestError::Malformed(_)) => Ok(()),
        Err(RequestError::Ended(end)) => Err(end),
    }
}
