//! From a script to a page: the exporter, Prometheus with the shipped rules, Alertmanager with the shipped example, and
//! a receiver that records the notifications.

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

/// Time limit for a page on a busy machine. The actual time is printed.
const LIMIT: Duration = Duration::from_secs(30);

/// Time during which a quiet system must send no page: several scrapes, evaluations and notifications.
const QUIET: Duration = Duration::from_secs(8);

/// Number of incidents, of which the fastest must be as fast as promised; other work on the machine delays some.
const TRIES: usize = 3;

/// Duration of the runaway script: past the time limit of 5 s, and until the other exporter's alert has fired.
const RUNAWAY: Duration = Duration::from_secs(11);

/// Windows and delays in the rules, and their shorter replacements. They determine how long an alert outlasts its cause and
/// how long a server must be down. Times that determine how soon an alert about a script fires are not changed.
const SHORTER: [(&str, &str); 4] =
    [("[5m]", "[20s]"), ("< 60\n", "< 20\n"), ("< 360", "< 30"), ("for: 30s", "for: 4s")];

/// Alert for another exporter, which queries the server at each scrape.
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

/// Starts another exporter, which sends PING at every scrape and reports the server as down without a PONG within 0.7 s.
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

/// Returns the first firing page with this name and severity.
fn first(pages: &[Page], alertname: &str, severity: &str) -> Option<Page> {
    let wanted = |page: &&Page| {
        page.status == Status::Firing && page.alertname == alertname && page.severity == severity
    };
    pages.iter().find(wanted).cloned()
}

/// Returns the alerts of this severity that fired, without duplicates; a notification repeats alerts that are still firing.
fn incidents(pages: &[Page], severity: &str) -> BTreeSet<(BTreeMap<String, String>, String)> {
    let began = pages.iter().filter(|page| page.status == Status::Firing && page.severity == severity);
    began.map(|page| (page.labels.clone(), page.starts_at.clone())).collect()
}

/// Returns the names of all alerts with a page.
fn names(pages: &[Page]) -> BTreeSet<&str> {
    pages.iter().map(|page| page.alertname.as_str()).collect()
}

/// Returns the alerts whose latest page is firing.
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

/// Asserts that the texts of resolved `RedisScriptRunning` alerts are in the past tense.
#[track_caller]
fn assert_past_tense(pages: &[Page]) {
    let over = |page: &&Page| page.status == Status::Resolved && page.alertname == "RedisScriptRunning";
    let over: Vec<_> = pages.iter().filter(over).collect();
    assert!(!over.is_empty(), "{pages:#?}");
    for page in over {
        let text = &page.annotations["description"];
        assert!(text.contains(" was blocked for at least "), "{page:#?}");
    }
}

/// Returns `Some` if Prometheus has an alert whose text contains `what`.
fn alerts_with(prometheus: &Prometheus, what: &str) -> Option<()> {
    let text = |alert: &serde_json::Value| alert["annotations"]["description"].to_string();
    prometheus.alerts().iter().map(text).any(|text| text.contains(what)).then_some(())
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
    // A call from before the exporter's start must not cause a page.
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
        // Both exporters run next to the server, which has a loopback address.
        .label("pod", "redis-0")
        .rules(rules())
        .rules(OTHER_RULES)
        .alertmanager(&alertmanager)
        .start();
    prometheus.wait_ready();
    assert_quiet(&receiver, "nothing happened since the exporter's start");

    // A runaway script.
    let cli = format!("redis-cli -h 127.0.0.1 -p {}", server.port());
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
    eventually(LIMIT, "the script to be named while it runs", || {
        alerts_with(
            &prometheus,
            &format!("It is running the script {}. Next: `{cli} SCRIPT KILL`.", &script[..12]),
        )
    });
    eventually(LIMIT, "the other exporter's alert to be held back", || {
        alertmanager.inhibited().iter().any(|labels| labels["alertname"] == "RedisDown").then_some(())
    });
    assert_eq!(client.receive(), Value::Int(1));
    let ended = Instant::now();
    println!(
        "from the script's begin to the page RedisScriptRunning, warning: {:?}",
        warning.received_at - began
    );
    println!(
        "from the script's begin to the page RedisScriptRunning, critical: {:?}",
        critical.received_at - began
    );
    // Check the receivers, the content and the number of the pages.
    for (page, receiver) in [(&warning, "tickets"), (&critical, "pager")] {
        assert_eq!((page.receiver.as_str(), page.label("target")), (receiver, target.as_str()), "{page:#?}");
        assert!(page.annotations["runbook_url"].ends_with(&page.alertname.to_lowercase()), "{page:#?}");
        assert!(page.annotations["description"].contains(&target), "{page:#?}");
    }
    // The other exporter and our PING were rejected; the server's count of rejections is read a little later.
    page("RedisClientsRefusedBusy", "warning");
    receiver.wait_for(LIMIT * 2, "every page to be taken back", |pages| {
        unresolved(pages).is_empty().then_some(())
    });
    let resolved = receiver.pages().into_iter().find(|page| page.status == Status::Resolved).expect("a page");
    println!("from the script's end to the end of the page: {:?}", resolved.received_at - ended);
    eventually(LIMIT, "no alert to be left", || prometheus.alerts().is_empty().then_some(()));
    let pages = receiver.pages();
    assert_past_tense(&pages);
    let may = BTreeSet::from(["RedisScriptRunning", "RedisClientsRefusedBusy"]);
    assert!(names(&pages).is_subset(&may), "nobody was told twice, or that the server is down: {pages:#?}");
    assert_eq!(incidents(&pages, "critical").len(), 1, "one page for one blockage: {pages:#?}");

    // A new exporter reads all of this from the slow log and the server's counters.
    exporter.terminate();
    let exporter = begin(watch());
    prometheus.move_target("redis-script-exporter", exporter.addr());
    assert_quiet(&receiver, "the exporter was restarted");

    // A server that is really down causes a page.
    server.kill();
    page("RedisDown", "critical");
    let down = page("RedisScriptTargetDown", "critical");
    assert!(down.annotations["description"].contains(" has not been reachable "), "{down:#?}");
}

