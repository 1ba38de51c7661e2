//! What a check found, as data: the text and the JSON are made of it. The fields are the JSON, which `docs/check.md`
//! describes.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::script::Sha1Digits;

/// Most characters of a text that came from a server.
const MAX_TEXT: usize = 200;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Nothing to do.
    Ok,
    /// Something to look at.
    Warning,
    /// Something is broken now, or nothing can be said.
    Critical,
}

impl Status {
    /// The exit code, as Nagios has it.
    #[must_use]
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }

    /// The word that a line begins with.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What a check of some servers found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// The worst status.
    pub(crate) status: Status,
    /// The exit code that goes with it.
    pub(crate) exit_code: u8,
    /// All of it in one line.
    pub(crate) summary: String,
    /// The servers, in the order in which they were named.
    pub(crate) servers: Vec<ServerReport>,
}

/// What was found at one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ServerReport {
    /// Its address, as in the label `target`.
    pub(crate) target: String,
    /// The worst of its findings.
    pub(crate) status: Status,
    /// How it stands: a value of the label `state`.
    pub(crate) state: &'static str,
    /// How to talk to it from a shell, as the user of the check and without its password.
    pub(crate) shell: String,
    /// Whether that logs in.
    #[serde(skip)]
    pub(crate) logs_in: bool,
    /// What it says about itself; `None` if it did not.
    pub(crate) server: Option<ServerFacts>,
    /// What blocks it now.
    pub(crate) blocked: Option<Blocked>,
    /// What the user may ask.
    pub(crate) capabilities: Vec<Capability>,
    /// The settings that matter; `None` where they are unknown.
    pub(crate) settings: Option<SettingsReport>,
    /// What is in the slow log; `None` if it could not be read.
    pub(crate) slowlog: Option<SlowlogReport>,
    /// What is wrong, the worst first.
    pub(crate) findings: Vec<Finding>,
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ServerFacts {
    /// `redis`, `valkey`, or what a fork calls itself.
    pub(crate) name: Option<String>,
    /// Its version.
    pub(crate) version: Option<String>,
    /// `master` or `slave`, as the server says it.
    pub(crate) role: Option<String>,
    /// `standalone`, `cluster` or `sentinel`.
    pub(crate) mode: Option<String>,
    /// Time since its start.
    pub(crate) uptime_seconds: Option<u64>,
    /// BUSY errors that its clients got since then, or since CONFIG RESETSTAT.
    pub(crate) busy_errors: Option<u64>,
}

/// What blocks a server now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Blocked {
    /// `script`, `function` or `module`; `None` if the server does not tell.
    pub(crate) kind: Option<&'static str>,
    /// The command that ends it; `None` if there is none, or it is not known.
    pub(crate) kill: Option<&'static str>,
    /// The function that runs.
    pub(crate) function: Option<String>,
    /// How long it has been running, by FUNCTION STATS.
    #[serde(rename = "running_seconds", serialize_with = "seconds_if_any")]
    pub(crate) running: Option<Duration>,
    /// How long the check waited without any answer.
    #[serde(rename = "unanswered_seconds", serialize_with = "seconds")]
    pub(crate) unanswered: Duration,
}

/// Whether something can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Capability {
    /// The command.
    pub(crate) command: &'static str,
    /// Whether it works.
    pub(crate) result: CapabilityResult,
    /// The line that grants it, where that is missing.
    pub(crate) fix: Option<String>,
}

/// Whether a command works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CapabilityResult {
    /// It does.
    Works,
    /// The user may not run it.
    NotGranted,
    /// The server does not know it.
    Unknown,
    /// Servers of this version don't have it.
    NotThere,
    /// The server answered with another error.
    Error,
    /// It could not be tried.
    NotTried,
}

/// The settings that matter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SettingsReport {
    /// Whether the slow log is on.
    pub(crate) slowlog_enabled: Option<bool>,
    /// What takes so long is in the slow log.
    #[serde(rename = "slowlog_threshold_seconds", serialize_with = "seconds_if_any")]
    pub(crate) slowlog_threshold: Option<Duration>,
    /// Entries that the slow log can hold.
    pub(crate) slowlog_max_length: Option<u64>,
    /// After so long a server that runs a script answers BUSY; 0 means never.
    #[serde(rename = "time_limit_seconds", serialize_with = "seconds_if_any")]
    pub(crate) time_limit: Option<Duration>,
}

