//! All attacks at the same time.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::{LIMIT, SPIN, lines_with, logs_milliseconds, number, spin, target_of, whole};
use test_support::exporter::Exporter;
use test_support::hostile::{Hostile, INFO, SilentResolver, bulk, endless, flooded, listen_on, quiet};
use test_support::http::connect_from;
use test_support::server::{Kind, run_on};
use test_support::wait::load_per_core;

/// Maximum memory of the process during all attacks, in bytes.
const MAX_ATTACKED: u64 = 128_000_000;

/// Memory of a release build without targets, in bytes. A debug build uses more because of the size of its code.
const RELEASED: u64 = 9_000_000;

/// Limits for the median time of a scrape and for exiting after SIGTERM, each with a factor. A debug build takes several
/// times as long to render a response of this size. On a slow machine, the limit is the factor times the time of an empty
/// response; on an overloaded machine, the limit is multiplied by the load.
const SCRAPE: (Duration, u32) = (Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 250 }), 200);
const STOP: (Duration, u32) = (Duration::from_secs(2), 100);

/// Number of slow calls on each real server, and the time between them, during the attacks.
const CALLS: u64 = 5;
const BETWEEN_CALLS: Duration = Duration::from_secs(2);

/// Number of incomplete requests per second, sent by two threads together.
const HALF_REQUESTS: u32 = 5_000;

/// Returns the current time limit on this machine; `median` is the time of an empty response.
fn allowed((limit, factor): (Duration, u32), median: Duration) -> Duration {
    limit.mul_f64(load_per_core()).max(median * factor)
}

/// Returns the median time of a request.
fn median_of(exporter: &Exporter, path: &str) -> Duration {
    let mut times: Vec<Duration> = (0..11)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(exporter.get(path).status, 200, "{path}");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// Returns the replies of a node that lists 1,900 new cluster nodes each time.
fn ever_new_nodes() -> impl Fn(&[String]) -> Vec<u8> + Send + Sync + 'static {
    let asked = AtomicUsize::new(0);
    move |words| {
        if words[0] != "cluster" {
            return quiet(words);
        }
        let first = 1900 * asked.fetch_add(1, Ordering::Relaxed);
        let node = |number: usize| {
            let [high, low] = [number / 200 % 200, number % 200].map(|part| part + 1);
            let flags = if number == first { "myself,master" } else { "master" };
            format!("{number:040} 127.100.{high}.{low}:1@1 {flags} - 0 0 1 connected {number}\n")
        };
        bulk((first..first + 1900).map(node).collect::<String>())
    }
}

/// Starts fifty servers with five kinds of attacks.
fn attackers() -> Vec<Hostile> {
    let begun: Arc<Vec<u8>> = Arc::new([b"$15000000\r\n".to_vec(), vec![b'x'; 12 << 20]].concat());
    let mut hostile = Vec::new();
    for number in 0..10 {
        let begun = Arc::clone(&begun);
        hostile.push(Hostile::answering(
            move |words| {
                if words[0] == "function" { begun.to_vec() } else { quiet(words) }
            },
        ));
        hostile.push(Hostile::answering(flooded()));
        let asked = AtomicUsize::new(0);
        hostile.push(Hostile::answering(move |words| {
            if words[0] != "info" {
                return quiet(words);
            }
            let name = format!("{}{number}{}", asked.fetch_add(1, Ordering::Relaxed), "x".repeat(180_000));
            bulk(INFO.replace("0123456789abcdef", &name).replace("standalone", &name))
        }));
        hostile.push(Hostile::start(endless(b"$100000000000\r\n", b"x".repeat(100_000))));
        hostile.push(Hostile::start(listen_on));
    }
    hostile
}

/// Returns a configuration with a cluster node that lists others, with names whose resolution hangs, and with `/probe`.
fn attacked(cluster: &Hostile, names: usize) -> String {
    let mut config = "modules: {default: {allow: ['127.0.0.0/8:*']}}\ntargets:\n".to_owned();
    writeln!(config, "  - {{addr: '{}', discover: cluster, allow: ['127.0.0.0/8:*']}}", cluster.addr)
        .unwrap();
    for number in 0..names {
        writeln!(config, "  - {{addr: 'redis://hanging{number}.example:6379'}}").unwrap();
    }
    config
}

/// Starts threads that send incomplete requests, probe addresses without a server, and read the responses of the page,
/// until the attack is over.
fn attack_over_http<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    addr: SocketAddr,
    over: &'scope AtomicBool,
) {
    for _ in 0..2 {
        scope.spawn(move || {
            let mut held = std::collections::VecDeque::new();
            let begun = Instant::now();
            for number in 0_u32.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let due = Duration::from_secs(1) / (HALF_REQUESTS / 2) * number;
                thread::sleep(due.saturating_sub(begun.elapsed()));
                // From a different address than the scrapes.
                let Ok(mut stream) = connect_from([127, 0, 0, 2], addr) else { continue };
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
                held.push_back(stream);
                if held.len() > 400 {
                    held.pop_front();
                }
            }
        });
    }
    // The first four probe, so that the limit on probed targets is reached while the attack lasts.
    for reader in 0..7 {
        scope.spawn(move || {
            for number in 0_usize.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let path = match reader {
                    0..4 => {
                        let [high, low] = [number / 250, number].map(|part| part % 250);
                        format!("/probe?target=127.20{reader}.{high}.{low}:1")
                    }
                    4 => "/api/v1/incidents".to_owned(),
                    5 => "/".to_owned(),
                    _ => "/api/v1/targets".to_owned(),
                };
                let _ = test_support::http::get(addr, &path);
                // A debug build is slow at rendering the lists of the page.
                thread::sleep(Duration::from_millis(if reader < 4 { 20 } else { 100 }));
            }
        });
    }
}

