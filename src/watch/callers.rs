//! Who calls a script: the heaviest callers, in bounded memory.
//!
//! The method is Space-Saving (Metwally, Agrawal, El Abbadi 2005): a fixed number of callers is counted; a new one takes
//! the place of the one with the fewest calls and inherits its count as what it may be counted too high. So whoever made
//! more than 1/[`COUNTED`] of a script's calls is among them, and no count is off by more than 1/[`COUNTED`] of the calls.
//!
//! Kept in memory only: who a client is never gets into a file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::convert::micros;

/// Callers that are counted per script and command.
const COUNTED: usize = 16;

/// A client, as far as it stays the same over connections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Caller {
    /// Its address without the port; a unix socket's path; empty if it is not known.
    pub(crate) host: Arc<str>,
    /// The name that it gave itself; often empty.
    pub(crate) name: Arc<str>,
}

impl Caller {
    /// The client at this address, of this name.
    #[must_use]
    pub(crate) fn new(client: &str, name: &str) -> Self {
        Self { host: host(client).into(), name: name.into() }
    }

    /// Whether nothing is known of it.
    fn is_unknown(&self) -> bool {
        self.host.is_empty() && self.name.is_empty()
    }
}

/// An address without its port. The server writes unix sockets as `PATH:0`, IPv6 in brackets, and `?:0` for none.
fn host(client: &str) -> &str {
    match client.rsplit_once(':') {
        Some(("?", _)) => "",
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => client,
    }
}

/// The calls of one caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// Calls at the most.
    pub(crate) at_most: u64,
    /// How many of them may be somebody else's.
    pub(crate) uncertain: u64,
    /// Time of the calls that are surely its own, µs.
    pub(crate) micros: u64,
    /// When the latest ended, in seconds since the Unix epoch by the server's clock.
    pub(crate) last_seen: u64,
}

/// The heaviest callers of one script.
#[derive(Debug, Clone, Default)]
pub(crate) struct Callers {
    /// At most [`COUNTED`].
    counted: BTreeMap<Caller, Calls>,
}

impl Callers {
    /// Counts one call.
    pub(super) fn take(&mut self, caller: Caller, duration: Duration, ended_at: u64) {
        if caller.is_unknown() {
            return;
        }
        if !self.counted.contains_key(&caller) && self.counted.len() >= COUNTED {
            let inherited = self.replace_lightest();
            self.counted.insert(
                caller.clone(),
                Calls { at_most: inherited, uncertain: inherited, ..Calls::default() },
            );
        }
        let calls = self.counted.entry(caller).or_default();
        calls.at_most = calls.at_most.saturating_add(1);
        calls.micros = calls.micros.saturating_add(micros(duration));
        calls.last_seen = calls.last_seen.max(ended_at);
    }

    /// Makes room; gives the calls of the one that went.
    fn replace_lightest(&mut self) -> u64 {
        let lightest = self.counted.iter().min_by_key(|(_, calls)| (calls.at_most, calls.last_seen));
        let lightest = lightest.map(|(caller, calls)| (caller.clone(), calls.at_most));
        lightest.map_or(0, |(caller, calls)| {
            self.counted.remove(&caller);
            calls
        })
    }

    /// The callers that are counted.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (&Caller, &Calls)> {
        self.counted.iter()
    }

    /// Calls that somebody who is not counted may have made at the most.
    #[must_use]
    pub(crate) fn uncounted_at_most(&self) -> u64 {
        if self.counted.len() < COUNTED {
            return 0;
        }
        self.counted.values().map(|calls| calls.at_most).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_client_is_the_same_over_its_connections() {
        for (client, host) in [
            ("10.0.0.9:34154", "10.0.0.9"),
            ("[::1]:5", "[::1]"),
            ("/run/redis.sock:0", "/run/redis.sock"),
            ("?:0", ""),
            ("", ""),
        ] {
            assert_eq!(&*Caller::new(client, "").host, host);
        }
        let mut callers = Callers::default();
        callers.take(Caller::new("10.0.0.9:1", "worker"), Duration::from_millis(2), 10);
        callers.take(Caller::new("10.0.0.9:2", "worker"), Duration::from_millis(3), 9);
        callers.take(Caller::new("?:0", ""), Duration::from_millis(3), 11);
        let (caller, calls) = callers.counted().next().unwrap();
        assert_eq!((&*caller.name, callers.counted().count()), ("worker", 1));
        assert_eq!(*calls, Calls { at_most: 2, uncertain: 0, micros: 5000, last_seen: 10 });
    }

    proptest! {
        #[test]
        fn the_heavy_ones_are_counted_and_no_count_is_far_off(
            calls in prop::collection::vec((0_u32..60).prop_map(|n| n * n / 60), 1..600),
        ) {
            let mut callers = Callers::default();
            let mut truth: HashMap<Caller, u64> = HashMap::new();
            for number in &calls {
                let caller = Caller::new(&format!("10.0.0.{number}:1"), "");
                *truth.entry(caller.clone()).or_default() += 1;
                callers.take(caller, Duration::from_millis(1), 1);
            }
            let share = u64::try_from(calls.len() / COUNTED).unwrap();
            let counted: HashMap<&Caller, &Calls> = callers.counted().collect();
            prop_assert!(counted.len() <= COUNTED);
            for (caller, true_calls) in &truth {
                match counted.get(caller) {
                    Some(calls) => {
                        prop_assert!(calls.at_most >= *true_calls && calls.uncertain <= share);
                        prop_assert!(calls.at_most - calls.uncertain <= *true_calls);
                    }
                    None => prop_assert!(*true_calls <= callers.uncounted_at_most().min(share)),
                }
            }
        }
    }
}
