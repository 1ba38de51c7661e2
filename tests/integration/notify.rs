//! Alerts that the exporter itself sends to Alertmanager: pages before Prometheus detects the blockage, one notification
//! per change alongside Prometheus, and an Alertmanager that is down, slow or behind TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::access::pages;
use crate::common::{LIMIT, lines_with, target_of, wait_for_lines};
use test_support::client::text;
use test_support::exporter::Exporter;
use test_support::hostile::{Hostile, endless, listen_on};
use test_support::metrics::Metrics;
use test_support::monitoring::{
    Alertmanager, Page, Prometheus, Receiver, Status, available, shipped, unix_seconds,
};
use test_support::scripts::{BUSY_LOOP, evalsha, load};
use test_support::server::{Kind, Server, run_on};
use test_support::tls::Certificates;
use test_support::wait::{eventually, eventually_or_tell, stays_true};

/// Name of the alert.
const RUNNING: &str = "RedisScriptRunning";

/// Name of the alert about a kill by the guard.
const KILLED: &str = "RedisScriptKilledByGuard";

/// Names of all alerts about the guard.
const OF_GUARD: [&str; 3] = [KILLED, "RedisScriptGuardRefused", "RedisScriptGuardBudgetExhausted"];

/// Job name in the Prometheus configurations.
const JOB: &str = "redis-script-exporter";

fn example() -> String {
    shipped("alerts/alertmanager.example.yml")
}

fn url_of(alertmanager: &Alertmanager) -> String {
    format!("--alertmanager.url=http://{}", alertmanager.addr())
}

/// Returns the severities and states of the notifications about a blockage, in order.
fn changes(pages: &[Page]) -> Vec<(String, Status)> {
    let of_blockage = pages.iter().filter(|page| page.alertname == RUNNING);
    of_blockage.map(|page| (page.severity.clone(), page.status)).collect()
}

fn count(pages: &[Page], severity: &str, status: Status) -> usize {
    changes(pages).iter().filter(|change| **change == (severity.to_owned(), status)).count()
}

/// Waits until each severity has this number of resolved notifications.
#[track_caller]
fn wait_for_ends(receiver: &Receiver, number: usize) {
    receiver.wait_for(LIMIT * 2, "the end of each alert", |pages| {
        let ended = |severity| count(pages, severity, Status::Resolved) >= number;
        (ended("warning") && ended("critical")).then_some(())
    });
}

/// Replaces the duration of the blockage in a text, which must be less than a minute.
fn without_time(text: &str) -> String {
    let (before, rest) = text.split_once("blocked for ").unwrap_or_else(|| panic!("no time in {text}"));
    let (time, rest) = rest.split_once(' ').unwrap();
    let mark = time.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.' && !time.ends_with(c));
    let mark = if time.ends_with('.') { "." } else { mark };
    format!("{before}blocked for TIME{mark} {rest}")
}

/// Returns the labels and annotations of an alert from the API of Alertmanager or Prometheus.
fn labels_and_texts(alert: &Json) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let strings = |field: &str| {
        let fields = alert[field].as_object().unwrap().iter();
        fields.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
    };
    let (labels, mut texts): (_, BTreeMap<String, String>) = (strings("labels"), strings("annotations"));
    if let Some(text) = texts.get_mut("description") {
        *text = without_time(text);
    }
    (labels, texts)
}

fn alerts_of_blockage(alerts: &[Json]) -> Vec<(BTreeMap<String, String>, BTreeMap<String, String>)> {
    let of_blockage = alerts.iter().filter(|alert| alert["labels"]["alertname"] == RUNNING);
    let mut alerts: Vec<_> = of_blockage.map(labels_and_texts).collect();
    alerts.sort();
    alerts
}

/// Returns the labels and annotations of the alerts about the guard.
fn alerts_of_guard(alerts: &[Json]) -> Vec<(Json, Json)> {
    let of_guard = |alert: &&Json| OF_GUARD.iter().any(|name| alert["labels"]["alertname"] == *name);
    let of_guard = alerts.iter().filter(of_guard);
    let mut alerts: Vec<_> =
        of_guard.map(|alert| (alert["labels"].clone(), alert["annotations"].clone())).collect();
    alerts.sort_by_key(|(labels, _)| labels.to_string());
    alerts
}

/// Prometheus scrapes and evaluates every second and sends the same alerts, which overlap with those of the exporter. The
/// guard kills the script, which causes a separate alert.
#[test]
fn prometheus_alongside_causes_no_second_notification() {
    if available() {
        run_on(Kind::Redis70, beside_prometheus);
    }
}

