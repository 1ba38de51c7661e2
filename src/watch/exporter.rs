//! The exporter's own counters for a target: polls, failures, and available features.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::histogram::Histogram;
use crate::clock::{Mono, Unix};
use crate::parse::Command;

/// Bucket bounds of request histograms, in seconds.
const REQUEST_BUCKETS: [f64; 6] = [0.001, 0.01, 0.1, 0.5, 1.0, 5.0];

/// Time after which an unavailable feature is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Time after which a feature is tried again if its command was answered with an unrecognized error; doubles
/// each time, up to [`RETRY_AFTER`].
const FIRST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Number of connections lost at a command after which it is considered unavailable. One is enough if another command is
/// already unavailable for this reason.
const CLOSED_AFTER: u32 = 2;

/// The same for SLOWLOG GET. Its reply can exceed the server's output buffer limit, so smaller replies are requested first.
const SLOWLOG_CLOSED_AFTER: u32 = 6;

/// The same for INFO if it has identified the server before, including in a previous process. Without INFO, servers behind the
/// same address can't be distinguished, so repeated network failures must not disable it too early.
const IDENTITY_CLOSED_AFTER: u32 = 20;

/// Creates an empty request histogram.
pub(super) fn request_histogram() -> Histogram {
    static BOUNDS: LazyLock<Arc<[f64]>> = LazyLock::new(|| REQUEST_BUCKETS.into());
    Histogram::new(Arc::clone(&BOUNDS))
}

/// Reason a feature is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The user is not permitted to run the command.
    NotPermitted,
    /// The server does not have the command.
    Unknown,
    /// Servers of this version do not have the command, or nothing depends on it.
    Expected,
    /// The server or a proxy closes the connection when it receives the command.
    Closed,
    /// The command was answered with this unrecognized error.
    Refused(String),
    /// The reply can't be used.
    Unusable(String),
}

/// A command that a server may reject or lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// CLIENT SETNAME.
    ClientName,
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
    pub(crate) const ALL: [Self; 9] = [
        Self::ClientName,
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
            Command::SetName => Some(Self::ClientName),
            Command::FunctionList => None,
        }
    }

    /// Value of the label `feature`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ClientName => "client_name",
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

/// The exporter's own counters for a target.
#[derive(Debug, Clone)]
pub(crate) struct ExporterStats {
    /// Number of polls of SLOWLOG or INFO that were started.
    pub(crate) polls: u64,
    /// Number of failed polls.
    pub(crate) failures: u64,
    /// Number of successful polls.
    pub(crate) successes: u64,
    /// Sum of the durations of successful polls.
    pub(crate) poll_time: Duration,
    /// End of the last successful poll.
    pub(crate) last_poll: Option<Unix>,
    /// Number of BUSY errors that the exporter itself caused and the server counted.
    pub(crate) busy_replies: u64,
    /// Features tried so far.
    capabilities: BTreeMap<Feature, Capability>,
    /// Number of connections lost at each command since it last succeeded.
    lost_at: BTreeMap<Feature, u32>,
}

/// Result of the last attempt to use a feature.
#[derive(Debug, Clone)]
struct Capability {
    /// `None` if the feature is available.
    absence: Option<Absence>,
    /// Time of the attempt.
    at: Mono,
    /// Time until the next attempt, if the feature is not available.
    pause: Duration,
}

impl Default for ExporterStats {
    fn default() -> Self {
        Self {
            polls: 0,
            failures: 0,
            successes: 0,
            poll_time: Duration::ZERO,
            last_poll: None,
            busy_replies: 0,
            capabilities: BTreeMap::new(),
            lost_at: BTreeMap::new(),
        }
    }
}

impl ExporterStats {
    /// True if the feature is available; `None` until it has been tried.
    #[must_use]
    pub(crate) fn capability(&self, feature: Feature) -> Option<bool> {
        self.capabilities.get(&feature).map(|capability| capability.absence.is_none())
    }

    /// True if the feature is available and another success would change nothing.
    #[must_use]
    pub(crate) fn is_settled(&self, feature: Feature) -> bool {
        self.capability(feature) == Some(true) && !self.lost_at.contains_key(&feature)
    }

    /// Returns the reason a feature is not available; `None` if it is available or has not been tried.
    #[must_use]
    pub(crate) fn absence(&self, feature: Feature) -> Option<&Absence> {
        self.capabilities.get(&feature)?.absence.as_ref()
    }

    /// True unless the feature is known to be unavailable and was tried recently.
    pub(super) fn should_try(&self, feature: Feature, now: Mono) -> bool {
        self.capabilities
            .get(&feature)
            .is_none_or(|Capability { absence, at, pause }| absence.is_none() || now.since(*at) >= *pause)
    }

    /// Records the result of an attempt. Returns true if it is to be logged: the feature became unavailable, or available again.
    pub(super) fn set_capability(&mut self, feature: Feature, absence: Option<Absence>, now: Mono) -> bool {
        if absence.is_none() {
            self.lost_at.remove(&feature);
        }
        let is_available = absence.is_none();
        let before = self.capabilities.get(&feature);
        let pause = match (&absence, before) {
            // Another heartbeat replaces PING in the meantime.
            (Some(Absence::Refused(_)), _) if feature == Feature::Ping => RETRY_AFTER,
            (
                Some(Absence::Refused(_)),
                Some(Capability { absence: Some(Absence::Refused(_)), pause, .. }),
            ) => pause.saturating_mul(2).min(RETRY_AFTER),
            (Some(Absence::Refused(_)), _) => FIRST_RETRY_AFTER,
            _ => RETRY_AFTER,
        };
        let was_available = before.is_none_or(|before| before.absence.is_none());
        self.capabilities.insert(feature, Capability { absence, at: now, pause });
        was_available != is_available
    }

    /// Records that the connection was lost before a command was answered. Returns true if that has happened so often that the
    /// command is considered unavailable. `is_identified` is true if INFO has identified the server before.
    pub(super) fn lost_at(&mut self, feature: Feature, is_identified: bool) -> bool {
        let count = self.lost_at.entry(feature).or_default();
        *count = count.saturating_add(1);
        let is_known =
            self.capabilities.values().any(|capability| capability.absence == Some(Absence::Closed));
        let limit = match feature {
            Feature::Info if is_identified => IDENTITY_CLOSED_AFTER,
            _ if is_known => 1,
            Feature::Slowlog => SLOWLOG_CLOSED_AFTER,
            _ => CLOSED_AFTER,
        };
        *count >= limit
    }
}
