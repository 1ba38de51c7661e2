//! Slow calls and their severity.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::script::{Call, Label};

/// Severity of a slow call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// At or above `--slow.warning`.
    Warning,
    /// At or above `--slow.critical`.
    Critical,
}

impl Severity {
    /// Both severities, in ascending order.
    pub(crate) const ALL: [Self; 2] = [Self::Warning, Self::Critical];

    /// Value of the label `severity`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Minimum durations of slow calls; `warning` is at most `critical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thresholds {
    /// Minimum duration of a call of severity `warning`.
    pub(crate) warning: Duration,
    /// Minimum duration of a call of severity `critical`, which is also counted as `warning`.
    pub(crate) critical: Duration,
}

impl Thresholds {
    /// Minimum duration of a call of this severity.
    #[must_use]
    pub(crate) fn of(&self, severity: Severity) -> Duration {
        match severity {
            Severity::Warning => self.warning,
            Severity::Critical => self.critical,
        }
    }
}

/// A script call at or above a threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlowCall {
    /// Id of the slow log entry.
    pub(crate) id: u64,
    /// End, in whole seconds since the Unix epoch by the exporter's clock.
    pub(crate) ended_at: u64,
    /// Highest severity that the call reached.
    pub(crate) severity: Severity,
    /// The call.
    pub(crate) call: Call,
    /// Label under which it was counted.
    pub(crate) label: Label,
    /// Run time.
    pub(crate) duration: Duration,
    /// Address of the client.
    pub(crate) client: String,
    /// Name set by the client.
    pub(crate) client_name: String,
    /// First keys, if `--web.show-keys` is set; never in a log line or the state file.
    #[serde(skip)]
    pub(crate) keys: Vec<String>,
}
