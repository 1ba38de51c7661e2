//! Limit on the new targets of one entry, because a server can announce any number of made-up servers.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Mono;
use crate::config::Endpoint;

/// Long-term interval between new servers: 200 per minute.
const INTERVAL: Duration = Duration::from_millis(300);

/// Number of new servers that are admitted immediately. Redis Cluster is specified for up to 1,000 nodes.
const BURST: u32 = 1000;

/// Number of servers without any connection so far, from which on no others are admitted.
pub(super) const MAX_UNREACHED: usize = 1000;

/// Token bucket that limits the number of new servers.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    /// Servers that were admitted in the last round.
    known: BTreeSet<Endpoint>,
    /// Time at which the bucket is full again; each new server delays it by [`INTERVAL`].
    full_at: Mono,
}

impl Newcomers {
    /// Removes the new servers above the limits from `found`, and returns their number. They are admitted in later rounds.
    /// `unreached` is the number of admitted servers to which there has been no connection so far.
    pub(super) fn limit(&mut self, found: &mut BTreeSet<Endpoint>, unreached: usize, now: Mono) -> usize {
        let before = found.len();
        let burst = INTERVAL.saturating_mul(BURST);
        let mut room = MAX_UNREACHED.saturating_sub(unreached);
        let Self { known, full_at } = self;
        found.retain(|endpoint| {
            if known.contains(endpoint) {
                return true;
            }
            let next = (*full_at).max(now) + INTERVAL;
            let admitted = room > 0 && next.since(now) <= burst;
            if admitted {
                *full_at = next;
                room -= 1;
            }
            admitted
        });
        self.known.clone_from(found);
        before - found.len()
    }

    /// Returns the servers that were admitted in the last round.
    pub(super) fn known(&self) -> impl Iterator<Item = &Endpoint> {
        self.known.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(first: usize, count: usize) -> BTreeSet<Endpoint> {
        (first..first + count).map(|number| Endpoint::Tcp(format!("host{number}"), 6379)).collect()
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_epoch(Duration::from_secs(10_000 + seconds))
    }

    #[test]
    fn a_large_entry_is_watched_at_once_but_made_up_servers_are_limited() {
        let mut newcomers = Newcomers::default();
        let mut all = servers(0, 1000);
        assert_eq!(newcomers.limit(&mut all, 0, at(0)), 0);
        // Other servers are found every 4 s.
        let mut admitted = 0;
        for (round, seconds) in (1..=15).zip((4..).step_by(4)) {
            let mut found = servers(round * 2000, 1900);
            let left_out = newcomers.limit(&mut found, 0, at(seconds));
            assert_eq!(left_out + found.len(), 1900);
            admitted += found.len();
        }
        assert_eq!(admitted, 200, "in a minute");
    }

    #[test]
    fn servers_above_the_limit_are_admitted_later_and_stay() {
        let mut newcomers = Newcomers::default();
        newcomers.limit(&mut servers(0, 1000), 0, at(0));
        let wanted = servers(5000, 300);
        let mut watched = 0;
        for second in 0..=91 {
            let mut found = wanted.clone();
            newcomers.limit(&mut found, 0, at(second));
            assert!(found.len() >= watched, "none is dropped again");
            watched = found.len();
        }
        assert_eq!(watched, 300);
    }

    #[test]
    fn servers_that_never_existed_leave_no_room_for_others() {
        let mut newcomers = Newcomers::default();
        newcomers.limit(&mut servers(0, 990), 0, at(0));
        for (unreached, admitted) in [(990, 10), (1000, 0), (1001, 0), (400, 600)] {
            let mut found = servers(0, 2000);
            let known = newcomers.known().count();
            newcomers.limit(&mut found, unreached, at(600));
            assert_eq!(found.len() - known, admitted, "{unreached} without a connection");
        }
    }
}
