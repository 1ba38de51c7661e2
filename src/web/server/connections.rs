//! Limit on HTTP connections, and eviction when there are too many or they hold too much memory.
//!
//! The client with the most connections loses one, so a client that opens thousands per second does not lock out others. Of
//! its connections, those waiting for a request are evicted first, in the order in which they began to wait, because
//! closing them does not lose a scrape. A connection with a response in progress is evicted only if none of the client's
//! connections is waiting, and only if the response is stalled or slow. A flood of new connections therefore evicts itself,
//! not scrapes in progress. As the only exception, a client that has more than half of all connections loses its oldest one
//! if no connection may be evicted otherwise.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::body::BodyId;

/// Maximum number of connections over all listeners.
pub(crate) const MAX_CONNECTIONS: usize = 512;

/// Time without write progress after which a response is stalled and its connection may be evicted.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// Age after which a response is slow and its connection may be evicted, even while it makes progress.
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// Interval between attempts to evict a connection while none may be evicted.
const EVICTION_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum size of the outdated bodies that slow clients keep in memory, in bytes.
const MAX_STALE_BYTES: usize = 16 << 20;

/// Number of outdated bodies that are kept regardless of their size.
const MIN_STALE_BODIES: usize = 2;

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: Mutex<Table>,
    /// Notified when a connection has ended.
    released: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    connections: HashMap<u64, Arc<ConnectionState>>,
    /// The latest body in each encoding. New clients receive it too, so slow clients that hold it use no additional memory.
    latest: [Option<BodyId>; 2],
}

/// State of one connection, updated by its socket and its response bodies.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    id: u64,
    source: IpAddr,
    phase: Mutex<Phase>,
    evicted: CancellationToken,
}

/// Phase of a connection.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// No complete request has been received.
    Waiting { since: Instant },
    /// A response is in progress.
    Responding {
        since: Instant,
        /// Time of the latest write to the socket.
        progress: Instant,
        /// The shared body of the response, if it has one.
        body: Option<BodyId>,
        /// True if the HTTP layer has taken the whole body; unsent data is in the write buffers.
        queued: bool,
    },
}

/// Permission to serve one connection; released on drop.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    state: Arc<ConnectionState>,
    connections: Arc<Connections>,
}

impl Connections {
    /// Acquires a permit for a new connection from this client. At the limit, evicts another connection or waits until one
    /// can be evicted or ends.
    pub(crate) async fn acquire(self: &Arc<Self>, peer: IpAddr) -> ConnectionPermit {
        let source = source(peer);
        loop {
            if let Some(state) = self.try_acquire(source, Instant::now()) {
                return ConnectionPermit { state, connections: Arc::clone(self) };
            }
            // After a timeout, a connection may have become evictable.
            let _ = timeout(EVICTION_RETRY_INTERVAL, self.released.notified()).await;
        }
    }

    fn try_acquire(&self, source: IpAddr, now: Instant) -> Option<Arc<ConnectionState>> {
        let mut table = self.table();
        if table.connections.len() >= MAX_CONNECTIONS {
            let lowest = table.lowest(source, now)?;
            table.evict(lowest);
        }
        let id = table.next_id;
        table.next_id = table.next_id.wrapping_add(1);
        let state = Arc::new(ConnectionState {
            id,
            source,
            phase: Mutex::new(Phase::Waiting { since: now }),
            evicted: CancellationToken::new(),
        });
        table.connections.insert(id, Arc::clone(&state));
        Some(state)
    }

    /// Records the body of the connection's response. If outdated bodies exceed their limit, evicts connections that hold them.
    fn set_body(&self, state: &ConnectionState, new: BodyId) {
        if let Phase::Responding { body, .. } = &mut *state.phase() {
            *body = Some(new);
        }
        let mut table = self.table();
        let [identity, gzip] = &mut table.latest;
        let latest = if new.gzip { gzip } else { identity };
        if latest.replace(new) != Some(new) {
            table.evict_stale();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

/// Returns the source of a client's connections: its IPv4 address, or its IPv6 /64 network, within which a host may have
/// any number of addresses.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        IpAddr::V4(address) => IpAddr::V4(address),
    }
}

impl Table {
    /// Returns the connection to evict for a new one from `source`: of the evictable connections, one from the source with
    /// the most connections. If none is evictable, returns the oldest connection of another source that has more than half
    /// of all connections, or `None` if no source has.
    fn lowest(&self, source: IpAddr, now: Instant) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for state in self.connections.values() {
            *counts.entry(state.source).or_default() += 1;
        }
        let count = |state: &ConnectionState| counts.get(&state.source).copied().unwrap_or_default();
        let evictable = self.connections.values().filter_map(|state| {
            let priority = state.phase().eviction_priority(now)?;
            Some((Reverse(count(state)), priority, state.id))
        });
        let dominating = || {
            let of_others = self.connections.values().filter(|state| state.source != source);
            let many = of_others.filter(|state| count(state) > MAX_CONNECTIONS / 2);
            many.map(|state| state.id).min()
        };
        evictable.min().map(|(_, _, id)| id).or_else(dominating)
    }

