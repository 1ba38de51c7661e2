//! Slow logs that are made up or in the format of another product.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{MAX_LINES, MAX_MEMORY, wait_for_problem};
use crate::common::{LIMIT, QUICK, lines_with, number, state, whole};
use test_support::exporter::Exporter;
use test_support::hostile::{Hostile, INFO, array, bulk, quiet};
use test_support::metrics::Metrics;
use test_support::wait::eventually;

#[test]
fn slow_log_entries_with_invalid_text() {
    let int = |number: i64| format!(":{number}\r\n").into_bytes();
    let call = |id: i64, micros: i64, words: &[&[u8]]| {
        let words: Vec<Vec<u8>> = words.iter().map(bulk).collect();
        array(&[
            int(id),
            int(1_700_000_000),
            int(micros),
            array(&words),
            bulk(b"\xff\n\"client\\"),
            bulk(b"\x80\r\nname\""),
        ])
    };
    let long = b"x\xff\"\n\\".repeat(30);
    let strange = [
        call(i64::MAX, i64::MAX, &[b"EVAL", b"return \xff\xfe\"\n\\", b"0"]),
        call(
            i64::MAX - 1,
            2_000_000,
            &[b"FCALL", b"a\"b\\c\nd\xffe{}=,\t\r\x1b[31m", b"9223372036854775807"],
        ),
        call(i64::MAX - 2, 3_000_000, &[b"FCALL", "naïve\u{202e}\u{1f600}".as_bytes(), b"-1"]),
        call(i64::MAX - 3, 1, &[b"EVALSHA", b"not a sha \xff", b"x"]),
        call(i64::MAX - 4, 1, &[b"EVAL", &long]),
        call(i64::MAX - 5, 1, &[b"FCALL", b"", b"0"]),
        call(i64::MAX - 6, 1, &[b"EVAL"]),
        call(i64::MAX - 7, 1, &[]),
        // None of these is a valid entry.
        int(5),
        b"$-1\r\n".to_vec(),
        array(&[int(-1), int(-1), int(-1), array(&[])]),
        array(&[int(1), int(2)]),
        array(&[bulk("1"), bulk("2"), bulk("3"), bulk("4")]),
    ];
    let reply = array(&strange);
    let asked = Arc::new(AtomicUsize::new(0));
    let info =
        INFO.replace("redis_version:7.0.15", "redis_version:7\"\\\n.0").replace("role:master", "role:{\"}");
    let counted = Arc::clone(&asked);
    let hostile = Hostile::answering(move |words| match words[0].as_str() {
        "info" => bulk(&info),
        "slowlog" if words[1] == "len" => b":-7\r\n".to_vec(),
        // The first reply is the baseline. It has one entry, so that all others are new.
        "slowlog" if counted.fetch_add(1, Ordering::Relaxed) == 0 => {
            array(&[array(&[b":0\r\n".to_vec(), b":1\r\n".to_vec(), b":1\r\n".to_vec(), array(&[])])])
        }
        "slowlog" => reply.clone(),
        "config" => array(&[
            bulk("slowlog-log-slower-than"),
            bulk("99999999999999999999"),
            bulk("slowlog-max-len"),
            bulk("\"\n"),
        ]),
        _ => quiet(words),
    });
    let exporter = Exporter::builder()
        .args(&["--redis.addr", &format!("redis://{}", hostile.addr)])
        .args(&QUICK)
        .start();
    // Every scrape is parsed; an invalid line panics.
    let metrics = exporter.wait_for(LIMIT, "the strange entries", |metrics| {
        whole(metrics.sum("redis_script_slowlog_entries_total", &[])) >= 8
    });
    eventually(LIMIT, "some more polls", || (asked.load(Ordering::Relaxed) > 5).then_some(()));
    let again = exporter.metrics();
    assert_eq!(whole(again.sum("redis_script_slowlog_entries_total", &[])), 8, "nothing is counted twice");
    let scripts: Vec<&str> = metrics
        .series("redis_script_duration_seconds_count")
        .iter()
        .map(|series| series.label("script"))
        .collect();
    assert_eq!(scripts.len(), 6, "{scripts:?}");
    assert!(scripts.iter().any(|script| script.starts_with("a\"b\\c")), "{scripts:?}");
    assert!(
        scripts.iter().all(|script| !script.is_empty() && !script.contains(char::is_control)),
        "{scripts:?}"
    );
    for line in metrics.text.lines() {
        assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
    }
    let logs = exporter.logs();
    assert!(logs.lines().all(|line| line.starts_with("ts=")), "a line is one line: {logs}");
    assert!(!logs.contains('\u{1b}'), "{logs}");
    assert!(logs.lines().count() < MAX_LINES, "{logs}");
    assert_eq!(lines_with(&logs, &["level=warn", "SLOWLOG GET"]).len(), 1, "{logs}");
}

