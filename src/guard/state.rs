//! State of the guard of one target: the current run, what was done about it, and the kills of the last minutes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Action, Caller};
use super::outcome::GuardOutcome;
use super::policy::{Mode, Policy, UnknownScript};
use super::runs::{Confirmation, NamedLine, Run, Runs};
use crate::clock::{Mono, Timestamps, Unix};
use crate::parse::BusyKind;
use crate::script::{Identity, NamedScript};
use crate::text::Trouble;

/// Time limit of a server that does not report its own: the default of all servers.
const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

/// Minimum time limit at which the heartbeats of the target are frequent enough to tell runs apart: some servers are asked once
/// a second while they are BUSY.
const MIN_LIMIT: Duration = Duration::from_secs(2);

/// The same in intervals of heartbeats.
const MIN_LIMIT_HEARTBEATS: u32 = 3;

/// Minimum interval of the guard's own questions.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Time after `kill_after` within which a script may still be named.
const NAME_GRACE: Duration = Duration::from_secs(2);

/// Time after a kill from which the run counts as not ended by it.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Maximum number of kills of one run.
const MAX_ATTEMPTS: u32 = 3;

/// Maximum number of kills that are kept for the budget; enough for any budget that the configuration accepts.
const MAX_KEPT: usize = 1000;

/// Facts that the guard does not observe itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GuardContext<'a> {
    /// Role by INFO; `None` if unknown.
    pub(crate) role: Option<&'a str>,
    /// Time limit of the server; `None` if unknown.
    pub(crate) time_limit: Option<Duration>,
    /// Name of the script or function that [`Guard::script`] returned.
    pub(crate) script: Option<&'a NamedScript>,
}

/// Next step of the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Nothing, until something is observed.
    Idle,
    /// Decide again at this time.
    Wait(Mono),
    /// Do not kill the run, and report this outcome.
    Leave(Order, GuardOutcome),
    /// Confirm the run, and kill it.
    Kill(Order),
}

/// A run, and the kill that applies to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    /// Number of the run.
    run: u64,
    /// Kind of what runs.
    pub(crate) kind: BusyKind,
}

/// Time within which a line has to arrive in the file after the server wrote it (a container runtime or a collector of logs may be in
/// between), and the largest part of the server's time limit that this may be: one fifth.
const MAX_LOG_DELAY: Duration = Duration::from_secs(1);
const LOG_DELAYS: u32 = 5;