fn beside_prometheus(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 2500").start();
    let mut client = server.client();
    let script = load(&mut client, "while true do end");
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let alertmanager = Alertmanager::start(&example(), &receiver);
    // Prometheus does not send alerts to this one.
    let alone = Alertmanager::start(&example(), &other);
    let log = server.log_path();
    let log = log.to_str().unwrap();
    let flags = [
        "--redis.addr",
        &server.url(),
        "--redis.log-file",
        log,
        &url_of(&alertmanager),
        &url_of(&alone),
        "--web.external-url=http://page/",
        "--guard.kill-after=8s",
        "--guard.mode=kill",
    ];
    let exporter = Exporter::start(&flags);
    let prometheus = Prometheus::builder()
        .scrape(JOB, exporter.addr())
        .rules(shipped("alerts/redis-script.rules.yml"))
        .alertmanager(&alertmanager)
        .start();
    prometheus.wait_ready();
    wait_until_watched(&exporter);

    client.send(&["EVALSHA", &script, "0"]);
    // Both send the same texts with the same labels.
    let named = format!("the script {}", &script[..12]);
    eventually_or_tell(LIMIT, "the exporter's alerts to equal those of Prometheus", || {
        let (ours, theirs) = (alerts_of_blockage(&alone.alerts()), alerts_of_blockage(&prometheus.alerts()));
        let is_named = format!("{theirs:?}").contains(&named);
        if ours.len() == 2 && ours == theirs && is_named {
            Ok(())
        } else {
            Err(format!("{ours:#?}\n{theirs:#?}"))
        }
    });
    assert_eq!(
        alerts_of_blockage(&alertmanager.alerts()).len(),
        2,
        "both senders have one alert per severity"
    );
    let reply = client.receive();
    assert!(text(&reply).contains("killed by user"), "{reply:?}");
    wait_for_ends(&receiver, 1);
    for page in receiver.pages().iter().filter(|page| page.status == Status::Resolved) {
        let words =
            "The blockage is over; the state is now ok. The exporter's guard killed the running script.";
        assert!(page.annotations["description"].contains(words), "{page:#?}");
    }
    eventually_or_tell(LIMIT, "the alert about the kill to equal that of Prometheus", || {
        let (ours, theirs) = (alerts_of_guard(&alone.alerts()), alerts_of_guard(&prometheus.alerts()));
        if ours.len() == 1 && ours == theirs { Ok(()) } else { Err(format!("{ours:#?}\n{theirs:#?}")) }
    });
    stays_true(Duration::from_secs(3), "each change is notified once", || {
        let pages = receiver.pages();
        let counts = ["warning", "critical"]
            .map(|severity| [Status::Firing, Status::Resolved].map(|status| count(&pages, severity, status)));
        let kills: Vec<Status> =
            pages.iter().filter(|page| page.alertname == KILLED).map(|page| page.status).collect();
        let is_once = counts == [[1, 1], [1, 1]] && kills == [Status::Firing];
        if is_once { Ok(()) } else { Err(format!("{pages:#?}")) }
    });
}

/// The server refuses the guard's first kill, the second one uses up the budget, and the third one is not sent. Each of these
/// is counted, logged, shown with the script and its caller, and sent as an alert of the rules.
#[test]
fn each_kill_and_refusal_is_reported_everywhere_and_notified_once() {
    if available() {
        run_on(Kind::Redis70, refused_killed_and_exhausted);
    }
}

fn refused_killed_and_exhausted(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 1000").start();
    let mut client = server.client();
    client.call(&["CLIENT", "SETNAME", "worker"]);
    let written = load(&mut client, &format!("redis.call('SET', 'written', 1)\n{BUSY_LOOP}"));
    let endless = load(&mut client, "while true do end");
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let alertmanager = Alertmanager::start(&example(), &receiver);
    // Prometheus does not send alerts to this one.
    let alone = Alertmanager::start(&example(), &other);
    let log = server.log_path();
    let exporter = Exporter::start(&[
        "--redis.addr",
        &server.url(),
        "--redis.log-file",
        log.to_str().unwrap(),
        &url_of(&alertmanager),
        &url_of(&alone),
        "--guard.kill-after=1s",
        "--guard.mode=kill",
        "--guard.max-kills=1",
    ]);
    let prometheus = Prometheus::builder()
        .scrape(JOB, exporter.addr())
        .rules(shipped("alerts/redis-script.rules.yml"))
        .alertmanager(&alertmanager)
        .start();
    prometheus.wait_ready();
    wait_until_watched(&exporter);
    let wait_for_outcomes = |outcomes: &[&str]| {
        exporter.wait_for(LIMIT, &format!("{outcomes:?}"), |metrics| {
            let count =
                |outcome: &&str| metrics.sum("redis_script_guard_actions_total", &[("outcome", outcome)]);
            outcomes.iter().map(count).sum::<f64>() > 0.0
        });
    };
    // Without a pause, replies do not show where one script ends and the next one begins.
    let wait_for_end = |blockages: f64| {
        exporter.wait_for(LIMIT, "the end", |metrics| {
            metrics.sum("redis_script_blockages_total", &[]) >= blockages
                && metrics.sum("redis_script_target_state", &[("state", "ok")]) > 0.0
        });
    };
    assert_eq!(client.call(&evalsha(&written, Duration::from_secs(2))), Value::Int(1));
    wait_for_outcomes(&["unkillable"]);
    wait_for_end(1.0);
    let reply = client.call(&["EVALSHA", &endless, "0"]);
    assert!(text(&reply).contains("killed by user"), "{reply:?}");
    // If the reply to the kill was late, as on a busy machine, it is not certain which script was killed.
    wait_for_outcomes(&["killed", "killed_next"]);
    wait_for_end(2.0);
    client.send(&["EVALSHA", &endless, "0"]);
    wait_for_outcomes(&["budget"]);
    assert_eq!(server.call(&["SCRIPT", "KILL"]), Value::Okay);
    client.receive();

    let scripts = [("unkillable", &written[..12]), ("killed", &endless[..12]), ("budget", &endless[..12])];
    eventually_or_tell(LIMIT, "the alerts to equal those of Prometheus", || {
        let (ours, theirs) = (alerts_of_guard(&alone.alerts()), alerts_of_guard(&prometheus.alerts()));
        let is_named = scripts.iter().all(|(outcome, script)| {
            let is_about = |(labels, texts): &(Json, Json)| {
                let is_outcome = labels["outcome"].as_str().is_some_and(|label| label.starts_with(outcome));
                is_outcome && texts["description"].as_str().is_some_and(|text| text.contains(script))
            };
            ours.iter().any(is_about)
        });
        let is_same = ours.len() == OF_GUARD.len() && ours == theirs && is_named;
        if is_same { Ok(()) } else { Err(format!("{ours:#?}\n{theirs:#?}\n{}", exporter.logs())) }
    });
    eventually_or_tell(LIMIT, "the page to show each with its script and its caller", || {
        let body = exporter.get("/api/v1/targets").body;
        let targets: Json = serde_json::from_str(&body).unwrap();
        let actions = targets["targets"][0]["guard"]["actions"].as_array().unwrap();
        let is_shown = scripts.iter().all(|(outcome, script)| {
            actions.iter().any(|action| {
                action["outcome"].as_str().is_some_and(|shown| shown.starts_with(outcome))
                    && action["script"] == *script
                    && action["client_name"] == "worker"
            })
        });
        if is_shown { Ok(()) } else { Err(body) }
    });
    let logs = exporter.logs();
    for (outcome, script) in scripts {
        let words = [&format!("outcome={outcome}"), "the guard"];
        assert!(!lines_with(&logs, &words).is_empty(), "{outcome}: {logs}");
        // The caller is known when the script has ended.
        let words = ["blockage ended", &format!("script={script}"), "client_name=worker"];
        assert!(!lines_with(&logs, &words).is_empty(), "the caller of {script}: {logs}");
    }
    stays_true(Duration::from_secs(3), "each alert is notified once", || {
        let pages = receiver.pages();
        let statuses = OF_GUARD.map(|name| {
            let pages = pages.iter().filter(|page| page.alertname == name);
            pages.map(|page| page.status).collect::<Vec<_>>()
        });
        let is_once = statuses.iter().all(|statuses| statuses[..] == [Status::Firing]);
        if is_once { Ok(()) } else { Err(format!("{pages:#?}")) }
    });
}

