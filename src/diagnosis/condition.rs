//! The condition of the server: unreachable, blocked, BUSY, loading.

use std::time::Duration;

use super::facts::{Condition, Facts, RunningCall, Unreachable};
use super::problem::{Code, Problem};
use crate::parse::BusyKind;
use crate::text::{clean, duration};

/// Maximum length in bytes of a text from elsewhere within a message.
const MAX_TEXT: usize = 200;

/// Time limit of scripts unless the server is configured otherwise.
pub(super) const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Remedy for a kill command that is answered NOPERM.
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
            "A command or a stopped process blocks it, or the port does not speak TLS: try redis:// instead of \
             rediss://.",
        ),
        Condition::Blocked { waited, kind, .. } => blocked(facts, *waited, *kind),
        Condition::Busy { kind, running, .. } => busy(facts, *kind, running.as_ref()),
        Condition::BusySilent { waited } => busy_silent(facts, *waited),
        Condition::Loading => Problem::new(Code::Loading, "loading: the server loads its data set into memory")
            .advise("It serves no client until that has finished; INFO persistence shows the progress."),
        Condition::Unauthorized(reply) => {
            let (user, reply) = (clean(facts.user, MAX_TEXT), clean(reply.trim_end_matches('.'), MAX_TEXT));
            Problem::new(Code::Unauthorized, format!("rejects user \"{user}\": {reply}"))
                .advise(login_remedy(&reply))
        }
        Condition::Unreachable(reason) => unreachable(reason),
    })
}

fn stalled(facts: &Facts<'_>) -> Option<Problem> {
    let longest = facts.longest_reply.filter(|longest| *longest >= facts.slow_warning)?;
    Some(
        Problem::new(Code::Stalled, format!("took {} to answer a request", duration(longest)))
            .advise("A command blocked it and has ended; the slow log may name it."),
    )
}

/// Problem of an address that is a Sentinel's.
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
            "It does not even answer BUSY, although the time limit ({shown}) has passed: probably no script runs, but \
             another slow command, or the process is stopped, swaps or waits for a disk. A kill command helps only \
             against a script."
        ))
    } else {
        problem.advise(format!(
            "If a script runs, the server accepts a kill command once the time limit ({shown}) has passed; sent \
             earlier, the command waits until then. Another slow command cannot be killed."
        ))
    };
    kills(facts, problem, kind)
}

/// Adds the kill commands that may apply.
fn kills(facts: &Facts<'_>, problem: Problem, kind: Option<BusyKind>) -> Problem {
    let kinds: &[BusyKind] = match kind {
        Some(BusyKind::Module) => &[],
        Some(BusyKind::Function) => &[BusyKind::Function],
        Some(BusyKind::Script) => &[BusyKind::Script],
        // There are no functions before 7.0.
        None if facts.major().is_some_and(|major| major < 7) => &[BusyKind::Script],
        None => &[BusyKind::Script, BusyKind::Function],
    };
    let kills = kinds.iter().filter_map(|kind| kill(*kind));
    kills.fold(problem, |problem, kill| problem.fix(facts.command(kill)))
}

fn busy_silent(facts: &Facts<'_>, waited: Duration) -> Problem {
    let message = format!(
        "blocked for {}: answered BUSY, and now accepts connections but does not answer",
        duration(waited)
    );
    let problem = Problem::new(Code::Blocked, message).advise("All clients wait.").advise(
        "Either the same call executes one long command, or it has ended and another one runs: which of the two is not known. \
         A kill command that is sent now waits until the server answers, and then kills the script that is running at that time.",
    );
    kills(facts, problem, None)
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
            "The server's log has its SHA1: grep 'still in execution'."
        } else {
            "The server's log has its SHA1: grep 'still in execution'. Note it before you kill the script."
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
                 until it ends here, and send {kill} to the master if it still runs there."
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
            "The server is in protected mode: it has no password and accepts connections from its own machine only."
        }
        "ERR" => "The server may have no password for this user: try without a password, or check the user.",
        _ => "Check --redis.user and --redis.password-file.",
    }
}

fn unreachable(reason: &Unreachable) -> Problem {
    let (detail, remedy) = match reason {
        Unreachable::Name(detail) => {
            (detail.as_str(), "Check the host name, and the resolver of this machine.")
        }
        Unreachable::Refused(detail) => (
            detail.as_str(),
            "Nothing listens there: check the address and port, whether the server runs, and its setting bind.",
        ),
        Unreachable::Silence(detail) => (
            detail.as_str(),
            "Check the address, and firewalls and routing between this machine and the server.",
        ),
        Unreachable::Tls(detail, remedy) => {
            let message = format!("unreachable: the TLS handshake failed: {}", clean(detail, MAX_TEXT));
            let problem = Problem::new(Code::Tls, message);
            return if remedy.is_empty() { problem } else { problem.advise(*remedy) };
        }
        Unreachable::NotRedis { is_http: true, .. } => {
            ("an HTTP server answers at that port", "Give the port of the Redis server; its default is 6379.")
        }
        Unreachable::NotRedis { is_http: false, may_want_tls } => (
            "the peer does not speak the Redis protocol",
            if *may_want_tls {
                "Another program listens at that port, or the port requires TLS: try rediss://."
            } else {
                "Another program listens at that port."
            },
        ),
        Unreachable::MaxClients(words) => {
            let words = clean(words, MAX_TEXT);
            let message =
                format!("unreachable: the server has reached its limit of clients (maxclients): {words}");
            return Problem::new(Code::Unreachable, message).advise(
                "Find out which clients hold the connections (CLIENT LIST, over an existing connection), or raise \
                 maxclients.",
            );
        }
        Unreachable::Closed(detail) => {
            (detail.as_str(), "The message comes from the server or from a proxy in between: see its log.")
        }
        Unreachable::Lost { detail, may_want_tls: true } => (
            detail.as_str(),
            "The server or something in between closed the connection: see its log. If that happens every time, the \
             port may require TLS: try rediss://.",
        ),
        Unreachable::Lost { detail, may_want_tls: false } => {
            (detail.as_str(), "The server or something in between closed the connection: see its log.")
        }
        Unreachable::Other(detail) => {
            (detail.as_str(), "Check the address, whether the server runs, and the network in between.")
        }
    };
    Problem::new(Code::Unreachable, format!("unreachable: {}", clean(detail, MAX_TEXT))).advise(remedy)
}
