//! Random incidents on two servers whose targets have the same name, each with its own exporter, through Prometheus and
//! Alertmanager with the shipped files. Checks which pages are sent and whether their content is correct.
//!
//! `INCIDENTS` sets the number of incidents (see [`count`]); `INCIDENTS_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use std::{env, fs, thread};

use redis::Value;
use serde_json::json;
use tempfile::TempDir;

use test_support::client::{Client, text};
use test_support::exporter::Exporter;
use test_support::monitoring::{
    Alertmanager, Page, Prometheus, Receiver, Status, available, shipped, unix_seconds,
};
use test_support::scripts::{BUSY_FUNCTION, BUSY_LIBRARY, BUSY_LOOP, evalsha, load};
use test_support::server::{Kind, Server, run_on};
use test_support::wait::{eventually, eventually_or_tell, load_per_core};

/// Time limit for pages to arrive and to be resolved; `RedisSlowScript` lasts for a minute.
const LIMIT: Duration = Duration::from_secs(120);

/// Name of both targets.
const TARGET: &str = "127.0.0.1:6379";

/// Script time limits of the two servers. One of them reports the running script before the critical page is sent.
const TIME_LIMITS: [u32; 2] = [5000, 1000];

/// Maximum time from the start of an alert to its page, in seconds, even if the alert follows another one of the same
/// server. This is far shorter than the intervals in Alertmanager's defaults and in other configurations.
const MAX_DELAY: f64 = 20.0;

/// Number of different scripts, and number of different functions.
const NAMES: u64 = 3;

/// Returns the number of incidents on both servers together.
fn count() -> usize {
    env::var("INCIDENTS").map_or(6, |count| count.parse().expect("INCIDENTS is a number"))
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Pseudorandom number generator (`SplitMix64`).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Script,
    Function,
    Module,
    Command,
}

/// Event that blocked a server.
#[derive(Debug)]
struct Incident {
    /// Index of the server.
    server: usize,
    what: What,
    name: String,
    /// The label `script`; empty for commands.
    identity: String,
    killed: bool,
    began: f64,
    ended: f64,
}

/// Server with its exporter and everything that can block it.
struct Place {
    server: Server,
    exporter: Exporter,
    /// Name and SHA1 of each script.
    scripts: Vec<(String, String)>,
    functions: Vec<String>,
    has_module: bool,
    _dir: TempDir,
}

impl Place {
    fn start(kind: Kind, index: usize, module: Option<&Path>) -> Self {
        let mut builder =
            Server::builder(kind).config(format!("busy-reply-threshold {}", TIME_LIMITS[index]));
        if let Some(module) = module {
            builder = builder.config(format!("loadmodule {}", module.display()));
        }
        let server = builder.start();
        let dir = TempDir::new().unwrap();
        let mut client = server.client();
        let (mut scripts, mut functions) = (Vec::new(), Vec::new());
        for number in 0..NAMES {
            let (script, function) =
                (format!("script_{index}_{number}"), format!("function_{index}_{number}"));
            let body = format!("-- {script}\n{BUSY_LOOP}");
            fs::write(dir.path().join(format!("{script}.lua")), &body).unwrap();
            scripts.push((script, load(&mut client, &body)));
            let library = BUSY_LIBRARY
                .replace(BUSY_FUNCTION, &function)
                .replace("name=busy", &format!("name=lib{number}"));
            let library = library.replace(&format!("name=lib{number}_loop"), &format!("name={function}"));
            assert_eq!(text(&client.call(&["FUNCTION", "LOAD", &library])), format!("lib{number}"));
            functions.push(function);
        }
        let config = dir.path().join("config.yml");
        let target = json!({ "targets": [{
            "name": TARGET, "addr": server.url(), "log_file": server.log_path(),
        }] });
        fs::write(&config, target.to_string()).unwrap();
        let exporter = Exporter::start(&[
            "--config.file",
            config.to_str().unwrap(),
            "--script.dir",
            dir.path().to_str().unwrap(),
        ]);
        Self { server, exporter, scripts, functions, has_module: module.is_some(), _dir: dir }
    }

    /// Runs incidents in sequence, some of them right after the previous one.
    fn run(&self, index: usize, count: usize, seed: u64) -> Vec<Incident> {
        let mut random = Random(seed);
        let mut client = self.server.client().with_limit(LIMIT);
        let mut incidents = Vec::new();
        for _ in 0..count {
            // In one of three cases, too short for a heartbeat in between.
            let gap = if random.below(3) == 0 { random.millis(20, 300) } else { random.millis(300, 9000) };
            thread::sleep(gap);
            let incident = self.incident(index, &mut random, &mut client);
            incidents.push(incident);
        }
        incidents
    }

