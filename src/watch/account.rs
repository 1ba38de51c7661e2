//! The account of the slow log: every entry is taken once, or counted as lost.
//!
//! Ids grow by one with every entry (also over SLOWLOG RESET) and start at 0 with every server process. So the
//! position in a server's log is one number, the next id to come, and a gap in the ids is exactly what was
//! overwritten or reset before it could be read. Facts: Redis 6.2.14, 7.0.15, Valkey 9.1.2, measured.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Mono, Timestamps};
use crate::convert::millis;
use crate::parse::{Entry, SlowlogPast, SlowlogReply};

/// Most entries to ask for at once: the reply has to fit the memory that a reply may take.
const MAX_ENTRIES: usize = 16_384;

/// Entries to ask for beyond those known, for what is written in the meantime.
const MARGIN: u64 = 64;

/// Positions in the logs of other servers that are remembered, for addresses that move between servers.
const REMEMBERED: usize = 16;

/// Length of a ring while its real length is unknown: the servers' default.
const DEFAULT_RING: u64 = 128;

/// Where the statistics can't tell whether the slow log was ever reset, it is taken as not on a younger server.
const YOUNG: Duration = Duration::from_secs(3600);

/// How much the server's uptime, in whole seconds, may be off.
const UPTIME_SLACK: Duration = Duration::from_secs(2);

/// The shortest pause before the next poll of a ring that turns over quickly. Timers are not finer: what should come
/// sooner comes at once, one request behind the answer to the other.
const MIN_PAUSE: Duration = Duration::from_millis(2);

/// After this time a limit on what is asked for is doubled again.
const LIMIT_RECOVERY: Duration = Duration::from_secs(60);

/// From which duration on a server logs a command while it is not known: the servers' default.
const DEFAULT_THRESHOLD: Duration = Duration::from_millis(10);

/// A quiet ring is never read more often than this, however low the server's threshold is.
const MIN_QUIET: Duration = Duration::from_millis(100);

/// Connections that break for so long whenever the log is read are no accidents.
const ACCIDENTS: Duration = Duration::from_secs(5);

/// A poll should find at most this part of the ring new: 1 / `RING_SHARE`.
const RING_SHARE: u32 = 4;

/// Where we are in the log of the server that answers now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Position {
    /// Never read: what is there is the baseline.
    Unread(IfEmpty),
    /// The ring was empty at first contact, and which id comes next is not certain.
    Empty {
        /// If the ring has overflowed by the next poll, its ids are taken to have begun at 0.
        from_zero: bool,
    },
    /// All ids before this one are accounted for.
    Next(u64),
}

/// What an empty ring means at first contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IfEmpty {
    /// Nothing was ever written: the next id is 0.
    NextIsZero,
    /// Probably so.
    Probably,
    /// It was reset: any id may come next.
    Unknown,
}

/// What a SLOWLOG reply means for the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Take {
    /// The reply does not reach back far enough: ask again for [`Account::ask`] entries.
    More,
    /// The ids went backwards, so another server process answers: find out who, and ask again.
    Rewound,
    /// New entries, oldest first, and how many before or among them are gone.
    Done {
        /// The entries that were not taken before.
        new: Vec<Entry>,
        /// Entries that were overwritten or reset before they could be read, or are unreadable.
        lost: u64,
        /// The unreadable ones among the lost.
        unreadable: u64,
    },
}

/// What is kept of an account over restarts of the exporter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedAccount {
    run_id: Option<String>,
    position: Position,
    others: VecDeque<(String, u64)>,
    /// When the log was last read to its end, in milliseconds since the Unix epoch.
    read_until: Option<u64>,
}

impl SavedAccount {
    /// Forgets the positions in the logs of other servers. Whether there were any.
    pub(super) fn forget_others(&mut self) -> bool {
        !std::mem::take(&mut self.others).is_empty()
    }
}

/// Who answers at the target's address, as INFO tells.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Who<'a> {
    /// `run_id`; `None` if the server does not tell.
    pub(crate) run_id: Option<&'a str>,
    /// Time since its start, in whole seconds.
    pub(crate) uptime: Option<Duration>,
    /// What is known of its slow log's past.
    pub(crate) past: Option<SlowlogPast>,
}

/// The account of one target.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// The server process that answers; `None` if it does not tell.
    run_id: Option<String>,
    /// Where we are in its log.
    position: Position,
    /// Next ids of servers that answered before, the latest first; at most [`REMEMBERED`].
    others: VecDeque<(String, u64)>,
    /// Entries to ask for next time.
    ask: usize,
    /// Most entries to ask for; falls when a reply was too large.
    limit: usize,
    /// The ids went backwards, and the server has not been identified since.
    rewound: bool,
    /// Whether a server was identified before.
    contacted: bool,
    /// `slowlog-max-len`, as far as known.
    ring: u64,
    /// `slowlog-log-slower-than`, as far as known.
    threshold: Duration,
    /// When a log at this address was last read to its end.
    read_until: Option<Mono>,
    /// Time to leave until the next poll; `None` before the first.
    pace: Option<Duration>,
    /// When `limit` was last changed.
    limited_at: Mono,
    /// Grows with every change of what has to be saved at once.
    revision: u64,
    /// Since when every connection broke while the log was read.
    broken_since: Option<Mono>,
    /// The position comes from a former process, and the server's log has not confirmed it yet.
    restored: bool,
    /// The form of the entries of this server's log, as of the last that were received.
    form: Form,
}

