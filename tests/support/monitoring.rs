//! Prometheus, Alertmanager, and a receiver that records notifications.
//!
//! ```text
//! let receiver = Receiver::start();
//! let alertmanager = Alertmanager::start(&shipped("alerts/alertmanager.example.yml"), &receiver);
//! let prometheus = Prometheus::builder()
//!     .scrape("redis-script-exporter", exporter.addr())
//!     .rules(shipped("alerts/redis-script.rules.yml"))
//!     .alertmanager(&alertmanager)
//!     .start();
//! prometheus.wait_ready();
//! let page = receiver.wait_for(limit, "a page", |pages| pages.first().cloned());
//! ```
//!
//! Each program listens on a free loopback port, keeps its files in a temporary directory, and is ended when its value is
//! dropped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Error, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::http::{Connection, Response};
use super::process::{Process, find_program};
use super::server::free_port;
use super::wait::{eventually, eventually_or_tell};

/// Time limit for a program to start. Prometheus applies new targets only every 5 s, in two steps.
const LIMIT: Duration = Duration::from_secs(30);

/// Maximum number of ports to try for a program.
const TRIES: u32 = 5;

/// Time limit for a notification to arrive on an open connection.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Default scrape and evaluation interval.
const INTERVAL: Duration = Duration::from_secs(1);

/// Base URL of the webhooks in the shipped Alertmanager configurations.
const WEBHOOKS: &str = "http://127.0.0.1:9095/";

/// Returns the text of a file of this project, such as `alerts/redis-script.rules.yml`.
#[track_caller]
pub fn shipped(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// True if Prometheus and Alertmanager are installed.
pub fn installed() -> bool {
    prometheus().is_some() && alertmanager().is_some()
}

/// Like [`installed`], for a test: if false, reports that the test is skipped, or panics with `CI=true`.
#[track_caller]
pub fn available() -> bool {
    if installed() {
        return true;
    }
    let advice = "Prometheus or Alertmanager is not on this machine; `make setup` installs them";
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{advice}");
    // Written to the stream directly, because the test runner hides the output of `eprintln!` in a passing test.
    let _ = writeln!(io::stderr(), "\nSKIPPED: {advice}");
    false
}

fn prometheus() -> Option<PathBuf> {
    find_program("prometheus")
}

fn alertmanager() -> Option<PathBuf> {
    // Debian's name first, then the usual one.
    find_program("prometheus-alertmanager").or_else(|| find_program("alertmanager"))
}

/// State of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Firing,
    Resolved,
}

/// One alert of one notification. A notification repeats the other firing alerts of its group.
#[derive(Clone, Debug)]
pub struct Page {
    pub received_at: Instant,
    /// Receiver in Alertmanager's configuration to which the alert was routed.
    pub receiver: String,
    pub status: Status,
    pub alertname: String,
    pub severity: String,
    /// All labels, including those above.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Time at which the alert first fired in Prometheus, in RFC 3339.
    pub starts_at: String,
}

impl Page {
    /// Returns the time at which the alert began to fire, in seconds since the Unix epoch.
    #[track_caller]
    pub fn began(&self) -> f64 {
        unix_seconds(&self.starts_at)
    }

    /// Returns the value of a label; empty if the alert does not have it.
    pub fn label(&self, label: &str) -> &str {
        self.labels.get(label).map_or("", String::as_str)
    }

    fn new(alert: &Json, receiver: &str, received_at: Instant) -> Option<Self> {
        let strings = |field: &str| -> Option<BTreeMap<String, String>> {
            let pairs = alert[field].as_object()?.iter();
            pairs.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        };
        let labels = strings("labels")?;
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        Some(Self {
            received_at,
            receiver: receiver.to_owned(),
            status: match alert["status"].as_str()? {
                "firing" => Status::Firing,
                "resolved" => Status::Resolved,
                _ => return None,
            },
            alertname: label("alertname"),
            severity: label("severity"),
            annotations: strings("annotations")?,
            starts_at: alert["startsAt"].as_str()?.to_owned(),
            labels,
        })
    }
}

