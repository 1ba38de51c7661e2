//! Tests of the state machine.

use proptest::prelude::*;

use super::*;
use crate::clock::Unix;
use crate::convert::micros;
use crate::watch::outage::OutageReason;
use crate::watch::state::StateKind;

/// Time `ms` milliseconds after the start.
pub(super) fn at(ms: u64) -> Timestamps {
    let since_start = Duration::from_millis(ms);
    let began = Duration::from_secs(1_700_000_000);
    Timestamps { mono: Mono::from_epoch(since_start), unix: Unix::from_epoch(began + since_start) }
}

pub(super) fn mono(ms: u64) -> Mono {
    at(ms).mono
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn outage(detail: &str) -> Outage {
    Outage::new(OutageReason::Other, detail)
}

fn totals(liveness: &Liveness, cause: Cause) -> CauseTotals {
    liveness.totals().find(|(known, _)| *known == cause).unwrap().1
}

fn busy_count(liveness: &Liveness, kind: BusyKind) -> u64 {
    liveness.busy_episodes().find(|(known, _)| *known == kind).unwrap().1
}

#[test]
fn a_script_is_blocked_then_busy_then_over() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.answered(mono(0), at(0), &mut events);
    liveness.silent(mono(200), at(450), &mut events);
    assert_eq!((liveness.state().kind(), liveness.blocked(at(1200))), (StateKind::Blocked, ms(1000)));
    liveness.busy(BusyKind::Script, mono(200), at(5200), &mut events);
    liveness.busy(BusyKind::Script, mono(5400), at(5410), &mut events);
    assert_eq!(liveness.state().kind(), StateKind::Busy(BusyKind::Script));
    liveness.answered(mono(6200), at(6200), &mut events);
    assert_eq!((liveness.state().kind(), liveness.blocked(at(6300))), (StateKind::Ok, ms(0)));
    assert!(liveness.awaits_attribution());
    liveness.attribute(&[], None, &mut events);
    assert_eq!(totals(&liveness, Cause::Script), CauseTotals { episodes: 1, micros: 6_000_000 });
    assert_eq!(busy_count(&liveness, BusyKind::Script), 1);
}

#[test]
fn a_busy_reply_of_another_kind_begins_another_blockage() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.busy(BusyKind::Script, mono(0), at(10), &mut events);
    liveness.busy(BusyKind::Function, mono(1000), at(1010), &mut events);
    assert_eq!(liveness.state().kind(), StateKind::Busy(BusyKind::Function));
    assert_eq!(liveness.blocked(at(1020)), ms(20), "it begins where the other one ended");
    liveness.answered(mono(2000), at(2000), &mut events);
    liveness.attribute(&[], None, &mut events);
    assert_eq!(
        (totals(&liveness, Cause::Script).episodes, totals(&liveness, Cause::Function).episodes),
        (1, 1)
    );
    let latest: Vec<_> = liveness.latest_blockages().collect();
    let [script, function] =
        [(Cause::Script, 1000, 1000), (Cause::Function, 2000, 1000)].map(|(cause, ended, blocked)| {
            (cause, LatestOfCause { ended: at(ended).unix, blocked: ms(blocked), is_undetected: false })
        });
    assert_eq!(latest.len(), 2);
    assert!(latest.contains(&script) && latest.contains(&function), "{latest:?}");
}

#[test]
fn a_lost_server_ends_its_blockage() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.answered(mono(0), at(0), &mut events);
    liveness.silent(mono(200), at(450), &mut events);
    liveness.unreachable(&outage("gone"), at(1200), &mut events);
    assert_eq!((liveness.state().kind(), liveness.blocked(at(2000))), (StateKind::Unreachable, ms(0)));
    assert_eq!(totals(&liveness, Cause::Unknown), CauseTotals { episodes: 1, micros: 1_000_000 });
    assert!(!liveness.awaits_attribution());
}

#[test]
fn a_name_applies_only_while_the_function_runs() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.answered(mono(0), at(0), &mut events);
    liveness.busy(BusyKind::Function, mono(5200), at(5210), &mut events);
    liveness.running(b"slow", Some(ms(5100)), mono(5210), at(5210), &mut events);
    assert_eq!(liveness.running_script().unwrap().script.label.as_str(), "slow");
    assert_eq!(liveness.blocked(at(5210)), ms(5100), "the server knows the start more accurately");
    liveness.answered(mono(6000), at(6000), &mut events);
    assert!(liveness.running_script().is_none());
}

