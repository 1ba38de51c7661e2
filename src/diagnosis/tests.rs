use std::time::Duration;

use super::*;
use crate::parse::{BusyKind, Command, Info, Settings, SlowlogThreshold};
use crate::watch::{Outage, OutageReason, Severity};

const SECOND: Duration = Duration::from_secs(1);

/// Returns facts without a problem.
fn facts(settings: &Settings) -> Facts<'_> {
    Facts {
        redis_cli: "redis-cli -h h --user u",
        admin_cli: "redis-cli -h h",
        renames_config: false,
        user: "default",
        slow_warning: SECOND,
        poll_interval: SECOND,
        stretched_heartbeat: None,
        condition: Condition::Answers,
        info: None,
        unavailable: Vec::new(),
        settings,
        slowlog: SlowlogFacts::default(),
        addresses: 1,
        longest_reply: None,
        guard: None,
    }
}

#[test]
fn a_name_with_several_addresses_is_a_problem() {
    let settings = Settings::default();
    let codes = |addresses| codes(&diagnose(&Facts { addresses, ..facts(&settings) }));
    for addresses in [0, 1] {
        assert_eq!(codes(addresses), [""; 0], "{addresses}");
    }
    assert_eq!(codes(2), ["several_addresses"]);
}

#[test]
fn heartbeats_that_are_too_rare_for_an_alert_are_a_problem() {
    let settings = Settings::default();
    for (interval, expected) in
        [(None, &[][..]), (Some(SECOND / 2), &[]), (Some(SECOND * 2), &["rare_heartbeats"])]
    {
        let problems = diagnose(&Facts { stretched_heartbeat: interval, ..facts(&settings) });
        assert_eq!(codes(&problems), expected, "{interval:?}");
        assert!(problems.iter().all(|problem| problem.sentences().contains("--shard")));
    }
}

#[test]
fn a_guard_that_cannot_kill_or_has_to_wait_is_a_problem() {
    let with_limit = |time_limit, kill_after, problem| {
        let settings = Settings { time_limit, ..Settings::default() };
        let fix = grant("redis-cli -h h", "guard", "+script|kill");
        let guard = Some(GuardFacts { kill_after, problem, fix: Some(&fix), is_refused: false });
        let problems = diagnose(&Facts { guard, ..facts(&settings) });
        let texts = problems.iter().map(|one| (one.code.as_str(), one.sentences(), shells(one).concat()));
        texts.collect::<Vec<_>>()
    };
    assert_eq!(with_limit(Some(SECOND * 5), SECOND * 5, None), []);
    assert_eq!(with_limit(None, SECOND * 5, None), []);
    let below = &with_limit(Some(SECOND * 5), SECOND, None)[0];
    assert!(
        below.0 == "guard_below_time_limit" && below.1.contains("(1 s)") && below.1.contains("(5 s)"),
        "{below:?}"
    );
    assert!(with_limit(None, SECOND, None)[0].1.contains("5 s, assumed"));
    let refused = &with_limit(None, SECOND * 9, Some("user \"guard\" may not run SCRIPT KILL"))[0];
    let text = "The guard can't kill: user \"guard\" may not run SCRIPT KILL.";
    let shell = "redis-cli -h h ACL SETUSER guard '+script|kill'";
    assert_eq!((refused.0, &*refused.1, &*refused.2), ("guard_not_ready", text, shell));
    assert_eq!(below.2, "redis-cli -h h --user u CONFIG SET lua-time-limit 1000");
}

#[test]
fn a_server_that_can_not_be_used_has_a_command_that_shows_its_state() {
    let settings = Settings::default();
    let test = |condition| {
        let problem = diagnose(&Facts { condition, ..facts(&settings) }).remove(0);
        problem.test.map(|test| test.shell)
    };
    let ping = Some("redis-cli -h h --user u PING".to_owned());
    assert_eq!(test(Condition::Unreachable(Outage::new(OutageReason::Refused, "refused"))), ping);
    assert_eq!(test(Condition::Unauthorized("WRONGPASS".to_owned())), ping);
    assert_eq!(test(Condition::Loading), Some("redis-cli -h h --user u INFO persistence".to_owned()));
    let blocked = Condition::Blocked { waited: SECOND, in_handshake: false, kind: None };
    assert_eq!(test(blocked), None);
}