/// Converts a time in RFC 3339, such as `2026-02-03T04:05:06.789Z`, to seconds since the Unix epoch.
#[track_caller]
pub fn unix_seconds(time: &str) -> f64 {
    let fields: Option<Vec<f64>> = time
        .strip_suffix('Z')
        .map(|time| time.split(['-', 'T', ':']).map(|field| field.parse().ok()).collect())
        .unwrap_or_default();
    let Some([year, month, day, hour, minute, second]) = fields.as_deref() else { panic!("not UTC: {time}") };
    // If years begin in March, the leap day is their last day.
    let (year, month) = if *month > 2.0 { (*year, month - 3.0) } else { (year - 1.0, month + 9.0) };
    let leap_days = (year / 4.0).floor() - (year / 100.0).floor() + (year / 400.0).floor();
    let days = year * 365.0 + leap_days + ((153.0 * month + 2.0) / 5.0).floor() + day - 1.0 - 719_468.0;
    ((days * 24.0 + hour) * 60.0 + minute) * 60.0 + second
}

/// Webhook that Alertmanager notifies.
pub struct Receiver {
    addr: SocketAddr,
    pages: Arc<Mutex<Vec<Page>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts the receiver.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let addr = listener.local_addr().unwrap();
        let pages = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (pages, stopping) = (Arc::clone(&pages), Arc::clone(&stopping));
            move || {
                for connection in listener.incoming() {
                    if stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    // Alertmanager sends an incomplete notification again.
                    if let Ok(new) = connection.and_then(|stream| notification(&stream)) {
                        pages.lock().unwrap().extend(new);
                    }
                }
            }
        });
        Self { addr, pages, stopping, thread: Some(thread) }
    }

    /// Returns the URL for notifications.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Returns all notifications so far, in order.
    pub fn pages(&self) -> Vec<Page> {
        self.pages.lock().unwrap().clone()
    }

    /// Waits until `find` returns a value. Panics with `what` and all pages when `limit` has passed.
    #[track_caller]
    pub fn wait_for<T>(&self, limit: Duration, what: &str, find: impl Fn(&[Page]) -> Option<T>) -> T {
        eventually_or_tell(limit, what, || {
            let pages = self.pages();
            find(&pages).ok_or_else(|| format!("{pages:#?}"))
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes up the thread that accepts connections.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads one notification and responds.
fn notification(stream: &TcpStream) -> io::Result<Vec<Page>> {
    stream.set_read_timeout(Some(READ_LIMIT))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let received_at = Instant::now();
    let body: Json = serde_json::from_slice(&body)?;
    let receiver = body["receiver"].as_str().unwrap_or_default();
    let alerts = body["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let pages = alerts.iter().map(|alert| Page::new(alert, receiver, received_at)).collect::<Option<_>>();
    let status = if pages.is_some() { "204 No Content" } else { "400 Bad Request" };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    pages.ok_or_else(|| Error::other(format!("not a notification: {body}")))
}

/// Program that serves HTTP, with its files.
struct Service {
    /// Declared before the directory: fields are dropped in order, and the program must not outlive its files.
    _process: Process,
    dir: TempDir,
    addr: SocketAddr,
}

impl Service {
    /// Starts `program` in `dir` and waits until it is ready; `args` returns the arguments for a given address.
    #[track_caller]
    fn start(program: Option<PathBuf>, dir: TempDir, args: impl Fn(SocketAddr) -> Vec<String>) -> Self {
        let ready = |addr| request(addr, "GET", "/-/ready").is_ok_and(|answer| answer.status == 200);
        Self::start_until(ready, program, dir, args)
    }

    /// Like [`Service::start`], with a different readiness check.
    #[track_caller]
    fn start_until(
        is_ready: impl Fn(SocketAddr) -> bool,
        program: Option<PathBuf>,
        dir: TempDir,
        args: impl Fn(SocketAddr) -> Vec<String>,
    ) -> Self {
        let program = program.expect("a test asks whether the programs are there");
        let output = dir.path().join("output.log");
        let mut failure = String::new();
        for _ in 0..TRIES {
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let mut process = Process::start(&program, Signal::SIGKILL, |command| {
                let output = fs::File::create(&output).unwrap();
                command
                    .args(args(addr))
                    .args(["--log.level=warn".to_owned(), format!("--web.listen-address={addr}")])
                    .arg(format!("--web.external-url=http://{addr}"))
                    .current_dir(dir.path())
                    // With the default, garbage collection takes a fifth of the CPU time.
                    .env("GOGC", "800")
                    .stdin(Stdio::null())
                    .stdout(output.try_clone().unwrap())
                    .stderr(output);
            })
            .unwrap_or_else(|error| panic!("{} can't be run: {error}", program.display()));
            let ready = eventually(LIMIT, &format!("{} to be ready", program.display()), || {
                if process.exit_status().is_some() {
                    return Some(false);
                }
                is_ready(addr).then_some(true)
            });
            if ready {
                return Self { _process: process, dir, addr };
            }
            failure = fs::read_to_string(&output).unwrap_or_default();
            // Another program took the port first. This is the only failure that is retried.
            if !failure.contains("address already in use") {
                break;
            }
        }
        panic!("{} did not start: {failure}", program.display());
    }

    /// Returns the logged warnings and errors.
    fn logs(&self) -> String {
        fs::read_to_string(self.dir.path().join("output.log")).unwrap_or_default()
    }
}

fn request(addr: SocketAddr, method: &str, path: &str) -> io::Result<Response> {
    Connection::open(addr)?.request(method, path, &[("Connection", "close")])
}

/// Running Alertmanager; ended on drop.
pub struct Alertmanager(Service);

impl Alertmanager {
    /// Starts it with a configuration such as the shipped example, in which `receiver` replaces the webhooks at
    /// [`WEBHOOKS`].
    #[track_caller]
    pub fn start(config: &str, receiver: &Receiver) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let file = dir.path().join("alertmanager.yml");
        assert!(config.contains(WEBHOOKS), "nobody would be notified: {config}");
        fs::write(&file, config.replace(WEBHOOKS, &receiver.url())).unwrap();
        let storage = dir.path().join("data");
        Self(Service::start(alertmanager(), dir, |_| {
            vec![
                format!("--config.file={}", file.display()),
                format!("--storage.path={}", storage.display()),
                "--cluster.listen-address=".to_owned(),
            ]
        }))
    }

    /// Starts it with a file of `--web.config.file`, which enables TLS.
    #[track_caller]
    pub fn start_with_tls(config: &str, receiver: &Receiver, web_config: &str) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let (file, web_file) = (dir.path().join("alertmanager.yml"), dir.path().join("web.yml"));
        fs::write(&file, config.replace(WEBHOOKS, &receiver.url())).unwrap();
        fs::write(&web_file, web_config).unwrap();
        let storage = dir.path().join("data");
        let listens = |addr| TcpStream::connect(addr).is_ok();
        Self(Service::start_until(listens, alertmanager(), dir, |_| {
            vec![
                format!("--config.file={}", file.display()),
                format!("--web.config.file={}", web_file.display()),
                format!("--storage.path={}", storage.display()),
                "--cluster.listen-address=".to_owned(),
            ]
        }))
    }

    /// Returns its base URL.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// Returns the alerts in its API.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Json> {
        let answer = request(self.addr(), "GET", "/api/v2/alerts").expect("Alertmanager answers");
        serde_json::from_str(&answer.body).expect("the API answers with a list")
    }

    /// Sends alerts as Prometheus does. Each alert is a set of labels.
    #[track_caller]
    pub fn post(&self, alerts: &[Json]) {
        let alerts: Vec<_> = alerts.iter().map(|labels| json!({ "labels": labels })).collect();
        let body = Json::from(alerts).to_string();
        let mut stream = super::http::connect(self.addr()).expect("Alertmanager listens");
        write!(
            stream,
            "POST /api/v2/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Returns the labels of all inhibited alerts.
    #[track_caller]
    pub fn inhibited(&self) -> Vec<Json> {
        let answer = request(self.addr(), "GET", "/api/v2/alerts").expect("Alertmanager answers");
        let mut alerts: Json = serde_json::from_str(&answer.body).expect("the API answers in JSON");
        let alerts = alerts.as_array_mut().expect("a list of alerts").iter_mut();
        let inhibited = alerts.filter(|alert| {
            alert["status"]["inhibitedBy"].as_array().is_some_and(|sources| !sources.is_empty())
        });
        inhibited.map(|alert| alert["labels"].take()).collect()
    }
}

/// Configuration of a Prometheus server.
#[derive(Default)]
pub struct Builder {
    jobs: Vec<(String, SocketAddr, Duration)>,
    /// Labels of all targets of `jobs`.
    labels: BTreeMap<String, String>,
    /// Additional entries of `scrape_configs`.
    scrape_configs: Vec<Json>,
    rules: Vec<String>,
    alertmanager: Option<SocketAddr>,
    /// Global evaluation interval; 1 s by default.
    evaluation: Option<Duration>,
    /// Additional command-line arguments.
    arguments: Vec<String>,
}

impl Builder {
    /// Enables a feature of Prometheus.
    pub fn feature(mut self, name: &str) -> Self {
        self.arguments.push(format!("--enable-feature={name}"));
        self
    }

    /// Adds a target with a scrape interval of 1 s.
    pub fn scrape(self, job: &str, addr: SocketAddr) -> Self {
        self.scrape_every(job, addr, INTERVAL)
    }

    /// Adds a target with this scrape interval.
    pub fn scrape_every(mut self, job: &str, addr: SocketAddr, interval: Duration) -> Self {
        self.jobs.push((job.to_owned(), addr, interval));
        self
    }

    /// Sets the global evaluation interval.
    pub fn evaluate_every(mut self, interval: Duration) -> Self {
        self.evaluation = Some(interval);
        self
    }

    /// Adds a label to the targets of all jobs.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds an entry of `scrape_configs`. [`Prometheus::wait_ready`] does not wait for its targets.
    pub fn scrape_config(mut self, config: Json) -> Self {
        self.scrape_configs.push(config);
        self
    }

    /// Adds a rule file with the given content. Rules are evaluated every second unless their group has another interval.
    pub fn rules(mut self, text: impl Into<String>) -> Self {
        self.rules.push(text.into());
        self
    }

    /// Sends alerts to this Alertmanager.
    pub fn alertmanager(mut self, alertmanager: &Alertmanager) -> Self {
        self.alertmanager = Some(alertmanager.addr());
        self
    }

    /// Starts Prometheus and waits until it responds. The first scrape takes place some seconds later; see
    /// [`Prometheus::wait_ready`].
    #[track_caller]
    pub fn start(self) -> Prometheus {
        let dir = TempDir::new().expect("a temporary directory");
        let rule_files = self.rules.iter().enumerate().map(|(index, text)| {
            let file = dir.path().join(format!("rules-{index}.yml"));
            fs::write(&file, text).unwrap();
            file
        });
        let jobs = self.jobs.iter().map(|(job, addr, interval)| {
            write_target(dir.path(), job, *addr, *addr);
            let labels = self.labels.iter();
            let labels = labels.map(|(name, value)| json!({ "target_label": name, "replacement": value }));
            json!({
                "job_name": job,
                "scrape_interval": format!("{}ms", interval.as_millis()),
                "relabel_configs": labels.collect::<Vec<_>>(),
                "file_sd_configs": [{ "files": [target_file(dir.path(), job)], "refresh_interval": "1s" }],
            })
        });
        let alertmanagers: Vec<_> = self.alertmanager.iter().map(ToString::to_string).collect();
        let interval = format!("{}ms", INTERVAL.as_millis());
        let evaluation = format!("{}ms", self.evaluation.unwrap_or(INTERVAL).as_millis());
        let config = json!({
            "global": { "scrape_interval": interval, "evaluation_interval": evaluation },
            "rule_files": rule_files.collect::<Vec<_>>(),
            "scrape_configs": jobs.chain(self.scrape_configs.iter().cloned()).collect::<Vec<_>>(),
            "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": alertmanagers }] }] },
        });
        // JSON is valid YAML.
        let service = serve(dir, &config.to_string(), &self.arguments);
        Prometheus { service, jobs: self.jobs, alertmanagers: alertmanagers.len() }
    }
}