/// The server processed SLOWLOG GET, then started a script: the reply was delayed in transit, or sent only when the script had ended.
#[test]
fn a_delayed_reply_does_not_end_a_script_that_began_after_it() {
    let eval = |ended_at: u64, length: u64| Entry {
        id: ended_at,
        ended_at: at(ended_at).unix.as_secs(),
        duration: ms(length),
        ..Entry::with_arguments(&["EVAL", "return 1"])
    };
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.set_time_limit(Some(ms(2000)));
    liveness.answered(mono(0), at(0), &mut events);
    // A script that ended earlier is not the reason for the silence.
    liveness.silent(mono(100), at(350), &mut events);
    liveness.answered(mono(100), at(2000), &mut events);
    liveness.silent(mono(2000), at(2250), &mut events);
    liveness.answered(mono(2000), at(3500), &mut events);
    liveness.attribute(&[eval(2000, 1900)], Some(0.0), &mut events);
    assert_eq!(ended(&events), [(Cause::Script, ms(1900), None)]);
    assert!(liveness.awaits_attribution());
    liveness.busy(BusyKind::Script, mono(4010), at(4012), &mut events);
    assert_eq!(liveness.blocked(at(4012)), ms(2012), "the silence was this script");
    liveness.answered(mono(6000), at(6000), &mut events);
    liveness.answered(mono(6001), at(6001), &mut events);
    liveness.attribute(&[eval(6000, 4000)], Some(0.0), &mut events);
    assert_eq!(ended(&events)[1..], [(Cause::Script, ms(4000), None)]);

    // A script that ends before the time limit.
    events.clear();
    liveness.silent(mono(7000), at(7250), &mut events);
    liveness.answered(mono(7000), at(8500), &mut events);
    liveness.attribute(&[], Some(0.0), &mut events);
    assert_eq!((ended(&events), liveness.awaits_attribution()), (vec![], true));
    liveness.answered(mono(8500), at(8501), &mut events);
    liveness.attribute(&[eval(8500, 1500)], Some(0.0), &mut events);
    assert_eq!(ended(&events), [(Cause::Script, ms(1500), None)]);
    assert_eq!(busy_count(&liveness, BusyKind::Script), 1);

    // Without a slow log, or without an entry in the next reply, the cause is unknown.
    for (began, without) in [(9000, true), (10_000, false)] {
        events.clear();
        liveness.silent(mono(began), at(began + 250), &mut events);
        liveness.answered(mono(began), at(began + 500), &mut events);
        liveness.attribute(&[], Some(0.0), &mut events);
        assert!(liveness.awaits_attribution());
        if without {
            liveness.attribute_without_slowlog(&mut events);
        } else {
            liveness.answered(mono(began + 500), at(began + 501), &mut events);
            liveness.attribute(&[], Some(0.0), &mut events);
        }
        assert_eq!(ended(&events), [(Cause::Unknown, ms(500), None)]);
        assert!(!liveness.awaits_attribution());
    }
}

#[test]
fn after_a_reply_as_slow_as_the_time_limit_the_next_reply_decides() {
    let blocked = || {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.set_time_limit(Some(ms(2000)));
        liveness.answered(mono(0), at(0), &mut events);
        liveness.silent(mono(100), at(350), &mut events);
        liveness.answered(mono(100), at(2110), &mut events);
        assert_eq!(liveness.state().kind(), StateKind::Blocked);
        assert_eq!(liveness.last_reply(), Some(mono(2110)));
        (liveness, events)
    };
    // The script that began right after the request was processed exceeds the time limit.
    let (mut liveness, mut events) = blocked();
    liveness.busy(BusyKind::Script, mono(2111), at(2112), &mut events);
    assert_eq!(liveness.blocked(at(2112)), ms(2012));
    liveness.answered(mono(4000), at(4000), &mut events);
    assert_eq!(liveness.state().kind(), StateKind::Ok);
    liveness.attribute(&[], Some(0.0), &mut events);
    assert_eq!(ended(&events), [(Cause::Script, ms(3900), None)]);

    // It was a slow command, which ended with the first reply.
    let (mut liveness, mut events) = blocked();
    liveness.answered(mono(2111), at(2200), &mut events);
    assert_eq!(liveness.state().kind(), StateKind::Ok);
    liveness.attribute(&[], Some(0.0), &mut events);
    assert_eq!(ended(&events), [(Cause::Unknown, ms(2010), None)]);

    // Another blockage follows, or the server becomes unreachable.
    let (mut liveness, mut events) = blocked();
    liveness.silent(mono(2111), at(2400), &mut events);
    assert_eq!(liveness.blocked(at(2400)), ms(289), "another blockage");
    let (mut gone, mut events_of_gone) = blocked();
    gone.unreachable(&outage("gone"), at(3000), &mut events_of_gone);
    assert_eq!(ended(&events_of_gone), [(Cause::Unknown, ms(2010), None)]);

    // A reply that took less than the time limit can't have been held back by such a script.
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.set_time_limit(Some(ms(2000)));
    liveness.silent(mono(100), at(350), &mut events);
    liveness.answered(mono(100), at(1900), &mut events);
    assert_eq!(liveness.state().kind(), StateKind::Ok);
}

