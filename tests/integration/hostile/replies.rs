//! Replies that are too long, too deeply nested, too late or malformed.

use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::{IMPATIENT, MAX_LINES, MAX_MEMORY, busy, endures, endures_with, says, wait_for_problem};
use crate::access::pages;
use crate::common::{
    LIMIT, QUICK, SPIN, lines_with, logs_milliseconds, number, spin, state, target_of, wait_for_lines,
};
use test_support::exporter::Exporter;
use test_support::hostile::{
    Commands, Hostile, INFO, always, array, bulk, endless, flooded, listen_on, quiet,
};
use test_support::metrics::Metrics;
use test_support::server::{Kind, run_on};
use test_support::wait::{eventually, eventually_or_tell, stays_true};

#[test]
fn garbage() {
    let noise: Vec<u8> =
        (0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let hostile = Hostile::start(always([b"\x00\xff\x80".to_vec(), noise].concat()));
    let (exporter, _) = endures(&hostile, &["unreachable"]);
    says(&exporter, &hostile, &["not valid Redis protocol"]);
    assert!(hostile.connections() < 20, "{} attempts", hostile.connections());
}

/// A BUSY server replies to FUNCTION STATS. Such a reply must never end the blockage.
#[test]
fn a_reply_to_function_stats_does_not_end_a_blockage() {
    let (asked, began) = (Arc::new(AtomicUsize::new(0)), OnceLock::new());
    let counter = Arc::clone(&asked);
    let server = Hostile::answering(move |words| {
        let stats = words[0] == "function";
        // The function begins just before the first FUNCTION STATS.
        let before = counter.fetch_add(usize::from(stats), Ordering::SeqCst);
        if before == 0 && !stats {
            return quiet(words);
        }
        let began: &Instant = began.get_or_init(Instant::now);
        busy(words, Duration::from_secs(1) + began.elapsed(), before != 1)
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let state_file = format!("--state.file={}", file.display());
    let mut exporter = Exporter::start(&[
        "--redis.addr",
        &format!("redis://{}", server.addr),
        &state_file,
        "--log.level=trace",
    ]);
    eventually(LIMIT, "FUNCTION STATS to be asked", || (asked.load(Ordering::SeqCst) >= 4).then_some(()));
    let metrics = exporter.metrics();
    assert_eq!(state(&metrics, &server.target()), "busy_function");
    assert_eq!(metrics.value("redis_script_running_info", &[("script", "slow")]), Some(1.0));
    assert_eq!(number(&metrics, "redis_script_busy_episodes_total", &[("kind", "function")]), Some(1));
    assert_eq!(metrics.sum("redis_script_blockages_total", &[]), 0.0, "{}", exporter.logs());
    assert!(metrics.sum("redis_script_blocked_seconds", &[]) > 2.0, "{}", exporter.logs());
    let logs = exporter.logs();
    assert_eq!(lines_with(&logs, &["blocked: the server"]).len(), 1, "{logs}");
    // FUNCTION STATS contains the keys and arguments of the call.
    let pages = pages(&exporter, &server.target());
    exporter.terminate();
    let seen = [logs, pages, fs::read_to_string(file).unwrap()].concat();
    assert!(seen.contains("slow") && !seen.contains("a-key") && !seen.contains("an-argument"), "{seen}");
}

#[test]
fn http() {
    let hostile = Hostile::start(always(
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 11\r\nConnection: close\r\n\r\nBad Request".to_vec(),
    ));
    let (exporter, _) = endures(&hostile, &["unreachable"]);
    says(&exporter, &hostile, &["the peer is an HTTP server"]);
}

#[test]
fn an_endless_list() {
    let hostile = Hostile::start(endless(b"*1000000000\r\n", b":1\r\n".repeat(10_000)));
    let (exporter, _) = endures(&hostile, &["unreachable"]);
    says(&exporter, &hostile, &["state=unreachable", "larger than"]);
}

#[test]
fn an_endless_line() {
    let hostile = Hostile::start(endless(b"+", b"x".repeat(100_000)));
    let (exporter, _) = endures(&hostile, &["unreachable"]);
    says(&exporter, &hostile, &["state=unreachable", "larger than"]);
}

#[test]
fn an_endless_string() {
    let hostile = Hostile::start(endless(b"$100000000000\r\n", b"x".repeat(100_000)));
    let (exporter, _) = endures(&hostile, &["unreachable"]);
    says(&exporter, &hostile, &["state=unreachable", "larger than"]);
}

#[test]
fn endless_unrequested_replies() {
    let hostile = Hostile::start(endless(b"", b"+PONG\r\n".repeat(10_000)));
    drop(endures(&hostile, &["unreachable", "ok"]));
}

#[test]
fn endless_replies_before_any_request() {
    let hostile =
        Hostile::start(|mut stream| while stream.write_all(&b"*1\r\n+x\r\n".repeat(10_000)).is_ok() {});
    drop(endures(&hostile, &["unreachable", "ok"]));
}

#[test]
fn a_slow_log_without_end() {
    let entry = array(&[
        b":1\r\n".to_vec(),
        b":1\r\n".to_vec(),
        b":1\r\n".to_vec(),
        array(&[bulk("EVAL"), bulk("x".repeat(128))]),
    ]);
    let list = [b"*1000000\r\n".to_vec(), entry.repeat(1_000_000)].concat();
    let hostile =
        Hostile::answering(move |words| if words[0] == "slowlog" { list.clone() } else { quiet(words) });
    drop(endures(&hostile, &["ok", "unreachable"]));
}

#[test]
fn huge_lengths() {
    for answer in [
        "*2147483647\r\n",
        "*9223372036854775807\r\n",
        "$9223372036854775807\r\n",
        "*-2\r\n",
        "%4611686018427387904\r\n",
        "*99999999999999999999999999\r\n",
        ":99999999999999999999999999\r\n",
    ] {
        let hostile = Hostile::start(always(answer.as_bytes().to_vec()));
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &format!("redis://{}", hostile.addr)])
            .args(&IMPATIENT)
            .start();
        exporter.wait_for(LIMIT, &format!("what comes of {answer:?}"), |metrics| {
            ["unreachable", "blocked"].contains(&state(metrics, &hostile.target()).as_str())
                && !lines_with(&exporter.logs(), &["level=warn"]).is_empty()
        });
        assert_eq!(exporter.get("/-/healthy").status, 200, "{answer:?}: {}", exporter.logs());
        assert!(exporter.peak_memory() < MAX_MEMORY, "{answer:?}");
    }
}

#[test]
fn deep_nesting() {
    let nested = b"*1\r\n".repeat(1_000_000);
    let everywhere = Hostile::start(always(nested.clone()));
    let (exporter, _) = endures(&everywhere, &["unreachable"]);
    says(&exporter, &everywhere, &["state=unreachable", "larger than 1 KiB"]);
    // One server for each command.
    let servers = ["slowlog get", "info", "config get"].map(|command| {
        let nested = nested.clone();
        let server = Hostile::answering(move |words| {
            if words.join(" ").starts_with(command) { nested.clone() } else { quiet(words) }
        });
        (server, command.to_uppercase())
    });
    let urls = servers.each_ref().map(|(server, _)| format!("--redis.addr=redis://{}", server.addr));
    let exporter = Exporter::builder().args(&urls).args(&QUICK).start();
    for (server, name) in &servers {
        eventually_or_tell(LIMIT, name, || {
            let logs = exporter.logs();
            // The number of bytes that arrive at once decides which of the limits is exceeded first.
            let is_told = lines_with(&logs, &["level=warn", &server.target(), name]).iter().any(|line| {
                line.contains("is larger than") || line.contains("the reply is not valid Redis protocol")
            });
            if is_told { Ok(()) } else { Err(logs) }
        });
    }
    assert!(exporter.peak_memory() < MAX_MEMORY);
}

/// The limit on a reply depends on the command; the log line contains both. The status page and the metrics report the
/// failure too.
#[test]
fn replies_that_exceed_the_limit_of_their_command() {
    for (command, size, words, code, impact) in [
        ("ping", 2 << 10, "the reply to PING is larger than 1 KiB", "ping_unavailable", "note"),
        ("info", 2 << 20, "the reply to INFO is larger than 1 MiB", "info_unavailable", "partial"),
        (
            "config",
            100 << 10,
            "the reply to CONFIG GET is larger than 64 KiB",
            "config_unavailable",
            "partial",
        ),
        (
            "client",
            10 << 10,
            "the reply to CLIENT SETNAME is larger than 4 KiB",
            "client_name_unavailable",
            "note",
        ),
        (
            "multi",
            10 << 10,
            "the reply to MULTI and EXEC is larger than 4 KiB",
            "transaction_unavailable",
            "note",
        ),
        (
            "slowlog",
            200 << 10,
            "the reply to SLOWLOG GET is larger than 80 KiB",
            "slowlog_too_large",
            "blind",
        ),
        (
            "function",
            17 << 20,
            "the reply to FUNCTION STATS is larger than 16 MiB",
            "function_stats_unavailable",
            "note",
        ),
    ] {
        let large = bulk("x".repeat(size));
        let hostile = Hostile::answering(move |words| {
            if words[0] == command && words.get(1).is_none_or(|word| word != "len") {
                large.clone()
            } else {
                quiet(words)
            }
        });
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &format!("redis://{}", hostile.addr)])
            .args(&QUICK)
            .start();
        eventually(LIMIT, &format!("the line about {command}"), || {
            (!lines_with(&exporter.logs(), &["level=warn", words]).is_empty()).then_some(())
        });
        eventually(LIMIT, "another attempt", || (hostile.connections() > 1).then_some(()));
        exporter.wait_for(LIMIT, &format!("the failure of {command} to be counted"), |metrics| {
            metrics.sum("redis_script_exporter_poll_failures_total", &[]) >= 1.0
        });
        wait_for_problem(&exporter, code, impact);
        let page = exporter.get("/api/v1/targets").body;
        assert!(command == "slowlog" || page.contains(words), "{page}");
        assert!(exporter.logs().lines().count() < MAX_LINES, "{}", exporter.logs());
    }
}

