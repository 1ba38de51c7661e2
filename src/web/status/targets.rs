//! `/api/v1/targets`: all targets with their state, worst first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::guard::GuardRow;
use super::headline::{Counts, Headline, Level, UNTRIED};
use super::problems::{ProblemRow, Remedy, diagnosis};
use super::query::TargetsQuery;
use super::text::{duration_seconds, unix_seconds};
use crate::clock::Timestamps;
use crate::config::{Shard, TargetConfig};
use crate::diagnosis::{Code, Impact};
use crate::fleet::Fleet;
use crate::notify::Status;
use crate::parse::Privacy;
use crate::poll::TargetHandle;
use crate::script::{Catalogue, Sha1Digits};
use crate::text::Fix;
use crate::watch::{Liveness, Severity, State, Target, Thresholds};

/// Maximum number of problems in the summary.
const MAX_PROBLEMS: usize = 12;

/// Maximum number of target names for each problem in the summary.
const MAX_NAMES: usize = 4;

/// Time for which the headline mentions an incident after its end.
const LAST_HOUR: Duration = Duration::from_secs(3600);

/// Response body.
#[derive(Debug, Serialize)]
pub(crate) struct TargetsResponse {
    version: &'static str,
    /// Shard of the targets, as `NUMBER/COUNT`; absent without `--shard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    shows: Shows,
    summary: Summary,
    /// Number of targets that match the query.
    total: usize,
    offset: usize,
    limit: usize,
    targets: Vec<Arc<TargetRow>>,
    /// Alertmanagers that the exporter notifies.
    alertmanagers: Vec<AlertmanagerRow>,
}

/// Alertmanager that the exporter notifies.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AlertmanagerRow {
    url: Arc<str>,
    /// True if the last request succeeded; `None` before the first one.
    up: Option<bool>,
    /// Time of the latest change of `up`.
    since: f64,
    /// Reason for the failure of the last request.
    problem: Option<String>,
    /// Number of alerts waiting for delivery.
    waiting: usize,
}

impl AlertmanagerRow {
    /// Returns all Alertmanagers.
    pub(crate) fn all(fleet: &Fleet) -> Vec<Self> {
        let statuses = fleet.notifier().map(|notifier| notifier.statuses()).unwrap_or_default();
        let row = |Status { url, up, since, problem, waiting, .. }| Self {
            url,
            up,
            since: unix_seconds(since),
            problem,
            waiting,
        };
        statuses.into_iter().map(row).collect()
    }

    /// Describes the failures of Alertmanagers that cannot be notified.
    pub(crate) fn problems(fleet: &Fleet) -> Vec<String> {
        let all = Self::all(fleet).into_iter();
        all.filter_map(|Self { url, problem, waiting, .. }| {
            Some(format!("Alerts cannot be sent to Alertmanager {url}: {} ({waiting} waiting).", problem?))
        })
        .collect()
    }
}

/// Privacy flags of the exporter.
#[derive(Debug, Clone, Copy, Serialize)]
struct Shows {
    keys: bool,
    clients: bool,
}

/// Summary of all targets, independent of the query.
#[derive(Debug, Clone, Serialize)]
struct Summary {
    targets: usize,
    headline: Headline,
    states: BTreeMap<&'static str, usize>,
    /// Number of targets at each level.
    levels: BTreeMap<Level, usize>,
    /// Problems of the exporter itself.
    exporter_problems: Vec<String>,
    /// Problems by code.
    problems: BTreeMap<Code, ProblemCount>,
    /// Most severe problems, at most [`MAX_PROBLEMS`].
    worst_problems: Vec<SharedProblem>,
    /// Number of problems omitted from `worst_problems`.
    more_problems: usize,
}

/// Problem that one or more targets have, with the same text.
#[derive(Debug, Clone, Serialize)]
struct SharedProblem {
    #[serde(flatten)]
    problem: ProblemRow,
    targets: usize,
    /// Names of the first targets, at most [`MAX_NAMES`].
    names: Vec<Arc<str>>,
}

/// Number of targets with a problem.
#[derive(Debug, Clone, Serialize)]
struct ProblemCount {
    impact: Impact,
    targets: usize,
}

/// A target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TargetRow {
    pub(crate) target: Arc<str>,
    /// Address of the server: host and port, or path.
    pub(crate) address: String,
    pub(crate) state: &'static str,
    /// Severity of its state and problems.
    pub(crate) level: Level,
    /// True if the target exists only because of `/probe`.
    probed: bool,
    /// Time at which the state began; `None` before the first connection attempt has finished.
    since: Option<f64>,
    /// Reason for the state, if any.
    pub(crate) detail: Option<String>,
    /// Time of the last reply, if the target is unreachable and has replied before.
    pub(crate) last_reply: Option<f64>,
    /// Blockage in progress, if the server is blocked or BUSY.
    pub(crate) blocked: Option<BlockedRow>,
    last_blockage: Option<LastBlockageRow>,
    /// Guard, if it has one.
    pub(crate) guard: Option<GuardRow>,
    server: Option<ServerRow>,
    thresholds: BySeverity<f64>,
    slow_calls: BySeverity<u64>,
    /// End of the latest slow call.
    last_slow_call: Option<u64>,
    /// Number of incidents that ended in the last hour.
    incidents_last_hour: usize,
    /// Number of slow log entries that were overwritten before they were read, or are unreadable.
    lost_entries: u64,
    pub(crate) problems: Vec<ProblemRow>,
}

