//! Servers that are not what they should be, and servers that come and go. The exporter stays up and small, says what is
//! wrong once, and goes on watching the others.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::common::{
    LIMIT, QUICK, SPIN, lines_with, logs_milliseconds, number, spin, state, target_of, wait_for_lines, whole,
};
use test_support::exporter::Exporter;
use test_support::hostile::{
    Commands, Hostile, INFO, SilentResolver, always, array, bulk, endless, flooded, listen_on, quiet,
};
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::wait::{eventually, stays_true};

on_each_server!(a_server_that_goes_and_comes_back, a_server_that_is_absent_at_the_start);

/// [`QUICK`] with the usual patience: silence is one of the things that these servers do.
const IMPATIENT: [&str; 3] = [QUICK[0], QUICK[1], QUICK[2]];

/// The most memory that the exporter may ever have taken, whatever a server sends.
const MAX_MEMORY: u64 = 60 << 20;

/// Time for which a hostile server is watched after its attack.
const A_WHILE: Duration = Duration::from_secs(3);

/// The most lines that the log may have after that. One server that changes between two states tells so; it does not
/// tell it at every attempt.
const MAX_LINES: usize = 25;

/// Replies of a server that runs a function which began at that time; FUNCTION STATS names it, or nothing.
fn busy(words: &[String], began: Duration, named: bool) -> Vec<u8> {
    const REASON: &str =
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.";
    let running = || {
        let time = format!(":{}\r\n", began.as_millis()).into_bytes();
        let fields = [bulk("name"), bulk("slow"), bulk("command"), array(&[]), bulk("duration_ms"), time];
        array(&[bulk("running_script"), array(&fields), bulk("engines"), array(&[])])
    };
    match words[0].as_str() {
        "function" if named => running(),
        "function" | "multi" => quiet(words),
        "exec" => format!("-EXECABORT Transaction discarded because of: {REASON}\r\n").into_bytes(),
        _ => format!("-{REASON}\r\n").into_bytes(),
    }
}

/// Watches a hostile server and a good one with one exporter. Holds when the hostile one is in one of these states and
/// has been for a while, the good one is watched as ever, and the exporter has stayed small and quiet.
#[track_caller]
fn endures(hostile: &Hostile, states: &[&str]) -> (Exporter, Metrics) {
    endures_with(hostile, states, &QUICK)
}

/// Like [`endures`], with these flags.
#[track_caller]
fn endures_with(hostile: &Hostile, states: &[&str], flags: &[&str]) -> (Exporter, Metrics) {
    let mut found = None;
    run_on(Kind::Redis70, |kind| {
        let good = logs_milliseconds(kind).start();
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &format!("redis://{}", hostile.addr), "--redis.addr", &good.url()])
            .args(flags)
            .start();
        let (bad_target, good_target) = (hostile.target(), target_of(&good));
        exporter.wait_for(LIMIT, &format!("one of the states {states:?}"), |metrics| {
            hostile.connections() > 0 && states.contains(&state(metrics, &bad_target).as_str())
        });
        let polls = |metrics: &Metrics| {
            number(metrics, "redis_script_exporter_polls_total", &[("target", &good_target)]).unwrap()
        };
        let before = polls(&exporter.wait_for(LIMIT, "the good server", |metrics| polls(metrics) >= 3));
        // Everything that it has in store, and time for many attempts.
        let begun = Instant::now();
        let mut calls = 0;
        while begun.elapsed() < A_WHILE {
            spin(&mut good.client(), "EVAL", SPIN);
            calls += 1;
            let metrics = exporter.wait_for(LIMIT, "the good server's call to be counted", |metrics| {
                let target = [("class", "script"), ("target", &good_target)];
                number(metrics, "redis_script_slowlog_entries_total", &target) == Some(calls)
            });
            assert_eq!(state(&metrics, &good_target), "ok");
            thread::sleep(Duration::from_millis(200));
        }
        let metrics = exporter.wait_for(LIMIT, "one of these states again", |metrics| {
            states.contains(&state(metrics, &bad_target).as_str())
        });
        assert!(polls(&metrics) > before + 5, "the good server is asked as ever");
        let lost = number(&metrics, "redis_script_slowlog_lost_entries_total", &[("target", &good_target)]);
        assert_eq!(lost, Some(0));

        let (memory, logs) = (exporter.peak_memory(), exporter.logs());
        assert!(memory < MAX_MEMORY, "{} KiB at the most\n{logs}", memory >> 10);
        let lines = lines_with(&logs, &[&bad_target]);
        assert!(!lines.is_empty(), "nothing is told: {logs}");
        assert!(logs.lines().count() < MAX_LINES, "{logs}");
        assert!(lines.iter().all(|line| line.len() < 1000), "{logs}");
        found = Some((exporter, metrics));
    });
    // Without the good server there is nothing to hold; the lack of it has been told.
    found.unwrap_or_else(|| {
        let exporter = Exporter::start(&["--redis.addr", &format!("redis://{}", hostile.addr)]);
        let metrics = exporter.metrics();
        (exporter, metrics)
    })
}

