//! From a script to a page: the exporter, Prometheus with the shipped rules, Alertmanager with the shipped example, and
//! a receiver that takes down what would have woken somebody.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::common::{begin, target_of};
use test_support::client::{is_error, text};
use test_support::exporter::{Builder, Exporter, binary};
use test_support::monitoring::{Alertmanager, Page, Prometheus, Receiver, Status, available, shipped};
use test_support::scripts::{BUSY_FUNCTION, BUSY_LOOP, busy_fcall, evalsha, load, load_library};
use test_support::server::{Kind, Server, run_on};
use test_support::wait::{eventually, eventually_or_tell, stays_true};

/// How long a page may take here, on a machine that does other things too. What it takes is printed.
const LIMIT: Duration = Duration::from_secs(30);

/// For how long nobody must be paged, where nothing happened: several scrapes, evaluations and notifications.
const QUIET: Duration = Duration::from_secs(8);

/// How long the runaway script runs: past the time limit of 5 s, and until the other exporter's alert has fired.
const RUNAWAY: Duration = Duration::from_secs(11);

/// Windows and delays of the rules, and shorter ones that replace them: for how long an alert outlives its reason, and for
/// how long a server has to be down. No time that decides how soon an alert about a script fires is changed.
const SHORTER: [(&str, &str); 5] =
    [("[1m]", "[15s]"), ("[5m]", "[20s]"), ("< 300", "< 20"), ("< 360", "< 30"), ("for: 30s", "for: 4s")];

/// What other exporters' users have: an alert on an exporter that asks the server at each scrape.
const OTHER_RULES: &str = "\
groups:
  - name: another exporter
    rules:
      - alert: RedisDown
        expr: redis_up == 0
        for: 5s
        labels:
          severity: critical
        annotations:
          summary: Redis is down.
";

fn rules() -> String {
    SHORTER.iter().fold(shipped("alerts/redis-script.rules.yml"), |rules, (window, shorter)| {
        assert!(rules.contains(window), "the rules have no {window}");
        rules.replace(window, shorter)
    })
}

/// Another exporter: asks the server at every scrape, and takes anything but PONG within 0.7 s for a server that is down.
fn other_exporter(server: SocketAddr, target: String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    // It ends with the process; a thread that waits for a connection costs nothing.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let up = answers_pong(server).unwrap_or(false);
            let _ = stream.read(&mut [0; 4096]);
            let body = format!("redis_up{{target=\"{target}\"}} {}\n", u8::from(up));
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    addr
}

fn answers_pong(server: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_millis(700)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG")
}

/// The first page of this name and severity that says that it fires.
fn first(pages: &[Page], alertname: &str, severity: &str) -> Option<Page> {
    let wanted = |page: &&Page| {
        page.status == Status::Firing && page.alertname == alertname && page.severity == severity
    };
    pages.iter().find(wanted).cloned()
}

/// The names of all alerts that somebody was paged for.
fn names(pages: &[Page]) -> BTreeSet<&str> {
    pages.iter().map(|page| page.alertname.as_str()).collect()
}

/// The alerts whose latest page says that they fire.
fn unresolved(pages: &[Page]) -> Vec<&Page> {
    let latest: BTreeMap<_, _> = pages.iter().map(|page| (&page.labels, page)).collect();
    latest.into_values().filter(|page| page.status == Status::Firing).collect()
}

#[track_caller]
fn assert_quiet(receiver: &Receiver, what: &str) {
    let before = receiver.pages().len();
    stays_true(QUIET, what, || {
        let pages = receiver.pages();
        if pages.len() == before { Ok(()) } else { Err(format!("{:#?}", &pages[before..])) }
    });
}

/// Checks that what was told at the end of the alerts that look back is about what is over.
#[track_caller]
fn assert_past_tense(pages: &[Page]) {
    let over = |page: &&Page| {
        page.status == Status::Resolved
            && ["RedisScriptRunning", "RedisScriptBusy"].contains(&page.alertname.as_str())
    };
    let over: Vec<_> = pages.iter().filter(over).collect();
    assert!(!over.is_empty(), "{pages:#?}");
    for page in over {
        let text = &page.annotations["description"];
        assert!(text.contains(" within the last minute. Its state is now ok."), "{page:#?}");
    }
}

#[test]
fn a_runaway_script_is_a_page_within_seconds() {
    if available() {
        run_on(Kind::Redis70, pages_of_a_runaway_script);
    }
}

