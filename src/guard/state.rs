//! State of the guard of one target: the current run, the actions taken on it, and recent kills.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Action, ActionRecord, Caller};
use super::outcome::GuardOutcome;
use super::policy::{Mode, Policy, UnknownScript};
use super::runs::{Confirmation, NamedLine, Run, Runs};
use crate::clock::{Mono, Timestamps, Unix};
use crate::parse::BusyKind;
use crate::script::{Identity, NamedScript};
use crate::text::Trouble;

/// Time limit assumed for a server that does not report its own: the default of all servers.
const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

/// Minimum time limit for which the target's heartbeats are frequent enough to distinguish runs; some servers are queried only
/// once a second while they are BUSY.
const MIN_LIMIT: Duration = Duration::from_secs(2);

/// The same minimum, as a multiple of the heartbeat interval.
const MIN_LIMIT_HEARTBEATS: u32 = 3;

/// Minimum interval between the guard's own requests.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Time after `kill_after` during which the guard waits for the script's name.
const NAME_GRACE: Duration = Duration::from_secs(2);

/// Time after which a kill is considered ineffective if the run is still BUSY.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Maximum number of kills of one run.
const MAX_ATTEMPTS: u32 = 3;

/// Maximum number of kills kept for the budget; enough for any budget that the configuration accepts.
const MAX_KEPT: usize = 1000;

/// Error in the record of a kill whose reply the exporter did not live to receive.
const UNANSWERED: &str = "the exporter ended before the reply to its kill";

/// Facts that the guard does not observe itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GuardContext<'a> {
    /// Role reported by INFO; `None` if unknown.
    pub(crate) role: Option<&'a str>,
    /// Time limit of the server; `None` if unknown.
    pub(crate) time_limit: Option<Duration>,
    /// Name of the script or function returned by [`Guard::script`].
    pub(crate) script: Option<&'a NamedScript>,
}

/// Next step of the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Do nothing until the next observation.
    Idle,
    /// Decide again at this time.
    Wait(Mono),
    /// Do not kill the run, and report this outcome.
    Leave(Order, GuardOutcome),
    /// Confirm the run, and kill it.
    Kill(Order),
}

/// Run that a decision applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    /// Number of the run.
    run: u64,
    /// Kind of call that is running.
    pub(crate) kind: BusyKind,
}

/// Maximum time assumed between the server writing a log line and the line arriving in the file (a container runtime or a log
/// collector may be in between). It is capped at one fifth of the server's time limit.
const MAX_LOG_DELAY: Duration = Duration::from_secs(1);
const LOG_DELAYS: u32 = 5;

/// State that is kept across restarts of the exporter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedGuard {
    /// Times of kills, in seconds since the Unix epoch.
    kills: Vec<u64>,
    /// Times of kills that mode dry-run would have sent, in the same unit.
    dry_runs: Vec<u64>,
}

impl SavedGuard {
    /// True if there is nothing to keep.
    pub(crate) fn is_empty(&self) -> bool {
        self.kills.is_empty() && self.dry_runs.is_empty()
    }
}

/// Account of the current run.
#[derive(Debug, Clone, Default)]
struct Account {
    /// Number of the run.
    run: u64,
    /// Start of the run, and its script if known. Kept after the end of the run, because its kill may not have been answered yet.
    began: Mono,
    script: Option<Identity>,
    /// Outcomes reported for the run.
    reported: BTreeSet<GuardOutcome>,
    /// True if the guard leaves the run alone, regardless of later observations.
    closed: bool,
    /// True while a kill awaits its reply.
    in_flight: bool,
    /// Number of kills that may have had an effect, and time of the last kill.
    attempts: u32,
    attempted_at: Mono,
}

/// Guard of one target.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    policy: Policy,
    /// Interval of heartbeats.
    heartbeat: Duration,
    runs: Runs,
    /// Start of the current blockage, as displayed.
    blocked_since: Mono,
    account: Account,
    /// Number, start and script of the run of the latest kill, whose reply may arrive after the next run has been detected.
    sent: Option<(u64, Mono, Option<Identity>)>,
    /// Times of kills, oldest first; includes attempts without a reply.
    kills: VecDeque<Unix>,
    /// Time of a kill that is intended but not sent yet. It is saved with [`Self::kills`].
    intended: Option<Unix>,
    /// Times of kills that mode dry-run would have sent, oldest first.
    dry_runs: VecDeque<Unix>,
    /// Number of outcomes, in the order of [`GuardOutcome::ALL`].
    totals: [u64; GuardOutcome::ALL.len()],
    latest: BTreeMap<GuardOutcome, Action>,
    /// Reason why the guard can't kill at present; `None` if there is none, or before the first connection.
    trouble: Option<Trouble>,
    /// True while a connection is logged in and no problem is known.
    is_ready: bool,
}

