//! Execution side of the guard: its own connection to the server, confirmation of a run, and the kill.
//!
//! It runs alongside the task that polls the target and never delays it. It connects while the server is responsive, to the same
//! server as the target's own connection.

use std::time::Duration;

use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::{CommandError, Connection, KillGrant, ResolvedEndpoint, connect_again, kill_grant};
use crate::clock::Mono;
use crate::config::GuardConfig;
use crate::diagnosis::{guard_grant, not_granted};
use crate::guard::{Confirmation, Decision, GuardOutcome, GuardReport, Order};
use crate::parse::{BusyKind, ErrorReply, GuardCommand, function_stats};
use crate::poll::TargetHandle;
use crate::shell::admin_cli;
use crate::text::Trouble;
use crate::watch::{Next, Observation, State};

/// Time limit for connecting and logging in.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Delay before the next connection attempt while the server is responsive.
const RECONNECT_AFTER: Duration = Duration::from_secs(5);

/// Delay before the next query or kill after one has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Interval between checks for a missing permission.
const RECHECK_AFTER: Duration = Duration::from_secs(60);

/// Maximum interval between connection checks when there are no observations.
const IDLE: Duration = Duration::from_secs(10);

/// Decides which runs of a target to kill, and kills them, until `stop` is cancelled.
pub(crate) async fn watch(handle: &TargetHandle, config: &GuardConfig, stop: &CancellationToken) {
    let (connect_at, act_at) = (Mono::EPOCH, Mono::EPOCH);
    let mut task = GuardTask { handle, config, link: None, connect_at, act_at, is_intending: false };
    tokio::select! {
        () = stop.cancelled() => {}
        () = task.run() => {}
    }
    task.withdraw();
}

/// Guard of one target.
struct GuardTask<'a> {
    handle: &'a TargetHandle,
    config: &'a GuardConfig,
    link: Option<Link>,
    /// Time of the next connection attempt while the server is responsive.
    connect_at: Mono,
    /// Earliest time of the next query or kill after one has failed.
    act_at: Mono,
    /// True from the report of an intended kill until the kill is confirmed or withdrawn.
    is_intending: bool,
}

/// A logged-in connection.
struct Link {
    connection: Connection,
    /// Remote address.
    endpoint: ResolvedEndpoint,
    /// False if FUNCTION STATS can't be used.
    has_stats: bool,
}

/// Reply to a query for the running call.
enum Answer {
    /// A call is running; true if the server counted the reply as a BUSY error.
    Runs(Confirmation, bool),
    /// No call is running.
    Free,
    /// The server rejected the query with this error.
    Refused(ErrorReply),
}