    fn incident(&self, server: usize, random: &mut Random, client: &mut Client) -> Incident {
        let time = random.millis(1500, 12_000);
        let what = match random.below(8) {
            0..3 => What::Script,
            3..6 => What::Function,
            6 if self.has_module => What::Module,
            _ => What::Command,
        };
        // A script cannot be killed before the server is BUSY.
        let can_be_killed = time.as_millis() > u128::from(TIME_LIMITS[server]) + 300;
        let killed = matches!(what, What::Script | What::Function) && can_be_killed && random.below(2) == 0;
        let time_of_it = if killed { LIMIT } else { time };
        let which = usize::try_from(random.below(NAMES)).unwrap();
        let millis = time_of_it.as_millis().to_string();
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let (name, identity, command, kill) = match what {
            What::Script => {
                let (name, sha1) = &self.scripts[which];
                (name.clone(), sha1[..12].to_owned(), evalsha(sha1, time_of_it), "SCRIPT")
            }
            What::Function => {
                let name = &self.functions[which];
                (name.clone(), name.clone(), words(&["FCALL", name, "0", &millis]), "FUNCTION")
            }
            What::Module => ("busy.module".to_owned(), String::new(), words(&["BUSY.MODULE", &millis]), ""),
            What::Command => {
                let seconds = time.as_secs_f64().to_string();
                ("DEBUG SLEEP".to_owned(), String::new(), words(&["DEBUG", "SLEEP", &seconds]), "")
            }
        };
        let began = now();
        client.send(&command);
        if killed {
            thread::sleep(time);
            assert_eq!(text(&self.server.call(&[kill, "KILL"])), "OK", "{command:?}");
        }
        let reply = client.receive();
        assert!(killed || !matches!(reply, Value::ServerError(_)), "{command:?}: {reply:?}");
        Incident { server, what, name, identity, killed, began, ended: now() }
    }
}

/// Compiles a module with a blocking command; `None` without a C compiler.
pub(crate) fn module(dir: &Path) -> Option<std::path::PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/busy_module.c");
    let module = dir.join("busy.so");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&module).arg(source).status();
    status.is_ok_and(|status| status.success()).then_some(module)
}

/// Text of an alert in Prometheus at a given time.
struct Said {
    at: f64,
    instance: String,
    text: String,
}

/// Labels and start time of a firing alert, which are the same in all of its pages.
type Begun = (BTreeMap<String, String>, String);

/// Returns the first firing page of each alert.
fn begun(pages: &[Page]) -> Vec<Page> {
    let mut seen = BTreeSet::<Begun>::new();
    let firing = pages.iter().filter(|page| page.status == Status::Firing);
    firing.filter(|page| seen.insert((page.labels.clone(), page.starts_at.clone()))).cloned().collect()
}

/// Parses a duration such as `1m 2.5s` or `950ms` at the beginning of a longer text, in seconds.
fn duration(text: &str) -> Option<f64> {
    text.split_whitespace()
        .map_while(|word| {
            let word = word.trim_end_matches(['.', ',']);
            let number = |unit: &str| word.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok());
            number("ms")
                .map(|number| number / 1000.0)
                .or_else(|| number("s"))
                .or_else(|| number("m").map(|number| number * 60.0))
        })
        .reduce(|sum, number| sum + number)
}

/// Returns the text after `mark`.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark).map(|(_, rest)| rest)
}

/// Returns the index of the incident that a page describes, determined from its times and labels, or the reason why there
/// is none.
fn about(page: &Page, incidents: &[Incident], server: usize) -> Result<usize, String> {
    let text = &page.annotations["description"];
    let own = incidents.iter().enumerate().filter(|(_, incident)| incident.server == server);
    if page.alertname == "RedisScriptRunning" {
        let for_seconds = after(text, " has been blocked for ").and_then(duration);
        let blocked = for_seconds.ok_or("not in the present tense")?;
        // The duration in the page is that of the last scrape, up to a second before the evaluation.
        let begin = page.began() - blocked + 0.1;
        let latest = own
            .filter(|(_, incident)| incident.began <= begin)
            .max_by(|one, other| one.1.began.total_cmp(&other.1.began));
        let (index, incident) = latest.ok_or("nothing has begun")?;
        if page.began() > incident.ended + 2.5 {
            return Err(format!("in the present tense {:.1} s after the end", page.began() - incident.ended));
        }
        return Ok(index);
    }
    let ended = after(text, "It ended at ").and_then(|rest| rest.get(..19)).ok_or("no end")?;
    let ended = unix_seconds(&format!("{}Z", ended.replace(' ', "T")));
    let fits = |incident: &Incident| match page.alertname.as_str() {
        "RedisSlowScript" => incident.identity == page.label("script") && text.contains(&incident.name),
        "RedisSlowCommand" => match incident.what {
            What::Command => page.label("cause") == "command",
            What::Module => ["module", "command"].contains(&page.label("cause")),
            _ => false,
        },
        _ => false,
    };
    let mut near = own.filter(|(_, incident)| fits(incident) && (incident.ended - ended).abs() < 2.0);
    near.next().map(|(index, _)| index).ok_or_else(|| "of no incident".to_owned())
}

