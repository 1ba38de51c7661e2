//! Incidents of a target in bounded memory: ended blockages, and periods in which it was unreachable or denied access.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cause::Cause;
use super::server::ServerFacts;
use super::state::StateKind;
use crate::clock::Unix;
use crate::guard::ActionRecord;
use crate::parse::BusyKind;
use crate::script::Identity;

/// Time for which an incident is kept after its end.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Maximum number of incidents per target.
const MAX_INCIDENTS: usize = 32;

/// Number of oldest incidents from which the shortest is dropped to make room for a new one.
const OLDEST: usize = MAX_INCIDENTS / 2;

/// Maximum number of guard actions per incident, and of guard actions not assigned to an incident yet.
const MAX_ACTIONS: usize = 16;

/// Maximum time from a kill to the end of the blockage for the blockage to be considered ended by the kill. After a longer
/// time, another script may have run in the same blockage.
const KILL_ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Kind of incident: the cause of a blockage, or a state without access to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IncidentKind {
    /// Blockage by a script.
    Script,
    /// Blockage by a function.
    Function,
    /// Blockage by a module's command.
    Module,
    /// Blockage by another slow command.
    Command,
    /// Blockage of unknown cause.
    Unknown,
    /// The server could not be reached.
    Unreachable,
    /// The server rejected the exporter's credentials.
    Unauthorized,
}

impl IncidentKind {
    /// All kinds with their names.
    pub(crate) const ALL: [(&str, Self); 7] = [
        ("script", Self::Script),
        ("function", Self::Function),
        ("module", Self::Module),
        ("command", Self::Command),
        ("unknown", Self::Unknown),
        ("unreachable", Self::Unreachable),
        ("unauthorized", Self::Unauthorized),
    ];

    /// Returns the kind of a state without access to the server; `None` for other states.
    pub(crate) const fn of_state(state: StateKind) -> Option<Self> {
        match state {
            StateKind::Unreachable => Some(Self::Unreachable),
            StateKind::Unauthorized => Some(Self::Unauthorized),
            _ => None,
        }
    }

    /// Cause of the blockage; `None` if the incident is not a blockage.
    pub(super) const fn cause(self) -> Option<Cause> {
        match self {
            Self::Script => Some(Cause::Script),
            Self::Function => Some(Cause::Function),
            Self::Module => Some(Cause::Module),
            Self::Command => Some(Cause::Command),
            Self::Unknown => Some(Cause::Unknown),
            Self::Unreachable | Self::Unauthorized => None,
        }
    }
}

impl From<Cause> for IncidentKind {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Script => Self::Script,
            Cause::Function => Self::Function,
            Cause::Module => Self::Module,
            Cause::Command => Self::Command,
            Cause::Unknown => Self::Unknown,
        }
    }
}

impl From<BusyKind> for IncidentKind {
    fn from(kind: BusyKind) -> Self {
        Cause::of_kind(kind).into()
    }
}

/// Reason for the end of a blockage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IncidentEnd {
    /// The script ended on its own.
    Finished,
    /// SCRIPT KILL or FUNCTION KILL ended it.
    Killed,
    /// The connection to the server was lost.
    ConnectionLost,
}

/// An incident that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Incident {
    /// Start, as time since the Unix epoch by this machine's clock.
    pub(crate) began: Duration,
    /// Duration.
    pub(crate) lasted: Duration,
    pub(crate) kind: IncidentKind,
    /// True if the server replied BUSY.
    pub(crate) busy: bool,
    /// Script or function, if it was named.
    pub(crate) script: Option<Identity>,
    /// Address of the client that called it; empty if unknown.
    pub(crate) client: String,
    /// Name of the client; empty if unknown.
    pub(crate) client_name: String,
    /// `None` if unknown.
    pub(crate) end: Option<IncidentEnd>,
    /// Number of BUSY replies to other clients; `None` if unknown.
    pub(crate) refused: Option<u64>,
    /// Reason, for incidents that are not blockages.
    pub(crate) detail: Option<String>,
    /// Guard actions concerning its scripts, oldest first; at most [`MAX_ACTIONS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) guard: Vec<ActionRecord>,
}

impl Incident {
    /// Removes the caller (`--web.hide-clients`).
    pub(super) fn hide_client(&mut self) {
        self.client.clear();
        self.client_name.clear();
    }

    /// Start.
    pub(crate) fn began(&self) -> Unix {
        Unix::from_epoch(self.began)
    }

    /// End.
    pub(crate) fn ended(&self) -> Unix {
        Unix::from_epoch(self.began.saturating_add(self.lasted))
    }

    /// True if the action concerned a script that ran in this blockage.
    pub(super) fn includes(&self, action: &ActionRecord) -> bool {
        self.kind.cause().is_some() && action.is_within(self.began(), self.ended())
    }