/// Form of slow log entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Some of them can be read, or there were none yet.
    Known,
    /// None of them can be read.
    Unknown,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            run_id: None,
            position: Position::Unread(IfEmpty::Unknown),
            others: VecDeque::new(),
            ask: 1,
            limit: MAX_ENTRIES,
            rewound: false,
            contacted: false,
            ring: DEFAULT_RING,
            threshold: DEFAULT_THRESHOLD,
            read_until: None,
            pace: None,
            limited_at: Mono::EPOCH,
            revision: 0,
            broken_since: None,
            restored: false,
            form: Form::Known,
        }
    }
}

impl Account {
    /// The account as a former process left it. Its clock and ours are compared by the Unix time.
    #[must_use]
    pub(crate) fn restored(saved: SavedAccount) -> Self {
        let SavedAccount { run_id, position, mut others, read_until } = saved;
        others.truncate(REMEMBERED);
        let account = Self {
            run_id,
            position,
            others,
            contacted: false,
            read_until: read_until.map(|at| Mono::from_epoch(Duration::from_millis(at))),
            restored: true,
            ..Self::default()
        };
        // A process that never met the server has nothing to go on from: this is the first contact.
        Self { contacted: account.is_begun(), ..account }
    }

    /// What is to be kept over restarts of the exporter.
    #[must_use]
    pub(crate) fn saved(&self, now: Timestamps) -> SavedAccount {
        SavedAccount {
            run_id: self.run_id.clone(),
            position: self.position,
            others: self.others.clone(),
            read_until: self.read_until.map(|at| millis(now.unix_of(at).since_epoch())),
        }
    }

    /// Whether a server was ever identified or read: else there is nothing to go on from.
    #[must_use]
    pub(crate) fn is_begun(&self) -> bool {
        self.run_id.is_some() || !matches!(self.position, Position::Unread(_))
    }

    /// A number that is another one when something has changed that has to be saved at once.
    #[must_use]
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether entries can be read: false while all that the server's log holds can't be.
    pub(super) fn is_readable(&self) -> bool {
        self.form == Form::Known
    }

    fn move_to(&mut self, position: Position) {
        if self.position != position {
            self.position = position;
            self.revision = self.revision.saturating_add(1);
        }
    }

    /// Entries to ask the server for: 1 on a quiet server, more after a burst.
    #[must_use]
    pub(crate) fn ask(&self) -> usize {
        self.ask.clamp(1, self.limit)
    }

    /// Time to leave until the next poll: `longest`, or less where the ring could be full by then, and still less while it
    /// turns over quickly.
    ///
    /// A server runs one command at a time, so entries of at least the threshold each take a while to fill the ring; a
    /// script and the commands inside it are logged both, which halves that. With the servers' defaults (128 entries,
    /// 10 ms) that is 640 ms, and nothing is overwritten before it is read, whenever a burst begins.
    #[must_use]
    pub(crate) fn interval(&self, longest: Duration) -> Duration {
        let ring = u32::try_from(self.ring).unwrap_or(u32::MAX);
        let fills = (self.threshold.saturating_mul(ring) / 2).max(MIN_QUIET);
        self.pace.unwrap_or(longest).min(longest).min(fills)
    }

    /// Takes note of `slowlog-log-slower-than`; `None` while the log is off.
    pub(crate) fn set_threshold(&mut self, threshold: Option<Duration>) {
        // Of a log that is off nothing is known of what it will be when it is on again.
        self.threshold = threshold.unwrap_or(DEFAULT_THRESHOLD);
    }

    /// Takes note of `slowlog-max-len`; what is more than we ask for makes no difference.
    pub(crate) fn set_ring(&mut self, entries: u64) {
        self.ring = entries.clamp(1, u64::try_from(MAX_ENTRIES).unwrap_or(u64::MAX));
    }

    /// A reply was larger than we take: ask for half as many for a while.
    pub(crate) fn too_large(&mut self, now: Mono) {
        self.limit = (self.ask() / 2).max(1);
        self.limited_at = now;
    }

    /// The connection broke at `now` while the log was read. That is an accident; but if it goes on, the server
    /// closes it because the reply is larger than its `client-output-buffer-limit`: then ask for half as many.
    pub(crate) fn broken(&mut self, now: Mono) {
        let since = *self.broken_since.get_or_insert(now);
        if now.since(since) >= ACCIDENTS && self.ask() > 1 {
            self.too_large(now);
        }
    }

