//! Responses with `--web.config.file`: rate limit, headers, compression and connection limits.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::LIMIT;
use crate::http_abuse::{large_page, many_sockets};
use test_support::http::{self, Connection};
use test_support::server::{Kind, run_on};
use test_support::wait::{eventually_or_tell, load_per_core};

use super::{PASSWORD, Site, TlsStream, get_as, gunzip, login, users_text};

#[test]
fn the_rate_of_requests_is_limited_except_for_health_checks() {
    let site = Site::new("rate_limit:\n  interval: 1h\n  burst: 2\n");
    let exporter = site.start();
    let get = |path: &str| exporter.get(path);
    let answers: Vec<u16> = (0..4).map(|_| get("/metrics").status).collect();
    assert_eq!(answers, [200, 200, 429, 429]);
    let rejected = get("/");
    assert_eq!((rejected.status, rejected.header("retry-after")), (429, Some("3600")));
    assert_eq!(get("/-/healthy").status, 200);
}

#[test]
fn headers_of_the_file_are_on_every_response() {
    let text = "http_server_config:\n  http2: true\n  headers:\n    Strict-Transport-Security: max-age=31536000\n    \
                X-Frame-Options: sameorigin\n    X-XSS-Protection: \"\"\n";
    let site = Site::new(&format!("{text}{}", users_text(4)));
    let exporter = site.start();
    for (path, authorization) in [
        ("/metrics", None),
        ("/metrics", Some(login("alice", PASSWORD))),
        ("/", Some(login("alice", PASSWORD))),
    ] {
        let response = get_as(exporter.addr(), path, authorization.as_deref());
        assert_eq!(response.header("strict-transport-security"), Some("max-age=31536000"), "{response:?}");
        assert_eq!(response.header("x-frame-options"), Some("sameorigin"), "{response:?}");
        assert_eq!(response.header("x-xss-protection"), None);
    }
}

#[test]
fn responses_are_compressed_for_clients_that_ask_for_it() {
    run_on(Kind::Redis70, |kind| {
        let (_server, exporter) = large_page(kind);
        let mut connection = Connection::open(exporter.addr()).unwrap();
        let (mut size, mut plain_size) = (0, 0);
        // Scripts may still be counted.
        eventually_or_tell(LIMIT, "both forms of one text", || {
            let plain = connection.get("/metrics").unwrap();
            assert_eq!(
                (plain.header("content-encoding"), plain.header("vary")),
                (None, Some("accept, accept-encoding"))
            );
            let (head, body) =
                connection.request_bytes("GET", "/metrics", &[("Accept-Encoding", "gzip")]).unwrap();
            assert_eq!(head.header("content-encoding"), Some("gzip"));
            assert_eq!(head.header("content-type"), plain.header("content-type"));
            assert_eq!(head.header("vary"), plain.header("vary"));
            assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
            (size, plain_size) = (body.len(), plain.body.len());
            // Values change between the two requests.
            let lines = |text: &str| -> Vec<String> {
                let without_value = |line: &str| match line.rsplit_once(' ') {
                    Some((series, value)) if !line.starts_with('#') => {
                        value.parse::<f64>().unwrap();
                        series.to_owned()
                    }
                    _ => line.to_owned(),
                };
                text.lines().map(without_value).collect()
            };
            let (a, b) = (lines(&plain.body), lines(&gunzip(&body)));
            if a == b { Ok(()) } else { Err(format!("{} and {} lines", a.len(), b.len())) }
        });
        assert!(size < plain_size / 8, "{size} of {plain_size} bytes");
        println!("{plain_size} bytes are {size} as gzip");
        let head = connection.request("HEAD", "/metrics", &[("Accept-Encoding", "gzip")]).unwrap();
        assert_eq!(head.header("content-encoding"), Some("gzip"));
        for refusing in ["gzip;q=0", "identity", "br", "*;q=0"] {
            let plain = connection.request("GET", "/metrics", &[("Accept-Encoding", refusing)]).unwrap();
            assert_eq!(plain.header("content-encoding"), None, "{refusing}");
            assert!(plain.body.starts_with("# HELP"), "{refusing}");
        }
        // The page and the API, also with a cached response.
        for path in ["/", "/status.js", "/api/v1/scripts"] {
            let plain = connection.get(path).unwrap();
            let (head, body) =
                connection.request_bytes("GET", path, &[("Accept-Encoding", "gzip, br")]).unwrap();
            assert_eq!(head.header("content-encoding"), Some("gzip"), "{path}");
            let text = gunzip(&body);
            assert!(body.len() < text.len() && text.len().abs_diff(plain.body.len()) < 200, "{path}");
            for response in [&plain, &head] {
                let expected = if path == "/" { "accept, accept-encoding" } else { "accept-encoding" };
                assert_eq!(response.header("vary"), Some(expected), "{path}");
                assert!(response.header("etag").is_some_and(|tag| tag.starts_with("W/")), "{path}");
            }
        }
        let (head, _) =
            connection.request_bytes("GET", "/status.js", &[("Accept-Encoding", "gzip")]).unwrap();
        let tag = head.header("etag").unwrap();
        for accepted in ["gzip", "identity"] {
            let known = [("Accept-Encoding", accepted), ("If-None-Match", tag)];
            let response = connection.request("GET", "/status.js", &known).unwrap();
            assert_eq!((response.status, response.body.as_str()), (304, ""));
            assert_eq!((response.header("etag"), response.header("content-encoding")), (Some(tag), None));
            assert_eq!(response.header("vary"), Some("accept-encoding"));
        }
        // Short responses are not compressed.
        let short = connection.request("GET", "/-/healthy", &[("Accept-Encoding", "gzip")]).unwrap();
        assert_eq!(short.body, "OK\n");
        // CPU time of scrapes, plain and compressed, after the text has been rendered.
        let cost = |connection: &mut Connection, headers: &[(&str, &str)]| {
            (0..20)
                .map(|_| {
                    let begun = Instant::now();
                    connection.request_bytes("GET", "/metrics", headers).unwrap();
                    begun.elapsed()
                })
                .min()
                .unwrap()
        };
        let (plain, gzip) =
            (cost(&mut connection, &[]), cost(&mut connection, &[("Accept-Encoding", "gzip")]));
        println!("a scrape of the kept text: plain {plain:?}, gzip {gzip:?}");
    });
}

