//! From a script to a page, on one machine. Starts a server, the exporter, Prometheus with the shipped rules, Alertmanager
//! with the shipped routes, and a receiver in place of a pager. Then runs scripts that block the server, and prints the
//! effects.
//!
//! `make demo` runs it. It runs until Ctrl-C, or for `DEMO_SECONDS` after the last script, and leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "a demonstration talks to a person, and ends when something goes wrong"
)]
#![allow(clippy::disallowed_methods, reason = "a demonstration goes by the wall clock")]

mod course;
mod picture;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver as Inbox, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;
use tempfile::TempDir;
use test_support::client::{Client, is_error, text};
use test_support::exporter::{self, Exporter};
use test_support::http;
use test_support::metrics::Metrics;
use test_support::monitoring::{self, Alertmanager, Page, Prometheus, Receiver, Status, shipped};
use test_support::scripts::{BUSY_FUNCTION, BUSY_LIBRARY, BUSY_LOOP, evalsha, load};
use test_support::server::{Kind, Server, available};

use crate::course::{Course, Event, Notification};
use crate::picture::picture;

/// Time after which the server replies BUSY. The default of 5 s would only make the demo longer.
const TIME_LIMIT: Duration = Duration::from_secs(4);

/// Time for which the server is BUSY before the script is killed.
const REACTION: Duration = Duration::from_secs(3);

/// Time limit for the last page: the server's count of rejected kills is read every 5 s, once the server responds again.
const PATIENCE: Duration = Duration::from_secs(12);

/// Interval between polls of the exporter and the server.
const LOOK: Duration = Duration::from_millis(50);

/// Time between two scripts. It allows the pages to arrive, and keeps the scripts from being one long blockage.
const BREATH: Duration = Duration::from_secs(4);

/// Duration of a script that will be killed.
const FOR_EVER: Duration = Duration::from_secs(60);

/// A script that compares each order with every other one: fast in tests, endless in production.
const RECOUNT: &str = "\
local orders, equal = redis.call('LRANGE', KEYS[1], 0, -1), 0
for i = 1, #orders do
  for j = i + 1, #orders do
    if orders[i] == orders[j] then equal = equal + 1 end
  end
end
return equal
";

/// Number of orders on the demo's server.
const ORDERS: usize = 200_000;

/// Maximum length of a line of a page's text, in characters.
const WIDTH: usize = 80;

/// Names of scripts that run for a given time. Each has a file for `--script.dir`.
const SCRIPTS: [&str; 6] = ["rate_limit", "take_lock", "pop_jobs", "sum_cart", "settle_invoices", "pay_out"];

/// Name of the function, in the library `reports`.
const FUNCTION: &str = "monthly_report";

/// Events that end the demo.
#[derive(PartialEq)]
enum End {
    /// Ctrl-C, or a request to terminate.
    Interrupted,
    /// All scripts have run, or the demo has failed.
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

    let (ends, inbox) = channel();
    let interrupt = ends.clone();
    // Sending fails only if the demo is about to end anyway.
    ctrlc::set_handler(move || _ = interrupt.send(End::Interrupted)).expect("Ctrl-C can be handled");

    let server = Server::builder(kind).config(format!("lua-time-limit {}", TIME_LIMIT.as_millis())).start();
    let (log, sources) = (server.log_path(), sources());
    let exporter = Exporter::start(&[
        "--redis.addr",
        &server.url(),
        "--redis.log-file",
        log.to_str().unwrap(),
        "--script.dir",
        sources.path().to_str().unwrap(),
        "--web.show-source",
    ]);
    let paging = monitoring::installed().then(|| Paging::start(&exporter));

    introduce(&server, &exporter, paging.as_ref());
    if let Some(paging) = &paging
        && interrupted_before_ready(&paging.prometheus, &inbox)
    {
        return ExitCode::SUCCESS;
    }

