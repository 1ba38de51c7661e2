//! The dashboards, without Grafana: their queries are sent to a real Prometheus that scraped the real exporter while
//! scripts blocked a real server.
//!
//! `scripts/check-dashboards.sh` checks their format, and each number with an artificial history.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::Value;
use serde_json::Value as Json;

use crate::common::{LIMIT, QUICK, repository, target_of};
use test_support::client::{is_error, text};
use test_support::exporter::Exporter;
use test_support::monitoring::{self, Prometheus};
use test_support::scripts::{self, BUSY_LOOP, busy_fcall, evalsha, load, load_library};
use test_support::server::{Kind, Server, available};
use test_support::wait::eventually_or_tell;

/// Queries without a result in this test, by the beginning of their location. The server or the exporter does not have the
/// data, or there is no history of a day. The artificial history contains all of it.
const UNANSWERED: [&str; 8] = [
    "redis-scripts-overview.json: \"Days until --slow.warning\"",
    "redis-script-detail.json: \"Growth\"",
    "redis-scripts-overview.json: \"Discovery\"",
    "redis-scripts-overview.json: \"Exporters\" \"D\"",
    "redis-scripts-overview.json: \"Cached scripts, functions\" \"C\"",
    "redis-scripts-overview.json: \"Slow log entries\" \"C\"",
    "redis-scripts-overview.json: \"Polls\" \"B\"",
    "redis-scripts-overview.json: \"State file\" \"B\"",
];

/// Metrics that the server or the exporter does not have in this test.
const UNSCRAPED: [&str; 4] = [
    "redis_script_evicted_scripts_total",
    "redis_script_exporter_discovered_targets",
    "redis_script_exporter_discovery_refused_servers",
    "redis_script_exporter_discovery_up",
];

/// Dashboard and the name of its file.
struct Dashboard {
    file: String,
    json: Json,
}

impl Dashboard {
    fn all() -> Vec<Self> {
        let mut all: Vec<Self> = fs::read_dir(repository("dashboards"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| Self {
                file: path.file_name().unwrap().to_string_lossy().into_owned(),
                json: serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap(),
            })
            .collect();
        all.sort_by(|a, b| a.file.cmp(&b.file));
        assert_eq!(all.len(), 2, "dashboards");
        all
    }

    fn uid(&self) -> &str {
        self.json["uid"].as_str().unwrap()
    }

    /// Returns all panels except headings.
    fn panels(&self) -> impl Iterator<Item = &Json> {
        list(&self.json["panels"]).iter().filter(|panel| panel["type"] != "row")
    }

    fn variables(&self) -> impl Iterator<Item = &Json> {
        list(&self.json["templating"]["list"]).iter()
    }

    /// Returns every expression with its location.
    fn expressions(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for panel in self.panels() {
            for target in list(&panel["targets"]) {
                let place = format!("{}: {} {}", self.file, panel["title"], target["refId"]);
                all.push((place, string(&target["expr"])));
            }
        }
        for annotation in list(&self.json["annotations"]["list"]) {
            if let Some(expr) = annotation["expr"].as_str() {
                all.push((format!("{}: annotation {}", self.file, annotation["name"]), expr.to_owned()));
            }
        }
        for variable in self.variables().filter(|variable| variable["type"] == "query") {
            let place = format!("{}: variable {}", self.file, variable["name"]);
            all.push((place, values_query(&string(&variable["query"]["query"]))));
        }
        all
    }
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn string(json: &Json) -> String {
    json.as_str().unwrap_or_else(|| panic!("a text was expected, not {json}")).to_owned()
}

/// Returns the expression of `label_values(metric, label)`.
fn values_query(query: &str) -> String {
    let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    let (metric, label) =
        inner.and_then(|inner| inner.rsplit_once(',')).expect("label_values(metric, label)");
    format!("count by ({}) ({metric})", label.trim())
}

/// Values that Grafana substitutes for variables.
struct Variables<'a> {
    target: &'a str,
    /// Name of the script.
    name: &'a str,
    range: Duration,
    rate_interval: Duration,
    /// Start of the time range.
    from: SystemTime,
}

impl Variables<'_> {
    fn substitute(&self, expr: &str) -> String {
        let expr = expr
            .replace("$__rate_interval_ms", &self.rate_interval.as_millis().to_string())
            .replace("$__rate_interval", &format!("{}s", self.rate_interval.as_secs()))
            .replace("$__range", &format!("{}s", self.range.as_secs()))
            .replace("$__from", &self.from.duration_since(UNIX_EPOCH).unwrap().as_millis().to_string())
            .replace("$job", ".+")
            .replace("$instance", ".+")
            .replace("$target", self.target)
            .replace("$name", self.name)
            .replace("$script", ".+");
        let unknown =
            expr.split('$').skip(1).find(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()));
        assert!(unknown.is_none(), "a variable that Grafana does not have: {expr}");
        expr
    }
}

