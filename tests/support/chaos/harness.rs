//! One monitored address: its servers, their faults, and the accounting of written entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redis::Value;

use super::proxy::{Mode, Proxy};
use super::watch::{Page, ReportedCounts, SharedState};
use crate::client::{Client, is_error, text};
use crate::server::{Kind, Server};
use crate::wait::eventually;

/// Maximum time until the exporter has accounted for everything; includes several restarts that take seconds each.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// Interval at which the proxy switches between two servers that both have unread entries.
const ROTATION: Duration = Duration::from_millis(1500);

/// Uptime above which the exporter does not treat a server as restarted.
const MIN_UPTIME: Duration = Duration::from_secs(5);

/// Time without a change after which the counts of a target are final, if the exporter runs without interruption. Numbers
/// are saved within 2 s.
const FINAL_AFTER: Duration = Duration::from_secs(4);

/// Default `slowlog-max-len` of the servers.
const MAX_LEN: u64 = 128;

/// A short script, called by EVAL and by EVALSHA.
const SCRIPT: &str = "return 1";

/// A script that runs until it is killed.
const RUNAWAY: &str = "while true do end";

/// A function that returns immediately, and one that runs until it is killed.
const LIBRARY: &str = "\
#!lua name=chaos
redis.register_function{function_name='quick', callback=function() return 1 end, flags={'no-writes'}}
redis.register_function{function_name='runaway', callback=function() while true do end end, flags={'no-writes'}}
";

/// Counts of one target or of all targets.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Entries written while the exporter monitored the server, except those that were unread when their server ended.
    pub written: u64,
    pub counted: u64,
    pub lost: u64,
    /// Counted entries that are script calls.
    pub scripts: u64,
    /// Entries that were unread when their server ended.
    pub unread: u64,
    /// Lost entries by cause.
    pub lost_by: BTreeMap<&'static str, u64>,
}

impl Totals {
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.counted += other.counted;
        self.lost += other.lost;
        self.scripts += other.scripts;
        self.unread += other.unread;
        for (cause, count) in other.lost_by {
            *self.lost_by.entry(cause).or_default() += count;
        }
    }
}

/// One server and its current run.
struct Backend {
    server: Server,
    /// Direct connection, for generating load and for control commands.
    client: Client,
    sha1: String,
    /// Name of the run, used as the client name of its connections.
    run: String,
    runs: u32,
    started_at: Instant,
    /// First id that must be accounted for; `None` until the run is monitored.
    base: Option<u64>,
    /// Next id as of the last read.
    next: u64,
    /// True if entries may have been written since then.
    dirty: bool,
    /// Current `slowlog-max-len`.
    max_len: u64,
}

/// A monitored address with its servers.
pub struct TargetHarness<'a> {
    shared: &'a SharedState,
    name: String,
    backends: Vec<Backend>,
    proxy: Option<Proxy>,
    active: usize,
    rng: StdRng,
    kill_exporter: Sender<Duration>,
    /// Entries of ended runs that must be accounted for.
    ended: u64,
    /// Entries that were unread when their server ended.
    unread: u64,
    /// Number of script calls made; an upper bound on the counted ones.
    calls: u64,
    /// Events since the last settlement that can cause losses.
    reasons: BTreeSet<&'static str>,
    /// Entries that were unread when their server ended since the last settlement. All of them may have been counted as
    /// lost before.
    maybe_unread: u64,
    lost_before: u64,
    lost_by: BTreeMap<&'static str, u64>,
}

impl Backend {
    fn start(kind: Kind) -> Self {
        let server = Server::builder(kind)
            .config("slowlog-log-slower-than 0")
            .config(format!("slowlog-max-len {MAX_LEN}"))
            .config("lua-time-limit 100")
            .config("repl-diskless-sync-delay 0")
            .start();
        let client = server.client();
        let mut backend = Self {
            server,
            client,
            sha1: String::new(),
            run: String::new(),
            runs: 0,
            started_at: Instant::now(),
            base: None,
            next: 0,
            dirty: true,
            max_len: MAX_LEN,
        };
        backend.connect();
        backend
    }

