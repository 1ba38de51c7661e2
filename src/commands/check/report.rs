//! What a check found, as data: the text and the JSON are made of it. The fields are the JSON, which `docs/check.md`
//! describes.

use std::io::{self, Write};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::text;
use crate::cli::CheckFormat;

/// Most characters of a text that came from a server.
const LONGEST_TEXT: usize = 200;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
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
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }

    /// The word that a line begins with.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What a check of some servers found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The worst status.
    pub status: Status,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// All of it in one line.
    pub summary: String,
    /// The servers, in the order in which they were named.
    pub servers: Vec<ServerReport>,
}

/// What was found at one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerReport {
    /// Its address, as in the label `target`.
    pub target: String,
    /// The worst of its findings.
    pub status: Status,
    /// How it stands: a value of the label `state`.
    pub state: &'static str,
    /// How to talk to it from a shell, as the user of the check and without its password.
    pub shell: String,
    /// Whether that logs in.
    #[serde(skip)]
    pub logs_in: bool,
    /// What it says about itself; `None` if it did not.
    pub server: Option<ServerFacts>,
    /// What blocks it now.
    pub blocked: Option<Blocked>,
    /// What the user may ask.
    pub capabilities: Vec<Capability>,
    /// The settings that matter; `None` where they are unknown.
    pub settings: Option<SettingsReport>,
    /// What is in the slow log; `None` if it could not be read.
    pub slowlog: Option<SlowlogReport>,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerFacts {
    /// `redis`, `valkey`, or what a fork calls itself.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// `master` or `slave`, as the server says it.
    pub role: Option<String>,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: Option<String>,
    /// Time since its start.
    pub uptime_seconds: Option<u64>,
    /// BUSY errors that its clients got since then, or since CONFIG RESETSTAT.
    pub busy_errors: Option<u64>,
}

/// What blocks a server now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Blocked {
    /// `script`, `function` or `module`; `None` if the server does not tell.
    pub kind: Option<&'static str>,
    /// The command that ends it; `None` if there is none, or it is not known.
    pub kill: Option<&'static str>,
    /// The function that runs.
    pub function: Option<String>,
    /// How long it has been running, by FUNCTION STATS.
    #[serde(rename = "running_seconds", serialize_with = "seconds_if_any")]
    pub running: Option<Duration>,
    /// How long the check waited without any answer.
    #[serde(rename = "unanswered_seconds", serialize_with = "seconds")]
    pub unanswered: Duration,
}

/// Whether something can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// The command.
    pub command: &'static str,
    /// Whether it works.
    pub result: CapabilityResult,
    /// The line that grants it, where that is missing.
    pub fix: Option<String>,
}

/// Whether a command works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CapabilityResult {
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
pub struct SettingsReport {
    /// Whether the slow log is on.
    pub slowlog_enabled: Option<bool>,
    /// What takes so long is in the slow log.
    #[serde(rename = "slowlog_threshold_seconds", serialize_with = "seconds_if_any")]
    pub slowlog_threshold: Option<Duration>,
    /// Entries that the slow log can hold.
    pub slowlog_max_length: Option<u64>,
    /// After so long a server that runs a script answers BUSY; 0 means never.
    #[serde(rename = "time_limit_seconds", serialize_with = "seconds_if_any")]
    pub time_limit: Option<Duration>,
}

/// What is in the slow log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlowlogReport {
    /// Entries that it holds.
    pub length: Option<u64>,
    /// Entries that were looked at: the newest ones.
    pub read: usize,
    /// Calls of scripts and functions among them.
    pub script_calls: u64,
    /// The scripts and functions, the one that took most time first.
    pub scripts: Vec<SlowScript>,
}

/// A script in the slow log, as run by one command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlowScript {
    /// A value of the label `script`.
    pub script: String,
    /// The SHA1, where it is known.
    pub sha1: Option<String>,
    /// The command.
    pub command: &'static str,
    /// Calls in the slow log.
    pub calls: u64,
    /// Those at or over `--slow.warning`.
    pub slow_calls: u64,
    /// The severity of the longest one; `None` if it is below `--slow.warning`.
    pub severity: Option<Status>,
    /// The longest call.
    #[serde(rename = "max_seconds", serialize_with = "seconds")]
    pub max: Duration,
    /// All calls together.
    #[serde(rename = "total_seconds", serialize_with = "seconds")]
    pub total: Duration,
    /// When the latest call ended, in whole seconds since the Unix epoch by the server's clock.
    pub last_seen_timestamp_seconds: u64,
    /// How long ago that was.
    #[serde(skip)]
    pub last_seen_ago: Duration,
    /// Who called: the names that the clients gave themselves, else their hosts.
    pub callers: Vec<String>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Status,
    /// What it is, for programs; see `docs/check.md`.
    pub code: &'static str,
    /// What it is, for people.
    pub message: String,
    /// What follows from it, and what to do.
    pub advice: Vec<String>,
    /// Commands that end it, for the prompt of `redis-cli`.
    pub commands: Vec<String>,
}

impl Report {
    /// Puts together what was found at each server.
    #[must_use]
    pub fn new(servers: Vec<ServerReport>) -> Self {
        let status = servers.iter().map(|server| server.status).max().unwrap_or(Status::Ok);
        let summary = summary(status, &servers);
        Self { status, exit_code: status.exit_code(), summary, servers }
    }

    /// Prints it. Colours are for the stream to take out again where they are not wanted.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, format: CheckFormat, out: &mut impl Write) -> io::Result<()> {
        match format {
            CheckFormat::Text => text::print(self, out)?,
            CheckFormat::Summary => text::print_summary(self, out)?,
            CheckFormat::Json => {
                serde_json::to_writer_pretty(&mut *out, self)?;
                writeln!(out)?;
            }
        }
        out.flush()
    }
}

/// All of it in one line. A `|` would begin performance data for Nagios.
fn summary(status: Status, servers: &[ServerReport]) -> String {
    let worst = servers.iter().filter(|server| server.status == status);
    let findings: Vec<(&ServerReport, &Finding)> =
        worst.flat_map(|server| server.findings.iter().map(move |finding| (server, finding))).collect();
    let text = match (findings.as_slice(), servers) {
        ([], [server]) => match server.server.as_ref().and_then(text::name_and_version) {
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
        if cleaned.len() + piece.len() > LONGEST_TEXT {
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
        assert!(clean(&"\u{1b}".repeat(1000)).len() <= LONGEST_TEXT + 3);
    }
}
