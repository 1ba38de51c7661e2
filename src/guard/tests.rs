//! Tests of the decisions: each rule, and any order of observations.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::{Mono, Timestamps, Unix};
use crate::parse::{BusyKind, ErrorReply};
use crate::script::{Identity, NamedScript, Origin};

/// Interval of heartbeats, ms.
const HEARTBEAT: u64 = 200;

/// Time limit of the server, ms.
const LIMIT: u64 = 5000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn mono(millis: u64) -> Mono {
    Mono::from_epoch(ms(1_000_000 + millis))
}

fn at(millis: u64) -> Timestamps {
    Timestamps { mono: mono(millis), unix: Unix::from_epoch(ms(9_000_000 + millis)) }
}

fn policy(mode: Mode) -> Policy {
    Policy {
        kill_after: ms(10_000),
        mode,
        scripts: Patterns::default(),
        unknown: UnknownScript::Leave,
        functions: true,
        budget: Budget { max_kills: 3, per: ms(600_000) },
    }
}

fn guard(policy: Policy) -> Guard {
    Guard::new(policy, ms(HEARTBEAT))
}

fn named(identity: &Identity) -> NamedScript {
    let Identity { label, sha1, origin, .. } = identity.clone();
    NamedScript { name: label.clone(), label, sha1, origin }
}

fn script(digit: char) -> Identity {
    let sha1: String = std::iter::repeat_n(digit, 40).collect();
    Identity::from_sha1(sha1.as_bytes(), Origin::Server).unwrap()
}

fn confirmation(kind: BusyKind, sent: u64) -> Confirmation {
    Confirmation { kind, named: None, sent: mono(sent) }
}

/// Log line, read at `read` by a reader that polls every 100 ms.
fn line(script: Identity, running_for: u64, read: u64) -> NamedLine {
    let named = Named { kind: BusyKind::Script, script, running_for: ms(running_for) };
    NamedLine { named, written_after: mono(read.saturating_sub(100)), read: mono(read) }
}

/// Records an immediate BUSY reply to a heartbeat every 200 ms from `from` to `to`.
fn busy(guard: &mut Guard, kind: BusyKind, from: u64, to: u64) {
    for sent in (from..=to).step_by(200) {
        guard.busy(confirmation(kind, sent), Some(ms(LIMIT)), at(sent + 1));
    }
}

/// Decides on a master.
fn decide(guard: &Guard, now: u64) -> Decision {
    let script = guard.script().map(named);
    let facts = GuardContext { role: Some("master"), time_limit: Some(ms(LIMIT)), script: script.as_ref() };
    guard.decide(facts, at(now))
}

/// Confirms a kill immediately, on a master that still runs the same kind of call.
fn confirm(guard: &mut Guard, order: Order, now: u64) -> Option<Order> {
    let script = guard.script().map(named);
    let facts = GuardContext { role: Some("master"), time_limit: Some(ms(LIMIT)), script: script.as_ref() };
    guard.confirm(order, confirmation(order.kind, now), facts, at(now + 1))
}