/// Part that is kept across restarts of the exporter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedGuard {
    /// Times of kills, in seconds since the Unix epoch.
    kills: Vec<u64>,
    /// The same of kills that mode dry-run would have sent.
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
    /// Its beginning, and what it runs, as far as known; also after its end, at which its kill may have no answer yet.
    began: Mono,
    script: Option<Identity>,
    /// Outcomes that were reported.
    reported: BTreeSet<GuardOutcome>,
    /// True if the run is left, whatever is observed later.
    closed: bool,
    /// True while a kill has no answer.
    in_flight: bool,
    /// Number of kills whose effect is not known to be none, and time of the last one.
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
    /// Beginning of the blockage in progress, as it is shown.
    blocked_since: Mono,
    account: Account,
    /// Number of the run of the latest kill, its beginning and what it ran: its answer may come when the next run is known.
    sent: Option<(u64, Mono, Option<Identity>)>,
    /// Times of kills, the oldest first; an attempt whose answer is missing counts.
    kills: VecDeque<Unix>,
    /// The same of kills that mode dry-run would have sent.
    dry_runs: VecDeque<Unix>,
    /// Number of outcomes, by [`GuardOutcome::ALL`].
    totals: [u64; GuardOutcome::ALL.len()],
    latest: BTreeMap<GuardOutcome, Action>,
    /// Reason for which the guard cannot kill at present; `None` if there is none, and before the first connection.
    trouble: Option<Trouble>,
    /// True while a connection is logged in and nothing is known to be missing.
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
            dry_runs: VecDeque::new(),
            totals: [0; GuardOutcome::ALL.len()],
            latest: BTreeMap::new(),
            trouble: None,
            is_ready: false,
        }
    }

    /// Restores what a former process or configuration saved.
    pub(crate) fn restore(&mut self, saved: SavedGuard) {
        let times = |times: Vec<u64>| {
            let times = times.into_iter().map(|seconds| Unix::from_epoch(Duration::from_secs(seconds)));
            times.take(MAX_KEPT).collect()
        };
        self.kills = times(saved.kills);
        self.dry_runs = times(saved.dry_runs);
    }

    /// Returns what is kept across restarts of the exporter.
    #[must_use]
    pub(crate) fn saved(&self) -> SavedGuard {
        let seconds = |times: &VecDeque<Unix>| times.iter().map(|at| at.as_secs()).collect();
        SavedGuard { kills: seconds(&self.kills), dry_runs: seconds(&self.dry_runs) }
    }

    /// Rules of the operator.
    #[must_use]
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Number of outcomes; every outcome exists.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (GuardOutcome, u64)> {
        GuardOutcome::ALL.into_iter().zip(self.totals)
    }

    /// Latest action of each outcome that there was.
    pub(crate) fn latest(&self) -> impl Iterator<Item = &Action> {
        self.latest.values()
    }

    /// True while a connection is logged in and nothing is known to be missing.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Reason for which the guard could not kill now, if known.
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

    /// Notes what runs.
    pub(crate) fn busy(&mut self, confirmation: Confirmation, limit: Option<Duration>, now: Timestamps) {
        self.runs.busy(confirmation, now.mono, Self::limit(limit));
        self.note_run();
    }

    /// Notes a line of the server's log.
    pub(crate) fn logged(&mut self, line: NamedLine, limit: Option<Duration>) {
        let delay = MAX_LOG_DELAY.min(Self::limit(limit) / LOG_DELAYS);
        self.runs.logged(NamedLine { written_after: line.written_after - delay, ..line });
        self.note_run();
    }

    /// Notes the beginning of the blockage in progress, if there is one. No run counts from before it, so that no action
    /// contradicts the duration that is shown.
    pub(crate) fn blocked_since(&mut self, began: Option<Mono>) {
        if let Some(began) = began {
            self.blocked_since = began;
            self.note_run();
        }
    }

    /// Notes what is known about the current run, and begins the account of a new one.
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

    /// Notes that the server was free after a request was sent at `sent`, or can't be reached.
    pub(crate) fn free(&mut self, sent: Mono) {
        self.runs.end(sent);
    }

    /// Time limit of the server; the default of all servers if unknown.
    #[must_use]
    pub(crate) fn limit(known: Option<Duration>) -> Duration {
        known.unwrap_or(DEFAULT_LIMIT)
    }

    /// Returns the time at which the guard has to ask what runs, if the heartbeats are not frequent enough for a server with this
    /// time limit.
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

    /// Returns the first rule that forbids the kill of a run for which it is time.
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
                // It has just been named.
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
        // A clock that was set back makes the time since a kill 0, so that the kill counts.
        let recent = kills.iter().filter(|at| now.unix.since(**at) < budget.per).count();
        if recent >= budget.max_kills {
            return Some(Forbidden(GuardOutcome::Budget));
        }
        (*mode == Mode::DryRun).then_some(Forbidden(GuardOutcome::DryRun))
    }

    /// Notes the reply of the server that says what runs, and decides again. If the kill is still right, it counts as sent, and
    /// the order is returned.
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
        keep(&mut self.kills, now.unix);
        Some(order)
    }

    /// Reports that a run is left. Returns the action if it is to be logged.
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

    /// Reports that a run can't be killed, because there is no connection. Returns the action if it is to be logged.
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

    /// Notes that a connection is logged in, or the reason for which the guard could not kill now. Returns true if that is to be
    /// logged: a reason has come or gone.
    pub(crate) fn set_ready(&mut self, trouble: Option<Trouble>) -> bool {
        let is_news = self.trouble.is_some() != trouble.is_some();
        self.is_ready = trouble.is_none();
        self.trouble = trouble;
        is_news
    }

    /// Adds what the slow log tells of a blockage from `began` to `ended` to the latest actions about it.
    pub(crate) fn explain(
        &mut self,
        began: Unix,
        ended: Unix,
        script: Option<&Identity>,
        caller: Option<&Caller>,
    ) {
        for action in self.latest.values_mut() {
            // The end of a blockage is noticed a moment after a kill.
            if action.at < began || action.at > ended + RETRY_AFTER {
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
    /// A rule.
    Outcome(GuardOutcome),
}

/// Adds a time, and drops the oldest ones.
fn keep(times: &mut VecDeque<Unix>, at: Unix) {
    times.push_back(at);
    while times.len() > MAX_KEPT {
        times.pop_front();
    }
}

#[cfg(test)]
impl Guard {
    /// Latest time at which the current run can have begun.
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