/// Returns the first incorrect statement in a text about an incident in progress.
fn untrue(text: &str, incident: &Incident) -> Option<&'static str> {
    let named = after(text, "It is running ");
    let right = match incident.what {
        What::Script => "the script ",
        What::Function => "the function ",
        What::Module | What::Command => "a module command",
    };
    let unnamed = match incident.what {
        What::Script => "a script whose name is not known yet",
        What::Function => "a function whose name is not known yet",
        What::Module | What::Command => right,
    };
    if let Some(named) = named
        && !named.starts_with(unnamed)
        && !(named.starts_with(right) && named.contains(&incident.name) && named.contains(&incident.identity))
    {
        return Some("names another script or kind");
    }
    let next = after(text, "Next: ").unwrap_or_default();
    let kill = match incident.what {
        What::Script => "SCRIPT KILL`.",
        What::Function => "FUNCTION KILL`.",
        What::Module => "see the module's documentation",
        What::Command => "nothing",
    };
    if text.contains("answers BUSY") && !text.contains("until it answers BUSY") && !next.contains(kill) {
        return Some("advises another kill");
    }
    None
}

#[test]
fn every_page_of_random_incidents_is_true_and_none_is_twice() {
    if available() {
        run_on(Kind::Redis70, random_incidents);
    }
}

fn random_incidents(kind: Kind) {
    let seed = env::var("INCIDENTS_SEED").map_or_else(|_| now().to_bits(), |seed| seed.parse().unwrap());
    println!("INCIDENTS_SEED={seed}");
    let dir = TempDir::new().unwrap();
    let module = module(dir.path());
    let places = [0, 1].map(|index| Place::start(kind, index, module.as_deref()));
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(&shipped("alerts/alertmanager.example.yml"), &receiver);
    let targets = places.each_ref().map(|place| place.exporter.addr().to_string());
    let prometheus = Prometheus::builder()
        .scrape_config(json!({
            "job_name": "redis-script-exporter", "scrape_interval": "1s", "static_configs": [{ "targets": targets }],
        }))
        .rules(shipped("alerts/redis-script.rules.yml"))
        .alertmanager(&alertmanager)
        .start();
    eventually(LIMIT, "both servers to be scraped, and the rules to be evaluated", || {
        let scraped = prometheus.query("redis_script_target_up == 1")["result"].as_array()?.len() == 2;
        let groups = prometheus.rule_groups();
        let now = groups.iter().find(|group| group["name"] == "redis-script-now")?;
        let evaluated = now["rules"].as_array()?.iter().all(|rule| rule["health"] == "ok");
        (scraped && evaluated && !prometheus.alertmanagers().is_empty()).then_some(())
    });

    let stop = AtomicBool::new(false);
    let (mut incidents, said) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut said = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let at = now();
                for alert in prometheus.alerts() {
                    if alert["labels"]["severity"] == "critical" && alert["state"] == "firing" {
                        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
                        let (instance, text) =
                            (text(&alert["labels"]["instance"]), text(&alert["annotations"]["description"]));
                        said.push(Said { at, instance, text });
                    }
                }
                thread::sleep(Duration::from_millis(200));
            }
            said
        });
        let runs = places.each_ref();
        let runs: Vec<_> = runs
            .into_iter()
            .enumerate()
            .map(|(index, place)| {
                scope.spawn(move || {
                    place.run(index, count().midpoint(index), seed ^ u64::try_from(index).unwrap())
                })
            })
            .collect();
        let incidents: Vec<_> = runs.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // Set even after a panic, because the scope waits for all of its threads.
        stop.store(true, Ordering::Relaxed);
        let incidents: Vec<_> = incidents.into_iter().flat_map(Result::unwrap).collect();
        (incidents, watcher.join().unwrap())
    });
    incidents.sort_by(|one, other| one.began.total_cmp(&other.began));
    eventually_or_tell(LIMIT, "a page for each incident, and all to be taken back", || {
        let pages = receiver.pages();
        let latest: BTreeMap<_, _> = pages.iter().map(|page| (&page.labels, page)).collect();
        let open: Vec<_> = latest.values().filter(|page| page.status == Status::Firing).collect();
        let alerts = prometheus.alerts();
        // The slow log of the last incident is read some seconds after its end.
        let settled = incidents.iter().all(|incident| now() > incident.ended + 10.0);
        if open.is_empty() && alerts.is_empty() && settled {
            Ok(())
        } else {
            Err(format!("{open:#?}\n{alerts:#?}"))
        }
    });
    judge(&incidents, &receiver.pages(), &said, &targets);
}

