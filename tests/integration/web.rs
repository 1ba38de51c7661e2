//! HTTP server: endpoints, and clients that are slow, idle, broken or too many.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{LIMIT, QUICK, SPIN, begin, logs_milliseconds, spin, wait_for_scripts, watch};
use test_support::exporter::Exporter;
use test_support::http::{self, Connection};
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::process::find_program;
use test_support::server::{Kind, Server, free_port, run_on};

on_each_server!(promtool_accepts_the_metrics);

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Starts an exporter whose server does not exist.
fn lonely(args: &[&str]) -> Exporter {
    let url = format!("redis://127.0.0.1:{}", free_port());
    Exporter::builder().args(&["--redis.addr", &url]).args(args).args(&QUICK).start()
}

#[test]
fn a_request_for_a_redis_exporter_path_is_told_the_right_path() {
    let exporter = lonely(&[]);
    for (path, ours) in
        [("/scrape?target=redis://redis:6379", "/probe?target=HOST:PORT"), ("/discover-cluster-nodes", "/sd")]
    {
        let response = exporter.get(path);
        assert_eq!(response.status, 404, "{path}");
        assert!(response.body.contains(ours), "{}", response.body);
    }
}

#[test]
fn endpoints_answer() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let exporter = watch(&server, &[]);
        let metrics = exporter.get("/metrics");
        assert_eq!((metrics.status, metrics.header("content-type")), (200, Some(CONTENT_TYPE)));
        assert!(metrics.body.ends_with('\n'));
        Metrics::parse(&metrics.body);
        for path in ["/-/healthy", "/-/ready"] {
            let response = exporter.get(path);
            assert_eq!((response.status, response.body.as_str()), (200, "OK\n"), "{path}");
        }
        let landing = exporter.get("/");
        assert_eq!(landing.status, 200);
        assert!(landing.header("content-type").unwrap().starts_with("text/html"));
        for link in ["/metrics", "/-/healthy", "/-/ready"] {
            assert!(
                landing.body.contains(&format!("href=\"{}\"", link.trim_start_matches('/'))),
                "{}",
                landing.body
            );
        }
        for path in ["/nowhere", "/metrics/", "/-/", "/-/ready/x", "/../etc/passwd", "/%2e%2e/"] {
            assert_eq!(exporter.get(path).status, 404, "{path}");
        }
        assert_eq!(exporter.get("/metrics?name[]=x").status, 200, "a query is passed over");
    });
}

#[test]
fn unsupported_methods_are_rejected() {
    let exporter = lonely(&[]);
    let mut connection = Connection::open(exporter.addr()).unwrap();
    for path in [
        "/metrics",
        "/-/healthy",
        "/",
        "/status.js",
        "/sd",
        "/api/v1/targets",
        "/api/v1/scripts",
        "/api/v1/slow",
        "/api/v1/incidents",
        "/-/ready",
        "/probe",
        "/scrape",
        "/discover-cluster-nodes",
    ] {
        if !["/-/ready", "/probe", "/scrape", "/discover-cluster-nodes"].contains(&path) {
            let head = connection.request("HEAD", path, &[]).unwrap();
            assert_eq!((head.status, head.body.as_str()), (200, ""), "HEAD {path}");
            assert!(head.header("content-length").is_some_and(|length| length != "0"), "HEAD {path}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let refused = connection.request(method, path, &[("Content-Length", "0")]).unwrap();
            assert_eq!(refused.status, 405, "{method} {path}");
        }
    }
    assert_eq!(connection.get("/metrics").unwrap().status, 200, "on the same connection");
}

#[test]
fn an_unreachable_server_does_not_prevent_readiness() {
    let exporter = lonely(&[]);
    exporter.wait_for(LIMIT, "the first try", |_| exporter.get("/-/ready").status == 200);
    let metrics = exporter.metrics();
    assert!(metrics.names().contains("redis_script_slow_calls_total"), "known series exist from the start");
    assert_eq!(metrics.value("redis_script_target_up", &[]), Some(0.0));
}

/// While the first connection attempt to a server is in progress, the response is 503.
#[test]
fn it_is_not_ready_before_every_target_was_tried() {
    // The kernel accepts connections, but nothing replies. The target is reported as blocked only after some time.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let exporter = Exporter::start(&["--redis.addr", &url, "--heartbeat.blocked-after=5s"]);
    let begun = Instant::now();
    let response = exporter.get("/-/ready");
    if begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(response.status, 503, "{}", response.body);
        assert_eq!(exporter.get("/-/healthy").status, 200);
    }
    exporter.wait_for(LIMIT, "the server to be known as blocked", |_| exporter.get("/-/ready").status == 200);
}

