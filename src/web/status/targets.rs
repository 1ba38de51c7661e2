//! `/api/v1/targets`: every target with its state, the worst first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::advice::{Kill, Problem, Weight, problems, way};
use super::headline::Headline;
use super::query::TargetsQuery;
use super::text::{precise, seconds};
use crate::clock::Timestamps;
use crate::fleet::Fleet;
use crate::parse::Privacy;
use crate::poll::TargetHandle;
use crate::script::{Catalogue, Sha1Digits};
use crate::watch::{Liveness, Severity, State, Target, Thresholds};

/// The word for a target that has not been tried yet.
pub(crate) const UNTRIED: &str = "untried";

/// Problems that the summary shows, and targets that it names for each.
const MAX_PROBLEMS: usize = 12;
const MAX_NAMES: usize = 4;

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct TargetsAnswer {
    version: &'static str,
    shows: Shows,
    summary: Summary,
    /// Targets that fit the query.
    total: usize,
    offset: usize,
    limit: usize,
    targets: Vec<Arc<TargetRow>>,
}

/// What the exporter was told to show.
#[derive(Debug, Clone, Copy, Serialize)]
struct Shows {
    keys: bool,
    clients: bool,
}

/// All targets in numbers, whatever the query.
#[derive(Debug, Clone, Serialize)]
struct Summary {
    targets: usize,
    headline: Headline,
    states: BTreeMap<&'static str, usize>,
    /// What hides the truth, by kind.
    problems: BTreeMap<&'static str, ProblemCount>,
    /// The heaviest problems with their texts, at most [`MAX_PROBLEMS`].
    worst_problems: Vec<SharedProblem>,
    /// Number of further problems.
    more_problems: usize,
}

/// A problem that some targets have in the same words.
#[derive(Debug, Clone, Serialize)]
struct SharedProblem {
    #[serde(flatten)]
    problem: Problem,
    targets: usize,
    /// The names of the first targets, at most [`MAX_NAMES`].
    names: Vec<Arc<str>>,
}

/// How many targets have a problem.
#[derive(Debug, Clone, Serialize)]
struct ProblemCount {
    weight: Weight,
    targets: usize,
}

/// One target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TargetRow {
    pub(crate) target: Arc<str>,
    pub(crate) state: &'static str,
    /// Whether it is watched only because `/probe` is asked for it.
    probed: bool,
    /// When the state began; `None` before the first try.
    since: Option<f64>,
    /// Why it holds, where there is something to say.
    pub(crate) detail: Option<String>,
    /// What goes on, if the server is blocked or BUSY.
    pub(crate) blocked: Option<BlockedRow>,
    last_blockage: Option<LastBlockageRow>,
    server: Option<ServerRow>,
    thresholds: BySeverity<f64>,
    slow_calls: BySeverity<u64>,
    /// When the latest slow call ended.
    last_slow_call: Option<u64>,
    /// Slow log entries that were gone before they could be read, or are unreadable.
    lost_entries: u64,
    pub(crate) problems: Vec<Problem>,
}

/// A value for each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct BySeverity<T> {
    pub(crate) warning: T,
    pub(crate) critical: T,
}

/// A blockage that goes on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BlockedRow {
    pub(crate) since: f64,
    /// Whether the server answers BUSY: only then it takes a kill.
    pub(crate) busy: bool,
    /// `script`, `function` or `module`, once that is known.
    pub(crate) kind: Option<&'static str>,
    /// The label of what runs, once that is known.
    pub(crate) script: Option<String>,
    pub(crate) sha1: Option<Sha1Digits>,
    pub(crate) kill: Vec<Kill>,
    pub(crate) advice: String,
}

/// The latest blockage that has ended.
#[derive(Debug, Clone, Serialize)]
struct LastBlockageRow {
    since: f64,
    seconds: f64,
    cause: &'static str,
    script: Option<String>,
}

/// What the server says of itself.
#[derive(Debug, Clone, Serialize)]
struct ServerRow {
    name: Option<String>,
    version: Option<String>,
    role: Option<String>,
    mode: Option<String>,
}

/// All targets, the worst first: by how bad the state is, then by how long it has been blocked, then in their own order.
pub(crate) fn rows(fleet: &Fleet) -> Vec<Arc<TargetRow>> {
    let catalogue = fleet.catalogue();
    let mut rows: Vec<Arc<TargetRow>> =
        fleet.targets().iter().map(|watched| Arc::new(TargetRow::of(watched, &catalogue))).collect();
    rows.sort_by(|one, other| {
        one.rank().cmp(&other.rank()).then(one.blocked_since().total_cmp(&other.blocked_since()))
    });
    rows
}

impl TargetsAnswer {
    /// What was asked for of `rows`.
    pub(crate) fn of(rows: &[Arc<TargetRow>], privacy: Privacy, query: &TargetsQuery) -> Self {
        let fitting: Vec<&Arc<TargetRow>> = rows
            .iter()
            .filter(|row| query.state.is_none_or(|state| state.as_str() == row.state))
            .filter(|row| row.target.to_lowercase().contains(&query.text))
            .collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            shows: Shows { keys: privacy.show_keys, clients: !privacy.hide_clients },
            summary: Summary::of(rows),
            total: fitting.len(),
            offset: query.part.offset,
            limit: query.part.limit,
            targets: query.part.of(fitting).into_iter().map(Arc::clone).collect(),
        }
    }
}