#[test]
fn a_reply_to_auth_that_exceeds_its_limit() {
    let large = bulk("x".repeat(10 << 10));
    let hostile =
        Hostile::answering(move |words| if words[0] == "auth" { large.clone() } else { quiet(words) });
    let exporter = Exporter::builder()
        .args(&["--redis.addr", &format!("redis://{}", hostile.addr), "--redis.password=sesame"])
        .args(&QUICK)
        .start();
    wait_for_lines(&exporter, &["state=unreachable", "the reply to AUTH is larger than 4 KiB"], 1);
    eventually(LIMIT, "another attempt", || (hostile.connections() > 1).then_some(()));
    assert_eq!(state(&exporter.metrics(), &hostile.target()), "unreachable");
    let page = exporter.get("/api/v1/targets").body;
    assert!(page.contains("the reply to AUTH is larger than 4 KiB"), "{page}");
}

#[test]
fn a_list_of_servers_that_exceeds_its_limit() {
    let large = bulk("x".repeat(9 << 20));
    let hostile =
        Hostile::answering(move |words| if words[0] == "cluster" { large.clone() } else { quiet(words) });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    fs::write(&file, format!("targets: [{{name: c, addr: '{}', discover: cluster}}]", hostile.addr)).unwrap();
    let flag = ["--config.file", file.to_str().unwrap()];
    let exporter = Exporter::builder().args(&flag).args(&QUICK).start();
    let words = "the reply to CLUSTER NODES is larger than 8 MiB";
    eventually(LIMIT, "the line", || {
        (!lines_with(&exporter.logs(), &["level=warn", "discovery=c", words]).is_empty()).then_some(())
    });
    let metrics = exporter.metrics();
    assert_eq!(number(&metrics, "redis_script_exporter_discovery_up", &[("discovery", "c")]), Some(0));
    eventually(LIMIT, "another connection", || (hostile.connections() > 1).then_some(()));
}