/// Returns a field of a logfmt line as a number; 0 if it is missing.
fn field(line: &str, name: &str) -> u64 {
    let value = line.split_once(&format!(" {name}=")).and_then(|(_, rest)| rest.split(' ').next());
    value.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{name} of {line}")))
}

/// Returns the maximum number of lines with times (`ts=…T12:34:56.789Z`) within any period of one second.
fn most_lines_in_a_second(lines: &[String]) -> usize {
    let time = |line: &String| {
        let (_, time) = line.split_once('T').unwrap_or_else(|| panic!("no time: {line}"));
        let seconds: Vec<f64> =
            time.split('Z').next().unwrap().split(':').map(|part| part.parse().unwrap()).collect();
        Duration::from_secs_f64((seconds[0] * 60.0 + seconds[1]) * 60.0 + seconds[2])
    };
    let times: Vec<Duration> = lines.iter().map(time).collect();
    let within = |begin: Duration| {
        times.iter().filter(|time| (begin..begin + Duration::from_secs(1)).contains(*time)).count()
    };
    times.iter().map(|begin| within(*begin)).max().unwrap_or_default()
}

/// The server returns made-up slow calls with hostile strings as fast as they are requested. In between it is BUSY for a
/// while, and ends a blockage with a command of 5 MB.
#[test]
fn a_flood_of_made_up_slow_calls() {
    const FLOOD: usize = 0;
    const BUSY: usize = 1;
    const SILENT: usize = 2;
    const END: usize = 3;
    let int = |number: u64| format!(":{number}\r\n").into_bytes();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let entry = move |id: u64, micros: u64, command: &[u8]| {
        let hostile = "a\u{1b}[31m\u{202e}\u{200b}\u{9b}b".repeat(20);
        let words = array(&[bulk(command), bulk(format!("return {id}")), bulk("0")]);
        array(&[int(id), int(now()), int(micros), words, bulk(&hostile), bulk(&hostile)])
    };
    let phase = Arc::new(AtomicUsize::new(FLOOD));
    let (next, large) = (AtomicUsize::new(0), AtomicBool::new(false));
    let current = Arc::clone(&phase);
    let hostile =
        Hostile::answering(move |words| match (words[0].as_str(), current.load(Ordering::Relaxed)) {
            ("ping", BUSY) => {
                b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
                    .to_vec()
            }
            ("ping", SILENT) => {
                while current.load(Ordering::Relaxed) == SILENT {
                    thread::sleep(Duration::from_millis(10));
                }
                large.store(true, Ordering::Relaxed);
                b"+PONG\r\n".to_vec()
            }
            ("exec", BUSY) => {
                b"-EXECABORT Transaction discarded because of: BUSY Redis is busy running a script.\r\n"
                    .to_vec()
            }
            ("slowlog", FLOOD) if words[1] == "get" => {
                // More entries than requested, within the limit on the reply.
                let first = next.fetch_add(30, Ordering::Relaxed);
                let ids = (first..first + 30).rev();
                array(&ids.map(|id| entry(id as u64, 2_000_000, b"EVAL")).collect::<Vec<_>>())
            }
            ("slowlog", END) if words[1] == "get" => {
                if large.swap(false, Ordering::Relaxed) {
                    next.fetch_add(1, Ordering::Relaxed);
                }
                let id = next.load(Ordering::Relaxed) as u64 - 1;
                array(&[entry(id, 60_000_000, &"A\u{202e}\x1b\\".as_bytes().repeat(2000))])
            }
            _ => quiet(words),
        });
    let target = hostile.target();
    let mut exporter = Exporter::builder()
        .args(&["--redis.addr", &format!("redis://{}", hostile.addr)])
        .args(&[QUICK[0], QUICK[1], QUICK[2], "--heartbeat.blocked-after=500ms"])
        .start();
    let counted =
        |metrics: &Metrics| whole(metrics.sum("redis_script_slow_calls_total", &[("severity", "warning")]));
    exporter.wait_for(LIMIT, "many slow calls", |metrics| counted(metrics) > 1000);
    // Long enough for the omitted lines to be reported during the flood.
    let is_omitted = |line: &str| line.contains(&target) && line.contains("log lines were omitted");
    eventually(LIMIT, "a report while it goes on", || exporter.logs().lines().any(is_omitted).then_some(()));
    // The server is BUSY, then blocked and silent, then healthy.
    for (now, line) in [
        (BUSY, "the server is BUSY"),
        (FLOOD, "blockage ended"),
        (SILENT, "blocked: the server"),
        (END, "command="),
    ] {
        let before = lines_with(&exporter.logs(), &[line]).len();
        phase.store(now, Ordering::Relaxed);
        eventually(LIMIT, line, || (lines_with(&exporter.logs(), &[line]).len() > before).then_some(()));
    }
    let metrics = exporter.wait_for(LIMIT, "an end", |metrics| state(metrics, &target) == "ok");
    let (slow, memory) = (counted(&metrics), exporter.peak_memory());
    exporter.terminate();
    let end = || exporter.logs().lines().any(|line| line.contains("message=stopped")).then_some(());
    eventually(LIMIT, "the last line", end);

    let logs = exporter.logs();
    let lines = lines_with(&logs, &[&target]);
    // The limit is 20 by the rate limiter's clock, but a busy machine may delay lines.
    assert!(most_lines_in_a_second(&lines) <= 30, "{logs}");
    let omitted: Vec<&String> = lines.iter().filter(|line| is_omitted(line)).collect();
    let told = lines.iter().filter(|line| line.contains("message=\"slow script\"")).count() as u64;
    let untold: u64 = omitted.iter().map(|line| field(line, "slow_calls")).sum();
    assert_eq!(told + untold, slow, "lines and numbers agree: {logs}");
    assert!(untold > told, "{logs}");
    assert!(omitted.iter().all(|line| field(line, "lines") >= field(line, "slow_calls")), "{logs}");
    for line in &lines {
        assert!(line.len() < 2000, "{} bytes: {line}", line.len());
        let is_bad = |c: char| c.is_control() || matches!(c, '\u{200b}' | '\u{202e}');
        assert!(!line.contains(is_bad), "{line:?}");
    }
    assert!(memory < 2 * MAX_MEMORY, "{} KiB", memory >> 10);
}