    /// Adds a guard action.
    fn add(&mut self, action: ActionRecord) {
        let ended = self.began.saturating_add(self.lasted);
        if action.outcome.is_kill() && ended.saturating_sub(action.at) <= KILL_ENDS_WITHIN {
            self.end = self.end.or(Some(IncidentEnd::Killed));
        }
        if self.guard.len() < MAX_ACTIONS {
            self.guard.push(action);
        }
    }

    /// True if a kill may have ended the blockage, or other clients may have been rejected during it.
    fn ran_script(&self) -> bool {
        self.busy || matches!(self.kind, IncidentKind::Script | IncidentKind::Function)
    }
}

/// Server counters from which the outcome of blockages is derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutcomeCounts {
    /// Successful kills; `None` if the server does not count them.
    kills: Option<u64>,
    /// BUSY replies to other clients; `None` if the server does not count them.
    refused: Option<u64>,
}

impl OutcomeCounts {
    /// Returns the counters of the latest INFO.
    pub(super) fn of(server: &ServerFacts) -> Self {
        let kills = server.info().kills;
        Self {
            kills: kills.map(|kills| kills.script.saturating_add(kills.function)),
            refused: server.errors().map(|errors| errors.busy),
        }
    }
}

/// Incidents of a target.
#[derive(Debug, Clone, Default)]
pub(crate) struct Incidents {
    /// Ended incidents in order of their ends, oldest first; at most [`MAX_INCIDENTS`].
    ended: Arc<VecDeque<Incident>>,
    /// Number of incidents dropped to limit memory use, by the hour of their end; only hours of the last [`KEPT`].
    dropped: BTreeMap<u64, u64>,
    /// Number of incidents, counted from the latest, that have no known outcome yet.
    open: usize,
    /// Server counters before these incidents; `None` before the server's first INFO.
    before: Option<OutcomeCounts>,
    /// Guard actions concerning a blockage that is in progress or not attributed yet; at most [`MAX_ACTIONS`].
    actions: VecDeque<ActionRecord>,
    /// Number of changes.
    revision: u64,
}

/// Hour of an instant, counted from the Unix epoch.
fn hour(at: Unix) -> u64 {
    at.as_secs() / 3600
}

/// First hour that lies within [`KEPT`] before `now`.
fn first_hour(now: Unix) -> u64 {
    hour(now - KEPT).saturating_add(1)
}

impl Incidents {
    /// Ended incidents in order of their ends, oldest first.
    pub(crate) fn ended(&self) -> &Arc<VecDeque<Incident>> {
        &self.ended
    }

    /// Number of incidents that ended in the last [`KEPT`], in whole hours, and were dropped to limit memory use.
    pub(crate) fn dropped(&self, now: Unix) -> u64 {
        self.dropped.range(first_hour(now)..).map(|(_, count)| count).sum()
    }

    /// Number of changes.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Restores the incidents saved by a previous process.
    pub(super) fn restore(&mut self, saved: Vec<Incident>) {
        let surplus = saved.len().saturating_sub(MAX_INCIDENTS);
        self.ended = Arc::new(saved.into_iter().skip(surplus).collect());
    }

    /// Adds an incident that has ended. Drops those that ended more than [`KEPT`] before it. If there are too many, drops the
    /// shortest of the oldest, so that the longest and the latest are kept.
    pub(super) fn push(&mut self, mut incident: Incident) {
        let actions;
        (actions, self.actions) =
            std::mem::take(&mut self.actions).into_iter().partition(|action| incident.includes(action));
        let actions: VecDeque<ActionRecord> = actions;
        for action in actions {
            incident.add(action);
        }
        let ended = Arc::make_mut(&mut self.ended);
        let now = incident.ended();
        ended.retain(|one| now.since(one.ended()) < KEPT);
        if ended.len() >= MAX_INCIDENTS {
            let shortest = ended.iter().take(OLDEST).enumerate().min_by_key(|(_, one)| one.lasted);
            if let Some(dropped) = shortest.map(|(index, _)| index).and_then(|index| ended.remove(index)) {
                self.dropped = self.dropped.split_off(&first_hour(now));
                *self.dropped.entry(hour(dropped.ended())).or_default() += 1;
            }
        }
        ended.push_back(incident);
        self.open = self.open.saturating_add(1).min(OLDEST);
        self.revision = self.revision.saturating_add(1);
    }

    /// Records a guard action. It belongs to the incident in progress or to one that has just ended. Returns the incident if it has ended.
    pub(super) fn guard_acted(&mut self, action: ActionRecord) -> Option<Incident> {
        let mut latest = Arc::make_mut(&mut self.ended).iter_mut().rev().take(MAX_ACTIONS);
        if let Some(incident) = latest.find(|incident| incident.includes(&action)) {
            incident.add(action);
            self.revision = self.revision.saturating_add(1);
            return Some(incident.clone());
        }
        if self.actions.len() >= MAX_ACTIONS {
            self.actions.pop_front();
        }
        self.actions.push_back(action);
        None
    }