/// After new entries, the exporter requests more than one, and the limit on the reply grows with their number.
#[test]
fn the_limit_on_a_slow_log_depends_on_the_number_of_entries() {
    let (entries, requested) = (flooded(), Arc::new(OnceLock::<usize>::new()));
    let first = Arc::clone(&requested);
    let hostile = Hostile::answering(move |words| match words {
        [slowlog, get, count] if slowlog == "slowlog" && get == "get" && count != "1" => {
            let count = first.get_or_init(|| count.parse().unwrap());
            bulk("x".repeat((64 + 16 * count + 1) << 10))
        }
        _ => entries(words),
    });
    let exporter = Exporter::builder()
        .args(&["--redis.addr", &format!("redis://{}", hostile.addr)])
        .args(&QUICK)
        .start();
    let count = eventually(LIMIT, "a request for several entries", || requested.get().copied());
    let words = format!("the reply to SLOWLOG GET is larger than {} KiB", 64 + 16 * count);
    eventually(LIMIT, &words, || {
        (!lines_with(&exporter.logs(), &["level=warn", &words]).is_empty()).then_some(())
    });
}

/// Servers that begin large replies and never finish them. Each reply is within the limit of its command, but all of them
/// together would exceed the memory of the process.
#[test]
fn large_replies_of_many_servers_share_one_budget() {
    const SERVERS: usize = 30;
    let begun = [format!("${}\r\n", 15 << 20).into_bytes(), vec![b'x'; 12 << 20]].concat();
    let begun: Arc<Vec<u8>> = Arc::new(begun);
    let servers: Vec<Hostile> = (0..SERVERS)
        .map(|_| {
            let begun = Arc::clone(&begun);
            Hostile::answering(
                move |words| if words[0] == "function" { begun.to_vec() } else { quiet(words) },
            )
        })
        .collect();
    run_on(Kind::Redis70, |kind| {
        let good = logs_milliseconds(kind).start();
        let mut args = vec!["--redis.addr".to_owned(), good.url(), "--redis.reply-memory=48".to_owned()];
        for server in &servers {
            args.extend(["--redis.addr".to_owned(), format!("redis://{}", server.addr)]);
        }
        let mut exporter = Exporter::builder().args(&args).args(&QUICK).start();
        let dropped = |metrics: &Metrics| metrics.sum("redis_script_exporter_poll_failures_total", &[]);
        exporter.wait_for(LIMIT * 3, "many dropped replies", |metrics| dropped(metrics) >= 40.0);
        let target = target_of(&good);
        for calls in 1..=5 {
            spin(&mut good.client(), "EVAL", SPIN);
            exporter.wait_for(LIMIT, "the good server's call to be counted", |metrics| {
                let target = [("class", "script"), ("target", &*target)];
                number(metrics, "redis_script_slowlog_entries_total", &target) == Some(calls)
            });
        }
        let metrics = exporter.metrics();
        assert_eq!(lines_with(&exporter.logs(), &["was dropped", &target]), [""; 0]);
        assert_eq!(
            number(&metrics, "redis_script_slowlog_lost_entries_total", &[("target", &*target)]),
            Some(0)
        );
        let memory = exporter.peak_memory();
        assert!(memory < MAX_MEMORY + (48 << 20), "{} KiB", memory >> 10);
        let logs = exporter.logs();
        assert!(!lines_with(&logs, &["level=warn", "exceed --redis.reply-memory"]).is_empty(), "{logs}");
        exporter.terminate();
    });
}

