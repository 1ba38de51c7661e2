//! Discovery with real clusters and real Sentinels whose servers are added, removed, fail and change roles.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use redis::Value;
use tempfile::TempDir;

use crate::common::whole;
use crate::common::{LIMIT, lines_with, logs_milliseconds, number, slowlog, state, target_of, try_spin};
use test_support::client::{Client, text};
use test_support::exporter::Exporter;
use test_support::metrics::Metrics;
use test_support::on_each_server;
use test_support::process::Process;
use test_support::server::{Builder, Kind, Server, free_port, run_on};
use test_support::tls::Certificates;
use test_support::wait::{eventually, eventually_or_tell, stays_true};

on_each_server!(a_cluster_is_followed, servers_watched_by_sentinels_are_followed);

const FLAGS: [&str; 4] = [
    "--poll.interval=50ms",
    "--poll.info-interval=200ms",
    "--heartbeat.interval=100ms",
    "--heartbeat.blocked-after=1s",
];

const UP: &str = "redis_script_exporter_discovery_up";

const COUNT: &str = "redis_script_exporter_discovered_targets";

/// Number of slots of a cluster.
const SLOTS: u32 = 16_384;

fn node(kind: Kind) -> Builder {
    let builder = logs_milliseconds(kind).config("cluster-enabled yes").config("cluster-node-timeout 2000");
    // Before 7.0, the cluster port is always the port plus 10,000.
    if kind == Kind::Redis62 { builder } else { builder.config(format!("cluster-port {}", free_port())) }
}

fn id(server: &Server) -> String {
    text(&server.call(&["CLUSTER", "MYID"]))
}

/// Forms a cluster. The first `masters` servers are masters, and the others are assigned to them in turn as replicas.
#[track_caller]
fn form(servers: &[&Server], masters: u32) {
    for server in &servers[1..] {
        meet(servers[0], server);
    }
    for (index, server) in (0..masters).zip(servers) {
        let slots = (SLOTS * index / masters)..(SLOTS * (index + 1) / masters);
        let slots = slots.map(|slot| slot.to_string());
        let command: Vec<String> =
            ["CLUSTER".to_owned(), "ADDSLOTS".to_owned()].into_iter().chain(slots).collect();
        assert_eq!(server.call(&command), Value::Okay);
    }
    let masters = usize::try_from(masters).unwrap();
    eventually(LIMIT, "all nodes to know each other", || {
        servers.iter().all(|server| known(server) == servers.len()).then_some(())
    });
    for (index, server) in servers.iter().enumerate().skip(masters) {
        let master = id(servers[index % masters]);
        eventually(LIMIT, "a node to become a replica", || {
            (server.call(&["CLUSTER", "REPLICATE", &master]) == Value::Okay).then_some(())
        });
    }
    eventually(LIMIT, "the cluster to be whole", || {
        let whole = |server: &&Server| {
            let info = text(&server.call(&["CLUSTER", "INFO"]));
            let replication = server.client().info(&["replication"]);
            let linked = replication.get("master_link_status").is_none_or(|status| status == "up");
            info.contains("cluster_state:ok") && linked
        };
        servers.iter().all(whole).then_some(())
    });
}

fn meet(one: &Server, other: &Server) {
    let port = other.port().to_string();
    // The bus port must be given if it is not the default.
    let bus = text(&other.call(&["CLUSTER", "NODES"]));
    let (_, bus) = bus.split_once('@').unwrap();
    let bus: String = bus.chars().take_while(char::is_ascii_digit).collect();
    assert_eq!(one.call(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), Value::Okay);
}

/// Returns the number of nodes that a node has completed the handshake with.
fn known(server: &Server) -> usize {
    let nodes = text(&server.call(&["CLUSTER", "NODES"]));
    nodes.lines().filter(|line| !line.contains("handshake")).count()
}

fn names(servers: &[&Server]) -> BTreeSet<String> {
    servers.iter().map(|server| target_of(server)).collect()
}

fn targets(metrics: &Metrics) -> BTreeSet<String> {
    let up = metrics.series("redis_script_target_up");
    up.iter().map(|series| series.label("target").to_owned()).collect()
}

/// Starts an exporter with this configuration file.
fn start(text: &str) -> (Exporter, TempDir) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.yml");
    fs::write(&path, text).unwrap();
    let exporter = Exporter::builder().args(&["--config.file", path.to_str().unwrap()]).args(&FLAGS).start();
    (exporter, folder)
}