    let story = Story {
        clock: Clock::default(),
        kind,
        server: server.addr(),
        exporter: exporter.addr(),
        receiver: paging.as_ref().map(|paging| Arc::clone(&paging.receiver)),
    };
    story.watch();
    let clock = story.clock.clone();
    thread::spawn(move || {
        let well = catch_unwind(AssertUnwindSafe(|| story.tell())).is_ok();
        ends.send(End::Told { well })
    });
    match inbox.recv() {
        Ok(End::Told { well: true }) => (),
        Ok(End::Interrupted) => {
            // The demo is interrupted in the middle of a script, so the panic from its broken connection is not reported.
            std::panic::set_hook(Box::new(|_| ()));
            return ExitCode::SUCCESS;
        }
        Ok(End::Told { well: false }) | Err(_) => return ExitCode::FAILURE,
    }

    chapter("What happened: seconds after each script began to block the server");
    print!("{}", picture(&clock.course.lock().unwrap().told().collect::<Vec<_>>()));
    println!();
    introduce(&server, &exporter, paging.as_ref());
    if paging.is_some() {
        println!(
            "RedisScriptRunning is resolved when the server answers again; the other alerts stay for some minutes."
        );
    }
    println!(
        "The status page shows all of this: the incidents, each script with its source, and what lint reports about it."
    );
    if let Some(stay) = stay {
        let _ = inbox.recv_timeout(stay);
    } else {
        println!("Block the server yourself:  redis-cli -p {} EVAL 'for i = 1, 3e8 do end' 0", server.port());
        println!("Ctrl-C ends everything.");
        let _ = inbox.recv();
    }
    ExitCode::SUCCESS
}

/// Programs that turn metrics into pages.
struct Paging {
    prometheus: Prometheus,
    alertmanager: Alertmanager,
    receiver: Arc<Receiver>,
}

impl Paging {
    fn start(exporter: &Exporter) -> Self {
        let receiver = Receiver::start();
        let alertmanager = Alertmanager::start(&shipped("alerts/alertmanager.example.yml"), &receiver);
        let prometheus = Prometheus::builder()
            .scrape("redis-script-exporter", exporter.addr())
            .rules(shipped("alerts/redis-script.rules.yml"))
            .alertmanager(&alertmanager)
            .start();
        Self { prometheus, alertmanager, receiver: Arc::new(receiver) }
    }
}

/// Writes the scripts to a directory for `--script.dir`: running scripts are then shown with the names of these files.
fn sources() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for name in SCRIPTS {
        write(folder.path(), name, &named(name));
    }
    write(folder.path(), "recount_everything", RECOUNT);
    write(folder.path(), "reports", &library());
    folder
}

fn write(folder: &Path, name: &str, source: &str) {
    std::fs::write(folder.join(format!("{name}.lua")), source).expect("a temporary folder is writable");
}

/// Prints the programs involved and their addresses.
fn introduce(server: &Server, exporter: &Exporter, paging: Option<&Paging>) {
    let row = |who: &str, what: String| println!("{} {what}", bold(&format!("{who:<13}")));
    row("status page", bold(&format!("http://{}/", exporter.addr())));
    row(
        &server.kind().to_string(),
        format!("redis-cli -p {}   (BUSY after {} s)", server.port(), TIME_LIMIT.as_secs()),
    );
    row("metrics", format!("http://{}/metrics", exporter.addr()));
    if let Some(paging) = paging {
        let prometheus = paging.prometheus.addr();
        // Debian's Prometheus has only the old page.
        let found = |path: &&str| http::get(prometheus, path).is_ok_and(|answer| answer.status == 200);
        let path = ["/alerts", "/classic/alerts"].into_iter().find(found).unwrap_or("/");
        row("Prometheus", format!("http://{prometheus}{path}"));
        let alertmanager = paging.alertmanager.addr();
        row("Alertmanager", format!("http://{alertmanager}/"));
        row("", format!("or: amtool --alertmanager.url=http://{alertmanager} alert"));
    } else {
        row("no pages", "Prometheus or Alertmanager is not installed here: `make setup`".to_owned());
    }
    println!();
}