/// The one line that says what is wrong holds these words.
#[track_caller]
fn says(exporter: &Exporter, hostile: &Hostile, words: &[&str]) {
    let lines = lines_with(&exporter.logs(), &[&[&*hostile.target(), "level=warn"], words].concat());
    assert_eq!(lines.len(), 1, "{words:?} in one line of {}", exporter.logs());
}

/// A server that keeps the words of each AUTH, and accepts it.
fn listening_for_passwords(
    answer: impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static,
) -> (Hostile, Arc<Mutex<Vec<String>>>) {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heard);
    let hostile = Hostile::answering(move |words| {
        if words[0] == "auth" {
            kept.lock().unwrap().extend_from_slice(&words[1..]);
            return b"+OK\r\n".to_vec();
        }
        answer(words)
    });
    (hostile, heard)
}

#[test]
fn passwords_of_other_servers_are_never_sent() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("map.json");
    let (server, heard) = listening_for_passwords(quiet);
    let start = || {
        Exporter::builder()
            .args(&["--redis.addr", &format!("redis://{}", server.addr)])
            .args(&QUICK)
            .env("REDIS_PASSWORD_FILE", file.to_str().unwrap())
    };
    let of_another = "\"redis://elsewhere:6379\": \"sesame-of-another\"";
    fs::write(&file, format!("{{{of_another}, \"redis://{}\": \"own\"}}", server.addr)).unwrap();
    let exporter = start().start();
    exporter.wait_for(LIMIT, "it to be known", |metrics| state(metrics, &server.target()) == "ok");
    assert_eq!(*heard.lock().unwrap(), ["own"]);
    drop(exporter);

    heard.lock().unwrap().clear();
    fs::write(&file, format!("{{{of_another}}}")).unwrap();
    let exporter = start().start();
    exporter
        .wait_for(LIMIT, "it to be refused", |metrics| state(metrics, &server.target()) == "unauthorized");
    let logs = exporter.logs();
    let told = lines_with(&logs, &["level=warn", "map.json is a map", &server.target()]);
    assert!(!told.is_empty() && !logs.contains("sesame") && !logs.contains("elsewhere"), "{logs}");
    drop(exporter);

    for content in [format!("{{{of_another}"), format!("[{of_another}"), format!("{of_another}\0")] {
        fs::write(&file, &content).unwrap();
        if content.starts_with('[') {
            fs::write(&file, "[\"elsewhere\", \"sesame-of-another\"]").unwrap();
        }
        let finished = start().run();
        assert_eq!(finished.status.code(), Some(64), "{content}: {finished:?}");
        assert!(finished.stderr.contains("--redis.password-file: the password file"), "{finished:?}");
        assert!(
            !finished.stderr.contains("sesame") && !finished.stderr.contains("elsewhere"),
            "{finished:?}"
        );
    }
    assert!(heard.lock().unwrap().is_empty(), "nothing of such a file is sent");
}