    /// Returns the guard actions concerning an incident in progress.
    pub(crate) fn actions_in(&self, incident: &Incident) -> Vec<ActionRecord> {
        self.actions.iter().filter(|action| incident.includes(action)).cloned().collect()
    }

    /// Records that the latest incident ended because the connection was lost.
    pub(super) fn connection_lost(&mut self) {
        if let Some(last) = Arc::make_mut(&mut self.ended).back_mut() {
            last.end = Some(IncidentEnd::ConnectionLost);
            self.revision = self.revision.saturating_add(1);
        }
    }

    /// Derives the outcome of the incidents since the previous counters: which one was killed, and how many requests of other
    /// clients were rejected. An outcome that may belong to several incidents stays unknown. `now` contains the counters of a
    /// server that is not blocked; `same` is true if the previous counters came from the same server.
    pub(super) fn learn_outcome(&mut self, now: OutcomeCounts, same: bool) {
        let before = self.before.replace(now).filter(|_| same);
        let open = std::mem::take(&mut self.open);
        let Some(before) = before.filter(|_| open > 0) else { return };
        let grown = |before: Option<u64>, now: Option<u64>| now?.checked_sub(before?);
        let kills = grown(before.kills, now.kills);
        let refused = grown(before.refused, now.refused);
        let ended = Arc::make_mut(&mut self.ended);
        let first = ended.len().saturating_sub(open);
        let candidates = ended.iter().skip(first).filter(|one| one.ran_script()).count();
        for incident in ended.iter_mut().skip(first).filter(|one| one.kind.cause().is_some()) {
            let share = |total: Option<u64>| match total {
                Some(_) if !incident.ran_script() => Some(0),
                Some(total) if total == 0 || candidates == 1 => Some(total),
                _ => None,
            };
            let (kills, refused) = (share(kills), share(refused));
            incident.refused = refused;
            incident.end = incident
                .end
                .or(kills.map(|kills| if kills > 0 { IncidentEnd::Killed } else { IncidentEnd::Finished }));
        }
        self.revision = self.revision.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::GuardOutcome;

    fn incident(kind: IncidentKind, began: u64, seconds: u64) -> Incident {
        Incident {
            began: Duration::from_secs(began),
            lasted: Duration::from_secs(seconds),
            kind,
            busy: false,
            script: None,
            client: String::new(),
            client_name: String::new(),
            end: None,
            refused: None,
            detail: None,
            guard: Vec::new(),
        }
    }

    fn action(outcome: GuardOutcome, at: u64, ran_for: u64) -> ActionRecord {
        let [at, ran_for] = [at, ran_for].map(Duration::from_millis);
        ActionRecord { outcome, at, ran_for, detail: None }
    }

    #[test]
    fn actions_of_the_guard_belong_to_the_blockage_of_their_script() {
        let mut incidents = Incidents::default();
        // The end of the blockage is noticed before the reply to the kill.
        let _ = incidents.guard_acted(action(GuardOutcome::Unreachable, 8000, 5000));
        incidents.push(incident(IncidentKind::Script, 3, 10));
        let _ = incidents.guard_acted(action(GuardOutcome::Killed, 13_002, 10_001));
        // The end is noticed after the reply. The script that follows immediately has its own action.
        let _ = incidents.guard_acted(action(GuardOutcome::Killed, 30_000, 10_000));
        let _ = incidents.guard_acted(action(GuardOutcome::Budget, 40_100, 10_000));
        let mut current = incident(IncidentKind::Script, 30, 11);
        assert_eq!(incidents.actions_in(&current), [action(GuardOutcome::Budget, 40_100, 10_000)]);
        incidents.push(incident(IncidentKind::Function, 20, 10));
        // An outage is not a blockage.
        incidents.push(incident(IncidentKind::Unreachable, 30, 15));
        incidents.push(current.clone());
        let seen: Vec<Vec<GuardOutcome>> = incidents
            .ended()
            .iter()
            .map(|one| one.guard.iter().map(|action| action.outcome).collect())
            .collect();
        assert_eq!(
            seen,
            [
                vec![GuardOutcome::Unreachable, GuardOutcome::Killed],
                vec![GuardOutcome::Killed],
                vec![],
                vec![GuardOutcome::Budget]
            ]
        );
        let ends: Vec<_> = incidents.ended().iter().map(|one| one.end).collect();
        assert_eq!(ends, [Some(IncidentEnd::Killed), Some(IncidentEnd::Killed), None, None]);
        assert!(incidents.actions.is_empty());
        // Memory is bounded.
        for second in 0..100 {
            let _ = incidents.guard_acted(action(GuardOutcome::Budget, 1_000_000 + second * 1000, 500));
        }
        current.began = Duration::from_secs(1000);
        current.lasted = Duration::from_secs(200);
        assert_eq!(incidents.actions_in(&current).len(), MAX_ACTIONS);
    }

    fn counts(kills: u64, refused: u64) -> OutcomeCounts {
        OutcomeCounts { kills: Some(kills), refused: Some(refused) }
    }

    fn outcomes(incidents: &Incidents) -> Vec<(Option<IncidentEnd>, Option<u64>)> {
        incidents.ended().iter().map(|one| (one.end, one.refused)).collect()
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_longest_and_the_latest() {
        let mut incidents = Incidents::default();
        incidents.push(incident(IncidentKind::Script, 1_000_000, 300));
        for n in 0..500 {
            incidents.push(incident(IncidentKind::Command, 1_001_000 + 10 * n, 1));
        }
        let ended = incidents.ended();
        assert_eq!(ended.len(), MAX_INCIDENTS);
        assert_eq!(ended.iter().filter(|one| one.lasted.as_secs() == 300).count(), 1);
        assert_eq!(ended.back().unwrap().began.as_secs(), 1_001_000 + 10 * 499);
        let now = Unix::from_epoch(Duration::from_secs(1_007_000));
        assert_eq!(incidents.dropped(now), 501 - 32);
        assert_eq!(incidents.dropped(now + KEPT + Duration::from_secs(1)), 0);
    }

    #[test]
    fn the_number_of_dropped_incidents_is_that_of_the_last_day() {
        let mut incidents = Incidents::default();
        let minutes = 7 * 24 * 60;
        for minute in 0..minutes {
            incidents.push(incident(IncidentKind::Script, 1_000_000 + 60 * minute, 1));
        }
        let now = Unix::from_epoch(Duration::from_secs(1_000_000 + 60 * minutes));
        let dropped = incidents.dropped(now);
        assert!((23 * 60 - 32..=24 * 60 - 32).contains(&dropped), "{dropped}");
        assert!(incidents.dropped.len() <= 25);
    }

    #[test]
    fn incidents_older_than_a_day_are_dropped() {
        let mut incidents = Incidents::default();
        incidents.push(incident(IncidentKind::Script, 1000, 5));
        incidents.push(incident(IncidentKind::Script, 50_000, 5));
        incidents.push(incident(IncidentKind::Script, 1000 + 86_400, 5));
        let began: Vec<u64> = incidents.ended().iter().map(|one| one.began.as_secs()).collect();
        assert_eq!(began, [50_000, 87_400]);
        assert_eq!(
            incidents.dropped(Unix::from_epoch(Duration::from_secs(90_000))),
            0,
            "nothing was left out"
        );
    }

    #[test]
    fn changes_in_the_counters_give_the_outcome_of_a_lone_script() {
        let mut incidents = Incidents::default();
        incidents.learn_outcome(counts(3, 10), false);
        incidents.push(incident(IncidentKind::Script, 1000, 5));
        incidents.learn_outcome(counts(4, 17), true);
        incidents.push(incident(IncidentKind::Command, 1010, 5));
        incidents.push(incident(IncidentKind::Function, 1020, 5));
        incidents.learn_outcome(counts(4, 20), true);
        let (killed, finished) = (Some(IncidentEnd::Killed), Some(IncidentEnd::Finished));
        assert_eq!(outcomes(&incidents), [(killed, Some(7)), (finished, Some(0)), (finished, Some(3))]);
    }

    #[test]
    fn an_uncertain_outcome_is_not_reported() {
        let mut incidents = Incidents::default();
        // Nothing is known before the first INFO.
        incidents.push(incident(IncidentKind::Script, 1000, 5));
        incidents.learn_outcome(counts(4, 17), false);
        // Either may have been killed; no client was rejected.
        incidents.push(incident(IncidentKind::Script, 1010, 5));
        incidents.push(incident(IncidentKind::Function, 1020, 5));
        incidents.learn_outcome(counts(5, 17), true);
        // Another server answers.
        incidents.push(incident(IncidentKind::Script, 1030, 5));
        incidents.connection_lost();
        incidents.learn_outcome(counts(9, 90), false);
        // The server does not count kills.
        incidents.push(incident(IncidentKind::Script, 1040, 5));
        incidents.learn_outcome(OutcomeCounts { kills: None, refused: Some(91) }, true);
        // An outage is not a blockage.
        incidents.push(incident(IncidentKind::Unreachable, 1050, 5));
        incidents.learn_outcome(OutcomeCounts { kills: None, refused: Some(91) }, true);
        let lost = Some(IncidentEnd::ConnectionLost);
        assert_eq!(
            outcomes(&incidents),
            [(None, None), (None, Some(0)), (None, Some(0)), (lost, None), (None, Some(1)), (None, None)]
        );
    }
}