/// Returns the text of a section of the README.
fn readme_section(heading: &str) -> String {
    let readme = shipped("README.md");
    let (_, rest) = readme.split_once(&format!("\n{heading}\n")).expect("the README's section");
    rest.split_once("\n##").map_or(rest, |(section, _)| section).to_owned()
}

/// Returns the code block in this language that contains `mark`.
fn code_block<'a>(section: &'a str, language: &str, mark: &str) -> &'a str {
    let fence = format!("```{language}\n");
    let mut blocks = section.split(&fence).skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let block = blocks.find(|block| block.contains(mark));
    block.unwrap_or_else(|| panic!("no {language} block with {mark:?} in {section}"))
}

/// Replaces each of these parts, all of which must exist in the text.
fn exchanged(text: &str, parts: &[(&str, &str)]) -> String {
    parts.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in {text}");
        text.replace(from, to)
    })
}

/// Tests the configuration in the README's section on Prometheus, unchanged except for addresses and a directory, with two
/// consecutive incidents.
#[test]
fn the_readmes_configuration_pages_about_the_current_state() {
    if available() {
        run_on(Kind::Redis70, pages_of_the_readmes_configuration);
    }
}

fn pages_of_the_readmes_configuration(kind: Kind) {
    let server = Server::start(kind);
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
    // `start` replaces the address of the webhooks.
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

    // Run a script several times and kill it when the server is BUSY. Its pages arrive as soon as the README promises.
    let mut delays = Vec::new();
    for _ in 0..TRIES {
        let before = receiver.pages().len();
        let page = |severity: &str| {
            receiver.wait_for(LIMIT, &format!("the {severity} page"), |pages| {
                first(&pages[before..], "RedisScriptRunning", severity)
            })
        };
        client.send(&evalsha(&script, LIMIT * 2));
        let began = Instant::now();
        let (warning, critical) = (page("warning"), page("critical"));
        assert_eq!([&warning, &critical].map(|page| page.receiver.as_str()), ["tickets", "pager"]);
        delays.push([warning.received_at - began, critical.received_at - began]);
        assert_eq!(text(&server.call(&["SCRIPT", "KILL"])), "OK");
        client.receive();
        receiver.wait_for(LIMIT, "the page to be taken back", |pages| {
            unresolved(&pages[before..]).is_empty().then_some(())
        });
    }
    println!("from the script's begin to the pages of the README's configuration: {delays:?}");
    for (index, promised) in promised_delays(&section).into_iter().enumerate() {
        let fastest = delays.iter().map(|delays| delays[index]).min().unwrap();
        assert!(fastest <= promised, "{delays:?}");
    }

    // A function, immediately followed by a script: two pages, each with the facts at the time when it is sent.
    let cli = format!("redis-cli -h 127.0.0.1 -p {}", server.port());
    let before = receiver.pages().len();
    client.send(&busy_fcall(LIMIT * 2));
    eventually(LIMIT, "the function to be named", || {
        alerts_with(
            &prometheus,
            &format!("It is running the function {BUSY_FUNCTION}. Next: `{cli} FUNCTION KILL`."),
        )
    });
    assert_eq!(text(&server.call(&["FUNCTION", "KILL"])), "OK");
    client.receive();
    client.send(&evalsha(&script, LIMIT * 2));
    eventually(LIMIT, "the script to be named", || {
        alerts_with(
            &prometheus,
            &format!("It is running the script {}. Next: `{cli} SCRIPT KILL`.", &script[..12]),
        )
    });
    let pages = receiver.wait_for(LIMIT, "the page of the script", |pages| {
        let new = &pages[before..];
        (incidents(new, "critical").len() == 2).then(|| new.to_vec())
    });
    for page in pages.iter().filter(|page| page.status == Status::Firing) {
        let text = &page.annotations["description"];
        assert!(text.contains(" has been blocked for "), "{page:#?}");
    }
    assert_eq!(text(&server.call(&["SCRIPT", "KILL"])), "OK");
    client.receive();
    receiver
        .wait_for(LIMIT, "every page to be taken back", |pages| unresolved(pages).is_empty().then_some(()));
    let pages = receiver.pages();
    assert_eq!(incidents(&pages, "critical").len(), TRIES + 2, "one page for one blockage: {pages:#?}");
    assert_eq!(names(&pages), BTreeSet::from(["RedisScriptRunning"]), "{pages:#?}");
    let critical: Vec<_> = pages.into_iter().filter(|page| page.severity == "critical").collect();
    assert_past_tense(&critical);
}