/// Arbitrary values, for tests in which only the syntax matters.
const ANY: Variables<'_> = Variables {
    target: ".+",
    name: "any",
    range: Duration::from_secs(3600),
    rate_interval: Duration::from_secs(60),
    from: UNIX_EPOCH,
};

/// Metrics and labels used in an expression.
#[derive(Debug, Default, PartialEq)]
struct Names {
    /// Each metric with the labels in its selector.
    metrics: Vec<(String, BTreeSet<String>)>,
    /// Labels of `by (…)`, `on (…)` and the like.
    grouping: BTreeSet<String>,
}

/// Finds the names in an expression, which must be valid. Prometheus itself checks the syntax.
fn names(expr: &str) -> Names {
    const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    const KEYWORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
    let mut names = Names::default();
    let mut rest = expr.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = after_string(rest);
        } else if first == '[' {
            rest = rest.split_once(']').expect("a range ends").1;
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|next: char| next.is_ascii_alphanumeric() || next == '.');
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|next: char| !is_word(next)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            if GROUPING.contains(&word) {
                let (labels, after) =
                    rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).expect("labels");
                names.grouping.extend(
                    labels.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()),
                );
                rest = after;
            } else if let Some(selectors) = rest.strip_prefix('{') {
                let (labels, after) = selector_labels(selectors);
                names.metrics.push((word.to_owned(), labels));
                rest = after;
            } else if !rest.starts_with('(') && !KEYWORDS.contains(&word) && !is_aggregated(rest) {
                names.metrics.push((word.to_owned(), BTreeSet::new()));
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
        rest = rest.trim_start();
    }
    names
}

/// Returns true if the text after a word makes the word an aggregation: `sum by (…) (…)`.
fn is_aggregated(rest: &str) -> bool {
    ["by", "without"]
        .iter()
        .any(|word| rest.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '('])))
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | ':')
}

/// Returns the text after the quoted string at the beginning of `rest`.
fn after_string(rest: &str) -> &str {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|&(_, character)| {
        let end = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        end
    });
    &rest[end.expect("a text ends").0 + 1..]
}

/// Returns the labels of a selector, given the text after its opening brace, and the text that follows the selector.
fn selector_labels(mut rest: &str) -> (BTreeSet<String>, &str) {
    let mut labels = BTreeSet::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        let (label, value) = rest.split_at(rest.find(|next: char| !is_word(next)).expect("an operator"));
        labels.insert(label.to_owned());
        rest = after_string(value.trim_start_matches(['=', '~', '!', ' ']));
    }
}

/// Returns the metrics in `docs/METRICS.md`, by the names of their series, with their labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for line in fs::read_to_string(repository("docs/METRICS.md")).unwrap().lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else { continue };
        let labels: BTreeSet<String> =
            labels.split(", ").map(|label| label.trim_matches('`').to_owned()).collect();
        if kind == "histogram" {
            let with_le = labels.iter().cloned().chain(["le".to_owned()]).collect();
            all.insert(format!("{name}_bucket"), with_le);
            all.insert(format!("{name}_sum"), labels.clone());
            all.insert(format!("{name}_count"), labels);
        } else {
            all.insert(name.to_owned(), labels);
        }
    }
    all
}