/// What is in the slow log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SlowlogReport {
    /// Entries that it holds.
    pub(crate) length: Option<u64>,
    /// Entries that were looked at: the newest ones.
    pub(crate) read: usize,
    /// Calls of scripts and functions among them.
    pub(crate) script_calls: u64,
    /// The scripts and functions, the one that took most time first.
    pub(crate) scripts: Vec<SlowScript>,
}

/// A script in the slow log, as run by one command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SlowScript {
    /// A value of the label `script`.
    pub(crate) script: String,
    /// The SHA1, where it is known.
    pub(crate) sha1: Option<Sha1Digits>,
    /// The command.
    pub(crate) command: &'static str,
    /// Calls in the slow log.
    pub(crate) calls: u64,
    /// Those at or over `--slow.warning`.
    pub(crate) slow_calls: u64,
    /// The severity of the longest one; `None` if it is below `--slow.warning`.
    pub(crate) severity: Option<Status>,
    /// The longest call.
    #[serde(rename = "max_seconds", serialize_with = "seconds")]
    pub(crate) max: Duration,
    /// All calls together.
    #[serde(rename = "total_seconds", serialize_with = "seconds")]
    pub(crate) total: Duration,
    /// When the latest call ended, in whole seconds since the Unix epoch by the server's clock.
    pub(crate) last_seen_timestamp_seconds: u64,
    /// How long ago that was.
    #[serde(skip)]
    pub(crate) last_seen_ago: Duration,
    /// Who called: the names that the clients gave themselves, else their hosts.
    pub(crate) callers: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) severity: Status,
    /// What it is, for programs; see `docs/check.md`.
    pub(crate) code: &'static str,
    /// What it is, for people.
    pub(crate) message: String,
    /// What follows from it, and what to do.
    pub(crate) advice: Vec<String>,
    /// Commands that end it, for the prompt of `redis-cli`.
    pub(crate) commands: Vec<String>,
}

impl Report {
    /// Puts together what was found at each server.
    #[must_use]
    pub(crate) fn new(servers: Vec<ServerReport>) -> Self {
        let status = servers.iter().map(|server| server.status).max().unwrap_or(Status::Ok);
        let summary = summary(status, &servers);
        Self { status, exit_code: status.exit_code(), summary, servers }
    }
}

impl ServerFacts {
    /// Name and version of the server, if it reported any.
    pub(super) fn name_and_version(&self) -> Option<String> {
        let parts: Vec<&str> = [&self.name, &self.version].into_iter().filter_map(Option::as_deref).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

/// All of it in one line. A `|` would begin performance data for Nagios.
fn summary(status: Status, servers: &[ServerReport]) -> String {
    let worst = servers.iter().filter(|server| server.status == status);
    let findings: Vec<(&ServerReport, &Finding)> =
        worst.flat_map(|server| server.findings.iter().map(move |finding| (server, finding))).collect();
    let text = match (findings.as_slice(), servers) {
        ([], [server]) => match server.server.as_ref().and_then(ServerFacts::name_and_version) {
            Some(name) => format!("{}: {name}, nothing to complain of", server.target),
            None => format!("{}: nothing to complain of", server.target),
        },
        ([], _) => format!("{} servers, nothing to complain of", servers.len()),
        ([(server, finding), ..], _) => {
            let others: usize = servers.iter().map(|server| server.findings.len()).sum::<usize>() - 1;
            let more = if others > 0 { format!(" (and {others} more)") } else { String::new() };
            format!("{}: {}{more}", server.target, finding.message)
        }
    };
    text.replace('|', "/")
}

/// Text from elsewhere, made safe for terminals and bounded: everything but printable ASCII is escaped, so nothing moves
/// the cursor, changes colours, or reads backwards.
pub(super) fn clean(text: &str) -> String {
    let escape =
        |c: char| if matches!(c, '"' | '\'' | '\\') { c.into() } else { c.escape_default().to_string() };
    let mut cleaned = String::new();
    for piece in text.chars().map(escape) {
        if cleaned.len() + piece.len() > MAX_TEXT {
            cleaned.push_str("...");
            break;
        }
        cleaned.push_str(&piece);
    }
    cleaned
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "serde hands references over")]
fn seconds_if_any<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_reaches_the_terminal_as_it_is() {
        for hostile in ["\u{1b}[2J", "\u{9b}31m", "a\nb\r\t\0", "\u{202e}gpj.exe", "\u{7f}ü"] {
            let cleaned = clean(hostile);
            assert!(cleaned.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{cleaned:?}");
        }
        assert_eq!(clean("it's a \"name\" \\o/"), "it's a \"name\" \\o/");
        assert!(clean(&"\u{1b}".repeat(1000)).len() <= MAX_TEXT + 3);
    }
}
