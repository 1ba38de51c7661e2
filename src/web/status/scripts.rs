//! `/api/v1/scripts`: all scripts across all targets, with durations, callers and targets.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::query::{ScriptsQuery, SortKey};
use super::targets::BySeverity;
use super::text::duration_seconds;
use crate::convert::float;
use crate::fleet::Fleet;
use crate::lint::{self, Limits, Severity as LintSeverity};
use crate::script::{Catalogue, Identity, Label, NamedScript, OTHER, Sha1Digits};
use crate::watch::{Caller, Callers, Histogram, Series, Severity, Target, Thresholds};

/// Maximum number of callers per script.
const MAX_CALLERS: usize = 8;

/// Maximum number of targets per script.
const MAX_TARGETS: usize = 10;

/// Maximum number of lines of a source.
const MAX_SOURCE_LINES: usize = 40;

/// Number of calls below which the longest call is used as the 99th percentile.
const P99_CALLS: u64 = 100;

/// Maximum number of linter findings.
const MAX_FINDINGS: usize = 20;

/// Maximum size of a source that is linted, in bytes.
const MAX_LINTED: usize = 64 << 10;

/// Maximum size of a source, in bytes.
const MAX_SOURCE_BYTES: usize = 4096;

/// Response body.
#[derive(Debug, Serialize)]
pub(crate) struct ScriptsResponse {
    /// Number of scripts that match the query.
    total: usize,
    offset: usize,
    limit: usize,
    scripts: Vec<ScriptRow>,
    /// Linter findings; only for a single script whose source is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    lint: Option<Arc<[LintRow]>>,
}

/// A linter finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LintRow {
    line: usize,
    severity: LintSeverity,
    rule: &'static str,
    message: String,
}

/// A script across all targets.
#[derive(Debug, Clone, Serialize)]
struct ScriptRow {
    name: String,
    /// Labels of all calls with this name.
    scripts: Vec<Label>,
    sha1: Option<Sha1Digits>,
    origin: &'static str,
    /// First lines of the source, if known; only with `--web.show-source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    commands: Vec<&'static str>,
    calls: u64,
    slow_calls: BySeverity<u64>,
    /// Thresholds of slow calls, the lowest of the targets.
    thresholds: BySeverity<f64>,
    total_seconds: f64,
    p99_seconds: Option<f64>,
    longest_seconds: f64,
    first_seen: u64,
    last_seen: u64,
    /// Calls by duration.
    buckets: Vec<BucketRow>,
    /// Targets with the most calls.
    targets: Vec<TargetCalls>,
    targets_total: usize,
    callers: Vec<CallerRow>,
    /// True if there may be more callers.
    more_callers: bool,
}

/// Histogram bucket, not cumulative.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct BucketRow {
    /// Upper bound in seconds; `None` for the bucket above all bounds.
    le: Option<f64>,
    calls: u64,
}

/// Number of calls on a target.
#[derive(Debug, Clone, Serialize)]
struct TargetCalls {
    target: Arc<str>,
    calls: u64,
}

/// Calls by a client.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct CallerRow {
    client: Option<Arc<str>>,
    client_name: Option<Arc<str>>,
    calls_at_least: u64,
    calls_at_most: u64,
    total_seconds: f64,
    last_seen: u64,
}

/// Totals of the scripts with one name, across all targets and commands.
#[derive(Debug)]
pub(crate) struct ScriptTotals {
    name: Label,
    labels: BTreeSet<Label>,
    /// One of the scripts, with its SHA1 if that is known; `None` for `other`.
    script: Option<(Identity, NamedScript)>,
    commands: BTreeSet<&'static str>,
    slow_calls: BySeverity<u64>,
    thresholds: BySeverity<f64>,
    durations: Histogram,
    longest: f64,
    p99: Option<f64>,
    seen: (u64, u64),
    targets: BTreeMap<Arc<str>, u64>,
    callers: MergedCallers,
}

/// Callers merged from several series.
#[derive(Debug, Default)]
struct MergedCallers {
    /// Callers counted by at least one series.
    counted: HashMap<Caller, CallerTotals>,
    /// Upper bound on the calls, over all series, that are not attributed to a caller.
    uncounted: u64,
}

/// Totals of a caller across several series.
#[derive(Debug, Clone, Copy, Default)]
struct CallerTotals {
    at_least: u64,
    /// Upper bound in the series that count this caller, minus the uncounted calls of those series, which are by other
    /// callers. Adding [`MergedCallers::uncounted`] gives the upper bound over all series.
    at_most: i128,
    micros: u64,
    last_seen: u64,
}