/// Returns the times that the README promises for a warning and for a critical page.
fn promised_delays(section: &str) -> [Duration; 2] {
    ["(`warning`)", "(`critical`)"].map(|severity| {
        let (before, _) = section.split_once(severity).expect("the README's promise");
        let seconds = before.trim_end().strip_suffix(" s").and_then(|before| before.split(' ').next_back());
        Duration::from_secs_f64(seconds.unwrap().parse().unwrap())
    })
}

/// State of a server in [`alerts_of_one_server_inhibit_none_of_another`].
#[derive(Clone, Copy, PartialEq)]
enum State {
    Blocked,
    BlockedFor1s,
    Down,
}

/// Tests the shipped inhibition rules with servers whose targets have the same address.
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
    // Exporters that run next to their servers.
    let mut pod = |pod: &str, state: State| {
        let ours = ("job", "redis-script-exporter");
        let (place, other) = (format!("{pod}:10379"), format!("{pod}:9121"));
        let labels = [("namespace", "shop"), ("pod", pod), ("target", "127.0.0.1:6379")];
        let ours = [&labels[..], &[ours, ("instance", &place)]].concat();
        let others = [&labels[..], &[("job", "redis_exporter"), ("instance", &other)]].concat();
        match state {
            State::Blocked => {
                add(false, "RedisScriptRunning", "critical", &ours);
                add(false, "RedisScriptRunning", "warning", &ours);
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
    // One exporter of each kind monitors all servers.
    let central =
        |target| [("job", "redis-script-exporter"), ("instance", "exporter:10379"), ("target", target)];
    add(false, "RedisScriptRunning", "critical", &central("10.0.0.1:6379"));
    add(true, "RedisScriptTargetDown", "critical", &central("10.0.0.1:6379"));
    add(false, "RedisScriptTargetDown", "critical", &central("10.0.0.2:6379"));
    add(true, "RedisDown", "critical", &[("instance", "redis://10.0.0.1:6379"), ("target", "10.0.0.1:6379")]);
    add(
        false,
        "RedisDown",
        "critical",
        &[("instance", "redis://10.0.0.2:6379"), ("target", "10.0.0.2:6379")],
    );
    // A different exporter at the same address, scraped by another Prometheus job.
    let job = [("job", "another"), ("instance", "exporter:10379"), ("target", "10.0.0.1:6379")];
    add(false, "RedisScriptTargetDown", "critical", &job);
    // Machines without pods: each of these addresses refers to a different server for each exporter.
    for target in ["127.0.0.1:6379", "localhost:6379", "[::1]:6379", "redis:6379", "/run/redis.sock", "cache"]
    {
        let ours = [("job", "redis-script-exporter"), ("instance", "one:10379"), ("target", target)];
        add(false, "RedisScriptRunning", "critical", &ours);
        add(false, "RedisScriptRunning", "warning", &ours);
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
