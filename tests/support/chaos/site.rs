//! One watched address: its servers, what is done to them, and the accounting of written entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redis::Value;

use super::proxy::{Mode, Proxy};
use super::watch::{Page, Stage, Told};
use crate::client::{Client, is_error, text};
use crate::server::{Kind, Server};
use crate::wait::eventually;

/// How long the exporter may take to account for everything: it may be dead for some seconds of that, more than once.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// How long each of two servers behind an address is shown while both have something unread.
const ROTATION: Duration = Duration::from_millis(1500);

/// A server that is older than this is not taken for one that was restarted a moment ago.
const GROWN_UP: Duration = Duration::from_secs(5);

/// How long a target's numbers have to stand still for it to be said that nothing more is under way.
const STILL: Duration = Duration::from_secs(1);

/// The servers' ring, unless it is changed.
const RING: u64 = 128;

/// A short script, by EVAL and by EVALSHA.
const SCRIPT: &str = "return 1";

/// A script that does not end by itself.
const RUNAWAY: &str = "while true do end";

/// A function that returns at once, and one that does not end by itself.
const LIBRARY: &str = "\
#!lua name=chaos
redis.register_function{function_name='quick', callback=function() return 1 end, flags={'no-writes'}}
redis.register_function{function_name='runaway', callback=function() while true do end end, flags={'no-writes'}}
";

/// What a site comes to.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Entries that were written while watched, less those that died unread.
    pub written: u64,
    pub counted: u64,
    pub lost: u64,
    /// Counted entries that are script calls.
    pub scripts: u64,
    /// Entries that a server held unread when it died.
    pub unread: u64,
    /// Lost entries by what made them so.
    pub lost_by: BTreeMap<&'static str, u64>,
}

impl Sum {
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

/// One server and its present run.
struct Backend {
    server: Server,
    /// Straight to the server, for load and control alike.
    client: Client,
    sha1: String,
    /// The run's name, as its clients call themselves.
    run: String,
    runs: u32,
    born: Instant,
    /// The first id that is due; `None` while the run was not watched yet.
    base: Option<u64>,
    /// The next id, when it was last read.
    next: u64,
    /// Something may have been written since.
    dirty: bool,
    /// `slowlog-max-len`, as it is now.
    ring: u64,
}

/// A watched address.
pub struct Site<'a> {
    stage: &'a Stage,
    name: String,
    backends: Vec<Backend>,
    proxy: Option<Proxy>,
    active: usize,
    rng: StdRng,
    kill_exporter: Sender<Duration>,
    /// What ended runs made due.
    ended: u64,
    /// What died unread.
    unread: u64,
    /// Script calls that were made, at most as many of which can be counted.
    calls: u64,
    /// What happened since the last reckoning that may make entries be lost.
    reasons: BTreeSet<&'static str>,
    /// Entries that died unread since the last reckoning, all of which may have been counted as lost before.
    dying: u64,
    lost_before: u64,
    lost_by: BTreeMap<&'static str, u64>,
}