#[test]
fn names_are_found_in_an_expression() {
    let found = names(
        r#"sum by (a, b) (rate(first_total{c="}\"{",d=~"x|y"}[5m] offset 10m)) / on (e) 2 * (second > bool 0.5) or third{}"#,
    );
    let set = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(found.grouping, set(&["a", "b", "e"]));
    let expected = [("first_total", set(&["c", "d"])), ("second", set(&[])), ("third", set(&[]))];
    assert_eq!(found.metrics, expected.map(|(name, labels)| (name.to_owned(), labels)));
}

#[test]
fn every_metric_and_label_of_the_dashboards_is_documented() {
    let mut documented = documented();
    // Generated by Prometheus.
    documented.insert("up".to_owned(), BTreeSet::new());
    for labels in documented.values_mut() {
        labels.extend(["job", "instance"].map(str::to_owned));
    }
    for (place, expr) in Dashboard::all().iter().flat_map(Dashboard::expressions) {
        let names = names(&ANY.substitute(&expr));
        assert!(!names.metrics.is_empty(), "{place} asks for nothing: {expr}");
        // The query itself adds this label, for a table column.
        let mut known = BTreeSet::from(["problem".to_owned()]);
        for (metric, labels) in names.metrics {
            let Some(of_metric) = documented.get(&metric) else {
                panic!("{place}: there is no {metric}: {expr}")
            };
            let unknown: Vec<_> = labels.difference(of_metric).collect();
            assert!(unknown.is_empty(), "{place}: {metric} has no labels {unknown:?}: {expr}");
            known.extend(of_metric.iter().cloned());
        }
        let unknown: Vec<_> = names.grouping.difference(&known).collect();
        assert!(unknown.is_empty(), "{place}: none of the metrics has the labels {unknown:?}: {expr}");
    }
}

#[test]
fn panels_are_laid_out_described_and_linked() {
    let all = Dashboard::all();
    let uids: BTreeSet<&str> = all.iter().map(Dashboard::uid).collect();
    assert_eq!(
        uids,
        BTreeSet::from(["redis-script-detail", "redis-scripts-overview"]),
        "links depend on them"
    );
    let runbooks = fs::read_to_string(repository("docs/runbooks.md")).ok().map(|text| anchors(&text));
    for dashboard in &all {
        let file = &dashboard.file;
        assert_eq!(*file, format!("{}.json", dashboard.uid()), "a file is named by its uid");
        let mut taken = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard.json["panels"]) {
            let title = string(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64()), "{file}: the id of {title} is taken");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= 24, "{file}: {title} is outside of the grid");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                let other = taken.insert(cell, title.clone());
                assert!(other.is_none(), "{file}: {title} and {} share a place", other.unwrap());
            }
        }
        for panel in dashboard.panels() {
            let title = string(&panel["title"]);
            assert!(string(&panel["description"]).len() > 20, "{file}: {title} wants a description");
        }
        let names: BTreeSet<String> =
            dashboard.variables().map(|variable| string(&variable["name"])).collect();
        for link in urls(&dashboard.json) {
            if let Some(path) = link.strip_prefix("/d/") {
                let uid = path.split(['/', '?']).next().unwrap();
                assert!(uids.contains(uid), "{file}: a link to a dashboard that is not there: {link}");
            } else if let Some(anchor) = link.strip_prefix("${runbooks}") {
                let anchor = anchor.trim_start_matches('#');
                if let Some(runbooks) = &runbooks {
                    assert!(
                        anchor.is_empty() || runbooks.contains(anchor),
                        "{file}: docs/runbooks.md has no #{anchor}"
                    );
                }
            } else {
                panic!("{file}: a link that leads elsewhere: {link}");
            }
            for variable in link.split("${").skip(1).map(|rest| rest.split([':', '}', '.']).next().unwrap()) {
                let known =
                    names.contains(variable) || ["__data", "__field", "__url_time_range"].contains(&variable);
                assert!(known, "{file}: there is no variable {variable}: {link}");
            }
        }
    }
}

/// Returns the anchors of the headings of a Markdown file.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            heading.chars().filter(|&next| next.is_alphanumeric() || "-_".contains(next)).collect()
        })
        .collect()
}

