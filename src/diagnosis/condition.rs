//! Problems of the server's condition: unreachable, blocked, BUSY, loading.

use std::time::Duration;

use super::facts::{Condition, Facts, RunningCall};
use super::problem::{Code, Problem};
use crate::parse::BusyKind;
use crate::text::{clean, duration};
use crate::watch::{Outage, OutageReason};

/// Maximum length of an external string within a message, in bytes.
const MAX_TEXT: usize = 200;

/// Default time limit of scripts on a server.
pub(super) const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Remedy for a kill command that is rejected with NOPERM.
pub(crate) const NO_PERMISSION: &str =
    "If the reply is NOPERM, log in as a user that may run the command (--user).";

/// Returns the command that ends a blockage; `None` for a module's command.
pub(crate) const fn kill(kind: BusyKind) -> Option<&'static str> {
    match kind {
        BusyKind::Script => Some("SCRIPT KILL"),
        BusyKind::Function => Some("FUNCTION KILL"),
        BusyKind::Module => None,
    }
}

/// Returns the problem for the server's condition.
pub(super) fn problem(facts: &Facts<'_>) -> Option<Problem> {
    Some(match &facts.condition {
        Condition::Untried => return None,
        Condition::Answers => return stalled(facts),
        Condition::Blocked { waited, in_handshake: true, .. } => Problem::new(
            Code::Blocked,
            format!("blocked: accepts connections but has not answered the TLS handshake for {}", duration(*waited)),
        )
        .advise(
            "It is blocked by a command or its process is stopped, or the port does not support TLS: try redis:// instead of \
             rediss://.",
        ),
        Condition::Blocked { waited, kind, .. } => blocked(facts, *waited, *kind),
        Condition::Busy { kind, running, .. } => busy(facts, *kind, running.as_ref()),
        Condition::BusySilent { waited, last } => busy_silent(facts, *waited, *last),
        Condition::Loading => Problem::new(Code::Loading, "loading: the server is loading its data set into memory")
            .advise("It serves no clients until loading has finished; INFO persistence shows the progress.")
            .test(facts.command("INFO persistence")),
        Condition::Unauthorized(reply) => {
            let (user, reply) = (clean(facts.user, MAX_TEXT), clean(reply.trim_end_matches('.'), MAX_TEXT));
            Problem::new(Code::Unauthorized, format!("rejects user \"{user}\": {reply}"))
                .advise(login_remedy(&reply))
                .test(facts.command("PING"))
        }
        Condition::Unreachable(outage) => unreachable(facts, outage),
    })
}

fn stalled(facts: &Facts<'_>) -> Option<Problem> {
    let longest = facts.longest_reply.filter(|longest| *longest >= facts.slow_warning)?;
    Some(
        Problem::new(Code::Stalled, format!("took {} to answer a request", duration(longest)))
            .advise("A command blocked it, but has since ended; the slow log may show which one."),
    )
}

/// Returns the problem that the address is that of a Sentinel.
pub(super) fn sentinel() -> Problem {
    Problem::new(Code::Sentinel, "is a Sentinel, which runs no scripts")
        .advise("Give the addresses of the servers that it monitors.")
}

fn blocked(facts: &Facts<'_>, waited: Duration, kind: Option<BusyKind>) -> Problem {
    let problem = Problem::new(
        Code::Blocked,
        format!("blocked: accepts connections but has not answered for {}", duration(waited)),
    )
    .advise("All clients wait.");
    let limit = facts.settings.time_limit;
    if limit == Some(Duration::ZERO) {
        return problem.advise(
            "The time limit of scripts is 0: the server accepts no kill command, and does not answer until the \
             running command ends. Wait, or end its process.",
        );
    }
    let usual = limit.unwrap_or(DEFAULT_TIME_LIMIT);
    let shown = match limit {
        Some(limit) => duration(limit),
        None => format!("{} by default", duration(DEFAULT_TIME_LIMIT)),
    };
    let problem = if waited > usual.saturating_add(Duration::from_secs(1)) {
        problem.advise(format!(
            "It does not even answer BUSY, although the time limit ({shown}) has passed: probably another \
             slow command is running, not a script, or clients are paused (CLIENT PAUSE, FAILOVER), or the process is \
             stopped, swapping or waiting for a disk. A kill command helps only against a script."
        ))
    } else {
        problem.advise(format!(
            "If a script is running, the server accepts a kill command once the time limit ({shown}) has passed; sent \
             earlier, the command waits until then. Another slow command cannot be killed."
        ))
    };
    let kinds = kind.map_or_else(|| any_kind(facts, BusyKind::Script), |kind| vec![kind]);
    add_kills(facts, problem, &kinds)
}