#[test]
fn each_reason_of_an_outage_has_its_remedy() {
    let settings = Settings::default();
    let sentences = |reason| {
        let condition = Condition::Unreachable(Outage::new(reason, "gone"));
        diagnose(&Facts { condition, ..facts(&settings) })[0].sentences()
    };
    for (reason, words) in [
        (OutageReason::Name, "resolver"),
        (OutageReason::Refused, "unixsocket"),
        (OutageReason::Permission, "unixsocketperm"),
        (OutageReason::NotAllowed, "allow"),
        (OutageReason::Silence, "firewalls"),
        (OutageReason::Tls { remedy: "Try redis://." }, "Try redis://."),
        (OutageReason::Http, "port of the Redis server"),
        (OutageReason::NotRedis { may_want_tls: true }, "rediss://"),
        (OutageReason::MaxClients, "maxclients"),
        (OutageReason::Closed, "proxy"),
        (OutageReason::Lost { may_want_tls: true }, "rediss://"),
        (OutageReason::Other, "network in between"),
    ] {
        assert!(sentences(reason).contains(words), "{reason:?}: {}", sentences(reason));
    }
    assert!(!sentences(OutageReason::NotRedis { may_want_tls: false }).contains("rediss://"));
}

#[test]
fn unkillable_on_a_replica_means_that_its_master_has_sent_the_script() {
    let settings = Settings::default();
    let condition = Condition::Busy { kind: BusyKind::Script, waited: SECOND, running: None };
    let text = |info: &[u8]| {
        let info = Info::parse(info);
        let facts = Facts { condition: condition.clone(), info: Some(&info), ..facts(&settings) };
        diagnose(&facts)[0].sentences()
    };
    let replica = text(b"role:slave\r\n");
    assert!(replica.contains("its master has sent it") && !replica.contains("written"), "{replica}");
    let master = text(b"role:master\r\n");
    assert!(master.contains("has already written data"), "{master}");
    // Without INFO, the advice covers both cases, which the reply distinguishes.
    assert!(text(b"").contains("sent by a master"));
}

#[test]
fn a_managed_service_has_no_shutdown() {
    let settings = Settings::default();
    for kind in [BusyKind::Script, BusyKind::Module] {
        let text = |info: &[u8]| {
            let info = Info::parse(info);
            let condition = Condition::Busy { kind, waited: SECOND, running: None };
            diagnose(&Facts { condition, info: Some(&info), ..facts(&settings) })[0].sentences()
        };
        let own = text(b"os:Linux 6.1 x86_64\r\n");
        assert!(own.contains("SHUTDOWN NOSAVE") && !own.contains("console"), "{own}");
        let managed = text(b"os:Amazon ElastiCache\r\n");
        assert!(managed.contains("reboot or fail over the node") && !managed.contains("NOSAVE"), "{managed}");
    }
}

/// Returns the problems of these settings.
fn of_settings(settings: Settings) -> Vec<Problem> {
    diagnose(&facts(&settings))
}

/// Returns the command lines for a shell.
fn shells(problem: &Problem) -> Vec<&str> {
    problem.commands.iter().map(|fix| &*fix.shell).collect()
}

/// Returns the commands for the server.
fn commands(problem: &Problem) -> Vec<&str> {
    problem.commands.iter().map(|fix| &*fix.command).collect()
}

fn codes(problems: &[Problem]) -> Vec<&'static str> {
    problems.iter().map(|problem| problem.code.as_str()).collect()
}