fn pages_of_a_runaway_script(kind: Kind) {
    let mut server = Server::start(kind);
    let target = target_of(&server);
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP);
    // From before the exporter's start: nobody is to be paged for it.
    assert_eq!(client.call(&evalsha(&script, Duration::from_millis(2200))), Value::Int(1));

    let log = server.log_path();
    let watch = || -> Builder {
        Exporter::builder().args(&["--redis.addr", &server.url(), "--redis.log-file", log.to_str().unwrap()])
    };
    let mut exporter = watch().start();
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&shipped("alerts/alertmanager.example.yml"), &receiver);
    let prometheus = Prometheus::builder()
        .scrape("redis-script-exporter", exporter.addr())
        .scrape("redis_exporter", other_exporter(server.addr(), target.clone()))
        // Both are beside the server, which has a loopback address.
        .label("pod", "redis-0")
        .rules(rules())
        .rules(OTHER_RULES)
        .alertmanager(&alertmanager)
        .start();
    prometheus.wait_ready();
    assert_quiet(&receiver, "nothing happened since the exporter's start");

    // A runaway script.
    let mut pings = server.client();
    let began = Instant::now();
    client.send(&evalsha(&script, RUNAWAY));
    thread::sleep(Duration::from_millis(50));
    pings.send(&["PING"]);
    let page = |alertname: &str, severity: &str| {
        receiver.wait_for(LIMIT, &format!("the page {alertname}, {severity}"), |pages| {
            first(pages, alertname, severity)
        })
    };
    let warning = page("RedisScriptRunning", "warning");
    let critical = page("RedisScriptRunning", "critical");
    assert!(is_error(&pings.receive(), "BUSY"), "the first answer since the script began");
    let busy_at = Instant::now();
    let busy = page("RedisScriptBusy", "critical");
    assert_eq!(busy.label("kind"), "script");
    eventually(LIMIT, "the script to be named while it runs", || {
        let alerts = prometheus.alerts();
        let named = |alert: &serde_json::Value| {
            let text = alert["annotations"]["description"].as_str().unwrap_or_default().to_owned();
            alert["labels"]["alertname"] == "RedisScriptBusy" && text.contains(&script[..12])
        };
        alerts.iter().any(named).then_some(())
    });
    eventually(LIMIT, "the other exporter's alert to be held back", || {
        alertmanager.inhibited().iter().any(|labels| labels["alertname"] == "RedisDown").then_some(())
    });
    assert_eq!(client.receive(), Value::Int(1));
    let ended = Instant::now();
    let slow = page("RedisSlowScript", "critical");
    assert_eq!(slow.label("script"), &script[..12], "{slow:#?}");
    assert!(slow.annotations["description"].contains(&script), "{slow:#?}");

    println!(
        "from the script's begin to the page RedisScriptRunning, warning: {:?}",
        warning.received_at - began
    );
    println!(
        "from the script's begin to the page RedisScriptRunning, critical: {:?}",
        critical.received_at - began
    );
    // The page may be faster than our own PING.
    let after_busy = busy.received_at.saturating_duration_since(busy_at);
    println!("from BUSY ({:?} after the begin) to the page RedisScriptBusy: {after_busy:?}", busy_at - began);
    println!("from the script's end to the page RedisSlowScript: {:?}", slow.received_at - ended);

    // Who is paged, for what and how often.
    for (page, receiver) in
        [(&warning, "tickets"), (&critical, "pager"), (&busy, "pager"), (&slow, "tickets")]
    {
        assert_eq!((page.receiver.as_str(), page.label("target")), (receiver, target.as_str()), "{page:#?}");
        assert!(page.annotations["runbook_url"].ends_with(&page.alertname.to_lowercase()), "{page:#?}");
        assert!(page.annotations["description"].contains(&target), "{page:#?}");
    }
    receiver
        .wait_for(LIMIT, "every page to be taken back", |pages| unresolved(pages).is_empty().then_some(()));
    println!("every page was taken back {:?} after the script's end", ended.elapsed());
    eventually(LIMIT, "no alert to be left", || prometheus.alerts().is_empty().then_some(()));
    let pages = receiver.pages();
    assert_past_tense(&pages);
    // RedisClientsRefusedBusy: the other exporter, and our PING.
    let may = BTreeSet::from([
        "RedisScriptRunning",
        "RedisScriptBusy",
        "RedisSlowScript",
        "RedisClientsRefusedBusy",
    ]);
    assert!(names(&pages).is_subset(&may), "nobody was told that the server is down: {pages:#?}");
    assert!(first(&pages, "RedisSlowScript", "warning").is_none(), "one page for one call: {pages:#?}");

    // A new exporter finds all of that in the slow log and in the server's counters.
    exporter.terminate();
    let exporter = begin(watch());
    prometheus.move_target("redis-script-exporter", exporter.addr());
    assert_quiet(&receiver, "the exporter was restarted");

    // What is really down is told.
    server.kill();
    page("RedisDown", "critical");
    let down = page("RedisScriptTargetDown", "critical");
    assert!(down.annotations["description"].contains("unreachable"), "{down:#?}");
}