/// Returns the reply to SLOWLOG GET or LEN; the newest entry is first.
fn slow_log(words: &[String], entries: &[Vec<u8>]) -> Vec<u8> {
    if words[1] == "len" {
        return format!(":{}\r\n", entries.len()).into_bytes();
    }
    let count: usize = words[2].parse().unwrap();
    array(&entries[..count.min(entries.len())])
}

/// Redis Enterprise and Redis Cloud add an element before the arguments.
#[test]
fn the_slow_log_of_redis_enterprise_is_counted() {
    let entry = |id: i64, complexity: Option<&str>, clients: bool| {
        let complexity = complexity.map_or(b"$-1\r\n".to_vec(), bulk);
        let call = array(&[bulk("evalsha"), bulk("7825e9dfe2d12df8d37533bad1bfbfacd98c46ea"), bulk("0")]);
        let number = |number: i64| format!(":{number}\r\n").into_bytes();
        let mut fields = vec![number(id), number(1_795_650_000), number(9_000_000), complexity, call];
        if clients {
            fields.extend([bulk("127.0.0.1:5"), bulk("w")]);
        }
        array(&fields)
    };
    let log = [
        entry(3, None, false),
        entry(2, Some("N:16,M:2"), false),
        entry(1, None, true),
        entry(0, Some("Complexity info: N:16"), true),
    ];
    let begun = Arc::new(AtomicBool::new(false));
    let written = Arc::clone(&begun);
    let hostile = Hostile::answering(move |words| match words[0].as_str() {
        "slowlog" => slow_log(words, if written.load(Ordering::Relaxed) { &log } else { &[] }),
        _ => quiet(words),
    });
    let url = format!("redis://{}", hostile.addr);
    let exporter = Exporter::builder().args(&["--redis.addr", &url]).args(&QUICK).start();
    let polled = [("feature", "slowlog")];
    exporter.wait_for(LIMIT, "the empty slow log", |metrics| {
        number(metrics, "redis_script_exporter_capability", &polled).is_none()
    });
    begun.store(true, Ordering::Relaxed);
    let metrics = crate::common::wait_for_scripts(&exporter, 4);
    assert_eq!(number(&metrics, "redis_script_slowlog_lost_entries_total", &[]), Some(0));
    assert_eq!(whole(metrics.sum("redis_script_duration_seconds_count", &[("script", "7825e9dfe2d1")])), 4);
    let check = Exporter::builder().args(&["check", "--redis.addr", &url]).run();
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    assert!(check.stdout.contains("4 slow script calls"), "{check:?}");
}