impl Guard {
    /// Creates a guard that has observed nothing.
    #[must_use]
    pub(crate) fn new(policy: Policy, heartbeat: Duration) -> Self {
        Self {
            policy,
            heartbeat,
            runs: Runs::default(),
            blocked_since: Mono::EPOCH,
            account: Account::default(),
            sent: None,
            kills: VecDeque::new(),
            intended: None,
            dry_runs: VecDeque::new(),
            totals: [0; GuardOutcome::ALL.len()],
            latest: BTreeMap::new(),
            trouble: None,
            is_ready: false,
        }
    }

    /// Restores the state saved by a previous process or configuration.
    pub(crate) fn restore(&mut self, saved: SavedGuard) {
        let times = |times: Vec<u64>| {
            let times = times.into_iter().map(|seconds| Unix::from_epoch(Duration::from_secs(seconds)));
            times.take(MAX_KEPT).collect()
        };
        self.kills = times(saved.kills);
        self.dry_runs = times(saved.dry_runs);
    }

    /// Returns the state to keep across restarts of the exporter.
    #[must_use]
    pub(crate) fn saved(&self) -> SavedGuard {
        let seconds = |at: &Unix| at.as_secs();
        SavedGuard {
            kills: self.kills.iter().chain(&self.intended).map(seconds).collect(),
            dry_runs: self.dry_runs.iter().map(seconds).collect(),
        }
    }

    /// Returns the record of a kill that is intended, or sent and not answered, as it is saved in case the exporter ends before the
    /// reply.
    #[must_use]
    pub(crate) fn unanswered(&self, now: Timestamps) -> Option<ActionRecord> {
        (self.intended.is_some() || self.account.in_flight).then(|| ActionRecord {
            outcome: GuardOutcome::Unreachable,
            at: now.unix.since_epoch(),
            ran_for: now.mono.since(self.account.began),
            detail: Some(UNANSWERED.to_owned()),
        })
    }

    /// The operator's rules.
    #[must_use]
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Number of occurrences of every outcome, including 0.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (GuardOutcome, u64)> {
        GuardOutcome::ALL.into_iter().zip(self.totals)
    }

    /// Latest action for each outcome that has occurred.
    pub(crate) fn latest(&self) -> impl Iterator<Item = &Action> {
        self.latest.values()
    }

    /// True while a connection is logged in and no problem is known.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Reason why the guard can't kill at present, if known.
    #[must_use]
    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// True if this outcome was reported for the current run.
    #[must_use]
    pub(crate) fn has_reported(&self, outcome: GuardOutcome) -> bool {
        self.runs.current().is_some_and(|run| run.id == self.account.run)
            && self.account.reported.contains(&outcome)
    }

    /// Script or function of the current run, if known.
    #[must_use]
    pub(crate) fn script(&self) -> Option<&Identity> {
        self.runs.current()?.script.as_ref()
    }

    /// Records a reply that shows what is running.
    pub(crate) fn busy(&mut self, confirmation: Confirmation, limit: Option<Duration>, now: Timestamps) {
        self.runs.busy(confirmation, now.mono, Self::limit(limit));
        self.note_run();
    }

    /// Records a line of the server's log.
    pub(crate) fn logged(&mut self, line: NamedLine, limit: Option<Duration>) {
        let delay = MAX_LOG_DELAY.min(Self::limit(limit) / LOG_DELAYS);
        self.runs.logged(NamedLine { written_after: line.written_after - delay, ..line });
        self.note_run();
    }

    /// Records the start of the current blockage, if any. No run is counted from an earlier time, so that no action contradicts
    /// the displayed duration.
    pub(crate) fn blocked_since(&mut self, began: Option<Mono>) {
        if let Some(began) = began {
            self.blocked_since = began;
            self.note_run();
        }
    }

    /// Updates the account of the current run, or opens one for a new run.
    fn note_run(&mut self) {
        let Some(run) = self.runs.current() else { return };
        if run.id != self.account.run {
            self.account = Account { run: run.id, ..Account::default() };
        }
        self.account.began = run.began.max(self.blocked_since);
        if self.account.script != run.script {
            self.account.script.clone_from(&run.script);
        }
    }

    /// Records that the server was free after a request was sent at `sent`, or is unreachable.
    pub(crate) fn free(&mut self, sent: Mono) {
        self.runs.end(sent);
    }

    /// Time limit of the server, or the default of all servers if unknown.
    #[must_use]
    pub(crate) fn limit(known: Option<Duration>) -> Duration {
        known.unwrap_or(DEFAULT_LIMIT)
    }

