//! Alerts waiting for delivery to one Alertmanager: only the latest state of each, and a bounded number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::alert::{Alert, Labels};
use crate::clock::Mono;

/// Maximum number of waiting alerts. Each takes about 2 kB, which is shared by all Alertmanagers.
pub(super) const MAX_WAITING: usize = 4096;

/// Waiting alert.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) alert: Arc<Alert>,
    /// Time at which the alert became due.
    pub(super) due: Mono,
    /// Time after which the message is obsolete, because the alert has expired in Alertmanager.
    pub(super) expires: Mono,
}

/// Waiting alerts, oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<u64, Message>,
    /// Position of each alert.
    positions: HashMap<Arc<Labels>, u64>,
    next: u64,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a message, replacing an older one about the same alert. Returns true if the oldest message was dropped because the
    /// outbox is full.
    pub(super) fn push(&mut self, message: Message) -> bool {
        let position = self.positions.get(&message.alert.labels).copied();
        if let Some(old) = position.and_then(|position| self.waiting.get_mut(&position)) {
            *old = message;
            return false;
        }
        let is_full = self.waiting.len() >= MAX_WAITING;
        if is_full && let Some((_, oldest)) = self.waiting.pop_first() {
            self.positions.remove(&oldest.alert.labels);
        }
        self.positions.insert(Arc::clone(&message.alert.labels), self.next);
        self.waiting.insert(self.next, message);
        self.next = self.next.saturating_add(1);
        is_full
    }

    /// Removes and returns up to `max` of the oldest messages with their positions, and the number of expired messages that were
    /// removed.
    pub(super) fn take(&mut self, max: usize, now: Mono) -> (Vec<(u64, Message)>, u64) {
        let (mut taken, mut expired) = (Vec::new(), 0_u64);
        while taken.len() < max
            && let Some((position, message)) = self.waiting.pop_first()
        {
            self.positions.remove(&message.alert.labels);
            if message.expires <= now {
                expired = expired.saturating_add(1);
            } else {
                taken.push((position, message));
            }
        }
        (taken, expired)
    }

    /// Puts undelivered messages back at their former positions, except those with a newer message about the same alert. Returns
    /// the number of messages dropped because the outbox is full.
    pub(super) fn put_back(&mut self, messages: Vec<(u64, Message)>) -> u64 {
        let mut dropped = 0_u64;
        for (position, message) in messages {
            if self.positions.contains_key(&message.alert.labels) {
                continue;
            }
            if self.waiting.len() >= MAX_WAITING {
                dropped = dropped.saturating_add(1);
                continue;
            }
            self.positions.insert(Arc::clone(&message.alert.labels), position);
            self.waiting.insert(position, message);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Unix;

    fn mono(seconds: u64) -> Mono {
        Mono::from_epoch(Duration::from_secs(seconds))
    }

    fn message(name: usize, starts_at: u64) -> Message {
        let labels = Labels::from([("target".to_owned(), name.to_string())]);
        let at = Unix::from_epoch(Duration::from_secs(starts_at));
        let alert =
            Alert { labels: Arc::new(labels), annotations: BTreeMap::new(), starts_at: at, ends_at: at };
        Message { alert: Arc::new(alert), due: mono(starts_at), expires: mono(starts_at + 40) }
    }

    fn taken(outbox: &mut Outbox, now: u64) -> (Vec<(String, u64)>, u64) {
        let (messages, expired) = outbox.take(10, mono(now));
        let shown = messages
            .iter()
            .map(|(_, message)| (message.alert.labels["target"].clone(), message.alert.starts_at.as_secs()));
        (shown.collect(), expired)
    }

    #[test]
    fn only_the_newest_state_of_an_alert_waits_at_its_first_position() {
        let mut outbox = Outbox::default();
        for (name, starts_at) in [(1, 1), (2, 2), (1, 3)] {
            assert!(!outbox.push(message(name, starts_at)));
        }
        assert_eq!(outbox.len(), 2);
        assert_eq!(taken(&mut outbox, 4), (vec![("1".to_owned(), 3), ("2".to_owned(), 2)], 0));
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn what_failed_comes_back_first_unless_there_is_a_newer_state() {
        let mut outbox = Outbox::default();
        outbox.push(message(1, 1));
        outbox.push(message(2, 2));
        let (failed, _) = outbox.take(10, mono(3));
        outbox.push(message(2, 4));
        outbox.push(message(3, 5));
        assert_eq!(outbox.put_back(failed), 0);
        let expected = vec![("1".to_owned(), 1), ("2".to_owned(), 4), ("3".to_owned(), 5)];
        assert_eq!(taken(&mut outbox, 6), (expected, 0));
    }

    #[test]
    fn expired_messages_are_counted_and_not_sent() {
        let mut outbox = Outbox::default();
        outbox.push(message(1, 1));
        outbox.push(message(2, 30));
        assert_eq!(taken(&mut outbox, 41), (vec![("2".to_owned(), 30)], 1));
    }

    #[test]
    fn the_oldest_is_dropped_if_there_are_too_many() {
        let mut outbox = Outbox::default();
        let dropped = (0..MAX_WAITING + 5).filter(|name| outbox.push(message(*name, 1))).count();
        assert_eq!((dropped, outbox.len()), (5, MAX_WAITING));
        let (first, _) = outbox.take(1, mono(2));
        assert_eq!(first[0].1.alert.labels["target"], "5");
        outbox.push(message(0, 1));
        assert_eq!((outbox.put_back(first), outbox.len()), (1, MAX_WAITING));
    }
}