/// A blockage ends right after a scrape. Prometheus evaluates the scrape later, and fires the alert when the blockage is
/// over.
#[test]
fn a_blockage_that_ends_before_prometheus_evaluates_it_is_not_a_second_page() {
    if available() {
        run_on(Kind::Redis70, ends_before_evaluation);
    }
}

fn ends_before_evaluation(kind: Kind) {
    let mut server = Server::start(kind);
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&example(), &receiver);
    // Avoid a critical alert, because its time would be unpredictable.
    let flags = ["--slow.critical=1m", "--redis.addr", &server.url(), &url_of(&alertmanager)];
    let exporter = Exporter::start(&flags);
    let prometheus = Prometheus::builder()
        .scrape_every(JOB, exporter.addr(), Duration::from_secs(3))
        .rules(shipped("alerts/redis-script.rules.yml"))
        .alertmanager(&alertmanager)
        .start();
    prometheus.wait_ready();
    wait_until_watched(&exporter);
    server.pause();
    receiver
        .wait_for(LIMIT, "the page", |pages| (count(pages, "warning", Status::Firing) == 1).then_some(()));
    eventually(LIMIT, "a scrape of the blockage", || {
        let seen = prometheus.query("redis_script_blocked_seconds >= 1");
        seen["result"].as_array().is_some_and(|series| !series.is_empty()).then_some(())
    });
    server.resume();
    receiver
        .wait_for(LIMIT, "the end", |pages| (count(pages, "warning", Status::Resolved) == 1).then_some(()));
    stays_true(Duration::from_secs(4), "the blockage was one page and one end", || {
        let pages = receiver.pages();
        let counts = [Status::Firing, Status::Resolved].map(|status| count(&pages, "warning", status));
        if counts == [1, 1] { Ok(()) } else { Err(format!("{pages:#?}")) }
    });
}

/// The page is sent although nothing scrapes the exporter, and is resolved automatically when the exporter dies.
#[test]
fn the_page_needs_no_scrape_and_ends_by_itself_if_the_exporter_dies() {
    if available() {
        run_on(Kind::Redis70, dies);
    }
}

fn dies(kind: Kind) {
    let server = Server::start(kind);
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP);
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&example(), &receiver);
    let url = url_of(&alertmanager);
    let flags = [
        "--redis.addr",
        &server.url(),
        &url,
        "--alertmanager.resend-delay=1s",
        "--alertmanager.label=instance=i:1",
        "--alertmanager.label=cluster=eu",
    ];
    let mut exporter = Exporter::start(&flags);
    wait_until_watched(&exporter);
    client.send(&evalsha(&script, Duration::from_secs(60)));
    let page = receiver.wait_for(LIMIT, "the critical page", |pages| {
        pages.iter().find(|page| page.severity == "critical").cloned()
    });
    let target = target_of(&server);
    let expected = [
        ("alertname", RUNNING),
        ("cluster", "eu"),
        ("instance", "i:1"),
        ("job", JOB),
        ("severity", "critical"),
        ("target", &target),
    ];
    let expected: BTreeMap<String, String> =
        expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!((page.labels, page.receiver.as_str(), page.status), (expected, "pager", Status::Firing));
    // The alert is renewed, so it lasts longer than its expiry time.
    stays_true(Duration::from_secs(6), "the alert lasts as long as the blockage", || {
        let pages = receiver.pages();
        let logs = exporter.logs();
        if count(&pages, "critical", Status::Resolved) == 0 {
            Ok(())
        } else {
            Err(format!("{logs}\n{pages:#?}"))
        }
    });
    exporter.kill();
    wait_for_ends(&receiver, 1);
    assert_eq!(count(&receiver.pages(), "critical", Status::Firing), 1);
}

/// Waits until everything has been read once. A script that begins together with one of the first commands delays the
/// reply, which would look like the end of a blockage.
#[track_caller]
fn wait_until_watched(exporter: &Exporter) {
    exporter.wait_for(LIMIT, "everything to be read once", |metrics| {
        let polls = metrics.series("redis_script_exporter_polls_total");
        !polls.is_empty() && polls.iter().all(|polls| polls.value >= 3.0)
    });
}