/// The one compromised node of a cluster: it lists itself in many spellings, and addresses where passwords are awaited.
#[test]
fn discovery_logs_in_only_where_allow_admits_and_once_for_each_server() {
    let outside = TcpListener::bind("127.0.1.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    let far = outside.local_addr().unwrap().port();
    let nodes: Arc<Mutex<String>> = Arc::default();
    let told = Arc::clone(&nodes);
    let (node, heard) = listening_for_passwords(move |words| {
        if words[0] == "cluster" { bulk(told.lock().unwrap().as_str()) } else { quiet(words) }
    });
    let own = node.addr.port();
    let addresses = [
        format!("127.0.0.1:{own}@1"),
        format!("::ffff:127.0.0.1:{own}@1"),
        format!("127.0.0.1:0{own}@1"),
        format!("127.0.0.1:{own}@1,localhost"),
        format!("127.0.0.1:{own}@1,LOCALHOST."),
        format!("127.0.0.1:{own}@1,2130706433"),
        format!("127.0.0.1:{own}@1,0x7f.1"),
        format!("127.0.1.1:{far}@1"),
        format!("::ffff:127.0.1.1:{far}@1"),
        format!("127.0.0.1:{far}@1,2130706689"),
        "10.255.255.1:22@1".to_owned(),
    ];
    for (id, address) in addresses.iter().enumerate() {
        let flags = if id == 0 { "myself,master" } else { "master" };
        let line = format!("{id:040} {address} {flags} - 0 0 1 connected {id}\n");
        nodes.lock().unwrap().push_str(&line);
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yml");
    let write = |allow: &str| {
        let entry = format!("name: c, addr: '{}', discover: cluster, password: sesame{allow}", node.addr);
        fs::write(&file, format!("targets: [{{{entry}}}]")).unwrap();
    };
    write("");
    let flag = ["--config.file", file.to_str().unwrap()];
    let mut exporter = Exporter::builder().args(&flag).args(&QUICK).start();
    let entry = [("discovery", "c")];
    let target = format!("c/127.0.0.1:{own}");
    let seen = |metrics: &Metrics| {
        let targets = metrics.series("redis_script_target_up");
        let one = targets.len() == 1 && targets.iter().all(|series| series.label("target") == target);
        let refused = number(metrics, "redis_script_exporter_discovery_refused_servers", &entry);
        one && state(metrics, &target) == "ok" && refused == Some(2)
    };
    exporter.wait_for(LIMIT, "one target, and two that are refused", seen);
    let rounds = node.connections();
    stays_true(A_WHILE, "one target, on a kept connection", || {
        let metrics = exporter.metrics();
        let holds = seen(&metrics) && node.connections() <= rounds + 1;
        if holds { Ok(()) } else { Err(metrics.text) }
    });
    let logs = exporter.logs();
    for address in [format!("127.0.1.1:{far}"), "10.255.255.1:22".to_owned()] {
        let lines = lines_with(&logs, &["level=warn", &address, "the entry's allow does not admit it"]);
        assert_eq!(lines.len(), 1, "{address}, once: {logs}");
    }
    let checked = Exporter::builder().args(&["check", "--format=summary"]).args(&flag).run();
    assert!(checked.stderr.contains(&format!("127.0.1.1:{far} is not checked")), "{checked:?}");
    let accepted = outside.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock), "{accepted:?}");
    assert!(heard.lock().unwrap().iter().all(|word| word == "sesame"));

    // What the entry allows is connected to, as soon as it does; a name is looked at when it is dialled.
    let line = format!("{:040} 127.0.0.1:{far}@1,localhost master - 0 0 1 connected\n", 99);
    nodes.lock().unwrap().push_str(&line);
    write(", allow: ['127.0.1.1:*', '172.16.0.0/12:*']");
    exporter.signal(Signal::SIGHUP);
    eventually(LIMIT, "a connection to what is allowed now", || outside.accept().ok());
    let metrics = exporter.wait_for(LIMIT, "two that are refused", |metrics| {
        state(metrics, &format!("c/localhost:{far}")) == "unreachable"
            && number(metrics, "redis_script_exporter_discovery_refused_servers", &entry) == Some(2)
    });
    wait_for_lines(&exporter, &["the address is not permitted by allow"], 1);
    assert_eq!(state(&metrics, &target), "ok", "the entry's own address is always allowed");
}

/// A Sentinel that names servers of another network, and a server that sends clients there.
#[test]
fn sentinels_and_redirections_lead_to_no_other_network() {
    let outside = TcpListener::bind("127.0.1.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    let far = outside.local_addr().unwrap().port();
    let server = move |host: &str| {
        let port = far.to_string();
        let fields = ["ip", host, "port", &port, "runid", "abc", "flags", "master"];
        array(&fields.map(bulk))
    };
    let (sentinel, heard) = listening_for_passwords(move |words| match words {
        [command, subcommand, ..] if command == "sentinel" => match subcommand.as_str() {
            "master" => server("127.0.1.1"),
            "replicas" | "slaves" => {
                array(&["::ffff:127.0.1.1", "2130706689", "0x7f000101", "0177.0.1.1"].map(server))
            }
            _ => array(&[server("127.0.1.1.")]),
        },
        words => quiet(words),
    });
    let moved = Hostile::answering(move |_| format!("-MOVED 3999 127.0.1.1:{far}\r\n").into_bytes());
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.yml");
    let entry =
        format!("name: s, addr: '{}', discover: sentinel, masters: [m], password: sesame", sentinel.addr);
    let plain = format!("name: moved, addr: '{}', password: sesame", moved.addr);
    fs::write(&file, format!("targets: [{{{entry}, sentinel: {{password: sesame}}}}, {{{plain}}}]")).unwrap();
    let flag = ["--config.file", file.to_str().unwrap()];
    let exporter = Exporter::builder().args(&flag).args(&QUICK).start();
    exporter.wait_for(LIMIT, "the refused servers", |metrics| {
        let refused =
            number(metrics, "redis_script_exporter_discovery_refused_servers", &[("discovery", "s")]);
        refused.is_some_and(|refused| refused >= 1) && moved.connections() > 0
    });
    let rounds = sentinel.connections();
    eventually(LIMIT, "more of both", || {
        (moved.connections() > 1 || exporter.metrics().sum("redis_script_exporter_polls_total", &[]) > 3.0)
            .then_some(())
    });
    assert!(rounds > 0 && heard.lock().unwrap().iter().all(|word| word == "sesame"));
    let accepted = outside.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock), "{accepted:?}");
    assert!(!exporter.logs().contains("sesame"));
}