/// Returns all values of `url` anywhere in a dashboard.
fn urls(json: &Json) -> Vec<String> {
    match json {
        Json::Array(items) => items.iter().flat_map(urls).collect(),
        Json::Object(fields) => {
            let own = fields.get("url").and_then(Json::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(urls)).collect()
        }
        _ => Vec::new(),
    }
}

/// Results of all dashboard queries at one time.
struct Answers {
    /// Results by the location of the query.
    by_place: BTreeMap<String, Json>,
}

impl Answers {
    /// Runs all queries of the panels, annotations and variables of the dashboards, as Grafana would.
    fn of(
        dashboards: &[Dashboard],
        prometheus: &Prometheus,
        name: &str,
        target: &str,
        since: Instant,
    ) -> Self {
        let range = Duration::from_secs(since.elapsed().as_secs() + 1);
        let mut answers = BTreeMap::new();
        for dashboard in dashboards {
            // A selected value is escaped as in Grafana.
            let chosen = target.replace('.', r"\\.");
            let target = if dashboard.uid() == "redis-script-detail" { &chosen } else { ".+" };
            let rate_interval = Duration::from_secs(4);
            let from = SystemTime::now() - range;
            let variables = Variables { target, name, range, rate_interval, from };
            let instant: BTreeSet<String> = dashboard
                .panels()
                .flat_map(|panel| list(&panel["targets"]))
                .filter(|query| query["instant"] == true)
                .map(|query| string(&query["expr"]))
                .collect();
            for (place, expr) in dashboard.expressions() {
                let query = variables.substitute(&expr);
                let now = instant.contains(&expr) || place.contains(": variable ");
                let answer = if now {
                    prometheus.query(&query)
                } else {
                    prometheus.query_range(&query, range, Duration::from_secs(1))
                };
                assert_eq!(answer["resultType"], if now { "vector" } else { "matrix" }, "{place}: {query}");
                answers.insert(place, answer);
            }
        }
        Self { by_place: answers }
    }

    fn series(&self, place: &str) -> &[Json] {
        list(&self.by_place.get(place).unwrap_or_else(|| panic!("there is no query {place}"))["result"])
    }

    /// Returns the value of a query whose result is a single number.
    fn value(&self, place: &str) -> f64 {
        let [series] = self.series(place) else { panic!("{place} gave {:?}", self.series(place)) };
        series["value"][1].as_str().unwrap().parse().unwrap()
    }

    /// True if the result contains a number. Without series, or with only NaN, the panel is empty.
    fn says_something(&self, place: &str) -> bool {
        self.series(place).iter().flat_map(values).any(f64::is_finite)
    }

    /// Returns the values of a label in a result.
    fn labels(&self, place: &str, label: &str) -> BTreeSet<String> {
        let series = self.series(place).iter();
        series.filter_map(|series| Some(series["metric"][label].as_str()?.to_owned())).collect()
    }
}