/// Starts to respond to each request with 200, and returns the alerts received.
fn serve_ok(listener: TcpListener) -> Arc<Mutex<Vec<Json>>> {
    let alerts: Arc<Mutex<Vec<Json>>> = Arc::default();
    let received = Arc::clone(&alerts);
    // The thread ends with the process; waiting for a connection costs nothing.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let received = Arc::clone(&received);
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                loop {
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        let line = line.trim_end().to_ascii_lowercase();
                        if line.is_empty() {
                            break;
                        }
                        if let Some(value) = line.strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                    }
                    let mut body = vec![0; length];
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    // Before the response, after which the exporter counts the alerts as sent.
                    received.lock().unwrap().extend(serde_json::from_slice::<Vec<Json>>(&body).unwrap());
                    if (&stream).write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    alerts
}

/// Two Alertmanagers accept connections and never respond, one with a long and one with a short time limit, the third does not
/// listen, and the last one works.
#[test]
fn a_dead_or_slow_alertmanager_delays_nothing_and_is_reported() {
    run_on(Kind::Redis70, dead_alertmanagers);
}

fn dead_alertmanagers(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 500").start();
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP);
    let [hanging, black_hole, good] = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let [hangs, slow, works] = [&hanging, &black_hole, &good].map(|one| one.local_addr().unwrap());
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, test_support::server::free_port()));
    let delivered = serve_ok(good);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("alertmanagers.yml");
    // The first request to the one that hangs takes longer than the test.
    let config = format!(
        "alertmanagers:\n- {{ timeout: 1m, static_configs: [{{ targets: ['{hangs}'] }}] }}\n\
         - {{ timeout: 300ms, static_configs: [{{ targets: ['{slow}', '{dead}'] }}] }}\n\
         - {{ static_configs: [{{ targets: ['{works}'] }}] }}\n"
    );
    fs::write(&file, config).unwrap();
    let exporter = Exporter::start(&[
        "--redis.addr",
        &server.url(),
        "--alertmanager.config.file",
        file.to_str().unwrap(),
        "--alertmanager.resend-delay=1s",
    ]);
    let [slow_url, dead_url] = [slow, dead].map(|addr| format!("http://{addr}"));
    let waiting = |metrics: &test_support::metrics::Metrics| {
        let values = metrics.series("redis_script_exporter_notifications_waiting");
        values.into_iter().map(|series| series.value).fold(0.0, f64::max)
    };
    exporter.wait_for(LIMIT, "both to be found down before they are needed", |metrics| {
        let up = |url: &str| metrics.value("redis_script_exporter_alertmanager_up", &[("alertmanager", url)]);
        up(&slow_url) == Some(0.0) && up(&dead_url) == Some(0.0)
    });
    wait_until_watched(&exporter);
    client.send(&evalsha(&script, LIMIT * 4));
    let wait_until_delivered = |words: &str| {
        eventually_or_tell(LIMIT, &format!("the working one to get {words:?}"), || {
            let alerts = delivered.lock().unwrap();
            let is_wanted = |alert: &Json| {
                alert["labels"]["severity"] == "warning"
                    && alert["annotations"]["description"].as_str().is_some_and(|text| text.contains(words))
            };
            if alerts.iter().any(is_wanted) { Ok(()) } else { Err(format!("{alerts:#?}")) }
        });
    };
    wait_until_delivered(" has been blocked for ");
    let count = |metrics: &test_support::metrics::Metrics, url: &str, outcome: &str| {
        let labels = [("alertmanager", url), ("outcome", outcome)];
        metrics.value("redis_script_exporter_notifications_total", &labels).unwrap_or_default()
    };
    let metrics = exporter.wait_for(LIMIT, "attempts to be counted", |metrics| {
        count(metrics, &slow_url, "timeout") > 1.0 && count(metrics, &dead_url, "unreachable") > 1.0
    });
    assert!(waiting(&metrics) <= 2.0, "only the newest state of each alert waits: {}", metrics.text);
    // The problem is logged once, and shown on the page.
    wait_for_lines(&exporter, &["cannot send alerts", &slow_url], 1);
    wait_for_lines(&exporter, &["cannot send alerts", &dead_url], 1);
    let rows: Json = serde_json::from_str(&exporter.get("/api/v1/targets").body).unwrap();
    let rows = rows["alertmanagers"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for (row, url) in rows[1..].iter().zip([&slow_url, &dead_url]) {
        assert_eq!((row["url"].as_str(), row["up"].as_bool()), (Some(url.as_str()), Some(false)));
        assert!(row["problem"].as_str().is_some_and(|problem| !problem.is_empty()), "{row}");
    }
    let problems: Json = serde_json::from_str(&exporter.get("/api/v1/targets").body).unwrap();
    assert_eq!(problems["summary"]["exporter_problems"].as_array().map(Vec::len), Some(2), "{problems}");
    // The exporter recovers without intervention. An Alertmanager that returns during a blockage gets its alert.
    let received = serve_ok(black_hole);
    exporter.wait_for(LIMIT, "the alert to be sent", |metrics| {
        metrics.value("redis_script_exporter_alertmanager_up", &[("alertmanager", &slow_url)]) == Some(1.0)
            && count(metrics, &slow_url, "sent") > 0.0
    });
    assert!(received.lock().unwrap().iter().any(|alert| alert["labels"]["alertname"] == RUNNING));
    wait_for_lines(&exporter, &["accepts alerts again", &slow_url], 1);
    assert_eq!(server.call(&["SCRIPT", "KILL"]), Value::Okay);
    wait_until_delivered(" was blocked for ");
    // Heartbeats continue, and the blockage is measured as it would be without Alertmanager.
    let metrics = exporter.wait_for(LIMIT, "the blockage to be counted", |metrics| {
        metrics.sum("redis_script_blockages_total", &[]) >= 1.0
    });
    let beats = metrics.sum("redis_script_heartbeat_duration_seconds_count", &[]);
    exporter.wait_for(LIMIT, "heartbeats to go on", |metrics| {
        metrics.sum("redis_script_heartbeat_duration_seconds_count", &[]) > beats + 3.0
    });
}