/// Waits until exactly these targets exist and respond, and returns the time that took.
#[track_caller]
fn all_seen(exporter: &Exporter, expected: &BTreeSet<String>) -> Duration {
    let began = Instant::now();
    let metrics = exporter.wait_for(LIMIT, &format!("just {expected:?}"), |metrics| {
        targets(metrics) == *expected && expected.iter().all(|target| state(metrics, target) == "ok")
    });
    let took = began.elapsed();
    no_duplicates(&metrics);
    took
}

#[track_caller]
fn no_duplicates(metrics: &Metrics) {
    let mut seen = BTreeSet::new();
    for sample in metrics.samples() {
        assert!(seen.insert((&sample.name, &sample.labels)), "twice: {sample:?}");
    }
}

/// Waits until the target has this role, and returns the time that took.
#[track_caller]
fn has_role(exporter: &Exporter, target: &str, role: &str) -> Duration {
    let began = Instant::now();
    let metrics = exporter.wait_for(LIMIT, &format!("{target} to be a {role}"), |metrics| {
        let info = metrics.series("redis_script_target_info");
        info.iter().any(|info| info.label("target") == target && info.label("role") == role)
    });
    no_duplicates(&metrics);
    began.elapsed()
}

/// A server's slow log, and the number of entries that must not be counted.
struct Ledger {
    target: String,
    server: SocketAddr,
    password: Option<&'static str>,
    /// Number of entries from before counting began.
    base: Cell<u64>,
}

impl Ledger {
    fn new(server: &Server, password: Option<&'static str>) -> Self {
        Self { target: target_of(server), server: server.addr(), password, base: Cell::new(0) }
    }

    /// Returns the next id of the slow log and the number of entries that the exporter has accounted for. `None` if entries
    /// were added in the meantime, because on a busy machine any command may be slow enough for the log.
    #[track_caller]
    fn account(&self, exporter: &Exporter) -> Option<(u64, u64)> {
        let next = self.next_id();
        let before = polls(&exporter.metrics(), &self.target);
        let metrics =
            exporter.wait_for(LIMIT, "two polls", |metrics| polls(metrics, &self.target) >= before + 2.0);
        let labels = [("target", &*self.target)];
        let counted = whole(metrics.sum("redis_script_slowlog_entries_total", &labels) + 0.0);
        let lost = number(&metrics, "redis_script_slowlog_lost_entries_total", &labels).unwrap_or(0);
        (self.next_id() == next).then_some((next, counted + lost))
    }

    /// Excludes the entries that are not accounted for now, because they were written before the exporter's first read.
    #[track_caller]
    fn begin(&self, exporter: &Exporter) {
        let (next, accounted) = eventually(LIMIT, "a quiet slow log", || self.account(exporter));
        self.base.set(next - accounted);
    }

    fn client(&self) -> Client {
        let mut client = Client::connect(self.server);
        if let Some(password) = self.password {
            client.auth("default", password);
        }
        client
    }

    fn next_id(&self) -> u64 {
        slowlog(&mut self.client()).first().map_or(0, |entry| entry.id + 1)
    }

    fn spin(&self, times: u32) {
        let mut client = self.client();
        for _ in 0..times {
            // Sentinels close the client connections of a server that they reconfigure.
            while let Err(error) = try_spin(&mut client) {
                println!("once more, as the connection broke: {error}");
                client = self.client();
            }
        }
    }

    /// Waits until exactly the written entries are counted and none is lost.
    #[track_caller]
    fn is_exact(&self, exporter: &Exporter) {
        eventually_or_tell(LIMIT, "counted = written", || {
            let Some((next, accounted)) = self.account(exporter) else {
                return Err("entries are written".to_owned());
            };
            let written = next - self.base.get();
            assert!(accounted <= written, "{}: {accounted} counted of {written}", self.target);
            if accounted == written {
                Ok(())
            } else {
                Err(format!("{}: {accounted} of {written}", self.target))
            }
        });
        let labels = [("target", &*self.target)];
        assert_eq!(number(&exporter.metrics(), "redis_script_slowlog_lost_entries_total", &labels), Some(0));
    }
}

fn polls(metrics: &Metrics, target: &str) -> f64 {
    metrics.sum("redis_script_exporter_polls_total", &[("target", target)])
}

/// Makes a replica take over. The servers give up after 5 s, which can happen in a new cluster; the command is then
/// repeated.
#[track_caller]
fn take_over(replica: &Server) {
    const TRY: Duration = Duration::from_secs(6);
    let mut told: Option<Instant> = None;
    eventually_or_tell(LIMIT, "a failover", || {
        if told.is_none_or(|told| told.elapsed() > TRY) {
            let accepted = replica.call(&["CLUSTER", "FAILOVER"]) == Value::Okay;
            told = accepted.then(Instant::now);
        }
        let is_master = replica.client().info(&["replication"])["role"] == "master";
        if is_master { Ok(()) } else { Err(fs::read_to_string(replica.log_path()).unwrap()) }
    });
}