    /// Notes which server answers at `now`.
    pub(crate) fn identify(&mut self, who: Who<'_>, now: Mono) {
        let rewound = std::mem::take(&mut self.rewound);
        let same = who.run_id.is_none() || self.run_id.is_none() || who.run_id == self.run_id.as_deref();
        if self.contacted && same {
            self.run_id = who.run_id.map(str::to_owned).or(self.run_id.take());
            if rewound {
                // Where nobody tells who answers, ids that went backwards are all there is to know a restart by. But
                // a saved position that never fitted this very server is no position.
                let never_fitted = self.restored && who.run_id.is_some();
                self.move_to(if never_fitted {
                    Position::Unread(IfEmpty::Unknown)
                } else {
                    Position::Next(0)
                });
            }
            return;
        }
        if let (Some(run_id), Position::Next(next)) = (self.run_id.take(), self.position) {
            self.others.retain(|(known, _)| *known != run_id);
            self.others.push_front((run_id, next));
            self.others.truncate(REMEMBERED);
        }
        let known = self.others.iter().position(|(known, _)| Some(known.as_str()) == who.run_id);
        // A process that started after the last one's log was read: nothing in its log can be older than that.
        let latest_start = who.uptime.map(|uptime| now + UPTIME_SLACK - uptime);
        let restarted = self.contacted
            && matches!((latest_start, self.read_until), (Some(started), Some(read)) if started >= read);
        self.position = match known.and_then(|index| self.others.remove(index)) {
            Some((_, next)) => Position::Next(next),
            None if restarted => Position::Next(0),
            None => Position::Unread(IfEmpty::from_past(who)),
        };
        self.restored = false;
        self.form = Form::Known;
        self.revision = self.revision.saturating_add(1);
        self.run_id = who.run_id.map(str::to_owned);
        self.ask = 1;
        self.contacted = true;
    }

    /// Takes a reply to SLOWLOG GET with [`Self::ask`] as its count, received at `now`.
    pub(crate) fn take(&mut self, reply: SlowlogReply, now: Mono) -> Take {
        self.broken_since = None;
        let asked = self.ask();
        // Fewer than asked for is the whole ring; and more than the limit can't be had.
        let whole = reply.received < asked || asked >= self.limit;
        let ends = ends(&reply);
        let unread = reply.entries.is_empty() && reply.received > 0;
        if !reply.entries.is_empty() {
            self.form = Form::Known;
        } else if unread && whole {
            self.form = Form::Unknown;
        }
        match (self.position, ends) {
            // Something is there, and none of it can be read: perhaps what lies below it can.
            (_, ends) if unread && !whole && (ends.is_none() || self.is_readable()) => {
                self.ask = asked.saturating_mul(2).saturating_add(1).min(self.limit);
                Take::More
            }
            (Position::Unread(empty), None) if reply.received == 0 => {
                self.move_to(match empty {
                    IfEmpty::NextIsZero => Position::Next(0),
                    IfEmpty::Probably => Position::Empty { from_zero: true },
                    IfEmpty::Unknown => Position::Empty { from_zero: false },
                });
                self.settle(reply.entries, 0, 0, now)
            }
            (_, None) => self.settle(reply.entries, 0, 0, now),
            (Position::Unread(_), Some((_, newest))) => {
                self.move_to(Position::Next(newest.saturating_add(1)));
                self.settle(Vec::new(), 0, 0, now)
            }
            (Position::Empty { from_zero }, Some((oldest, newest))) => {
                if !whole {
                    self.ask = self.limit;
                    return Take::More;
                }
                let overflowed = u64::try_from(reply.received).unwrap_or(u64::MAX) >= self.ring;
                let base = if overflowed && from_zero { 0 } else { oldest };
                self.take_from(base, newest, reply, now)
            }
            (Position::Next(next), Some((_, newest))) if newest.saturating_add(1) < next => {
                self.rewound = true;
                Take::Rewound
            }
            (Position::Next(next), Some((oldest, newest))) => {
                if oldest > next && !whole {
                    let missing = (newest - next).saturating_add(1).saturating_add(MARGIN);
                    self.ask = usize::try_from(missing).unwrap_or(usize::MAX).min(self.limit);
                    return Take::More;
                }
                self.take_from(next, newest, reply, now)
            }
        }
    }

