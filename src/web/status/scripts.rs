//! `/api/v1/scripts`: every script over all targets, with how long it runs, who calls it and where.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::query::{Order, ScriptsQuery};
use super::targets::BySeverity;
use super::text::precise;
use crate::convert::float;
use crate::fleet::Fleet;
use crate::script::{Catalogue, Identity, Label, Sha1Digits};
use crate::watch::{Caller, Callers, Histogram, Series, Severity, Target};

/// Callers that an answer names per script.
const MAX_CALLERS: usize = 8;

/// Targets that an answer names per script.
const MAX_TARGETS: usize = 10;

/// Lines and bytes of a source that an answer has.
const MAX_SOURCE: (usize, usize) = (40, 4096);

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct ScriptsAnswer {
    /// Scripts that fit the query.
    total: usize,
    offset: usize,
    limit: usize,
    scripts: Vec<ScriptRow>,
}

/// One script.
#[derive(Debug, Clone, Serialize)]
struct ScriptRow {
    script: String,
    sha1: Option<Sha1Digits>,
    name: Option<String>,
    origin: Option<&'static str>,
    /// The first lines of the source; only with `--web.show-source`, and if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    commands: Vec<&'static str>,
    calls: u64,
    slow_calls: BySeverity<u64>,
    total_seconds: f64,
    p99_seconds: Option<f64>,
    longest_seconds: f64,
    first_seen: u64,
    last_seen: u64,
    /// Calls by duration.
    buckets: Vec<BucketRow>,
    /// The targets with the most calls.
    targets: Vec<TargetCalls>,
    targets_total: usize,
    callers: Vec<CallerRow>,
    /// Whether there may be further callers.
    more_callers: bool,
}

/// Calls that took at most `le` seconds, and longer than the bucket before.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct BucketRow {
    /// `None`: longer than all bounds.
    le: Option<f64>,
    calls: u64,
}

/// Calls on one target.
#[derive(Debug, Clone, Serialize)]
struct TargetCalls {
    target: Arc<str>,
    calls: u64,
}

/// Calls of one client.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct CallerRow {
    client: Option<Arc<str>>,
    client_name: Option<Arc<str>>,
    calls_at_least: u64,
    calls_at_most: u64,
    total_seconds: f64,
    last_seen: u64,
}

/// A script over several targets and commands.
#[derive(Debug)]
pub(crate) struct Sum {
    label: Label,
    identity: Option<Identity>,
    commands: BTreeSet<&'static str>,
    slow_calls: BySeverity<u64>,
    durations: Histogram,
    longest: f64,
    p99: Option<f64>,
    seen: (u64, u64),
    targets: BTreeMap<Arc<str>, u64>,
    callers: MergedCallers,
}

/// Callers out of several series.
#[derive(Debug, Default)]
struct MergedCallers {
    /// At least, at most, µs, last seen; `at_most` without what the series that do not count it may hide.
    counted: HashMap<Caller, Merged>,
    /// What all series together may hide of one caller.
    hidden: u64,
}

/// What several series know of a caller.
#[derive(Debug, Clone, Copy, Default)]
struct Merged {
    at_least: u64,
    /// Less what the series that count it may have hidden of it, which it is not.
    at_most: i128,
    micros: u64,
    last_seen: u64,
}

/// All scripts of these targets, or of one.
pub(crate) fn sums(fleet: &Fleet, only: Option<&str>) -> Vec<Sum> {
    let mut sums: HashMap<Label, Sum> = HashMap::new();
    let catalogue = fleet.catalogue();
    for watched in fleet.targets().iter() {
        let name = &watched.config().name;
        if only.is_none_or(|only| *only == **name) {
            add(&mut sums, &catalogue, name, &watched.numbers());
        }
    }
    let mut sums: Vec<Sum> = sums.into_values().collect();
    for sum in &mut sums {
        sum.p99 = sum.durations.quantile(0.99, sum.longest);
    }
    sums
}

fn add(sums: &mut HashMap<Label, Sum>, catalogue: &Catalogue, target: &Arc<str>, numbers: &Target) {
    let scripts = numbers.scripts();
    let names: HashMap<&Label, Label> =
        scripts.known().map(|script| (&script.label, catalogue.label(script))).collect();
    for (command, label, series) in scripts.series() {
        let label = names.get(label).unwrap_or(label);
        let sum = match sums.get_mut(label) {
            Some(sum) => {
                sum.durations.absorb(&series.durations);
                sum
            }
            None => sums.entry(label.clone()).or_insert_with(|| Sum::new(label, series)),
        };
        sum.commands.insert(command.as_str());
        for (severity, count) in &series.slow_calls {
            match severity {
                Severity::Warning => sum.slow_calls.warning += count,
                Severity::Critical => sum.slow_calls.critical += count,
            }
        }
        sum.longest = sum.longest.max(precise(series.longest));
        sum.seen = (sum.seen.0.min(series.seen.0), sum.seen.1.max(series.seen.1));
        *sum.targets.entry(Arc::clone(target)).or_default() += series.durations.count();
        sum.callers.add(&series.callers);
    }
    for identity in scripts.known().map(|script| catalogue.identify(script)) {
        if let Some(sum) = sums.get_mut(&identity.label)
            // A SHA1 that one target knows is worth more than the fingerprint that another one has.
            && sum.identity.as_ref().is_none_or(|known| known.sha1.is_none())
        {
            sum.identity = Some(identity);
        }
    }
}