#[test]
fn a_name_read_before_the_blockage_is_noticed_is_kept_if_still_current() {
    let sha1 = "a".repeat(40);
    // The script began at 50. A request sent before that may have been answered before it began.
    for (asked, answered, named) in [(0, 0, true), (40, 150, true), (60, 150, false)] {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(mono(0), at(0), &mut events);
        liveness.logged(RunningScript::logged(&sha1), ms(50), at(100), &mut events);
        liveness.answered(mono(asked), at(answered), &mut events);
        liveness.silent(mono(200), at(450), &mut events);
        assert_eq!(liveness.running_script().is_some(), named, "{asked}");
    }
}

/// Returns the cause, duration and named script of each ended blockage.
pub(super) fn ended(events: &[Event]) -> Vec<(Cause, Duration, Option<RunningScript>)> {
    let told = events.iter().filter_map(|event| match event {
        Event::BlockageEnded { cause, blocked, running_script, .. } => {
            Some((*cause, *blocked, running_script.clone()))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn a_function_that_begins_while_a_reply_is_in_transit_is_named() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    // PING is answered at 1000, and the reply is read at 1100; the function begins at 1010.
    liveness.answered(mono(1000), at(1100), &mut events);
    liveness.silent(mono(1200), at(1450), &mut events);
    liveness.busy(BusyKind::Function, mono(1200), at(6010), &mut events);
    liveness.running(b"slow", Some(ms(5001)), mono(6011), at(6012), &mut events);
    assert_eq!(liveness.running_script(), Some(&RunningScript::function(b"slow")));
    assert_eq!(liveness.blocked(at(6012)), ms(5001));
    liveness.answered(mono(13_000), at(13_011), &mut events);
    liveness.attribute(&[], None, &mut events);
    assert_eq!(ended(&events), [(Cause::Function, ms(12_000), Some(RunningScript::function(b"slow")))]);
}

#[test]
fn a_delayed_reply_is_not_a_blockage_of_its_own() {
    // PING is answered at 1000, and the reply is read at 1400, when the server already appears to be blocked.
    for (began, first) in [(1010, None), (1300, Some(ms(300)))] {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.silent(mono(1000), at(1250), &mut events);
        liveness.answered(mono(1000), at(1400), &mut events);
        liveness.silent(mono(1500), at(1750), &mut events);
        liveness.busy(BusyKind::Function, mono(1500), at(began + 5000), &mut events);
        let asked = began + 5001;
        liveness.running(b"slow", Some(ms(5001)), mono(asked), at(asked), &mut events);
        liveness.answered(mono(13_000), at(13_000), &mut events);
        liveness.attribute(&[], None, &mut events);
        let of_function = (Cause::Function, ms(13_000 - began), Some(RunningScript::function(b"slow")));
        let before = first.map(|blocked| (Cause::Unknown, blocked, None));
        assert_eq!(ended(&events), before.into_iter().chain([of_function]).collect::<Vec<_>>());
    }
}

#[test]
fn a_lost_connection_does_not_lose_the_name_of_a_function() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.answered(mono(0), at(0), &mut events);
    liveness.silent(mono(200), at(450), &mut events);
    liveness.unreachable(&outage("reset"), at(1000), &mut events);
    liveness.unauthorized("no password yet", at(1100), &mut events);
    liveness.busy(BusyKind::Function, mono(1200), at(6000), &mut events);
    liveness.running(b"slow", Some(ms(5900)), mono(6000), at(6000), &mut events);
    assert!(liveness.running_script().is_some());
    assert_eq!(liveness.blocked(at(6000)), ms(5000), "what was counted before is not counted again");
}

#[test]
fn a_change_of_busy_kind_without_a_gap_makes_two_named_blockages() {
    let sha1 = "a".repeat(40);
    let (script, function) = (RunningScript::logged(&sha1), RunningScript::function(b"endless"));
    // The first call runs from 1000 to 9000, the second from 9000 to 20,000; the limit is 5 s.
    for script_first in [true, false] {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        let mut kinds = [BusyKind::Script, BusyKind::Function];
        let mut expected_ends = [(script.clone(), 8000), (function.clone(), 11_000)];
        if !script_first {
            kinds.reverse();
            expected_ends = [(function.clone(), 8000), (script.clone(), 11_000)];
        }
        let [one, two] = kinds;
        liveness.answered(mono(900), at(901), &mut events);
        liveness.silent(mono(1100), at(1350), &mut events);
        let mut began = 1000;
        for kind in [one, two] {
            let passed = began + 5000;
            if kind == BusyKind::Script {
                // For the second call, the log line is read before the BUSY reply.
                liveness.logged(script.clone(), ms(5000), at(passed), &mut events);
            }
            liveness.busy(kind, mono(if kind == one { 1100 } else { 9100 }), at(passed + 10), &mut events);
            if kind == BusyKind::Function {
                liveness.running(b"endless", Some(ms(5020)), mono(passed + 20), at(passed + 20), &mut events);
            }
            assert_eq!(liveness.state().kind(), StateKind::Busy(kind));
            let expected = if kind == BusyKind::Script { &script } else { &function };
            assert_eq!(liveness.running_script(), Some(expected));
            assert_eq!(liveness.blocked(at(passed + 20)), ms(5020));
            liveness.busy(kind, mono(8900), at(8910), &mut events);
            began = 9000;
        }
        liveness.answered(mono(20_000), at(20_000), &mut events);
        liveness.attribute(&[], None, &mut events);
        let expected = expected_ends.map(|(running_script, length)| {
            (Cause::of_kind(running_script.kind), ms(length), Some(running_script))
        });
        assert_eq!(ended(&events), expected);
        assert_eq!(busy_count(&liveness, one) + busy_count(&liveness, two), 2);
    }
}

#[test]
fn a_function_or_script_that_follows_at_once_is_another_blockage() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.answered(mono(0), at(0), &mut events);
    liveness.busy(BusyKind::Function, mono(200), at(5100), &mut events);
    liveness.running(b"one", Some(ms(5000)), mono(5100), at(5100), &mut events);
    liveness.running(b"one", Some(ms(6000)), mono(6100), at(6600), &mut events);
    assert_eq!(liveness.blocked(at(6600)), ms(6500), "a delayed reply is no evidence of another run");
    liveness.running(b"one", Some(ms(5000)), mono(12_000), at(12_000), &mut events);
    liveness.running(b"two", Some(ms(5000)), mono(18_000), at(18_000), &mut events);
    let sha1 = "a".repeat(40);
    liveness.busy(BusyKind::Script, mono(20_000), at(25_000), &mut events);
    liveness.logged(RunningScript::logged(&sha1), ms(5000), at(25_000), &mut events);
    liveness.logged(RunningScript::logged(&sha1), ms(5000), at(31_000), &mut events);
    liveness.answered(mono(33_000), at(33_000), &mut events);
    liveness.attribute(&[], None, &mut events);
    let function =
        |name: &str, length| (Cause::Function, ms(length), Some(RunningScript::function(name.as_bytes())));
    let script = |length| (Cause::Script, ms(length), Some(RunningScript::logged(&sha1)));
    assert_eq!(
        ended(&events),
        [function("one", 6900), function("one", 6000), function("two", 7000), script(6000), script(7000)]
    );
}

#[test]
fn a_line_of_the_log_that_is_read_late_names_what_has_ended() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    let sha1 = "a".repeat(40);
    liveness.answered(mono(0), at(0), &mut events);
    liveness.busy(BusyKind::Script, mono(200), at(5300), &mut events);
    liveness.answered(mono(5400), at(5400), &mut events);
    liveness.logged(RunningScript::logged(&sha1), ms(5000), at(5410), &mut events);
    liveness.attribute(&[], None, &mut events);
    assert_eq!(ended(&events), [(Cause::Script, ms(5200), Some(RunningScript::logged(&sha1)))]);
}