/// A server with 300 scripts of 1 MiB, as it says.
#[test]
fn a_catalogue_takes_a_limited_amount_from_a_server() {
    let hostile = Hostile::answering(|words| match words[0].as_str() {
        "slowlog" => {
            let int = |number: usize| format!(":{number}\r\n").into_bytes();
            let entry = |id: usize| {
                let call = array(&[bulk("EVALSHA"), bulk(format!("{id:040x}")), bulk("0")]);
                array(&[int(id), int(1_700_000_000), int(2_000_000), call, bulk("a:1"), bulk("")])
            };
            array(&(0..300).rev().map(entry).collect::<Vec<_>>())
        }
        "function" => array(&[]),
        "script" => bulk(format!("return {}{}", words[2], " ".repeat(1 << 20))),
        _ => quiet(words),
    });
    let folder = TempDir::new().unwrap();
    let url = format!("redis://{}", hostile.addr);
    let output = folder.path().join("scripts");
    let args = ["catalogue", "--from-redis", &url, "--output", output.to_str().unwrap()];
    let finished = Exporter::builder().args(&args).run();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("further scripts were left out: there are 64 MiB"),
        "{}",
        finished.stderr
    );
    assert_eq!(fs::read_dir(&output).unwrap().count(), 64);
}

#[test]
fn garbage() {
    let noise: Vec<u8> =
        (0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let hostile = Hostile::start(always([b"\x00\xff\x80".to_vec(), noise].concat()));
    let (exporter, _) = endures(&hostile, &["unreachable"]);
    says(&exporter, &hostile, &["not in the Redis protocol"]);
    assert!(hostile.connections() < 20, "{} attempts", hostile.connections());
}

/// A server that is BUSY answers FUNCTION STATS: whatever it says, that is no sign that the blockage is over.
#[test]
fn function_stats_ends_no_blockage() {
    let (asked, began) = (Arc::new(AtomicUsize::new(0)), OnceLock::new());
    let counter = Arc::clone(&asked);
    let server = Hostile::answering(move |words| {
        let stats = words[0] == "function";
        // The function begins just before the first time that it is asked.
        let before = counter.fetch_add(usize::from(stats), Ordering::SeqCst);
        if before == 0 && !stats {
            return quiet(words);
        }
        let began: &Instant = began.get_or_init(Instant::now);
        busy(words, Duration::from_secs(1) + began.elapsed(), before != 1)
    });
    let exporter = Exporter::start(&["--redis.addr", &format!("redis://{}", server.addr)]);
    eventually(LIMIT, "FUNCTION STATS to be asked", || (asked.load(Ordering::SeqCst) >= 4).then_some(()));
    let metrics = exporter.metrics();
    assert_eq!(state(&metrics, &server.target()), "busy_function");
    assert_eq!(metrics.value("redis_script_running_info", &[("script", "slow")]), Some(1.0));
    assert_eq!(number(&metrics, "redis_script_busy_episodes_total", &[("kind", "function")]), Some(1));
    assert_eq!(metrics.sum("redis_script_blockages_total", &[]), 0.0, "{}", exporter.logs());
    assert!(metrics.sum("redis_script_blocked_seconds", &[]) > 2.0, "{}", exporter.logs());
    let logs = exporter.logs();
    assert_eq!(lines_with(&logs, &["blocked: the server"]).len(), 1, "{logs}");
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
    let slow_log = Hostile::answering(move |words| {
        if words.starts_with(&["slowlog".to_owned(), "get".to_owned()]) {
            nested.clone()
        } else {
            quiet(words)
        }
    });
    let (exporter, _) = endures(&slow_log, &["ok", "unreachable"]);
    says(&exporter, &slow_log, &["the reply to SLOWLOG GET is larger than"]);
}

/// The limit of a reply depends on the command, and the log line names both.
#[test]
fn replies_that_exceed_the_limit_of_their_command() {
    for (command, size, words) in [
        ("ping", 2 << 10, "the reply to PING is larger than 1 KiB"),
        ("info", 2 << 20, "the reply to INFO is larger than 1 MiB"),
        ("config", 100 << 10, "the reply to CONFIG GET is larger than 64 KiB"),
        ("client", 10 << 10, "the reply to CLIENT SETNAME is larger than 4 KiB"),
        ("multi", 10 << 10, "the reply to MULTI and EXEC is larger than 4 KiB"),
        ("slowlog", 200 << 10, "the reply to SLOWLOG GET is larger than 80 KiB"),
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
        if command == "slowlog" {
            wait_for_problem(&exporter, "slowlog_too_large", "blind");
        }
        assert!(exporter.logs().lines().count() < MAX_LINES, "{}", exporter.logs());
    }
}

/// Servers that begin large replies and do not finish them. Each is within the limit of its command; all of them together
/// are not within the memory of the process.
#[test]
fn large_replies_of_many_servers_share_one_budget() {
    const SERVERS: usize = 60;
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
        exporter.wait_for(LIMIT, "many dropped replies", |metrics| dropped(metrics) >= 100.0);
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

/// Memory that the process may take under all attacks at once, in bytes.
const MAX_ATTACKED: u64 = 128_000_000;

/// Memory of the released program without targets, in bytes. That of a debug build is larger, by the size of its code.
const RELEASED: u64 = 9_000_000;

/// Time of a scrape, of which half may take longer, and of SIGTERM. A debug build renders a text of this size in several times the
/// time. A machine that takes long for a response without content gets the multiple of that time.
const SCRAPE: (Duration, u32) = (Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 250 }), 200);
const STOP: (Duration, u32) = (Duration::from_secs(2), 100);

