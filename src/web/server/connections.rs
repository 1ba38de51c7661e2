//! Which connections there are, and which one gives way when there are too many or when they hold too much.
//!
//! A connection that still owes its request costs nobody a scrape when it ends, so it gives way first, the one that has
//! owed it longest before the others. One whose request is being answered gives way only when there is no such
//! connection, and only after it had its time or has stopped reading. So a flood of new connections displaces itself,
//! not the scrapes beside it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Connections at a time, over all listeners.
pub(crate) const MAX_CONNECTIONS: usize = 512;

/// Nothing taken of an answer for so long: the client has stopped reading, and may be displaced.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// An answer that is taken, but so slowly, may be displaced too.
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// How long to wait before looking again for a connection that may be displaced.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Bytes that clients may keep from being freed by not reading: texts that are no longer the newest.
const MAX_STALE_BYTES: usize = 16 << 20;

/// So many old texts may be held in any case, however long they are.
const STALE_TEXTS: usize = 2;

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    table: Mutex<Table>,
    /// Told when a connection has ended.
    left: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    slots: HashMap<u64, Arc<Slot>>,
    /// The text that was handed out last, in each of its forms: new clients get it too, so it costs nothing more.
    newest: [Option<Text>; 2],
}

/// What is known of one connection.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u64,
    phase: Mutex<Phase>,
    displaced: CancellationToken,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Its client owes a request (or the rest of one) since then.
    Owes { since: Instant },
    /// Its client is given an answer.
    Takes {
        since: Instant,
        /// When the client has last taken something.
        progress: Instant,
        /// The shared text that it is given, if it is.
        text: Option<Text>,
        /// The whole answer has been handed to the connection; what is left is to write it.
        handed: bool,
    },
}

/// A shared text: where it is in memory tells one from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    /// Its address.
    pub(crate) address: usize,
    /// Its length in bytes.
    pub(crate) length: usize,
    /// Whether it is the compressed form, which lives and dies on its own.
    pub(crate) gzip: bool,
}

/// A connection's place; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    slot: Arc<Slot>,
    connections: Arc<Connections>,
}

impl Connections {
    /// A place for a new connection. Where all are taken, another connection is displaced, or waited for.
    pub(crate) async fn admit(self: &Arc<Self>) -> ConnectionPermit {
        loop {
            if let Some(slot) = self.try_admit(Instant::now()) {
                return ConnectionPermit { slot, connections: Arc::clone(self) };
            }
            // However it ends, it is time to look again.
            let _ = timeout(LOOK_AGAIN, self.left.notified()).await;
        }
    }

    fn try_admit(&self, now: Instant) -> Option<Arc<Slot>> {
        let mut table = self.table();
        if table.slots.len() >= MAX_CONNECTIONS {
            let least = table
                .slots
                .values()
                .filter_map(|slot| slot.phase().claim(now).map(|claim| (claim, slot.number)))
                .min()?;
            table.displace(least.1);
        }
        let number = table.next;
        table.next = table.next.wrapping_add(1);
        let slot = Arc::new(Slot {
            number,
            phase: Mutex::new(Phase::Owes { since: now }),
            displaced: CancellationToken::new(),
        });
        table.slots.insert(number, Arc::clone(&slot));
        Some(slot)
    }