    /// Returns the time at which the guard must query what is running, if heartbeats are not frequent enough for a server with
    /// this time limit.
    #[must_use]
    pub(crate) fn probe_at(&self, limit: Option<Duration>) -> Option<Mono> {
        let (run, limit) = (self.runs.current()?, Self::limit(limit));
        let is_short = limit < MIN_LIMIT.max(self.heartbeat.saturating_mul(MIN_LIMIT_HEARTBEATS));
        let interval = (limit / 3).max(MIN_PROBE_INTERVAL);
        (is_short && run.kind != BusyKind::Module).then(|| run.last_busy + interval)
    }

    /// Returns the next step.
    #[must_use]
    pub(crate) fn decide(&self, facts: GuardContext<'_>, now: Timestamps) -> Decision {
        let Some(run) = self.runs.current() else { return Decision::Idle };
        if self.account.closed || self.account.in_flight {
            return Decision::Idle;
        }
        let due = self.account.began + self.policy.kill_after.max(Self::limit(facts.time_limit));
        if now.mono < due {
            return Decision::Wait(due);
        }
        let order = Order { run: run.id, kind: run.kind };
        match self.objection(run, facts, due, now) {
            Some(Objection::Wait(at)) => Decision::Wait(at),
            Some(Objection::Outcome(outcome)) if self.account.reported.contains(&outcome) => Decision::Idle,
            Some(Objection::Outcome(outcome)) => Decision::Leave(order, outcome),
            None => Decision::Kill(order),
        }
    }

    /// Returns the first objection to killing a run that is due.
    fn objection(&self, run: &Run, facts: GuardContext<'_>, due: Mono, now: Timestamps) -> Option<Objection> {
        use Objection::{Outcome as Forbidden, Wait};
        let Policy { mode, scripts, unknown, functions, budget, .. } = &self.policy;
        match (run.kind, facts.role) {
            (BusyKind::Module, _) => return Some(Forbidden(GuardOutcome::Module)),
            (_, None) => return Some(Forbidden(GuardOutcome::UnknownRole)),
            (_, Some(role)) if role != "master" => return Some(Forbidden(GuardOutcome::Replica)),
            (BusyKind::Function, _) if !functions => return Some(Forbidden(GuardOutcome::FunctionsOff)),
            _ => {}
        }
        if !scripts.is_empty() {
            match (&run.script, facts.script) {
                (Some(script), Some(named)) if script.label == named.label => {
                    if !scripts.admit(named) {
                        return Some(Forbidden(GuardOutcome::Excluded));
                    }
                }
                // The run has only just been identified, and `facts` do not have its name yet.
                (Some(_), _) => return Some(Wait(now.mono)),
                (None, _) if *unknown == UnknownScript::Leave => {
                    let at = due + NAME_GRACE;
                    let is_late = now.mono >= at;
                    return Some(if is_late { Forbidden(GuardOutcome::UnknownScript) } else { Wait(at) });
                }
                (None, _) => {}
            }
        }
        if self.account.attempts > 0 {
            let retry_at = self.account.attempted_at + RETRY_AFTER;
            if self.account.attempts >= MAX_ATTEMPTS || run.last_busy < retry_at {
                return Some(Wait(now.mono.max(retry_at) + RETRY_AFTER));
            }
        }
        let kills = if *mode == Mode::Kill { &self.kills } else { &self.dry_runs };
        // If the clock was set back, the time since a kill is 0, so the kill still counts.
        let recent = kills.iter().filter(|at| now.unix.since(**at) < budget.per).count();
        if recent >= budget.max_kills {
            return Some(Forbidden(GuardOutcome::Budget));
        }
        (*mode == Mode::DryRun).then_some(Forbidden(GuardOutcome::DryRun))
    }

    /// Records that a kill is about to be confirmed and sent, so that its place in the budget can be saved before.
    pub(crate) fn intend(&mut self, now: Timestamps) {
        self.intended = Some(now.unix);
    }

    /// Records that the intended kill was not sent. Its place in the budget is free again.
    pub(crate) fn withdraw(&mut self) {
        self.intended = None;
    }

    /// Records the server's reply about what is running, and decides again. If the decision is still to kill, the kill is
    /// recorded as sent and the order is returned.
    pub(crate) fn confirm(
        &mut self,
        order: Order,
        confirmation: Confirmation,
        facts: GuardContext<'_>,
        now: Timestamps,
    ) -> Option<Order> {
        self.busy(confirmation, facts.time_limit, now);
        let confirmed = self.decide(facts, now);
        if confirmed != Decision::Kill(order) {
            return None;
        }
        self.account.in_flight = true;
        self.sent = Some((order.run, self.account.began, self.account.script.clone()));
        self.account.attempts = self.account.attempts.saturating_add(1);
        self.account.attempted_at = now.mono;
        self.intended = None;
        keep(&mut self.kills, now.unix);
        Some(order)
    }