    fn evict(&mut self, id: u64) {
        if let Some(state) = self.connections.remove(&id) {
            state.evicted.cancel();
        }
    }

    /// Evicts connections that hold outdated bodies until the rest fit within the limit. The bodies whose connections made
    /// progress most recently are kept, so that a client that reads its response receives all of it, whatever others request.
    fn evict_stale(&mut self) {
        let mut bodies: HashMap<usize, (Instant, usize, Vec<u64>)> = HashMap::new();
        for state in self.connections.values() {
            if let Phase::Responding { progress, body: Some(body), .. } = *state.phase()
                && !self.latest.contains(&Some(body))
            {
                let (latest, _, holders) =
                    bodies.entry(body.address).or_insert((progress, body.length, Vec::new()));
                *latest = progress.max(*latest);
                holders.push(state.id);
            }
        }
        let mut bodies: Vec<_> = bodies.into_values().collect();
        bodies.sort_unstable_by_key(|(progress, ..)| Reverse(*progress));
        let mut bytes = 0_usize;
        for (index, (_, length, holders)) in bodies.into_iter().enumerate() {
            bytes = bytes.saturating_add(length);
            if index >= MIN_STALE_BODIES && bytes > MAX_STALE_BYTES {
                for id in holders {
                    self.evict(id);
                }
            }
        }
    }
}

impl Phase {
    /// Eviction priority; the lowest is evicted first. `None` if the connection must not be evicted now.
    fn eviction_priority(self, now: Instant) -> Option<(bool, Instant)> {
        match self {
            Self::Waiting { since } => Some((false, since)),
            Self::Responding { since, progress, .. } => {
                let stalled = now.saturating_duration_since(progress) >= STALLED_AFTER;
                let slow = now.saturating_duration_since(since) >= SLOW_AFTER;
                (stalled || slow).then_some((true, since))
            }
        }
    }
}

impl ConnectionState {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock()
    }

    /// Records a request. A pipelined request does not reset the times of the response before it.
    pub(crate) fn request_received(&self) {
        let now = Instant::now();
        let mut phase = self.phase();
        *phase = match *phase {
            Phase::Waiting { .. } => {
                Phase::Responding { since: now, progress: now, body: None, queued: false }
            }
            Phase::Responding { since, progress, body, .. } => {
                Phase::Responding { since, progress, body, queued: false }
            }
        };
    }

    /// Records that the HTTP layer has taken the whole body, or dropped it.
    pub(crate) fn body_queued(&self) {
        if let Phase::Responding { queued, .. } = &mut *self.phase() {
            *queued = true;
        }
    }

    /// Records a successful write to the socket.
    pub(crate) fn written(&self) {
        if let Phase::Responding { progress, .. } = &mut *self.phase() {
            *progress = Instant::now();
        }
    }

    /// Records that no data is left in the write buffers. Ends the response if its whole body was queued.
    pub(crate) fn flushed(&self) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Responding { queued: true, .. }) {
            *phase = Phase::Waiting { since: Instant::now() };
        }
    }
}

impl ConnectionPermit {
    /// Returns the state of the connection.
    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Completes when the connection is evicted.
    pub(crate) async fn evicted(&self) {
        self.state.evicted.cancelled().await;
    }

