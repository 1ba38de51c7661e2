//! From a script to a page: the exporter, Prometheus with the shipped rules, Alertmanager with the shipped example, and
//! a receiver that takes down what would have woken somebody.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;

use crate::common::{begin, target_of};
use crate::support::client::is_error;
use crate::support::exporter::{Builder, Exporter};
use crate::support::http;
use crate::support::monitoring::{Alertmanager, Page, Prometheus, Receiver, Status, available, shipped};
use crate::support::scripts::{BUSY_LOOP, evalsha, load};
use crate::support::server::{Kind, Server, run_on};
use crate::support::wait::eventually;

/// How long a page may take here, on a machine that does other things too. What it takes is printed.
const LIMIT: Duration = Duration::from_secs(30);

/// For how long nobody must be paged, where nothing happened: several scrapes, evaluations and notifications.
const QUIET: Duration = Duration::from_secs(8);

/// How long the runaway script runs: past the time limit of 5 s, and until the other exporter's alert has fired.
const RUNAWAY: Duration = Duration::from_secs(11);

/// The windows of the rules, and shorter ones in their place: how long an alert outlives its reason is not what takes a
/// test minutes. Nothing that decides how soon an alert fires is changed.
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
    thread::sleep(QUIET);
    let pages = receiver.pages();
    assert_eq!(pages.len(), before, "{what}: {:#?}", &pages[before..]);
}

/// Whether Alertmanager holds this alert back because of another one.
fn is_inhibited(alertmanager: &Alertmanager, alertname: &str) -> bool {
    let answer = http::get(alertmanager.addr(), "/api/v2/alerts").unwrap();
    let alerts: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    alerts.as_array().unwrap().iter().any(|alert| {
        alert["labels"]["alertname"] == alertname
            && alert["status"]["inhibitedBy"].as_array().is_some_and(|sources| !sources.is_empty())
    })
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
        is_inhibited(&alertmanager, "RedisDown").then_some(())
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
    for (page, receiver) in [(&warning, "tickets"), (&critical, "pager"), (&busy, "pager"), (&slow, "pager")]
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