/// Returns the kinds of calls that the server can kill, the most likely first; `last` is the kind that was last reported.
fn any_kind(facts: &Facts<'_>, last: BusyKind) -> Vec<BusyKind> {
    match last {
        // There are no functions before 7.0.
        _ if facts.major().is_some_and(|major| major < 7) => vec![BusyKind::Script],
        BusyKind::Function => vec![BusyKind::Function, BusyKind::Script],
        BusyKind::Script | BusyKind::Module => vec![BusyKind::Script, BusyKind::Function],
    }
}

/// Adds the commands that kill calls of these kinds.
fn add_kills(facts: &Facts<'_>, problem: Problem, kinds: &[BusyKind]) -> Problem {
    let kills = kinds.iter().filter_map(|kind| kill(*kind));
    kills.fold(problem, |problem, kill| problem.fix(facts.command(kill)))
}

fn busy_silent(facts: &Facts<'_>, waited: Duration, last: BusyKind) -> Problem {
    let message = format!(
        "blocked for {}: answered BUSY, and now accepts connections but does not answer",
        duration(waited)
    );
    let problem = Problem::new(Code::Blocked, message).advise("All clients wait.");
    if last == BusyKind::Module {
        return problem.advise(
            "The last reply was about a module's command, which neither SCRIPT KILL nor FUNCTION KILL ends. Wait until it answers again.",
        );
    }
    let problem = problem.advise(
        "Either the same call is executing one long command, or it has ended and another one is running; it is not known which. \
         A kill command that is sent now waits until the server answers, and then kills the script that is running at that time.",
    );
    add_kills(facts, problem, &any_kind(facts, last))
}

fn busy(facts: &Facts<'_>, kind: BusyKind, running: Option<&RunningCall>) -> Problem {
    let kind_name = kind.as_str();
    let message = match running {
        Some(RunningCall { name, running_for }) => {
            let time = running_for.map(|time| format!(" has been running for {}", duration(time)));
            let time = time.unwrap_or_else(|| " runs".to_owned());
            format!("BUSY: the {kind_name} {}{time}", clean(name, MAX_TEXT))
        }
        None if kind == BusyKind::Module => "BUSY: a module's command has exceeded the time limit".to_owned(),
        None => format!("BUSY: a {kind_name} has exceeded the time limit"),
    };
    let mut problem = Problem::new(Code::Busy, message).advise("All clients get BUSY errors until it ends.");
    let is_refused = facts.guard.is_some_and(|guard| guard.is_refused);
    if kind == BusyKind::Script && running.is_none() {
        problem = problem.advise(if is_refused {
            "The server's log shows its SHA1: grep 'still in execution'."
        } else {
            "The server's log shows its SHA1: grep 'still in execution'. Note it before you kill the script."
        });
    }
    match kill(kind) {
        Some(_) if is_refused => problem.advise(format!(
            "The {kind_name} has already written data, so the server has refused the guard's kill, and refuses every other one: \
             wait until it ends, or {}.",
            end_of_server(facts)
        )),
        Some(kill) if facts.is_replica() => problem
            .advise(format!(
                "{kill} ends it, if a client of this replica called it. If the reply is UNKILLABLE, its master has sent it: wait \
                 until it ends here, and send {kill} to the master if it is still running there."
            ))
            .fix(facts.command(kill)),
        Some(kill) => problem
            .advise(format!(
                "{kill} ends it. If the reply is UNKILLABLE, the {kind_name} has already written data: wait until it ends, or \
                 {}. If the reply contains \"sent by a master\", this server is a replica: wait.",
                end_of_server(facts)
            ))
            .fix(facts.command(kill)),
        None => problem.advise(format!(
            "Neither SCRIPT KILL nor FUNCTION KILL ends a module's command: see the module's documentation, wait, or {}.",
            end_of_server(facts)
        )),
    }
}