/// A server that reports different, long names each time. Memory, labels and the state file stay small, and the next
/// process continues normally.
#[test]
fn names_without_end() {
    let (asked, asked_for_entries) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let hostile = Hostile::answering(move |words| match words[0].as_str() {
        "info" => {
            let name =
                format!("\u{1b}[2J\u{202e}{}{}", asked.fetch_add(1, Ordering::Relaxed), "x".repeat(180_000));
            let info = INFO.replace("0123456789abcdef", &name).replace("7.0.15", &format!("7.0.{name}"));
            bulk(info.replace("standalone", &name).replace("master", &name))
        }
        "slowlog" if words[1] == "get" => {
            let name = bulk(format!("\u{1b}[2J\u{202e}{}", "y".repeat(18_000)));
            let call = array(&[bulk("FCALL"), name.clone(), bulk("0")]);
            let id = asked_for_entries.fetch_add(1, Ordering::Relaxed);
            let numbers = [id, 1_700_000_000, 1000].map(|number| format!(":{number}\r\n").into_bytes());
            array(&[array(&[&numbers[..], &[call, name.clone(), name]].concat())])
        }
        _ => quiet(words),
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state");
    let state_file = format!("--state.file={}", file.display());
    let flags: Vec<&str> = QUICK.into_iter().chain([&*state_file]).collect();
    let (mut exporter, metrics) = endures_with(&hostile, &["ok"], &flags);
    for series in metrics.series("redis_script_target_info") {
        for label in ["version", "role", "mode"] {
            let text = series.label(label);
            assert!(text.len() <= 256 && !text.contains(['\u{1b}', '\u{202e}']), "{label}: {text:?}");
        }
    }
    let functions = metrics
        .sum("redis_script_slowlog_entries_total", &[("class", "script"), ("target", &hostile.target())]);
    assert!(functions > 0.0, "calls of the function were counted");
    exporter.terminate();
    let size = fs::metadata(&file).unwrap().len();
    assert!(size < 100_000, "a state file of {size} bytes");
    let next = Exporter::start(&["--redis.addr", &format!("redis://{}", hostile.addr), &state_file]);
    assert_eq!(
        lines_with(&next.logs(), &["state file loaded; resuming slow log accounting"]).len(),
        1,
        "{}",
        next.logs()
    );
}

#[test]
fn one_byte_at_a_time() {
    let hostile = Hostile::start(|mut stream| {
        stream.set_nodelay(true).unwrap();
        for words in Commands::new(&stream) {
            for byte in quiet(&words) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_micros(200));
            }
        }
    });
    // A slow but valid reply is read completely.
    let (_, metrics) = endures(&hostile, &["ok"]);
    let version =
        metrics.value("redis_script_target_info", &[("target", &hostile.target()), ("version", "7.0.15")]);
    assert_eq!(version, Some(1.0));
}