#[test]
fn the_metrics_can_have_another_path_and_several_addresses() {
    let more = format!("127.0.0.1:{}", free_port());
    let exporter = lonely(&["--web.telemetry-path=/redis/metrics", "--web.listen-address", &more]);
    assert_eq!(exporter.get("/redis/metrics").status, 200);
    assert_eq!(exporter.get("/metrics").status, 404);
    assert!(exporter.get("/").body.contains("href=\"redis/metrics\""));
    assert_eq!(http::get(more.parse().unwrap(), "/redis/metrics").unwrap().status, 200);
}

#[test]
fn slow_and_idle_clients_do_not_keep_others_from_a_scrape() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::start(kind);
        let exporter = watch(&server, &[]);
        let open = || {
            let stream = TcpStream::connect(exporter.addr()).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            stream
        };
        let mut held = Vec::new();
        // Clients that send nothing, that stop in the middle of a request, and that send requests repeatedly without
        // reading.
        for _ in 0..120 {
            held.push(open());
            let mut half = open();
            half.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: ").unwrap();
            held.push(half);
        }
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(500);
        for _ in 0..20 {
            let mut greedy = open();
            // Write until the buffers are full and the exporter waits for us to read.
            while greedy.write(&request).is_ok_and(|written| written > 0) {}
            held.push(greedy);
        }
        let mut kept = Connection::open(exporter.addr()).unwrap();
        for _ in 0..20 {
            let begun = Instant::now();
            assert_eq!(exporter.get("/metrics").status, 200);
            assert_eq!(kept.get("/metrics").unwrap().status, 200);
            assert!(begun.elapsed() < Duration::from_secs(5), "two scrapes took {:?}", begun.elapsed());
        }
        assert!(exporter.metrics().value("process_resident_memory_bytes", &[]).unwrap() < 60e6);
        drop(held);
        assert_eq!(exporter.get("/-/healthy").status, 200);
    });
}

#[test]
fn a_huge_request_head_is_refused() {
    let exporter = lonely(&[]);
    let line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20));
    let header = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: x\r\n".repeat(100_000));
    for request in [line, header, many] {
        let mut stream = TcpStream::connect(exporter.addr()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        // The exporter may close the connection before it has received everything.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = [0; 64];
        let answer = match stream.read(&mut answer) {
            Ok(length) => String::from_utf8_lossy(&answer[..length]).into_owned(),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                String::new()
            }
            Err(error) => panic!("neither refused nor closed: {error}"),
        };
        let refused =
            ["HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"].iter().any(|code| answer.starts_with(code));
        assert!(answer.is_empty() || refused, "{answer:?}");
    }
    // A large head within the limit is accepted.
    let mut connection = Connection::open(exporter.addr()).unwrap();
    let cookie = "x".repeat(6000);
    assert_eq!(connection.request("GET", "/metrics", &[("Cookie", &cookie)]).unwrap().status, 200);
    assert_eq!(exporter.get("/metrics").status, 200);
}

#[test]
fn non_http_requests_are_rejected() {
    let exporter = lonely(&[]);
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PING\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(exporter.addr()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(junk).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{junk:?}: {answer:?}");
    }
    assert_eq!(exporter.get("/metrics").status, 200);
}