    /// Takes the entries with ids from `base` to `newest`; those that are missing are lost, or can't be read.
    fn take_from(&mut self, base: u64, newest: u64, reply: SlowlogReply, now: Mono) -> Take {
        let SlowlogReply { mut entries, unreadable, .. } = reply;
        entries.retain(|entry| entry.id >= base);
        let due = newest.saturating_add(1).saturating_sub(base);
        let lost = due.saturating_sub(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        let unreadable = unreadable.iter().filter(|id| **id >= base).count();
        let unreadable = u64::try_from(unreadable).unwrap_or(u64::MAX).min(lost);
        self.move_to(Position::Next(newest.saturating_add(1)));
        self.restored = false;
        self.settle(entries, lost, unreadable, now)
    }

    /// The log was read to its end: decides how much to ask for next, and when.
    fn settle(&mut self, new: Vec<Entry>, lost: u64, unreadable: u64, now: Mono) -> Take {
        let received = new.len().saturating_add(usize::try_from(unreadable).unwrap_or(usize::MAX));
        self.ask = if received > 1 { received.saturating_mul(2) } else { 1 };
        let written = lost.saturating_add(u64::try_from(new.len()).unwrap_or(u64::MAX));
        let since_read = now.since(self.read_until.replace(now).unwrap_or_default());
        self.pace = Some(match self.pace {
            // Slow down gradually: what comes in bursts comes again.
            Some(interval) if written == 0 => interval.saturating_mul(2).max(MIN_PAUSE),
            Some(interval) => {
                let full = since_read.as_micros().saturating_mul(self.ring.into()) / u128::from(written);
                let full = Duration::from_micros(u64::try_from(full).unwrap_or(u64::MAX));
                let pause = (full / RING_SHARE).min(interval.saturating_mul(2).max(MIN_PAUSE));
                if pause < MIN_PAUSE { Duration::ZERO } else { pause }
            }
            None => Duration::MAX,
        });
        if self.limit < MAX_ENTRIES && now.since(self.limited_at) >= LIMIT_RECOVERY {
            self.limit = self.limit.saturating_mul(2).min(MAX_ENTRIES);
            self.limited_at = now;
        }
        Take::Done { new, lost, unreadable }
    }
}

/// The lowest and the highest id of a reply, those of unreadable entries included.
fn ends(reply: &SlowlogReply) -> Option<(u64, u64)> {
    let entries = &reply.entries;
    let read = entries.first().map(|entry| entry.id).zip(entries.last().map(|entry| entry.id));
    let unreadable = reply.unreadable.first().copied().zip(reply.unreadable.last().copied());
    match (read, unreadable) {
        (Some(read), Some(other)) => Some((read.0.min(other.0), read.1.max(other.1))),
        (read, unreadable) => read.or(unreadable),
    }
}

impl IfEmpty {
    fn from_past(who: Who<'_>) -> Self {
        match who.past {
            Some(SlowlogPast::Untouched) => Self::NextIsZero,
            Some(SlowlogPast::Unclear) if who.uptime.is_some_and(|uptime| uptime < YOUNG) => Self::Probably,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Unix;

    /// A server's slow log, as the servers keep it.
    #[derive(Debug, Clone, Default)]
    struct Server {
        run_id: u32,
        started: Mono,
        next: u64,
        ring: VecDeque<u64>,
        max: usize,
        reset: bool,
        /// Every so many entries can't be read; none if it is 0.
        strange: u64,
    }

    impl Server {
        fn new(run_id: u32, max: usize, started: Mono) -> Self {
            Self { run_id, started, max, ..Self::default() }
        }

        fn write(&mut self, count: u64) {
            for _ in 0..count {
                self.ring.push_front(self.next);
                self.next += 1;
                self.ring.truncate(self.max);
            }
        }

        fn get(&self, count: usize) -> SlowlogReply {
            let mut ids: Vec<u64> = self.ring.iter().take(count).copied().collect();
            ids.reverse();
            let received = ids.len();
            let (unreadable, ids): (Vec<u64>, Vec<u64>) =
                ids.into_iter().partition(|id| self.strange > 0 && id % self.strange == 0);
            let entries = ids.into_iter().map(entry).collect();
            SlowlogReply { entries, received, malformed: unreadable.len(), unreadable }
        }
    }

    fn entry(id: u64) -> Entry {
        Entry { id, ..Entry::with_arguments(&[""; 0]) }
    }

    /// An account and what it should come to.
    #[derive(Debug, Clone, Default)]
    struct Watcher {
        account: Account,
        taken: BTreeSet<(u32, u64)>,
        repeated: u64,
        lost: u64,
    }

    impl Watcher {
        fn identify(&mut self, server: &Server, now: Mono) {
            let run_id = server.run_id.to_string();
            let past = if server.reset { SlowlogPast::Reset } else { SlowlogPast::Untouched };
            let who = Who {
                run_id: Some(&run_id),
                uptime: Some(Duration::from_secs(now.since(server.started).as_secs())),
                past: Some(past),
            };
            self.account.identify(who, now);
        }

        /// Polls as the edge does; `between` entries are written between two requests of one poll.
        fn poll(&mut self, server: &mut Server, between: u64, now: Mono) {
            for _ in 0..16 {
                let reply = server.get(self.account.ask());
                match self.account.take(reply, now) {
                    Take::More => server.write(between),
                    Take::Rewound => self.identify(server, now),
                    Take::Done { new, lost, .. } => {
                        self.lost += lost;
                        for entry in new {
                            self.repeated += u64::from(!self.taken.insert((server.run_id, entry.id)));
                        }
                        return;
                    }
                }
            }
        }
    }

    /// What is in the state file: the position and the numbers that rest on it, as they were at one moment.
    struct Saved {
        account: SavedAccount,
        numbers: Watcher,
    }

    impl Saved {
        /// Through the text, as it is in the file.
        fn of(watcher: &Watcher, now: Mono) -> Self {
            let saved = watcher
                .account
                .saved(Timestamps { mono: now, unix: Unix::from_epoch(now.since(Mono::EPOCH)) });
            let text = serde_json::to_string(&saved).unwrap();
            Self { account: serde_json::from_str(&text).unwrap(), numbers: watcher.clone() }
        }

        /// The next process.
        fn restored(&self) -> Watcher {
            Watcher { account: Account::restored(self.account.clone()), ..self.numbers.clone() }
        }
    }

    #[test]
    fn a_restarted_exporter_goes_on_where_it_was() {
        let (mut server, mut watcher) = started(128);
        watcher.poll(&mut server, 0, NOW);
        server.write(5);
        watcher.poll(&mut server, 0, NOW);
        let saved = Saved::of(&watcher, NOW);
        server.write(3);
        watcher.poll(&mut server, 0, NOW + Duration::from_secs(1));
        // Killed before that was saved: it was never shown, and is read again.
        server.write(200);
        let mut watcher = saved.restored();
        let later = NOW + Duration::from_secs(600);
        watcher.identify(&server, later);
        watcher.poll(&mut server, 0, later);
        assert_eq!((watcher.taken.len(), watcher.lost, watcher.repeated), (5 + 128, 75, 0));
    }

    #[test]
    fn a_process_that_never_met_the_server_leaves_nothing_to_go_on_from() {
        let mut watcher = Saved::of(&Watcher::default(), NOW).restored();
        assert!(!watcher.account.is_begun());
        let mut server = Server::new(1, 128, Mono::EPOCH);
        watcher.identify(&server, NOW);
        watcher.poll(&mut server, 0, NOW);
        server.write(200);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!(
            (watcher.taken.len(), watcher.lost),
            (128, 72),
            "its log was empty and untouched: ids begin at 0"
        );
    }

    #[test]
    fn a_server_that_was_restarted_while_nobody_looked_is_read_from_its_first_id() {
        let (mut server, mut watcher) = started(128);
        watcher.poll(&mut server, 0, NOW);
        server.write(5);
        watcher.poll(&mut server, 0, NOW);
        let mut watcher = Saved::of(&watcher, NOW).restored();
        let mut server = Server::new(2, 128, NOW + Duration::from_secs(100));
        server.write(4);
        let later = NOW + Duration::from_secs(600);
        watcher.identify(&server, later);
        watcher.poll(&mut server, 0, later);
        assert_eq!((watcher.taken.len(), watcher.lost), (5 + 4, 0));
    }

    #[test]
    fn an_older_server_that_took_over_while_nobody_looked_is_a_baseline() {
        let (mut server, mut watcher) = started(128);
        watcher.poll(&mut server, 0, NOW);
        server.write(5);
        watcher.poll(&mut server, 0, NOW);
        let mut watcher = Saved::of(&watcher, NOW).restored();
        let mut other = Server::new(2, 128, secs(1));
        other.write(70);
        watcher.identify(&other, NOW + Duration::from_secs(600));
        watcher.poll(&mut other, 0, NOW + Duration::from_secs(600));
        assert_eq!((watcher.taken.len(), watcher.lost), (5, 0));
    }

    #[test]
    fn a_saved_position_that_the_server_never_reached_is_none() {
        let (mut server, mut watcher) = started(128);
        watcher.poll(&mut server, 0, NOW);
        server.write(50);
        watcher.poll(&mut server, 0, NOW);
        let mut watcher = Saved::of(&watcher, NOW).restored();
        // The same server, by its run_id, with fewer entries: somebody changed the file, or gave us another one's.
        let mut server = Server::new(1, 128, Mono::EPOCH);
        server.write(9);
        watcher.identify(&server, NOW);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!((watcher.taken.len(), watcher.lost), (50, 0), "a baseline: no false calls");
        server.write(2);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!(watcher.account.position, Position::Next(11));
    }

    fn started(max: usize) -> (Server, Watcher) {
        let server = Server::new(1, max, Mono::EPOCH);
        let mut watcher = Watcher::default();
        watcher.identify(&server, secs(10));
        (server, watcher)
    }

    const NOW: Mono = Mono::from_epoch(Duration::from_secs(20));

    fn secs(count: u64) -> Mono {
        Mono::from_epoch(Duration::from_secs(count))
    }

    #[test]
    fn what_is_there_at_first_contact_is_the_baseline() {
        let (mut server, mut watcher) = started(128);
        server.write(50);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!((watcher.taken.len(), watcher.lost), (0, 0));
        assert_eq!(watcher.account.ask(), 1);
        server.write(3);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!(watcher.taken, BTreeSet::from([(1, 50), (1, 51), (1, 52)]));
    }

    #[test]
    fn a_burst_over_the_ring_is_counted_and_lost_exactly() {
        for seen_empty in [true, false] {
            let (mut server, mut watcher) = started(128);
            if !seen_empty {
                server.write(10);
            }
            watcher.poll(&mut server, 0, NOW);
            server.write(3000);
            watcher.poll(&mut server, 7, NOW);
            assert_eq!((watcher.taken.len(), watcher.lost), (128, 2872 + 7), "seen empty: {seen_empty}");
        }
    }

    #[test]
    fn a_log_reset_before_first_contact_starts_at_the_first_id_seen() {
        let (mut server, mut watcher) = (Server::new(1, 128, Mono::EPOCH), Watcher::default());
        server.write(40);
        (server.reset, server.ring) = (true, VecDeque::new());
        watcher.identify(&server, NOW);
        watcher.poll(&mut server, 0, NOW);
        server.write(3);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!((watcher.taken.len(), watcher.lost), (3, 0));
    }

    #[test]
    fn an_unclear_past_is_taken_as_untouched_on_a_young_server_with_a_full_ring() {
        for (uptime, written, expected) in [(5, 300, (128, 172)), (5, 3, (3, 0)), (7200, 300, (128, 0))] {
            let mut server = Server::new(1, 128, Mono::EPOCH);
            let mut watcher = Watcher::default();
            let who = Who {
                run_id: Some("1"),
                uptime: Some(Duration::from_secs(uptime)),
                past: Some(SlowlogPast::Unclear),
            };
            watcher.account.identify(who, NOW);
            watcher.poll(&mut server, 0, NOW);
            server.write(written);
            watcher.poll(&mut server, 0, NOW);
            assert_eq!((watcher.taken.len(), watcher.lost), expected, "{uptime}");
        }
    }

    #[test]
    fn a_restarted_server_is_read_from_its_first_id() {
        let (mut server, mut watcher) = started(128);
        server.write(5);
        watcher.poll(&mut server, 0, NOW);
        let later = NOW + Duration::from_secs(3);
        let mut server = Server::new(2, 128, NOW + Duration::from_secs(1));
        server.write(130);
        watcher.identify(&server, later);
        watcher.poll(&mut server, 0, later);
        assert_eq!((watcher.taken.len(), watcher.lost), (128, 2));
    }

    #[test]
    fn a_restart_is_known_however_late_the_server_is_identified() {
        let (mut server, mut watcher) = started(128);
        watcher.poll(&mut server, 0, NOW);
        let mut server = Server::new(2, 128, NOW + Duration::from_secs(1));
        server.write(4);
        // It loads its data, or runs a script, for as long as it likes.
        let later = NOW + Duration::from_secs(300);
        watcher.identify(&server, later);
        watcher.poll(&mut server, 0, later);
        assert_eq!((watcher.taken.len(), watcher.lost), (4, 0));
    }

    #[test]
    fn a_restart_is_known_in_the_first_second_too() {
        // Both ends of the uptime are cut to whole seconds: 0.1 s may show as 1 s.
        let mut account = Account::default();
        let ms = |count| Mono::from_epoch(Duration::from_millis(count));
        let who = |run_id, uptime| Who {
            run_id: Some(run_id),
            uptime: Some(Duration::from_secs(uptime)),
            past: None,
        };
        account.identify(who("1", 100), Mono::EPOCH);
        account.take(SlowlogReply::default(), ms(10));
        account.identify(who("2", 1), ms(400));
        assert_eq!(account.position, Position::Next(0));
        account.identify(who("3", 100), ms(500));
        assert_ne!(account.position, Position::Next(0), "that one is older than we are");
    }

    #[test]
    fn an_entry_that_cannot_be_read_hides_none_below_it() {
        let (mut server, mut watcher) = started(128);
        watcher.poll(&mut server, 0, NOW);
        let reply = |entries: &[u64], unreadable: &[u64], unknown: usize| SlowlogReply {
            entries: entries.iter().map(|id| entry(*id)).collect(),
            received: entries.len() + unreadable.len() + unknown,
            malformed: unreadable.len() + unknown,
            unreadable: unreadable.to_vec(),
        };
        let account = &mut watcher.account;
        assert_eq!(account.take(reply(&[], &[], 1), NOW), Take::More);
        assert_eq!(account.ask(), 3);
        assert!(
            matches!(account.take(reply(&[0], &[], 1), NOW), Take::Done { new, lost: 0, .. } if new.len() == 1)
        );
        // Those with an id are part of the account, the newest one too.
        let done = |new: &[u64], lost, unreadable| Take::Done {
            new: new.iter().map(|id| entry(*id)).collect(),
            lost,
            unreadable,
        };
        assert_eq!(account.take(reply(&[], &[4], 0), NOW), Take::More);
        assert_eq!(account.take(reply(&[3], &[2, 4], 0), NOW), Take::More);
        assert_eq!(account.take(reply(&[3], &[2, 4], 0), NOW), done(&[3], 3, 2));
        assert!(account.is_readable());
        assert_eq!(account.take(reply(&[3], &[2, 4], 0), NOW), done(&[], 0, 0), "nothing is counted twice");
    }

    #[test]
    fn a_log_of_which_nothing_can_be_read_is_known_and_still_counted() {
        let (mut server, mut watcher) = started(128);
        watcher.poll(&mut server, 0, NOW);
        let account = &mut watcher.account;
        let mut written = 0;
        let mut poll = |account: &mut Account, more: u64| {
            written += more;
            for _ in 0..10 {
                let ask = u64::try_from(account.ask()).unwrap();
                let ids: Vec<u64> = (written.saturating_sub(ask)..written).collect();
                let reply = SlowlogReply {
                    received: ids.len(),
                    malformed: ids.len(),
                    unreadable: ids,
                    ..SlowlogReply::default()
                };
                if let Take::Done { new, lost, unreadable } = account.take(reply, NOW) {
                    return (new.len(), lost, unreadable, account.is_readable());
                }
            }
            panic!("it asks for more and more");
        };
        assert_eq!(poll(account, 5), (0, 5, 5, false));
        assert_eq!(poll(account, 0), (0, 0, 0, false));
        assert_eq!(account.ask(), 1, "a quiet log is not read to its end each time");
        assert_eq!(poll(account, 2), (0, 2, 2, false));
        let one = SlowlogReply { entries: vec![entry(7)], received: 1, ..SlowlogReply::default() };
        assert!(matches!(account.take(one, NOW), Take::Done { lost: 0, unreadable: 0, .. }));
        assert!(account.is_readable());
    }

    #[test]
    fn an_endless_ring_is_no_trouble() {
        let (mut server, mut watcher) = started(128);
        watcher.account.set_ring(u64::MAX);
        watcher.poll(&mut server, 0, NOW);
        server.write(1);
        watcher.poll(&mut server, 0, NOW + Duration::from_secs(86_400 * 365));
        assert_eq!(watcher.account.interval(Duration::from_secs(1)), Duration::from_secs(1));
    }

    #[test]
    fn another_older_server_behind_the_address_is_a_baseline_and_returning_repeats_nothing() {
        let (mut first, mut watcher) = started(128);
        watcher.poll(&mut first, 0, NOW);
        let mut second = Server::new(2, 128, Mono::EPOCH);
        second.write(20);
        first.write(4);
        for _ in 0..3 {
            watcher.identify(&second, NOW);
            watcher.poll(&mut second, 0, NOW);
            watcher.identify(&first, NOW);
            watcher.poll(&mut first, 0, NOW);
        }
        assert_eq!((watcher.taken.len(), watcher.repeated, watcher.lost), (4, 0, 0));
    }

    #[test]
    fn ids_that_fall_are_a_restart_even_where_nobody_tells() {
        let mut watcher = Watcher::default();
        let mut server = Server::new(1, 128, Mono::EPOCH);
        watcher.account.identify(Who::default(), NOW);
        server.write(9);
        watcher.poll(&mut server, 0, NOW);
        server = Server::new(2, 128, NOW);
        server.write(3);
        assert_eq!(watcher.account.take(server.get(1), NOW), Take::Rewound);
        watcher.account.identify(Who::default(), NOW);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!((watcher.taken.len(), watcher.lost), (3, 0));
    }

    #[test]
    fn polls_come_faster_while_the_ring_turns_over() {
        let (mut server, mut watcher) = started(128);
        let second = Duration::from_secs(1);
        watcher.poll(&mut server, 0, NOW);
        let quiet = Duration::from_millis(640);
        assert_eq!(watcher.account.interval(second), quiet);
        server.write(1280);
        watcher.poll(&mut server, 0, NOW + second);
        assert!(watcher.account.interval(second) <= Duration::from_millis(25));
        for step in 0..12_u32 {
            watcher.poll(&mut server, 0, NOW + second * (step + 2));
        }
        assert_eq!(watcher.account.interval(second), quiet);
        assert_eq!(watcher.account.ask(), 1);
    }

    #[test]
    fn a_quiet_ring_is_read_before_it_can_be_full() {
        let second = Duration::from_secs(1);
        for (threshold, ring, expected) in [
            (Some(10), 128, 640),
            (Some(0), 128, 100),
            (Some(1), 128, 100),
            (Some(2), 1000, 1000),
            (Some(1000), 1, 500),
            (None, 128, 640),
        ] {
            let mut account = Account::default();
            account.set_ring(ring);
            account.set_threshold(threshold.map(Duration::from_millis));
            assert_eq!(account.interval(second), Duration::from_millis(expected), "{threshold:?} {ring}");
            let shorter = Duration::from_millis(50);
            assert_eq!(account.interval(shorter), shorter);
        }
    }

    #[test]
    fn a_reply_that_was_too_large_halves_what_is_asked_for() {
        let mut account = Account { ask: 1000, ..Account::default() };
        account.too_large(NOW);
        assert_eq!(account.ask(), 500);
        for _ in 0..20 {
            account.too_large(NOW);
        }
        assert_eq!(account.ask(), 1);
        for minute in 1..20 {
            account.take(SlowlogReply::default(), NOW + LIMIT_RECOVERY * minute);
        }
        assert_eq!(account.limit, MAX_ENTRIES, "it recovers");
    }

    #[test]
    fn a_connection_that_breaks_again_and_again_is_asked_for_less() {
        let mut account = Account { ask: 1000, ..Account::default() };
        let after = |seconds| NOW + Duration::from_secs(seconds);
        for seconds in 0..5 {
            account.broken(after(seconds));
            assert_eq!(account.ask(), 1000, "accidents happen");
        }
        account.broken(after(5));
        assert_eq!(account.ask(), 500);
        account.take(SlowlogReply::default(), after(6));
        account.ask = 400;
        account.broken(after(7));
        assert_eq!(account.ask(), 400);
        for seconds in 12..40 {
            account.broken(after(seconds));
        }
        assert_eq!(account.ask(), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64),
        Poll { between: u64 },
        Reset,
        Resize(usize),
        Restart { delay: u64 },
        Fail { over: bool },
        Reconnect,
        TooLarge,
        Save,
        Crash { down: u64 },
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40_u64).prop_map(Step::Write),
            1 => (0..2000_u64).prop_map(Step::Write),
            4 => (0..30_u64).prop_map(|between| Step::Poll { between }),
            1 => Just(Step::Reset),
            1 => prop::sample::select(vec![0, 1, 16, 128, 1000]).prop_map(Step::Resize),
            1 => (2..500_u64).prop_map(|delay| Step::Restart { delay }),
            1 => any::<bool>().prop_map(|over| Step::Fail { over }),
            1 => Just(Step::Reconnect),
            1 => Just(Step::TooLarge),
            2 => Just(Step::Save),
            2 => (0..600_u64).prop_map(|down| Step::Crash { down }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Any interleaving: counted + lost = written while watched, and nothing twice. What a server held
        /// unread when it ended, and what another server wrote before it was first read, is not due.
        #[test]
        fn counted_and_lost_are_what_was_written(
            steps in prop::collection::vec(any_step(), 0..60),
            strange in 0..4_u64,
        ) {
            let mut now = secs(100);
            let mut servers = [Server::new(1, 128, Mono::EPOCH), Server::new(2, 128, Mono::EPOCH)];
            for server in &mut servers {
                server.strange = strange;
            }
            servers[1].write(77);
            let (mut active, mut runs) = (0, 2);
            let mut watcher = Watcher::default();
            // Ids from which each run's entries are due, and those that a finished run made due.
            let mut due_from = [Some(0), None];
            let mut due = 0;
            watcher.identify(&servers[0], now);
            watcher.poll(&mut servers[0], 0, now);
            let mut saved = Saved::of(&watcher, now);
            for step in steps {
                now = now + Duration::from_secs(5);
                let server = &mut servers[active];
                match step {
                    Step::Write(count) => server.write(count),
                    Step::Poll { between } => {
                        watcher.poll(server, between, now);
                        due_from[active].get_or_insert(server.next);
                    }
                    Step::Reset => {
                        watcher.poll(server, 0, now);
                        server.write(3);
                        server.ring.clear();
                    }
                    Step::Resize(max) => {
                        server.max = max;
                        server.ring.truncate(max);
                        watcher.account.set_ring(if max == 1000 { u64::MAX } else { u64::try_from(max).unwrap() });
                    }
                    Step::Restart { delay } => {
                        // What is unread at the end of a process is gone with it: read it, so that it is due.
                        server.max = server.max.max(1);
                        server.write(1);
                        watcher.poll(server, 0, now);
                        if let Some(from) = due_from[active] {
                            due += server.next - from;
                        }
                        runs += 1;
                        *server = Server { strange, ..Server::new(runs, 128, now + Duration::from_secs(1)) };
                        server.write(5);
                        now = now + Duration::from_secs(delay);
                        due_from[active] = Some(0);
                        // The position is saved before anything that rests on it is shown; what a process wrote and
                        // nobody had saved ended with it.
                        saved = Saved::of(&watcher, now);
                        watcher.identify(server, now);
                        watcher.poll(server, 0, now);
                    }
                    Step::Fail { over: false } => watcher.identify(server, now),
                    Step::Fail { over: true } => {
                        // A position is remembered from the first read on.
                        server.max = server.max.max(1);
                        server.write(1);
                        watcher.poll(server, 0, now);
                        active = 1 - active;
                        let server = &mut servers[active];
                        server.max = server.max.max(1);
                        if due_from[active].is_none() {
                            due_from[active] = Some(server.next);
                        }
                        watcher.identify(server, now);
                        watcher.poll(server, 0, now);
                        saved = Saved::of(&watcher, now);
                    }
                    Step::Save => saved = Saved::of(&watcher, now),
                    Step::Crash { down } => {
                        watcher = saved.restored();
                        now = now + Duration::from_secs(down);
                        watcher.identify(server, now);
                        watcher.poll(server, 0, now);
                    }
                    Step::Reconnect => {
                        watcher.identify(server, now);
                        watcher.poll(server, 0, now);
                    }
                    Step::TooLarge => watcher.account.limit = watcher.account.limit.max(64) / 2,
                }
            }
            for index in [active, 1 - active] {
                if due_from[index].is_some() {
                    let server = &mut servers[index];
                    server.max = server.max.max(1);
                    server.write(1);
                    watcher.identify(server, now);
                    watcher.poll(server, 0, now);
                    due += server.next - due_from[index].unwrap();
                }
            }
            prop_assert_eq!(watcher.repeated, 0);
            prop_assert_eq!(u64::try_from(watcher.taken.len()).unwrap() + watcher.lost, due);
        }
    }
}