/// The first lines of a source, as text.
fn first_lines(source: &[u8]) -> String {
    let (lines, bytes) = MAX_SOURCE;
    let begin = source.get(..bytes).unwrap_or(source);
    let end = begin.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(lines - 1);
    let begin = end.and_then(|(end, _)| begin.get(..end)).unwrap_or(begin);
    String::from_utf8_lossy(begin).into_owned()
}

impl Sum {
    fn new(label: &Label, series: &Series) -> Self {
        Self {
            label: label.clone(),
            identity: None,
            commands: BTreeSet::new(),
            slow_calls: BySeverity::default(),
            durations: series.durations.clone(),
            longest: 0.0,
            p99: None,
            seen: series.seen,
            targets: BTreeMap::new(),
            callers: MergedCallers::default(),
        }
    }

    /// Whether its label, SHA1 or name holds this text in lower case.
    fn holds(&self, text: &str) -> bool {
        let holds = |word: &str| word.to_lowercase().contains(text);
        holds(self.label.as_str())
            || self.identity.as_ref().is_some_and(|known| {
                known.sha1.is_some_and(|sha1| holds(sha1.as_str())) || holds(&known.name)
            })
    }

    fn compare(&self, other: &Self, order: Order) -> Ordering {
        match order {
            Order::Total => self.durations.sum().total_cmp(&other.durations.sum()),
            Order::Calls => self.durations.count().cmp(&other.durations.count()),
            Order::P99 => self.p99.unwrap_or(0.0).total_cmp(&other.p99.unwrap_or(0.0)),
            Order::Longest => self.longest.total_cmp(&other.longest),
            Order::LastSeen => self.seen.1.cmp(&other.seen.1),
            Order::Script => self.label.cmp(&other.label),
        }
    }

    fn row(&self, sources: Option<&Fleet>) -> ScriptRow {
        let name = self.identity.as_ref().map(|known| &known.name).filter(|name| !name.is_empty());
        let mut targets: Vec<TargetCalls> = self
            .targets
            .iter()
            .map(|(target, calls)| TargetCalls { target: Arc::clone(target), calls: *calls })
            .collect();
        targets.sort_by_key(|target| std::cmp::Reverse(target.calls));
        targets.truncate(MAX_TARGETS);
        let (callers, more_callers) = self.callers.rows();
        ScriptRow {
            script: self.label.to_string(),
            sha1: self.identity.as_ref().and_then(|known| known.sha1),
            name: name.cloned(),
            origin: self.identity.as_ref().map(|known| known.origin.as_str()),
            source: sources.and_then(|fleet| Some(first_lines(&fleet.source(self.identity.as_ref()?)?))),
            commands: self.commands.iter().copied().collect(),
            calls: self.durations.count(),
            slow_calls: self.slow_calls,
            total_seconds: self.durations.sum(),
            p99_seconds: self.p99,
            longest_seconds: self.longest,
            first_seen: self.seen.0,
            last_seen: self.seen.1,
            buckets: self.durations.buckets().map(|(le, calls)| BucketRow { le, calls }).collect(),
            targets,
            targets_total: self.targets.len(),
            callers,
            more_callers,
        }
    }
}

impl MergedCallers {
    fn add(&mut self, callers: &Callers) {
        let hidden = callers.uncounted_at_most();
        self.hidden = self.hidden.saturating_add(hidden);
        for (caller, calls) in callers.counted() {
            let merged = match self.counted.get_mut(caller) {
                Some(merged) => merged,
                None => self.counted.entry(caller.clone()).or_default(),
            };
            merged.at_least = merged.at_least.saturating_add(calls.at_most.saturating_sub(calls.uncertain));
            merged.at_most += i128::from(calls.at_most) - i128::from(hidden);
            merged.micros = merged.micros.saturating_add(calls.micros);
            merged.last_seen = merged.last_seen.max(calls.last_seen);
        }
    }

    /// The heaviest callers, and whether there may be more.
    fn rows(&self) -> (Vec<CallerRow>, bool) {
        let given = |text: &Arc<str>| Some(Arc::clone(text)).filter(|text| !text.is_empty());
        let mut rows: Vec<CallerRow> = self
            .counted
            .iter()
            .map(|(caller, calls)| CallerRow {
                client: given(&caller.host),
                client_name: given(&caller.name),
                calls_at_least: calls.at_least,
                calls_at_most: u64::try_from(calls.at_most + i128::from(self.hidden)).unwrap_or(u64::MAX),
                total_seconds: float(calls.micros) / 1e6,
                last_seen: calls.last_seen,
            })
            .collect();
        let more = rows.len() > MAX_CALLERS || self.hidden > 0;
        rows.sort_by(|one, other| {
            let by_calls = other.calls_at_least.cmp(&one.calls_at_least);
            by_calls.then_with(|| (&one.client, &one.client_name).cmp(&(&other.client, &other.client_name)))
        });
        rows.truncate(MAX_CALLERS);
        (rows, more)
    }
}

impl ScriptsAnswer {
    /// What was asked for of all scripts; with what `sources` knows of their sources.
    pub(crate) fn of(sums: &[Sum], query: &ScriptsQuery, sources: Option<&Fleet>) -> Self {
        let mut fitting: Vec<&Sum> = sums.iter().filter(|sum| sum.holds(&query.text)).collect();
        fitting.sort_by(|one, other| {
            let order = one.compare(other, query.order);
            let order = if query.rising { order } else { order.reverse() };
            order.then_with(|| one.label.cmp(&other.label))
        });
        Self {
            total: fitting.len(),
            offset: query.part.offset,
            limit: query.part.limit,
            scripts: query.part.of(fitting).into_iter().map(|sum| sum.row(sources)).collect(),
        }
    }
}
