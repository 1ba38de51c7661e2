//! A server, the exporter, and scripts that block the one while the other tells.
//!
//! `make demo` runs it. It stays up until Ctrl-C, or for `DEMO_SECONDS` after the last script, and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a demonstration talks to a person, and ends when something goes wrong"
)]
#![allow(clippy::disallowed_methods, reason = "a demonstration goes by the wall clock")]

#[allow(dead_code, unused_imports, unused_macros, reason = "shared with the tests; each uses its part")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Client, is_error, text};
use support::exporter::Exporter;
use support::http;
use support::metrics::Metrics;
use support::scripts::{BUSY_LOOP, busy_fcall, eval, evalsha, load, load_library};
use support::server::{Kind, Server, available};

/// From when on the server answers BUSY. Its default of 5 s would only make the demonstration longer.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// How often the exporter is looked at while a script runs.
const LOOK: Duration = Duration::from_millis(500);

/// The time between two scripts: one right after the other is one long blockage to everybody else.
const BREATH: Duration = Duration::from_secs(1);

/// How long the exporter gets to read the rest: it asks for the server's counters every 5 s.
const PATIENCE: Duration = Duration::from_secs(12);

/// What `/metrics` has to say about the past.
const PAST: [&str; 11] = [
    "redis_script_duration_seconds_count",
    "redis_script_duration_seconds_sum",
    "redis_script_slow_calls_total",
    "redis_script_last_slow_call_timestamp_seconds",
    "redis_script_last_slow_call_duration_seconds",
    "redis_script_info",
    "redis_script_blocked_episodes_total",
    "redis_script_blocked_seconds_total",
    "redis_script_busy_episodes_total",
    "redis_script_errors_total",
    "redis_script_kills_total",
];

/// What ends the demonstration's wait.
enum Event {
    /// Ctrl-C, or a request to terminate.
    Interrupted,
    /// All scripts have run and their account is printed; or it did not go well.
    Told { well: bool },
}

fn main() -> ExitCode {
    let stay = std::env::var("DEMO_SECONDS").ok().map(|seconds| {
        Duration::from_secs_f64(seconds.parse().expect("DEMO_SECONDS is a number of seconds"))
    });
    let Some(kind) = available().into_iter().next() else {
        eprintln!("There is no server to show anything on: `make setup` says what is missing.");
        return ExitCode::FAILURE;
    };

    let (events, inbox) = channel();
    let interrupt = events.clone();
    // Nobody is left to tell only when we are about to end anyway.
    ctrlc::set_handler(move || _ = interrupt.send(Event::Interrupted)).expect("Ctrl-C can be handled");

    let limit = format!("lua-time-limit {}", TIME_LIMIT.as_millis());
    let server = Server::builder(kind).config(limit).start();
    let log = server.log_path();
    let flags = ["--redis.addr", &server.url(), "--redis.log-file", log.to_str().unwrap()];
    let exporter = Exporter::start(&flags);
    println!("server    {kind} at {}, slow log from 10 ms, BUSY after {TIME_LIMIT:?}", server.addr());
    println!("exporter  http://{}/metrics\n", exporter.addr());

    let story = Story { begin: Instant::now(), kind, server: server.addr(), exporter: exporter.addr() };
    thread::spawn(move || {
        let well = catch_unwind(|| story.tell()).is_ok();
        events.send(Event::Told { well })
    });
    match inbox.recv() {
        Ok(Event::Told { well: true }) => (),
        Ok(Event::Interrupted) => {
            // The story is cut off in the middle of a script; that its connection breaks now is no news to anybody.
            std::panic::set_hook(Box::new(|_| ()));
            return ExitCode::SUCCESS;
        }
        Ok(Event::Told { well: false }) | Err(_) => return ExitCode::FAILURE,
    }

    println!("\nmetrics   http://{}/metrics", exporter.addr());
    println!("server    redis-cli -p {}", server.port());
    if let Some(stay) = stay {
        let _ = inbox.recv_timeout(stay);
    } else {
        println!("\nCtrl-C ends both.");
        let _ = inbox.recv();
    }
    ExitCode::SUCCESS
}

/// What happens, and to whom.
struct Story {
    begin: Instant,
    kind: Kind,
    server: SocketAddr,
    exporter: SocketAddr,
}