#[test]
fn back_to_back_scripts_are_attributed_separately() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.answered(mono(0), at(0), &mut events);
    let mut entries = Vec::new();
    for (id, (name, begins)) in [("EVAL", 200), ("FCALL", 1700), ("EVAL", 3200)].into_iter().enumerate() {
        // SLOWLOG GET, sent when the previous script had ended, is answered when this one has ended.
        liveness.silent(mono(begins), at(begins + 250), &mut events);
        liveness.answered(mono(begins + 1500), at(begins + 1500), &mut events);
        entries.push(Entry {
            id: u64::try_from(id).unwrap(),
            ended_at: at(begins + 1500).unix.as_secs(),
            duration: ms(1500),
            ..Entry::with_arguments(&[name, "f"])
        });
    }
    liveness.attribute(&entries, Some(0.0), &mut events);
    assert_eq!(totals(&liveness, Cause::Script), CauseTotals { episodes: 2, micros: 3_000_000 });
    assert_eq!(totals(&liveness, Cause::Function), CauseTotals { episodes: 1, micros: 1_500_000 });
}

#[test]
fn an_error_sent_even_while_busy_does_not_end_a_blockage() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.inconclusive(at(0), &mut events);
    assert_eq!(liveness.state().kind(), StateKind::Ok);
    liveness.busy(BusyKind::Script, mono(200), at(1200), &mut events);
    liveness.inconclusive(at(1300), &mut events);
    assert_eq!(
        (liveness.state().kind(), liveness.blocked(at(1400))),
        (StateKind::Busy(BusyKind::Script), ms(1200))
    );
}

