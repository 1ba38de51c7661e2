//! Formats of `/metrics` and `/probe`, tested with third-party parsers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use redis::Value;
use serde_json::Value as Json;

use crate::common::{
    LIMIT, SPIN, begin, lines_with, repository, spin, state, target_of, wait_for_scripts, whole,
};
use test_support::cache;
use test_support::exporter::Exporter;
use test_support::metrics::Metrics;
use test_support::monitoring::{Prometheus, available};
use test_support::scripts::busy_eval;
use test_support::server::{Kind, Server, run_on};
use test_support::wait::eventually_or_tell;

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// Returns the head and the body of a response, decompressed if necessary.
fn get(exporter: &Exporter, path: &str, accept: &str, gzip: bool) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(exporter.addr()).unwrap();
    let encoding = if gzip { "Accept-Encoding: gzip\r\n" } else { "" };
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n{encoding}Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(response[..end].to_vec()).unwrap().to_ascii_lowercase();
    let mut body = response.split_off(end);
    assert_eq!(head.contains("content-encoding: gzip"), gzip, "{head}");
    if gzip {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
        body = plain;
    }
    (head, body)
}

/// Sample returned by Prometheus' own parser.
#[derive(Debug)]
struct Parsed {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
    exemplar: BTreeMap<String, String>,
    unit: String,
}

/// Parses OpenMetrics with Prometheus' Python library. Without the library the test is skipped, which is an error in CI.
fn parse(text: &[u8]) -> Option<Vec<Parsed>> {
    let Some(modules) = cache::python("formats", "tests/formats") else {
        cache::skip("the parser of OpenMetrics is not on this machine; `make setup` installs it");
        return None;
    };
    let mut python = Command::new("python3")
        .args([repository("tests/formats/parse.py"), modules])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(text).unwrap();
    let output = python.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}\n{}", String::from_utf8_lossy(text));
    let samples: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
    let map = |value: &Json| serde_json::from_value(value.clone()).unwrap_or_default();
    Some(
        samples
            .iter()
            .map(|sample| Parsed {
                name: sample[0].as_str().unwrap().to_owned(),
                labels: map(&sample[1]),
                value: sample[2].as_f64().unwrap_or(f64::INFINITY),
                exemplar: map(&sample[3]),
                unit: sample[5].as_str().unwrap().to_owned(),
            })
            .collect(),
    )
}

/// Parses a scrape in OpenMetrics format. Asserts that it contains all series of the text format, and the same numbers of
/// calls.
fn scrape(exporter: &Exporter) -> Option<Vec<Parsed>> {
    // Scraped first, because series may be added in the meantime.
    let text = exporter.metrics();
    let (head, body) = get(exporter, "/metrics", OPENMETRICS, false);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    let parsed = parse(&body)?;
    let names: Vec<&str> = parsed.iter().map(|sample| sample.name.as_str()).collect();
    for name in text.names() {
        assert!(names.contains(&name), "{name}");
    }
    let of_family =
        |name: &str| parsed.iter().filter(|sample| sample.name == name).map(|s| s.value).sum::<f64>();
    let counts = "redis_script_duration_seconds_count";
    assert_eq!(of_family(counts), text.sum(counts, &[]));
    assert_eq!(without_created(&parsed), SERVER_COUNTERS.map(str::to_owned).into());
    assert!(parsed.iter().all(|sample| sample.name.contains("_seconds") <= (sample.unit == "seconds")));
    Some(parsed)
}

/// Counters from INFO. A server does not report their start time, which CONFIG RESETSTAT changes.
const SERVER_COUNTERS: [&str; 6] = [
    "redis_script_calls",
    "redis_script_calls_duration_seconds",
    "redis_script_errors",
    "redis_script_failed_calls",
    "redis_script_kills",
    "redis_script_rejected_calls",
];

/// Returns the families of counters and histograms that have a sample without a created timestamp.
fn without_created(samples: &[Parsed]) -> BTreeSet<String> {
    let created: BTreeSet<_> = samples
        .iter()
        .filter_map(|sample| Some((sample.name.strip_suffix("_created")?, &sample.labels)))
        .collect();
    let counted = samples.iter().filter_map(|sample| {
        let family = sample.name.strip_suffix("_total").or_else(|| sample.name.strip_suffix("_count"))?;
        Some((family, &sample.labels))
    });
    counted.filter(|one| !created.contains(one)).map(|(family, _)| family.to_owned()).collect()
}