#[test]
fn the_limits_hold_for_tls_too() {
    many_sockets();
    let site = Site::tls(&[]);
    let exporter = site.start();
    let (addr, client) = (exporter.addr(), site.client());
    let prompt = |what: &str| {
        let begun = Instant::now();
        assert_eq!(client.get(addr, "/metrics").unwrap().status, 200);
        assert!(
            begun.elapsed() < Duration::from_secs(4).mul_f64(load_per_core()),
            "a scrape beside {what} took {:?}",
            begun.elapsed()
        );
    };
    // More connections than permitted: those without a completed handshake evict each other.
    let mut held = Vec::new();
    for (index, half) in
        [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"].iter().cycle().take(700).enumerate()
    {
        let mut stream = http::connect(addr).unwrap();
        // The connection may already have been evicted.
        let _ = stream.write_all(half);
        held.push(stream);
        if index % 100 == 0 {
            prompt("handshakes that do not come");
        }
    }
    let mut byte = [0];
    assert!(matches!(held[0].read(&mut byte), Ok(0) | Err(_)), "the oldest gave way");
    // The same holds for connections that complete the handshake and send no request.
    let mut idle: Vec<TlsStream> = Vec::new();
    for _ in 0..520 {
        idle.push(client.connect(addr).unwrap());
    }
    prompt("sessions without a request");
    drop((held, idle));
    // The same holds for connections that send many requests and read no response.
    let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let mut greedy: Vec<TlsStream> = Vec::new();
    for _ in 0..520 {
        let mut stream = client.connect(addr).unwrap();
        stream.write_all(&requests).unwrap();
        greedy.push(stream);
    }
    prompt("answers that are not read");
    let peak = exporter.peak_memory();
    println!("peak memory beside 520 TLS clients that do not read: {} kB", peak / 1000);
    assert!(peak < 100_000_000, "the exporter used {peak} bytes");
    drop(greedy);
    // A handshake must complete within five seconds, even if single bytes keep arriving.
    let begun = Instant::now();
    let mut trickle = http::connect(addr).unwrap();
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".iter().chain(&[0; 500]) {
        if trickle.write_all(std::slice::from_ref(byte)).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(200));
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still listened to");
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "it has some time");
    // The same limit applies to the request after it.
    let mut idle = client.connect(addr).unwrap();
    let begun = Instant::now();
    let ended = idle.read(&mut byte);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!((3..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    prompt("nothing");
}
