//! First contact with a server's log: its entries are the baseline, and an empty log may say where the ids begin.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::parse::SlowlogPast;

/// Uptime below which a slow log is taken as never reset, where the statistics don't say.
const RECENT_START: Duration = Duration::from_secs(3600);

/// Meaning of an empty log at first contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EmptyLog {
    /// Nothing was ever written: the next id is 0.
    NextIsZero,
    /// Probably nothing was ever written.
    Probably,
    /// The log was reset: the next id can be any.
    Unknown,
}

impl EmptyLog {
    /// Judges by what the statistics say about the log's past, or else by the server's uptime.
    pub(super) fn of(past: Option<SlowlogPast>, uptime: Option<Duration>) -> Self {
        match past {
            Some(SlowlogPast::Untouched) => Self::NextIsZero,
            Some(SlowlogPast::Unclear) if uptime.is_some_and(|uptime| uptime < RECENT_START) => {
                Self::Probably
            }
            _ => Self::Unknown,
        }
    }
}
