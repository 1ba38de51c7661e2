//! Positions in slow logs: the id of the next entry in the log of the server that answers, and in the logs of previous servers.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::baseline::EmptyLog;
use crate::clock::{Mono, Timestamps};
use crate::convert::millis;
use crate::parse::SlowlogPast;

/// Maximum number of other servers whose positions are kept, for addresses that move between servers.
const MAX_OTHERS: usize = 16;

/// Tolerance for the server's uptime, which is in whole seconds.
const UPTIME_SLACK: Duration = Duration::from_secs(2);

/// Position in the log of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Position {
    /// The log was never read: its entries are the baseline.
    Unread(EmptyLog),
    /// The log was empty at first contact, and the next id is not certain.
    Empty {
        /// Assumption in case the log has overflowed by the next poll: true if the ids started at 0.
        from_zero: bool,
    },
    /// Id of the next entry; all entries before it are accounted for.
    Next(u64),
}

impl Position {
    /// Position after an empty log at first contact.
    pub(super) const fn of_empty(log: EmptyLog) -> Self {
        match log {
            EmptyLog::NextIsZero => Self::Next(0),
            EmptyLog::Probably => Self::Empty { from_zero: true },
            EmptyLog::Unknown => Self::Empty { from_zero: false },
        }
    }
}

/// Part of an account that is kept across restarts of the exporter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedAccount {
    run_id: Option<String>,
    position: Position,
    others: VecDeque<(String, u64)>,
    /// Time at which the log was last read to its end, in milliseconds since the Unix epoch.
    read_until: Option<u64>,
}

impl SavedAccount {
    /// Drops the positions in the logs of other servers. Returns true if there were any.
    pub(in crate::watch) fn forget_others(&mut self) -> bool {
        !std::mem::take(&mut self.others).is_empty()
    }
}

/// Identity of the server that answers at the target's address, from INFO.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServerIdentity<'a> {
    /// `run_id`; `None` if the server does not report it.
    pub(crate) run_id: Option<&'a str>,
    /// Time since its start, in whole seconds.
    pub(crate) uptime: Option<Duration>,
    /// History of its slow log, according to its statistics.
    pub(crate) past: Option<SlowlogPast>,
}

/// Server that answers, and the positions in its log and in the logs of other servers.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    /// `run_id` of the server that answers; `None` if it does not report it.
    run_id: Option<String>,
    /// Position in its log.
    position: Position,
    /// Next ids of servers that answered before, the latest first; at most [`MAX_OTHERS`].
    others: VecDeque<(String, u64)>,
    /// True if a server was identified before.
    contacted: bool,
    /// True if the ids went backwards and the server has not been identified since.
    rewound: bool,
    /// True if the position comes from a previous process and the server's log has not confirmed it yet.
    restored: bool,
    /// Time at which a log at this address was last read to its end.
    read_until: Option<Mono>,
    /// Incremented by every change that has to be saved immediately.
    revision: u64,
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            run_id: None,
            position: Position::Unread(EmptyLog::Unknown),
            others: VecDeque::new(),
            contacted: false,
            rewound: false,
            restored: false,
            read_until: None,
            revision: 0,
        }
    }
}

impl Cursor {
    /// Restores the positions saved by a previous process. The monotonic clocks of both processes count from the Unix epoch.
    pub(super) fn restored(saved: SavedAccount) -> Self {
        let SavedAccount { run_id, position, mut others, read_until } = saved;
        others.truncate(MAX_OTHERS);
        let read_until = read_until.map(|at| Mono::from_epoch(Duration::from_millis(at)));
        let cursor = Self { run_id, position, others, read_until, restored: true, ..Self::default() };
        // A process that never reached the server saved nothing to resume from, so this is the first contact.
        Self { contacted: cursor.is_begun(), ..cursor }
    }

    /// Returns the part to keep across restarts of the exporter.
    pub(super) fn saved(&self, now: Timestamps) -> SavedAccount {
        SavedAccount {
            run_id: self.run_id.clone(),
            position: self.position,
            others: self.others.clone(),
            read_until: self.read_until.map(|at| millis(now.unix_of(at).since_epoch())),
        }
    }

    /// True if a server was ever identified or its log was ever read; otherwise there is nothing to resume from.
    pub(super) fn is_begun(&self) -> bool {
        self.run_id.is_some() || !matches!(self.position, Position::Unread(_))
    }

    /// True if the server that answers, or was the last to answer, reported its `run_id`.
    pub(super) fn is_identified(&self) -> bool {
        self.run_id.is_some()
    }

    /// Position in the log of the server that answers.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Number incremented by every change that has to be saved immediately.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Sets the position; a change has to be saved immediately.
    pub(super) fn move_to(&mut self, position: Position) {
        if self.position != position {
            self.position = position;
            self.revision = self.revision.saturating_add(1);
        }
    }

    /// Records that an empty log at first contact does not show where the ids begin.
    pub(super) fn forget_first_id(&mut self) {
        if matches!(self.position, Position::Unread(_)) {
            self.position = Position::Unread(EmptyLog::Unknown);
        }
    }

    /// Moves the position past entries that are consistent with the previous position.
    pub(super) fn advance(&mut self, newest: u64) {
        self.move_to(Position::Next(newest.saturating_add(1)));
        self.restored = false;
    }

    /// Records that the ids went backwards, so another server process answers.
    pub(super) fn rewind(&mut self) {
        self.rewound = true;
    }

    /// Records that the log was read to its end. Returns the time since the previous such read.
    pub(super) fn read_to_end(&mut self, now: Mono) -> Duration {
        now.since(self.read_until.replace(now).unwrap_or_default())
    }

    /// Records the identity of the server that answers. Returns true at first contact, or if the server is known
    /// to differ from the previous one.
    pub(super) fn identify(&mut self, server: ServerIdentity<'_>, now: Mono) -> bool {
        let rewound = std::mem::take(&mut self.rewound);
        let same =
            server.run_id.is_none() || self.run_id.is_none() || server.run_id == self.run_id.as_deref();
        if self.contacted && same {
            self.run_id = server.run_id.map(str::to_owned).or(self.run_id.take());
            if rewound {
                // Without a run_id, ids that go backwards are the only sign of a restart. However, a saved position that never
                // matched the log of this server is invalid.
                let never_fitted = self.restored && server.run_id.is_some();
                self.move_to(if never_fitted {
                    Position::Unread(EmptyLog::Unknown)
                } else {
                    Position::Next(0)
                });
            }
            return false;
        }
        if let (Some(run_id), Position::Next(next)) = (self.run_id.take(), self.position) {
            self.others.retain(|(other, _)| *other != run_id);
            self.others.push_front((run_id, next));
            self.others.truncate(MAX_OTHERS);
        }
        let index = self.others.iter().position(|(other, _)| Some(other.as_str()) == server.run_id);
        // The log of a process that started after the previous server's log was read contains only entries written since.
        let latest_start = server.uptime.map(|uptime| now + UPTIME_SLACK - uptime);
        let restarted = self.contacted
            && matches!((latest_start, self.read_until), (Some(started), Some(read)) if started >= read);
        self.position = match index.and_then(|index| self.others.remove(index)) {
            Some((_, next)) => Position::Next(next),
            None if restarted => Position::Next(0),
            None => Position::Unread(EmptyLog::of(server.past, server.uptime)),
        };
        self.restored = false;
        self.revision = self.revision.saturating_add(1);
        self.run_id = server.run_id.map(str::to_owned);
        self.contacted = true;
        true
    }
}