/// Starts Prometheus with this configuration, which may refer to files in `dir`.
#[track_caller]
fn serve(dir: TempDir, config: &str, arguments: &[String]) -> Service {
    let file = dir.path().join("prometheus.yml");
    fs::write(&file, config).unwrap();
    let storage = dir.path().join("data");
    Service::start(prometheus(), dir, |_| {
        let mut all = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", storage.display()),
            "--storage.tsdb.retention.time=1h".to_owned(),
        ];
        all.extend(arguments.iter().cloned());
        all
    })
}

/// Returns the path of the file with the target of a job.
fn target_file(dir: &Path, job: &str) -> PathBuf {
    dir.join(format!("target-{job}.json"))
}

/// Writes the address of a job's target. The label `instance` remains that of its first address.
fn write_target(dir: &Path, job: &str, addr: SocketAddr, first: SocketAddr) {
    let groups = json!([{ "targets": [addr.to_string()], "labels": { "instance": first.to_string() } }]);
    // Replaced atomically, because Prometheus may read the file at any time.
    let new = dir.join("target.new");
    fs::write(&new, groups.to_string()).unwrap();
    fs::rename(new, target_file(dir, job)).unwrap();
}

/// Running Prometheus; ended on drop.
pub struct Prometheus {
    service: Service,
    jobs: Vec<(String, SocketAddr, Duration)>,
    alertmanagers: usize,
}