/// An endless response, one that stops in the middle, and an error with a long text full of control characters.
#[test]
fn responses_of_alertmanagers_are_limited_and_cleaned() {
    let hostile = [
        Hostile::start(endless(b"HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 1 << 16])),
        Hostile::start(|mut stream| {
            let _ = stream.read(&mut [0; 16_384]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{");
            listen_on(stream);
        }),
        Hostile::start(|mut stream| {
            let body = "\u{1b}[31mlevel=error\u{202e}\r\n".repeat(10_000);
            let head = "HTTP/1.1 500 Internal Server Error\r\nConnection: close";
            let _ = stream.read(&mut [0; 16_384]);
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            listen_on(stream);
        }),
    ];
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("alertmanagers.yml");
    let [huge, stalled, noisy] = hostile.each_ref().map(Hostile::target);
    let config = format!(
        "alertmanagers:\n- {{ timeout: 1m, static_configs: [{{ targets: ['{huge}', '{noisy}'] }}] }}\n\
         - {{ timeout: 300ms, static_configs: [{{ targets: ['{stalled}'] }}] }}\n"
    );
    fs::write(&file, config).unwrap();
    let flags = ["--redis.addr=127.0.0.1:1", "--alertmanager.config.file", file.to_str().unwrap()];
    let exporter = Exporter::start(&flags);
    for (target, words) in [
        (&huge, "cannot read the response: length limit exceeded"),
        (&stalled, "no response within 300ms"),
        (&noisy, "status 500 Internal Server Error: "),
    ] {
        wait_for_lines(&exporter, &["cannot send alerts", &format!("http://{target}"), words], 1);
    }
    eventually(LIMIT, "several attempts", || hostile.iter().all(|one| one.connections() >= 3).then_some(()));
    let is_hidden = |c: char| c.is_control() || c == '\u{202e}';
    let logs = exporter.logs();
    let lines = lines_with(&logs, &["cannot send alerts"]);
    assert_eq!(lines.len(), hostile.len(), "each is logged once: {logs}");
    assert!(lines.iter().all(|line| line.len() < 600 && !line.contains(is_hidden)), "{lines:?}");
    let page: Json = serde_json::from_str(&exporter.get("/api/v1/targets").body).unwrap();
    for row in page["alertmanagers"].as_array().unwrap() {
        let problem = row["problem"].as_str().unwrap();
        assert!(problem.len() < 300 && !problem.contains(is_hidden), "{problem:?}");
    }
    let memory = exporter.peak_memory();
    assert!(memory < 60 << 20, "{} KiB", memory >> 10);
}

/// Alertmanager with TLS and basic auth, configured by a file with Prometheus' field names.
#[test]
fn tls_and_basic_auth_are_those_of_prometheus() {
    if available() {
        run_on(Kind::Redis70, secured);
    }
}

fn secured(kind: Kind) {
    let server = Server::start(kind);
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP);
    let certificates = Certificates::new();
    // The bcrypt hash of "correct horse", with the lowest cost.
    let hash = bcrypt::hash("correct horse", 4).unwrap();
    let web = format!(
        "tls_server_config: {{ cert_file: '{}', key_file: '{}' }}\nbasic_auth_users: {{ alerts: '{hash}' }}\n",
        certificates.server_cert().display(),
        certificates.server_key().display(),
    );
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start_with_tls(&example(), &receiver, &web);
    let folder = TempDir::new().unwrap();
    let (file, password) = (folder.path().join("am.yml"), folder.path().join("password"));
    fs::write(&password, "wrong\n").unwrap();
    let port = alertmanager.addr().port();
    let config = format!(
        "alertmanagers:\n- scheme: https\n  basic_auth: {{ username: alerts, password_file: password }}\n  \
         tls_config: {{ ca_file: '{}' }}\n  static_configs: [{{ targets: ['localhost:{port}'] }}]\n",
        certificates.ca().display(),
    );
    fs::write(&file, config).unwrap();
    let flags = ["--redis.addr", &server.url(), "--alertmanager.config.file", file.to_str().unwrap()];
    let exporter = Exporter::start(&flags);
    wait_for_lines(&exporter, &["cannot send alerts", "401"], 1);
    let shows_none = |secrets: &[&str]| {
        let pages = ["/", "/metrics", "/api/v1/targets"].map(|path| exporter.get(path).body);
        let shown = pages.concat() + &exporter.logs();
        assert!(!secrets.iter().any(|secret| shown.contains(secret)), "{shown}");
    };
    shows_none(&["wrong"]);
    // The file is read for every request.
    fs::write(&password, "correct horse\n").unwrap();
    wait_for_lines(&exporter, &["accepts alerts again"], 1);
    wait_until_watched(&exporter);
    client.send(&evalsha(&script, Duration::from_secs(3)));
    receiver
        .wait_for(LIMIT, "the page", |pages| (count(pages, "warning", Status::Firing) == 1).then_some(()));
    assert_eq!(client.receive(), Value::Int(1));
    wait_for_ends(&receiver, 1);
    shows_none(&["wrong\n", "correct horse"]);
}

/// Returns a configuration with many targets of one server, each with a different name.
fn many_targets(folder: &TempDir, server: &Server, number: usize) -> String {
    let targets = (0..number).fold("targets:\n".to_owned(), |text, index| {
        text + &format!("- {{ name: 't{index}', addr: '{}' }}\n", server.url())
    });
    let file = folder.path().join("targets.yml");
    fs::write(&file, targets).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn two_hundred_targets_blocked_at_once_are_two_hundred_pages() {
    if available() {
        run_on(Kind::Redis70, |kind| {
            many_at_once(kind, 200);
        });
    }
}

/// Blocks all targets at the same time; returns the time from then to the last warning.
fn many_at_once(kind: Kind, number: usize) -> Duration {
    let server = Server::start(kind);
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP);
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&example(), &receiver);
    let folder = TempDir::new().unwrap();
    let targets = many_targets(&folder, &server, number);
    let exporter = Exporter::start(&["--config.file", &targets, &url_of(&alertmanager)]);
    wait_until_watched(&exporter);
    let began = Instant::now();
    client.send(&evalsha(&script, Duration::from_secs(4)));
    let warnings = |pages: &[Page]| -> BTreeMap<String, Instant> {
        let fires = |page: &&Page| page.severity == "warning" && page.status == Status::Firing;
        pages.iter().filter(fires).map(|page| (page.label("target").to_owned(), page.received_at)).collect()
    };
    let last = receiver.wait_for(LIMIT * 2, "a page about each target", |pages| {
        let warnings = warnings(pages);
        (warnings.len() == number).then(|| warnings.into_values().max()).flatten()
    });
    assert_eq!(client.receive(), Value::Int(1));
    receiver.wait_for(LIMIT * 2, "the end of each", |pages| {
        let over = pages.iter().filter(|page| page.status == Status::Resolved && page.severity == "warning");
        let over: BTreeSet<&str> = over.map(|page| page.label("target")).collect();
        (over.len() == number).then_some(())
    });
    exporter.wait_for(LIMIT, "nothing to wait", |metrics| {
        metrics.sum("redis_script_exporter_notifications_waiting", &[]) == 0.0
    });
    let dropped =
        exporter.metrics().value("redis_script_exporter_notifications_total", &[("outcome", "dropped")]);
    assert_eq!(dropped, Some(0.0));
    last.saturating_duration_since(began)
}

#[test]
fn check_sends_a_test_alert_and_says_what_became_of_it() {
    if available() {
        run_on(Kind::Redis70, check_with_alertmanager);
    }
}

/// Starts a server that responds to every request with `answer`, which receives the beginning of the request. Returns its
/// address and the requests.
fn recording(answer: impl Fn(&str) -> String + Send + 'static) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let received = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = vec![0; 16_384];
            let length = stream.read(&mut bytes).unwrap_or(0);
            let request = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let response = answer(&request);
            received.lock().unwrap().push(request);
            let _ = stream.write_all(response.as_bytes());
        }
    });
    (addr, requests)
}