/// Waits until a replica has taken the place of its dead master. After a failed vote the cluster takes many seconds to
/// retry, so the replica is then told not to wait for votes.
#[track_caller]
fn wait_for_election(replica: &Server) {
    const PATIENCE: Duration = Duration::from_secs(15);
    let began = Instant::now();
    eventually_or_tell(LIMIT, "an election", || {
        if replica.client().info(&["replication"])["role"] == "master" {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            replica.call(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
        }
        Err(fs::read_to_string(replica.log_path()).unwrap())
    });
}

#[expect(clippy::too_many_lines, reason = "one story of a cluster")]
fn a_cluster_is_followed(kind: Kind) {
    let mut servers = [(); 6].map(|()| node(kind).start());
    form(&servers.each_ref(), 3);
    let ledgers = servers.each_ref().map(|server| Ledger::new(server, None));
    let all = names(&servers.each_ref());
    let seed = servers[0].url();

    let began = Instant::now();
    let (exporter, _folder) = start(&format!("targets: [{{addr: '{seed}', discover: cluster}}]"));
    all_seen(&exporter, &all);
    let took = began.elapsed();
    let metrics = exporter.wait_for(LIMIT, "the roles", |metrics| {
        metrics
            .series("redis_script_target_info")
            .iter()
            .filter(|info| !info.label("role").is_empty())
            .count()
            == 6
            && all.iter().all(|target| polls(metrics, target) >= 3.0)
    });
    let masters =
        metrics.series("redis_script_target_info").iter().filter(|i| i.label("role") == "master").count();
    assert_eq!(masters, 3);
    let entry = [("discovery", target_of(&servers[0]))];
    let entry = [(entry[0].0, entry[0].1.as_str())];
    assert_eq!((metrics.value(UP, &entry), metrics.value(COUNT, &entry)), (Some(1.0), Some(6.0)));
    assert_eq!(exporter.get("/-/ready").status, 200);
    let sd = exporter.get("/sd").body;
    assert_eq!(sd.matches("\"__meta_redis_script_origin\":\"discovery\"").count(), 6, "{sd}");
    for ledger in &ledgers {
        ledger.begin(&exporter);
        ledger.spin(2);
    }

    // A replica takes over.
    let (old, new) = (&servers[0], &servers[3]);
    take_over(new);
    let failed_over =
        has_role(&exporter, &target_of(new), "master") + has_role(&exporter, &target_of(old), "slave");
    for ledger in &ledgers {
        ledger.spin(2);
        ledger.is_exact(&exporter);
    }

    // A node joins and is removed. The node itself is not told.
    let seventh = node(kind).start();
    let mut with_seventh = all.clone();
    with_seventh.insert(target_of(&seventh));
    let began = Instant::now();
    meet(&servers[1], &seventh);
    all_seen(&exporter, &with_seventh);
    let added = began.elapsed();
    let seventh_id = id(&seventh);
    eventually(LIMIT, "all to know the new one", || {
        servers.iter().all(|server| known(server) == 7).then_some(())
    });
    let began = Instant::now();
    for server in &servers {
        assert_eq!(server.call(&["CLUSTER", "FORGET", &seventh_id]), Value::Okay);
    }
    if kind.is_valkey() {
        // Otherwise it would join again, because it contacts nodes that have no connection to it.
        assert_eq!(seventh.call(&["CLUSTER", "RESET"]), Value::Okay);
    }
    all_seen(&exporter, &all);
    let removed = began.elapsed();
    let expected = if kind.is_valkey() { 1 } else { 7 };
    assert_eq!(known(&seventh), expected, "it knows nothing, or not that it was removed");

    // A blocked node does not prevent queries to the others.
    let mut blocking = servers[1].client();
    blocking.send(&["EVAL", "while redis.call('TIME')[1] < ARGV[1] do end return 1", "0", &later(4)]);
    let blocked = target_of(&servers[1]);
    let before =
        exporter.wait_for(LIMIT, "one to be blocked", |metrics| state(metrics, &blocked) == "blocked");
    let metrics = exporter.wait_for(LIMIT, "polls of all others", |metrics| {
        let mut others = all.iter().filter(|target| **target != blocked);
        others.all(|target| {
            polls(metrics, target) >= polls(&before, target) + 10.0 && state(metrics, target) == "ok"
        })
    });
    assert_eq!(state(&metrics, &blocked), "blocked", "it was blocked all the time");
    assert_eq!((targets(&metrics), metrics.value(UP, &entry)), (all.clone(), Some(1.0)));
    assert_eq!(blocking.receive(), Value::Int(1));
    all_seen(&exporter, &all);

    // The seed, which is a replica by now, dies. Then a master dies, and its replica takes over.
    servers[0].kill();
    let dead = target_of(&servers[0]);
    exporter.wait_for(LIMIT, "the seed to be missed", |metrics| state(metrics, &dead) == "unreachable");
    let eighth = node(kind).start();
    meet(&servers[1], &eighth);
    exporter.wait_for(LIMIT, "a node that comes without the seed", |metrics| {
        targets(metrics).contains(&target_of(&eighth))
    });
    servers[2].kill();
    wait_for_election(&servers[5]);
    let promoted = has_role(&exporter, &target_of(&servers[5]), "master");
    let killed = target_of(&servers[2]);
    exporter
        .wait_for(LIMIT, "the killed one to be missed", |metrics| state(metrics, &killed) == "unreachable");
    // Longer than a round of discovery: failed servers must still be shown.
    stays_true(Duration::from_secs(6), "two are unreachable", || {
        let metrics = exporter.metrics();
        no_duplicates(&metrics);
        let holds = [&dead, &killed].iter().all(|target| state(&metrics, target) == "unreachable")
            && metrics.value(UP, &entry) == Some(1.0);
        if holds { Ok(()) } else { Err(metrics.text) }
    });
    servers[0].restart();
    exporter.wait_for(LIMIT, "the seed to be back", |metrics| state(metrics, &dead) == "ok");
    for (index, ledger) in ledgers.iter().enumerate().filter(|(index, _)| ![0, 2].contains(index)) {
        ledger.spin(1 + u32::try_from(index).unwrap());
        ledger.is_exact(&exporter);
    }
    println!(
        "{kind}: all seen {took:.1?}, failed over {failed_over:.1?}, added {added:.1?}, removed {removed:.1?}, \
         promoted {promoted:.1?}"
    );
}

/// Returns the Unix time in `seconds` seconds, in the form that scripts compare with. Because of rounding, a script may end
/// up to one second early.
fn later(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (now.as_secs() + seconds).to_string()
}

/// A running Sentinel.
pub(crate) struct Sentinel {
    /// Declared before the directory, because the process must not outlive its files.
    process: Process,
    _dir: TempDir,
    port: u16,
}

const NODE_PASSWORD: &str = "sesame";

const SENTINEL_PASSWORD: &str = "guardian";

impl Sentinel {
    pub(crate) fn start(kind: Kind, master: &Server) -> Self {
        let dir = TempDir::new().unwrap();
        let port = free_port();
        let lines = [
            "bind 127.0.0.1".to_owned(),
            format!("port {port}"),
            format!("dir {}", dir.path().display()),
            format!("logfile {}", dir.path().join("sentinel.log").display()),
            format!("requirepass {SENTINEL_PASSWORD}"),
            format!("sentinel sentinel-pass {SENTINEL_PASSWORD}"),
            format!("sentinel monitor mymaster 127.0.0.1 {} 2", master.port()),
            format!("sentinel auth-pass mymaster {NODE_PASSWORD}"),
            "sentinel down-after-milliseconds mymaster 1000".to_owned(),
            "sentinel failover-timeout mymaster 5000".to_owned(),
        ];
        let file: PathBuf = dir.path().join("sentinel.conf");
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        let process = Process::start(&kind.binary().unwrap(), Signal::SIGKILL, |command| {
            command.arg(&file).arg("--sentinel").current_dir(dir.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        });
        let sentinel = Self { process: process.unwrap(), _dir: dir, port };
        eventually(LIMIT, "a Sentinel to start", || {
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        sentinel
    }

    pub(crate) fn call(&self, args: &[&str]) -> Value {
        let mut client = Client::connect((Ipv4Addr::LOCALHOST, self.port).into());
        client.auth("default", SENTINEL_PASSWORD);
        client.call(args)
    }

    /// Returns a field of the Sentinel's entry for the master.
    fn field(&self, name: &str) -> String {
        let Value::Array(fields) = self.call(&["SENTINEL", "MASTER", "mymaster"]) else { panic!("a list") };
        let at = fields.iter().position(|field| *field == Value::BulkString(name.into()));
        text(&fields[at.unwrap() + 1])
    }
}

/// A master with two replicas, and three Sentinels.
struct Guarded {
    kind: Kind,
    nodes: Vec<Server>,
    sentinels: [Sentinel; 3],
}

impl Guarded {
    fn start(kind: Kind) -> Self {
        let first = Self::node(kind, None);
        let replicas = [(); 2].map(|()| Self::node(kind, Some(&first)));
        let sentinels = [(); 3].map(|()| Sentinel::start(kind, &first));
        let guarded = Self { kind, nodes: std::iter::once(first).chain(replicas).collect(), sentinels };
        eventually_or_tell(LIMIT, "the Sentinels to know everything", || {
            let seen = guarded.sentinels.each_ref().map(|sentinel| {
                let field = |name| sentinel.field(name);
                (field("num-slaves"), field("num-other-sentinels"))
            });
            let all = seen.iter().all(|(replicas, others)| replicas == "2" && others == "2");
            if all { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        guarded
    }

    fn node(kind: Kind, master: Option<&Server>) -> Server {
        let builder = logs_milliseconds(kind)
            .config(format!("requirepass {NODE_PASSWORD}"))
            .config(format!("masterauth {NODE_PASSWORD}"));
        let replica = |master: &Server| format!("replicaof 127.0.0.1 {}", master.port());
        match master {
            None => builder.start(),
            Some(master) => builder.config(replica(master)).start(),
        }
    }

    /// Returns the master, if the running Sentinels agree on it and have completed the failover. Resetting a Sentinel
    /// before that would discard its state.
    fn master(&self) -> Option<usize> {
        let seen = self.sentinels[1..].iter().map(|sentinel| {
            let field = |name| sentinel.field(name);
            (field("port"), field("flags"))
        });
        let seen: BTreeSet<_> = seen.collect();
        let (port, _) = seen.first().filter(|(_, flags)| seen.len() == 1 && flags == "master")?;
        self.nodes.iter().position(|node| node.port().to_string() == *port)
    }
}

fn servers_watched_by_sentinels_are_followed(kind: Kind) {
    let mut guarded = Guarded::start(kind);
    let all: BTreeSet<String> = guarded.nodes.iter().map(target_of).collect();
    let ledgers: Vec<Ledger> =
        guarded.nodes.iter().map(|node| Ledger::new(node, Some(NODE_PASSWORD))).collect();
    let began = Instant::now();
    let (exporter, _folder) = start(&format!(
        "targets: [{{addr: 'redis://127.0.0.1:{}', discover: sentinel, masters: [mymaster], \
         password: {NODE_PASSWORD}, sentinel: {{password: {SENTINEL_PASSWORD}}}}}]",
        guarded.sentinels[0].port
    ));
    all_seen(&exporter, &all);
    let took = began.elapsed();
    exporter.wait_for(LIMIT, "some polls", |metrics| all.iter().all(|one| polls(metrics, one) >= 3.0));
    for ledger in &ledgers {
        ledger.begin(&exporter);
        ledger.spin(3);
    }

    // A failover is requested, the seed dies, and then the new master dies.
    let began = Instant::now();
    eventually(LIMIT, "the failover to begin", || {
        (guarded.sentinels[1].call(&["SENTINEL", "FAILOVER", "mymaster"]) == Value::Okay).then_some(())
    });
    let is_master_now = |exporter: &Exporter, others: &[&str]| {
        exporter.wait_for(LIMIT, "another master", |metrics| {
            let info = metrics.series("redis_script_target_info");
            info.iter().any(|info| info.label("role") == "master" && !others.contains(&info.label("target")))
        });
    };
    is_master_now(&exporter, &[&target_of(&guarded.nodes[0])]);
    let failed_over = began.elapsed();
    has_role(&exporter, &target_of(&guarded.nodes[0]), "slave");
    all_seen(&exporter, &all);
    guarded.sentinels[0].process.kill();
    let second =
        eventually(LIMIT, "the Sentinels to agree", || guarded.master().filter(|master| *master != 0));
    for ledger in &ledgers {
        ledger.spin(2);
        ledger.is_exact(&exporter);
    }
    guarded.nodes[second].kill();
    let dead = target_of(&guarded.nodes[second]);
    let began = Instant::now();
    is_master_now(&exporter, &[&dead]);
    let promoted = began.elapsed();
    let metrics = exporter
        .wait_for(LIMIT, "the dead one to be missed", |metrics| state(metrics, &dead) == "unreachable");
    assert_eq!(targets(&metrics), all);

    // A server is added, and the dead one is removed.
    let third =
        eventually(LIMIT, "the Sentinels to agree", || guarded.master().filter(|master| *master != second));
    let fourth = Guarded::node(guarded.kind, Some(&guarded.nodes[third]));
    let began = Instant::now();
    let mut expected = all.clone();
    expected.insert(target_of(&fourth));
    exporter.wait_for(LIMIT, "the new replica", |metrics| targets(metrics) == expected);
    let added = began.elapsed();
    expected.remove(&dead);
    let began = Instant::now();
    for sentinel in &guarded.sentinels[1..] {
        sentinel.call(&["SENTINEL", "RESET", "mymaster"]);
    }
    all_seen(&exporter, &expected);
    let removed = began.elapsed();
    let ended = || lines_with(&exporter.logs(), &["no longer listed"]).len();
    // The line is logged after the metrics have changed.
    eventually(LIMIT, "the end to be logged", || (ended() > 0).then_some(()));
    assert_eq!(ended(), 1, "only the dead one: {}", exporter.logs());
    for (index, ledger) in ledgers.iter().enumerate().filter(|(index, _)| *index != second) {
        ledger.spin(1 + u32::try_from(index).unwrap());
        ledger.is_exact(&exporter);
    }
    assert_eq!(exporter.metrics().sum(UP, &[]), 1.0);
    println!(
        "{kind}, Sentinel: all seen {took:.1?}, failed over {failed_over:.1?}, promoted {promoted:.1?}, added \
         {added:.1?}, removed {removed:.1?}"
    );
}

#[test]
fn a_server_found_in_several_ways_is_one_target_kept_by_reloads() {
    run_on(Kind::Redis70, |kind| {
        let servers = [(); 2].map(|()| node(kind).start());
        form(&servers.each_ref(), 1);
        let [master, replica] = servers.each_ref().map(target_of);
        let url = servers[0].url();
        let ledger = Ledger::new(&servers[1], None);
        let cluster = |name: &str, more: &str| {
            format!("  - {{name: {name}, addr: '{url}', discover: cluster{more}}}\n")
        };
        let own = format!("  - {{name: own, addr: '{url}'}}\n");
        let config =
            |own: &str, more: &str| format!("targets:\n{own}{}{}", cluster("a", more), cluster("b", ""));
        let (mut exporter, folder) = start(&config(&own, ""));
        let file = folder.path().join("config.yml");
        let checked = Exporter::builder().args(&["check", "--config.file", file.to_str().unwrap()]).run();
        for target in ["own".to_owned(), format!("a/{replica}")] {
            assert!(checked.stdout.contains(&target), "{checked:?}");
        }
        assert!(
            !checked.stdout.contains("b/") && !checked.stdout.contains(&format!("a/{master}")),
            "{checked:?}"
        );
        let metrics = exporter.wait_for(LIMIT, "the replica, once", |metrics| targets(metrics).len() == 2);
        no_duplicates(&metrics);
        // Either of the two entries may have been first.
        let name = targets(&metrics).into_iter().find(|name| name.ends_with(&replica)).unwrap();
        let (winner, loser) = if name.starts_with("a/") { ("a", "b") } else { ("b", "a") };
        let only = |expected: &[&str]| expected.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(targets(&metrics), only(&["own", &name]));
        stays_true(Duration::from_secs(3), "these two are all", || {
            let targets = targets(&exporter.metrics());
            if targets == only(&["own", &name]) { Ok(()) } else { Err(format!("{targets:?}")) }
        });
        let logs = exporter.logs();
        let told = lines_with(&logs, &["is not watched by this entry"]);
        assert_eq!(told.len(), 3, "the master by both, the replica by one, each once: {logs}");
        let count = |name: &str| exporter.metrics().value(COUNT, &[("discovery", name)]);
        assert_eq!((count(winner), count(loser)), (Some(1.0), Some(0.0)));
        exporter.wait_for(LIMIT, "some polls", |metrics| polls(metrics, &name) >= 3.0);
        ledger.spin(3);

        // A reload without changes keeps the connections. A reload that changes the settings of the targets keeps the
        // counts.
        let others = || {
            let list = text(&servers[1].call(&["CLIENT", "LIST"]));
            // The master also sends pings.
            let is_client = |line: &&str| line.contains("flags=N ");
            let ids = list.lines().filter(is_client);
            let ids = ids.filter(|line| line.contains("cmd=slowlog") || line.contains("cmd=ping"));
            ids.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<Vec<_>>()
        };
        let connection =
            || eventually(LIMIT, "the connection", || Some(others()).filter(|ids| ids.len() == 1));
        // On a busy machine, a connection can also end because the server does not respond in time.
        eventually(LIMIT, "a reload that keeps the connection", || {
            let before = connection();
            exporter.take_logs();
            exporter.signal(Signal::SIGHUP);
            exporter.wait_for(LIMIT, "the reload", |_| exporter.logs().contains("configuration reloaded"));
            let logs = exporter.logs();
            assert!(logs.contains("kept=2 changed=0 started=0 ended=0"), "{logs}");
            (before == connection()).then_some(())
        });
        exporter.take_logs();
        let text = config(&own, ", slow: {warning: 100ms}");
        let text = if winner == "a" {
            text
        } else {
            config(&own, "").replace("cluster}\n", "cluster, slow: {warning: 100ms}}\n")
        };
        fs::write(&file, text).unwrap();
        exporter.signal(Signal::SIGHUP);
        exporter.wait_for(LIMIT, "the reload", |metrics| {
            let labels = [("target", &*name), ("severity", "warning")];
            metrics.value("redis_script_slow_threshold_seconds", &labels) == Some(0.1)
        });
        ledger.spin(2);
        let metrics = exporter.wait_for(LIMIT, "the account to go on", |metrics| {
            metrics.sum("redis_script_slowlog_entries_total", &[("target", &*name)]) >= 2.0
        });
        assert_eq!(metrics.sum("redis_script_slowlog_lost_entries_total", &[("target", &*name)]), 0.0);

        // Without the entry that configured it, the master is discovered too. Without the winning entry, the other entry
        // has both.
        fs::write(&file, format!("targets:\n{}", cluster("a", ""))).unwrap();
        exporter.signal(Signal::SIGHUP);
        let both = only(&[&format!("a/{master}"), &format!("a/{replica}")]);
        exporter.wait_for(LIMIT, "both by the entry that stays", |metrics| targets(metrics) == both);
        let probed = exporter.get(&format!("/probe?target=a/{master}"));
        assert_eq!(probed.status, 200, "{}", probed.body);
        fs::write(&file, format!("targets:\n{own}")).unwrap();
        exporter.signal(Signal::SIGHUP);
        exporter.wait_for(LIMIT, "nothing to be discovered", |metrics| {
            targets(metrics) == only(&["own"]) && !metrics.names().contains(UP)
        });
    });
}

/// Starts a node that announces a host name, with this preferred endpoint type. The label `target` is the announced name,
/// and the node's certificate must be valid for it.
fn announcing(kind: Kind, name: &str, preferred: &str) -> Server {
    let server = node(kind)
        .config(format!("cluster-announce-hostname {name}"))
        .config(format!("cluster-preferred-endpoint-type {preferred}"))
        .config("cluster-announce-ip 127.0.0.1")
        .start();
    let slots = (0..SLOTS).map(|slot| slot.to_string());
    let command: Vec<String> =
        ["CLUSTER".to_owned(), "ADDSLOTS".to_owned()].into_iter().chain(slots).collect();
    assert_eq!(server.call(&command), Value::Okay);
    server
}

#[test]
fn the_preferred_endpoint_is_used_unless_its_name_does_not_resolve() {
    run_on(Kind::Redis70, |kind| {
        for (name, preferred, expected) in [
            ("localhost", "hostname", "localhost"),
            ("localhost", "ip", "127.0.0.1"),
            ("node-0.invalid", "hostname", "127.0.0.1"),
        ] {
            let server = announcing(kind, name, preferred);
            let (exporter, _folder) =
                start(&format!("targets: [{{addr: '{}', discover: cluster}}]", server.url()));
            all_seen(&exporter, &BTreeSet::from([format!("{expected}:{}", server.port())]));
        }
    });
}

#[test]
fn every_address_of_a_host_name_is_a_target() {
    run_on(Kind::Redis70, |kind| {
        let servers = [(); 2].map(|()| Server::start(kind));
        let addr = |server: &Server| format!("redis://localhost:{}", server.port());
        let (exporter, _folder) = start(&format!(
            "targets: [{{name: pods, addr: '{}', addrs: ['{}'], discover: dns}}]",
            addr(&servers[0]),
            addr(&servers[1])
        ));
        for server in &servers {
            let target = format!("pods/127.0.0.1:{}", server.port());
            exporter.wait_for(LIMIT, "each address to be a target", |metrics| {
                metrics.value("redis_script_target_up", &[("target", &target)]) == Some(1.0)
            });
        }
        assert_eq!(exporter.metrics().value(UP, &[("discovery", "pods")]), Some(1.0));
        let (exporter, _folder) = start("targets: [{addr: 'redis://nowhere.invalid:1', discover: dns}]");
        exporter.wait_for(LIMIT, "the failure to be logged", |_| {
            !lines_with(&exporter.logs(), &["discovery failed", "cannot resolve nowhere.invalid"]).is_empty()
        });
    });
}

#[test]
fn nodes_are_named_as_announced_and_contacted_with_tls() {
    run_on(Kind::Redis70, |kind| {
        if !kind.has_tls() {
            assert!(std::env::var_os("CI").is_none(), "one of the servers must have TLS");
            return;
        }
        let certificates = Certificates::new();
        let tls_node = || {
            node(kind)
                .tls(&certificates)
                // Each node is also a client of the others.
                .config(format!("tls-client-cert-file {}", certificates.client_cert().display()))
                .config(format!("tls-client-key-file {}", certificates.client_key().display()))
                .config("tls-cluster yes")
                .config("tls-replication yes")
                .config("cluster-announce-hostname localhost")
                .config("cluster-preferred-endpoint-type hostname")
                .acl(&[
                    "user default on nopass ~* &* +@all",
                    "user exporter on >sesame +ping +info +slowlog|get +multi +exec +config|get +cluster|nodes",
                ])
                .start()
        };
        let servers = [(); 2].map(|()| tls_node());
        // With TLS, CLUSTER MEET needs the TLS ports.
        let tls_port = |server: &Server| server.tls_url().rsplit_once(':').unwrap().1.to_owned();
        let bus = text(&servers[1].call(&["CLUSTER", "NODES"]));
        let bus: String = bus.split_once('@').unwrap().1.chars().take_while(char::is_ascii_digit).collect();
        let met = servers[0].call(&["CLUSTER", "MEET", "127.0.0.1", &tls_port(&servers[1]), &bus]);
        assert_eq!(met, Value::Okay);
        let slots = (0..SLOTS).map(|slot| slot.to_string());
        let command: Vec<String> =
            ["CLUSTER".to_owned(), "ADDSLOTS".to_owned()].into_iter().chain(slots).collect();
        assert_eq!(servers[0].call(&command), Value::Okay);
        eventually(LIMIT, "both to know each other", || {
            servers.iter().all(|server| known(server) == 2).then_some(())
        });
        let seed = servers[0].tls_url().replace("localhost", "127.0.0.1");
        let ca = certificates.ca().display().to_string();
        let (exporter, _folder) = start(&format!(
            "targets: [{{name: safe, addr: '{seed}', discover: cluster, user: exporter, password: sesame, \
             tls: {{ca_file: '{ca}'}}}}]"
        ));
        let expected = servers.each_ref().map(|server| format!("safe/localhost:{}", tls_port(server)));
        all_seen(&exporter, &BTreeSet::from(expected));
    });
}

#[test]
fn discovery_failures_are_logged_once_with_the_remedy() {
    run_on(Kind::Redis70, |kind| {
        let server = Server::builder(kind)
            .config("cluster-enabled yes")
            .acl(&["user default on nopass ~* &* +@all", "user exporter on >sesame +ping +info"])
            .start();
        let plain = Server::start(kind);
        let (exporter, _folder) = start(&format!(
            "targets:\n  - {{name: acl, addr: '{}', discover: cluster, user: exporter, password: sesame}}\n  \
             - {{name: plain, addr: '{}', discover: cluster}}\n  \
             - {{name: nobody, addr: '127.0.0.1:1', addrs: ['127.0.0.1:2'], discover: cluster}}\n  \
             - {{name: no-sentinel, addr: '{}', discover: sentinel, masters: [mymaster]}}\n",
            server.url(),
            plain.url(),
            plain.url()
        ));
        exporter.wait_for(LIMIT, "all to be told", |_| {
            lines_with(&exporter.logs(), &["discovery failed"]).len() >= 4
        });
        stays_true(Duration::from_secs(3), "one line each", || {
            let logs = exporter.logs();
            if lines_with(&logs, &["discovery failed"]).len() == 4 { Ok(()) } else { Err(logs) }
        });
        let logs = exporter.logs();
        for (name, words) in [
            ("acl", "ACL SETUSER exporter '+cluster|nodes'"),
            ("plain", "cluster support disabled"),
            ("nobody", "Connection refused"),
            ("no-sentinel", "give the address of a Sentinel"),
        ] {
            let line = lines_with(&logs, &[&format!("discovery={name} "), words]);
            assert_eq!(line.len(), 1, "{name}: {logs}");
            assert_eq!(exporter.metrics().value(UP, &[("discovery", name)]), Some(0.0));
        }
        assert!(!logs.contains("sesame"), "{logs}");
        eventually(LIMIT, "it to be ready", || (exporter.get("/-/ready").status == 200).then_some(()));
    });
}