impl Story {
    fn tell(&self) {
        let mut caller = Client::connect(self.server);
        let sha1 = load(&mut caller, BUSY_LOOP);

        self.say("20 quick calls (EVALSHA): too fast for the slow log");
        for _ in 0..20 {
            caller.call(&evalsha(&sha1, Duration::ZERO));
        }
        self.say("a script of 300 ms (EVALSHA): slower than it should be, but no reason for a page");
        self.run(&mut caller, &evalsha(&sha1, Duration::from_millis(300)));

        self.say("a script of 1.3 s (EVAL): the server answers nobody, and never says why");
        let body = format!("-- settle_invoices\n{BUSY_LOOP}");
        self.run(&mut caller, &eval(&body, Duration::from_millis(1300)));

        let mut blockages = 2;
        if self.kind.has_functions() {
            self.say("a function of 1.1 s (FCALL)");
            load_library(&mut caller);
            self.run(&mut caller, &busy_fcall(Duration::from_millis(1100)));
            blockages += 1;
        }

        self.say("a script that would run for a minute (EVAL)");
        self.runaway(&mut caller);
        self.account(blockages);
    }

    /// Runs a script to its end, and shows what the exporter says in the meantime.
    fn run(&self, caller: &mut Client, command: &[String]) {
        caller.send(command);
        while caller.receive_within(LOOK).is_none() {
            self.look();
        }
        self.say("  … has ended");
        thread::sleep(BREATH);
    }

    /// A script that somebody has to kill.
    fn runaway(&self, caller: &mut Client) {
        let body = format!("-- recount_everything\n{BUSY_LOOP}");
        let begin = Instant::now();
        caller.send(&eval(&body, Duration::from_secs(60)));
        let mut other = Client::connect(self.server);
        let mut refused = 0;
        while begin.elapsed() < TIME_LIMIT + LOOK * 3 {
            assert!(caller.receive_within(LOOK).is_none(), "the script should still run");
            if begin.elapsed() > TIME_LIMIT + LOOK {
                let answer = other.call(&["GET", "cart:42"]);
                if is_error(&answer, "BUSY") && refused == 0 {
                    self.say(&format!("  another client gets: {}", text(&answer)));
                }
                refused += 1;
            }
            self.look();
        }
        self.say("  SCRIPT KILL");
        other.call(&["SCRIPT", "KILL"]);
        self.say(&format!("  … has ended: {}", first_words(&text(&caller.receive()))));
    }

    /// Shows the lines of `/metrics` that tell the present.
    fn look(&self) {
        let metrics = self.scrape();
        self.say("  on /metrics:");
        for line in metrics.text.lines() {
            let state = line.starts_with("redis_script_target_state{") && line.ends_with(" 1");
            let now = ["redis_script_blocked_seconds{", "redis_script_running_info{"];
            if state || now.iter().any(|name| line.starts_with(name)) {
                println!("             {line}");
            }
        }
    }

    /// Shows the lines of `/metrics` that tell the past.
    fn account(&self, blockages: u32) {
        self.say("the account of it all, once the exporter has read the server's counters:");
        let begin = Instant::now();
        let complete = |metrics: &Metrics| {
            metrics.sum("redis_script_blocked_episodes_total", &[]) >= f64::from(blockages)
                && metrics.sum("redis_script_errors_total", &[("error", "BUSY")]) > 0.0
        };
        while !complete(&self.scrape()) && begin.elapsed() < PATIENCE {
            thread::sleep(LOOK);
        }
        let metrics = self.scrape();
        for name in PAST {
            for line in metrics.text.lines() {
                let rest = line.strip_prefix(name);
                if rest.is_some_and(|rest| rest.starts_with('{')) && !line.ends_with(" 0") {
                    println!("  {line}");
                }
            }
        }
    }

    fn scrape(&self) -> Metrics {
        Metrics::parse(&http::get(self.exporter, "/metrics").expect("the exporter answers").body)
    }

    fn say(&self, what: &str) {
        println!("[{:5.1} s] {what}", self.begin.elapsed().as_secs_f64());
    }
}

/// The beginning of an error: the server repeats the script's position at length.
fn first_words(text: &str) -> String {
    text.split_whitespace().take(8).collect::<Vec<_>>().join(" ")
}