/// Returns a response that closes the connection.
fn response(status: &str, header: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{header}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// An Alertmanager that redirects to another server, which is also the proxy configured in the environment.
#[test]
fn redirects_are_not_followed_and_proxies_are_not_used() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}", other.local_addr().unwrap());
    let location = format!("Location: {elsewhere}/api/v2/alerts\r\n");
    let (redirecting, _) = recording(move |_| response("307 Temporary Redirect", &location, ""));
    let urls = ["http", "https"].map(|scheme| format!("--alertmanager.url={scheme}://{redirecting}"));
    let with_proxy = |args: &[&str]| {
        let variables = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
        let builder = Exporter::builder().args(args).args(&["--redis.addr=127.0.0.1:1"]).args(&urls);
        let builder = builder.env("NO_PROXY", "").env("no_proxy", "");
        variables.iter().fold(builder, |builder, name| builder.env(name, &elsewhere))
    };
    let checked = with_proxy(&["check", "--alertmanager"]).run();
    assert!(checked.stdout.contains("redirects are not followed"), "{checked:?}");
    let exporter = with_proxy(&[]).start();
    wait_for_lines(&exporter, &["cannot send alerts", "redirects are not followed"], 1);
    wait_for_lines(&exporter, &["cannot send alerts", &format!("https://{redirecting}")], 1);
    let accepted = other.accept();
    assert!(matches!(&accepted, Err(error) if error.kind() == ErrorKind::WouldBlock), "{accepted:?}");
}

/// Two entries with credentials and one without.
#[test]
fn credentials_are_sent_only_to_the_addresses_of_their_entry() {
    let folder = TempDir::new().unwrap();
    let receivers = [(); 3].map(|()| recording(|_| response("200 OK", "", "")));
    let [first, second, open] = receivers.each_ref().map(|(addr, _)| addr);
    let entries = format!(
        "alertmanagers:\n\
         - {{authorization: {{credentials: token-of-the-first}}, static_configs: [{{targets: ['{first}']}}]}}\n\
         - {{basic_auth: {{username: second, password: secret}}, \
           http_headers: {{X-Key: {{secrets: [key-of-the-second]}}}}, static_configs: [{{targets: ['{second}']}}]}}\n\
         - {{static_configs: [{{targets: ['{open}']}}]}}\n"
    );
    let path = folder.path().join("alertmanager.yml");
    fs::write(&path, entries).unwrap();
    let flags = ["--redis.addr=127.0.0.1:1", "--alertmanager.config.file", path.to_str().unwrap()];
    let sent = || -> [BTreeSet<(Option<String>, Option<String>)>; 3] {
        receivers.each_ref().map(|(_, requests)| {
            let credentials = |request: String| {
                let header = |name: &str| {
                    let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
                    line.map(|line| line.split_once(": ").unwrap().1.to_owned())
                };
                (header("authorization:"), header("x-key:"))
            };
            std::mem::take(&mut *requests.lock().unwrap()).into_iter().map(credentials).collect()
        })
    };
    let expected = [
        (Some("Bearer token-of-the-first"), None),
        (Some("Basic c2Vjb25kOnNlY3JldA=="), Some("key-of-the-second")),
        (None, None),
    ]
    .map(|(authorization, key)| BTreeSet::from([(authorization.map(str::to_owned), key.map(str::to_owned))]));
    let checked = Exporter::builder().args(&["check", "--alertmanager"]).args(&flags).run();
    assert_eq!(sent(), expected, "{checked:?}");
    let shown = [checked.stdout, checked.stderr].concat();
    assert!(
        !["token-of-the-first", "secret", "c2Vjb25k", "key-of-the-second"]
            .iter()
            .any(|one| shown.contains(one)),
        "{shown}"
    );
    let exporter = Exporter::start(&flags);
    exporter.wait_for(LIMIT, "a request to each", |metrics| {
        metrics.sum("redis_script_exporter_alertmanager_up", &[]) >= 3.0
    });
    assert_eq!(sent(), expected);
}