/// Time limit on this machine now: `median` is the time of a response without content.
fn allowed((limit, factor): (Duration, u32), median: Duration) -> Duration {
    limit.max(median * factor)
}

/// Median time of a request.
fn median_of(exporter: &Exporter, path: &str) -> Duration {
    let mut times: Vec<Duration> = (0..11)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(exporter.get(path).status, 200, "{path}");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// Answers of a node whose cluster has 1,900 other new nodes each time.
fn ever_new_nodes() -> impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static {
    let asked = AtomicUsize::new(0);
    move |words| {
        if words[0] != "cluster" {
            return quiet(words);
        }
        let first = 1900 * asked.fetch_add(1, Ordering::Relaxed);
        let node = |number: usize| {
            let [high, low] = [number / 200 % 200, number % 200].map(|part| part + 1);
            let flags = if number == first { "myself,master" } else { "master" };
            format!("{number:040} 127.100.{high}.{low}:1@1 {flags} - 0 0 1 connected {number}\n")
        };
        bulk((first..first + 1900).map(node).collect::<String>())
    }
}

/// Fifty servers with five kinds of attacks.
fn attackers() -> Vec<Hostile> {
    let begun: Arc<Vec<u8>> = Arc::new([b"$15000000\r\n".to_vec(), vec![b'x'; 12 << 20]].concat());
    let mut hostile = Vec::new();
    for number in 0..10 {
        let begun = Arc::clone(&begun);
        hostile.push(Hostile::answering(
            move |words| {
                if words[0] == "function" { begun.to_vec() } else { quiet(words) }
            },
        ));
        hostile.push(Hostile::answering(flooded()));
        let asked = AtomicUsize::new(0);
        hostile.push(Hostile::answering(move |words| {
            if words[0] != "info" {
                return quiet(words);
            }
            let name = format!("{}{number}{}", asked.fetch_add(1, Ordering::Relaxed), "x".repeat(180_000));
            bulk(INFO.replace("0123456789abcdef", &name).replace("standalone", &name))
        }));
        hostile.push(Hostile::start(endless(b"$100000000000\r\n", b"x".repeat(100_000))));
        hostile.push(Hostile::start(listen_on));
    }
    hostile
}

/// Configuration with a node that names others, with names that hang, and with `/probe`.
fn attacked(cluster: &Hostile, names: usize) -> String {
    let mut config = "modules: {default: {allow: ['127.0.0.0/8:*']}}\ntargets:\n".to_owned();
    writeln!(config, "  - {{addr: '{}', discover: cluster, allow: ['127.0.0.0/8:*']}}", cluster.addr)
        .unwrap();
    for number in 0..names {
        writeln!(config, "  - {{addr: 'redis://hanging{number}.example:6379'}}").unwrap();
    }
    config
}

/// Starts half requests, probes of addresses without a server, and readers of the page's answers, until it is over.
fn attack_over_http<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    addr: SocketAddr,
    over: &'scope AtomicBool,
) {
    for _ in 0..2 {
        scope.spawn(move || {
            let mut held = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(addr) else { continue };
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
                held.push_back(stream);
                if held.len() > 400 {
                    held.pop_front();
                }
            }
        });
    }
    for reader in 0..4 {
        scope.spawn(move || {
            for number in 0_usize.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let path = match reader {
                    0 => format!("/probe?target=127.200.{}.{}:1", number / 250 % 250, number % 250),
                    1 => "/api/v1/incidents".to_owned(),
                    2 => "/".to_owned(),
                    _ => "/api/v1/targets".to_owned(),
                };
                let _ = test_support::http::get(addr, &path);
                thread::sleep(Duration::from_millis(20));
            }
        });
    }
}