#[test]
fn openmetrics_is_parsed_in_each_state() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind)
            .config("slowlog-log-slower-than 2000")
            .config("lua-time-limit 1500")
            .start();
        let exporter = Exporter::builder()
            .args(&["--redis.addr", &server.url(), "--poll.interval=100ms", "--heartbeat.interval=100ms"])
            .args(&["--heartbeat.blocked-after=200ms", "--slow.warning=1ms"])
            .args(&["--state.file", server.dir().join("state").to_str().unwrap()])
            .start();
        let target = target_of(&server);
        exporter.wait_for(LIMIT, "the server's counters", |metrics| {
            state(metrics, &target) == "ok" && !metrics.series("redis_script_calls_total").is_empty()
        });
        let Some(_) = scrape(&exporter) else { return };
        let mut client = server.client();
        client.call(&["CLIENT", "SETNAME", "worker \"7\""]);
        client.call(&["CLIENT", "SETNAME", "worker-7"]);
        // Long enough for the parser; killed below.
        client.send(&busy_eval(Duration::from_secs(600)));
        for expected in ["blocked", "busy_script"] {
            exporter.wait_for(LIMIT, expected, |metrics| state(metrics, &target) == expected);
            let parsed = scrape(&exporter).unwrap();
            let blocked = parsed.iter().find(|sample| sample.name == "redis_script_blocked_seconds").unwrap();
            assert!(blocked.value > 0.1, "{blocked:?}");
        }
        assert_eq!(server.call(&["SCRIPT", "KILL"]), Value::Okay);
        client.receive();
        wait_for_scripts(&exporter, 1);
        exporter.wait_for(LIMIT, "the server", |metrics| state(metrics, &target) == "ok");
        let parsed = scrape(&exporter).unwrap();
        let exemplars: Vec<&Parsed> = parsed.iter().filter(|sample| !sample.exemplar.is_empty()).collect();
        assert_eq!(exemplars.len(), 1, "{exemplars:?}");
        assert!(exemplars[0].labels.contains_key("le"));
        assert_eq!(exemplars[0].exemplar["client_name"], "worker-7");
        assert!(exemplars[0].exemplar["slowlog_id"].parse::<u64>().is_ok());

        let hidden = begin(Exporter::builder().args(&["--redis.addr", &server.url(), "--web.hide-clients"]));
        spin(&mut client, "EVAL", SPIN);
        wait_for_scripts(&hidden, 1);
        let (_, body) = get(&hidden, "/metrics", OPENMETRICS, true);
        let text = String::from_utf8(body.clone()).unwrap();
        assert!(!lines_with(&text, &["# {slowlog_id="]).is_empty() && !text.contains("worker-7"), "{text}");
        assert!(parse(&body).is_some());
    });
}

#[test]
fn each_format_is_the_same_plain_and_compressed() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let config = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "targets: [{{addr: '{}'}}]\nmodules: {{default: {{allow: ['127.0.0.1:*']}}}}",
            server.url()
        );
        std::fs::write(config.path(), text).unwrap();
        let exporter = begin(Exporter::builder().args(&["--config.file", config.path().to_str().unwrap()]));
        let probe = format!("/probe?target={}", target_of(&server));
        for (accept, content_type) in [
            ("*/*", "text/plain"),
            (OPENMETRICS, "application/openmetrics-text"),
            (PROTOBUF, "application/vnd.google.protobuf"),
        ] {
            for path in ["/metrics", &probe] {
                for gzip in [false, true] {
                    let (head, body) = get(&exporter, path, accept, gzip);
                    assert!(head.contains(&format!("content-type: {content_type}")), "{path}: {head}");
                    assert!(head.contains("vary: accept, accept-encoding\r\n"), "{head}");
                    let has = |text: &str| body.windows(text.len()).any(|bytes| bytes == text.as_bytes());
                    assert!(
                        has("redis_script_target_up") && has("process_start_time_seconds"),
                        "{path} {accept}"
                    );
                    assert_eq!(body.ends_with(b"# EOF\n"), accept == OPENMETRICS);
                }
            }
        }
    });
}

#[test]
fn native_histograms_arrive_in_prometheus_with_the_same_counts() {
    if !available() {
        return;
    }
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind).config("slowlog-log-slower-than 2000").start();
        let exporter = begin(Exporter::builder().args(&["--redis.addr", &server.url()]));
        let mut client = server.client();
        for _ in 0..5 {
            spin(&mut client, "EVAL", SPIN);
        }
        client.call(&busy_eval(Duration::from_millis(700)));
        let text = wait_for_scripts(&exporter, 6);
        let counted = |metrics: &Metrics| whole(metrics.sum("redis_script_duration_seconds_count", &[]));
        assert_eq!(counted(&text), 6);
        let prometheus =
            Prometheus::builder().feature("native-histograms").scrape("exporter", exporter.addr()).start();
        let value =
            |promql: &str| prometheus.query(promql)["result"][0]["value"][1].as_str().map(str::to_owned);
        eventually_or_tell(LIMIT, "six calls in native histograms", || {
            let count = value("sum(histogram_count(redis_script_duration_seconds))");
            if count.as_deref() == Some("6") {
                Ok(())
            } else {
                Err(format!("{count:?}\n{}", prometheus.logs()))
            }
        });
        let sum: f64 = value("sum(histogram_sum(redis_script_duration_seconds))").unwrap().parse().unwrap();
        assert!((sum - exporter.metrics().sum("redis_script_duration_seconds_sum", &[])).abs() < 1e-9);
        // The p99 is the longest call, of 0.7 s or more, within the precision of a bucket.
        let p99 = "max(histogram_quantile(0.99, redis_script_duration_seconds))";
        let p99: f64 = value(p99).unwrap().parse().unwrap();
        let metrics = exporter.metrics();
        let longest =
            metrics.series("redis_script_max_duration_seconds").into_iter().map(|series| series.value);
        let longest = longest.fold(0.0, f64::max);
        assert!(longest >= 0.7 && (0.9..=1.25).contains(&(p99 / longest)), "{p99}, {longest}");
        assert_eq!(value("count(redis_script_target_up == 1)").as_deref(), Some("1"));
    });
}
