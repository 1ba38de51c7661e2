//! A problem, and the list of codes.

use serde::{Serialize, Serializer};

use crate::text::{Fix, capitalized};
use crate::watch::Severity;

/// Part of the observations that a problem hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Impact {
    /// All script calls, or the server as a whole.
    Blind,
    /// Some script calls, or other metrics.
    Partial,
    /// Nothing, or a detail.
    Note,
}

/// A problem of a target. It is serialized as `docs/check.md` describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    pub(crate) impact: Impact,
    pub(crate) code: Code,
    /// Clause without a full stop that follows the name of the target.
    pub(crate) message: String,
    /// Consequences and remedies, in complete sentences.
    pub(crate) advice: Vec<String>,
    /// Commands that solve the problem; one of them applies.
    pub(crate) commands: Vec<Fix>,
    /// Command that shows whether the problem persists.
    pub(crate) test: Option<Fix>,
}

impl Problem {
    /// Creates a problem without advice.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        let (severity, impact) = (code.severity(), code.impact());
        let (message, advice, commands) = (message.into(), Vec::new(), Vec::new());
        Self { severity, impact, code, message, advice, commands, test: None }
    }

    /// True if the problem is that the server is blocked.
    pub(crate) fn is_blockage(&self) -> bool {
        matches!(self.code, Code::Blocked | Code::Busy)
    }

    /// Adds a sentence of advice.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice.push(advice.into());
        self
    }

    /// Adds a command that solves the problem.
    pub(super) fn fix(mut self, fix: Fix) -> Self {
        self.commands.push(fix);
        self
    }

    /// Sets the command that shows whether the problem persists.
    pub(super) fn test(mut self, test: Fix) -> Self {
        self.test = Some(test);
        self
    }

    /// Returns the problem as running text: message and advice, without the commands.
    pub(crate) fn sentences(&self) -> String {
        let mut text = format!("{}.", capitalized(&self.message));
        for advice in &self.advice {
            text.extend([" ", advice]);
        }
        text
    }
}

/// Declares the codes, one per row, with their text, severity and usual impact.
macro_rules! codes {
    ($($code:ident = $text:literal, $severity:ident, $impact:ident;)*) => {
        /// Machine-readable code of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Code {
            $($code,)*
        }

        impl Code {
            /// All codes.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$code,)*];

            /// Returns the code as a string.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            /// Returns the severity, which decides the exit code of `check`.
            pub(crate) const fn severity(self) -> Severity {
                match self { $(Self::$code => Severity::$severity,)* }
            }

            /// Returns the usual impact.
            pub(crate) const fn impact(self) -> Impact {
                match self { $(Self::$code => Impact::$impact,)* }
            }
        }
    };
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

codes! {
    Unreachable = "unreachable", Critical, Blind;
    Tls = "tls", Critical, Blind;
    Unauthorized = "unauthorized", Critical, Blind;
    Busy = "busy", Critical, Note;
    Blocked = "blocked", Critical, Note;
    Loading = "loading", Warning, Note;
    Stalled = "stalled", Warning, Note;
    Sentinel = "sentinel", Critical, Blind;
    SlowlogUnavailable = "slowlog_unavailable", Critical, Blind;
    ConfigUnavailable = "config_unavailable", Warning, Partial;
    InfoUnavailable = "info_unavailable", Warning, Partial;
    FunctionStatsUnavailable = "function_stats_unavailable", Warning, Note;
    PingUnavailable = "ping_unavailable", Warning, Note;
    TransactionUnavailable = "transaction_unavailable", Warning, Note;
    SlowlogLengthUnavailable = "slowlog_length_unavailable", Warning, Note;
    ClientNameUnavailable = "client_name_unavailable", Warning, Note;
    SlowlogOff = "slowlog_off", Warning, Blind;
    SlowlogLengthZero = "slowlog_length_zero", Warning, Blind;
    SlowlogFlooded = "slowlog_flooded", Warning, Note;
    SlowlogThresholdHigh = "slowlog_threshold_high", Warning, Partial;
    SlowlogSmall = "slowlog_small", Warning, Note;
    TimeLimitOff = "time_limit_off", Warning, Note;
    TimeLimitLong = "time_limit_long", Warning, Note;
    GuardNotReady = "guard_not_ready", Warning, Note;
    GuardBelowTimeLimit = "guard_below_time_limit", Warning, Note;
    SlowlogStale = "slowlog_stale", Warning, Blind;
    SlowlogUnreadable = "slowlog_unreadable", Warning, Partial;
    SlowlogTooLarge = "slowlog_too_large", Warning, Blind;
    ErrorCountsOff = "error_counts_off", Warning, Note;
    InfoIncomplete = "info_incomplete", Warning, Partial;
    EntriesLost = "entries_lost", Warning, Partial;
    ScriptOverflow = "script_overflow", Warning, Note;
    ShortCalls = "short_calls", Warning, Note;
    SeveralAddresses = "several_addresses", Warning, Partial;
    RareHeartbeats = "rare_heartbeats", Warning, Partial;
    SlowScripts = "slow_scripts", Warning, Note;
}
