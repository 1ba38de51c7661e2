//! Report of a check. Its serialized form is the JSON that `docs/check.md` describes; `text` prints it.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::diagnosis::Problem;
use crate::notify::trial::{TEST_ALERT, Trial};
use crate::script::{Label, Sha1Digits};
use crate::text::Fix;
use crate::watch::Severity;

/// Maximum length of a string from a server, in bytes.
pub(super) const MAX_TEXT: usize = 200;

/// Status of a server, or of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// No problems.
    Ok,
    /// At least one warning.
    Warning,
    /// At least one critical problem.
    Critical,
}

impl From<Severity> for Status {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }
}

impl Status {
    /// Returns the exit code as defined by Nagios.
    #[must_use]
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }

    /// Returns the word printed at the beginning of a line.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// Report of all servers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Worst status of the servers and Alertmanagers.
    pub(crate) status: Status,
    /// Exit code of that status.
    pub(crate) exit_code: u8,
    /// Worst problem in one line.
    pub(crate) summary: String,
    /// Servers in the order in which they were named.
    pub(crate) servers: Vec<ServerReport>,
    /// Alertmanagers to which a test alert was sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) alertmanagers: Vec<AlertmanagerReport>,
}

/// Result of a test alert.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct AlertmanagerReport {
    /// Base URL.
    pub(crate) url: String,
    /// Critical if alerts do not arrive.
    pub(crate) status: Status,
    /// Result in one sentence.
    pub(crate) message: String,
    /// Receivers to which Alertmanager routes the test alert.
    pub(crate) receivers: Vec<String>,
}

impl From<Trial> for AlertmanagerReport {
    fn from(Trial { url, result }: Trial) -> Self {
        let url = url.to_string();
        match result {
            Ok(receivers) => {
                let to = if receivers.is_empty() { "no receiver".to_owned() } else { receivers.join(", ") };
                let message = format!(
                    "accepts alerts; the test alert {TEST_ALERT} was listed, routed to {to}, and ended"
                );
                Self { url, status: Status::Ok, message, receivers }
            }
            Err(message) => Self { url, status: Status::Critical, message, receivers: Vec::new() },
        }
    }
}

/// Report of one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ServerReport {
    /// Value of the label `target`.
    pub(crate) target: String,
    /// Host and port, or path.
    pub(crate) address: String,
    /// Severity of the worst problem.
    pub(crate) status: Status,
    /// Value of the label `state`.
    pub(crate) state: &'static str,
    /// Command line of `redis-cli` that connects as the check does, without the password.
    pub(crate) shell: String,
    /// The same for a user with permission to change users.
    #[serde(skip)]
    pub(crate) admin_shell: String,
    /// True if these command lines authenticate.
    #[serde(skip)]
    pub(crate) logs_in: bool,
    /// From INFO; `None` if INFO could not be read.
    pub(crate) server: Option<ServerFacts>,
    /// Present while the server is blocked or BUSY.
    pub(crate) blocked: Option<Blocked>,
    /// Commands that the exporter needs.
    pub(crate) capabilities: Vec<Capability>,
    /// From CONFIG GET; `None` if the settings are unknown.
    pub(crate) settings: Option<SettingsReport>,
    /// Guard; `None` if there is none.
    pub(crate) guard: Option<GuardReport>,
    /// From SLOWLOG GET; `None` if it could not be read.
    pub(crate) slowlog: Option<SlowlogReport>,
    /// Problems, the most severe first.
    pub(crate) problems: Vec<Problem>,
}

/// Guard of a server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct GuardReport {
    /// `dry-run` or `kill`.
    pub(crate) mode: &'static str,
    #[serde(rename = "kill_after_seconds", serialize_with = "seconds")]
    pub(crate) kill_after: Duration,
    /// ACL user of its connection.
    pub(crate) user: String,
    /// `granted`, `not_granted`, `unverified` or `not_tried`.
    pub(crate) kill: &'static str,
    /// Reason why the kill is not granted or could not be verified.
    pub(crate) detail: Option<String>,
    /// Command that grants the permission to kill.
    pub(crate) fix: Option<Fix>,
}