impl GuardTask<'_> {
    /// Runs the decision loop until it is cancelled.
    async fn run(&mut self) {
        loop {
            let (now, script) = (self.handle.now(), self.handle.guarded_script());
            let (decision, probe_at) = {
                let numbers = self.handle.numbers();
                (numbers.guard_decision(script.as_ref(), now), numbers.guard_probe_at())
            };
            let wake_at = match decision {
                Decision::Leave(order, outcome) => {
                    self.handle.observe(Observation::Guard(GuardReport::Left { order, outcome }));
                    continue;
                }
                Decision::Kill(order) if now.mono >= self.act_at => {
                    self.act_at = now.mono;
                    self.kill(order).await;
                    continue;
                }
                Decision::Kill(_) => self.act_at,
                Decision::Wait(at) => at,
                Decision::Idle => now.mono + IDLE,
            };
            let probe_at = probe_at.map(|at| at.max(self.act_at));
            if probe_at.is_some_and(|at| now.mono >= at) {
                self.probe().await;
                continue;
            }
            self.keep_connected().await;
            let wake_at = wake_at.min(probe_at.unwrap_or(wake_at)).min(now.mono + IDLE);
            tokio::select! {
                () = self.handle.observed() => {}
                () = sleep_until(self.handle.clock().instant(wake_at)) => {}
            }
        }
    }

    /// Connects if the server is responsive and there is no usable connection.
    async fn keep_connected(&mut self) {
        let now = self.handle.now().mono;
        if self.has_link() || now < self.connect_at || *self.handle.numbers().liveness().state() != State::Ok
        {
            return;
        }
        self.connect_at = now + RECONNECT_AFTER;
        self.link = None;
        let trouble = match self.connect().await {
            Ok(mut link) => {
                let checking = timeout(CONNECT_LIMIT, kill_grant(&mut link.connection));
                let grant = match checking.await {
                    Ok(Ok(grant)) => grant,
                    Ok(Err(error)) => return self.not_ready(error.to_string().into()),
                    Err(_) => return self.not_ready(no_reply().into()),
                };
                self.link = Some(link);
                match grant {
                    KillGrant::Refused(command) => {
                        self.connect_at = now + RECHECK_AFTER;
                        Some(self.not_granted(command))
                    }
                    KillGrant::Granted | KillGrant::Unverified(_) => None,
                }
            }
            Err(problem) => Some(problem.into()),
        };
        self.handle.observe(Observation::Guard(GuardReport::Ready { trouble }));
    }

    /// True if there is a usable connection to the same server as the target's own connection. False while the guard reports a
    /// problem, such as a missing permission, so that the connection is replaced periodically.
    fn has_link(&mut self) -> bool {
        let has_problem = self.handle.numbers().guard().is_some_and(|guard| guard.trouble().is_some());
        self.is_usable() && !has_problem
    }

    fn is_usable(&mut self) -> bool {
        self.link.as_mut().is_some_and(|link| {
            !link.connection.is_closed() && self.handle.endpoint().as_ref() == Some(&link.endpoint)
        })
    }

    fn not_ready(&self, trouble: Trouble) {
        self.handle.observe(Observation::Guard(GuardReport::Ready { trouble: Some(trouble) }));
    }

    /// Describes a missing permission. The remedy grants every command that the guard sends, because the server reports only one
    /// missing permission at a time.
    fn not_granted(&self, command: GuardCommand) -> Trouble {
        let target = self.handle.config();
        let (user, admin_cli) = (self.config.credentials(target).user_shown(), admin_cli(target));
        let numbers = self.handle.numbers();
        let info = numbers.server().info();
        let trouble = not_granted(info, &admin_cli, user, command.name(), command.grant());
        Trouble { fix: guard_grant(info, &admin_cli, user), ..trouble }
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// A description of the problem.
    async fn connect(&self) -> Result<Link, String> {
        timeout(CONNECT_LIMIT, self.connect_without_limit()).await.unwrap_or_else(|_| Err(no_reply()))
    }

    async fn connect_without_limit(&self) -> Result<Link, String> {
        let target = self.handle.config();
        let endpoint = self.handle.endpoint().ok_or("the server was never reached")?;
        let transport = connect_again(&endpoint).await.map_err(|error| error.to_string())?;
        let transport = match self.handle.tls() {
            None => transport,
            Some(tls) => tls.handshake(transport).await.map_err(|failure| failure.to_string())?,
        };
        let mut connection = Connection::open(transport, target.commands.clone());
        let credentials = self.config.credentials(target);
        if let Some(password) = &credentials.password {
            let user = credentials.user.as_deref();
            let password = password.read_within(CONNECT_LIMIT).await?.of(user, &target.address)?;
            if let Some(password) = password {
                match connection.authenticate(user, &password).await {
                    Ok(()) | Err(CommandError::ErrorReply(ErrorReply::Busy { .. })) => {}
                    Err(error) => {
                        let user = credentials.user_shown();
                        return Err(format!("AUTH as the guard's user {user:?} failed: {error}"));
                    }
                }
            }
        }
        Ok(Link { connection, endpoint, has_stats: true })
    }

    /// Queries the running call, and kills it if the order still applies. The place of the kill in the budget is in the state file
    /// before, so that a restart at any moment does not forget it. If the file can't be written, the kill is sent nevertheless.
    async fn kill(&mut self, order: Order) {
        // Nothing is written while there is no connection.
        if let Err(trouble) = self.open_link().await {
            return self.unreachable(order, &trouble);
        }
        let is_saved_first = self.handle.is_saved_first();
        if is_saved_first {
            self.is_intending = true;
            self.handle.observe(Observation::Guard(GuardReport::Intended));
            self.until_saved().await;
        }
        // The write comes before the confirmation, because no time may pass between the confirmation and the kill.
        match self.confirm(order).await {
            Some((order, asked)) => self.send_kill(order, asked).await,
            None => self.withdraw(),
        }
    }

    /// Waits until all changes so far are in the state file, or can't be written. Meanwhile, the running call is queried when that
    /// is due: after a gap, it would be treated as another run.
    async fn until_saved(&mut self) {
        let revision = self.handle.request_write();
        while !self.handle.is_written(revision) {
            let now = self.handle.now().mono;
            let probe_at =
                self.handle.numbers().guard_probe_at().map_or(now + IDLE, |at| at.max(self.act_at));
            tokio::select! {
                () = self.handle.observed() => {}
                () = sleep_until(self.handle.clock().instant(probe_at)) => self.probe().await,
            }
        }
    }

    /// Gives the place of an intended kill back, if the kill was not sent.
    fn withdraw(&mut self) {
        if std::mem::take(&mut self.is_intending) {
            self.handle.observe(Observation::Guard(GuardReport::Withdrawn));
        }
    }

    /// Queries the running call. Returns the order and the time of the query if the order still applies.
    async fn confirm(&mut self, order: Order) -> Option<(Order, Mono)> {
        let (confirmation, counted) = match self.ask(order.kind == BusyKind::Function).await {
            Ok(Some(told)) => told,
            Ok(None) => return None,
            Err(trouble) => {
                self.unreachable(order, &trouble);
                return None;
            }
        };
        let (script, asked) = (self.handle.guarded_script(), confirmation.sent);
        let confirmed = Observation::Guard(GuardReport::Confirmed { order, confirmation, counted, script });
        let Next::Kill(order) = self.handle.observe(confirmed) else { return None };
        self.is_intending = false;
        Some((order, asked))
    }

    fn unreachable(&self, order: Order, trouble: &Trouble) {
        let detail = trouble.to_string();
        self.handle.observe(Observation::Guard(GuardReport::Unreachable { order, detail }));
    }

    /// Queries the running call, so that another run can't be mistaken for it.
    async fn probe(&mut self) {
        if let Ok(Some((confirmation, counted))) = self.ask(false).await {
            self.handle.observe(Observation::Guard(GuardReport::Probed { confirmation, counted }));
        }
    }

    /// Queries the running call. Reports and returns `None` if there is none. FUNCTION STATS is used if `is_function` is true.
    ///
    /// # Errors
    /// There is no connection or no usable reply. The next attempt is delayed by [`RETRY_AFTER`].
    async fn ask(&mut self, is_function: bool) -> Result<Option<(Confirmation, bool)>, Trouble> {
        self.open_link().await?;
        let result = self.ask_once(is_function).await;
        self.or_retry(result)
    }

    /// Connects if there is no usable connection.
    ///
    /// # Errors
    /// As for [`Self::ask`].
    async fn open_link(&mut self) -> Result<(), Trouble> {
        if self.is_usable() {
            return Ok(());
        }
        let link = self.connect().await.map_err(Trouble::from);
        self.link = Some(self.or_retry(link)?);
        Ok(())
    }

    /// Reports an error, and delays the next attempt by [`RETRY_AFTER`].
    fn or_retry<T>(&mut self, result: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(trouble) = &result {
            self.link = None;
            self.act_at = self.handle.now().mono + RETRY_AFTER;
            self.not_ready(trouble.clone());
        }
        result
    }

    async fn ask_once(&mut self, is_function: bool) -> Result<Option<(Confirmation, bool)>, Trouble> {
        let Some(link) = &mut self.link else { return Ok(None) };
        let sent = self.handle.now().mono;
        match link.ask(is_function, sent).await.map_err(|error| error.to_string())? {
            Answer::Runs(confirmation, counted) => Ok(Some((confirmation, counted))),
            Answer::Free => {
                self.handle.observe(Observation::Guard(GuardReport::Free { since: sent }));
                Ok(None)
            }
            Answer::Refused(ErrorReply::NoPermission) => Err(self.not_granted(GuardCommand::Ping)),
            Answer::Refused(error) => Err(format!("PING returned {error}").into()),
        }
    }

    /// Sends the kill and reports its outcome. `asked` is the time at which the query that confirmed the run was sent; another run
    /// may have begun since then.
    async fn send_kill(&mut self, order: Order, asked: Mono) {
        let Some(link) = &mut self.link else { return };
        let command = match order.kind {
            BusyKind::Function => GuardCommand::FunctionKill,
            BusyKind::Script | BusyKind::Module => GuardCommand::ScriptKill,
        };
        let reply = link.connection.send_guard(command).await;
        let took = self.handle.now().mono.since(asked);
        let limit = self.handle.numbers().guard_limit();
        let (outcome, detail) = match reply {
            Ok(_) => {
                self.handle.observe(Observation::Guard(GuardReport::Ready { trouble: None }));
                (GuardOutcome::of_reply(Ok(()), took, limit), None)
            }
            Err(CommandError::ErrorReply(error)) => {
                let outcome = GuardOutcome::of_reply(Err(&error), took, limit);
                let detail = match outcome {
                    GuardOutcome::NotPermitted => {
                        let trouble = self.not_granted(command);
                        self.not_ready(trouble.clone());
                        Some(trouble.to_string())
                    }
                    GuardOutcome::Error => Some(format!("{} returned {error}", command.name())),
                    _ => None,
                };
                (outcome, detail)
            }
            Err(error) => {
                self.link = None;
                (GuardOutcome::Unreachable, Some(error.to_string()))
            }
        };
        self.handle.observe(Observation::Guard(GuardReport::Answered { order, outcome, detail }));
    }
}