/// Each secret is sent, and each response repeats it.
#[test]
fn secrets_for_alertmanagers_are_seen_nowhere() {
    // Only the beginning of a response is shown, so it repeats the headers from the first one that may be secret.
    let (addr, requests) = recording(|request| {
        let decoded = if request.contains("Basic ") { "wrong password sesame-2" } else { "" };
        let headers = request.split_once("application/json").map_or(request, |(_, headers)| headers);
        response("500 Internal Server Error", "", &format!("{decoded} {headers}"))
    });
    let folder = TempDir::new().unwrap();
    for (file, secret) in [("token", "sesame-3\n"), ("password", "sesame-2\n"), ("header", "sesame-6\n")] {
        fs::write(folder.path().join(file), secret).unwrap();
    }
    let settings = [
        "authorization: {credentials: sesame-1}",
        "authorization: {credentials_file: token}",
        "basic_auth: {username: alerts, password: sesame-2}",
        "basic_auth: {username: alerts, password_file: password}",
        "http_headers: {X-Key: {values: [sesame-4]}, X-Other: {secrets: [sesame-5]}, X-File: {files: [header]}}",
    ];
    let entry = |(index, settings): (usize, &&str)| {
        format!("- {{{settings}, path_prefix: a{index}, static_configs: [{{targets: ['{addr}']}}]}}\n")
    };
    let entries = settings.iter().enumerate().map(entry).collect::<String>();
    let path = folder.path().join("alertmanager.yml");
    fs::write(&path, format!("alertmanagers:\n{entries}")).unwrap();
    let state = folder.path().join("state");
    let flags = ["--redis.addr=127.0.0.1:1", "--alertmanager.config.file", path.to_str().unwrap()];
    let basic = "YWxlcnRzOnNlc2FtZS0y";
    for format in ["logfmt", "json"] {
        let mut exporter = Exporter::builder()
            .args(&flags)
            .args(&["--log.level=trace", "--log.format", format, "--state.file", state.to_str().unwrap()])
            .start();
        wait_for_lines(&exporter, &["cannot send alerts", "status 500", "***"], settings.len());
        let mut seen = pages(&exporter, "127.0.0.1:1");
        exporter.terminate();
        seen += &exporter.logs();
        seen += &fs::read_to_string(&state).unwrap();
        let format = if format == "json" { "json" } else { "text" };
        let check = ["check", "--alertmanager", "--format", format];
        let checked = Exporter::builder().args(&check).args(&flags).run();
        assert!(checked.stdout.contains("status 500"), "{checked:?}");
        seen += &checked.stdout;
        seen += &checked.stderr;
        assert!(!seen.contains("sesame") && !seen.contains(basic), "{seen}");
    }
    let sent = requests.lock().unwrap().concat();
    for secret in ["Bearer sesame-1", basic, "Bearer sesame-3", "sesame-4", "sesame-5", "sesame-6"] {
        assert!(sent.contains(secret), "{secret} was not sent: {sent}");
    }
}

/// Requests `/metrics` as Prometheus does, with this name of the exporter and this `Authorization` header. Returns the
/// status and the body.
fn scrape(exporter: &Exporter, host: &str, authorization: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(exporter.addr()).unwrap();
    let head =
        format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n");
    write!(stream, "{head}{authorization}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// With passwords, only clients that have one can name the exporter and delay the end of an alert.
#[test]
fn a_scrape_without_the_password_has_no_effect_on_alerts() {
    run_on(Kind::Redis70, |kind| {
        let mut server = Server::start(kind);
        let folder = TempDir::new().unwrap();
        let web = folder.path().join("web.yml");
        let hash = bcrypt::hash("open sesame", 4).unwrap();
        fs::write(&web, format!("basic_auth_users: {{prometheus: '{hash}'}}")).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("--alertmanager.url=http://{}", listener.local_addr().unwrap());
        let delivered = serve_ok(listener);
        let (redis, web) = (server.url(), web.to_str().unwrap());
        let exporter = Exporter::start(&[
            "--redis.addr",
            &redis,
            &url,
            "--slow.critical=1m",
            "--web.config.file",
            web,
            "--log.level=trace",
        ]);
        let right = "cHJvbWV0aGV1czpvcGVuIHNlc2FtZQ==";
        let login = format!("Authorization: Basic {right}\r\n");
        let mut seen = String::new();
        eventually(LIMIT, "everything to be read once", || {
            let (status, body) = scrape(&exporter, "known:1", &login);
            assert_eq!(status, 200, "{body}");
            seen.clone_from(&body);
            let polls = Metrics::parse(&body).sum("redis_script_exporter_polls_total", &[]);
            (polls >= 3.0).then_some(())
        });
        let wrong = "cHJvbWV0aGV1czpzaHV0LXNlc2FtZS03ZjM=";
        let wrong_login = format!("Authorization: Basic {wrong}\r\n");
        let intrude = || {
            for login in ["", &wrong_login] {
                let (status, body) = scrape(&exporter, "intruder:1", login);
                assert_eq!(status, 401);
                assert!(!body.contains(wrong) && !body.contains("shut-sesame-7f3"), "{body}");
            }
        };
        intrude();
        server.pause();
        let wait_for = |words: &str| {
            eventually_or_tell(LIMIT, words, || {
                let alerts = delivered.lock().unwrap();
                let found = alerts.iter().find(|alert| {
                    alert["annotations"]["description"].as_str().is_some_and(|text| text.contains(words))
                });
                found.cloned().ok_or_else(|| format!("{alerts:#?}"))
            })
        };
        let fired = wait_for(" has been blocked for ");
        assert_eq!(fired["labels"]["instance"], "known:1", "{fired}");
        intrude();
        server.resume();
        // A client that scraped while the alert fired would delay its end by more than the limit of this wait.
        let over = wait_for(" was blocked for ");
        assert_eq!(over["labels"]["instance"], "known:1", "{over}");
        seen += &exporter.logs();
        seen += &scrape(&exporter, "known:1", &login).1;
        for secret in ["open sesame", right, "$2b$", "shut-sesame-7f3", wrong] {
            assert!(!seen.contains(secret), "{secret}: {seen}");
        }
    });
}

fn check_with_alertmanager(kind: Kind) {
    let server = Server::start(kind);
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&example(), &receiver);
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, test_support::server::free_port()));
    let check = |flags: &[&str]| {
        let redis = server.url();
        Exporter::builder().args(&["check", "--alertmanager", "--redis.addr", &redis]).args(flags).run()
    };
    let good = check(&[&url_of(&alertmanager)]);
    let says = "accepts alerts; the test alert RedisScriptExporterTest was listed";
    let words = good.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(says) && words.contains("routed to tickets"), "{}", good.stdout);
    let ends = |pages: &[Page]| {
        let test = pages.iter().filter(|page| page.alertname == "RedisScriptExporterTest");
        test.map(|page| page.status).collect::<Vec<_>>()
    };
    receiver.wait_for(LIMIT, "the test alert and its end", |pages| {
        (ends(pages) == [Status::Firing, Status::Resolved]).then_some(())
    });
    let bad = check(&[&url_of(&alertmanager), &format!("--alertmanager.url=http://{dead}"), "--format=json"]);
    let report: Json = serde_json::from_str(&bad.stdout).unwrap_or_else(|_| panic!("{bad:?}"));
    assert_eq!((bad.status.code(), report["status"].as_str()), (Some(2), Some("critical")), "{report}");
    assert_eq!(report["alertmanagers"][0]["receivers"][0], "tickets");
    assert!(report["summary"].as_str().unwrap().contains("cannot connect"), "{report}");
    let none = check(&[]);
    assert_eq!(none.status.code(), Some(64), "{none:?}");
}