/// Returns the status of the response to a request with these headers.
fn status(exporter: &Exporter, request: &str, headers: &[&str]) -> u16 {
    let mut stream = TcpStream::connect(exporter.addr()).unwrap();
    write!(stream, "{request} HTTP/1.1\r\n{}\r\nConnection: close\r\n\r\n", headers.join("\r\n")).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap()
}

/// A page on another site makes an operator's browser send requests, possibly to the site's own name, which resolves to the
/// exporter.
#[test]
fn requests_of_other_sites_are_refused() {
    let exporter =
        lonely(&["--web.enable-lifecycle", "--web.external-url=https://status.example.org/redis/"]);
    let own = format!("Host: {}", exporter.addr());
    let reloads =
        || exporter.metrics().sum("redis_script_exporter_config_last_reload_success_timestamp_seconds", &[]);
    let page = |host: &str| status(&exporter, "GET /", &[host]);
    for host in [own.as_str(), "Host: status.example.org", "Host: STATUS.example.org.:8443", "Host: [::1]:1"]
    {
        assert_eq!(page(host), 200, "{host}");
    }
    for host in
        ["Host: evil.example", "Host: status.example.org.evil.example", "Host: 127.0.0.1.evil.example"]
    {
        for request in ["GET /", "GET /api/v1/targets", "POST /-/reload"] {
            assert_eq!(status(&exporter, request, &[host]), 403, "{request} {host}");
        }
        // Monitoring may use any name.
        for request in ["GET /metrics", "GET /-/healthy", "GET /sd"] {
            assert_eq!(status(&exporter, request, &[host]), 200, "{request} {host}");
        }
    }
    let before = reloads();
    for method in ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        assert_eq!(status(&exporter, &format!("{method} /-/reload"), &[&own]), 405, "{method}");
    }
    for foreign in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        for method in ["POST", "PUT"] {
            let request = format!("{method} /-/reload");
            assert_eq!(status(&exporter, &request, &[&own, foreign]), 403, "{method} {foreign}");
        }
    }
    assert!((reloads() - before).abs() < 0.5, "nothing was reloaded");
    let same = format!("Origin: http://{}", exporter.addr());
    for headers in [&[own.as_str(), &same][..], &[&own]] {
        assert_eq!(status(&exporter, "POST /-/reload", headers), 200, "{headers:?}");
        assert_eq!(status(&exporter, "PUT /-/reload", headers), 200, "{headers:?}");
    }
    drop(exporter);
    let named = lonely(&["--web.allowed-host=friend.example", "--web.allowed-host=other.example.net"]);
    for (host, expected) in [
        ("friend.example", 200),
        ("friend.example:8443", 200),
        ("other.example.net", 200),
        ("example.net", 403),
        ("evil.example", 403),
        ("friend.example.evil.example", 403),
        ("evil-friend.example", 403),
    ] {
        assert_eq!(status(&named, "GET /", &[&format!("Host: {host}")]), expected, "{host}");
    }
    drop(named);
    let open = lonely(&["--web.allowed-host=*"]);
    assert_eq!(status(&open, "GET /", &["Host: evil.example"]), 200);
}

fn promtool_accepts_the_metrics(kind: Kind) {
    let Some(promtool) = find_program("promtool") else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "promtool is missing");
        // Written to the stream directly, because the test runner hides the output of `eprintln!` in a passing test.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED: promtool is not on this machine; `make setup` installs it"
        );
        return;
    };
    let server = logs_milliseconds(kind).start();
    let exporter = begin(Exporter::builder().args(&["--redis.addr", &server.url(), "--slow.warning=1ms"]));
    for number in 0..3 {
        spin(&mut server.client(), "EVAL", &format!("{SPIN} -- {number} {}", "x".repeat(60 * number)));
    }
    let metrics = wait_for_scripts(&exporter, 3);
    assert!(metrics.names().contains("redis_script_last_slow_call_timestamp_seconds"));

    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(metrics.text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "promtool: {said}");
}