/// Value for each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct BySeverity<T> {
    pub(crate) warning: T,
    pub(crate) critical: T,
}

/// Blockage in progress.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BlockedRow {
    pub(crate) since: f64,
    /// True if the server replies BUSY. It executes kill commands only in this state.
    pub(crate) busy: bool,
    /// `script`, `function` or `module`, if known.
    pub(crate) kind: Option<&'static str>,
    /// Label of the running script or function, if known.
    pub(crate) script: Option<String>,
    /// Name of the script or function, if known.
    pub(crate) name: Option<String>,
    pub(crate) sha1: Option<Sha1Digits>,
    /// True if the exporter reads the server's log file, which contains the names of scripts.
    pub(crate) log_file: bool,
    pub(crate) kill: Vec<Fix>,
    pub(crate) advice: String,
}

/// Latest blockage that has ended.
#[derive(Debug, Clone, Serialize)]
struct LastBlockageRow {
    since: f64,
    seconds: f64,
    cause: &'static str,
    script: Option<String>,
    name: Option<String>,
}

/// Facts from the server's INFO.
#[derive(Debug, Clone, Serialize)]
struct ServerRow {
    name: Option<String>,
    version: Option<String>,
    role: Option<String>,
    mode: Option<String>,
}

/// Returns all targets, sorted by state (worst first), duration of the blockage, and configured order.
pub(crate) fn rows(fleet: &Fleet) -> Vec<Arc<TargetRow>> {
    let catalogue = fleet.catalogue();
    let mut rows: Vec<Arc<TargetRow>> =
        fleet.targets().iter().map(|handle| Arc::new(TargetRow::new(handle, &catalogue))).collect();
    rows.sort_by(|a, b| a.rank().cmp(&b.rank()).then(a.blocked_since().total_cmp(&b.blocked_since())));
    rows
}

impl TargetsResponse {
    /// Selects the rows that match `query`.
    pub(crate) fn new(
        rows: &[Arc<TargetRow>],
        exporter_problems: Vec<String>,
        alertmanagers: Vec<AlertmanagerRow>,
        shard: Option<Shard>,
        privacy: Privacy,
        query: &TargetsQuery,
    ) -> Self {
        let matching: Vec<&Arc<TargetRow>> = rows
            .iter()
            .filter(|row| query.target.as_ref().is_none_or(|target| **target == *row.target))
            .filter(|row| query.state.is_none_or(|state| state.as_str() == row.state))
            .filter(|row| query.level.is_none_or(|level| level == row.level))
            .filter(|row| {
                let contains = |text: &str| text.to_lowercase().contains(&query.search);
                contains(&row.target) || contains(&row.address)
            })
            .collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            shard: shard.map(|shard| shard.to_string()),
            shows: Shows { keys: privacy.show_keys, clients: !privacy.hide_clients },
            summary: Summary::new(rows, exporter_problems),
            total: matching.len(),
            offset: query.page.offset,
            limit: query.page.limit,
            targets: query.page.slice(matching).into_iter().map(Arc::clone).collect(),
            alertmanagers,
        }
    }
}

impl Summary {
    fn new(rows: &[Arc<TargetRow>], exporter_problems: Vec<String>) -> Self {
        let mut problems = BTreeMap::new();
        let mut shared: Vec<SharedProblem> = Vec::new();
        let mut indexes = HashMap::new();
        for row in rows {
            for problem in &row.problems {
                let count = problems.entry(problem.code);
                count.or_insert(ProblemCount { impact: problem.impact, targets: 0 }).targets += 1;
                let index = *indexes.entry((problem.code, &*problem.text)).or_insert(shared.len());
                if index == shared.len() {
                    shared.push(SharedProblem { problem: problem.clone(), targets: 0, names: Vec::new() });
                }
                if let Some(shared) = shared.get_mut(index) {
                    shared.targets += 1;
                    if shared.names.len() < MAX_NAMES {
                        shared.names.push(Arc::clone(&row.target));
                    }
                }
            }
        }
        shared.sort_by_key(|shared| shared.problem.impact);
        let more_problems = shared.len().saturating_sub(MAX_PROBLEMS);
        shared.truncate(MAX_PROBLEMS);
        let counts = counts(rows, !exporter_problems.is_empty());
        let mut levels = BTreeMap::from(Level::ALL.map(|(_, level)| (level, 0)));
        for row in rows {
            *levels.entry(row.level).or_default() += 1;
        }
        Self {
            targets: rows.len(),
            headline: Headline::of(&counts),
            states: counts.states,
            levels,
            exporter_problems,
            problems,
            worst_problems: shared,
            more_problems,
        }
    }
}

