//! Output of `check` and the status page for managed services, forks and proxies, with replies quoted in public documents
//! and threads. `tests/services/` has a file for each service, with its sources and the inferred replies. The results are
//! in `tests/golden/service-*.txt`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use crate::common::{LIMIT, QUICK, assert_golden, number, repository, state};
use test_support::exporter::Exporter;
use test_support::hostile::{Commands, Hostile, bulk, quiet};
use test_support::wait::eventually;

/// Replies of a service by command.
struct Service {
    name: String,
    replies: BTreeMap<String, String>,
}

impl Service {
    fn read(path: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let comments: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        for word in ["# source: ", "# inferred: "] {
            assert!(comments.iter().any(|line| line.starts_with(word)), "{}: no {word}", path.display());
        }
        let replies = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (command, reply) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            (command.to_owned(), reply.to_owned())
        });
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        Self { name, replies: replies.collect() }
    }

    /// Returns the reply to a command; `None` to close the connection. Commands that are not in the file get the replies of
    /// an idle server.
    fn answer(&self, words: &[String]) -> Option<Vec<u8>> {
        let two = words.get(1).map(|second| format!("{} {second}", words[0]));
        let reply = two.and_then(|two| self.replies.get(&two)).or_else(|| self.replies.get(&words[0]));
        match reply.map(String::as_str) {
            None if words[0] == "auth" => Some(b"+OK\r\n".to_vec()),
            None => Some(quiet(words)),
            Some("close") => None,
            Some(reply) if words[0] == "info" && !reply.starts_with('-') => {
                Some(bulk(reply.replace("\\r\\n", "\r\n")))
            }
            Some(error) if error.starts_with('-') => Some(format!("{error}\r\n").into_bytes()),
            Some(reply) => Some(wire(reply)),
        }
    }

    fn start(self) -> Hostile {
        Hostile::start(move |mut stream| {
            for words in Commands::new(&stream) {
                let answer = self.answer(&words);
                if answer.is_none_or(|answer| stream.write_all(&answer).is_err()) {
                    break;
                }
            }
            let _ = stream.shutdown(Shutdown::Both);
        })
    }
}

/// Encodes a reply in the notation of the files: `*N`, `:N` and `$text` (`$-` is null), separated by spaces.
fn wire(reply: &str) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
    let mut out = Vec::new();
    let starts = |word: &str| word.starts_with(['*', ':', '$']);
    let mut words: Vec<String> = Vec::new();
    for word in reply.split(' ') {
        match words.last_mut() {
            Some(last) if !starts(word) => write!(last, " {word}").unwrap(),
            _ => words.push(word.to_owned()),
        }
    }
    for word in words {
        match word.strip_prefix('$') {
            Some("-") => out.extend(b"$-1\r\n"),
            Some(text) => out.extend(bulk(text)),
            None => out.extend(format!("{}\r\n", word.replace("NOW", &now)).into_bytes()),
        }
    }
    out
}

fn services() -> Vec<Service> {
    let mut paths: Vec<_> =
        std::fs::read_dir(repository("tests/services")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Service::read(path)).collect()
}

/// Returns the result for a service: exit code and output of `check`, the exporter's capabilities, and the problems on the
/// page.
fn result(service: Service) -> String {
    let server = service.start();
    let url = format!("redis://{}", server.addr);
    let finished = Exporter::builder().args(&[
        "check",
        "--redis.addr",
        &url,
        "--redis.user=exporter",
        "--redis.password=x",
    ]);
    let finished = finished.args(&["--timeout=20s"]).run();
    let mut text = format!("check: exit code {}\n\n{}\n", finished.status.code().unwrap(), finished.stdout);
    let exporter = Exporter::builder()
        .args(&["--redis.addr", &url, "--redis.user=exporter", "--redis.password=x"])
        .args(&QUICK)
        .start();
    let target = server.target();
    let page = || -> Json { serde_json::from_str(&exporter.get("/api/v1/targets").body).unwrap() };
    let mut last = String::new();
    // Wait until nothing has changed for a while, because reconnecting takes time.
    let mut same = 0;
    let shown = eventually(LIMIT, "the state of the page to settle", || {
        let now = page()["targets"][0]["problems"].to_string();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        std::thread::sleep(std::time::Duration::from_millis(300));
        (same >= 12).then(&page)
    });
    let metrics = exporter.metrics();
    writeln!(text, "state: {}", state(&metrics, &target)).unwrap();
    for sample in metrics.series("redis_script_exporter_capability") {
        writeln!(text, "capability {}: {}", sample.label("feature"), sample.value).unwrap();
    }
    let calls = number(&metrics, "redis_script_slowlog_unreadable_entries_total", &[]);
    writeln!(text, "unreadable slow log entries: {}", calls.unwrap_or_default()).unwrap();
    for problem in shown["targets"][0]["problems"].as_array().unwrap() {
        writeln!(text, "page: {}: {}", problem["code"].as_str().unwrap(), problem["text"].as_str().unwrap())
            .unwrap();
        for command in problem["commands"].as_array().unwrap() {
            writeln!(text, "  > {}", command["shell"].as_str().unwrap()).unwrap();
        }
    }
    assert!(!text.contains("ACL SETUSER"), "advice that can't be followed: {text}");
    // If nothing was ever received, the port may require TLS.
    assert!(text.contains("state: unreachable") || !text.contains("rediss://"), "it can't help: {text}");
    let port = format!(" -p {} ", server.addr.port());
    normalised(&text.replace(&target, "<target>").replace(&port, " -p <port> "))
}

/// Replaces the age of the slow calls, which is a few seconds, and removes trailing spaces.
fn normalised(text: &str) -> String {
    let age = |text: String, seconds: u32| text.replace(&format!("{seconds} s ago"), "    now");
    let text = (1..=9).fold(text.to_owned(), age);
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn services_behave_as_recorded() {
    let results: Vec<(String, String)> = std::thread::scope(|scope| {
        let running: Vec<_> = services()
            .into_iter()
            .map(|service| (service.name.clone(), scope.spawn(move || result(service))))
            .collect();
        running.into_iter().map(|(name, thread)| (name, thread.join().unwrap())).collect()
    });
    for (name, text) in results {
        // Without access to the slow log, `check` must never succeed.
        if text.contains("capability slowlog: 0") {
            assert!(text.starts_with("check: exit code 2"), "{name}: {text}");
        }
        assert_golden(&format!("tests/golden/service-{name}.txt"), &text);
    }
}

/// `docs/managed-services.md` has a row for each service.
#[test]
fn services_are_documented() {
    let page = std::fs::read_to_string(repository("docs/managed-services.md")).unwrap();
    for service in services() {
        assert!(page.contains(&format!("service-{}.txt", service.name)), "{} is missing", service.name);
    }
}