/// True if an incident needs no page of its own, because no scrape fell into the gap after the previous incident on the
/// same server, whose page continues.
fn continues(incident: &Incident, earlier: &[Incident]) -> bool {
    let latest = earlier.iter().rfind(|earlier| earlier.server == incident.server);
    // On a busy machine, scrapes are more than a second apart.
    latest.is_some_and(|latest| incident.began - latest.ended < load_per_core())
}

/// Prints the table. Fails if a page is incorrect, or if an incident has no page or two critical ones.
fn judge(incidents: &[Incident], pages: &[Page], said: &[Said], instances: &[String; 2]) {
    let mut wrong = Vec::new();
    let mut latest = 0.0_f64;
    let mut pages_of = vec![Vec::new(); incidents.len()];
    for page in begun(pages) {
        let server = instances.iter().position(|instance| instance == page.label("instance"));
        let server = server.expect("an exporter's instance");
        let text = &page.annotations["description"];
        let late = now() - page.received_at.elapsed().as_secs_f64() - page.began();
        latest = latest.max(late);
        if late > MAX_DELAY {
            wrong.push(format!("{late:.1} s after the alert began: {page:#?}"));
        }
        match about(&page, incidents, server) {
            Ok(index) => {
                if page.alertname == "RedisScriptRunning"
                    && let Some(reason) = untrue(text, &incidents[index])
                {
                    wrong.push(format!("{reason}: {page:#?}\n{:#?}", incidents[index]));
                }
                pages_of[index].push(page);
            }
            // On such a machine, the server process itself may wait for a second before it is scheduled.
            Err(_) if load_per_core() > 4.0 && page.label("cause") == "unknown" => {
                println!("a pause of the machine: {text}");
            }
            Err(reason) => wrong.push(format!("{reason}: {page:#?}")),
        }
    }
    let resolved = pages.iter().filter(|page| page.status == Status::Resolved && page.severity == "critical");
    let resolved: Vec<_> = resolved.filter(|page| page.alertname == "RedisScriptRunning").collect();
    let past =
        resolved.iter().filter(|page| page.annotations["description"].contains(" was blocked for ")).count();

    let mut table = String::from(
        "| server | what | name | s | end | pages | named while it ran |\n| --- | --- | --- | ---: | --- | --- | --- |\n",
    );
    for (index, (incident, pages)) in incidents.iter().zip(&pages_of).enumerate() {
        let critical = pages.iter().filter(|page| page.severity == "critical").count();
        if (pages.is_empty() && !continues(incident, &incidents[..index])) || critical > 1 {
            wrong.push(format!("{} pages, {critical} critical: {incident:#?}", pages.len()));
        }
        let texts: Vec<_> = said
            .iter()
            .filter(|said| said.instance == instances[incident.server])
            // Until a scrape and an evaluation after the start, the alert can be the previous one.
            .filter(|said| said.at > incident.began + 2.5 && said.at < incident.ended)
            .collect();
        for said in &texts {
            if let Some(reason) = untrue(&said.text, incident) {
                wrong.push(format!(
                    "{reason}, {:.1} s after the begin: {}",
                    said.at - incident.began,
                    said.text
                ));
            }
        }
        let named = texts.iter().filter_map(|said| after(&said.text, "It is running the "));
        let named = named.filter(|rest| rest.contains(&incident.name)).count() > 0;
        let listed: Vec<_> = pages
            .iter()
            .map(|page| {
                format!("{} {} +{:.1} s", page.severity, page.alertname, page.began() - incident.began)
            })
            .collect();
        writeln!(
            table,
            "| {} | {:?} | {} | {:.1} | {} | {} | {} |",
            incident.server,
            incident.what,
            incident.name,
            incident.ended - incident.began,
            if incident.killed { "killed" } else { "by itself" },
            listed.join(", "),
            if named { "yes" } else { "" },
        )
        .unwrap();
    }
    println!("{table}{past} of {} resolved critical pages are in the past tense", resolved.len());
    println!("pages arrived at most {latest:.1} s after their alerts began");
    assert!(wrong.is_empty(), "{}\n{table}", wrong.join("\n"));
    assert_eq!(past, resolved.len(), "what is over is told in the past tense: {resolved:#?}");
}