impl Summary {
    fn of(rows: &[Arc<TargetRow>]) -> Self {
        let mut problems = BTreeMap::new();
        let mut shared: Vec<SharedProblem> = Vec::new();
        let mut places = HashMap::new();
        for row in rows {
            for problem in &row.problems {
                let count = problems.entry(problem.kind);
                count.or_insert(ProblemCount { weight: problem.weight, targets: 0 }).targets += 1;
                let place = *places.entry((problem.kind, &*problem.text)).or_insert(shared.len());
                if place == shared.len() {
                    shared.push(SharedProblem { problem: problem.clone(), targets: 0, names: Vec::new() });
                }
                if let Some(known) = shared.get_mut(place) {
                    known.targets += 1;
                    if known.names.len() < MAX_NAMES {
                        known.names.push(Arc::clone(&row.target));
                    }
                }
            }
        }
        shared.sort_by_key(|shared| shared.problem.weight);
        let more_problems = shared.len().saturating_sub(MAX_PROBLEMS);
        shared.truncate(MAX_PROBLEMS);
        let states = states(rows);
        Self {
            targets: rows.len(),
            headline: Headline::of(&states),
            states,
            problems,
            worst_problems: shared,
            more_problems,
        }
    }
}

/// The number of targets in each state.
pub(crate) fn states(rows: &[Arc<TargetRow>]) -> BTreeMap<&'static str, usize> {
    let mut states = BTreeMap::new();
    for row in rows {
        *states.entry(row.state).or_default() += 1;
    }
    states
}

impl TargetRow {
    fn of(watched: &TargetHandle, catalogue: &Catalogue) -> Self {
        let config = watched.config();
        let now = watched.now();
        let target = watched.numbers();
        let liveness = target.liveness();
        let scripts = target.scripts();
        let mut slow_calls = BySeverity::default();
        for (_, severity, count) in scripts.slow_calls() {
            match severity {
                Severity::Warning => slow_calls.warning += count,
                Severity::Critical => slow_calls.critical += count,
            }
        }
        let last =
            scripts.series().filter_map(|(_, _, series)| Some(series.last.get(&Severity::Warning)?.ended_at));
        Self {
            target: Arc::clone(&config.name),
            state: if liveness.tried() { liveness.state().as_str() } else { UNTRIED },
            probed: watched.is_probed(),
            since: liveness.tried().then(|| seconds((now.unix - liveness.held(now)).since_epoch())),
            detail: liveness.detail().map(str::to_owned),
            blocked: blocked(watched, &target, catalogue, now),
            last_blockage: last_blockage(liveness, catalogue),
            server: server(&target),
            thresholds: thresholds(scripts.slow()),
            slow_calls,
            last_slow_call: last.max(),
            lost_entries: target.lost(),
            problems: problems(config, &target, now),
        }
    }

    /// How bad it is; smaller is worse.
    fn rank(&self) -> u8 {
        match (&self.blocked, self.state, &*self.problems) {
            (Some(_), _, _) => 0,
            // Whoever probes can name many that are not there.
            _ if self.probed => 5,
            (_, "unauthorized" | "unreachable", _) => 1,
            (_, "loading" | UNTRIED, _) => 2,
            (_, _, [_, ..]) => 3,
            _ => 4,
        }
    }

    fn blocked_since(&self) -> f64 {
        self.blocked.as_ref().map_or(0.0, |blocked| blocked.since)
    }
}

fn thresholds(slow: Thresholds) -> BySeverity<f64> {
    BySeverity { warning: precise(slow.warning), critical: precise(slow.critical) }
}

fn blocked(
    watched: &TargetHandle,
    target: &Target,
    catalogue: &Catalogue,
    now: Timestamps,
) -> Option<BlockedRow> {
    let liveness = target.liveness();
    let busy = match liveness.state() {
        State::Busy(kind) => Some(kind),
        State::Blocked => None,
        _ => return None,
    };
    let runner = liveness.runner();
    let script = runner.map(|runner| catalogue.identify(&runner.script));
    let way = way(watched.config(), target, now);
    Some(BlockedRow {
        since: seconds((now.unix - liveness.blocked(now)).since_epoch()),
        busy: busy.is_some(),
        kind: busy.or(runner.map(|runner| runner.kind)).map(crate::parse::BusyKind::as_str),
        script: script.as_ref().map(|script| script.label.to_string()),
        sha1: script.and_then(|script| script.sha1),
        kill: way.kill,
        advice: way.advice,
    })
}

fn last_blockage(liveness: &Liveness, catalogue: &Catalogue) -> Option<LastBlockageRow> {
    let last = liveness.last_blockage()?;
    Some(LastBlockageRow {
        since: seconds(last.began.since_epoch()),
        seconds: seconds(last.blocked),
        cause: last.cause.as_str(),
        script: last.script.as_ref().map(|script| catalogue.label(script).to_string()),
    })
}

fn server(target: &Target) -> Option<ServerRow> {
    let info = target.server().info();
    info.version.as_ref()?;
    Some(ServerRow {
        name: info.server.clone(),
        version: info.version.clone(),
        role: info.role.clone(),
        mode: info.mode.clone(),
    })
}
