//! The exporter's own numbers about a target: polls, failures, and what the server lets us ask.

use std::collections::BTreeMap;
use std::time::Duration;

use super::histogram::Histogram;
use crate::clock::{Mono, Unix};
use crate::parse::ErrorReply;

/// Bounds for durations of single requests, seconds.
const REQUEST_BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What the server does not let us ask is tried again after this time.
const RETRY_REFUSED: Duration = Duration::from_secs(60);

/// An empty histogram for durations of single requests.
pub(super) fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_BUCKETS.into())
}

/// Why a poll failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureReason {
    /// The server answered BUSY.
    Busy,
    /// The connection broke.
    Connection,
    /// The data set is being loaded.
    Loading,
    /// The reply was not of the form that the command promises.
    Malformed,
    /// The user may not run the command, or the server does not have it.
    Permission,
    /// Another error reply.
    Refused,
    /// The reply was larger than the exporter takes.
    TooLarge,
    /// The server does not accept who we are.
    Unauthorized,
}

impl FailureReason {
    /// All of them.
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

    /// Why a poll failed that was refused in this way.
    #[must_use]
    pub(crate) const fn of(refusal: &ErrorReply) -> Self {
        match refusal {
            ErrorReply::Busy { .. } => Self::Busy,
            ErrorReply::Loading | ErrorReply::MasterDown => Self::Loading,
            ErrorReply::Unauthorized { .. } => Self::Unauthorized,
            ErrorReply::NoPermission | ErrorReply::Unknown => Self::Permission,
            ErrorReply::Other { .. } => Self::Refused,
        }
    }

    /// The value of the label `reason`.
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

/// Something that a server may let us ask or not.
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
    /// SCRIPT SHOW: sources for the status page.
    ScriptShow,
    /// SLOWLOG GET.
    Slowlog,
    /// SLOWLOG LEN.
    SlowlogLength,
    /// MULTI and EXEC: the heartbeat that draws no BUSY error.
    Transaction,
}

impl Feature {
    /// All of them.
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

    /// The value of the label `feature`.
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
pub(crate) struct ExporterNumbers {
    /// Polls of SLOWLOG or INFO that were begun.
    pub(crate) polls: u64,
    /// Those that failed; every reason exists.
    pub(crate) failures: BTreeMap<FailureReason, u64>,
    /// How long answered polls took.
    pub(crate) poll_duration: Histogram,
    /// When a poll was last answered.
    pub(crate) last_poll: Option<Unix>,
    /// BUSY errors that the exporter itself drew and the server counted.
    pub(crate) busy_replies: u64,
    /// What the server lets us ask, and since when this is known; missing until it is.
    capabilities: BTreeMap<Feature, (bool, Mono)>,
}

impl Default for ExporterNumbers {
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

impl ExporterNumbers {
    /// Whether the server lets us ask this; `None` until it is known.
    #[must_use]
    pub(crate) fn capability(&self, feature: Feature) -> Option<bool> {
        self.capabilities.get(&feature).map(|(available, _)| *available)
    }

    /// Whether to ask this at `now`: it is not known to be refused, or it is time to try again.
    pub(super) fn worth_asking(&self, feature: Feature, now: Mono) -> bool {
        let known = self.capabilities.get(&feature);
        known.is_none_or(|(available, since)| *available || now.since(*since) >= RETRY_REFUSED)
    }

    /// Notes whether the server lets us ask this. Returns whether that is news worth telling: it was refused,
    /// or is no longer.
    pub(super) fn set_capability(&mut self, feature: Feature, available: bool, now: Mono) -> bool {
        let before = self.capabilities.insert(feature, (available, now));
        before.is_none_or(|(before, _)| before) != available
    }
}