#[track_caller]
fn kill(decision: Decision) -> Order {
    match decision {
        Decision::Kill(order) => order,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn left(decision: Decision) -> GuardOutcome {
    match decision {
        Decision::Leave(_, outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_is_killed_once_it_has_run_for_long_enough() {
    let mut guard = guard(policy(Mode::Kill));
    assert_eq!(decide(&guard, 0), Decision::Idle);
    busy(&mut guard, BusyKind::Script, 5000, 9800);
    assert_eq!(decide(&guard, 9900), Decision::Wait(mono(10_001)));
    let order = kill(decide(&guard, 10_001));
    assert_eq!(confirm(&mut guard, order, 10_001), Some(order));
    assert_eq!(decide(&guard, 10_002), Decision::Idle, "one kill at a time");
    let action = guard.answered(order, GuardOutcome::Killed, None, at(10_003)).unwrap();
    assert_eq!((action.outcome, action.ran_for), (GuardOutcome::Killed, ms(10_002)));
    guard.free(mono(10_004));
    assert_eq!(decide(&guard, 20_000), Decision::Idle);
}

#[test]
fn the_guard_waits_for_a_time_limit_longer_than_kill_after() {
    let mut guard = guard(Policy { kill_after: ms(100), ..policy(Mode::Kill) });
    guard.busy(confirmation(BusyKind::Script, 4000), Some(ms(LIMIT)), at(LIMIT));
    assert_eq!(decide(&guard, LIMIT - 1), Decision::Wait(mono(LIMIT)));
    kill(decide(&guard, LIMIT));
    let unknown = GuardContext { role: Some("master"), ..GuardContext::default() };
    let mut guard = super::tests::guard(Policy { kill_after: ms(100), ..policy(Mode::Kill) });
    guard.busy(confirmation(BusyKind::Script, 4000), None, at(4001));
    assert!(matches!(guard.decide(unknown, at(4001)), Decision::Kill(_)), "5 s are assumed");
}

#[test]
fn a_gap_that_could_hide_another_run_restarts_the_count() {
    let mut guard = guard(policy(Mode::Kill));
    busy(&mut guard, BusyKind::Script, 5000, 9000);
    // The run may have ended right after 9000, and another one may have been BUSY at 14050.
    guard.busy(confirmation(BusyKind::Script, 9200), Some(ms(LIMIT)), at(14_050));
    assert_eq!(decide(&guard, 14_100), Decision::Wait(mono(19_050)));
    // A late confirmation has the same effect.
    busy(&mut guard, BusyKind::Script, 14_100, 18_900);
    let order = kill(decide(&guard, 19_050));
    let facts = GuardContext { role: Some("master"), time_limit: Some(ms(LIMIT)), script: None };
    let late = guard.confirm(order, confirmation(BusyKind::Script, 19_050), facts, at(24_200));
    assert_eq!(late, None);
    assert_eq!(decide(&guard, 24_200), Decision::Wait(mono(29_200)));
}

/// The first BUSY reply is to a request that was sent when the script began. The script was not BUSY at that time, so no other
/// run fits between this reply and the next one, and the name is kept.
#[test]
fn a_first_reply_that_waited_for_the_time_limit_is_not_a_gap() {
    let mut guard = guard(policy(Mode::Kill));
    guard.free(mono(0));
    guard.busy(confirmation(BusyKind::Script, 50), Some(ms(LIMIT)), at(LIMIT + 10));
    guard.logged(line(script('a'), LIMIT, LIMIT + 30), Some(ms(LIMIT)));
    guard.busy(confirmation(BusyKind::Script, LIMIT + 100), Some(ms(LIMIT)), at(LIMIT + 101));
    assert_eq!(guard.script(), Some(&script('a')));
    assert_eq!(decide(&guard, LIMIT + 200), Decision::Wait(mono(10_010)));
}

/// The reply to a kill is read after a reply about the next run.
#[test]
fn a_late_answer_tells_about_the_run_that_was_killed() {
    let mut guard = guard(policy(Mode::Kill));
    busy(&mut guard, BusyKind::Script, 5000, 9800);
    guard.logged(line(script('a'), 9801, 9801), Some(ms(LIMIT)));
    let order = kill(decide(&guard, 10_001));
    assert_eq!(confirm(&mut guard, order, 10_001), Some(order));
    guard.free(mono(10_003));
    guard.busy(confirmation(BusyKind::Function, 16_000), Some(ms(LIMIT)), at(16_001));
    let action = guard.answered(order, GuardOutcome::KilledNext, None, at(16_002)).unwrap();
    assert_eq!((action.script, action.ran_for), (Some(script('a')), ms(16_001)));
}

/// A script is killed less than a second after the end of the one before it.
#[test]
fn an_action_gets_the_script_and_the_caller_of_its_own_blockage() {
    let limit = Some(ms(500));
    let mut guard = guard(Policy { kill_after: ms(500), ..policy(Mode::Kill) });
    guard.free(mono(1000));
    guard.busy(confirmation(BusyKind::Script, 1510), limit, at(1511));
    let facts = GuardContext { role: Some("master"), time_limit: limit, script: None };
    let order = kill(guard.decide(facts, at(1512)));
    guard.confirm(order, confirmation(BusyKind::Script, 1512), facts, at(1513)).unwrap();
    guard.answered(order, GuardOutcome::Killed, None, at(1514));
    for (began, ended, name) in [(0, 1005, 'a'), (1010, 1512, 'b'), (1520, 2500, 'c')] {
        let caller = Caller { client: String::new(), client_name: name.to_string() };
        guard.explain(at(began).unix, at(ended).unix, Some(&script(name)), Some(&caller));
    }
    let action = guard.latest().next().unwrap();
    let caller = action.caller.as_ref().map(|caller| caller.client_name.as_str());
    assert_eq!((action.script.as_ref(), caller), (Some(&script('b')), Some("b")));
}

/// A run is counted from the displayed start of the blockage if that is later than the guard's own estimate.
#[test]
fn a_run_never_counts_from_before_the_blockage_shown() {
    let mut guard = guard(policy(Mode::Kill));
    guard.busy(confirmation(BusyKind::Script, 4900), Some(ms(LIMIT)), at(5000));
    assert_eq!(decide(&guard, 5000), Decision::Wait(mono(10_000)));
    guard.blocked_since(Some(mono(150)));
    assert_eq!(decide(&guard, 5000), Decision::Wait(mono(10_150)));
    busy(&mut guard, BusyKind::Script, 5100, 10_100);
    let order = kill(decide(&guard, 10_200));
    assert_eq!(confirm(&mut guard, order, 10_200), Some(order));
    // The blockage is over before the answer is reported.
    guard.free(mono(10_202));
    guard.blocked_since(None);
    let action = guard.answered(order, GuardOutcome::Killed, None, at(10_210)).unwrap();
    assert_eq!(action.ran_for, ms(10_060));
}

#[test]
fn another_kind_is_another_run() {
    let mut guard = guard(policy(Mode::Kill));
    busy(&mut guard, BusyKind::Script, 5000, 9800);
    let order = kill(decide(&guard, 10_100));
    let facts = GuardContext { role: Some("master"), time_limit: Some(ms(LIMIT)), script: None };
    assert_eq!(guard.confirm(order, confirmation(BusyKind::Function, 10_100), facts, at(10_101)), None);
    assert!(matches!(decide(&guard, 10_102), Decision::Wait(_)));
}

#[test]
fn function_stats_identify_the_run_exactly() {
    let mut guard = guard(policy(Mode::Kill));
    let stats = |name: &str, sent: u64, running_for: u64| Confirmation {
        named: Some(Named {
            kind: BusyKind::Function,
            script: Identity::from_function(name.as_bytes()),
            running_for: ms(running_for),
        }),
        ..confirmation(BusyKind::Function, sent)
    };
    // Detected late: the function has been running for 9 s.
    guard.busy(stats("f", 20_000, 9000), Some(ms(LIMIT)), at(20_001));
    assert_eq!(decide(&guard, 20_001), Decision::Wait(mono(21_001)));
    let order = kill(decide(&guard, 21_001));
    let facts = GuardContext { role: Some("master"), time_limit: Some(ms(LIMIT)), script: None };
    // Another function with the same run time.
    let mut other = guard.clone();
    assert_eq!(other.confirm(order, stats("g", 21_001, 10_000), facts, at(21_002)), None);
    // The same function, but called later.
    assert_eq!(guard.clone().confirm(order, stats("f", 21_001, 10_000), facts, at(21_002)), Some(order));
    assert_eq!(guard.confirm(order, stats("f", 21_001, 5100), facts, at(21_002)), None);
    assert_eq!(decide(&guard, 21_002), Decision::Wait(mono(25_902)));
    // Another function.
    guard.busy(stats("g", 25_000, 9098), Some(ms(LIMIT)), at(25_001));
    assert_eq!(guard.script().unwrap().label.as_str(), "g");
}

#[test]
fn each_rule_leaves_a_run_and_is_reported_once() {
    let of_master = Some("master");
    let with = |change: fn(&mut Policy)| {
        let mut policy = policy(Mode::Kill);
        change(&mut policy);
        policy
    };
    for (policy, kind, role, expected) in [
        (policy(Mode::DryRun), BusyKind::Script, of_master, GuardOutcome::DryRun),
        (policy(Mode::Kill), BusyKind::Module, of_master, GuardOutcome::Module),
        (policy(Mode::Kill), BusyKind::Script, Some("slave"), GuardOutcome::Replica),
        (policy(Mode::Kill), BusyKind::Script, None, GuardOutcome::UnknownRole),
        (with(|policy| policy.functions = false), BusyKind::Function, of_master, GuardOutcome::FunctionsOff),
        (
            with(|policy| policy.scripts = Patterns::new(&["x*".to_owned()], &[])),
            BusyKind::Script,
            of_master,
            GuardOutcome::UnknownScript,
        ),
    ] {
        let mut guard = guard(policy);
        busy(&mut guard, kind, 5000, 12_800);
        let facts = GuardContext { role, time_limit: Some(ms(LIMIT)), script: None };
        let Decision::Leave(order, outcome) = guard.decide(facts, at(13_000)) else { panic!("{expected:?}") };
        assert_eq!(outcome, expected);
        assert_eq!(guard.leave(order, outcome, at(13_000)).unwrap().outcome, expected);
        assert_eq!(guard.decide(facts, at(13_001)), Decision::Idle);
        let counts: Vec<_> = guard.totals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(expected, 1)]);
        assert!(guard.saved().kills().is_empty());
    }
}

#[test]
fn patterns_select_by_name_identity_and_sha1() {
    let list = |patterns: &[&str]| patterns.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let mut reindex = named(&script('a'));
    reindex.name = crate::script::Label::new("Jobs/reindex");
    for (only, never, admitted) in [
        (&[][..], &[][..], true),
        (&["jobs/*"], &[], true),
        (&["jobs"], &[], false),
        (&["aaaaaaaaaaaa"], &[], true),
        (&["AAAA*"], &[], true),
        (&["b*", "*"], &[], true),
        (&[], &["*reindex"], false),
        (&["jobs/*"], &["a*"], false),
        (&["b*"], &["c*"], false),
        (&[], &["b*"], true),
    ] {
        let patterns = Patterns::new(&list(only), &list(never));
        assert_eq!(patterns.admit(&reindex), admitted, "{only:?} {never:?}");
    }
}

#[test]
fn a_script_that_is_named_late_is_judged_by_its_name() {
    for (never, killed) in [("bbbb*", true), ("aaaa*", false)] {
        let scripts = Patterns::new(&[], &[never.to_owned()]);
        let mut guard = guard(Policy { scripts, ..policy(Mode::Kill) });
        busy(&mut guard, BusyKind::Script, 5000, 10_000);
        assert_eq!(decide(&guard, 10_100), Decision::Wait(mono(12_001)), "its name may still arrive");
        guard.logged(line(script('a'), 5000, 5300), Some(ms(LIMIT)));
        if killed {
            kill(decide(&guard, 10_101));
        } else {
            assert_eq!(left(decide(&guard, 10_101)), GuardOutcome::Excluded);
        }
    }
}

#[test]
fn a_log_line_about_an_earlier_run_does_not_name_the_current_one() {
    let mut guard = guard(policy(Mode::Kill));
    busy(&mut guard, BusyKind::Script, 5000, 6000);
    guard.logged(line(script('a'), 5000, 5100), Some(ms(LIMIT)));
    assert_eq!(guard.script(), Some(&script('a')));
    guard.busy(confirmation(BusyKind::Script, 6200), Some(ms(LIMIT)), at(11_100));
    assert_eq!(guard.script(), None, "another run fits in between");
    guard.logged(line(script('a'), 5000, 10_900), Some(ms(LIMIT)));
    assert_eq!(guard.script(), None);
    guard.logged(line(script('b'), 5000, 11_200), Some(ms(LIMIT)));
    assert_eq!(guard.script(), Some(&script('b')));
    // A second line belongs to a second run.
    busy(&mut guard, BusyKind::Script, 11_300, 13_000);
    assert_eq!(guard.script(), Some(&script('b')), "still the same");
    guard.logged(line(script('b'), 5000, 18_500), Some(ms(LIMIT)));
    assert_eq!(decide(&guard, 18_500), Decision::Wait(mono(23_500)));
    guard.free(mono(19_000));
    guard.logged(line(script('b'), 5000, 21_900), Some(ms(LIMIT)));
    assert_eq!(guard.script(), None, "the server was free after its beginning");
}

/// One connection waits for a reply about the first script, while another one finds the server free and then BUSY with the second
/// script.
#[test]
fn a_late_busy_reply_does_not_backdate_a_run() {
    let (mut guard, limit) = (guard(policy(Mode::Kill)), Some(ms(100)));
    guard.free(mono(139));
    guard.busy(confirmation(BusyKind::Script, 83), limit, at(307));
    guard.busy(confirmation(BusyKind::Script, 215), limit, at(317));
    assert_eq!(guard.runs_began(), Some(mono(217)), "it began at 211");
}

/// A script starts immediately after another one is killed. All requests wait until it is BUSY, so only its log line shows that
/// it is a single run.
#[test]
fn a_log_line_shows_that_the_following_script_is_a_single_run() {
    let scripts = Patterns::new(&[], &["b*".to_owned()]);
    let mut guard = guard(Policy { scripts, kill_after: ms(LIMIT), ..policy(Mode::Kill) });
    busy(&mut guard, BusyKind::Script, 5000, 5200);
    guard.logged(line(script('a'), 5000, 5030), Some(ms(LIMIT)));
    // The first script is killed at 5250. The next one is BUSY at 10,250.
    guard.logged(line(script('c'), 5002, 10_270), Some(ms(LIMIT)));
    guard.busy(confirmation(BusyKind::Script, 5255), Some(ms(LIMIT)), at(10_280));
    guard.busy(confirmation(BusyKind::Script, 5260), Some(ms(LIMIT)), at(10_290));
    assert_eq!(guard.script(), Some(&script('c')));
    let order = kill(decide(&guard, 10_300));
    assert_eq!(confirm(&mut guard, order, 10_300), Some(order));
    // Another script may have followed before this reply.
    guard.busy(confirmation(BusyKind::Script, 10_310), Some(ms(LIMIT)), at(15_400));
    assert_eq!(guard.script(), None);
}

#[test]
fn the_budget_is_kept_across_a_restart() {
    let mut guard = guard(policy(Mode::Kill));
    for round in 0..4 {
        let base = round * 20_000;
        busy(&mut guard, BusyKind::Script, base + 5000, base + 9800);
        if round == 3 {
            break;
        }
        let order = kill(decide(&guard, base + 10_001));
        confirm(&mut guard, order, base + 10_001).unwrap();
        guard.answered(order, GuardOutcome::Killed, None, at(base + 10_003));
        guard.free(mono(base + 11_000));
    }
    assert_eq!(left(decide(&guard, 70_001)), GuardOutcome::Budget);
    let mut after = super::tests::guard(policy(Mode::Kill));
    after.restore(guard.saved());
    busy(&mut after, BusyKind::Script, 65_000, 69_800);
    assert_eq!(left(decide(&after, 70_001)), GuardOutcome::Budget);
    // The first kill is no longer within the period.
    busy(&mut after, BusyKind::Script, 70_000, 610_100);
    kill(decide(&after, 610_200));
}

#[test]
fn a_refused_kill_takes_nothing_from_the_budget() {
    for (text, expected) in [
        ("UNKILLABLE Sorry the script already executed write commands", GuardOutcome::Unkillable),
        ("UNKILLABLE The busy script was sent by a master instance", GuardOutcome::FromMaster),
        ("NOTBUSY No scripts in execution right now.", GuardOutcome::NotBusy),
        ("ERR something", GuardOutcome::Error),
    ] {
        let mut guard = guard(policy(Mode::Kill));
        busy(&mut guard, BusyKind::Script, 5000, 9800);
        let order = kill(decide(&guard, 10_001));
        confirm(&mut guard, order, 10_001).unwrap();
        assert!(!guard.saved().kills().is_empty());
        let reply = ErrorReply::Other { text: text.to_owned() };
        let outcome = GuardOutcome::of_reply(Err(&reply), ms(1), ms(LIMIT));
        assert_eq!(outcome, expected);
        guard.answered(order, outcome, Some(text.to_owned()), at(10_003));
        assert!(guard.saved().kills().is_empty());
        busy(&mut guard, BusyKind::Script, 10_100, 14_000);
        let next = decide(&guard, 14_100);
        assert!(matches!(next, Decision::Idle | Decision::Wait(_)), "{expected:?}: {next:?}");
    }
}

#[test]
fn a_run_is_killed_again_only_if_the_kill_had_no_effect() {
    let mut guard = guard(policy(Mode::Kill));
    busy(&mut guard, BusyKind::Script, 5000, 9800);
    let order = kill(decide(&guard, 10_001));
    confirm(&mut guard, order, 10_001).unwrap();
    guard.answered(order, GuardOutcome::Killed, None, at(10_003));
    busy(&mut guard, BusyKind::Script, 10_100, 10_900);
    assert!(matches!(decide(&guard, 12_000), Decision::Wait(_)), "no reply after a second");
    busy(&mut guard, BusyKind::Script, 11_100, 11_300);
    let again = kill(decide(&guard, 11_400));
    confirm(&mut guard, again, 11_400).unwrap();
    let action = guard.answered(again, GuardOutcome::Killed, None, at(11_402)).unwrap();
    assert_eq!(action.outcome, GuardOutcome::KilledAgain);
    busy(&mut guard, BusyKind::Script, 11_500, 12_900);
    let last = kill(decide(&guard, 13_000));
    confirm(&mut guard, last, 13_000).unwrap();
    guard.answered(last, GuardOutcome::Killed, None, at(13_002));
    for end in (15_000..30_000).step_by(2000) {
        busy(&mut guard, BusyKind::Script, end - 1900, end);
        assert!(matches!(decide(&guard, end + 100), Decision::Wait(_)), "three kills of a run at most");
    }
}

/// The exporter ends after a kill was sent and before its reply was saved.
#[test]
fn an_intended_kill_counts_after_a_crash() {
    let mut guard = guard(Policy { budget: Budget { max_kills: 1, per: ms(600_000) }, ..policy(Mode::Kill) });
    busy(&mut guard, BusyKind::Script, 5000, 9800);
    let order = kill(decide(&guard, 10_001));
    assert_eq!((guard.saved().kills().len(), guard.unanswered(at(10_001))), (0, None));
    guard.intend(at(10_001));
    let saved = guard.saved();
    assert_eq!(saved.kills().len(), 1);
    let record = guard.unanswered(at(10_002)).unwrap();
    assert_eq!((record.outcome, record.ran_for), (GuardOutcome::Unreachable, ms(10_001)));
    // A kill that is not sent gives its place back; one that is sent has one place.
    guard.withdraw();
    assert_eq!((guard.saved().kills().len(), guard.unanswered(at(10_002))), (0, None));
    guard.intend(at(10_002));
    assert_eq!(confirm(&mut guard, order, 10_002), Some(order), "its own place is not counted against it");
    assert_eq!(guard.saved().kills().len(), 1);
    assert!(guard.unanswered(at(10_003)).is_some());
    guard.answered(order, GuardOutcome::Killed, None, at(10_004));
    assert_eq!((guard.saved().kills().len(), guard.unanswered(at(10_005))), (1, None));
    let mut after = super::tests::guard(guard.policy().clone());
    after.restore(saved);
    busy(&mut after, BusyKind::Script, 25_000, 29_800);
    assert_eq!(left(decide(&after, 30_001)), GuardOutcome::Budget);
}

#[test]
fn a_late_answer_is_reported_as_such() {
    assert_eq!(GuardOutcome::of_reply(Ok(()), ms(1), ms(LIMIT)), GuardOutcome::Killed);
    assert_eq!(GuardOutcome::of_reply(Ok(()), ms(LIMIT), ms(LIMIT)), GuardOutcome::KilledNext);
    let busy = ErrorReply::Busy { kind: BusyKind::Function, counted: true };
    assert_eq!(GuardOutcome::of_reply(Err(&busy), ms(1), ms(LIMIT)), GuardOutcome::OtherKind);
}

/// Step of a random sequence of observations.
#[derive(Debug, Clone)]
enum Step {
    Pause(u64),
    /// BUSY reply, and the time that it took, ms.
    Busy(BusyKind, u64),
    Stats(char, u64),
    Logged(char, u64),
    Free,
    Role(Option<&'static str>),
    Limit(Option<u64>),
    /// The guard acts on its decision, with this kind of confirmation and this outcome of the kill.
    Act(BusyKind, GuardOutcome),
    /// The guard acts on its decision. The exporter ends when the kill has been sent, and starts again.
    Crash(BusyKind),
    /// The guard's connection is lost, and established again before it acts.
    Reconnect,
    Restart,
}

fn steps() -> impl Strategy<Value = Step> {
    let kind =
        prop_oneof![4 => Just(BusyKind::Script), 2 => Just(BusyKind::Function), 1 => Just(BusyKind::Module)];
    let letter = prop_oneof![Just('a'), Just('b')];
    let outcome = prop_oneof![
        4 => Just(GuardOutcome::Killed),
        1 => Just(GuardOutcome::KilledNext),
        1 => Just(GuardOutcome::Unkillable),
        1 => Just(GuardOutcome::NotBusy),
        1 => Just(GuardOutcome::Unreachable),
        1 => Just(GuardOutcome::NotPermitted),
    ];
    prop_oneof![
        6 => prop_oneof![0_u64..300, 0_u64..3000, 0_u64..20_000].prop_map(Step::Pause),
        8 => (kind.clone(), prop_oneof![0_u64..50, 0_u64..6000]).prop_map(|(kind, took)| Step::Busy(kind, took)),
        2 => (letter.clone(), 0_u64..30_000).prop_map(|(name, ran)| Step::Stats(name, ran)),
        2 => (letter, 0_u64..6000).prop_map(|(name, ran)| Step::Logged(name, ran)),
        1 => Just(Step::Free),
        1 => prop_oneof![4 => Just(Some("master")), 1 => Just(Some("slave")), 1 => Just(None)].prop_map(Step::Role),
        1 => prop_oneof![Just(None), Just(Some(1000)), Just(Some(5000))].prop_map(Step::Limit),
        8 => (kind.clone(), outcome).prop_map(|(kind, outcome)| Step::Act(kind, outcome)),
        1 => kind.prop_map(Step::Crash),
        2 => Just(Step::Reconnect),
        1 => Just(Step::Restart),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    let patterns =
        || prop_oneof![2 => Just(vec![]), 1 => Just(vec!["a*".to_owned()]), 1 => Just(vec!["b*".to_owned()])];
    let scripts = (patterns(), patterns()).prop_map(|(only, never)| Patterns::new(&only, &never));
    (
        prop_oneof![Just(100), Just(6000), Just(10_000)],
        prop_oneof![3 => Just(Mode::Kill), 1 => Just(Mode::DryRun)],
        scripts,
        prop_oneof![Just(UnknownScript::Leave), Just(UnknownScript::Kill)],
        any::<bool>(),
        (1_usize..4, prop_oneof![Just(10_000), Just(600_000)]),
    )
        .prop_map(|(kill_after, mode, scripts, unknown, functions, (max_kills, per))| Policy {
            kill_after: ms(kill_after),
            mode,
            scripts,
            unknown,
            functions,
            budget: Budget { max_kills, per: ms(per) },
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// For any order of observations, a kill is permitted only if no rule forbids it.
    #[test]
    fn no_order_of_observations_leads_to_a_forbidden_kill(
        policy in policies(),
        steps in prop::collection::vec(steps(), 1..120),
    ) {
        let mut guard = guard(policy.clone());
        let (mut now, mut role, mut limit) = (100_000, Some("master"), Some(5000));
        let mut sent: Vec<(u64, bool)> = Vec::new();
        let mut killed_at: Option<(Order, u64)> = None;
        // Time of the latest observation that a call is BUSY.
        let mut busy_at = 0;
        for step in steps {
            let time_limit = limit.map(ms);
            match step {
                Step::Pause(pause) => now += pause,
                Step::Busy(kind, took) => {
                    now += took;
                    busy_at = now;
                    guard.busy(confirmation(kind, now - took), time_limit, at(now));
                }
                Step::Stats(name, ran) => {
                    let name = Identity::from_function(name.to_string().as_bytes());
                    let named = Named { kind: BusyKind::Function, script: name, running_for: ms(ran) };
                    let reply = Confirmation { named: Some(named), ..confirmation(BusyKind::Function, now) };
                    busy_at = now;
                    guard.busy(reply, time_limit, at(now));
                }
                Step::Logged(name, ran) => {
                    busy_at = now;
                    guard.logged(line(script(name), ran, now), time_limit);
                }
                Step::Free => guard.free(mono(now)),
                Step::Role(next) => role = next,
                Step::Limit(next) => limit = next,
                Step::Restart => {
                    let saved = guard.saved();
                    guard = super::tests::guard(policy.clone());
                    guard.restore(saved);
                    killed_at = None;
                }
                Step::Reconnect => {
                    guard.set_ready(Some("no reply".to_owned().into()));
                    let script = guard.script().map(named);
                    let facts = GuardContext { role, time_limit, script: script.as_ref() };
                    if let Decision::Kill(order) = guard.decide(facts, at(now)) {
                        guard.unreachable(order, "no reply".to_owned(), at(now));
                    }
                    guard.set_ready(None);
                }
                Step::Act(kind, _) | Step::Crash(kind) => {
                    // A crash leaves only what was saved before the confirmation.
                    let outcome = if let Step::Act(_, outcome) = step { Some(outcome) } else { None };
                    let script = guard.script().map(named);
                    let facts = GuardContext { role, time_limit, script: script.as_ref() };
                    match guard.decide(facts, at(now)) {
                        Decision::Idle => {}
                        Decision::Wait(until) => prop_assert!(until >= mono(now)),
                        Decision::Leave(order, outcome) => {
                            prop_assert!(guard.leave(order, outcome, at(now)).is_some(), "{:?} twice", outcome);
                        }
                        Decision::Kill(order) => {
                            let last_busy = busy_at;
                            guard.intend(at(now));
                            let saved = guard.saved();
                            let permitted = guard.confirm(order, confirmation(kind, now), facts, at(now + 1));
                            now += 1;
                            busy_at = now;
                            let Some(order) = permitted else {
                                guard.withdraw();
                                continue;
                            };
                            // The permitted kill must agree with everything observed so far.
                            prop_assert_eq!(order.kind, kind);
                            prop_assert!(kind != BusyKind::Module);
                            prop_assert_eq!(policy.mode, Mode::Kill);
                            prop_assert_eq!(role, Some("master"));
                            prop_assert!(kind == BusyKind::Script || policy.functions);
                            match &script {
                                Some(script) => prop_assert!(policy.scripts.admit(script)),
                                None => prop_assert!(
                                    policy.scripts.is_empty() || policy.unknown == UnknownScript::Kill
                                ),
                            }
                            let recent = sent.iter().filter(|(at, counts)| {
                                *counts && ms(now - at) + ms(1000) < policy.budget.per
                            });
                            prop_assert!(recent.count() < policy.budget.max_kills, "over the budget");
                            if let Some((before, at)) = killed_at {
                                let had_no_effect = last_busy >= at + 1000;
                                prop_assert!(before != order || had_no_effect, "a second kill at once");
                            }
                            prop_assert_eq!(guard.decide(facts, at(now)), Decision::Idle, "one at a time");
                            sent.push((now, outcome.is_none_or(|outcome| !outcome.is_refusal())));
                            if let Some(outcome) = outcome {
                                killed_at = Some((order, now));
                                guard.answered(order, outcome, None, at(now + 1));
                            } else {
                                guard = super::tests::guard(policy.clone());
                                guard.restore(saved);
                                killed_at = None;
                            }
                        }
                    }
                }
            }
        }
    }

    /// For consecutive runs on a server that is queried continuously, with replies that are read late, the guard never
    /// overestimates the age of a run.
    #[test]
    fn the_age_of_a_run_is_never_overestimated(
        runs in prop::collection::vec((0_u64..800, 1_u64..9000, any::<bool>()), 1..12),
        delays in prop::collection::vec(prop_oneof![9 => 0_u64..60, 1 => 0_u64..2500], 1..40),
        // Percentage of the time limit.
        lags in prop::collection::vec(0_u64..20, 1..12),
        reads in prop::collection::vec((prop_oneof![9 => 0_u64..30, 1 => 0_u64..9000], any::<bool>()), 1..40),
        pause in 50_u64..400,
        limit in prop_oneof![Just(300_u64), Just(1000), Just(5000)],
    ) {
        let mut begin = 1000;
        let mut spans = Vec::new();
        for (gap, length, is_function) in runs {
            // Often without any gap.
            begin += gap.saturating_sub(400);
            let kind = if is_function { BusyKind::Function } else { BusyKind::Script };
            spans.push((begin, begin + length, kind));
            begin += length;
        }
        let names: Vec<Identity> = "0123456789ab".chars().map(script).collect();
        // A script that exceeds the limit is logged, and its line reaches the file with a delay. The log is also read continuously,
        // and a read may hang.
        let mut written = spans
            .iter()
            .zip(&names)
            .filter(|((from, to, kind), _)| *kind == BusyKind::Script && to - from > limit)
            .zip(lags.into_iter().cycle())
            .map(|(((from, ..), name), lag)| (from + limit + limit / 100 * lag, name.clone()))
            .peekable();
        let (mut lines, mut read, mut before) = (Vec::new(), 0, 0);
        for (hang, sees_all) in reads.into_iter().cycle() {
            let begun = read + 100;
            read = begun + hang;
            let until = if sees_all { read } else { begun };
            while let Some((_, name)) = written.next_if(|(at, _)| *at <= until) {
                lines.push((read, NamedLine { written_after: mono(before), ..line(name, limit, read) }));
            }
            before = begun;
            if written.peek().is_none() {
                break;
            }
        }
        let mut guard = guard(policy(Mode::Kill));
        let (mut now, mut delays) = (0, delays.into_iter().cycle());
        while now < begin + 1000 {
            let sent = now;
            // The server replies when it is free or when a run is BUSY.
            let mut replied = sent;
            let busy = loop {
                let Some(index) = spans.iter().position(|(from, to, _)| (*from..*to).contains(&replied)) else {
                    break None;
                };
                let (from, to, kind) = spans[index];
                if replied >= from + limit {
                    break Some((index, from, kind));
                }
                replied = to.min(from + limit);
            };
            now = replied + delays.next().unwrap();
            for (_, line) in lines.extract_if(.., |(read, _)| *read <= now) {
                guard.logged(line, Some(ms(limit)));
            }
            match busy {
                None => guard.free(mono(sent)),
                Some((index, from, kind)) => {
                    guard.busy(confirmation(kind, sent), Some(ms(limit)), at(now));
                    let began = guard.runs_began().unwrap();
                    prop_assert!(began >= mono(from), "{began:?} is before {from}");
                    // A line of a later run may be read before this reply.
                    let shows_earlier = guard.script().is_some_and(|named| names[..index].contains(named));
                    prop_assert!(!shows_earlier, "{index}: {guard:?}");
                }
            }
            now += pause;
        }
    }
}