impl Prometheus {
    /// Returns a builder.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts Prometheus with a complete configuration, in which paths are relative to `dir`.
    #[track_caller]
    pub fn start_with(config: &str, dir: TempDir) -> Self {
        Self { service: serve(dir, config, &[]), jobs: Vec::new(), alertmanagers: 0 }
    }

    /// Returns its base URL.
    pub fn addr(&self) -> SocketAddr {
        self.service.addr
    }

    /// Waits until [`Prometheus::readiness`] succeeds, which takes about 10 s after the start.
    #[track_caller]
    pub fn wait_ready(&self) {
        eventually_or_tell(LIMIT, "Prometheus to scrape and evaluate", || self.readiness());
    }

    /// Succeeds if every target has been scraped, every rule of a fast group has been evaluated and Alertmanager has been
    /// discovered. Otherwise returns the progress.
    #[track_caller]
    pub fn readiness(&self) -> Result<(), String> {
        let list = |data: &Json, field: &str| data[field].as_array().cloned().unwrap_or_default();
        let targets = list(&self.api("targets?state=active"), "activeTargets");
        let scraped = targets.iter().filter(|target| target["health"] != "unknown").count();
        let groups = self.rule_groups();
        // The first evaluation of a group can take place at any time within its interval.
        let fast =
            |group: &&Json| group["interval"].as_f64().is_some_and(|seconds| seconds <= LIMIT.as_secs_f64());
        let waiting = groups.iter().filter(fast).flat_map(|group| list(group, "rules"));
        let waiting = waiting.filter(|rule| rule["health"] == "unknown").count();
        let known = self.alertmanagers().len();
        if scraped == self.jobs.len() && waiting == 0 && known == self.alertmanagers {
            return Ok(());
        }
        Err(format!("{scraped} targets scraped, {waiting} rules waiting, {known} Alertmanagers known"))
    }