impl Link {
    /// Queries the running call. FUNCTION STATS returns the name and the run time of a function; a BUSY reply to PING only
    /// indicates the kind of call.
    ///
    /// # Errors
    /// The connection is no longer usable.
    async fn ask(&mut self, is_function: bool, sent: Mono) -> Result<Answer, CommandError> {
        if is_function && self.has_stats {
            match self.connection.send_guard(GuardCommand::FunctionStats).await {
                Ok(value) => match function_stats(value) {
                    Ok(Some(function)) => {
                        return Ok(Answer::Runs(Confirmation::of_function(&function, sent), false));
                    }
                    Ok(None) => return Ok(Answer::Free),
                    Err(_) => self.has_stats = false,
                },
                Err(CommandError::ErrorReply(ErrorReply::Busy { kind, counted })) => {
                    return Ok(Answer::Runs(Confirmation { kind, named: None, sent }, counted));
                }
                Err(CommandError::ErrorReply(_)) => self.has_stats = false,
                Err(error) => return Err(error),
            }
        }
        match self.connection.send_guard(GuardCommand::Ping).await {
            Ok(_) => Ok(Answer::Free),
            Err(CommandError::ErrorReply(ErrorReply::Busy { kind, counted })) => {
                Ok(Answer::Runs(Confirmation { kind, named: None, sent }, counted))
            }
            Err(CommandError::ErrorReply(error)) => Ok(Answer::Refused(error)),
            Err(error) => Err(error),
        }
    }
}

fn no_reply() -> String {
    format!("no reply to the guard within {} s", CONNECT_LIMIT.as_secs())
}