/// Attacks of this file at the same time, through discovery, names and HTTP too, beside 50 honest servers.
#[test]
fn all_attacks_at_once() {
    let hostile = attackers();
    let honest: Vec<Hostile> = (0..48).map(|_| Hostile::answering(quiet)).collect();
    run_on(Kind::Redis70, |kind| {
        let real = [logs_milliseconds(kind).start(), logs_milliseconds(kind).start()];
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("state");
        let cluster = Hostile::answering(ever_new_nodes());
        let resolver = SilentResolver::start(Ipv4Addr::new(127, 53, 53, 54), folder.path());
        let names = if resolver.is_some() { 300 } else { 0 };
        let config_file = folder.path().join("config.yml");
        fs::write(&config_file, attacked(&cluster, names)).unwrap();
        let mut args = vec![
            format!("--state.file={}", file.display()),
            format!("--config.file={}", config_file.display()),
            "--web.show-keys".to_owned(),
        ];
        for server in hostile.iter().chain(&honest) {
            args.push(format!("--redis.addr=redis://{}", server.addr));
        }
        args.extend(real.iter().map(|server| format!("--redis.addr={}", server.url())));
        let wrapper = resolver.as_ref().map(SilentResolver::wrapper).unwrap_or_default();
        let mut exporter = Exporter::builder().wrapper(&wrapper).args(&args).start();
        let over = AtomicBool::new(false);
        let times = Mutex::new((Duration::ZERO, Duration::ZERO));
        thread::scope(|scope| {
            attack_over_http(scope, exporter.addr(), &over);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let targets = real.iter().map(target_of).collect::<Vec<_>>();
                for target in &targets {
                    exporter.wait_for(LIMIT, "a baseline", |metrics| {
                        let polls =
                            number(metrics, "redis_script_exporter_polls_total", &[("target", target)]);
                        polls.is_some_and(|polls| polls >= 3)
                    });
                }
                for calls in 1..=5 {
                    for server in &real {
                        spin(&mut server.client(), "EVAL", SPIN);
                    }
                    for target in &targets {
                        exporter.wait_for(LIMIT, "the calls of the honest servers", |metrics| {
                            let labels = [("class", "script"), ("target", target)];
                            number(metrics, "redis_script_slowlog_entries_total", &labels) == Some(calls)
                        });
                    }
                }
                *times.lock().unwrap() =
                    (median_of(&exporter, "/-/healthy"), median_of(&exporter, "/metrics"));
                let metrics = exporter.metrics();
                for target in honest.iter().map(Hostile::target).chain(targets) {
                    let of = |name: &str, more: &[(&str, &str)]| {
                        metrics.sum(name, &[&[("target", &*target)], more].concat())
                    };
                    assert_eq!(whole(of("redis_script_slowlog_lost_entries_total", &[])), 0, "{target}");
                    let dropped = lines_with(&exporter.logs(), &["was dropped", &target]);
                    assert_eq!(dropped, [""; 0], "{target}");
                }
            }));
            over.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        let larger =
            Exporter::start(&["--redis.addr", &real[0].url()]).peak_memory().saturating_sub(RELEASED);
        let memory = exporter.peak_memory().saturating_sub(larger);
        let (idle, scrape) = *times.lock().unwrap();
        let (status, took) = exporter.terminate();
        assert!(status.success(), "{status:?}");
        println!(
            "{} KiB at the most, {scrape:?} for a scrape ({idle:?} without content), {took:?} to the end",
            memory >> 10
        );
        assert!(memory < MAX_ATTACKED, "{} KiB", memory >> 10);
        assert!(scrape <= allowed(SCRAPE, idle), "{scrape:?} for a scrape, {idle:?} without content");
        assert!(took <= allowed(STOP, idle), "{took:?} to the end, {idle:?} without content");
        let size = fs::metadata(&file).unwrap().len();
        assert!(size < 3_000_000, "a state file of {size} bytes");
    });
}