/// Server with this time limit that was BUSY with a named script from 200 to 5400 and is now silent.
fn busy_with_a_named_script(limit: Option<Duration>) -> (Liveness, Vec<Event>, RunningScript) {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    let first = RunningScript::logged(&"a".repeat(40));
    liveness.set_time_limit(limit);
    liveness.answered(mono(0), at(0), &mut events);
    liveness.silent(mono(200), at(450), &mut events);
    liveness.busy(BusyKind::Script, mono(200), at(5200), &mut events);
    liveness.logged(first.clone(), ms(5000), at(5210), &mut events);
    liveness.busy(BusyKind::Script, mono(5300), at(5301), &mut events);
    assert_eq!(liveness.running_script(), Some(&first));
    liveness.silent(mono(5500), at(5750), &mut events);
    assert_eq!(liveness.state().kind(), StateKind::BusySilent);
    assert_eq!(liveness.running_script(), None, "another one may have begun");
    assert_eq!(liveness.blocked(at(5750)), ms(5550));
    (liveness, events, first)
}

fn entry_of(id: u64, ended: u64, length: u64, arguments: &[&str]) -> Entry {
    Entry { id, ended_at: at(ended).unix.as_secs(), duration: ms(length), ..Entry::with_arguments(arguments) }
}

#[test]
fn a_silence_after_busy_hides_the_name_until_it_must_be_the_same_script() {
    for (limit, answered, named) in [
        (Some(ms(5000)), 10_200, true),
        (Some(ms(5000)), 10_400, false),
        (None, 5800, false),
        (Some(ms(0)), 5800, false),
    ] {
        let (mut liveness, mut events, first) = busy_with_a_named_script(limit);
        liveness.busy(BusyKind::Script, mono(5500), at(answered), &mut events);
        assert_eq!(liveness.state().kind(), StateKind::Busy(BusyKind::Script));
        assert_eq!(liveness.running_script().is_some(), named, "{limit:?} {answered}");
        // Another silence does not affect an earlier one.
        liveness.busy(BusyKind::Script, mono(answered + 1), at(answered + 2), &mut events);
        liveness.silent(mono(answered + 100), at(answered + 400), &mut events);
        liveness.busy(BusyKind::Script, mono(answered + 100), at(answered + 500), &mut events);
        assert_eq!(liveness.running_script().is_some(), named, "{limit:?} {answered}");
        let end = answered + 1000;
        liveness.answered(mono(end), at(end), &mut events);
        let entries = [entry_of(7, end, end - 200, &["EVALSHA", "a"])];
        assert_eq!(liveness.attribute(&entries, Some(0.0), &mut events).undetected, [0; 0]);
        assert_eq!(ended(&events), [(Cause::Script, ms(end - 200), Some(first))], "one call is one blockage");
        assert_eq!(busy_count(&liveness, BusyKind::Script), 1);
    }
}

#[test]
fn a_call_right_after_a_busy_script_gets_its_blockage_from_its_entry() {
    for (name, cause) in [("KEYS", Cause::Command), ("FCALL", Cause::Function), ("EVAL", Cause::Script)] {
        let (mut liveness, mut events, first) = busy_with_a_named_script(Some(ms(5000)));
        // The script ended at 5400, and the call that follows at 8400.
        liveness.answered(mono(5500), at(8400), &mut events);
        let entries = [
            entry_of(5, 5300, 4000, &["KEYS", "within the script"]),
            entry_of(6, 5400, 5200, &["EVALSHA", "a"]),
            entry_of(7, 8300, 2000, &["KEYS", "within what follows"]),
            entry_of(8, 8400, 3000, &[name, "x"]),
        ];
        let attributed = liveness.attribute(&entries, Some(0.0), &mut events);
        assert_eq!(attributed.undetected, [8], "{name}");
        assert_eq!(ended(&events), [(Cause::Script, ms(5200), Some(first)), (cause, ms(3000), None)]);
        let undetected: Vec<_> =
            liveness.latest_blockages().filter(|(_, latest)| latest.is_undetected).collect();
        let [(found, latest)] = undetected[..] else { panic!("{undetected:?}") };
        assert_eq!((found, latest.ended, latest.blocked), (cause, at(8400).unix, ms(3000)));
    }
}