#[test]
fn a_slow_log_of_unknown_format() {
    let number_of = |number: i64| format!(":{number}\r\n").into_bytes();
    let unknown = move |id: i64| array(&[number_of(id), bulk("2026-11-25"), bulk("9 s"), bulk("evalsha")]);
    let known = move |id: i64| {
        array(&[number_of(id), number_of(1), number_of(9_000_000), array(&[bulk("FCALL"), bulk("f")])])
    };
    let log: Arc<std::sync::Mutex<Vec<Vec<u8>>>> = Arc::default();
    let served = Arc::clone(&log);
    let hostile = Hostile::answering(move |words| match words[0].as_str() {
        "slowlog" => slow_log(words, &served.lock().unwrap()),
        _ => quiet(words),
    });
    let url = format!("redis://{}", hostile.addr);
    let exporter = Exporter::builder().args(&["--redis.addr", &url]).args(&QUICK).start();
    let capability = |metrics: &Metrics| {
        number(metrics, "redis_script_exporter_capability", &[("feature", "slowlog")]).unwrap_or(1)
    };
    let lost = |metrics: &Metrics| {
        ["lost", "unreadable"].map(|what| {
            number(metrics, &format!("redis_script_slowlog_{what}_entries_total"), &[]).unwrap_or(u64::MAX)
        })
    };
    let check = || Exporter::builder().args(&["check", "--redis.addr", &url]).run();
    exporter.wait_for(LIMIT, "the empty slow log", |metrics| capability(metrics) == 1);

    log.lock().unwrap().splice(0..0, [2, 1, 0].map(unknown));
    let metrics = exporter.wait_for(LIMIT, "the unreadable entries", |metrics| lost(metrics) == [3, 3]);
    assert_eq!(capability(&metrics), 0);
    wait_for_problem(&exporter, "slowlog_unreadable", "blind");
    assert_eq!(lines_with(&exporter.logs(), &["level=warn", "SLOWLOG GET"]).len(), 1);
    let checked = check();
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(
        checked.stdout.starts_with("WARNING")
            && checked.stdout.contains("no slow log entry is in a known format")
    );

    // An entry in a known format between others is counted, and the log is still read at the usual interval.
    log.lock().unwrap().splice(0..0, [unknown(5), known(4), unknown(3)]);
    let metrics = exporter.wait_for(LIMIT, "the readable entry", |metrics| {
        lost(metrics) == [5, 5] && whole(metrics.sum("redis_script_slowlog_entries_total", &[])) == 1
    });
    assert_eq!(capability(&metrics), 1);
    wait_for_problem(&exporter, "slowlog_unreadable", "partial");
    let checked = check();
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(checked.stdout.contains("5 slow log entries are in an unknown format"), "{checked:?}");
}