/// The text between two headings of the README.
fn readme_section(heading: &str) -> String {
    let readme = shipped("README.md");
    let (_, rest) = readme.split_once(&format!("\n{heading}\n")).expect("the README's section");
    rest.split_once("\n##").map_or(rest, |(section, _)| section).to_owned()
}

/// The code block in this language that contains `mark`.
fn code_block<'a>(section: &'a str, language: &str, mark: &str) -> &'a str {
    let fence = format!("```{language}\n");
    let mut blocks = section.split(&fence).skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let block = blocks.find(|block| block.contains(mark));
    block.unwrap_or_else(|| panic!("no {language} block with {mark:?} in {section}"))
}

/// Text with each of these parts, which are all there, exchanged for another.
fn exchanged(text: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replace(from, to)
    })
}

/// The README's section on Prometheus, word by word but for addresses and a folder, through two incidents in a row.
#[test]
fn the_readmes_configuration_pages_what_holds_now() {
    if available() {
        run_on(Kind::Redis70, pages_of_the_readmes_configuration);
    }
}

fn pages_of_the_readmes_configuration(kind: Kind) {
    let server = Server::builder(kind).config("busy-reply-threshold 1500").start();
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP);
    load_library(&mut client);
    let log = server.log_path();
    let exporter =
        Exporter::start(&["--redis.addr", &server.url(), "--redis.log-file", log.to_str().unwrap()]);

    let section = readme_section("## Prometheus");
    let dir = TempDir::new().unwrap();
    let folder = format!("{}/", dir.path().display());
    let rules = exchanged(
        code_block(&section, "sh", "rules >"),
        &[
            ("redis-script-exporter rules", &format!("{} rules", binary().display())),
            ("/etc/prometheus/", &folder),
        ],
    );
    assert!(Command::new("sh").args(["-ec", &rules]).status().unwrap().success(), "{rules}");
    let receiver = Receiver::start();
    // The webhooks' address is exchanged there.
    let alertmanager = Alertmanager::start(code_block(&section, "yaml", "# alertmanager.yml"), &receiver);
    let config = exchanged(
        code_block(&section, "yaml", "# prometheus.yml"),
        &[
            ("127.0.0.1:10379", &exporter.addr().to_string()),
            ("127.0.0.1:9093", &alertmanager.addr().to_string()),
            ("/etc/prometheus/", &folder),
        ],
    );
    let prometheus = Prometheus::start_with(&config, dir);
    let now = eventually(LIMIT, "Prometheus to scrape, evaluate and know Alertmanager", || {
        let groups = prometheus.rule_groups();
        let now = groups.into_iter().find(|group| group["name"] == "redis-script-now")?;
        let evaluated = now["rules"].as_array()?.iter().all(|rule| rule["health"] == "ok");
        let up = prometheus.query("redis_script_target_up == 1")["result"].as_array()?.len() == 1;
        (evaluated && up && !prometheus.alertmanagers().is_empty()).then_some(now)
    });
    assert_eq!(now["interval"], 1, "pages do not wait for the global evaluation interval: {now:#}");

    let busy = |kind: &str| {
        receiver.wait_for(LIMIT, &format!("the page that the server is BUSY with a {kind}"), |pages| {
            let wanted = |page: &&Page| page.alertname == "RedisScriptBusy" && page.label("kind") == kind;
            pages.iter().find(wanted).cloned()
        })
    };
    let described = |what: &str| {
        eventually(LIMIT, &format!("an alert with the text {what:?}"), || {
            let text = |alert: &serde_json::Value| alert["annotations"]["description"].to_string();
            prometheus.alerts().iter().map(text).any(|text| text.contains(what)).then_some(())
        });
    };
    // Neither ends by itself before it has been told.
    client.send(&busy_fcall(LIMIT * 2));
    let function = busy("function");
    described(&format!("It runs the function {BUSY_FUNCTION}. Next: FUNCTION KILL."));
    assert_eq!(text(&server.call(&["FUNCTION", "KILL"])), "OK");
    client.receive();
    described("answered BUSY because of a function within the last minute. Its state is now ok.");
    client.send(&evalsha(&script, LIMIT * 2));
    let next = busy("script");
    described(&format!("It runs the script {}. Next: SCRIPT KILL.", &script[..12]));
    assert_eq!(text(&server.call(&["SCRIPT", "KILL"])), "OK");
    client.receive();
    described("answered BUSY because of a script within the last minute. Its state is now ok.");
    let slow = receiver.wait_for(LIMIT, "the page RedisSlowScript of the script", |pages| {
        pages.iter().find(|page| page.label("script") == &script[..12]).cloned()
    });
    assert_eq!(slow.receiver, "tickets", "what is over wakes nobody: {slow:#?}");

    for (page, kind, kill) in [(&function, "function", "FUNCTION KILL."), (&next, "script", "SCRIPT KILL.")] {
        let text = &page.annotations["description"];
        let others = if kind == "script" { BUSY_FUNCTION } else { &script[..12] };
        assert_eq!((page.status, page.receiver.as_str()), (Status::Firing, "pager"), "{page:#?}");
        assert!(text.contains(&format!(" answers BUSY because of a {kind}. ")), "{page:#?}");
        assert!(text.ends_with(kill) && !text.contains(others), "{page:#?}");
    }
}