impl Backend {
    fn start(kind: Kind) -> Self {
        let server = Server::builder(kind)
            .config("slowlog-log-slower-than 0")
            .config(format!("slowlog-max-len {RING}"))
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
            born: Instant::now(),
            base: None,
            next: 0,
            dirty: true,
            ring: RING,
        };
        backend.connect();
        backend
    }

    /// Begins a run: a client with the run's name, and scripts to call.
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

    /// A command that must not fail.
    #[track_caller]
    fn call(&mut self, args: &[&str]) -> Value {
        let reply = self.client.call(args);
        assert!(!matches!(reply, Value::ServerError(_)), "{args:?}: {reply:?}");
        reply
    }

    fn config(&mut self, name: &str, value: &str) {
        self.call(&["CONFIG", "SET", name, value]);
    }

    fn log_on(&mut self) {
        self.dirty = true;
        self.config("slowlog-log-slower-than", "0");
    }

    /// Switches the log off; the newest entry is one of ours, so the next id is known.
    fn log_off(&mut self) {
        if !self.dirty {
            return;
        }
        if self.ring == 0 {
            self.set_ring(RING);
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

    fn set_ring(&mut self, entries: u64) {
        self.config("slowlog-max-len", &entries.to_string());
        self.ring = entries;
    }

    fn length(&mut self) -> u64 {
        let Value::Int(length) = self.call(&["SLOWLOG", "LEN"]) else { panic!("a number") };
        u64::try_from(length).unwrap()
    }

    /// How often the slow log was asked for, by the server's own count.
    fn slowlog_calls(&mut self) -> u64 {
        let info = self.client.info(&["commandstats"]);
        let calls = |line: &String| line.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok();
        ["cmdstat_slowlog|get", "cmdstat_slowlog"]
            .iter()
            .find_map(|name| calls(info.get(*name)?))
            .unwrap_or_default()
    }

    /// Waits until the server answers ordinarily again.
    fn wait_until_ready(&mut self) {
        let client = &mut self.client;
        eventually(Duration::from_secs(30), "a server to be ready", || {
            (text(&client.call(&["PING"])) == "PONG").then_some(())
        });
    }
}

impl<'a> Site<'a> {
    pub fn new(
        stage: &'a Stage,
        kind: Kind,
        servers: usize,
        name: &str,
        seed: u64,
        kill_exporter: Sender<Duration>,
    ) -> Self {
        let backends: Vec<Backend> = (0..servers).map(|_| Backend::start(kind)).collect();
        let proxy = (servers > 1).then(|| Proxy::start(backends[0].server.addr()));
        Self {
            stage,
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
            dying: 0,
            lost_before: 0,
            lost_by: BTreeMap::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The label `target`.
    fn target(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.backends[0].server.addr(), Proxy::addr).to_string()
    }

    /// As `--redis.addr` takes it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.target())
    }

    fn event(&self, text: &str) {
        self.stage.event(&self.name, text);
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    fn now(&mut self) -> &mut Backend {
        &mut self.backends[self.active]
    }

    /// All of it: faults for `time`, then the final reckoning.
    pub fn act(&mut self, time: Duration) -> Sum {
        for index in 0..self.backends.len() {
            self.first_contact(index);
        }
        let mut since_settled = 0;
        while self.stage.elapsed() < time && !self.stage.is_over() {
            self.step();
            since_settled += 1;
            if since_settled >= self.rng.random_range(3..12) {
                self.settle();
                since_settled = 0;
            }
        }
        if self.stage.is_over() {
            return Sum::default();
        }
        let told = self.settle();
        for backend in &self.backends {
            self.stage.run_ended(&backend.run, backend.base.unwrap_or_default()..backend.next);
        }
        Sum {
            written: self.expected(),
            counted: told.scripts + told.others,
            lost: told.lost,
            scripts: told.scripts,
            unread: self.unread,
            lost_by: self.lost_by.clone(),
        }
    }

    /// What is due by now: exact when all logs are off.
    fn expected(&self) -> u64 {
        let present = |backend: &Backend| backend.base.map_or(0, |base| backend.next - base);
        self.ended + self.backends.iter().map(present).sum::<u64>()
    }

    fn page(&self, since: Instant) -> Option<Page> {
        assert!(!self.stage.is_over(), "something else failed");
        self.stage.page_after(since, Duration::from_millis(200))
    }

    /// A server is watched for the first time: what it holds is a baseline. The exporter stays alive meanwhile: what is
    /// written between a first look that was not saved and the next one is not counted.
    fn first_contact(&mut self, index: usize) {
        if self.backends.len() > 1 && self.backends.iter().any(|backend| backend.base.is_some()) {
            while self.backends[index].born.elapsed() < GROWN_UP && !self.stage.is_over() {
                self.some_calls();
                thread::sleep(Duration::from_millis(50));
            }
            self.quiet(false);
        }
        let stage = self.stage;
        let _alive = stage.gate.read().unwrap();
        self.event(&format!("first contact with server {index}"));
        let backend = &mut self.backends[index];
        backend.log_off();
        backend.base = Some(backend.next);
        let before = backend.slowlog_calls();
        self.switch(index);
        let begun = Instant::now();
        // The second look begins when the first has been understood.
        while self.backends[index].slowlog_calls() < before + 2 {
            assert!(begun.elapsed() < SETTLE_LIMIT && !self.stage.is_over(), "nobody looks at the slow log");
            thread::sleep(Duration::from_millis(20));
        }
        self.backends[index].log_on();
        self.settle_on(false);
    }

    /// Leads the address to another server.
    fn switch(&mut self, index: usize) {
        self.active = index;
        if let Some(proxy) = &self.proxy {
            proxy.switch(self.backends[index].server.addr());
        }
    }

    fn settle(&mut self) -> Told {
        self.settle_on(true)
    }

    /// The reckoning: waits until the exporter has accounted for all that was written, exactly. Afterwards the log of the
    /// server that is shown is on.
    fn settle_on(&mut self, rotate: bool) -> Told {
        let mut most_lost = self.dying;
        for backend in &mut self.backends {
            let (dirty, before) = (backend.dirty, backend.next.max(backend.base.unwrap_or_default()));
            backend.log_off();
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
        let told = loop {
            if let Some(page) = self.page(begun) {
                let told = page.told(&target);
                if told.total() == expected {
                    break told;
                }
                let problem = if told.total() > expected {
                    "more was counted than was written"
                } else if begun.elapsed() > SETTLE_LIMIT {
                    "less was counted than was written"
                } else {
                    ""
                };
                assert!(problem.is_empty(), "{problem}: {told:?} = {}, not {expected}", told.total());
            }
            assert!(begun.elapsed() < SETTLE_LIMIT * 2, "no page to be had");
            if rotate && rotated.elapsed() > ROTATION {
                rotated = Instant::now();
                self.switch(1 - self.active);
            }
            thread::sleep(Duration::from_millis(10));
        };
        let lost = told.lost - self.lost_before;
        let reasons = std::mem::take(&mut self.reasons);
        assert!(lost <= most_lost, "{lost} were lost, and at most {most_lost} overwritten; {reasons:?}");
        assert!(told.scripts <= self.calls, "{told:?}, of {} calls", self.calls);
        if lost > 0 {
            let reason =
                ["reset", "resize", "burst", "death"].into_iter().find(|reason| reasons.contains(reason));
            *self.lost_by.entry(reason.unwrap_or("not_read_in_time")).or_default() += lost;
        }
        self.event(&format!("settled at {expected}, {lost} lost {reasons:?}"));
        self.lost_before = told.lost;
        self.dying = 0;
        self.now().log_on();
        told
    }

    /// Something happens.
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
            71..74 => self.die_with_unread(),
            74..77 => thread::sleep(self.millis(10..1500)),
            _ if self.proxy.is_some() => match self.rng.random_range(0..23) {
                0..12 => self.trouble_on_the_way(),
                12..17 => self.flip_flop(),
                17..20 => self.role_change(),
                20..22 => self.fail_over(),
                _ => self.newcomer(),
            },
            _ => self.some_calls(),
        }
        let pause = self.millis(0..120);
        thread::sleep(pause);
    }

    /// One script call.
    fn call_script(&mut self) {
        self.calls += 1;
        let functions = self.now().server.kind().has_functions();
        let choice = self.rng.random_range(0..if functions { 3 } else { 2 });
        let backend = self.now();
        let sha1 = backend.sha1.clone();
        let args: &[&str] = match choice {
            0 => &["EVAL", SCRIPT, "0"],
            1 => &["EVALSHA", &sha1, "0"],
            _ => &["FCALL", "quick", "0"],
        };
        let reply = backend.client.call(args);
        if matches!(reply, Value::ServerError(_)) {
            // A full synchronization or a reload has taken it away. That is an entry like any other.
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
                self.now().client.call(&["SET", "key", "value"]);
            }
            if self.rng.random_bool(0.2) {
                let pause = self.millis(0..20);
                thread::sleep(pause);
            }
        }
    }

    /// `count` calls in one transaction: nobody can look in between.
    fn calls_at_once(&mut self, count: u64) {
        self.calls += count;
        let client = &mut self.now().client;
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
        let count = self.rng.random_range(RING..RING * 12);
        self.event(&format!("a burst of {count}"));
        self.stage.fault("burst_over_the_slow_log");
        self.reasons.insert("burst");
        self.calls_at_once(count);
    }

    /// Calls one after the other, sent without waiting.
    fn stream(&mut self) {
        let count = self.rng.random_range(20..400);
        self.event(&format!("a stream of {count}"));
        self.reasons.insert("burst");
        self.calls += count;
        let client = &mut self.now().client;
        (0..count).for_each(|_| client.send(&["EVAL", SCRIPT, "0"]));
        (0..count).for_each(|_| assert_eq!(client.receive(), Value::Int(1)));
    }

    /// The exporter is killed within milliseconds after calls.
    fn calls_then_kill(&mut self) {
        let delay = self.millis(0..40);
        self.event(&format!("calls, and the exporter is to be killed {delay:?} later"));
        self.some_calls();
        // Somebody else may have asked for the same, or all is over.
        let _ = self.kill_exporter.send(delay);
    }

    fn reset(&mut self) {
        self.event("SLOWLOG RESET");
        self.stage.fault("slowlog_reset");
        self.reasons.insert("reset");
        self.some_calls();
        self.now().call(&["SLOWLOG", "RESET"]);
    }

    fn reset_statistics(&mut self) {
        self.event("CONFIG RESETSTAT");
        self.stage.fault("config_resetstat");
        self.now().call(&["CONFIG", "RESETSTAT"]);
    }

    fn resize(&mut self) {
        let entries = [0, 1, 16, 10_000][self.rng.random_range(0..4)];
        self.event(&format!("slowlog-max-len {entries} and back"));
        self.stage.fault("slowlog_max_len");
        self.reasons.insert("resize");
        self.now().set_ring(entries);
        for _ in 0..self.rng.random_range(1..4) {
            self.some_calls();
            let pause = self.millis(0..300);
            thread::sleep(pause);
        }
        if entries == 10_000 {
            let count = self.rng.random_range(100..3000);
            self.calls_at_once(count);
        }
        self.now().set_ring(RING);
    }

    fn off_and_on(&mut self) {
        self.event("the slow log is off for a while");
        self.stage.fault("slowlog_off_and_on");
        self.now().config("slowlog-log-slower-than", "-1");
        self.some_calls();
        let pause = self.millis(0..400);
        thread::sleep(pause);
        self.now().log_on();
    }

    fn reload(&mut self) {
        self.event("DEBUG RELOAD");
        self.stage.fault("debug_reload");
        self.now().call(&["DEBUG", "RELOAD"]);
        self.now().wait_until_ready();
    }

    /// A script that makes the server blocked and then BUSY, until it is killed.
    fn busy(&mut self) {
        let function = self.now().server.kind().has_functions() && self.rng.random_bool(0.5);
        self.event(&format!("a runaway {}", if function { "function" } else { "script" }));
        self.stage.fault("runaway_script");
        self.calls += 1;
        let pause = self.millis(0..1000);
        let backend = self.now();
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
            self.stage.fault("all_clients_killed");
            self.now().call(&["CLIENT", "KILL", "TYPE", "normal"]);
            return;
        }
        self.event("the exporter's connections are killed");
        self.stage.fault("exporter_client_killed");
        let list = text(&self.now().call(&["CLIENT", "LIST"]));
        for line in list.lines().filter(|line| line.contains("name=redis-script-exporter")) {
            let id = line.split(' ').find_map(|part| part.strip_prefix("id=")).expect("an id");
            // It may be gone by now.
            self.now().client.call(&["CLIENT", "KILL", "ID", id]);
        }
    }

    fn pause_server(&mut self) {
        let time = self.millis(50..1500);
        self.event(&format!("the server is stopped for {time:?}"));
        self.stage.fault("server_sigstop");
        self.some_calls();
        let server = &mut self.now().server;
        server.pause();
        thread::sleep(time);
        server.resume();
    }

    /// Whoever asks for more than a little is disconnected.
    fn output_limit(&mut self) {
        self.event("a small limit on output buffers");
        self.stage.fault("output_buffer_limit");
        let count = self.rng.random_range(20..90);
        let pause = self.millis(100..1500);
        self.calls += count;
        let backend = self.now();
        backend.config("client-output-buffer-limit", "normal 4096 0 0");
        let long = "x".repeat(128);
        for _ in 0..count {
            backend.client.call(&["EVAL", SCRIPT, "0", &long, &long, &long, &long]);
        }
        thread::sleep(pause);
        backend.config("client-output-buffer-limit", "normal 0 0 0");
    }

    /// A server that is all accounted for ends, and another process takes its place.
    fn restart(&mut self) {
        let way = self.rng.random_range(0..3);
        let pause = if self.rng.random_bool(0.5) { Duration::ZERO } else { self.millis(0..1500) };
        self.quiet(true);
        // Reckoning may have moved the address: the server that is shown is the one that restarts.
        let index = self.active;
        self.event(&format!("the server restarts, way {way}, after {pause:?}"));
        self.stage.fault(["server_sigkill", "server_sigterm", "server_shutdown"][way]);
        let server = &mut self.backends[index].server;
        match way {
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

    /// Switches all logs off and waits until all is accounted for; nothing is written after that.
    fn quiet(&mut self, rotate: bool) {
        self.settle_on(rotate);
        self.now().log_off();
        let (expected, target, begun) = (self.expected(), self.target(), Instant::now());
        while begun.elapsed() < SETTLE_LIMIT {
            if let Some(page) = self.page(begun)
                && page.told(&target).total() == expected
            {
                assert_eq!(page.told(&target).lost, self.lost_before, "lost without a reason");
                return;
            }
        }
        panic!("no end to what is written: {expected} are due");
    }

    /// The present run of a server is over; `unread` of it died with it. The next one is watched from id `base` on.
    fn begin_run(&mut self, index: usize, unread: u64, base: Option<u64>) {
        let backend = &mut self.backends[index];
        let first = backend.base.expect("a run that was watched");
        self.stage.run_ended(&backend.run, first..backend.next);
        self.ended += backend.next - first - unread;
        self.unread += unread;
        backend.server.restart();
        backend.born = Instant::now();
        (backend.base, backend.next, backend.dirty, backend.ring) = (base, 0, true, RING);
        backend.connect();
    }

    /// A server dies with entries that nobody may have read: those are not promised. How many it were is seen when
    /// nothing more can come of them, and it can't be more than were written since all was accounted for.
    fn die_with_unread(&mut self) {
        self.settle();
        let index = self.active;
        let before = self.backends[index].next;
        self.some_calls();
        if self.rng.random_bool(0.3) {
            self.burst();
        }
        let backend = &mut self.backends[index];
        backend.log_off();
        let written = backend.next - before;
        self.event(&format!("the server dies, {written} entries after all was accounted for"));
        self.stage.fault("server_died_unread");
        self.reasons.insert("death");
        self.dying += written;
        self.backends[index].server.kill();
        let (due, target) = (self.expected(), self.target());
        let begun = Instant::now();
        let (mut since, mut last) = (begun, None);
        let told = loop {
            assert!(begun.elapsed() < SETTLE_LIMIT, "the target does not become unreachable");
            let Some(page) = self.page(since) else { continue };
            since = page.asked;
            let state = [("target", &*target), ("state", "unreachable")];
            let gone = page.metrics.value("redis_script_target_state", &state) == Some(1.0);
            let told = page.told(&target);
            match last {
                Some((before, at)) if gone && before == told => {
                    if Instant::now().duration_since(at) > STILL {
                        break told;
                    }
                }
                _ => last = gone.then_some((told, page.asked)),
            }
        };
        let unread = due.checked_sub(told.total());
        assert!(
            unread.is_some_and(|unread| unread <= written),
            "{told:?} = {} of {due} when the server had died; {written} were new",
            told.total()
        );
        self.begin_run(index, unread.unwrap(), Some(0));
        self.settle_on(false);
    }

    /// What a network or a load balancer does.
    fn trouble_on_the_way(&mut self) {
        let (mode, kind) = match self.rng.random_range(0..7) {
            0 => (Mode::Pass, "connections_cut"),
            1 => (Mode::CutAfter(self.rng.random_range(0..400)), "cut_in_a_reply"),
            2 => (Mode::HalfClose, "half_closed"),
            3 => (Mode::HalfCloseToServer, "half_closed_to_server"),
            4 => (Mode::Delay(self.millis(20..400)), "delayed"),
            5 => (Mode::Drip, "a_byte_at_a_time"),
            _ => (Mode::Refuse, "refused"),
        };
        self.event(&format!("on the way: {kind} {mode:?}"));
        self.stage.fault(kind);
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

    /// The address moves between its servers, faster than anybody can follow, while both write.
    fn flip_flop(&mut self) {
        let flips = self.rng.random_range(1..6);
        self.event(&format!("{flips} moves between the servers"));
        for _ in 0..flips {
            self.stage.fault("moved_to_the_other_server");
            self.some_calls();
            let other = 1 - self.active;
            self.switch(other);
            self.now().log_on();
            self.some_calls();
            let pause = self.millis(0..800);
            thread::sleep(pause);
        }
    }

    /// The server that is shown becomes a replica of the other one, and is promoted again.
    fn role_change(&mut self) {
        self.event("a replica, and promoted again");
        self.stage.fault("replica_and_promoted");
        let port = self.backends[1 - self.active].server.port().to_string();
        self.now().call(&["REPLICAOF", "127.0.0.1", &port]);
        let pause = self.millis(0..1500);
        thread::sleep(pause);
        let backend = self.now();
        backend.call(&["REPLICAOF", "NO", "ONE"]);
        backend.wait_until_ready();
        backend.load();
        self.some_calls();
    }

    /// The server that is shown becomes the other one's replica, and the address moves there: a failover in good order.
    fn fail_over(&mut self) {
        self.event("a failover");
        self.stage.fault("failover");
        let (old, new) = (self.active, 1 - self.active);
        let port = self.backends[new].server.port().to_string();
        self.some_calls();
        self.backends[old].call(&["REPLICAOF", "127.0.0.1", &port]);
        self.switch(new);
        self.now().log_on();
        let pause = self.millis(0..1000);
        thread::sleep(pause);
        self.some_calls();
        let backend = &mut self.backends[old];
        backend.call(&["REPLICAOF", "NO", "ONE"]);
        backend.wait_until_ready();
        backend.load();
    }

    /// The server that is not shown restarts, unseen, and is shown some time later: what it holds then is a baseline.
    fn newcomer(&mut self) {
        self.event("the other server restarts unseen");
        self.quiet(true);
        let other = 1 - self.active;
        self.stage.fault("unseen_restart");
        self.begin_run(other, 0, None);
        self.now().log_on();
        self.some_calls();
        self.first_contact(other);
    }
}
