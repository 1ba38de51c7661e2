//! Hostile servers among the targets of a run.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::hostile::{Hostile, INFO, always, array, bulk, endless, flooded, listen_on, quiet};

/// Number of replies that begin but never end. Each is within the limit of its command, but together they exceed the
/// budget.
const LARGE_REPLIES: usize = 6;

/// Starts one server for each kind of attack, and several that send large replies.
pub fn start(seed: u64) -> Vec<Hostile> {
    let noise: Vec<u8> = {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..4096).map(|_| rng.random::<u8>()).collect()
    };
    let mut servers = vec![
        Hostile::answering(flooded()),
        Hostile::answering(names_without_end()),
        Hostile::answering(busy_and_silent(seed)),
        Hostile::start(endless(b"$100000000000\r\n", b"x".repeat(100_000))),
        Hostile::start(endless(b"*1000000000\r\n", b":1\r\n".repeat(10_000))),
        Hostile::start(always([b"\x00\xff\x80".to_vec(), noise].concat())),
        Hostile::start(always(b"*1\r\n".repeat(100_000))),
        Hostile::start(listen_on),
        Hostile::start(drop),
        Hostile::start(half_replies),
    ];
    servers.extend((0..LARGE_REPLIES).map(|_| Hostile::answering(large_reply)));
    servers
}

/// Returns replies of a server that reports different, long names in each INFO.
fn names_without_end() -> impl Fn(&[String]) -> Vec<u8> + Send + Sync {
    let asked = AtomicUsize::new(0);
    move |words| {
        if words[0] != "info" {
            return quiet(words);
        }
        let name =
            format!("\u{1b}[2J\u{202e}{}{}", asked.fetch_add(1, Ordering::Relaxed), "x".repeat(180_000));
        bulk(INFO.replace("0123456789abcdef", &name).replace("standalone", &name).replace("master", &name))
    }
}

/// Returns replies of a server that is BUSY at random, with a made-up function whose arguments are large.
fn busy_and_silent(seed: u64) -> impl Fn(&[String]) -> Vec<u8> + Send + Sync {
    let rng = Mutex::new(StdRng::seed_from_u64(seed));
    move |words| {
        let choice = rng.lock().unwrap().random_range(0..4);
        match (words[0].as_str(), choice) {
            ("function", 0) => {
                let call = array(&[bulk("FCALL"), bulk("x".repeat(100)), bulk("y".repeat(500_000))]);
                let running = [
                    bulk("name"),
                    bulk("x"),
                    bulk("command"),
                    call,
                    bulk("duration_ms"),
                    b":-1\r\n".to_vec(),
                ];
                array(&[bulk("running_script"), array(&running), bulk("engines"), array(&[])])
            }
            ("ping" | "info" | "slowlog", 0) => b"-BUSY Redis is busy running a script.\r\n".to_vec(),
            ("exec", 0) => b"-EXECABORT Transaction discarded because of: BUSY Redis is busy\r\n".to_vec(),
            ("ping", 1) => b"-NOAUTH no\r\n".to_vec(),
            _ => quiet(words),
        }
    }
}

/// Returns the first 12 MB of a 15 MB reply to FUNCTION STATS.
fn large_reply(words: &[String]) -> Vec<u8> {
    match words[0].as_str() {
        "function" => [b"$15000000\r\n".to_vec(), vec![b'x'; 12 << 20]].concat(),
        "ping" => {
            b"-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.\r\n"
                .to_vec()
        }
        "exec" => b"-EXECABORT Transaction discarded because of: BUSY Redis is busy\r\n".to_vec(),
        _ => quiet(words),
    }
}

/// Sends half of a reply to any command, then closes the connection.
fn half_replies(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    if stream.read(&mut buffer).is_ok_and(|length| length > 0) {
        let _ = stream.write_all(b"$1000\r\nhalf");
    }
}
