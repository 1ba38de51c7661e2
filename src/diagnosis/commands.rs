//! Problems of commands that the server does not answer normally.

use super::facts::{Facts, Unavailable};
use super::problem::{Code, Problem};
use crate::parse::{Command, Info};
use crate::text::{Fix, Trouble, clean};

/// Maximum length of a string from a server within a message, in bytes.
const MAX_TEXT: usize = 200;

/// Commands that the exporter needs, in display order.
pub(crate) const COMMANDS: [Command; 8] = [
    Command::Ping,
    Command::Info(&[]),
    Command::SlowlogGet(0),
    Command::SlowlogLen,
    Command::ConfigGet(&[]),
    Command::FunctionStats,
    Command::SetName,
    Command::Transaction,
];

/// Returns the code for a command that is not available, and the consequence.
const fn consequence(command: Command) -> Option<(Code, &'static str)> {
    Some(match command {
        Command::Ping => (Code::PingUnavailable, "blockages are detected later"),
        Command::Transaction => {
            (Code::TransactionUnavailable, "watching a BUSY server adds to its count of BUSY errors")
        }
        Command::Info(_) => {
            (Code::InfoUnavailable, "restarts, version, role and the server's own counts are unknown")
        }
        Command::SlowlogGet(_) => (Code::SlowlogUnavailable, "no script call is counted"),
        Command::SlowlogLen => (Code::SlowlogLengthUnavailable, "the length of the slow log is unknown"),
        Command::ConfigGet(_) => {
            (Code::ConfigUnavailable, "a disabled slow log and an unsafe time limit go unnoticed")
        }
        Command::FunctionStats => (Code::FunctionStatsUnavailable, "a function is not named while it runs"),
        Command::SetName => (Code::ClientNameUnavailable, "CLIENT LIST does not show the exporter's name"),
        Command::FunctionList | Command::ScriptShow(_) => return None,
    })
}

/// Adds a problem for each command that is not available.
pub(super) fn problems(facts: &Facts<'_>, problems: &mut Vec<Problem>) {
    for (command, reason) in &facts.unavailable {
        if let Some((code, consequence)) = consequence(*command) {
            problems.push(problem(facts, *command, *reason, code, consequence));
        }
    }
}

fn problem(
    facts: &Facts<'_>,
    command: Command,
    reason: Unavailable<'_>,
    code: Code,
    consequence: &str,
) -> Problem {
    let name = command.name();
    match reason {
        Unavailable::NotPermitted => {
            let message = not_permitted(facts.user, name);
            let problem = Problem::new(code, format!("{message}: {consequence}"));
            if facts.is_managed() {
                problem.advise(format!("Add {} to the user's access string in the service.", command.grant()))
            } else {
                problem.fix(grant(facts.admin_cli, facts.user, command.grant()))
            }
        }
        Unavailable::Unknown => {
            let is_config = matches!(command, Command::ConfigGet(_));
            let problem = Problem::new(code, format!("{}: {consequence}", not_available(name)));
            match (facts.is_managed(), is_config) {
                (true, true) => problem.advise(
                    "The service does not offer it: check slowlog-log-slower-than and slowlog-max-len in its parameter group, if it has one.",
                ),
                (true, false) => problem.advise("The service does not offer it, and no setting of the server can change that."),
                (false, _) => {
                    let problem = problem.advise(
                        "The server is older than the command, a service has disabled or renamed it \
                         (--redis.renamed-command), or a proxy does not pass it on.",
                    );
                    if is_config {
                        problem.advise(
                            "In a managed service, check slowlog-log-slower-than and slowlog-max-len in its console.",
                        )
                    } else {
                        problem
                    }
                }
            }
        }
        Unavailable::Closed => Problem::new(code, format!("the server or a proxy closes the connection on {name}: {consequence}"))
            .advise(
                "A proxy in between, or the server, does not accept the command: give the address of the server itself.",
            ),
        Unavailable::Error(text) => {
            let text = clean(text.trim_end_matches('.'), MAX_TEXT);
            Problem::new(code, format!("{name} returned an error: {text}: {consequence}"))
        }
    }
}

/// Returns the message for a command that the server does not have.
pub(crate) fn not_available(command: &str) -> String {
    let verb = if command.contains(" and ") { "are" } else { "is" };
    format!("{command} {verb} not available on this server")
}

/// Returns the message for a command that the user may not run.
pub(crate) fn not_permitted(user: &str, command: &str) -> String {
    format!("user \"{}\" may not run {command}", clean(user, MAX_TEXT))
}

/// Returns the problem that a user may not run a command. It includes the command that grants the permission, unless a
/// service manages users.
pub(crate) fn not_granted(info: &Info, admin_cli: &str, user: &str, command: &str, rules: &str) -> Trouble {
    let fix = (!info.manages_users).then(|| grant(admin_cli, user, rules));
    let problem = not_permitted(user, command);
    if fix.is_some() {
        return Trouble { problem, fix };
    }
    Trouble { problem: format!("{problem}; add {rules} to the user's access string in the service"), fix }
}

/// Returns the command that grants a user the permissions in `grant`; `admin_cli` connects as a user who may manage ACL users.
pub(crate) fn grant(admin_cli: &str, user: &str, grant: &str) -> Fix {
    Fix::new(admin_cli, format!("ACL SETUSER {} {grant}", clean(user, MAX_TEXT)))
}
