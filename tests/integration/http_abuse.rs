//! HTTP server under abuse: the outcome is well defined, concurrent scrapes are served promptly, and memory is bounded.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::common::{LIMIT, QUICK, watch};
use test_support::exporter::Exporter;
use test_support::http::connect_from;
use test_support::server::{Kind, Server, free_port, run_on};
use test_support::wait::{eventually, load_per_core};

/// Time limit for a scrape during abuse on a busy machine. If clients could occupy all connections, the scrape would take
/// longer, until their time to send a request is over (5 s).
const PROMPT: Duration = Duration::from_secs(4);

/// Maximum peak memory of the exporter, in bytes; the code of a debug build takes 13 MB more.
const MAX_MEMORY: u64 = if cfg!(debug_assertions) { 73_000_000 } else { 60_000_000 };

/// Number of clients; more than the exporter serves at the same time.
const CROWD: usize = 1000;

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

/// Starts an exporter whose server does not exist.
fn lonely() -> Exporter {
    let url = format!("redis://127.0.0.1:{}", free_port());
    Exporter::builder().args(&["--redis.addr", &url]).args(&QUICK).start()
}

/// Raises this process's limit on open sockets to the maximum.
pub(crate) fn many_sockets() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Opens a connection with a small receive buffer.
fn narrow(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    socket.connect(&addr.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[track_caller]
fn assert_prompt_scrape(exporter: &Exporter) {
    let begun = Instant::now();
    assert_eq!(exporter.get("/metrics").status, 200);
    assert!(begun.elapsed() < PROMPT.mul_f64(load_per_core()), "a scrape took {:?}", begun.elapsed());
}

#[track_caller]
fn assert_small(exporter: &Exporter) {
    let peak = exporter.peak_memory();
    assert!(peak < MAX_MEMORY, "the exporter used {peak} bytes");
}

/// Starts an exporter whose `/metrics` response has about 1 MB, and its server.
pub(crate) fn large_page(kind: Kind) -> (Server, Exporter) {
    let server =
        Server::builder(kind).config("slowlog-log-slower-than 0").config("slowlog-max-len 2000").start();
    let exporter = watch(&server, &["--script.max-series=1000"]);
    let mut client = server.client();
    for number in 0..500 {
        client.call(&["EVAL", &format!("return {number}"), "0"]);
    }
    exporter.wait_for(LIMIT, "a page of 1 MB", |metrics| metrics.text.len() > 900_000);
    (server, exporter)
}

/// Sends `sent`, and returns everything received until the exporter closes the connection.
fn answers(addr: SocketAddr, sent: &[u8]) -> String {
    let mut stream = connect(addr);
    // The exporter may close the connection before it has received everything.
    let _ = stream.write_all(sent);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_thousand_idle_and_a_thousand_half_sent_requests_do_not_delay_a_scrape() {
    many_sockets();
    let exporter = lonely();
    let mut held = Vec::new();
    for half in [&b""[..], b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: "] {
        for _ in 0..CROWD {
            let mut stream = connect(exporter.addr());
            // The connection may already have been evicted.
            let _ = stream.write_all(half);
            held.push(stream);
        }
        for _ in 0..5 {
            assert_prompt_scrape(&exporter);
        }
    }
    assert_small(&exporter);
    // The first connections were evicted for later ones; the last ones are still open.
    let mut byte = [0];
    let first = &mut held[0];
    assert!(matches!(first.read(&mut byte), Ok(0) | Err(_)), "the oldest connection is closed");
    let last = held.last_mut().unwrap();
    last.write_all(b"x\r\n\r\n").unwrap();
    assert_eq!(last.read(&mut byte).unwrap(), 1, "the newest connection is answered");
}

#[test]
fn a_thousand_clients_that_do_not_read_hold_neither_memory_nor_a_scrape() {
    many_sockets();
    run_on(Kind::Redis70, |kind| {
        let (server, exporter) = large_page(kind);
        let mut client = server.client();
        let mut held = Vec::new();
        for round in 0..20 {
            // A different response body in each round.
            client.call(&["EVAL", &format!("return {}", 1000 + round), "0"]);
            for _ in 0..CROWD / 20 {
                let mut stream = narrow(exporter.addr());
                stream.write_all(SCRAPE).unwrap();
                held.push(stream);
            }
            assert_prompt_scrape(&exporter);
        }
        assert_small(&exporter);
        println!("peak memory beside {CROWD} clients that do not read: {} kB", exporter.peak_memory() / 1000);
    });
}

/// New connections evict each other, not the one with a response in progress.
#[test]
fn a_flood_of_connections_does_not_cut_a_scrape_that_is_under_way() {
    many_sockets();
    run_on(Kind::Redis70, |kind| {
        let (_server, exporter) = large_page(kind);
        let addr = exporter.addr();
        let mut scrape = narrow(addr);
        scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = vec![0; 1000];
        scrape.read_exact(&mut page).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let mut held = std::collections::VecDeque::new();
                let mut opened = 0;
                while opened < 2 * CROWD || !done.load(Ordering::Relaxed) {
                    held.push_back(connect(addr));
                    opened += 1;
                    if held.len() > CROWD {
                        held.pop_front();
                    }
                }
            });
            let mut chunk = vec![0; 64 << 10];
            loop {
                let length = scrape.read(&mut chunk).unwrap();
                if length == 0 {
                    break;
                }
                page.extend_from_slice(&chunk[..length]);
            }
            assert_prompt_scrape(&exporter);
            done.store(true, Ordering::Relaxed);
            flood.join().unwrap();
        });
        let page = String::from_utf8(page).unwrap();
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert_eq!(body.len().to_string(), length, "the whole page");
        assert_small(&exporter);
    });
}