/// Runs all attacks of this file at the same time, including those through discovery, names and HTTP, next to 50 honest
/// servers.
#[test]
fn all_attacks_at_once() {
    let hostile = attackers();
    let honest: Vec<Hostile> = (0..48).map(|_| Hostile::answering(quiet)).collect();
    run_on(Kind::Redis70, |kind| {
        let real = [logs_milliseconds(kind).start(), logs_milliseconds(kind).start()];
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("state");
        let cluster = Hostile::answering(ever_new_nodes());
        let resolver = SilentResolver::start(Ipv4Addr::new(127, 53, 53, 54), folder.path());
        let names = if resolver.is_some() { 300 } else { 0 };
        let config_file = folder.path().join("config.yml");
        fs::write(&config_file, attacked(&cluster, names)).unwrap();
        let mut args = vec![
            format!("--state.file={}", file.display()),
            format!("--config.file={}", config_file.display()),
            "--web.show-keys".to_owned(),
        ];
        for server in hostile.iter().chain(&honest) {
            args.push(format!("--redis.addr=redis://{}", server.addr));
        }
        args.extend(real.iter().map(|server| format!("--redis.addr={}", server.url())));
        let wrapper = resolver.as_ref().map(SilentResolver::wrapper).unwrap_or_default();
        let mut exporter = Exporter::builder().wrapper(&wrapper).args(&args).start();
        let over = AtomicBool::new(false);
        let (memory, times, (status, took)) = thread::scope(|scope| {
            attack_over_http(scope, exporter.addr(), &over);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let targets = real.iter().map(target_of).collect::<Vec<_>>();
                for target in &targets {
                    exporter.wait_for(LIMIT, "a baseline", |metrics| {
                        let polls =
                            number(metrics, "redis_script_exporter_polls_total", &[("target", target)]);
                        polls.is_some_and(|polls| polls >= 3)
                    });
                }
                // Each scrape has megabytes of text, so only the last call is waited for.
                for _ in 0..CALLS {
                    for server in &real {
                        spin(&mut server.client(), "EVAL", SPIN);
                    }
                    thread::sleep(BETWEEN_CALLS);
                }
                for target in &targets {
                    exporter.wait_for(LIMIT, "the calls of the honest servers", |metrics| {
                        let labels = [("class", "script"), ("target", target)];
                        number(metrics, "redis_script_slowlog_entries_total", &labels) == Some(CALLS)
                    });
                }
                let times = (median_of(&exporter, "/-/healthy"), median_of(&exporter, "/metrics"));
                let metrics = exporter.metrics();
                let logs = exporter.logs();
                let [made_up, probed] = ["discovered", "probed"]
                    .map(|origin| metrics.sum(&format!("redis_script_exporter_{origin}_targets"), &[]));
                println!("{made_up} discovered and {probed} probed targets without a server");
                assert!(made_up <= 1000.0, "{made_up} discovered targets");
                let lost = metrics.series("redis_script_slowlog_lost_entries_total");
                for target in honest.iter().map(Hostile::target).chain(targets) {
                    let lost = lost.iter().filter(|sample| sample.label("target") == target);
                    assert_eq!(whole(lost.map(|sample| sample.value).sum()), 0, "{target}");
                    let dropped = lines_with(&logs, &["was dropped", &target]);
                    assert_eq!(dropped, [""; 0], "{target}");
                }
                (exporter.peak_memory(), times, exporter.terminate())
            }));
            over.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let larger =
            Exporter::start(&["--redis.addr", &real[0].url()]).peak_memory().saturating_sub(RELEASED);
        let (memory, (idle, scrape)) = (memory.saturating_sub(larger), times);
        assert!(status.success(), "{status:?}");
        println!(
            "{} KiB at the most, {scrape:?} for a scrape ({idle:?} without content), {took:?} to the end",
            memory >> 10
        );
        assert!(memory < MAX_ATTACKED, "{} KiB", memory >> 10);
        assert!(scrape <= allowed(SCRAPE, idle), "{scrape:?} for a scrape, {idle:?} without content");
        assert!(took <= allowed(STOP, idle), "{took:?} to the end, {idle:?} without content");
        let size = fs::metadata(&file).unwrap().len();
        assert!(size < 3_000_000, "a state file of {size} bytes");
    });
}