/// By its first BUSY reply, which may be the only one before a silence, a script has run for the time limit.
#[test]
fn soon_busy_again_after_the_first_busy_reply_means_the_same_script() {
    for (busy_again, is_named) in [(5600, true), (10_000, true), (10_100, false)] {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.set_time_limit(Some(ms(5000)));
        liveness.answered(mono(0), at(0), &mut events);
        liveness.silent(mono(200), at(450), &mut events);
        liveness.busy(BusyKind::Script, mono(200), at(5030), &mut events);
        liveness.logged(RunningScript::logged(&"a".repeat(40)), ms(5000), at(5040), &mut events);
        liveness.silent(mono(5230), at(5480), &mut events);
        assert_eq!(liveness.running_script(), None, "another one may have begun");
        liveness.busy(BusyKind::Script, mono(5230), at(busy_again), &mut events);
        assert_eq!(liveness.running_script().is_some(), is_named, "{busy_again}");
    }
}

/// The only BUSY reply is the one to the first request, which waited for the whole time limit.
#[test]
fn a_script_after_one_killed_at_its_first_busy_reply_is_separate() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.set_time_limit(Some(ms(5000)));
    liveness.answered(mono(0), at(0), &mut events);
    liveness.silent(mono(200), at(450), &mut events);
    liveness.busy(BusyKind::Script, mono(200), at(5030), &mut events);
    liveness.silent(mono(5230), at(5480), &mut events);
    liveness.answered(mono(5230), at(10_550), &mut events);
    liveness.answered(mono(10_560), at(10_561), &mut events);
    let entries = [entry_of(1, 5400, 5400, &["EVAL", "a"]), entry_of(4, 10_550, 5100, &["EVAL", "b"])];
    assert_eq!(liveness.attribute(&entries, Some(0.0), &mut events).undetected, [4]);
    let lengths: Vec<_> = ended(&events).into_iter().map(|(cause, length, _)| (cause, length)).collect();
    assert_eq!(lengths, [(Cause::Script, ms(5420)), (Cause::Script, ms(5100))]);
}

#[test]
fn a_second_busy_script_gets_its_blockage_from_its_entry() {
    let (mut liveness, mut events, _) = busy_with_a_named_script(Some(ms(5000)));
    liveness.busy(BusyKind::Script, mono(5500), at(10_450), &mut events);
    assert_eq!(liveness.running_script(), None);
    liveness.busy(BusyKind::Script, mono(13_300), at(13_301), &mut events);
    liveness.answered(mono(13_500), at(13_500), &mut events);
    let entries = [entry_of(6, 5400, 5200, &["EVALSHA", "a"]), entry_of(7, 13_400, 8000, &["EVALSHA", "b"])];
    assert_eq!(liveness.attribute(&entries, Some(0.0), &mut events).undetected, [7]);
    let lengths: Vec<_> = ended(&events).into_iter().map(|(cause, length, _)| (cause, length)).collect();
    assert_eq!(lengths, [(Cause::Script, ms(5300)), (Cause::Script, ms(8000))]);
}

#[test]
fn two_following_calls_are_separate_blockages_only_with_their_entries() {
    let ends = |entries: &[Entry], clock_ahead: Option<f64>| {
        let (mut liveness, mut events, _) = busy_with_a_named_script(Some(ms(5000)));
        liveness.busy(BusyKind::Script, mono(5500), at(10_450), &mut events);
        liveness.silent(mono(12_300), at(12_600), &mut events);
        liveness.answered(mono(12_300), at(15_200), &mut events);
        liveness.attribute(entries, clock_ahead, &mut events);
        ended(&events).into_iter().map(|(_, length, _)| length.as_millis()).collect::<Vec<_>>()
    };
    let (first, second, third) = (
        entry_of(6, 5400, 5200, &["EVALSHA", "a"]),
        entry_of(7, 12_200, 6800, &["EVALSHA", "b"]),
        entry_of(8, 15_200, 3000, &["KEYS", "*"]),
    );
    let all = [first.clone(), second, third];
    assert_eq!(ends(&all, Some(0.0)), [5200, 6800, 3000]);
    assert_eq!(ends(&[], Some(0.0)), [15_000]);
    assert_eq!(ends(&all, None), [15_000], "the clocks can't be compared");
    assert_eq!(ends(&[first], Some(0.0)), [15_000]);
}

