//! Callers with the most calls of a script, in bounded memory.
//!
//! The algorithm is Space-Saving (Metwally, Agrawal, El Abbadi 2005). A fixed number of callers is counted. A new caller replaces
//! the one with the fewest calls and inherits its count, which bounds the error of the new count. Every caller with more than
//! 1/[`MAX_CALLERS`] of a script's calls is therefore counted, and the error of a count is at most 1/[`MAX_CALLERS`] of the calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::convert::micros;

/// Maximum number of callers that are counted per script and command.
const MAX_CALLERS: usize = 16;

/// Identity of a client that is stable across its connections.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Caller {
    /// Address without the port, or path of a unix socket; empty if unknown.
    pub(crate) host: Arc<str>,
    /// Name set by the client; often empty.
    pub(crate) name: Arc<str>,
}

impl Caller {
    /// Creates a caller from a client's address and name.
    #[must_use]
    pub(crate) fn new(client: &str, name: &str) -> Self {
        Self { host: host(client).into(), name: name.into() }
    }

    /// True if neither address nor name is known.
    fn is_unknown(&self) -> bool {
        self.host.is_empty() && self.name.is_empty()
    }
}

/// Returns the address without its port. Servers report a unix socket as `PATH:0`, an IPv6 address in brackets, and no address as `?:0`.
fn host(client: &str) -> &str {
    match client.rsplit_once(':') {
        Some(("?", _)) => "",
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => client,
    }
}

/// Calls of one caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calls {
    /// Maximum number of calls.
    pub(crate) at_most: u64,
    /// Number of those calls that may belong to other callers.
    pub(crate) uncertain: u64,
    /// Total duration of the calls that are certainly its own, µs.
    pub(crate) micros: u64,
    /// End of the latest call, in seconds since the Unix epoch by the exporter's clock.
    pub(crate) last_seen: u64,
}

/// Callers with the most calls of one script run by one command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Callers {
    /// At most [`MAX_CALLERS`].
    counted: BTreeMap<Caller, Calls>,
}

impl Callers {
    /// Counts a call.
    pub(super) fn count(&mut self, caller: Caller, duration: Duration, ended_at: u64) {
        if caller.is_unknown() {
            return;
        }
        self.add(caller, Calls { at_most: 1, uncertain: 0, micros: micros(duration), last_seen: ended_at });
    }

    /// Adds calls of a caller.
    fn add(&mut self, caller: Caller, more: Calls) {
        if !self.counted.contains_key(&caller) && self.counted.len() >= MAX_CALLERS {
            let inherited = self.evict_lightest();
            self.counted.insert(
                caller.clone(),
                Calls { at_most: inherited, uncertain: inherited, ..Calls::default() },
            );
        }
        let calls = self.counted.entry(caller).or_default();
        calls.at_most = calls.at_most.saturating_add(more.at_most);
        calls.uncertain = calls.uncertain.saturating_add(more.uncertain);
        calls.micros = calls.micros.saturating_add(more.micros);
        calls.last_seen = calls.last_seen.max(more.last_seen);
    }

    /// Returns the callers to keep across restarts of the exporter.
    pub(super) fn saved(&self) -> Vec<(Caller, Calls)> {
        self.counted.iter().map(|(caller, calls)| (caller.clone(), *calls)).collect()
    }

    /// Adds callers saved by a previous process.
    pub(super) fn add_saved(&mut self, saved: &[(Caller, Calls)]) {
        for (caller, calls) in saved.iter().take(MAX_CALLERS) {
            self.add(caller.clone(), *calls);
        }
    }

    /// Removes the caller with the fewest calls. Returns its number of calls.
    fn evict_lightest(&mut self) -> u64 {
        let lightest = self.counted.iter().min_by_key(|(_, calls)| (calls.at_most, calls.last_seen));
        let lightest = lightest.map(|(caller, calls)| (caller.clone(), calls.at_most));
        lightest.map_or(0, |(caller, calls)| {
            self.counted.remove(&caller);
            calls
        })
    }

    /// Counted callers.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (&Caller, &Calls)> {
        self.counted.iter()
    }

    /// Maximum number of calls by an uncounted caller.
    #[must_use]
    pub(crate) fn uncounted_at_most(&self) -> u64 {
        if self.counted.len() < MAX_CALLERS {
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
        callers.count(Caller::new("10.0.0.9:1", "worker"), Duration::from_millis(2), 10);
        callers.count(Caller::new("10.0.0.9:2", "worker"), Duration::from_millis(3), 9);
        callers.count(Caller::new("?:0", ""), Duration::from_millis(3), 11);
        let (caller, calls) = callers.counted().next().unwrap();
        assert_eq!((&*caller.name, callers.counted().count()), ("worker", 1));
        assert_eq!(*calls, Calls { at_most: 2, uncertain: 0, micros: 5000, last_seen: 10 });
    }

    #[test]
    fn saved_callers_are_continued_and_stay_bounded() {
        let mut before = Callers::default();
        for n in 0..MAX_CALLERS {
            before.count(Caller::new(&format!("10.0.0.{n}:1"), ""), Duration::from_millis(2), 10);
        }
        let mut after = Callers::default();
        after.add_saved(&before.saved());
        assert_eq!(after.saved(), before.saved());
        after.count(Caller::new("10.0.0.3:9", ""), Duration::from_millis(3), 12);
        after.count(Caller::new("10.0.1.1:9", ""), Duration::from_millis(3), 12);
        let counted: HashMap<&Caller, &Calls> = after.counted().collect();
        assert_eq!(counted.len(), MAX_CALLERS);
        let known = Calls { at_most: 2, uncertain: 0, micros: 5000, last_seen: 12 };
        assert_eq!(counted[&Caller::new("10.0.0.3:1", "")], &known);
        let new = Calls { at_most: 2, uncertain: 1, micros: 3000, last_seen: 12 };
        assert_eq!(counted[&Caller::new("10.0.1.1:1", "")], &new, "it may be one that was displaced");
    }

    proptest! {
        #[test]
        fn callers_with_many_calls_are_counted_within_the_error(
            calls in prop::collection::vec((0_u32..60).prop_map(|n| n * n / 60), 1..600),
        ) {
            let mut callers = Callers::default();
            let mut truth: HashMap<Caller, u64> = HashMap::new();
            for number in &calls {
                let caller = Caller::new(&format!("10.0.0.{number}:1"), "");
                *truth.entry(caller.clone()).or_default() += 1;
                callers.count(caller, Duration::from_millis(1), 1);
            }
            let share = u64::try_from(calls.len() / MAX_CALLERS).unwrap();
            let counted: HashMap<&Caller, &Calls> = callers.counted().collect();
            prop_assert!(counted.len() <= MAX_CALLERS);
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