/// The state of a server in [`alerts_of_one_server_inhibit_none_of_another`].
#[derive(Clone, Copy, PartialEq)]
enum State {
    Blocked,
    BlockedFor1s,
    Down,
}

/// The shipped inhibitions, on servers whose targets have the same address.
#[test]
fn alerts_of_one_server_inhibit_none_of_another() {
    if !available() {
        return;
    }
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&shipped("alerts/alertmanager.example.yml"), &receiver);
    let mut alerts = Vec::new();
    let mut expected = BTreeSet::new();
    let mut add = |inhibited: bool, alertname: &str, severity: &str, labels: &[(&str, &str)]| {
        let mut alert: BTreeMap<&str, String> =
            labels.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        alert.insert("alertname", alertname.to_owned());
        alert.insert("severity", severity.to_owned());
        let id = format!("{alertname} {severity} {labels:?}");
        alert.insert("id", id.clone());
        alerts.push(json!(alert));
        if inhibited {
            expected.insert(id);
        }
    };
    // Exporters beside their servers.
    let mut pod = |pod: &str, state: State| {
        let ours = ("job", "redis-script-exporter");
        let (place, other) = (format!("{pod}:10379"), format!("{pod}:9121"));
        let labels = [("namespace", "shop"), ("pod", pod), ("target", "127.0.0.1:6379")];
        let ours = [&labels[..], &[ours, ("instance", &place)]].concat();
        let others = [&labels[..], &[("job", "redis_exporter"), ("instance", &other)]].concat();
        match state {
            State::Blocked => {
                add(false, "RedisScriptRunning", "critical", &ours);
                add(true, "RedisScriptRunning", "warning", &ours);
            }
            State::BlockedFor1s => add(false, "RedisScriptRunning", "warning", &ours),
            State::Down => {}
        }
        add(state != State::Down, "RedisScriptTargetDown", "critical", &ours);
        add(state != State::Down, "RedisDown", "critical", &others);
    };
    pod("redis-0", State::Blocked);
    pod("redis-1", State::BlockedFor1s);
    pod("redis-2", State::Down);
    // One exporter of each kind asks all servers.
    let central =
        |target| [("job", "redis-script-exporter"), ("instance", "exporter:10379"), ("target", target)];
    add(false, "RedisScriptBusy", "critical", &central("10.0.0.1:6379"));
    add(true, "RedisScriptTargetDown", "critical", &central("10.0.0.1:6379"));
    add(false, "RedisScriptTargetDown", "critical", &central("10.0.0.2:6379"));
    add(true, "RedisDown", "critical", &[("instance", "redis://10.0.0.1:6379"), ("target", "10.0.0.1:6379")]);
    add(
        false,
        "RedisDown",
        "critical",
        &[("instance", "redis://10.0.0.2:6379"), ("target", "10.0.0.2:6379")],
    );
    // Another exporter at the same address, as seen by another Prometheus job.
    let job = [("job", "another"), ("instance", "exporter:10379"), ("target", "10.0.0.1:6379")];
    add(false, "RedisScriptTargetDown", "critical", &job);
    // Machines without pods: these addresses are another server for each exporter.
    for target in ["127.0.0.1:6379", "localhost:6379", "[::1]:6379", "/run/redis.sock", "cache"] {
        let ours = [("job", "redis-script-exporter"), ("instance", "one:10379"), ("target", target)];
        add(false, "RedisScriptRunning", "critical", &ours);
        add(true, "RedisScriptRunning", "warning", &ours);
        add(false, "RedisDown", "critical", &[("instance", "two:9121"), ("target", target)]);
    }
    alertmanager.post(&alerts);
    eventually_or_tell(LIMIT, "the alerts of the same server to be inhibited, and no others", || {
        let inhibited = alertmanager.inhibited();
        let found: BTreeSet<_> = inhibited.iter().filter_map(|labels| labels["id"].as_str()).collect();
        let expected: BTreeSet<_> = expected.iter().map(String::as_str).collect();
        let wrong: Vec<_> = found.symmetric_difference(&expected).collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("wrong: {wrong:#?}")) }
    });
}