/// Returns the values of a series of either result type.
fn values(series: &Json) -> Vec<f64> {
    let samples = if series["value"].is_array() {
        vec![&series["value"]]
    } else {
        list(&series["values"]).iter().collect()
    };
    samples.into_iter().map(|sample| sample[1].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn every_dashboard_query_has_data_after_an_incident() {
    if !monitoring::available() || !available().contains(&Kind::Redis70) {
        return;
    }
    let dashboards = Dashboard::all();
    let night = Night::begin();
    let during = night.while_a_script_blocks(&dashboards);
    let after = night.when_it_is_over(&dashboards);

    for dashboard in &dashboards {
        for (place, expr) in dashboard.expressions() {
            assert!(
                during.says_something(&place)
                    || after.says_something(&place)
                    || UNANSWERED.iter().any(|unanswered| place.starts_with(unanswered)),
                "{place} is empty, while a script blocks the server and afterwards: {expr}"
            );
        }
    }
    night.every_metric_was_scraped(&dashboards);

    let overview = |query: &str| place("redis-scripts-overview.json", query);
    let detail = |query: &str| place("redis-script-detail.json", query);
    let one = |label: &str| BTreeSet::from([label.to_owned()]);
    let name = &night.runaway;
    // First BUSY with a script; afterwards only the problem with the other server's settings remains.
    let worst = overview("Worst state now A");
    assert_eq!((during.value(&worst), after.value(&worst)), (6.0, 1.0));
    let runs = overview("Servers, worst first C");
    assert_eq!((during.labels(&runs, "kind"), during.labels(&runs, "name")), (one("script"), one(name)));
    assert!(after.series(&runs).is_empty());
    let lasts = overview("Servers, worst first B");
    assert!(during.value(&lasts) > 1.5 && after.series(&lasts).is_empty());
    assert_eq!(
        after.labels(&overview("Problems A"), "problem"),
        BTreeSet::from(
            [
                "slow log begins above --slow.warning: lower slowlog-log-slower-than",
                "time limit 0, never BUSY, no kill: set busy-reply-threshold"
            ]
            .map(str::to_owned)
        )
    );
    assert!(after.labels(&overview("Latest slow calls A"), "name").contains(name));
    let running = detail("Runs now? A");
    assert_eq!((during.value(&running), after.value(&running)), (3.0, 0.0));
    // The function's series was created by its only call, which must be counted.
    let calls = after.series(&overview("Scripts by total time B"));
    let function = calls.iter().find(|series| series["metric"]["name"] == scripts::BUSY_FUNCTION).unwrap();
    assert_eq!(values(function), [1.0]);
    // 12 calls that ended and one that was killed. The first one may have taken place before the first scrape.
    let calls = after.value(&detail("Calls A"));
    assert!([12.0, 13.0].contains(&calls), "{calls}");
    // Both are below the bound of the bucket. The difference depends on the number of calls in the range.
    let (p99, longest) = (after.value(&detail("p99 A")), after.value(&detail("Longest A")));
    assert!(2.0 < p99 && p99 <= longest, "{p99} {longest}");
    assert_eq!(after.labels(&detail("Identity A"), "sha1").len(), 1);
    let neighbours = after.labels(&detail("Neighbours A"), "name");
    assert!(!neighbours.contains(name) && neighbours.contains(scripts::BUSY_FUNCTION), "{neighbours:?}");
}

/// Returns the location of a query, given the title of its panel and its letter.
fn place(file: &str, query: &str) -> String {
    let (title, letter) = query.rsplit_once(' ').unwrap();
    format!("{file}: \"{title}\" \"{letter}\"")
}

/// Two servers, one of which has settings that hide slow scripts, and the programs that monitor them.
struct Night {
    server: Server,
    _other: Server,
    exporters: [Exporter; 2],
    prometheus: Prometheus,
    since: Instant,
    /// SHA1 of the endless script, followed by its label.
    sha1: String,
    runaway: String,
}

impl Night {
    /// Runs fast scripts, one of 1.2 s, and a function of 2.5 s, which makes the server BUSY.
    fn begin() -> Self {
        let server = Server::builder(Kind::Redis70)
            .config("busy-reply-threshold 1500")
            .config("slowlog-log-slower-than 1000")
            .start();
        let other = Server::builder(Kind::Redis70)
            .config("busy-reply-threshold 0")
            .config("slowlog-log-slower-than 1500000")
            .start();
        // A log file belongs to one server, so each server has its own exporter.
        let log = server.log_path();
        let state = format!("--state.file={}", log.with_file_name("exporter-state").display());
        let flags = ["--redis.log-file", log.to_str().unwrap(), &state, "--redis.addr", &server.url()];
        let exporters = [
            Exporter::builder().args(&QUICK).args(&flags).start(),
            Exporter::builder().args(&QUICK).args(&["--redis.addr", &other.url()]).start(),
        ];
        let prometheus = Prometheus::builder()
            .scrape("first", exporters[0].addr())
            .scrape("second", exporters[1].addr())
            .start();
        prometheus.wait_ready();
        let since = Instant::now();

        let mut client = server.client();
        load_library(&mut client);
        let healthy: Vec<String> =
            (1..=3).map(|index| load(&mut client, &format!("{BUSY_LOOP}-- {index}"))).collect();
        let sha1 = load(&mut client, &format!("{BUSY_LOOP}-- runaway"));
        for round in 0..12 {
            for (index, sha1) in (1..).zip(healthy.iter().chain([&sha1])) {
                client.call(&evalsha(sha1, Duration::from_millis(15 * index + 5 * round)));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        // Calls without a gap would look like one blockage to all other clients.
        let counted = |severity: &str, command: &str| {
            exporters[0].wait_for(LIMIT, "a slow call to be counted", |metrics| {
                let labels = [("severity", severity), ("command", command)];
                metrics.sum("redis_script_slow_calls_total", &labels) > 0.0
                    && metrics.sum("redis_script_blocked_seconds", &[]) == 0.0
            })
        };
        client.call(&evalsha(&healthy[0], Duration::from_millis(1200)));
        counted("warning", "evalsha");
        client.call(&busy_fcall(Duration::from_millis(2500)));
        counted("critical", "fcall");
        assert!(is_error(&client.call(&["EVALSHA", &"0".repeat(40), "0"]), "NOSCRIPT"));
        let runaway = sha1[..12].to_owned();
        Self { server, _other: other, exporters, prometheus, since, sha1, runaway }
    }

    /// Runs an endless script until the server is BUSY, other clients are rejected, and the name of the script is known.
    /// Then kills it.
    fn while_a_script_blocks(&self, dashboards: &[Dashboard]) -> Answers {
        let mut victim = self.server.client();
        victim.send(&evalsha(&self.sha1, Duration::from_secs(600)));
        self.exporters[0].wait_for(LIMIT, "the script to be named", |metrics| {
            metrics.sum("redis_script_running_info", &[("kind", "script"), ("script", &self.runaway)]) > 0.0
        });
        let mut client = self.server.client();
        for _ in 0..20 {
            assert!(is_error(&client.call(&["PING"]), "BUSY"));
        }
        let scraped = format!(
            "redis_script_blocked_seconds > 2.5 and on (target) redis_script_running_info{{script=\"{}\"}}",
            self.runaway
        );
        self.wait_for("the blockage to be scraped", &scraped, 1);
        let answers = self.answers(dashboards);
        assert_eq!(text(&client.call(&["SCRIPT", "KILL"])), "OK");
        assert!(matches!(victim.receive(), Value::ServerError(_)), "the script was killed");
        answers
    }

    /// Waits until everything has been counted and scraped.
    fn when_it_is_over(&self, dashboards: &[Dashboard]) -> Answers {
        // The condition must hold for at least two scrapes, because a rate needs two samples.
        let all = format!(
            "min_over_time(redis_script_kills_total{{kind=\"script\"}}[2500ms]) > 0 \
             and on (target) min_over_time(redis_script_errors_total{{error=\"BUSY\"}}[2500ms]) >= 20 \
             and on (target) min_over_time(redis_script_duration_seconds_count{{script=\"{0}\"}}[2500ms]) \
             and on (target) count_over_time(redis_script_duration_seconds_count{{script=\"{0}\"}}[2500ms]) > 1",
            self.runaway
        );
        self.wait_for("the end to be scraped", &all, 1);
        self.answers(dashboards)
    }

    fn answers(&self, dashboards: &[Dashboard]) -> Answers {
        let target = target_of(&self.server);
        Answers::of(dashboards, &self.prometheus, &self.runaway, &target, self.since)
    }

    /// Waits until an expression has `count` series.
    #[track_caller]
    fn wait_for(&self, what: &str, expr: &str, count: usize) {
        eventually_or_tell(LIMIT, what, || {
            let answer = self.prometheus.query(expr);
            if list(&answer["result"]).len() == count { Ok(()) } else { Err(answer) }
        });
    }

    /// Checks that each metric in the queries exists, not only that each query as a whole has a result.
    fn every_metric_was_scraped(&self, dashboards: &[Dashboard]) {
        let expressions = dashboards.iter().flat_map(Dashboard::expressions);
        let metrics: BTreeSet<String> = expressions
            .flat_map(|(_, expr)| names(&ANY.substitute(&expr)).metrics)
            .map(|(metric, _)| metric)
            .collect();
        for metric in metrics.iter().filter(|metric| !UNSCRAPED.contains(&metric.as_str())) {
            let answer = self.prometheus.query(&format!("count(last_over_time({metric}[5m]))"));
            assert!(!list(&answer["result"]).is_empty(), "nobody has ever scraped {metric}");
        }
    }
}