/// Counts the targets for the headline.
pub(crate) fn counts(rows: &[Arc<TargetRow>], state_file_fails: bool) -> Counts {
    let mut counts = Counts { state_file_fails, ..Counts::default() };
    for row in rows {
        *counts.states.entry(row.state).or_default() += 1;
        counts.incidents += row.incidents_last_hour;
        if row.level == Level::Degraded {
            *if row.is_blind() { &mut counts.blind } else { &mut counts.losing } += 1;
        }
    }
    counts
}

impl TargetRow {
    fn new(handle: &TargetHandle, catalogue: &Catalogue) -> Self {
        let config = handle.config();
        let now = handle.now();
        let target = handle.numbers();
        let liveness = target.liveness();
        let scripts = target.scripts();
        let (problems, remedy) = diagnosis(config, &target, catalogue, handle.stretched_heartbeat(), now);
        let mut slow_calls = BySeverity::default();
        for (_, severity, count) in scripts.slow_calls() {
            match severity {
                Severity::Warning => slow_calls.warning += count,
                Severity::Critical => slow_calls.critical += count,
            }
        }
        let last_slow_call =
            scripts.series().filter_map(|(_, _, series)| Some(series.last.get(&Severity::Warning)?.ended_at));
        let losing = target.lost_recently(now);
        let mut row = Self {
            target: Arc::clone(&config.name),
            address: config.address.to_string(),
            level: Level::Ok,
            state: if liveness.state().is_tried() { liveness.state().kind().as_str() } else { UNTRIED },
            probed: handle.is_probed(),
            since: liveness.state().is_tried().then(|| unix_seconds(now.unix - liveness.held(now))),
            detail: liveness.state().detail().map(str::to_owned),
            last_reply: last_reply(liveness, now),
            blocked: blocked(config, &target, catalogue, remedy, now),
            last_blockage: last_blockage(liveness, catalogue),
            guard: GuardRow::new(&target, catalogue),
            server: server(&target),
            thresholds: thresholds(scripts.slow()),
            slow_calls,
            last_slow_call: last_slow_call.max(),
            incidents_last_hour: liveness
                .incidents()
                .ended()
                .iter()
                .filter(|incident| now.unix.since(incident.ended()) < LAST_HOUR)
                .count(),
            lost_entries: target.lost(),
            problems,
        };
        row.level = match row.state {
            "unreachable" | "unauthorized" => Level::Down,
            _ if row.blocked.is_some() => Level::Blocked,
            "loading" | UNTRIED => Level::Waiting,
            _ if row.is_blind() || losing => Level::Degraded,
            _ => Level::Ok,
        };
        row
    }

    /// True if a problem hides all script calls.
    fn is_blind(&self) -> bool {
        self.problems.iter().any(|problem| problem.impact == Impact::Blind)
    }

    /// Sort key of the state; the lowest is the worst.
    fn rank(&self) -> u8 {
        match (&self.blocked, self.state, &*self.problems) {
            (Some(_), _, _) => 0,
            // Clients of /probe can add many targets that do not exist.
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
    BySeverity { warning: duration_seconds(slow.warning), critical: duration_seconds(slow.critical) }
}

fn blocked(
    config: &TargetConfig,
    target: &Target,
    catalogue: &Catalogue,
    remedy: Remedy,
    now: Timestamps,
) -> Option<BlockedRow> {
    let liveness = target.liveness();
    let busy = match liveness.state() {
        State::Busy(kind, _) => Some(*kind),
        State::Blocked(_) | State::BusySilent(..) => None,
        _ => return None,
    };
    let running = liveness.running_script();
    let script = running.map(|running| catalogue.named(&running.script));
    let label = running.map(|running| target.scripts().label_of(&running.script, catalogue).to_string());
    Some(BlockedRow {
        since: unix_seconds(now.unix - liveness.blocked(now)),
        busy: busy.is_some(),
        kind: busy.or(running.map(|running| running.kind)).map(crate::parse::BusyKind::as_str),
        script: label,
        name: script.as_ref().map(|script| script.name.to_string()),
        sha1: script.and_then(|script| script.sha1),
        log_file: config.log_file.is_some(),
        kill: remedy.kill,
        advice: remedy.advice,
    })
}

/// Returns the time of the last reply of an unreachable server. For other targets, the value would change with each
/// heartbeat.
fn last_reply(liveness: &Liveness, now: Timestamps) -> Option<f64> {
    let is_silent = matches!(liveness.state(), State::Unreachable(_));
    let at = liveness.last_reply().filter(|_| is_silent)?;
    Some(unix_seconds(now.unix_of(at)))
}

fn last_blockage(liveness: &Liveness, catalogue: &Catalogue) -> Option<LastBlockageRow> {
    let last = liveness.last_blockage()?;
    let script = last.script.as_ref().map(|script| catalogue.named(script));
    Some(LastBlockageRow {
        since: unix_seconds(last.began),
        seconds: duration_seconds(last.blocked),
        cause: last.cause.as_str(),
        script: script.as_ref().map(|script| script.label.to_string()),
        name: script.map(|script| script.name.to_string()),
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