#[test]
fn a_threshold_that_equals_the_warning_hides_nothing() {
    let threshold = |threshold| Settings {
        slowlog_threshold: Some(SlowlogThreshold::At(threshold)),
        ..Settings::default()
    };
    assert_eq!(of_settings(threshold(SECOND)), []);
    assert_eq!(of_settings(threshold(Duration::from_micros(1))), []);
    let problems = of_settings(threshold(SECOND + Duration::from_micros(1)));
    assert_eq!(codes(&problems), ["slowlog_threshold_high"]);
    assert_eq!(shells(&problems[0]), ["redis-cli -h h --user u CONFIG SET slowlog-log-slower-than 10000"]);
}

#[test]
fn the_recommended_threshold_is_never_above_the_warning() {
    let settings = Settings { slowlog_threshold: Some(SlowlogThreshold::Off), ..Settings::default() };
    let facts = Facts { slow_warning: Duration::from_millis(2), ..facts(&settings) };
    assert_eq!(commands(&diagnose(&facts)[0]), ["CONFIG SET slowlog-log-slower-than 2000"]);
}

#[test]
fn each_setting_has_its_code() {
    let settings = |threshold, max_len, time_limit: Option<u64>| Settings {
        slowlog_threshold: threshold,
        slowlog_max_len: max_len,
        time_limit: time_limit.map(Duration::from_secs),
    };
    for (settings, expected) in [
        (settings(None, None, None), &[][..]),
        (settings(Some(SlowlogThreshold::At(SECOND)), Some(128), Some(5)), &[]),
        (
            settings(Some(SlowlogThreshold::Off), Some(127), Some(6)),
            &["slowlog_off", "slowlog_small", "time_limit_long"],
        ),
        (
            settings(Some(SlowlogThreshold::At(Duration::ZERO)), Some(0), Some(0)),
            &["slowlog_flooded", "slowlog_length_zero", "time_limit_off"],
        ),
    ] {
        assert_eq!(codes(&of_settings(settings)), expected, "{settings:?}");
    }
}

#[test]
fn the_time_limit_has_the_name_used_by_the_server_version() {
    let settings = Settings { time_limit: Some(Duration::ZERO), ..Settings::default() };
    for (major, name) in
        [(None, "lua-time-limit"), (Some(6), "lua-time-limit"), (Some(7), "busy-reply-threshold")]
    {
        let info = Info { compatible_major: major, ..Info::default() };
        let problems = diagnose(&Facts { info: Some(&info), ..facts(&settings) });
        assert_eq!(commands(&problems[0]), [format!("CONFIG SET {name} 5000")]);
    }
}

#[test]
fn critical_problems_come_first() {
    let settings = Settings { slowlog_threshold: Some(SlowlogThreshold::Off), ..Settings::default() };
    let unavailable = vec![
        (Command::Ping, Unavailable::NotPermitted),
        (Command::SlowlogGet(0), Unavailable::NotPermitted),
        (Command::FunctionList, Unavailable::NotPermitted),
    ];
    let problems = diagnose(&Facts { unavailable, user: "lesser", ..facts(&settings) });
    assert_eq!(codes(&problems), ["slowlog_unavailable", "ping_unavailable", "slowlog_off"]);
    assert_eq!(problems[0].severity, Severity::Critical);
    assert_eq!(
        problems[0].sentences(),
        "User \"lesser\" may not run SLOWLOG GET: no script call is counted."
    );
    // The command line connects as the administrator, because the exporter's user may not manage ACL users.
    assert_eq!(shells(&problems[0]), ["redis-cli -h h ACL SETUSER lesser '+slowlog|get'"]);
}