    /// Begins a run: connects with the name of the run and loads the scripts.
    fn connect(&mut self) {
        self.runs += 1;
        self.run = format!("run-{}-{}", self.server.port(), self.runs);
        self.client = self.server.client();
        self.call(&["CLIENT", "SETNAME", &self.run.clone()]);
        self.load();
    }

    fn load(&mut self) {
        self.sha1 = text(&self.client.call(&["SCRIPT", "LOAD", SCRIPT]));
        if self.server.kind().has_functions() {
            self.client.call(&["FUNCTION", "LOAD", "REPLACE", LIBRARY]);
        }
    }

    /// Runs a command that must not fail.
    #[track_caller]
    fn call(&mut self, args: &[&str]) -> Value {
        let reply = self.client.call(args);
        assert!(!matches!(reply, Value::ServerError(_)), "{args:?}: {reply:?}");
        reply
    }

    fn config(&mut self, name: &str, value: &str) {
        self.call(&["CONFIG", "SET", name, value]);
    }

    fn enable_log(&mut self) {
        self.dirty = true;
        self.config("slowlog-log-slower-than", "0");
    }

    /// Turns the slow log off. The newest entry is our own, so the next id is known.
    fn disable_log(&mut self) {
        if !self.dirty {
            return;
        }
        if self.max_len == 0 {
            self.set_max_len(MAX_LEN);
        }
        self.config("slowlog-log-slower-than", "0");
        self.call(&["CLIENT", "GETNAME"]);
        self.config("slowlog-log-slower-than", "-1");
        let Value::Array(entries) = self.call(&["SLOWLOG", "GET", "1"]) else { panic!("a list") };
        let Some(Value::Array(fields)) = entries.first() else { panic!("an entry: {entries:?}") };
        let Some(Value::Int(id)) = fields.first() else { panic!("an id: {fields:?}") };
        self.next = u64::try_from(*id).unwrap() + 1;
        self.dirty = false;
    }

    fn set_max_len(&mut self, entries: u64) {
        self.config("slowlog-max-len", &entries.to_string());
        self.max_len = entries;
    }

    fn length(&mut self) -> u64 {
        let Value::Int(length) = self.call(&["SLOWLOG", "LEN"]) else { panic!("a number") };
        u64::try_from(length).unwrap()
    }

    /// Number of SLOWLOG calls, as counted by the server.
    fn slowlog_calls(&mut self) -> u64 {
        let info = self.client.info(&["commandstats"]);
        let calls = |line: &String| line.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok();
        ["cmdstat_slowlog|get", "cmdstat_slowlog"]
            .iter()
            .find_map(|name| calls(info.get(*name)?))
            .unwrap_or_default()
    }

    /// Waits until the server answers PING with PONG.
    fn wait_until_ready(&mut self) {
        let client = &mut self.client;
        eventually(Duration::from_secs(30), "a server to be ready", || {
            (text(&client.call(&["PING"])) == "PONG").then_some(())
        });
    }
}

impl<'a> TargetHarness<'a> {
    pub fn new(
        shared: &'a SharedState,
        kind: Kind,
        servers: usize,
        name: &str,
        seed: u64,
        kill_exporter: Sender<Duration>,
    ) -> Self {
        let backends: Vec<Backend> = (0..servers).map(|_| Backend::start(kind)).collect();
        let proxy = (servers > 1).then(|| Proxy::start(backends[0].server.addr()));
        Self {
            shared,
            name: format!("{name} ({kind})"),
            backends,
            proxy,
            active: 0,
            rng: StdRng::seed_from_u64(seed),
            kill_exporter,
            ended: 0,
            unread: 0,
            calls: 0,
            reasons: BTreeSet::new(),
            maybe_unread: 0,
            lost_before: 0,
            lost_by: BTreeMap::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Value of the label `target`.
    fn target(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.backends[0].server.addr(), Proxy::addr).to_string()
    }

    /// Value for `--redis.addr`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.target())
    }