    /// Moves a job's target to another address with the same label `instance`, as if the exporter had been restarted.
    /// Returns after the first scrape there, up to 10 s later.
    #[track_caller]
    pub fn move_target(&self, job: &str, addr: SocketAddr) {
        let first = self.jobs.iter().find(|(name, ..)| name == job).expect("a job that is scraped").1;
        write_target(self.service.dir.path(), job, addr, first);
        let url = format!("http://{addr}/metrics");
        eventually(LIMIT, "Prometheus to scrape the new address", || {
            let targets = self.api("targets?state=active");
            let found =
                targets["activeTargets"].as_array()?.iter().find(|target| target["scrapeUrl"] == url)?;
            (found["health"] == "up").then_some(())
        });
    }

    /// Evaluates an expression. Returns the API's `data`, with `resultType` and `result`.
    #[track_caller]
    pub fn query(&self, promql: &str) -> Json {
        self.api(&format!("query?query={}", escaped(promql)))
    }

    /// Evaluates an expression over the duration `last`, with a value every `step`. Returns the API's `data`.
    #[track_caller]
    pub fn query_range(&self, promql: &str, last: Duration, step: Duration) -> Json {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is set").as_secs_f64();
        self.api(&format!(
            "query_range?query={}&start={}&end={now}&step={}",
            escaped(promql),
            now - last.as_secs_f64(),
            step.as_secs_f64()
        ))
    }

    /// Returns the rule groups in the API.
    #[track_caller]
    pub fn rule_groups(&self) -> Vec<Json> {
        self.api("rules")["groups"].as_array().cloned().unwrap_or_default()
    }

    /// Returns the URLs of the active Alertmanagers.
    #[track_caller]
    pub fn alertmanagers(&self) -> Vec<Json> {
        self.api("alertmanagers")["activeAlertmanagers"].as_array().cloned().unwrap_or_default()
    }

    /// Returns the pending and firing alerts in the API.
    #[track_caller]
    pub fn alerts(&self) -> Vec<Json> {
        self.api("alerts")["alerts"].as_array().cloned().unwrap_or_default()
    }

    /// Returns its logged warnings and errors.
    pub fn logs(&self) -> String {
        self.service.logs()
    }

    /// Returns the `data` of a response from `/api/v1/…`; panics on an error.
    #[track_caller]
    fn api(&self, path: &str) -> Json {
        let answer = request(self.addr(), "GET", &format!("/api/v1/{path}"))
            .unwrap_or_else(|error| panic!("GET /api/v1/{path}: {error}\n{}", self.logs()));
        assert_eq!(answer.status, 200, "GET /api/v1/{path}: {}", answer.body);
        let mut body: Json = serde_json::from_str(&answer.body).expect("the API answers in JSON");
        body["data"].take()
    }
}

/// Percent-encodes text for a query string.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() {
            url.push(char::from(byte));
        } else {
            write!(url, "%{byte:02X}").unwrap();
        }
        url
    })
}
