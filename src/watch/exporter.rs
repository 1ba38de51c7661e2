//! The exporter's own numbers about a target: polls, failures, and available features.

use std::collections::BTreeMap;
use std::time::Duration;

use super::histogram::Histogram;
use crate::clock::{Mono, Unix};
use crate::parse::{Command, ErrorReply};

/// Bounds of histograms of single requests, in seconds.
const REQUEST_BUCKETS: [f64; 6] = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0];

/// Time after which an unavailable feature is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Creates an empty histogram of single requests.
pub(super) fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_BUCKETS.into())
}

/// Reason for a failed poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureReason {
    /// The server answered BUSY.
    Busy,
    /// The connection broke.
    Connection,
    /// The server loads its data set.
    Loading,
    /// The reply was not of the documented form.
    Malformed,
    /// The user lacks the permission, or the server lacks the command.
    Permission,
    /// Another error reply.
    Refused,
    /// The reply exceeded the limit on replies.
    TooLarge,
    /// The server rejected the exporter's credentials.
    Unauthorized,
}

impl FailureReason {
    /// All reasons.
    pub(crate) const ALL: [Self; 8] = [
        Self::Busy,
        Self::Connection,
        Self::Loading,
        Self::Malformed,
        Self::Permission,
        Self::Refused,
        Self::TooLarge,
        Self::Unauthorized,
    ];

    /// Reason for a poll that was answered with this error.
    #[must_use]
    pub(crate) const fn of(reply: &ErrorReply) -> Self {
        match reply {
            ErrorReply::Busy { .. } => Self::Busy,
            ErrorReply::Loading | ErrorReply::MasterDown => Self::Loading,
            ErrorReply::Unauthorized { .. } => Self::Unauthorized,
            ErrorReply::NoPermission | ErrorReply::Unknown => Self::Permission,
            ErrorReply::Other { .. } => Self::Refused,
        }
    }

    /// Value of the label `reason`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Connection => "connection",
            Self::Loading => "loading",
            Self::Malformed => "malformed",
            Self::Permission => "permission",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Unauthorized => "unauthorized",
        }
    }
}

/// A command that a server may reject or lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// CONFIG GET.
    Config,
    /// FUNCTION STATS.
    FunctionStats,
    /// INFO.
    Info,
    /// PING.
    Ping,
    /// SCRIPT SHOW: sources of scripts for the status page.
    ScriptShow,
    /// SLOWLOG GET.
    Slowlog,
    /// SLOWLOG LEN.
    SlowlogLength,
    /// MULTI and EXEC: a heartbeat that causes no BUSY error.
    Transaction,
}

impl Feature {
    /// All features.
    pub(crate) const ALL: [Self; 8] = [
        Self::Config,
        Self::FunctionStats,
        Self::Info,
        Self::Ping,
        Self::ScriptShow,
        Self::Slowlog,
        Self::SlowlogLength,
        Self::Transaction,
    ];

    /// Returns the feature that is available if the command succeeds; `None` if nothing depends on it.
    #[must_use]
    pub(crate) const fn of(command: Command) -> Option<Self> {
        match command {
            Command::Ping => Some(Self::Ping),
            Command::Transaction => Some(Self::Transaction),
            Command::Info(_) => Some(Self::Info),
            Command::SlowlogGet(_) => Some(Self::Slowlog),
            Command::ConfigGet(_) => Some(Self::Config),
            Command::FunctionStats => Some(Self::FunctionStats),
            Command::SlowlogLen => Some(Self::SlowlogLength),
            Command::ScriptShow(_) => Some(Self::ScriptShow),
            Command::FunctionList | Command::SetName => None,
        }
    }

    /// Value of the label `feature`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::FunctionStats => "function_stats",
            Self::Info => "info",
            Self::Ping => "ping",
            Self::ScriptShow => "script_show",
            Self::Slowlog => "slowlog",
            Self::SlowlogLength => "slowlog_length",
            Self::Transaction => "transaction",
        }
    }
}

/// The exporter's own numbers about a target.
#[derive(Debug, Clone)]
pub(crate) struct ExporterStats {
    /// Number of polls of SLOWLOG or INFO that were started.
    pub(crate) polls: u64,
    /// Number of failed polls by reason; every reason exists.
    pub(crate) failures: BTreeMap<FailureReason, u64>,
    /// Durations of successful polls.
    pub(crate) poll_duration: Histogram,
    /// End of the last successful poll.
    pub(crate) last_poll: Option<Unix>,
    /// Number of BUSY errors that the exporter itself caused and the server counted.
    pub(crate) busy_replies: u64,
    /// Availability of features that were tried, and the time of the last try.
    capabilities: BTreeMap<Feature, (bool, Mono)>,
}

impl Default for ExporterStats {
    fn default() -> Self {
        Self {
            polls: 0,
            failures: FailureReason::ALL.map(|reason| (reason, 0)).into(),
            poll_duration: request_histogram(),
            last_poll: None,
            busy_replies: 0,
            capabilities: BTreeMap::new(),
        }
    }
}

impl ExporterStats {
    /// True if the feature is available; `None` until it was tried.
    #[must_use]
    pub(crate) fn capability(&self, feature: Feature) -> Option<bool> {
        self.capabilities.get(&feature).map(|(available, _)| *available)
    }

    /// True unless the feature is known to be unavailable and was tried less than [`RETRY_AFTER`] ago.
    pub(super) fn should_try(&self, feature: Feature, now: Mono) -> bool {
        let last = self.capabilities.get(&feature);
        last.is_none_or(|(available, at)| *available || now.since(*at) >= RETRY_AFTER)
    }

    /// Notes the result of a try. Returns true if it is to be logged: the feature became unavailable, or available again.
    pub(super) fn set_capability(&mut self, feature: Feature, available: bool, now: Mono) -> bool {
        let before = self.capabilities.insert(feature, (available, now));
        before.is_none_or(|(before, _)| before) != available
    }
}