/// Facts from INFO.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ServerFacts {
    /// `redis`, `valkey`, or the name of a fork.
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    /// `master` or `slave`, as the server reports it.
    pub(crate) role: Option<String>,
    /// `standalone`, `cluster` or `sentinel`.
    pub(crate) mode: Option<String>,
    /// Time since the start of the server.
    pub(crate) uptime_seconds: Option<u64>,
    /// Number of BUSY errors that clients received since then, or since CONFIG RESETSTAT.
    pub(crate) busy_errors: Option<u64>,
}

/// Blockage of a server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Blocked {
    /// `script`, `function` or `module`; `None` until the server answers BUSY.
    pub(crate) kind: Option<&'static str>,
    /// Command that ends the blockage; `None` if there is none, or if the kind is unknown.
    pub(crate) kill: Option<&'static str>,
    /// Name of the running function.
    pub(crate) function: Option<String>,
    /// Time for which the function has been running, from FUNCTION STATS.
    #[serde(rename = "running_seconds", serialize_with = "optional_seconds")]
    pub(crate) running: Option<Duration>,
    /// Time for which the check waited without a reply.
    #[serde(rename = "unanswered_seconds", serialize_with = "seconds")]
    pub(crate) unanswered: Duration,
}

/// Command that the exporter needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Capability {
    /// Name of the command.
    pub(crate) command: &'static str,
    /// Outcome of the command.
    pub(crate) result: CapabilityResult,
    /// Command that grants the permission, if it is missing.
    pub(crate) fix: Option<Fix>,
}

/// Outcome of a command that the exporter needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CapabilityResult {
    /// The server answers the command.
    Works,
    /// The user is not permitted to run the command.
    NotGranted,
    /// The server does not know the command.
    Unknown,
    /// Servers of this version do not support the command.
    NotSupported,
    /// The server replied with another error, or in an unknown format.
    Error,
    /// The command was not sent.
    NotTried,
}

/// Settings of the server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SettingsReport {
    /// False if `slowlog-log-slower-than` is negative or `slowlog-max-len` is 0.
    pub(crate) slowlog_enabled: Option<bool>,
    /// `slowlog-log-slower-than`.
    #[serde(rename = "slowlog_threshold_seconds", serialize_with = "optional_seconds")]
    pub(crate) slowlog_threshold: Option<Duration>,
    /// `slowlog-max-len`.
    pub(crate) slowlog_max_length: Option<u64>,
    /// `busy-reply-threshold` or `lua-time-limit`; 0 means that the server never replies BUSY.
    #[serde(rename = "time_limit_seconds", serialize_with = "optional_seconds")]
    pub(crate) time_limit: Option<Duration>,
}

/// Content of the slow log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SlowlogReport {
    /// Number of entries in the slow log.
    pub(crate) length: Option<u64>,
    /// Number of entries that were read; they are the newest.
    pub(crate) read: usize,
    /// Number of script and function calls among them.
    pub(crate) script_calls: u64,
    /// Short calls that add up; `None` if there are none.
    pub(crate) short_calls: Option<ShortCallsReport>,
    /// Scripts and functions, in descending order of total duration.
    pub(crate) scripts: Vec<SlowScript>,
}

/// Short script calls that used at least half of the server's time for a few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ShortCallsReport {
    /// Number of calls.
    pub(crate) count: u64,
    /// Total duration of the calls.
    #[serde(rename = "total_seconds", serialize_with = "seconds")]
    pub(crate) total: Duration,
    /// Period in which the calls ended.
    #[serde(rename = "within_seconds", serialize_with = "seconds")]
    pub(crate) within: Duration,
    /// Name of the script with the longest total duration.
    pub(crate) name: String,
    /// Total duration of the calls of that script.
    #[serde(rename = "script_seconds", serialize_with = "seconds")]
    pub(crate) of_script: Duration,
}