    /// Records the body of the response in progress.
    pub(crate) fn set_body(&self, body: BodyId) {
        self.connections.set_body(&self.state, body);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.table().connections.remove(&self.state.id);
        self.connections.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn responds(state: &ConnectionState, since: Instant, progress: Instant) {
        *state.phase() = Phase::Responding { since, progress, body: None, queued: false };
    }

    /// A full table whose connections began at intervals of 1 ms.
    fn full(start: Instant) -> (Connections, Vec<Arc<ConnectionState>>) {
        let connections = Connections::default();
        let states =
            (0..512).map(|millis| connections.try_acquire(ONE, at(start, millis)).unwrap()).collect();
        (connections, states)
    }

    fn evicted(states: &[Arc<ConnectionState>]) -> Vec<usize> {
        let gone = states.iter().enumerate().filter(|(_, state)| state.evicted.is_cancelled());
        gone.map(|(index, _)| index).collect()
    }

    #[test]
    fn the_longest_waiting_connection_is_evicted_before_any_slow_reader() {
        let start = Instant::now();
        let (connections, states) = full(start);
        responds(&states[0], start, start);
        *states[1].phase() = Phase::Waiting { since: at(start, 9_000) };
        assert!(connections.try_acquire(ONE, at(start, 60_000)).is_some());
        assert_eq!(evicted(&states), [2]);
        assert_eq!(connections.table().connections.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn a_response_in_progress_is_evicted_only_when_stalled_or_slow() {
        let start = Instant::now();
        let (connections, states) = full(start);
        for state in &states {
            responds(state, at(start, 1000), at(start, 1000));
        }
        responds(&states[7], at(start, 600), at(start, 600));
        responds(&states[8], at(start, 500), at(start, 1400));
        assert!(connections.try_acquire(ONE, at(start, 1500)).is_none(), "none is stalled or slow");
        assert!(connections.try_acquire(ONE, at(start, 1600)).is_some());
        assert_eq!(evicted(&states), [7], "the one without progress for a second");
        responds(&states[8], at(start, 500), at(start, 10_500));
        for state in &states[9..] {
            responds(state, at(start, 1000), at(start, 10_500));
        }
        for state in &states[..7] {
            responds(state, at(start, 1000), at(start, 10_500));
        }
        // The connection that replaced 7 still waits for its request, and is evicted first.
        assert!(connections.try_acquire(ONE, at(start, 10_500)).is_some());
        assert_eq!(evicted(&states), [7]);
    }

    #[test]
    fn the_client_with_the_most_connections_gives_way() {
        let start = Instant::now();
        let (connections, mut states) = full(start);
        let slow = connections.try_acquire(OTHER, at(start, 600)).unwrap();
        // One client opens many more connections; the other has not sent its request yet.
        for millis in 1..2000 {
            states.push(connections.try_acquire(ONE, at(start, 600 + millis)).unwrap());
        }
        assert!(!slow.evicted.is_cancelled());
        assert_eq!(evicted(&states).len(), 2000);
        // All connections of the first client have a response in progress, so none of them may be evicted.
        for state in connections.table().connections.values().filter(|state| state.source == ONE) {
            responds(state, at(start, 3000), at(start, 3000));
        }
        responds(&slow, at(start, 3000), at(start, 3000));
        assert!(connections.try_acquire(ONE, at(start, 3000)).is_none());
        assert!(connections.try_acquire(OTHER, at(start, 3000)).is_some());
        assert!(!slow.evicted.is_cancelled());
    }

    #[test]
    fn addresses_of_one_client_are_one_source() {
        for (one, other, same) in [
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(source(one.parse().unwrap()) == source(other.parse().unwrap()), same, "{one} {other}");
        }
    }

    #[test]
    fn pipelined_requests_do_not_restart_the_time() {
        let start = Instant::now();
        let (_, states) = full(start);
        responds(&states[0], start, start);
        states[0].body_queued();
        states[0].request_received();
        assert!(states[0].phase().eviction_priority(at(start, 1_000)).is_some());
        states[0].flushed();
        assert!(
            matches!(*states[0].phase(), Phase::Responding { .. }),
            "the second response is still to come"
        );
        states[0].body_queued();
        states[0].flushed();
        assert!(matches!(*states[0].phase(), Phase::Waiting { .. }));
    }

    #[test]
    fn connections_that_hold_too_many_outdated_bodies_are_evicted_those_without_progress_first() {
        let start = Instant::now();
        let (connections, states) = full(start);
        for (index, state) in states.iter().enumerate().take(30) {
            let since = at(start, u64::try_from(index).unwrap());
            // The second client of the first body reads all the time.
            responds(state, since, if index == 1 { at(start, 1000) } else { since });
            // Each body has 2 MiB and is shared by two clients.
            connections.set_body(state, BodyId { address: index / 2, length: 2 << 20, gzip: false });
        }
        // The latest body, the one that is read, and 7 other outdated ones; 16 MiB in total.
        let gone = evicted(&states);
        assert_eq!(gone, (2..14).collect::<Vec<_>>());
    }

    #[test]
    fn the_latest_body_of_each_encoding_is_free_and_outdated_ones_count() {
        let start = Instant::now();
        let (connections, states) = full(start);
        for (index, state) in states.iter().enumerate().take(10) {
            let since = at(start, u64::try_from(index).unwrap());
            responds(state, since, since);
            // Three generations of a body, each in two encodings.
            let (generation, gzip) = (index / 4, index % 2 == 1);
            connections
                .set_body(state, BodyId { address: generation * 2 + index % 2, length: 100 << 20, gzip });
        }
        // The latest of each encoding (8, 9), and two outdated bodies (4 to 7).
        assert_eq!(evicted(&states), [0, 1, 2, 3]);
    }

    #[test]
    fn two_outdated_bodies_are_kept_whatever_their_size() {
        let start = Instant::now();
        let (connections, states) = full(start);
        for (index, state) in states.iter().enumerate().take(5) {
            let since = at(start, u64::try_from(index).unwrap());
            responds(state, since, since);
            connections.set_body(state, BodyId { address: index, length: 100 << 20, gzip: false });
        }
        assert_eq!(evicted(&states), [0, 1]);
    }
}