/// Waits until Prometheus has scraped and evaluated once. Returns true if the demo was interrupted before that.
fn interrupted_before_ready(prometheus: &Prometheus, inbox: &Inbox<End>) -> bool {
    println!("Prometheus takes some 10 s to find its targets …");
    while prometheus.readiness().is_err() {
        if inbox.recv_timeout(LOOK) == Ok(End::Interrupted) {
            return true;
        }
    }
    false
}

/// Times of all events.
#[derive(Clone)]
struct Clock {
    begin: Instant,
    course: Arc<Mutex<Course>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { begin: Instant::now(), course: Arc::default() }
    }
}

impl Clock {
    /// Prints one line: time, source and event.
    fn say(&self, who: &str, what: &str) {
        self.say_at(Instant::now(), who, what);
    }

    fn say_at(&self, at: Instant, who: &str, what: &str) {
        println!("{:6.1} s  {who:<9} {what}", at.duration_since(self.begin).as_secs_f64());
    }

    /// Changes the course at this time.
    fn note<T>(&self, at: Instant, change: impl FnOnce(&mut Course, Duration) -> T) -> T {
        change(&mut self.course.lock().unwrap(), at.duration_since(self.begin))
    }

    fn note_now(&self, event: Event) {
        self.note(Instant::now(), |course, at| course.note(at, event));
    }
}

/// Runs the demo.
struct Story {
    clock: Clock,
    kind: Kind,
    server: SocketAddr,
    exporter: SocketAddr,
    receiver: Option<Arc<Receiver>>,
}

impl Story {
    /// Prints in the background what the exporter reports and which pages arrive.
    fn watch(&self) {
        let (clock, exporter) = (self.clock.clone(), self.exporter);
        thread::spawn(move || watch_exporter(&clock, exporter));
        if let Some(receiver) = self.receiver.clone() {
            let clock = self.clock.clone();
            thread::spawn(move || watch_pages(&clock, &receiver));
        }
    }

    fn tell(&self) {
        let mut caller = Client::connect(self.server);

        chapter("Healthy scripts: 100 calls of 0, 15 and 40 ms");
        for (name, time, calls) in [("rate_limit", 0, 70), ("take_lock", 15, 20), ("pop_jobs", 40, 10)] {
            let sha1 = load(&mut caller, &named(name));
            for _ in 0..calls {
                caller.call(&evalsha(&sha1, Duration::from_millis(time)));
            }
        }
        self.say("nobody notices anything");

        chapter("A creeping script: no page yet, but the histogram on /metrics shows it");
        let sha1 = load(&mut caller, &named("sum_cart"));
        for time in [300, 500, 700, 900] {
            self.say(&format!("sum_cart ({}) takes {time} ms", &sha1[..12]));
            caller.call(&evalsha(&sha1, Duration::from_millis(time)));
            thread::sleep(BREATH / 8);
        }

        chapter("A script of 3 s: the server answers nobody, and never says why");
        self.run(&mut caller, "settle_invoices", Duration::from_secs(3));

        chapter("A rehearsal: the next script on a private server, at growing sizes of its data");
        self.rehearse();

        chapter("A runaway script: the server goes BUSY, until somebody kills it");
        let numbers: Vec<String> = (1..=ORDERS).map(|number| number.to_string()).collect();
        for chunk in numbers.chunks(1000) {
            let words = ["RPUSH", "orders"].map(str::to_owned);
            caller.call(&words.iter().chain(chunk).collect::<Vec<_>>());
        }
        let sha1 = load(&mut caller, RECOUNT);
        let command = ["EVALSHA", &sha1, "1", "orders"].map(str::to_owned);
        self.block(&mut caller, "recount_everything", &command, "SCRIPT");

        if self.kind.has_functions() {
            chapter("A runaway function: it needs FUNCTION KILL instead");
            let loaded = caller.call(&["FUNCTION", "LOAD", &library()]);
            assert!(!matches!(loaded, Value::ServerError(_)), "FUNCTION LOAD: {loaded:?}");
            let milliseconds = FOR_EVER.as_millis().to_string();
            let command = ["FCALL", FUNCTION, "0", &milliseconds].map(str::to_owned);
            self.block(&mut caller, FUNCTION, &command, "FUNCTION");
        }

        chapter("A script that has written: it can't be killed, only waited for");
        self.run(&mut caller, "pay_out", TIME_LIMIT + REACTION * 2);
        let begin = Instant::now();
        let told = |page: &Page| page.alertname == "RedisScriptUnkillable";
        while let Some(receiver) = &self.receiver
            && !receiver.pages().iter().any(told)
            && begin.elapsed() < PATIENCE
        {
            thread::sleep(LOOK);
        }
    }