/// Computes the totals of all scripts, across all targets or for one.
pub(crate) fn totals(fleet: &Fleet, only: Option<&str>) -> Vec<ScriptTotals> {
    let mut totals: HashMap<Label, ScriptTotals> = HashMap::new();
    let catalogue = fleet.catalogue();
    for handle in fleet.targets().iter() {
        let name = &handle.config().name;
        if only.is_none_or(|only| *only == **name) {
            add(&mut totals, &catalogue, name, &handle.numbers());
        }
    }
    let mut totals: Vec<ScriptTotals> = totals.into_values().collect();
    for script in &mut totals {
        // Nearest rank: a percentile estimated from so few calls can differ from every one of them.
        let few = (1..P99_CALLS).contains(&script.durations.count());
        script.p99 = if few { Some(script.longest) } else { script.durations.quantile(0.99, script.longest) };
    }
    totals
}

fn add(
    totals: &mut HashMap<Label, ScriptTotals>,
    catalogue: &Catalogue,
    target_name: &Arc<str>,
    target: &Target,
) {
    let scripts = target.scripts();
    let names: HashMap<&Label, NamedScript> =
        scripts.known().map(|script| (&script.label, catalogue.named(script))).collect();
    for (command, label, series) in scripts.series() {
        let name = names.get(label).map_or(label, |script| &script.name);
        let script = match totals.get_mut(name) {
            Some(script) => {
                script.durations.absorb(&series.durations);
                script
            }
            None => totals.entry(name.clone()).or_insert_with(|| ScriptTotals::new(name, series)),
        };
        script.lower_thresholds(scripts.slow());
        script.labels.insert(label.clone());
        script.commands.insert(command.as_str());
        for (severity, count) in &series.slow_calls {
            match severity {
                Severity::Warning => script.slow_calls.warning += count,
                Severity::Critical => script.slow_calls.critical += count,
            }
        }
        script.longest = script.longest.max(duration_seconds(series.longest));
        script.seen = (script.seen.0.min(series.seen.0), script.seen.1.max(series.seen.1));
        *script.targets.entry(Arc::clone(target_name)).or_default() += series.durations.count();
        script.callers.add(&series.callers);
    }
    for identity in scripts.known() {
        if let Some(named) = names.get(&identity.label)
            && let Some(script) = totals.get_mut(&named.name)
            // A script with a SHA1 replaces one without.
            && script.script.as_ref().is_none_or(|(_, known)| known.sha1.is_none())
        {
            script.script = Some((identity.clone(), named.clone()));
        }
    }
}

/// Returns the first lines of a source, up to [`MAX_SOURCE_LINES`] and [`MAX_SOURCE_BYTES`].
fn first_lines(source: &[u8]) -> String {
    let head = source.get(..MAX_SOURCE_BYTES).unwrap_or(source);
    let end = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(MAX_SOURCE_LINES - 1);
    let head = end.and_then(|(end, _)| head.get(..end)).unwrap_or(head);
    String::from_utf8_lossy(head).into_owned()
}

impl ScriptTotals {
    fn new(name: &Label, series: &Series) -> Self {
        Self {
            name: name.clone(),
            labels: BTreeSet::new(),
            script: None,
            commands: BTreeSet::new(),
            slow_calls: BySeverity::default(),
            thresholds: BySeverity { warning: f64::INFINITY, critical: f64::INFINITY },
            durations: series.durations.clone(),
            longest: 0.0,
            p99: None,
            seen: series.seen,
            targets: BTreeMap::new(),
            callers: MergedCallers::default(),
        }
    }

    fn lower_thresholds(&mut self, slow: Thresholds) {
        let BySeverity { warning, critical } = &mut self.thresholds;
        *warning = warning.min(duration_seconds(slow.warning));
        *critical = critical.min(duration_seconds(slow.critical));
    }

    /// True if `script` is the name, the SHA1 or a label.
    fn is(&self, script: &str) -> bool {
        self.name.as_str() == script
            || self.labels.iter().any(|label| label.as_str() == script)
            || self.sha1().is_some_and(|sha1| script.eq_ignore_ascii_case(sha1.as_str()))
    }

    /// Returns the source of the script, if it is known.
    fn source(&self, fleet: &Fleet) -> Option<Arc<[u8]>> {
        let (identity, _) = self.script.as_ref()?;
        fleet.source(identity)
    }

    /// True if the name, SHA1 or a label contains `search`, which is in lower case.
    fn matches(&self, search: &str) -> bool {
        let contains = |word: &str| word.to_lowercase().contains(search);
        let sha1 = self.sha1();
        contains(self.name.as_str())
            || self.labels.iter().any(|label| contains(label.as_str()))
            || sha1.as_ref().is_some_and(|sha1| contains(sha1.as_str()))
    }

    fn sha1(&self) -> Option<Sha1Digits> {
        self.script.as_ref()?.1.sha1
    }

    fn compare(&self, other: &Self, key: SortKey) -> Ordering {
        match key {
            SortKey::Total => self.durations.sum().total_cmp(&other.durations.sum()),
            SortKey::Calls => self.durations.count().cmp(&other.durations.count()),
            SortKey::P99 => self.p99.unwrap_or(0.0).total_cmp(&other.p99.unwrap_or(0.0)),
            SortKey::Longest => self.longest.total_cmp(&other.longest),
            SortKey::LastSeen => self.seen.1.cmp(&other.seen.1),
            SortKey::Name => self.name.cmp(&other.name),
        }
    }