/// A server that calls itself something else each time, at length: memory, labels and the state file stay small, and the
/// next process goes on.
#[test]
fn names_without_end() {
    let asked = Arc::new(AtomicUsize::new(0));
    let hostile = Hostile::answering(move |words| match words[0].as_str() {
        "info" => {
            let name =
                format!("\u{1b}[2J\u{202e}{}{}", asked.fetch_add(1, Ordering::Relaxed), "x".repeat(180_000));
            let info = INFO.replace("0123456789abcdef", &name).replace("7.0.15", &format!("7.0.{name}"));
            bulk(info.replace("standalone", &name).replace("master", &name))
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
    // That is slow, and right: it is read in the end.
    let (_, metrics) = endures(&hostile, &["ok"]);
    let version =
        metrics.value("redis_script_target_info", &[("target", &hostile.target()), ("version", "7.0.15")]);
    assert_eq!(version, Some(1.0));
}

#[test]
fn a_reply_that_stops_halfway() {
    // The heartbeat works; it hangs up in the middle of INFO, of the slow log, or of the heartbeat itself.
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

/// A server's error reply to AUTH may repeat its arguments (servers that don't know it do); it is not passed on.
#[test]
fn a_password_in_a_reply_is_not_logged() {
    for words in
        ["ERR unknown command `auth`, with args beginning with:", "ERR no such password:", "WRONGPASS:"]
    {
        let hostile = Hostile::answering(move |command| match command[0].as_str() {
            "auth" => format!("-{words} `{}`, \r\n", command[1..].join("`, `")).into_bytes(),
            _ => quiet(command),
        });
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &format!("redis://{}", hostile.addr), "--redis.user=me"])
            .args(&["--redis.password=open-sesame", "--log.level=trace"])
            .args(&QUICK)
            .start();
        exporter
            .wait_for(LIMIT, "the refusal", |metrics| state(metrics, &hostile.target()) == "unauthorized");
        eventually(LIMIT, "some attempts", || (hostile.connections() > 3).then_some(()));
        let page = exporter.get("/metrics").body;
        assert!(!format!("{page}{}", exporter.logs()).contains("sesame"), "{}", exporter.logs());
    }
}

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
        // None of these is an entry.
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
        // The first answer is the baseline: one entry, so that all of the others are new.
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
    // Every scrape is parsed: a line that is not in the format panics.
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

/// The field of a logfmt line as a number; 0 where it has none.
fn field(line: &str, name: &str) -> u64 {
    let value = line.split_once(&format!(" {name}=")).and_then(|(_, rest)| rest.split(' ').next());
    value.map_or(0, |value| value.parse().unwrap_or_else(|_| panic!("{name} of {line}")))
}

/// Most lines that have times (`ts=…T12:34:56.789Z`) within any one second.
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

/// Made-up slow calls as fast as they are asked for, with hostile texts in them. Between them it is BUSY for a while, and ends
/// a blockage with a command of 5 MB.
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
                // More than it is asked for, within the limit of the reply.
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
    // Long enough for the lines that are left out to be reported while it goes on.
    let is_omitted = |line: &str| line.contains(&target) && line.contains("log lines were omitted");
    eventually(LIMIT, "a report while it goes on", || exporter.logs().lines().any(is_omitted).then_some(()));
    // The server is BUSY, then blocked and silent, and then well.
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
    // 20 by the clock of the limiter; a busy machine may hold lines up.
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

/// The slow log as SLOWLOG GET gives it, newest entry first.
fn slow_log(words: &[String], entries: &[Vec<u8>]) -> Vec<u8> {
    if words[1] == "len" {
        return format!(":{}\r\n", entries.len()).into_bytes();
    }
    let count: usize = words[2].parse().unwrap();
    array(&entries[..count.min(entries.len())])
}

/// Waits until the page has a problem with this code for the one target, and it has this impact.
#[track_caller]
fn wait_for_problem(exporter: &Exporter, code: &str, impact: &str) {
    eventually(LIMIT, &format!("the problem {code}, {impact}"), || {
        let answer: serde_json::Value = serde_json::from_str(&exporter.get("/api/v1/targets").body).unwrap();
        let problems = answer["targets"][0]["problems"].as_array().unwrap();
        problems.iter().any(|problem| problem["code"] == code && problem["impact"] == impact).then_some(())
    });
}

/// Redis Enterprise and Redis Cloud: one more element, before the arguments.
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

    // One of a known form between others is counted, and the log is read as often as ever.
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

fn a_server_that_goes_and_comes_back(kind: Kind) {
    let mut server = logs_milliseconds(kind).start();
    let exporter = crate::common::watch(&server, &[]);
    let target = target_of(&server);
    spin(&mut server.client(), "EVAL", SPIN);
    crate::common::wait_for_scripts(&exporter, 1);
    let before: Vec<String> = exporter.metrics().names().iter().map(|&name| name.to_owned()).collect();
    for (round, killed) in [true, false].into_iter().enumerate() {
        if killed {
            server.kill();
        } else {
            server.stop();
        }
        let metrics = exporter
            .wait_for(LIMIT, "the server to be gone", |metrics| state(metrics, &target) == "unreachable");
        assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(0));
        let names = metrics.names();
        let gone: Vec<&String> = before.iter().filter(|name| !names.contains(name.as_str())).collect();
        assert!(gone.is_empty(), "series are gone with the server: {gone:?}");
        server.restart();
        let metrics = exporter.wait_for(LIMIT, "the server to be back, and all of its numbers", |metrics| {
            let names = metrics.names();
            state(metrics, &target) == "ok" && before.iter().all(|name| names.contains(name.as_str()))
        });
        assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(1));
        // A line is written after the metrics have changed.
        let lines = |state: &str| lines_with(&exporter.logs(), &[state]).len();
        eventually(LIMIT, "the change to be logged", || (lines("state=ok") > round + 1).then_some(()));
        assert_eq!(lines("state=unreachable"), round + 1, "{}", exporter.logs());
        assert_eq!(lines("state=ok"), round + 2, "{}", exporter.logs());
    }
    spin(&mut server.client(), "EVAL", SPIN);
    let metrics = crate::common::wait_for_scripts(&exporter, 2);
    assert_eq!(number(&metrics, "redis_script_slowlog_lost_entries_total", &[]), Some(0));
}