    /// Loads a script and runs it until it ends.
    fn run(&self, caller: &mut Client, name: &str, time: Duration) {
        let sha1 = load(caller, &named(name));
        self.block(caller, name, &evalsha(&sha1, time), "SCRIPT");
    }

    /// Rehearses the script that will block the server next, and prints the result without the table.
    fn rehearse(&self) {
        let folder = TempDir::new().expect("a temporary folder");
        write(folder.path(), "recount_everything", RECOUNT);
        let script = folder.path().join("recount_everything.lua");
        let mut command = Command::new(exporter::binary());
        command.args(["rehearse", "--key", "orders=list", "--time-budget", "10s", "--expect-size"]);
        command.arg(ORDERS.to_string()).arg("--server").arg(self.kind.binary().unwrap()).arg(&script);
        let output = command.output().expect("the exporter can be run");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let line = line.trim();
            if ["1 s:", "BUSY (5 s):", "--expect-size"].iter().any(|begin| line.starts_with(begin)) {
                self.clock.say("rehearse", line);
            } else if let Some((_, verdict)) = line.split_once(".lua: ") {
                self.clock.say("rehearse", &format!("recount_everything {verdict}"));
            }
        }
    }

    /// Runs a script or function until it ends or is killed. In the meantime, another client shows the effect on other
    /// clients.
    fn block(&self, caller: &mut Client, name: &str, command: &[String], kind: &str) {
        let mut other = Client::connect(self.server);
        self.clock.note(Instant::now(), |course, at| course.begin(at, name));
        self.say(&format!("{} {name} begins", command[0]));
        caller.send(command);
        other.send(&["GET", "cart:42"]);
        let mut busy_since = None;
        let mut kill_sent = false;
        let end = loop {
            if let Some(end) = caller.receive_within(LOOK) {
                break end;
            }
            match busy_since {
                None => {
                    if let Some(answer) = other.receive_within(LOOK)
                        && is_error(&answer, "BUSY")
                    {
                        self.clock.note_now(Event::Busy);
                        self.say(&format!("another client gets: {}", first_sentence(&text(&answer))));
                        busy_since = Some(Instant::now());
                    }
                }
                Some(since) if since.elapsed() > REACTION && !kill_sent => {
                    kill_sent = true;
                    let answer = text(&other.call(&[kind, "KILL"]));
                    if answer == "OK" {
                        self.clock.note_now(Event::Killed);
                    }
                    self.say(&format!("{kind} KILL: {}", first_sentence(&answer)));
                }
                Some(_) => {}
            }
        };
        self.clock.note(Instant::now(), Course::end);
        self.say(&format!("it ended: {}", first_sentence(&outcome(&end))));
        thread::sleep(BREATH);
    }

    fn say(&self, what: &str) {
        self.clock.say("redis", what);
    }
}

/// Announces what comes next.
fn chapter(title: &str) {
    println!("\n{}", bold(&format!("── {title}")));
}