    /// Notes that `slot` is given this text. If clients hold too much by not reading old ones, those of the oldest are
    /// displaced.
    fn hand_out(&self, slot: &Slot, text: Text) {
        if let Phase::Takes { text: held, .. } = &mut *slot.phase() {
            *held = Some(text);
        }
        let mut table = self.table();
        let [plain, gzip] = &mut table.newest;
        let newest = if text.gzip { gzip } else { plain };
        if newest.replace(text) != Some(text) {
            table.free_stale();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

impl Table {
    fn displace(&mut self, number: u64) {
        if let Some(slot) = self.slots.remove(&number) {
            slot.displaced.cancel();
        }
    }

    /// Displaces the clients of the oldest texts until the others fit into the limit.
    fn free_stale(&mut self) {
        let mut texts: HashMap<usize, (Instant, usize, Vec<u64>)> = HashMap::new();
        for slot in self.slots.values() {
            if let Phase::Takes { since, text: Some(text), .. } = *slot.phase()
                && !self.newest.contains(&Some(text))
            {
                let (oldest, _, holders) =
                    texts.entry(text.address).or_insert((since, text.length, Vec::new()));
                *oldest = since.min(*oldest);
                holders.push(slot.number);
            }
        }
        let mut texts: Vec<_> = texts.into_values().collect();
        texts.sort_unstable_by_key(|(since, ..)| std::cmp::Reverse(*since));
        let mut bytes = 0_usize;
        for (index, (_, length, holders)) in texts.into_iter().enumerate() {
            bytes = bytes.saturating_add(length);
            if index >= STALE_TEXTS && bytes > MAX_STALE_BYTES {
                for number in holders {
                    self.displace(number);
                }
            }
        }
    }
}

impl Phase {
    /// What a connection can say for itself: the least one is displaced. `None`: it can't be displaced yet.
    fn claim(self, now: Instant) -> Option<(bool, Instant)> {
        match self {
            Self::Owes { since } => Some((false, since)),
            Self::Takes { since, progress, .. } => {
                let stalled = now.saturating_duration_since(progress) >= STALLED_AFTER;
                let slow = now.saturating_duration_since(since) >= SLOW_AFTER;
                (stalled || slow).then_some((true, since))
            }
        }
    }
}

impl Slot {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock()
    }

    /// A request has come. One that comes while the answer before it is still unread does not renew the client's time.
    pub(crate) fn asked(&self) {
        let now = Instant::now();
        let mut phase = self.phase();
        *phase = match *phase {
            Phase::Owes { .. } => Phase::Takes { since: now, progress: now, text: None, handed: false },
            Phase::Takes { since, progress, text, .. } => {
                Phase::Takes { since, progress, text, handed: false }
            }
        };
    }

    /// The whole answer has been handed to the connection.
    pub(crate) fn handed(&self) {
        if let Phase::Takes { handed, .. } = &mut *self.phase() {
            *handed = true;
        }
    }

    /// The client has taken something.
    pub(crate) fn took(&self) {
        if let Phase::Takes { progress, .. } = &mut *self.phase() {
            *progress = Instant::now();
        }
    }

    /// The client has taken all that was written so far.
    pub(crate) fn took_all(&self) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Takes { handed: true, .. }) {
            *phase = Phase::Owes { since: Instant::now() };
        }
    }
}

impl ConnectionPermit {
    /// What is known of the connection.
    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Waits until the connection has to give way.
    pub(crate) async fn displaced(&self) {
        self.slot.displaced.cancelled().await;
    }