#[test]
fn settings_are_changed_where_that_is_possible() {
    let settings = Settings { slowlog_max_len: Some(0), ..Settings::default() };
    let managed = Info { manages_users: true, ..Info::default() };
    let problem = diagnose(&Facts { info: Some(&managed), ..facts(&settings) }).remove(0);
    assert_eq!(
        (shells(&problem), &*problem.advice[0]),
        (vec![], "Set slowlog-max-len to 1024 in the parameter group of the service.")
    );
    let problem = diagnose(&Facts { renames_config: true, ..facts(&settings) }).remove(0);
    assert!(shells(&problem)[0].ends_with("CONFIG SET slowlog-max-len 1024"));
    assert!(problem.advice[0].contains("--redis.renamed-command"), "{problem:?}");
    let unavailable = || vec![(Command::ConfigGet(&[]), Unavailable::Unknown)];
    let settings = Settings::default();
    let text =
        |info| diagnose(&Facts { unavailable: unavailable(), info, ..facts(&settings) })[0].sentences();
    assert!(text(Some(&managed)).contains("parameter group") && !text(Some(&managed)).contains("older"));
    assert!(text(None).contains("In a managed service, check slowlog-log-slower-than"), "{}", text(None));
}

#[test]
fn a_blocked_server_accepts_changes_later() {
    let settings = Settings { slowlog_max_len: Some(0), ..Settings::default() };
    let condition = Condition::Busy { kind: BusyKind::Script, waited: SECOND, running: None };
    let problems = diagnose(&Facts { condition, ..facts(&settings) });
    let later =
        |problem: &Problem| problem.advice.iter().any(|advice| advice.contains("once it responds again"));
    assert_eq!(problems.iter().map(later).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn lost_entries_need_a_longer_slow_log() {
    let longer = |slowlog_max_len| {
        let settings = Settings { slowlog_max_len, ..Settings::default() };
        let slowlog = SlowlogFacts { lost: 1, ..SlowlogFacts::default() };
        let problems = diagnose(&Facts { slowlog, ..facts(&settings) });
        let lost = problems.iter().find(|problem| problem.code == Code::EntriesLost).unwrap();
        commands(lost).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(longer(Some(128)), ["CONFIG SET slowlog-max-len 1024"]);
    assert_eq!(longer(Some(1024)), ["CONFIG SET slowlog-max-len 4096"]);
    assert_eq!(longer(Some(65_535)), ["CONFIG SET slowlog-max-len 65536"]);
    assert_eq!((longer(Some(65_536)), longer(None)), (vec![], vec![]));
}

#[test]
fn a_blockage_has_the_kill_commands_that_may_apply() {
    let info = Info { compatible_major: Some(6), ..Info::default() };
    let no_limit = Settings { time_limit: Some(Duration::ZERO), ..Settings::default() };
    let settings = Settings::default();
    let blocked = |kind| Condition::Blocked { waited: SECOND, in_handshake: false, kind };
    let busy = |kind| Condition::Busy { kind, waited: SECOND, running: None };
    let silent = |last| Condition::BusySilent { waited: SECOND, last };
    for (facts, expected) in [
        (Facts { condition: blocked(None), ..facts(&settings) }, &["SCRIPT KILL", "FUNCTION KILL"][..]),
        (Facts { condition: blocked(None), info: Some(&info), ..facts(&settings) }, &["SCRIPT KILL"]),
        (Facts { condition: blocked(Some(BusyKind::Function)), ..facts(&settings) }, &["FUNCTION KILL"]),
        (Facts { condition: blocked(None), ..facts(&no_limit) }, &[]),
        (Facts { condition: busy(BusyKind::Script), ..facts(&settings) }, &["SCRIPT KILL"]),
        (Facts { condition: busy(BusyKind::Function), ..facts(&settings) }, &["FUNCTION KILL"]),
        (Facts { condition: busy(BusyKind::Module), ..facts(&settings) }, &[]),
        (
            Facts { condition: silent(BusyKind::Script), ..facts(&settings) },
            &["SCRIPT KILL", "FUNCTION KILL"],
        ),
        (
            Facts { condition: silent(BusyKind::Function), ..facts(&settings) },
            &["FUNCTION KILL", "SCRIPT KILL"],
        ),
        (Facts { condition: silent(BusyKind::Module), ..facts(&settings) }, &[]),
    ] {
        assert_eq!(commands(&diagnose(&facts)[0]), expected, "{facts:?}");
    }
}

#[test]
fn a_silent_blockage_past_the_time_limit_is_probably_not_a_script() {
    let settings = Settings { time_limit: Some(SECOND * 10), ..Settings::default() };
    let advice = |seconds| {
        let condition = Condition::Blocked { waited: SECOND * seconds, in_handshake: false, kind: None };
        diagnose(&Facts { condition, ..facts(&settings) })[0].advice.join(" ")
    };
    assert!(advice(11).contains("once the time limit (10 s) has passed"), "{}", advice(11));
    assert!(advice(12).contains("although the time limit (10 s) has passed"), "{}", advice(12));
    assert!(advice(12).contains("CLIENT PAUSE"), "{}", advice(12));
}

#[test]
fn a_slow_log_is_stale_after_ten_poll_intervals() {
    let settings = Settings::default();
    let stale = |condition: Condition, poll_interval, age| {
        let slowlog = SlowlogFacts { age: Some(age), ..SlowlogFacts::default() };
        let facts = Facts { poll_interval, condition, slowlog, ..facts(&settings) };
        codes(&diagnose(&facts)).contains(&"slowlog_stale")
    };
    assert!(!stale(Condition::Answers, SECOND, SECOND * 30));
    assert!(stale(Condition::Answers, SECOND, SECOND * 31));
    assert!(!stale(Condition::Answers, SECOND * 10, SECOND * 100));
    assert!(stale(Condition::Answers, SECOND * 10, SECOND * 101));
    assert!(!stale(Condition::Loading, SECOND, SECOND * 31));
}

#[test]
fn an_unreadable_slow_log_hides_everything() {
    let settings = Settings::default();
    let impact = |unreadable, is_unreadable| {
        let slowlog = SlowlogFacts { unreadable, is_unreadable, ..SlowlogFacts::default() };
        diagnose(&Facts { slowlog, ..facts(&settings) }).first().map(|problem| problem.impact)
    };
    assert_eq!(impact(0, false), None);
    assert_eq!(impact(1, false), Some(Impact::Partial));
    assert_eq!(impact(1, true), Some(Impact::Blind));
}

#[test]
fn texts_from_servers_are_cleaned_and_cut() {
    let settings = Settings::default();
    let hostile = format!("\u{1b}[2J\n\u{202e}{}", "x".repeat(1000));
    let running = Some(RunningCall { name: hostile.clone(), running_for: None });
    for condition in [
        Condition::Unauthorized(hostile.clone()),
        Condition::Unreachable(Outage::new(OutageReason::Lost { may_want_tls: true }, hostile.clone())),
        Condition::Unreachable(Outage::new(OutageReason::Tls { remedy: "" }, hostile.clone())),
        Condition::Busy { kind: BusyKind::Function, waited: SECOND, running },
    ] {
        let unavailable = vec![(Command::Ping, Unavailable::Error(&hostile))];
        for problem in diagnose(&Facts { condition, unavailable, ..facts(&settings) }) {
            let text = problem.sentences();
            assert!(!text.contains(crate::text::is_hidden) && text.len() < 800, "{text:?}");
        }
    }
}

#[test]
fn being_a_sentinel_is_the_only_problem_reported() {
    let settings = Settings { slowlog_threshold: Some(SlowlogThreshold::Off), ..Settings::default() };
    let info = Info { mode: Some("sentinel".to_owned()), ..Info::default() };
    assert_eq!(codes(&diagnose(&Facts { info: Some(&info), ..facts(&settings) })), ["sentinel"]);
}

#[test]
fn each_code_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/check.md");
    let page = std::fs::read_to_string(path).unwrap();
    for code in Code::ALL {
        let impact = match code.impact() {
            Impact::Blind => "blind",
            Impact::Partial => "partial",
            Impact::Note => "note",
        };
        let row = format!("| `{}` | {} | {impact} |", code.as_str(), code.severity().as_str());
        assert!(page.contains(&row), "docs/check.md has no row {row}");
    }
}