/// Returns a script with this name in its first line, which makes its SHA1 unique. `pay_out` writes before it waits.
fn named(name: &str) -> String {
    let write = if name == "pay_out" { "redis.call('SET', 'invoice:42', 'paid')\n" } else { "" };
    format!("-- {name}\n{write}{BUSY_LOOP}")
}

/// Returns a library with the function [`FUNCTION`], which runs for a given time.
fn library() -> String {
    BUSY_LIBRARY.replace("name=busy", "name=reports").replace(BUSY_FUNCTION, FUNCTION)
}

/// Prints each change of the state reported by the exporter, for as long as the exporter responds.
fn watch_exporter(clock: &Clock, exporter: SocketAddr) {
    let mut last = "ok".to_owned();
    while let Ok(answer) = http::get(exporter, "/metrics") {
        let metrics = Metrics::parse(&answer.body);
        let states = metrics.series("redis_script_target_state");
        let mut now =
            states.iter().find(|state| state.value > 0.0).map_or("", |state| state.label("state")).to_owned();
        for running in metrics.series("redis_script_running_info") {
            write!(now, ", running: {} {}", running.label("kind"), running.label("name")).unwrap();
        }
        let blocked = metrics.sum("redis_script_blocked_seconds", &[]);
        clock.note(Instant::now(), |course, at| course.observe(at, Duration::from_secs_f64(blocked)));
        if now != last {
            let how_long = if blocked > 0.0 { format!("  (for {blocked:.1} s)") } else { String::new() };
            clock.say("exporter", &format!("{now}{how_long}"));
            last = now;
        }
        thread::sleep(LOOK);
    }
}

/// Prints each page once; a notification repeats the other alerts of its group.
fn watch_pages(clock: &Clock, receiver: &Receiver) {
    let mut told = BTreeSet::new();
    let mut seen = 0;
    loop {
        for page in receiver.pages().into_iter().skip(seen) {
            seen += 1;
            let firing = page.status == Status::Firing;
            if told.insert((page.labels.clone(), page.starts_at.clone(), firing)) {
                tell_page(clock, &page);
            }
        }
        thread::sleep(LOOK);
    }
}

fn tell_page(clock: &Clock, page: &Page) {
    let is_firing = page.status == Status::Firing;
    let notification =
        Notification { alertname: &page.alertname, is_firing, is_critical: page.severity == "critical" };
    let since =
        clock.note(page.received_at, |course, at| course.notified(at, notification)).unwrap_or_default();
    let name = format!("{:<8} {}", page.severity, page.alertname);
    if !is_firing {
        clock.say_at(
            page.received_at,
            &paint("32", "resolved "),
            &paint("32", &format!("{name:<48} {since}")),
        );
        return;
    }
    let colour = if page.severity == "critical" { "1;31" } else { "33" };
    clock.say_at(
        page.received_at,
        &paint(colour, "PAGE     "),
        &paint(colour, &format!("{name:<48} {since}")),
    );
    for line in wrapped(page.annotations.get("description").map_or("", String::as_str)) {
        println!("{:20}{line}", "");
    }
}

/// Describes the reply of a script, or returns its error.
fn outcome(answer: &Value) -> String {
    if matches!(answer, Value::Int(_)) { "with an answer".to_owned() } else { text(answer) }
}

/// Returns the first sentence of a reply, because error replies are long.
fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first.trim_end_matches('.'))
}

/// Wraps a text to lines of at most [`WIDTH`] characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines[lines.len() - 1].len() + word.len() >= WIDTH {
            lines.push(String::new());
        }
        let line = lines.last_mut().unwrap();
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(word);
    }
    lines
}

fn bold(text: &str) -> String {
    paint("1", text)
}

/// Colours a text if the output is a terminal.
fn paint(code: &str, text: &str) -> String {
    static COLOURS: LazyLock<bool> =
        LazyLock::new(|| std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    if *COLOURS { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
