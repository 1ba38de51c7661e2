//! Tests of the test support: servers that start, stop, hang and restart on request, scripts that run for the requested
//! time, and a client that receives BUSY.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use redis::Value;

use test_support::client::{Client, is_error, text};
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::scripts::{BUSY_LOOP, busy_eval, busy_fcall, evalsha, load, load_library};
use test_support::server::{Kind, Server};
use test_support::tls::Certificates;
use test_support::wait::eventually;

on_each_server!(
    starts_stops_and_restarts,
    a_paused_server_accepts_and_is_silent,
    a_script_runs_for_the_given_time,
    a_busy_server_says_so_and_a_kill_ends_it,
    a_function_is_killed_as_a_function,
    a_server_listens_on_its_address,
);

const SOON: Duration = Duration::from_secs(10);

/// Long enough for an idle server to reply many times.
const A_WHILE: Duration = Duration::from_millis(200);

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn starts_stops_and_restarts(kind: Kind) {
    let mut server = Server::start(kind);
    let info = server.client().info(&["server"]);
    let (version, wanted) = match kind {
        Kind::Redis62 => (&info["redis_version"], "6.2."),
        Kind::Redis70 => (&info["redis_version"], "7.0."),
        Kind::Redis74 => (&info["redis_version"], "7.4."),
        Kind::Redis82 => (&info["redis_version"], "8.2."),
        Kind::Valkey81 => (&info["valkey_version"], "8.1."),
        Kind::Valkey90 => (&info["valkey_version"], "9.0."),
        Kind::Valkey91 => (&info["valkey_version"], "9.1."),
    };
    assert!(version.starts_with(wanted), "{version}");
    assert_eq!(info["process_id"], server.pid().to_string());

    server.stop();
    assert!(TcpStream::connect(server.addr()).is_err(), "nobody listens after the stop");
    server.restart();
    let again = server.client().info(&["server"]);
    assert_ne!(again["run_id"], info["run_id"]);
    assert_eq!(again["tcp_port"], info["tcp_port"]);

    let pid = server.pid();
    server.kill();
    assert!(TcpStream::connect(server.addr()).is_err(), "nobody listens after the kill");
    server.restart();
    assert_ne!(server.pid(), pid);

    let addr = server.addr();
    drop(server);
    assert!(TcpStream::connect(addr).is_err(), "nobody listens after the drop");
}

fn a_paused_server_accepts_and_is_silent(kind: Kind) {
    let mut server = Server::start(kind);
    server.pause();
    let mut client = server.client();
    client.send(&["PING"]);
    assert_eq!(client.receive_within(A_WHILE), None);
    server.resume();
    assert_eq!(text(&client.receive()), "PONG");
}

fn a_script_runs_for_the_given_time(kind: Kind) {
    let server = Server::start(kind);
    let mut client = server.client();
    let sha1 = load(&mut client, BUSY_LOOP);
    let mut commands = vec![busy_eval(ms(100)), evalsha(&sha1, ms(300))];
    if kind.has_functions() {
        load_library(&mut client);
        commands.push(busy_fcall(ms(200)));
    }
    for command in commands {
        assert_eq!(client.call(&command), Value::Int(1), "{command:?}");
        // Measured by the server, because our own measurement would include the time that this thread waits for a CPU.
        let Value::Array(log) = client.call(&["SLOWLOG", "GET", "1"]) else {
            panic!("SLOWLOG GET answers a list")
        };
        let Value::Array(entry) = &log[0] else { panic!("an entry is a list") };
        let Value::Int(took) = entry[2] else { panic!("a duration is a number") };
        let wanted = command[3].parse::<i64>().unwrap() * 1000;
        // The script uses a clock of the server that may differ slightly from the one that times it. On a busy machine, the
        // script may take much longer, so there is no upper limit.
        assert!(took >= wanted - 1000, "{command:?} took {took} us");
    }
}

fn a_busy_server_says_so_and_a_kill_ends_it(kind: Kind) {
    let server = Server::builder(kind).config("lua-time-limit 100").start();
    let mut caller = server.client();
    caller.send(&busy_eval(SOON));
    let mut other = eventually(SOON, "BUSY", || {
        let mut other = server.client();
        is_error(&other.call(&["PING"]), "BUSY").then_some(other)
    });
    assert_eq!(caller.receive_within(Duration::ZERO), None, "the script still runs");
    assert_eq!(other.call(&["SCRIPT", "KILL"]), Value::Okay);
    assert!(matches!(caller.receive(), Value::ServerError(_)), "the killed script's caller gets an error");
    assert_eq!(text(&other.call(&["PING"])), "PONG");
}