fn a_server_that_is_absent_at_the_start(kind: Kind) {
    let mut server = logs_milliseconds(kind).start();
    server.stop();
    let exporter = Exporter::builder().args(&["--redis.addr", &server.url()]).args(&QUICK).start();
    let target = target_of(&server);
    exporter.wait_for(LIMIT, "the first attempt", |_| exporter.get("/-/ready").status == 200);
    let metrics = exporter.metrics();
    assert_eq!(state(&metrics, &target), "unreachable");
    assert_eq!(number(&metrics, "redis_script_target_up", &[]), Some(0));
    // Long enough for the pauses between two attempts to have grown to where they end.
    stays_true(Duration::from_secs(6), "one warning", || {
        let logs = exporter.logs();
        if lines_with(&logs, &["level=warn"]).len() == 1 { Ok(()) } else { Err(logs) }
    });
    server.restart();
    let back = Instant::now();
    exporter.wait_for(LIMIT, "the server to be back", |metrics| state(metrics, &target) == "ok");
    let took = back.elapsed();
    assert!(took < Duration::from_secs(5 + 3), "{took:?} after the server was back");
    // A server that was never seen before: what is in its slow log is the baseline.
    exporter.wait_for(LIMIT, "the slow log to be read", |metrics| {
        number(metrics, "redis_script_exporter_polls_total", &[]).is_some_and(|polls| polls >= 3)
    });
    spin(&mut server.client(), "EVAL", SPIN);
    crate::common::wait_for_scripts(&exporter, 1);
}

/// Nobody listens at all, and then somebody else does: the address is what is watched.
#[test]
fn several_absent_servers_do_not_delay_each_other() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let absent: Vec<String> = (0..20).map(|_| format!("redis://127.0.0.1:{}", free_port())).collect();
        let mut args: Vec<&str> = absent.iter().flat_map(|url| ["--redis.addr", url]).collect();
        let url = server.url();
        args.extend(["--redis.addr", &url]);
        let exporter = Exporter::builder().args(&args).args(&QUICK).start();
        exporter.wait_for(LIMIT, "all of them to be tried", |metrics| {
            exporter.get("/-/ready").status == 200 && state(metrics, &target_of(&server)) == "ok"
        });
        let metrics = exporter.metrics();
        assert_eq!(whole(metrics.sum("redis_script_target_up", &[])), 1);
        assert_eq!(metrics.series("redis_script_target_up").len(), 21);
    });
}