#[test]
fn function_stats_tells_whether_the_same_function_runs_after_a_silence() {
    for (running_for, same) in [(10_300, true), (5100, false)] {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(mono(0), at(0), &mut events);
        liveness.busy(BusyKind::Function, mono(200), at(5200), &mut events);
        liveness.running(b"f", Some(ms(5000)), mono(5200), at(5201), &mut events);
        liveness.silent(mono(5400), at(5650), &mut events);
        assert_eq!(liveness.running_script(), None);
        liveness.busy(BusyKind::Function, mono(5400), at(10_500), &mut events);
        assert_eq!(liveness.running_script(), None);
        liveness.running(b"f", Some(ms(running_for)), mono(10_501), at(10_502), &mut events);
        assert_eq!(liveness.running_script(), Some(&RunningScript::function(b"f")));
        assert_eq!(busy_count(&liveness, BusyKind::Function), if same { 1 } else { 2 });
        let blocked = liveness.blocked(at(10_502));
        assert!(blocked.abs_diff(ms(running_for)) <= ms(5), "{blocked:?}");
    }
}

#[test]
fn why_a_state_holds_is_cut_and_cleaned() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    liveness.unreachable(&outage(&format!("no\u{1b}\u{202e}\n{}", "x".repeat(9000))), at(0), &mut events);
    let detail = liveness.state().detail().unwrap();
    assert!(detail.starts_with("no\\u{1b}\\u{202e}\\nx") && detail.len() == MAX_DETAIL, "{detail}");
}

#[test]
fn a_bad_state_is_logged_once_and_then_rarely() {
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    for second in 0..1500 {
        liveness.unreachable(&outage("refused"), at(second * 1000), &mut events);
    }
    assert_eq!(events.len(), 3, "{events:?}");
}

/// Three hours of a server that runs scripts, observed by five heartbeats per second.
#[test]
fn hours_of_blockages_are_measured_to_the_heartbeat() {
    const LIMIT: u64 = 5000;
    const BLOCKED_AFTER: u64 = 250;
    let (mut liveness, mut events) = (Liveness::default(), Vec::new());
    let (mut now, mut scripts, mut real, mut over_limit) = (0, 0, 0, 0);
    // Scripts of 0.6 to 9 s that begin at irregular times.
    let mut begins = 1_000;
    while now < 3 * 3600 * 1000 {
        let length = 600 + (begins * 7919) % 8400;
        while now <= begins {
            liveness.answered(mono(now), at(now), &mut events);
            now += 200;
        }
        let ends = begins + length;
        liveness.silent(mono(now), at(now + BLOCKED_AFTER), &mut events);
        let shown = liveness.blocked(at(now + BLOCKED_AFTER));
        let truth = ms(now + BLOCKED_AFTER - begins);
        assert!(shown <= truth && truth <= shown + ms(200), "{shown:?} {truth:?}");
        // Visible at this time, which is at most the interval and `BLOCKED_AFTER` after the beginning.
        assert!(!shown.is_zero() && truth <= ms(200 + BLOCKED_AFTER), "{shown:?} {truth:?}");
        let before = totals(&liveness, Cause::Script).micros;
        if length > LIMIT {
            over_limit += 1;
            liveness.busy(BusyKind::Script, mono(now), at(begins + LIMIT), &mut events);
            now = begins + LIMIT + 200;
            while now < ends {
                liveness.busy(BusyKind::Script, mono(now), at(now + 15), &mut events);
                let (shown, truth) = (liveness.blocked(at(now + 15)), ms(now + 15 - begins));
                assert!(shown.abs_diff(truth) <= ms(200), "{shown:?} {truth:?}");
                now += 200;
            }
            liveness.answered(mono(now), at(now), &mut events);
        } else {
            now = ends;
            liveness.answered(mono(now), at(now), &mut events);
        }
        let entry = Entry {
            id: scripts,
            ended_at: at(ends).unix.as_secs(),
            duration: ms(length),
            ..Entry::with_arguments(&["EVAL", "return 1"])
        };
        liveness.attribute(&[entry], Some(0.0), &mut events);
        let counted = totals(&liveness, Cause::Script).micros - before;
        assert!(counted.abs_diff(length * 1000) <= 200_000, "{counted} µs of {length} ms");
        assert!(liveness.blocked(at(now)).is_zero() && now <= ends + 200);
        (scripts, real) = (scripts + 1, real + length);
        begins = now + 300 + (length * 31) % 20_000;
    }
    let total = totals(&liveness, Cause::Script);
    assert_eq!(total.episodes, scripts);
    assert_eq!(busy_count(&liveness, BusyKind::Script), over_limit);
    let off = total.micros.abs_diff(real * 1000) / scripts;
    assert!(off <= 200_000, "{off} µs a blockage");
}