/// Returns the last resort against a script that cannot be killed.
fn end_of_server(facts: &Facts<'_>) -> &'static str {
    if facts.is_managed() {
        "reboot or fail over the node in the console of the service, which has no SHUTDOWN: writes that no replica and no \
         snapshot has are lost"
    } else {
        "send SHUTDOWN NOSAVE, which ends the server and loses every write since its last save"
    }
}

/// Returns the remedy for a login that was rejected with this reply.
pub(crate) fn login_remedy(reply: &str) -> &'static str {
    match reply.split(' ').next().unwrap_or_default() {
        "NOAUTH" => {
            "The server requires a password: set --redis.password-file, and --redis.user for an ACL user."
        }
        "WRONGPASS" => {
            "The user or the password is wrong, or the user is disabled: check --redis.user and the password."
        }
        "DENIED" => {
            "The server is in protected mode: it has no password and accepts connections only from its own machine."
        }
        "ERR" => "The server may have no password for this user: try without a password, or check the user.",
        _ => "Check --redis.user and --redis.password-file.",
    }
}

fn unreachable(facts: &Facts<'_>, Outage { reason, detail }: &Outage) -> Problem {
    let code = if matches!(reason, OutageReason::Tls { .. }) { Code::Tls } else { Code::Unreachable };
    let limit = if *reason == OutageReason::MaxClients { " (its setting maxclients)" } else { "" };
    let problem = Problem::new(code, format!("unreachable: {}{limit}", clean(detail, MAX_TEXT)));
    let remedy = outage_remedy(*reason);
    let problem = if remedy.is_empty() { problem } else { problem.advise(remedy) };
    problem.test(facts.command("PING"))
}

/// Returns the remedy for a server that can't be reached; empty if there is none.
pub(crate) const fn outage_remedy(reason: OutageReason) -> &'static str {
    match reason {
        OutageReason::Name => "Check the host name and this machine's resolver.",
        OutageReason::Refused => {
            "Nothing is listening there: check the address, whether the server is running, and its bind or unixsocket setting."
        }
        OutageReason::Permission => {
            "The exporter's process may not open the socket: check its user and group, and unixsocketperm of the server."
        }
        OutageReason::NotAllowed => {
            "If the exporter is to connect there, add the address to allow in the configuration file."
        }
        OutageReason::Silence => {
            "Check the address, and firewalls and routing between this machine and the server."
        }
        OutageReason::Tls { remedy } => remedy,
        OutageReason::Http => "Give the port of the Redis server; its default is 6379.",
        OutageReason::NotRedis { may_want_tls: true } => {
            "Another program is listening on that port, or the port requires TLS: try rediss://."
        }
        OutageReason::NotRedis { may_want_tls: false } => "Another program is listening on that port.",
        OutageReason::MaxClients => {
            "Find out which clients hold the connections (CLIENT LIST, over an existing connection), or raise maxclients."
        }
        OutageReason::Closed => "The message comes from the server or from a proxy in between: see its log.",
        OutageReason::Lost { may_want_tls: true } => {
            "The server or something in between closed the connection: see its log. If that happens every time, the port \
             may require TLS: try rediss://."
        }
        OutageReason::Lost { may_want_tls: false } => {
            "The server or something in between closed the connection: see its log."
        }
        OutageReason::Other => {
            "Check the address, whether the server is running, and the network in between."
        }
    }
}
