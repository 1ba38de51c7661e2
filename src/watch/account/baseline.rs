//! First contact with a server's slow log: its entries are the baseline, and an empty log may show where the ids begin.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::parse::SlowlogPast;

/// Uptime below which a slow log is assumed never to have been reset, if the statistics are unclear.
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
    /// Interprets an empty log from the statistics about its past or, if these are unclear, from the server's uptime.
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