    fn row(&self, sources: Option<&Fleet>) -> ScriptRow {
        let mut targets: Vec<TargetCalls> = self
            .targets
            .iter()
            .map(|(target, calls)| TargetCalls { target: Arc::clone(target), calls: *calls })
            .collect();
        targets.sort_by_key(|target| std::cmp::Reverse(target.calls));
        targets.truncate(MAX_TARGETS);
        let (callers, more_callers) = self.callers.rows();
        ScriptRow {
            name: self.name.to_string(),
            scripts: self.labels.iter().cloned().collect(),
            sha1: self.sha1(),
            origin: self.script.as_ref().map_or(OTHER, |(_, named)| named.origin.as_str()),
            source: sources.and_then(|fleet| Some(first_lines(&self.source(fleet)?))),
            commands: self.commands.iter().copied().collect(),
            calls: self.durations.count(),
            slow_calls: self.slow_calls,
            thresholds: self.thresholds,
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
        let uncounted = callers.uncounted_at_most();
        self.uncounted = self.uncounted.saturating_add(uncounted);
        for (caller, calls) in callers.counted() {
            let totals = match self.counted.get_mut(caller) {
                Some(totals) => totals,
                None => self.counted.entry(caller.clone()).or_default(),
            };
            totals.at_least = totals.at_least.saturating_add(calls.at_most.saturating_sub(calls.uncertain));
            totals.at_most += i128::from(calls.at_most) - i128::from(uncounted);
            totals.micros = totals.micros.saturating_add(calls.micros);
            totals.last_seen = totals.last_seen.max(calls.last_seen);
        }
    }

    /// Returns the callers with the most calls, and whether there may be more.
    fn rows(&self) -> (Vec<CallerRow>, bool) {
        let non_empty = |text: &Arc<str>| Some(Arc::clone(text)).filter(|text| !text.is_empty());
        let mut rows: Vec<CallerRow> = self
            .counted
            .iter()
            .map(|(caller, totals)| CallerRow {
                client: non_empty(&caller.host),
                client_name: non_empty(&caller.name),
                calls_at_least: totals.at_least,
                calls_at_most: u64::try_from(totals.at_most + i128::from(self.uncounted)).unwrap_or(u64::MAX),
                total_seconds: float(totals.micros) / 1e6,
                last_seen: totals.last_seen,
            })
            .collect();
        let more = rows.len() > MAX_CALLERS || self.uncounted > 0;
        rows.sort_by(|a, b| {
            let by_calls = b.calls_at_least.cmp(&a.calls_at_least);
            by_calls.then_with(|| (&a.client, &a.client_name).cmp(&(&b.client, &b.client_name)))
        });
        rows.truncate(MAX_CALLERS);
        (rows, more)
    }
}

/// Returns the source of the script with this name, label or SHA1, if it is known.
pub(crate) fn source_of(totals: &[ScriptTotals], script: &str, fleet: &Fleet) -> Option<Arc<[u8]>> {
    totals.iter().find(|one| one.is(script))?.source(fleet)
}

/// Lints a source. Returns at most [`MAX_FINDINGS`] findings; `None` if the source exceeds [`MAX_LINTED`] or is not UTF-8.
pub(crate) fn findings(source: &[u8]) -> Option<Arc<[LintRow]>> {
    let text = std::str::from_utf8(source).ok().filter(|text| text.len() <= MAX_LINTED)?;
    let (findings, _) = lint::lint("script", text, &Limits::default(), &[]);
    let rows = findings.into_iter().take(MAX_FINDINGS).map(|finding| LintRow {
        line: finding.line,
        severity: finding.severity,
        rule: finding.rule.name,
        message: finding.message,
    });
    Some(rows.collect())
}

impl ScriptsResponse {
    /// Selects and sorts the scripts that match `query`, with their sources if `sources` is given.
    pub(crate) fn new(totals: &[ScriptTotals], query: &ScriptsQuery, sources: Option<&Fleet>) -> Self {
        let mut matching: Vec<&ScriptTotals> =
            totals.iter().filter(|script| script.matches(&query.search)).collect();
        matching.retain(|script| query.script.as_ref().is_none_or(|wanted| script.is(wanted)));
        matching.sort_by(|a, b| {
            let order = a.compare(b, query.sort);
            let order = if query.ascending { order } else { order.reverse() };
            order.then_with(|| a.name.cmp(&b.name))
        });
        Self {
            total: matching.len(),
            offset: query.page.offset,
            limit: query.page.limit,
            scripts: query.page.slice(matching).into_iter().map(|script| script.row(sources)).collect(),
            lint: None,
        }
    }

    /// Adds the linter findings for the script's source.
    pub(crate) fn with_lint(self, lint: Option<Arc<[LintRow]>>) -> Self {
        Self { lint, ..self }
    }
}