    /// Notes that the connection's client is given this text.
    pub(crate) fn hand_out(&self, text: Text) {
        self.connections.hand_out(&self.slot, text);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.table().slots.remove(&self.slot.number);
        self.connections.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn takes(slot: &Slot, since: Instant, progress: Instant) {
        *slot.phase() = Phase::Takes { since, progress, text: None, handed: false };
    }

    /// A full table whose connections came a millisecond after one another.
    fn full(start: Instant) -> (Connections, Vec<Arc<Slot>>) {
        let connections = Connections::default();
        let slots = (0..512).map(|millis| connections.try_admit(at(start, millis)).unwrap()).collect();
        (connections, slots)
    }

    fn displaced(slots: &[Arc<Slot>]) -> Vec<usize> {
        let gone = slots.iter().enumerate().filter(|(_, slot)| slot.displaced.is_cancelled());
        gone.map(|(index, _)| index).collect()
    }

    #[test]
    fn who_owes_a_request_longest_gives_way_before_any_slow_reader() {
        let start = Instant::now();
        let (connections, slots) = full(start);
        takes(&slots[0], start, start);
        *slots[1].phase() = Phase::Owes { since: at(start, 9_000) };
        assert!(connections.try_admit(at(start, 60_000)).is_some());
        assert_eq!(displaced(&slots), [2]);
        assert_eq!(connections.table().slots.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn an_answer_under_way_has_its_time() {
        let start = Instant::now();
        let (connections, slots) = full(start);
        for slot in &slots {
            takes(slot, at(start, 1000), at(start, 1000));
        }
        takes(&slots[7], at(start, 600), at(start, 600));
        takes(&slots[8], at(start, 500), at(start, 1400));
        assert!(connections.try_admit(at(start, 1500)).is_none(), "none has had its time");
        assert!(connections.try_admit(at(start, 1600)).is_some());
        assert_eq!(displaced(&slots), [7], "the one that has taken nothing for a second");
        takes(&slots[8], at(start, 500), at(start, 10_500));
        for slot in &slots[9..] {
            takes(slot, at(start, 1000), at(start, 10_500));
        }
        for slot in &slots[..7] {
            takes(slot, at(start, 1000), at(start, 10_500));
        }
        // The newcomer that took the place of 7 still owes its request, and goes first.
        assert!(connections.try_admit(at(start, 10_500)).is_some());
        assert_eq!(displaced(&slots), [7]);
    }

    #[test]
    fn requests_that_are_piled_up_do_not_renew_the_time() {
        let start = Instant::now();
        let (_, slots) = full(start);
        takes(&slots[0], start, start);
        slots[0].handed();
        slots[0].asked();
        assert!(slots[0].phase().claim(at(start, 1_000)).is_some());
        slots[0].took_all();
        assert!(matches!(*slots[0].phase(), Phase::Takes { .. }), "the second answer is still to come");
        slots[0].handed();
        slots[0].took_all();
        assert!(matches!(*slots[0].phase(), Phase::Owes { .. }));
    }

    #[test]
    fn clients_that_hold_too_many_old_texts_give_way_the_oldest_first() {
        let start = Instant::now();
        let (connections, slots) = full(start);
        for (index, slot) in slots.iter().enumerate().take(30) {
            takes(slot, at(start, u64::try_from(index).unwrap()), start);
            // Two clients each share a text of 2 MiB.
            connections.hand_out(slot, Text { address: index / 2, length: 2 << 20, gzip: false });
        }
        // The newest, and 8 older ones of 16 MiB in total.
        let kept: Vec<usize> = (12..30).collect();
        let gone = displaced(&slots);
        assert_eq!(gone, (0..30).filter(|index| !kept.contains(index)).collect::<Vec<_>>());
    }

    #[test]
    fn both_forms_of_the_newest_text_cost_nothing_and_old_ones_of_each_do() {
        let start = Instant::now();
        let (connections, slots) = full(start);
        for (index, slot) in slots.iter().enumerate().take(10) {
            takes(slot, at(start, u64::try_from(index).unwrap()), start);
            // Three texts that change, and clients that take one form or the other.
            let (generation, gzip) = (index / 4, index % 2 == 1);
            connections.hand_out(slot, Text { address: generation * 2 + index % 2, length: 100 << 20, gzip });
        }
        // The newest of each form (8, 9), and the two old ones that may be held: those before (4 to 7).
        assert_eq!(displaced(&slots), [0, 1, 2, 3]);
    }

    #[test]
    fn very_long_texts_may_be_held_by_a_few() {
        let start = Instant::now();
        let (connections, slots) = full(start);
        for (index, slot) in slots.iter().enumerate().take(5) {
            takes(slot, at(start, u64::try_from(index).unwrap()), start);
            connections.hand_out(slot, Text { address: index, length: 100 << 20, gzip: false });
        }
        assert_eq!(displaced(&slots), [0, 1]);
    }
}