    fn event(&self, text: &str) {
        self.shared.event(&self.name, text);
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    fn current(&mut self) -> &mut Backend {
        &mut self.backends[self.active]
    }

    /// Injects faults for `time`, then settles the account.
    pub fn act(&mut self, time: Duration) -> Totals {
        for index in 0..self.backends.len() {
            self.first_contact(index);
        }
        let mut since_settled = 0;
        while self.shared.elapsed() < time && !self.shared.is_stopped() {
            self.step();
            since_settled += 1;
            if since_settled >= self.rng.random_range(3..12) {
                self.settle();
                since_settled = 0;
            }
        }
        if self.shared.is_stopped() {
            return Totals::default();
        }
        let reported = self.settle();
        for backend in &self.backends {
            self.shared.run_ended(&backend.run, backend.base.unwrap_or_default()..backend.next);
        }
        Totals {
            written: self.expected(),
            counted: reported.scripts + reported.others,
            lost: reported.lost,
            scripts: reported.scripts,
            unread: self.unread,
            lost_by: self.lost_by.clone(),
        }
    }

    /// Number of entries to be accounted for; exact while all slow logs are off.
    fn expected(&self) -> u64 {
        let present = |backend: &Backend| backend.base.map_or(0, |base| backend.next - base);
        self.ended + self.backends.iter().map(present).sum::<u64>()
    }

    fn page(&self, since: Instant) -> Option<Page> {
        assert!(!self.shared.is_stopped(), "another part failed");
        self.shared.page_after(since, Duration::from_millis(200))
    }

    /// Monitors a server for the first time: its slow log is a baseline. The exporter is not restarted in the meantime,
    /// because entries written between an unsaved first read and the next one are not counted.
    fn first_contact(&mut self, index: usize) {
        if self.backends.len() > 1 && self.backends.iter().any(|backend| backend.base.is_some()) {
            while self.backends[index].started_at.elapsed() < MIN_UPTIME && !self.shared.is_stopped() {
                self.some_calls();
                thread::sleep(Duration::from_millis(50));
            }
            self.settle_and_stop(false);
        }
        let shared = self.shared;
        let _no_restart = shared.restart_lock.read().unwrap();
        self.event(&format!("first contact with server {index}"));
        let backend = &mut self.backends[index];
        backend.disable_log();
        backend.base = Some(backend.next);
        let before = backend.slowlog_calls();
        self.switch(index);
        let begun = Instant::now();
        // The second read begins only after the first one has been processed.
        while self.backends[index].slowlog_calls() < before + 2 {
            assert!(begun.elapsed() < SETTLE_LIMIT && !self.shared.is_stopped(), "the slow log is not read");
            thread::sleep(Duration::from_millis(20));
        }
        self.backends[index].enable_log();
        self.settle_on(false);
    }

    /// Forwards the address to another server.
    fn switch(&mut self, index: usize) {
        self.active = index;
        if let Some(proxy) = &self.proxy {
            proxy.switch(self.backends[index].server.addr());
        }
    }

    fn settle(&mut self) -> ReportedCounts {
        self.settle_on(true)
    }

    /// Waits until the exporter has accounted for exactly the entries written. On return, the slow log of the active server
    /// is enabled.
    fn settle_on(&mut self, rotate: bool) -> ReportedCounts {
        let mut most_lost = self.maybe_unread;
        for backend in &mut self.backends {
            let (dirty, before) = (backend.dirty, backend.next.max(backend.base.unwrap_or_default()));
            backend.disable_log();
            if dirty {
                let written = backend.next.saturating_sub(before);
                most_lost += written.saturating_sub(backend.length());
            }
        }
        let rotate = rotate && self.backends.len() > 1;
        let expected = self.expected();
        let target = self.target();
        let begun = Instant::now();
        let mut rotated = begun;
        let reported = loop {
            if let Some(page) = self.page(begun) {
                let reported = page.counts(&target);
                if reported.total() == expected {
                    break reported;
                }
                let problem = if reported.total() > expected {
                    "more entries were counted than written"
                } else if begun.elapsed() > SETTLE_LIMIT {
                    "fewer entries were counted than written"
                } else {
                    ""
                };
                assert!(problem.is_empty(), "{problem}: {reported:?} = {}, not {expected}", reported.total());
            }
            assert!(begun.elapsed() < SETTLE_LIMIT * 2, "no response from /metrics");
            if rotate && rotated.elapsed() > ROTATION {
                rotated = Instant::now();
                self.switch(1 - self.active);
            }
            thread::sleep(Duration::from_millis(10));
        };
        let lost = reported.lost - self.lost_before;
        let reasons = std::mem::take(&mut self.reasons);
        assert!(lost <= most_lost, "{lost} were lost, and at most {most_lost} overwritten; {reasons:?}");
        assert!(reported.scripts <= self.calls, "{reported:?}, of {} calls", self.calls);
        if lost > 0 {
            let reason =
                ["reset", "resize", "burst", "death"].into_iter().find(|reason| reasons.contains(reason));
            *self.lost_by.entry(reason.unwrap_or("not_read_in_time")).or_default() += lost;
        }
        self.event(&format!("settled at {expected}, {lost} lost {reasons:?}"));
        self.lost_before = reported.lost;
        self.maybe_unread = 0;
        self.current().enable_log();
        reported
    }

    /// Runs a random action.
    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..23 => self.some_calls(),
            23..30 => self.transaction(),
            30..36 => self.burst(),
            36..41 => self.stream(),
            41..43 => self.calls_then_kill(),
            43..46 => self.reset(),
            46..48 => self.reset_statistics(),
            48..52 => self.resize(),
            52..55 => self.off_and_on(),
            55..57 => self.reload(),
            57..60 => self.busy(),
            60..63 => self.kill_clients(),
            63..66 => self.pause_server(),
            66..68 => self.output_limit(),
            68..71 => self.restart(),
            71..74 => self.kill_with_unread_entries(),
            74..77 => thread::sleep(self.millis(10..1500)),
            _ if self.proxy.is_some() => match self.rng.random_range(0..23) {
                0..12 => self.connection_fault(),
                12..17 => self.switch_repeatedly(),
                17..20 => self.role_change(),
                20..22 => self.fail_over(),
                _ => self.unseen_restart_of_the_other(),
            },
            _ => self.some_calls(),
        }
        let pause = self.millis(0..120);
        thread::sleep(pause);
    }

    /// Calls a script once.
    fn call_script(&mut self) {
        self.calls += 1;
        let functions = self.current().server.kind().has_functions();
        let choice = self.rng.random_range(0..if functions { 3 } else { 2 });
        let backend = self.current();
        let sha1 = backend.sha1.clone();
        let args: &[&str] = match choice {
            0 => &["EVAL", SCRIPT, "0"],
            1 => &["EVALSHA", &sha1, "0"],
            _ => &["FCALL", "quick", "0"],
        };
        let reply = backend.client.call(args);
        if matches!(reply, Value::ServerError(_)) {
            // A full synchronization or a reload has removed it. The failed call is logged like any other.
            assert!(
                is_error(&reply, "NOSCRIPT") || text(&reply).contains("not found"),
                "{args:?}: {reply:?}"
            );
            backend.load();
        }
    }

    fn some_calls(&mut self) {
        for _ in 0..self.rng.random_range(1..12) {
            if self.rng.random_bool(0.7) {
                self.call_script();
            } else {
                self.current().client.call(&["SET", "key", "value"]);
            }
            if self.rng.random_bool(0.2) {
                let pause = self.millis(0..20);
                thread::sleep(pause);
            }
        }
    }

    /// Runs `count` calls in one transaction, so that the exporter cannot read between them.
    fn calls_at_once(&mut self, count: u64) {
        self.calls += count;
        let client = &mut self.current().client;
        client.send(&["MULTI"]);
        for _ in 0..count {
            client.send(&["EVAL", SCRIPT, "0"]);
        }
        client.send(&["EXEC"]);
        for _ in 0..=count {
            assert!(!matches!(client.receive(), Value::ServerError(_)));
        }
        assert!(matches!(client.receive(), Value::Array(replies) if replies.len() as u64 == count));
    }

    fn transaction(&mut self) {
        let count = self.rng.random_range(1..20);
        self.calls_at_once(count);
    }

    fn burst(&mut self) {
        let count = self.rng.random_range(MAX_LEN..MAX_LEN * 12);
        self.event(&format!("a burst of {count}"));
        self.shared.fault("burst_over_the_slow_log");
        self.reasons.insert("burst");
        self.calls_at_once(count);
    }

    /// Pipelines calls.
    fn stream(&mut self) {
        let count = self.rng.random_range(20..400);
        self.event(&format!("a stream of {count}"));
        self.reasons.insert("burst");
        self.calls += count;
        let client = &mut self.current().client;
        (0..count).for_each(|_| client.send(&["EVAL", SCRIPT, "0"]));
        (0..count).for_each(|_| assert_eq!(client.receive(), Value::Int(1)));
    }

    /// Makes calls and kills the exporter within milliseconds.
    fn calls_then_kill(&mut self) {
        let delay = self.millis(0..40);
        self.event(&format!("calls, and the exporter is to be killed {delay:?} later"));
        self.some_calls();
        // Fails only at the end of the test.
        let _ = self.kill_exporter.send(delay);
    }

    fn reset(&mut self) {
        self.event("SLOWLOG RESET");
        self.shared.fault("slowlog_reset");
        self.reasons.insert("reset");
        self.some_calls();
        self.current().call(&["SLOWLOG", "RESET"]);
    }

    fn reset_statistics(&mut self) {
        self.event("CONFIG RESETSTAT");
        self.shared.fault("config_resetstat");
        self.current().call(&["CONFIG", "RESETSTAT"]);
    }

    fn resize(&mut self) {
        let entries = [0, 1, 16, 10_000][self.rng.random_range(0..4)];
        self.event(&format!("slowlog-max-len {entries} and back"));
        self.shared.fault("slowlog_max_len");
        self.reasons.insert("resize");
        self.current().set_max_len(entries);
        for _ in 0..self.rng.random_range(1..4) {
            self.some_calls();
            let pause = self.millis(0..300);
            thread::sleep(pause);
        }
        if entries == 10_000 {
            let count = self.rng.random_range(100..3000);
            self.calls_at_once(count);
        }
        self.current().set_max_len(MAX_LEN);
    }

    fn off_and_on(&mut self) {
        self.event("the slow log is off for a while");
        self.shared.fault("slowlog_off_and_on");
        self.current().config("slowlog-log-slower-than", "-1");
        self.some_calls();
        let pause = self.millis(0..400);
        thread::sleep(pause);
        self.current().enable_log();
    }

    fn reload(&mut self) {
        self.event("DEBUG RELOAD");
        self.shared.fault("debug_reload");
        self.current().call(&["DEBUG", "RELOAD"]);
        self.current().wait_until_ready();
    }

    /// Runs a script that blocks the server until it is BUSY, and kills the script.
    fn busy(&mut self) {
        let function = self.current().server.kind().has_functions() && self.rng.random_bool(0.5);
        self.event(&format!("a runaway {}", if function { "function" } else { "script" }));
        self.shared.fault("runaway_script");
        self.calls += 1;
        let pause = self.millis(0..1000);
        let backend = self.current();
        if function {
            backend.load();
        }
        let mut caller = backend.server.client();
        caller.call(&["CLIENT", "SETNAME", &backend.run]);
        caller.send(if function { &["FCALL", "runaway", "0"] } else { &["EVAL", RUNAWAY, "0"] });
        eventually(Duration::from_secs(30), "BUSY", || {
            is_error(&backend.client.call(&["PING"]), "BUSY").then_some(())
        });
        thread::sleep(pause);
        backend.call(if function { &["FUNCTION", "KILL"] } else { &["SCRIPT", "KILL"] });
        assert!(matches!(caller.receive(), Value::ServerError(_)));
    }

    fn kill_clients(&mut self) {
        self.some_calls();
        if self.rng.random_bool(0.5) {
            self.event("all clients are killed");
            self.shared.fault("all_clients_killed");
            self.current().call(&["CLIENT", "KILL", "TYPE", "normal"]);
            return;
        }
        self.event("the exporter's connections are killed");
        self.shared.fault("exporter_client_killed");
        let list = text(&self.current().call(&["CLIENT", "LIST"]));
        for line in list.lines().filter(|line| line.contains("name=redis-script-exporter")) {
            let id = line.split(' ').find_map(|part| part.strip_prefix("id=")).expect("an id");
            // It may have disconnected.
            self.current().client.call(&["CLIENT", "KILL", "ID", id]);
        }
    }

    fn pause_server(&mut self) {
        let time = self.millis(50..1500);
        self.event(&format!("the server is stopped for {time:?}"));
        self.shared.fault("server_sigstop");
        self.some_calls();
        let server = &mut self.current().server;
        server.pause();
        thread::sleep(time);
        server.resume();
    }

    /// Sets an output-buffer limit that disconnects clients with replies over 4 KiB.
    fn output_limit(&mut self) {
        self.event("a small limit on output buffers");
        self.shared.fault("output_buffer_limit");
        let count = self.rng.random_range(20..90);
        let pause = self.millis(100..1500);
        self.calls += count;
        let backend = self.current();
        backend.config("client-output-buffer-limit", "normal 4096 0 0");
        let long = "x".repeat(128);
        for _ in 0..count {
            backend.client.call(&["EVAL", SCRIPT, "0", &long, &long, &long, &long]);
        }
        thread::sleep(pause);
        backend.config("client-output-buffer-limit", "normal 0 0 0");
    }

    /// Restarts a server whose entries are all accounted for.
    fn restart(&mut self) {
        let method = self.rng.random_range(0..3);
        let pause = if self.rng.random_bool(0.5) { Duration::ZERO } else { self.millis(0..1500) };
        self.settle_and_stop(true);
        // Settling may have switched the address, so the active server is determined only now.
        let index = self.active;
        self.event(&format!("the server restarts, method {method}, after {pause:?}"));
        self.shared.fault(["server_sigkill", "server_sigterm", "server_shutdown"][method]);
        let server = &mut self.backends[index].server;
        match method {
            0 => server.kill(),
            1 => server.stop(),
            _ => {
                self.backends[index].client.send(&["SHUTDOWN", "NOSAVE"]);
                self.backends[index].server.stop();
            }
        }
        thread::sleep(pause);
        self.begin_run(index, 0, Some(0));
        self.some_calls();
        self.settle_on(false);
    }

    /// Turns all slow logs off and waits until everything is accounted for; nothing is written after that.
    fn settle_and_stop(&mut self, rotate: bool) {
        self.settle_on(rotate);
        self.current().disable_log();
        let (expected, target, begun) = (self.expected(), self.target(), Instant::now());
        while begun.elapsed() < SETTLE_LIMIT {
            if let Some(page) = self.page(begun)
                && page.counts(&target).total() == expected
            {
                assert_eq!(page.counts(&target).lost, self.lost_before, "lost without a reason");
                return;
            }
        }
        panic!("the account does not settle: {expected} entries expected");
    }

    /// Ends the current run of a server, with `unread` unread entries, and starts the next one, which is monitored from id
    /// `base` on.
    fn begin_run(&mut self, index: usize, unread: u64, base: Option<u64>) {
        let backend = &mut self.backends[index];
        let first = backend.base.expect("a run that was monitored");
        self.shared.run_ended(&backend.run, first..backend.next);
        self.ended += backend.next - first - unread;
        self.unread += unread;
        backend.server.restart();
        backend.started_at = Instant::now();
        (backend.base, backend.next, backend.dirty, backend.max_len) = (base, 0, true, MAX_LEN);
        backend.connect();
    }

    /// Kills a server that may have unread entries, which are not guaranteed to be counted. Their number is known once the
    /// counts of the target are final. It is at most the number of entries written since the last settlement.
    fn kill_with_unread_entries(&mut self) {
        self.settle();
        let index = self.active;
        let before = self.backends[index].next;
        self.some_calls();
        if self.rng.random_bool(0.3) {
            self.burst();
        }
        let backend = &mut self.backends[index];
        backend.disable_log();
        let written = backend.next - before;
        self.event(&format!("the server is killed, {written} entries after the last settlement"));
        self.shared.fault("server_died_unread");
        self.reasons.insert("death");
        self.maybe_unread += written;
        self.backends[index].server.kill();
        let (expected, target) = (self.expected(), self.target());
        let begun = Instant::now();
        let (mut since, mut last) = (begun, None);
        let mut interruptions = self.shared.interruptions();
        let reported = loop {
            assert!(begun.elapsed() < SETTLE_LIMIT, "the target does not become unreachable");
            let Some(page) = self.page(since) else { continue };
            since = page.requested_at;
            let state = [("target", &*target), ("state", "unreachable")];
            let gone = page.metrics.value("redis_script_target_state", &state) == Some(1.0);
            let reported = page.counts(&target);
            // An exporter that is stopped or restarted in the meantime may still have replies to read.
            let before = std::mem::replace(&mut interruptions, self.shared.interruptions());
            if before != interruptions {
                last = None;
            }
            match last {
                Some((before, at)) if gone && before == reported => {
                    if Instant::now().duration_since(at) > FINAL_AFTER {
                        break reported;
                    }
                }
                _ => last = gone.then_some((reported, page.requested_at)),
            }
        };
        let unread = expected.checked_sub(reported.total());
        assert!(
            unread.is_some_and(|unread| unread <= written),
            "{reported:?} = {} of {expected} after the server was killed; {written} were new",
            reported.total()
        );
        self.begin_run(index, unread.unwrap(), Some(0));
        self.settle_on(false);
    }

    /// Injects a fault of the network or a load balancer.
    fn connection_fault(&mut self) {
        let (mode, kind) = match self.rng.random_range(0..7) {
            0 => (Mode::Pass, "connections_cut"),
            1 => (Mode::CutAfter(self.rng.random_range(0..400)), "cut_in_a_reply"),
            2 => (Mode::HalfClose, "half_closed"),
            3 => (Mode::HalfCloseToServer, "half_closed_to_server"),
            4 => (Mode::Delay(self.millis(20..400)), "delayed"),
            5 => (Mode::ByteByByte, "a_byte_at_a_time"),
            _ => (Mode::Refuse, "refused"),
        };
        self.event(&format!("connection fault: {kind} {mode:?}"));
        self.shared.fault(kind);
        self.some_calls();
        let time = self.millis(50..1200);
        let Some(proxy) = &self.proxy else { return };
        proxy.set(mode);
        if matches!(mode, Mode::Pass | Mode::Refuse) {
            proxy.cut();
        }
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.some_calls();
            thread::sleep(Duration::from_millis(30));
        }
        if let Some(proxy) = &self.proxy {
            proxy.set(Mode::Pass);
        }
    }

    /// Switches the address between its servers, faster than the exporter reconnects, while both write.
    fn switch_repeatedly(&mut self) {
        let switches = self.rng.random_range(1..6);
        self.event(&format!("{switches} switches between the servers"));
        for _ in 0..switches {
            self.shared.fault("moved_to_the_other_server");
            self.some_calls();
            let other = 1 - self.active;
            self.switch(other);
            self.current().enable_log();
            self.some_calls();
            let pause = self.millis(0..800);
            thread::sleep(pause);
        }
    }

    /// Makes the active server a replica of the other one, then promotes it again.
    fn role_change(&mut self) {
        self.event("a replica, and promoted again");
        self.shared.fault("replica_and_promoted");
        let port = self.backends[1 - self.active].server.port().to_string();
        self.current().call(&["REPLICAOF", "127.0.0.1", &port]);
        let pause = self.millis(0..1500);
        thread::sleep(pause);
        let backend = self.current();
        backend.call(&["REPLICAOF", "NO", "ONE"]);
        backend.wait_until_ready();
        backend.load();
        self.some_calls();
    }

    /// Makes the active server a replica of the other one and switches the address to the other one, as in an ordinary
    /// failover.
    fn fail_over(&mut self) {
        self.event("a failover");
        self.shared.fault("failover");
        let (old, new) = (self.active, 1 - self.active);
        let port = self.backends[new].server.port().to_string();
        self.some_calls();
        self.backends[old].call(&["REPLICAOF", "127.0.0.1", &port]);
        self.switch(new);
        self.current().enable_log();
        let pause = self.millis(0..1000);
        thread::sleep(pause);
        self.some_calls();
        let backend = &mut self.backends[old];
        backend.call(&["REPLICAOF", "NO", "ONE"]);
        backend.wait_until_ready();
        backend.load();
    }

    /// Restarts the inactive server and then makes it the active one: its slow log is a baseline.
    fn unseen_restart_of_the_other(&mut self) {
        self.event("the other server restarts unseen");
        self.settle_and_stop(true);
        let other = 1 - self.active;
        self.shared.fault("unseen_restart");
        self.begin_run(other, 0, None);
        self.current().enable_log();
        self.some_calls();
        self.first_contact(other);
    }
}