#[derive(Debug, Clone)]
enum Step {
    Answered,
    Silent,
    Busy(BusyKind),
    Running,
    Logged,
    Inconclusive,
    Loading,
    Unauthorized,
    Unreachable,
    Attribute(Vec<(&'static str, u64)>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let entries =
        prop::collection::vec((prop::sample::select(vec!["eval", "fcall", "keys"]), 0..9000_u64), 0..3);
    prop_oneof![
        3 => Just(Step::Answered),
        3 => Just(Step::Silent),
        3 => prop::sample::select(BusyKind::ALL.to_vec()).prop_map(Step::Busy),
        1 => Just(Step::Running),
        1 => Just(Step::Logged),
        2 => Just(Step::Inconclusive),
        1 => Just(Step::Loading),
        1 => Just(Step::Unauthorized),
        1 => Just(Step::Unreachable),
        3 => entries.prop_map(Step::Attribute),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_sequence_keeps_the_counts_consistent(
        steps in prop::collection::vec((any_step(), 0..3000_u64, 0..3000_u64), 0..80),
        time_limit in prop::option::of(1..6000_u64),
    ) {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.set_time_limit(time_limit.map(ms));
        let (mut now, mut last_read, mut last_asked) = (0_u64, 0, 0);
        let mut before = liveness.clone();
        for (step, pause, waited) in steps {
            now += pause;
            // A request can't have been sent before the last reply was read.
            let asked = now.saturating_sub(waited).max(last_read);
            let since = mono(asked);
            let proves_free = matches!(step, Step::Answered | Step::Loading);
            match step {
                Step::Answered => liveness.answered(since, at(now), &mut events),
                Step::Silent => liveness.silent(since, at(now), &mut events),
                Step::Busy(kind) => liveness.busy(kind, since, at(now), &mut events),
                Step::Running => liveness.running(b"f", Some(ms(waited * 2)), since, at(now), &mut events),
                Step::Logged => liveness.logged(RunningScript::function(b"g"), ms(waited), at(now), &mut events),
                Step::Inconclusive => liveness.inconclusive(at(now), &mut events),
                Step::Loading => liveness.loading(since, at(now), &mut events),
                Step::Unauthorized => liveness.unauthorized("", at(now), &mut events),
                Step::Unreachable => liveness.unreachable(&outage(""), at(now), &mut events),
                Step::Attribute(entries) => {
                    let entries: Vec<Entry> = entries.into_iter().map(|(name, duration)| Entry {
                        id: 0,
                        ended_at: at(now).unix.as_secs(),
                        duration: ms(duration),
                        ..Entry::with_arguments(&[name, "x"])
                    }).collect();
                    liveness.attribute(&entries, Some(0.0), &mut events);
                }
            }
            if proves_free {
                (last_read, last_asked) = (now, asked);
            }
            let blocking = matches!(
                liveness.state().kind(),
                StateKind::Blocked | StateKind::Busy(_) | StateKind::BusySilent
            );
            if blocking {
                prop_assert!(liveness.state.episode().is_some());
                prop_assert!(liveness.blocked(at(now)) <= ms(now - last_asked));
            } else {
                prop_assert_eq!(liveness.blocked(at(now + 5000)), Duration::ZERO);
                prop_assert!(liveness.running_script().is_none());
            }
            for ((_, old), (_, new)) in before.totals().zip(liveness.totals()) {
                prop_assert!(old.episodes <= new.episodes && old.micros <= new.micros);
            }
            for ((_, old), (_, new)) in before.busy_episodes().zip(liveness.busy_episodes()) {
                prop_assert!(old <= new);
            }
            // Blockages don't overlap, so their total can't exceed the elapsed time.
            let counted: u64 = liveness.totals().map(|(_, totals)| totals.micros).sum();
            let waiting: Duration = liveness.history.unattributed.iter().map(|one| one.episode.blocked).sum();
            let all = counted + micros(waiting + liveness.blocked(at(now)));
            prop_assert!(all <= now * 1000, "{} µs of {} ms", all, now);
            before = liveness.clone();
        }
        let began = events.iter().filter(|event| **event == Event::BlockageBegan).count();
        let ended = events.iter().filter(|event| matches!(event, Event::BlockageEnded { .. })).count();
        let open = usize::from(liveness.state.episode().is_some()) + liveness.history.unattributed.len();
        // Blockages that turn out to be only delayed replies are removed again.
        prop_assert!(began >= ended + open);
    }
}