/// Returns the percentile `share` of the times.
fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small"
    )]
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

/// Returns the number of heartbeats in 5 s of a responding target while 200 others become blocked.
fn heartbeats_beside_blocked(notifies: bool) -> f64 {
    let (server, healthy) = (Server::start(Kind::Redis70), Server::start(Kind::Redis70));
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP);
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&example(), &receiver);
    let folder = TempDir::new().unwrap();
    let targets = many_targets(&folder, &server, 200);
    let url = url_of(&alertmanager);
    let (redis, mut flags) = (healthy.url(), vec!["--config.file", &targets]);
    flags.extend(["--redis.addr", &redis]);
    flags.extend(notifies.then_some(url.as_str()));
    let exporter = Exporter::start(&flags);
    wait_until_watched(&exporter);
    let target = target_of(&healthy);
    let beats = || {
        let labels = [("target", target.as_str())];
        exporter.metrics().sum("redis_script_heartbeat_duration_seconds_count", &labels)
    };
    client.send(&evalsha(&script, Duration::from_secs(6)));
    let before = beats();
    thread::sleep(Duration::from_secs(5));
    beats() - before
}

/// Measurement for docs/performance.md: scripts of 4 s, alongside a Prometheus that scrapes and evaluates every 15 s.
#[test]
#[ignore = "takes minutes; prints the table of docs/performance.md"]
fn time_from_a_script_to_its_page() {
    const SCRIPTS: usize = 20;
    let server = Server::start(Kind::Redis70);
    let mut client = server.client();
    let script = load(&mut client, BUSY_LOOP);
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&example(), &receiver);
    let exporter = Exporter::start(&["--redis.addr", &server.url(), &url_of(&alertmanager)]);
    let interval = Duration::from_secs(15);
    let prometheus = Prometheus::builder()
        .scrape_every(JOB, exporter.addr(), interval)
        .evaluate_every(interval)
        .rules(shipped("alerts/redis-script.rules.yml"))
        .alertmanager(&alertmanager)
        .start();
    prometheus.wait_ready();
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for number in 1..=SCRIPTS {
        // At a different time within the scrape and heartbeat intervals in each round.
        thread::sleep(Duration::from_millis(100 * u64::try_from(number * 7 % 20).unwrap() + 13));
        let began = Instant::now();
        client.send(&evalsha(&script, Duration::from_secs(4)));
        for severity in ["warning", "critical"] {
            let page = receiver.wait_for(LIMIT, "the page", |pages| {
                let fires = |page: &&Page| {
                    page.alertname == RUNNING && page.severity == severity && page.status == Status::Firing
                };
                pages.iter().filter(fires).nth(number - 1).cloned()
            });
            times.entry(severity).or_default().push(page.received_at.saturating_duration_since(began));
        }
        assert_eq!(client.receive(), Value::Int(1));
        wait_for_ends(&receiver, number);
    }
    let pages = receiver.pages();
    for severity in ["warning", "critical"] {
        let times = &times[severity];
        println!(
            "{severity}: median {:?}, 95th percentile {:?}, maximum {:?}; {} firing, {} ends",
            percentile(times, 0.5),
            percentile(times, 0.95),
            percentile(times, 1.0),
            count(&pages, severity, Status::Firing),
            count(&pages, severity, Status::Resolved),
        );
    }
    println!("starts of the alerts: {:?}", pages.first().map(|page| unix_seconds(&page.starts_at)));
    let last = many_at_once(Kind::Redis70, 200);
    println!("200 targets at once: last warning after {last:?}");
    for notifies in [false, true, false, true] {
        let beats = heartbeats_beside_blocked(notifies);
        println!(
            "heartbeats of another target in 5 s, beside 200 blocked ones, notification {notifies}: {beats}"
        );
    }
}