/// Calls of one script by one command, from the slow log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SlowScript {
    /// Name of the script.
    pub(crate) name: String,
    /// Values of the label `script` of these calls.
    pub(crate) scripts: Vec<Label>,
    /// SHA1, if it is known.
    pub(crate) sha1: Option<Sha1Digits>,
    pub(crate) command: &'static str,
    /// Number of calls.
    pub(crate) calls: u64,
    /// Number of calls that took at least `--slow.warning`.
    pub(crate) slow_calls: u64,
    /// Severity of the longest call; `None` below `--slow.warning`.
    pub(crate) severity: Option<Severity>,
    /// Duration of the longest call.
    #[serde(rename = "max_seconds", serialize_with = "seconds")]
    pub(crate) max: Duration,
    /// Total duration of the calls.
    #[serde(rename = "total_seconds", serialize_with = "seconds")]
    pub(crate) total: Duration,
    /// End of the latest call, in whole seconds since the Unix epoch by the server's clock.
    pub(crate) last_seen_timestamp_seconds: u64,
    /// Time since the end of the latest call.
    #[serde(skip)]
    pub(crate) last_seen_ago: Duration,
    /// Callers: names of the clients, or hosts of clients without a name.
    pub(crate) callers: Vec<String>,
}

impl Report {
    /// Creates the report of these servers and Alertmanagers.
    #[must_use]
    pub(crate) fn new(servers: Vec<ServerReport>, alertmanagers: Vec<AlertmanagerReport>) -> Self {
        let of_servers = servers.iter().map(|server| server.status).max().unwrap_or(Status::Ok);
        let failed = alertmanagers.iter().find(|alertmanager| alertmanager.status > of_servers);
        let status = failed.map_or(of_servers, |alertmanager| alertmanager.status);
        let summary = match failed {
            // `|` is replaced because it begins performance data for Nagios.
            Some(failed) => format!("{}: {}", failed.url, failed.message).replace('|', "/"),
            None => summary(status, &servers),
        };
        Self { status, exit_code: status.exit_code(), summary, servers, alertmanagers }
    }
}

impl ServerFacts {
    /// Returns the name and the version, if the server reports either.
    pub(super) fn name_and_version(&self) -> Option<String> {
        let parts: Vec<&str> = [&self.name, &self.version].into_iter().filter_map(Option::as_deref).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

impl ServerReport {
    /// Returns the name, followed by the address if it differs from the name.
    pub(super) fn name_and_address(&self) -> String {
        if self.target == self.address {
            self.target.clone()
        } else {
            format!("{} ({})", self.target, self.address)
        }
    }
}

/// Returns the worst problem in one line, without `|`, which begins performance data for Nagios.
fn summary(status: Status, servers: &[ServerReport]) -> String {
    let worst = servers.iter().filter(|server| server.status == status);
    let mut problems = worst.flat_map(|server| server.problems.iter().map(move |problem| (server, problem)));
    let text = match (problems.next(), servers) {
        (Some((server, problem)), _) => {
            let others = servers.iter().map(|server| server.problems.len()).sum::<usize>() - 1;
            let more = if others > 0 { format!(" (and {others} more)") } else { String::new() };
            format!("{}: {}{more}", server.name_and_address(), problem.message)
        }
        (None, [server]) => match server.server.as_ref().and_then(ServerFacts::name_and_version) {
            Some(name) => format!("{}: {name}, no problems found", server.name_and_address()),
            None => format!("{}: no problems found", server.name_and_address()),
        },
        (None, _) => format!("{} servers, no problems found", servers.len()),
    };
    text.replace('|', "/")
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[expect(clippy::ref_option, reason = "the signature that serde requires")]
fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}
