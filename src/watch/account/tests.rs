//! Tests of the account, including one that checks that no sequence of polls, resets and restarts loses or repeats an entry.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::pace::{LIMIT_RECOVERY, MAX_ENTRIES};
use super::*;
use crate::clock::Unix;
use crate::parse::SlowlogPast;

/// Simulated slow log of a server.
#[derive(Debug, Clone, Default)]
struct Server {
    run_id: u32,
    started: Mono,
    next: u64,
    ring: VecDeque<u64>,
    max: usize,
    reset: bool,
    /// Every n-th entry is unreadable; none if 0.
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

/// An account and the entries it has counted.
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
        let identity = ServerIdentity {
            run_id: Some(&run_id),
            uptime: Some(Duration::from_secs(now.since(server.started).as_secs())),
            past: Some(past),
        };
        self.account.identify(identity, now);
    }

    /// Polls like `Session`; `between` entries are written between two requests of one poll.
    fn poll(&mut self, server: &mut Server, between: u64, now: Mono) {
        for _ in 0..16 {
            let reply = server.get(self.account.request());
            match self.account.reconcile(reply, now) {
                Reconciliation::Incomplete => server.write(between),
                Reconciliation::Rewound => self.identify(server, now),
                Reconciliation::Complete { new, lost, .. } => {
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

/// Content of the state file: the position and the counters that depend on it.
struct Saved {
    account: SavedAccount,
    numbers: Watcher,
}

impl Saved {
    /// Saves the watcher, with the account serialized and parsed as in the file.
    fn of(watcher: &Watcher, now: Mono) -> Self {
        let saved =
            watcher.account.saved(Timestamps { mono: now, unix: Unix::from_epoch(now.since(Mono::EPOCH)) });
        let text = serde_json::to_string(&saved).unwrap();
        Self { account: serde_json::from_str(&text).unwrap(), numbers: watcher.clone() }
    }

    /// Returns the watcher of the next process.
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
    // The exporter is killed before that poll is saved. Its entries were never exposed and are read again.
    server.write(200);
    let mut watcher = saved.restored();
    let later = NOW + Duration::from_secs(600);
    watcher.identify(&server, later);
    watcher.poll(&mut server, 0, later);
    assert_eq!((watcher.taken.len(), watcher.lost, watcher.repeated), (5 + 128, 75, 0));
}

#[test]
fn without_a_baseline_nothing_is_resumed() {
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
fn a_server_restarted_between_runs_is_read_from_its_first_id() {
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
fn an_older_server_that_took_over_between_runs_gets_a_baseline() {
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
fn a_saved_position_that_the_server_never_reached_is_discarded() {
    let (mut server, mut watcher) = started(128);
    watcher.poll(&mut server, 0, NOW);
    server.write(50);
    watcher.poll(&mut server, 0, NOW);
    let mut watcher = Saved::of(&watcher, NOW).restored();
    // The same run_id with fewer entries: the state file was edited, or comes from another exporter.
    let mut server = Server::new(1, 128, Mono::EPOCH);
    server.write(9);
    watcher.identify(&server, NOW);
    watcher.poll(&mut server, 0, NOW);
    assert_eq!((watcher.taken.len(), watcher.lost), (50, 0), "a baseline: no false calls");
    server.write(2);
    watcher.poll(&mut server, 0, NOW);
    assert_eq!(watcher.account.cursor.position(), Position::Next(11));
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
    assert_eq!(watcher.account.request(), 1);
    server.write(3);
    watcher.poll(&mut server, 0, NOW);
    assert_eq!(watcher.taken, BTreeSet::from([(1, 50), (1, 51), (1, 52)]));
}

#[test]
fn a_burst_over_the_length_of_the_slow_log_is_counted_exactly() {
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
fn a_reset_loses_only_unread_entries() {
    let (mut server, mut watcher) = started(128);
    watcher.poll(&mut server, 0, NOW);
    for (read, unread) in [(5, 0), (5, 3)] {
        let before = watcher.lost;
        server.write(read);
        watcher.poll(&mut server, 0, NOW);
        server.write(unread);
        server.ring.clear();
        server.write(2);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!(watcher.lost - before, unread);
    }
    assert_eq!((watcher.taken.len(), watcher.repeated), (14, 0));
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
    // Of more entries than the slow log has, only those that are still present are known.
    let (mut server, mut watcher) = (Server::new(1, 128, Mono::EPOCH), Watcher::default());
    server.write(40);
    (server.reset, server.ring) = (true, VecDeque::new());
    watcher.identify(&server, NOW);
    watcher.poll(&mut server, 0, NOW);
    server.write(300);
    watcher.poll(&mut server, 0, NOW);
    assert_eq!((watcher.taken.len(), watcher.lost), (128, 0));
}

#[test]
fn an_unknown_history_of_a_young_server_with_a_full_slow_log_begins_at_id_0() {
    for (uptime, written, expected) in [
        (5, 300, (128, 172)),
        (5, 3, (3, 0)),
        (3599, 300, (128, 172)),
        (3600, 300, (128, 0)),
        (7200, 300, (128, 0)),
    ] {
        let mut server = Server::new(1, 128, Mono::EPOCH);
        let mut watcher = Watcher::default();
        let identity = ServerIdentity {
            run_id: Some("1"),
            uptime: Some(Duration::from_secs(uptime)),
            past: Some(SlowlogPast::Unclear),
        };
        watcher.account.identify(identity, NOW);
        watcher.poll(&mut server, 0, NOW);
        server.write(written);
        watcher.poll(&mut server, 0, NOW);
        assert_eq!((watcher.taken.len(), watcher.lost), expected, "{uptime}");
    }
    // The reply is limited to fewer entries than the log has.
    let mut server = Server::new(1, 128, Mono::EPOCH);
    let mut watcher = Watcher::default();
    let past = Some(SlowlogPast::Unclear);
    let identity = ServerIdentity { run_id: Some("1"), uptime: Some(Duration::from_secs(5)), past };
    watcher.account.identify(identity, NOW);
    watcher.poll(&mut server, 0, NOW);
    watcher.account.pace.limit = 16;
    server.write(50);
    watcher.poll(&mut server, 0, NOW);
    assert_eq!((watcher.taken.len(), watcher.lost), (16, 34));
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
    // Loading data or running a script can delay the identification indefinitely.
    let later = NOW + Duration::from_secs(300);
    watcher.identify(&server, later);
    watcher.poll(&mut server, 0, later);
    assert_eq!((watcher.taken.len(), watcher.lost), (4, 0));
}

#[test]
fn a_restart_is_known_in_the_first_second_too() {
    // Both ends of the uptime are truncated to whole seconds, so 0.1 s may be reported as 1 s.
    let mut account = Account::default();
    let ms = |count| Mono::from_epoch(Duration::from_millis(count));
    let identity = |run_id, uptime| ServerIdentity {
        run_id: Some(run_id),
        uptime: Some(Duration::from_secs(uptime)),
        past: None,
    };
    account.identify(identity("1", 100), Mono::EPOCH);
    account.reconcile(SlowlogReply::default(), ms(10));
    account.identify(identity("2", 1), ms(400));
    assert_eq!(account.cursor.position(), Position::Next(0));
    account.identify(identity("3", 100), ms(500));
    assert_ne!(
        account.cursor.position(),
        Position::Next(0),
        "that server started before the log was last read"
    );
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
    assert_eq!(account.reconcile(reply(&[], &[], 1), NOW), Reconciliation::Incomplete);
    assert_eq!(account.request(), 3);
    assert!(
        matches!(account.reconcile(reply(&[0], &[], 1), NOW), Reconciliation::Complete { new, lost: 0, .. } if new.len() == 1)
    );
    // Unreadable entries with an id are accounted for, including the newest.
    let done = |new: &[u64], lost, unreadable| Reconciliation::Complete {
        new: new.iter().map(|id| entry(*id)).collect(),
        lost,
        unreadable,
    };
    assert_eq!(account.reconcile(reply(&[], &[4], 0), NOW), Reconciliation::Incomplete);
    assert_eq!(account.reconcile(reply(&[3], &[2, 4], 0), NOW), Reconciliation::Incomplete);
    assert_eq!(account.reconcile(reply(&[3], &[2, 4], 0), NOW), done(&[3], 3, 2));
    assert!(account.is_readable());
    assert_eq!(account.reconcile(reply(&[3], &[2, 4], 0), NOW), done(&[], 0, 0), "nothing is counted twice");
}

#[test]
fn a_completely_unreadable_log_is_noticed_and_still_counted() {
    let (mut server, mut watcher) = started(128);
    watcher.poll(&mut server, 0, NOW);
    let account = &mut watcher.account;
    let mut written = 0;
    let mut poll = |account: &mut Account, more: u64| {
        written += more;
        for _ in 0..10 {
            let ask = u64::try_from(account.request()).unwrap();
            let ids: Vec<u64> = (written.saturating_sub(ask)..written).collect();
            let reply = SlowlogReply {
                received: ids.len(),
                malformed: ids.len(),
                unreadable: ids,
                ..SlowlogReply::default()
            };
            if let Reconciliation::Complete { new, lost, unreadable } = account.reconcile(reply, NOW) {
                return (new.len(), lost, unreadable, account.is_readable());
            }
        }
        panic!("it asks for more and more");
    };
    assert_eq!(poll(account, 5), (0, 5, 5, false));
    assert_eq!(poll(account, 0), (0, 0, 0, false));
    assert_eq!(account.request(), 1, "a quiet log is not read to its end each time");
    assert_eq!(poll(account, 2), (0, 2, 2, false));
    let one = SlowlogReply { entries: vec![entry(7)], received: 1, ..SlowlogReply::default() };
    assert!(matches!(account.reconcile(one, NOW), Reconciliation::Complete { lost: 0, unreadable: 0, .. }));
    assert!(account.is_readable());
}

#[test]
fn a_slow_log_of_maximum_length_is_polled_as_usual() {
    let (mut server, mut watcher) = started(128);
    watcher.account.set_max_len(u64::MAX);
    watcher.poll(&mut server, 0, NOW);
    server.write(1);
    watcher.poll(&mut server, 0, NOW + Duration::from_secs(86_400 * 365));
    assert_eq!(watcher.account.interval(Duration::from_secs(1)), Duration::from_secs(1));
}

#[test]
fn switching_between_servers_at_one_address_repeats_nothing() {
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
fn the_latest_sixteen_servers_are_remembered() {
    let mut watcher = Watcher::default();
    let mut servers: Vec<Server> = (0..17).map(|run_id| Server::new(run_id, 128, Mono::EPOCH)).collect();
    for written in [5, 3] {
        for server in &mut servers {
            server.write(written);
        }
        // The first server is dropped when the last one appears. It then returns as the last one and is a baseline again.
        servers.rotate_left(usize::from(written == 3));
        for server in &mut servers {
            watcher.identify(server, NOW);
            watcher.poll(server, 0, NOW);
        }
    }
    assert_eq!((watcher.taken.len(), watcher.repeated, watcher.lost), (16 * 3, 0, 0));
    assert!(watcher.taken.iter().all(|(run_id, _)| *run_id != 0), "{:?}", watcher.taken);
}

#[test]
fn falling_ids_are_a_restart_even_without_info() {
    let mut watcher = Watcher::default();
    let mut server = Server::new(1, 128, Mono::EPOCH);
    watcher.account.identify(ServerIdentity::default(), NOW);
    server.write(9);
    watcher.poll(&mut server, 0, NOW);
    server = Server::new(2, 128, NOW);
    server.write(3);
    assert_eq!(watcher.account.reconcile(server.get(1), NOW), Reconciliation::Rewound);
    watcher.account.identify(ServerIdentity::default(), NOW);
    watcher.poll(&mut server, 0, NOW);
    assert_eq!((watcher.taken.len(), watcher.lost), (3, 0));
}

#[test]
fn polls_are_faster_while_the_slow_log_is_overwritten() {
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
    assert_eq!(watcher.account.request(), 1);
}

#[test]
fn a_quiet_slow_log_is_read_before_it_can_be_full() {
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
        account.set_max_len(ring);
        account.set_threshold(threshold.map(Duration::from_millis));
        assert_eq!(account.interval(second), Duration::from_millis(expected), "{threshold:?} {ring}");
        let shorter = Duration::from_millis(50);
        assert_eq!(account.interval(shorter), shorter);
    }
}

#[test]
fn a_reply_that_was_too_large_halves_what_is_asked_for() {
    let mut account = Account::default();
    account.pace.request = 1000;
    account.too_large(NOW);
    assert_eq!(account.request(), 500);
    for _ in 0..20 {
        account.too_large(NOW);
    }
    assert_eq!(account.request(), 1);
    for minute in 1..20 {
        account.reconcile(SlowlogReply::default(), NOW + LIMIT_RECOVERY * minute);
    }
    assert_eq!(account.pace.limit, MAX_ENTRIES, "it recovers");
}

#[test]
fn requests_shrink_if_the_connection_keeps_breaking() {
    let mut account = Account::default();
    account.pace.request = 1000;
    let after = |seconds| NOW + Duration::from_secs(seconds);
    for seconds in 0..5 {
        account.broken(after(seconds));
        assert_eq!(account.request(), 1000, "a few lost connections change nothing");
    }
    account.broken(after(5));
    assert_eq!(account.request(), 500);
    account.reconcile(SlowlogReply::default(), after(6));
    account.pace.request = 400;
    account.broken(after(7));
    assert_eq!(account.request(), 400);
    for seconds in 12..40 {
        account.broken(after(seconds));
    }
    assert_eq!(account.request(), 1);
    // A request for more entries than the slow log can have is first reduced to its length.
    let mut account = Account::default();
    account.set_max_len(128);
    account.pace.request = MAX_ENTRIES;
    account.broken(NOW);
    account.broken(after(5));
    assert_eq!(account.request(), 128);
    account.broken(after(6));
    assert_eq!(account.request(), 64);
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

    /// For any interleaving, counted + lost = written while watched, and nothing is counted twice. Entries left unread when a
    /// server ended, and entries written by another server before it was first read, are not due.
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
        // Id from which each server's entries are due, and number of entries due from servers that have ended.
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
                    watcher.account.set_max_len(if max == 1000 { u64::MAX } else { u64::try_from(max).unwrap() });
                }
                Step::Restart { delay } => {
                    // Entries still unread when a process ends are lost with it; read them first, so that they are due.
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
                    // The position is saved before any counters that depend on it are exposed. Unsaved entries of
                    // the old process were lost with it.
                    saved = Saved::of(&watcher, now);
                    watcher.identify(server, now);
                    watcher.poll(server, 0, now);
                }
                Step::Fail { over: false } => watcher.identify(server, now),
                Step::Fail { over: true } => {
                    // A position is kept only once an entry has been read.
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
                Step::TooLarge => watcher.account.pace.limit = watcher.account.pace.limit.max(64) / 2,
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