/// A client with a slow network competes with one that opens as many connections as it can. Each connection of the slow
/// client waits for longer than the other client takes to open 512 more.
#[test]
fn a_client_that_opens_thousands_of_connections_does_not_keep_out_others() {
    many_sockets();
    let exporter = lonely();
    let addr = exporter.addr();
    let (opened, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut held = std::collections::VecDeque::new();
                while !done.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(addr) else { continue };
                    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n");
                    held.push_back(stream);
                    if held.len() > 500 {
                        held.pop_front();
                    }
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let result = std::panic::catch_unwind(|| {
            for _ in 0..5 {
                let mut stream = connect_from([127, 0, 0, 2], addr).unwrap();
                let (before, begun) = (opened.load(Ordering::Relaxed), Instant::now());
                // A request must arrive within 5 s.
                eventually(LIMIT, "many further connections", || {
                    let many = opened.load(Ordering::Relaxed) > before + 2 * CROWD;
                    (many || begun.elapsed() > Duration::from_secs(2)).then_some(())
                });
                stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
            }
        });
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_thousand_requests_at_once_on_one_connection_are_answered_in_order() {
    let exporter = lonely();
    let mut request = String::new();
    for number in 0..CROWD {
        let path = ["/-/healthy", "/nowhere"][number % 2];
        write!(request, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    request.push_str("GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut stream = connect(exporter.addr());
    let mut writer = stream.try_clone().unwrap();
    let mut answer = String::new();
    thread::scope(|scope| {
        scope.spawn(|| writer.write_all(request.as_bytes()).unwrap());
        stream.read_to_string(&mut answer).unwrap();
    });
    let codes: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
    assert_eq!(codes.len(), CROWD + 1);
    assert!(codes.iter().enumerate().all(|(number, code)| *code == ["200", "404"][number % 2]));
    assert_prompt_scrape(&exporter);
    assert_small(&exporter);
}

/// Checks the status of the response to malformed or unusual requests; without a response, the connection must be closed.
#[test]
fn malformed_requests_have_defined_responses() {
    let exporter = lonely();
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x".repeat(12_000));
    let longer_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(17_000));
    let headers = |count: usize| {
        format!("GET /metrics HTTP/1.1\r\nConnection: close\r\n{}\r\n", "X-Many: x\r\n".repeat(count))
    };
    // With `Connection`, as many as there may be, and one more.
    let (few, many) = (headers(63), headers(64));
    let flood = format!("GET /metrics HTTP/1.1\r\nX-Long: {}", "x".repeat(1 << 20));
    let body = |head: &str, body: &str| format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{body}");
    let close = "GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let cases: [(&str, Vec<u8>, &[&str]); 20] = [
        ("no Host", b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(), &["200"]),
        ("HTTP/1.0", b"GET /metrics HTTP/1.0\r\n\r\n".to_vec(), &["200"]),
        ("HTTP/0.9", b"GET /metrics\r\n\r\n".to_vec(), &["400"]),
        ("HTTP/2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[]),
        ("TLS on the plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &["400"]),
        ("a broken header", b"GET /metrics HTTP/1.1\r\nHost x\r\n\r\n".to_vec(), &["400"]),
        ("NUL in a header", b"GET /metrics HTTP/1.1\r\nHost: \0\r\n\r\n".to_vec(), &["400"]),
        ("two lengths", body("Content-Length: 1\r\nContent-Length: 2", "ab").into_bytes(), &["400"]),
        ("no length", body("Content-Length: -1", "").into_bytes(), &["400"]),
        ("a long path", long_path.into_bytes(), &["404"]),
        ("a longer path", longer_path.into_bytes(), &["431"]),
        ("64 headers", few.into_bytes(), &["200"]),
        ("65 headers", many.into_bytes(), &["431"]),
        ("1 MB of header", flood.into_bytes(), &["431"]),
        ("a body", body("Content-Length: 5", &format!("hello{close}")).into_bytes(), &["200", "200"]),
        (
            "a chunked body",
            body("Transfer-Encoding: chunked", &format!("5\r\nhello\r\n0\r\n\r\n{close}")).into_bytes(),
            &["200", "200"],
        ),
        ("chunks of garbage", body("Transfer-Encoding: chunked", "zz\r\n\r\n").into_bytes(), &["200"]),
        ("100-continue", body("Content-Length: 5\r\nExpect: 100-continue", "").into_bytes(), &["200"]),
        ("a body that does not come", body("Content-Length: 999999999999", "").into_bytes(), &["200"]),
        (
            "PUT of a body that does not come",
            b"PUT /metrics HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n".to_vec(),
            &["405"],
        ),
    ];
    let mut wrong = String::new();
    for (what, request, expected) in cases {
        let answer = answers(exporter.addr(), &request);
        let codes: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
        let codes = if answer.starts_with("HTTP/1.0 200") { vec!["200"] } else { codes };
        if codes != *expected {
            writeln!(wrong, "{what}: {codes:?} instead of {expected:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_prompt_scrape(&exporter);
    assert_small(&exporter);
}

#[test]
fn a_half_closed_client_gets_its_response() {
    let exporter = lonely();
    let mut stream = connect(exporter.addr());
    stream.write_all(SCRAPE).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
}

/// The complete request head must arrive within 5 s, even if single bytes keep arriving. The limit for idle connections is
/// the same.
#[test]
fn requests_that_arrive_too_slowly_are_disconnected() {
    let exporter = lonely();
    let begun = Instant::now();
    let mut idle = connect(exporter.addr());
    idle.write_all(SCRAPE).unwrap();
    let mut trickle = connect(exporter.addr());
    for byte in SCRAPE.iter().cycle() {
        // Writes fail once the exporter has closed the connection.
        if trickle.write_all(if *byte == b'\n' { b"x" } else { std::slice::from_ref(byte) }).is_err() {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "a request of single bytes is still listened to");
        assert_prompt_scrape(&exporter);
        thread::sleep(Duration::from_millis(200));
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "it has some time to send its request");
    let mut answer = String::new();
    idle.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