fn a_function_is_killed_as_a_function(kind: Kind) {
    if !kind.has_functions() {
        return;
    }
    let server = Server::builder(kind).config("busy-reply-threshold 100").start();
    let mut caller = server.client();
    load_library(&mut caller);
    caller.send(&busy_fcall(SOON));
    let mut other = server.client();
    eventually(SOON, "BUSY", || is_error(&other.call(&["PING"]), "BUSY").then_some(()));
    assert!(is_error(&other.call(&["SCRIPT", "KILL"]), "BUSY"));
    assert_eq!(other.call(&["FUNCTION", "KILL"]), Value::Okay);
    assert!(matches!(caller.receive(), Value::ServerError(_)), "the killed function's caller gets an error");
}

fn a_server_listens_on_its_address(kind: Kind) {
    let builder = Server::builder(kind)
        .unix_socket()
        .args(&["--maxclients", "100"])
        .acl(&["user default off", "user probe on >secret ~* &* +@all"]);
    let certificates = Certificates::new();
    let server = if kind.has_tls() { builder.tls(&certificates).start() } else { builder.start() };

    let mut client = Client::connect_unix(&server.unix_socket());
    assert!(is_error(&client.call(&["PING"]), "NOAUTH"));
    client.auth("probe", "secret");
    assert_eq!(text(&client.call(&["PING"])), "PONG");
    assert_eq!(client.info(&["clients"])["maxclients"], "100");
    if kind.has_tls() {
        let port = server.tls_url().rsplit_once(':').unwrap().1.parse().unwrap();
        TcpStream::connect(("127.0.0.1", port)).expect("the TLS port is open");
    }
}

/// A reply may arrive in parts, with timeouts in between.
#[test]
fn a_reply_in_pieces_is_still_one_reply() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::connect(listener.local_addr().unwrap());
    let (mut server, _) = listener.accept().unwrap();
    for piece in ["*2\r\n$5\r\nhel", "lo\r\n:", "4"] {
        server.write_all(piece.as_bytes()).unwrap();
        assert_eq!(client.receive_within(ms(50)), None, "after {piece:?}");
    }
    server.write_all(b"2\r\n+OK\r\n").unwrap();
    assert_eq!(client.receive(), Value::Array(vec![Value::BulkString(b"hello".to_vec()), Value::Int(42)]));
    assert_eq!(client.receive(), Value::Okay);
}

/// A client sends exactly the given bytes.
#[test]
fn a_command_is_sent_alone_and_as_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::connect(listener.local_addr().unwrap());
    let (mut server, _) = listener.accept().unwrap();
    client.send(&[&b"PI\xffG"[..]]);
    let mut bytes = [0; 14];
    server.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"*1\r\n$4\r\nPI\xffG\r\n");
}

#[test]
fn exposition_text_is_understood() {
    let metrics = Metrics::parse(
        "# HELP a_total Help.\n# TYPE a_total counter\n\
         a_total{target=\"x\",script=\"q\\\"{}, \\\\ \\n\"} 3\na_total{target=\"y\",script=\"\"} 4.5\n\
         b +Inf\nc_bucket{le=\"+Inf\"} 7\n",
    );
    assert_eq!(metrics.value("a_total", &[("target", "x")]), Some(3.0));
    assert_eq!(metrics.value("a_total", &[("script", "q\"{}, \\ \n")]), Some(3.0));
    assert_eq!(metrics.value("a_total", &[("target", "z")]), None);
    assert_eq!(metrics.value("b", &[]), Some(f64::INFINITY));
    assert_eq!(metrics.value("c_bucket", &[("le", "+Inf")]), Some(7.0));
    assert!((metrics.sum("a_total", &[]) - 7.5).abs() < f64::EPSILON);
    assert_eq!(metrics.series("a_total").len(), 2);
    assert_eq!(metrics.names().into_iter().collect::<Vec<_>>(), ["a_total", "b", "c_bucket"]);
}