#[test]
fn a_reply_that_stops_halfway() {
    // The server responds to heartbeats, but closes the connection in the middle of INFO, the slow log, or the heartbeat
    // itself.
    for half in ["info", "slowlog get", "ping"] {
        let hostile = Hostile::start(move |mut stream| {
            for words in Commands::new(&stream) {
                let answer = quiet(&words);
                let now = words.join(" ").starts_with(half);
                let length = if now { answer.len() / 2 } else { answer.len() };
                if stream.write_all(&answer[..length]).is_err() || now {
                    return;
                }
            }
        });
        let (_, metrics) = endures(&hostile, &["unreachable", "ok"]);
        let failures =
            number(&metrics, "redis_script_exporter_poll_failures_total", &[("target", &hostile.target())]);
        assert_eq!(failures.is_some_and(|failures| failures > 0), half != "ping", "{half}");
        assert!(hostile.connections() < 20, "{} attempts", hostile.connections());
    }
}

#[test]
fn accepted_and_closed() {
    let hostile = Hostile::start(drop);
    drop(endures(&hostile, &["unreachable"]));
    assert!(hostile.connections() < 20, "{} attempts", hostile.connections());
}

#[test]
fn accepted_and_silent() {
    let hostile = Hostile::start(listen_on);
    let (exporter, metrics) = endures_with(&hostile, &["blocked"], &IMPATIENT);
    let target = [("target", &*hostile.target())];
    assert!(metrics.value("redis_script_blocked_seconds", &target).unwrap() > 1.0);
    assert_eq!(number(&metrics, "redis_script_target_up", &target), Some(1));
    says(&exporter, &hostile, &["blocked"]);
    assert!(hostile.connections() <= 2, "{} connections", hostile.connections());
}

#[test]
fn refusals_of_everything() {
    for (refusal, states) in [
        ("-ERR unknown command\r\n", &["ok"][..]),
        ("-NOPERM this user has no permissions to run the command\r\n", &["ok"]),
        ("-ERR max number of clients reached\r\n", &["ok", "unreachable"]),
        ("-\r\n", &["ok", "unreachable"]),
        ("-LOADING Redis is loading the dataset in memory\r\n", &["loading"]),
        ("-BUSY\r\n", &["busy_script", "busy_module"]),
        ("-NOAUTH Authentication required.\r\n", &["unauthorized"]),
        ("+OK\r\n", &["ok"]),
        (":1\r\n", &["ok"]),
        ("$-1\r\n", &["ok"]),
        ("*0\r\n", &["ok"]),
    ] {
        let hostile = Hostile::answering(|_| refusal.as_bytes().to_vec());
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &format!("redis://{}", hostile.addr)])
            .args(&QUICK)
            .start();
        exporter.wait_for(LIMIT, &format!("what comes of {refusal:?}"), |metrics| {
            states.contains(&state(metrics, &hostile.target()).as_str())
        });
        stays_true(Duration::from_millis(700), refusal, || {
            let state = state(&exporter.metrics(), &hostile.target());
            if states.contains(&state.as_str()) { Ok(()) } else { Err(state) }
        });
        assert!(exporter.logs().lines().count() < MAX_LINES, "{refusal:?}: {}", exporter.logs());
    }
}

/// An error reply to AUTH may contain the arguments (as from servers without the command), so it is not logged.
#[test]
fn a_password_in_a_reply_is_not_logged() {
    for words in
        ["ERR unknown command `auth`, with args beginning with:", "ERR no such password:", "WRONGPASS:"]
    {
        let hostile = Hostile::answering(move |command| match command[0].as_str() {
            "auth" => format!("-{words} `{}`, \r\n", command[1..].join("`, `")).into_bytes(),
            _ => quiet(command),
        });
        let url = format!("redis://{}", hostile.addr);
        let flags = ["--redis.addr", &url, "--redis.user=me", "--redis.password=open-sesame"];
        let exporter = Exporter::builder().args(&flags).args(&["--log.level=trace"]).args(&QUICK).start();
        exporter
            .wait_for(LIMIT, "the refusal", |metrics| state(metrics, &hostile.target()) == "unauthorized");
        eventually(LIMIT, "some attempts", || (hostile.connections() > 3).then_some(()));
        let checked = Exporter::builder().args(&["check"]).args(&flags).run();
        assert!(checked.stdout.contains("rejects user"), "{checked:?}");
        let seen =
            [pages(&exporter, &hostile.target()), exporter.logs(), checked.stdout, checked.stderr].concat();
        assert!(!seen.contains("sesame"), "{seen}");
    }
}