    /// Reports that the guard leaves a run alone. Returns the action if it should be logged.
    pub(crate) fn leave(&mut self, order: Order, outcome: GuardOutcome, now: Timestamps) -> Option<Action> {
        if outcome == GuardOutcome::DryRun && order.run == self.account.run {
            keep(&mut self.dry_runs, now.unix);
        }
        self.report(order, outcome, None, now)
    }

    /// Reports the outcome of a kill that was sent. Returns the action.
    pub(crate) fn answered(
        &mut self,
        order: Order,
        outcome: GuardOutcome,
        detail: Option<String>,
        now: Timestamps,
    ) -> Option<Action> {
        let is_current = order.run == self.account.run;
        let mut outcome = outcome;
        if is_current {
            self.account.in_flight = false;
            self.account.attempted_at = now.mono;
            if outcome == GuardOutcome::Killed && self.account.attempts > 1 {
                outcome = GuardOutcome::KilledAgain;
            }
        }
        if outcome.is_refusal() {
            self.kills.pop_back();
            if is_current {
                self.account.attempts = self.account.attempts.saturating_sub(1);
            }
        }
        self.account.reported.remove(&outcome);
        let action = self.report(order, outcome, detail, now);
        if matches!(outcome, GuardOutcome::NotBusy | GuardOutcome::OtherKind) && is_current {
            self.runs.end(now.mono);
        }
        action
    }

    /// Reports that a run can't be killed because there is no connection. Returns the action if it should be logged.
    pub(crate) fn unreachable(&mut self, order: Order, detail: String, now: Timestamps) -> Option<Action> {
        self.report(order, GuardOutcome::Unreachable, Some(detail), now)
    }

    /// Counts an outcome, once per run.
    fn report(
        &mut self,
        order: Order,
        outcome: GuardOutcome,
        detail: Option<String>,
        now: Timestamps,
    ) -> Option<Action> {
        if order.run == self.account.run {
            self.account.closed |= outcome.is_final();
            if !self.account.reported.insert(outcome) {
                return None;
            }
        }
        for (known, count) in GuardOutcome::ALL.into_iter().zip(&mut self.totals) {
            *count += u64::from(known == outcome);
        }
        let current = Some((self.account.run, self.account.began, self.account.script.clone()));
        let run = [current, self.sent.clone()].into_iter().flatten().find(|(run, ..)| *run == order.run);
        let (began, script) = run.map_or((now.mono, None), |(_, began, script)| (began, script));
        let action = Action {
            outcome,
            kind: order.kind,
            script,
            ran_for: now.mono.since(began),
            at: now.unix,
            detail,
            caller: None,
        };
        self.latest.insert(outcome, action.clone());
        Some(action)
    }

    /// Records that a connection is logged in, or the reason why the guard can't kill at present. Returns true if this should be
    /// logged: a reason has appeared or disappeared.
    pub(crate) fn set_ready(&mut self, trouble: Option<Trouble>) -> bool {
        let is_news = self.trouble.is_some() != trouble.is_some();
        self.is_ready = trouble.is_none();
        self.trouble = trouble;
        is_news
    }

    /// Adds the script and caller of a blockage from `began` to `ended` to the latest actions during it.
    pub(crate) fn explain(
        &mut self,
        began: Unix,
        ended: Unix,
        script: Option<&Identity>,
        caller: Option<&Caller>,
    ) {
        for action in self.latest.values_mut() {
            if !action.record().is_within(began, ended) {
                continue;
            }
            if action.script.is_none() {
                action.script = script.cloned();
            }
            if action.caller.is_none() && (script.is_none() || action.script.as_ref() == script) {
                action.caller = caller.cloned();
            }
        }
    }
}

/// Reason not to kill now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Objection {
    /// Decide again at this time.
    Wait(Mono),
    /// Outcome of the rule that forbids the kill.
    Outcome(GuardOutcome),
}

/// Adds a time, and drops the oldest above [`MAX_KEPT`].
fn keep(times: &mut VecDeque<Unix>, at: Unix) {
    times.push_back(at);
    while times.len() > MAX_KEPT {
        times.pop_front();
    }
}

#[cfg(test)]
impl Guard {
    /// Latest possible start of the current run.
    pub(super) fn runs_began(&self) -> Option<Mono> {
        self.runs.current().map(|run| run.began)
    }
}

#[cfg(test)]
impl SavedGuard {
    /// Times of kills.
    pub(super) fn kills(&self) -> &[u64] {
        &self.kills
    }
}
