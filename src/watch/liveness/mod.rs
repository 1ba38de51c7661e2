//! State machine of a target: its state and blockages, derived from replies and from missing replies.
//!
//! An episode is one blockage: from the first request that had no reply in time (or was answered BUSY) to the first ordinary
//! reply. Episodes don't overlap. One exists exactly in the states [`State::Blocked`], [`State::Busy`] and [`State::BusySilent`].
//!
//! An ordinary reply to a request that a BUSY server rejects proves that the server was free at some time between sending the
//! request and reading the reply. Any call that began before the request was sent has ended; a call that began later may still
//! be running. Until the slow log is read, the boundary between an ended episode and the next one may therefore move.
//!
//! A server can process a request and start a script in the same iteration of its event loop. It then sends the reply only when the script
//! has ended or exceeds the time limit. A reply that took as long as the time limit therefore does not end a silence; the next one does.

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::cause::Cause;
use super::episode::{Episode, Evidence, Gap, Proof};
use super::event::Event;
use super::exporter::request_histogram;
use super::histogram::Histogram;
use super::history::{Attributed, CauseTotals, History, LastBlockage, LatestOfCause};
use super::incidents::{Incident, IncidentKind, Incidents, OutcomeCounts};
use super::outage::Outage;
use super::running_script::{Running, RunningScript};
use super::state::State;
use crate::clock::{Mono, Timestamps};
use crate::guard::ActionRecord;
use crate::parse::{BusyKind, Entry};
use crate::text::clean;

/// Maximum length of the reason for a state, in bytes. It can contain text from certificates and error replies.
const MAX_DETAIL: usize = 400;

/// Interval at which a bad state that does not change is logged again.
const REMIND_AFTER: Duration = Duration::from_secs(600);

/// State and blockages of a target.
#[derive(Debug, Clone)]
pub(crate) struct Liveness {
    /// Current state.
    state: State,
    /// Start of the state.
    since: Mono,
    /// Time at which the state was last logged.
    logged_at: Mono,
    /// Script or function that was named before its blockage was noticed. If the time limit is below
    /// `--heartbeat.blocked-after`, the line in the server's log comes first.
    early: Option<Running>,
    /// Ended blockages.
    history: History,
    /// Time of the last reply of any kind.
    last_reply: Option<Mono>,
    /// Time at which the last request answered by a free server was sent; no call that began before that is still running.
    last_free: Mono,
    /// Number of times the server became BUSY, in the order of [`BusyKind::ALL`].
    busy_episodes: [u64; BusyKind::ALL.len()],
    /// Round trips of the heartbeat.
    heartbeats: Histogram,
    /// Run time after which the server answers BUSY, if known.
    time_limit: Option<Duration>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            state: State::default(),
            since: Mono::EPOCH,
            logged_at: Mono::EPOCH,
            early: None,
            history: History::default(),
            last_reply: None,
            last_free: Mono::EPOCH,
            busy_episodes: [0; BusyKind::ALL.len()],
            heartbeats: request_histogram(),
            time_limit: None,
        }
    }
}

impl Liveness {
    /// Current state.
    #[must_use]
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Time since the state began.
    #[must_use]
    pub(crate) fn held(&self, now: Timestamps) -> Duration {
        now.mono.since(self.since)
    }

    /// The latest blockage that has ended.
    #[must_use]
    pub(crate) fn last_blockage(&self) -> Option<&LastBlockage> {
        self.history.last()
    }

    /// Ended incidents of the last 24 hours.
    #[must_use]
    pub(crate) fn incidents(&self) -> &Incidents {
        &self.history.incidents
    }

    /// Returns the ended blockages, oldest first, that are waiting for the slow log, which contains their callers.
    pub(crate) fn waiting_incidents(&self) -> impl Iterator<Item = Incident> {
        self.history.waiting()
    }

    /// Returns the incident in progress, if there is one.
    pub(crate) fn current_incident(&self, now: Timestamps) -> Option<Incident> {
        let running = self.running_script();
        let (kind, lasted) = match &self.state {
            State::Blocked(_) => {
                let kind = running.map_or(IncidentKind::Unknown, |running| running.kind.into());
                (kind, self.blocked(now))
            }
            State::Busy(kind, _) => ((*kind).into(), self.blocked(now)),
            State::BusySilent(..) => (IncidentKind::Unknown, self.blocked(now)),
            state if !state.is_tried() => return None,
            state => (IncidentKind::of_state(state.kind())?, self.held(now)),
        };
        let incident = Incident {
            began: (now.unix - lasted).since_epoch(),
            lasted,
            kind,
            busy: matches!(self.state, State::Busy(..) | State::BusySilent(..)),
            script: running.map(|running| running.script.clone()),
            client: String::new(),
            client_name: String::new(),
            end: None,
            refused: None,
            detail: self.state.detail().map(str::to_owned),
            guard: Vec::new(),
        };
        Some(Incident { guard: self.history.incidents.actions_in(&incident), ..incident })
    }

    /// Returns the incidents to keep across a restart: the ended ones, and those in progress or not attributed yet in which the guard
    /// has acted. `unanswered` is a kill without a reply so far.
    pub(super) fn saved_incidents(
        &self,
        unanswered: Option<ActionRecord>,
        now: Timestamps,
    ) -> Arc<VecDeque<Incident>> {
        let mut ended = Arc::clone(self.history.incidents.ended());
        let mut open: Vec<Incident> = self.waiting_incidents().chain(self.current_incident(now)).collect();
        if let Some(action) = unanswered
            && let Some(incident) = open.iter_mut().rev().find(|incident| incident.includes(&action))
        {
            incident.guard.push(action);
        }
        open.retain(|incident| !incident.guard.is_empty());
        if !open.is_empty() {
            Arc::make_mut(&mut ended).extend(open);
        }
        ended
    }

    /// Restores the incidents saved by a previous process.
    pub(super) fn restore(&mut self, saved: Vec<Incident>) {
        self.history.restore(saved);
    }

    /// Records a guard action. Returns its incident if that has ended.
    pub(super) fn guard_acted(&mut self, action: ActionRecord) -> Option<Incident> {
        self.history.incidents.guard_acted(action)
    }

    /// Derives the outcome of the latest incidents from INFO; `same` is true if it comes from the same server as before.
    pub(super) fn learn_outcome(&mut self, counts: OutcomeCounts, same: bool) {
        // INFO read before the slow log can't be assigned to a blockage yet.
        if self.state.episode().is_none() && !self.awaits_attribution() {
            self.history.incidents.learn_outcome(counts, same);
        }
    }

    /// Time of the last reply of any kind.
    #[must_use]
    pub(crate) fn last_reply(&self) -> Option<Mono> {
        self.last_reply
    }

    /// True if the server has ever answered.
    #[must_use]
    pub(crate) fn has_answered(&self) -> bool {
        self.last_reply.is_some()
    }

    /// Time since the current blockage began; zero if there is none.
    #[must_use]
    pub(crate) fn blocked(&self, now: Timestamps) -> Duration {
        self.state.episode().map_or(Duration::ZERO, |episode| now.mono.since(episode.began))
    }

    /// The current blockage: the time at which it was noticed, which is unique to it, and its best known start.
    #[must_use]
    pub(crate) fn blockage(&self) -> Option<(Mono, Mono)> {
        self.state.episode().map(|episode| (episode.noticed, episode.began))
    }

    /// The script or function that blocks the server, if known. After a silence it is unknown until a later observation shows
    /// that the same one is still running.
    #[must_use]
    pub(crate) fn running_script(&self) -> Option<&RunningScript> {
        let episode = self.state.episode().filter(|episode| episode.gap.is_none())?;
        episode.running.as_ref().map(|running| &running.running_script)
    }

    /// Totals of ended blockages by cause; every cause is present.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (Cause, CauseTotals)> {
        self.history.totals()
    }

    /// Latest blockage of each cause that has occurred.
    pub(crate) fn latest_blockages(&self) -> impl Iterator<Item = (Cause, LatestOfCause)> {
        self.history.latest()
    }

    /// Number of times the server became BUSY, by kind; every kind is present.
    pub(crate) fn busy_episodes(&self) -> impl Iterator<Item = (BusyKind, u64)> {
        BusyKind::ALL.into_iter().zip(self.busy_episodes)
    }

    /// Round trips of the heartbeat.
    #[must_use]
    pub(crate) fn heartbeats(&self) -> &Histogram {
        &self.heartbeats
    }

    /// True if a blockage has ended and the slow log has not been read since.
    pub(super) fn awaits_attribution(&self) -> bool {
        !self.history.unattributed.is_empty()
    }

    /// Counts a round trip of the heartbeat.
    pub(super) fn heartbeat(&mut self, round_trip: Duration) {
        self.heartbeats.observe(round_trip);
    }

    /// Sets the run time after which the server answers BUSY; `None` if it can no longer be read. Zero is treated as `None`.
    pub(super) fn set_time_limit(&mut self, limit: Option<Duration>) {
        self.time_limit = limit.filter(|limit| !limit.is_zero());
    }

    /// Handles an ordinary reply to a request that was sent at `sent` and that a BUSY server rejects.
    pub(super) fn answered(&mut self, sent: Mono, now: Timestamps, events: &mut Vec<Event>) {
        self.last_free = self.last_free.max(sent);
        if let State::Blocked(episode) = &mut self.state
            && episode.answered.is_none()
            && sent <= episode.began
            // The clocks of server and exporter may run at slightly different speeds.
            && self.time_limit.is_some_and(|limit| now.mono.since(sent).saturating_add(limit / 100) >= limit)
        {
            episode.answered = Some(now.mono);
            self.last_reply = Some(now.mono);
            return;
        }
        self.presumed_free(now, events);
    }

    /// Handles a reply after which the server is presumed to be free.
    pub(super) fn presumed_free(&mut self, now: Timestamps, events: &mut Vec<Event>) {
        self.last_reply = Some(now.mono);
        self.end_and_enter(State::Ok, now, events);
    }

    /// Handles a reply that the server also sends while it is BUSY; it may still be blocked.
    pub(super) fn inconclusive(&mut self, now: Timestamps, events: &mut Vec<Event>) {
        self.last_reply = Some(now.mono);
        if self.state.episode().is_none() {
            self.presumed_free(now, events);
        }
    }

    /// Handles a request that was sent at `sent` and has no reply yet, while the server's kernel accepts connections.
    pub(super) fn silent(&mut self, sent: Mono, now: Timestamps, events: &mut Vec<Event>) {
        if self.is_unconfirmed() {
            self.end_and_enter(State::Ok, now, events);
        }
        match self.state.clone() {
            State::Busy(kind, mut episode) => {
                let still_ran = episode.still_ran(self.time_limit);
                episode.gap.get_or_insert(Gap { still_ran, unanswered: sent });
                self.enter(State::BusySilent(kind, episode), now, events);
            }
            State::Blocked(_) | State::BusySilent(..) => {}
            _ => {
                let episode = self.begin(sent, now, events);
                self.enter(State::Blocked(episode), now, events);
                self.apply_early_name(now, events);
            }
        }
    }

    /// Handles a BUSY reply to a request sent at `sent`.
    pub(super) fn busy(&mut self, kind: BusyKind, sent: Mono, now: Timestamps, events: &mut Vec<Event>) {
        self.last_reply = Some(now.mono);
        match self.state.episode() {
            None => {
                let episode = self.begin(sent, now, events);
                self.go_busy(kind, episode, now, events);
            }
            Some(episode) => {
                let episode = Episode { answered: None, ..episode.clone() };
                let known = self.state.busy_kind().or(episode.named_kind());
                if known.is_some_and(|known| known != kind) {
                    // One call has ended and another has begun between two replies. The new call delayed this reply; until
                    // there is better evidence, assume that it began when the request was sent.
                    let began = episode.running.as_ref().map_or(sent, |running| sent.max(running.began));
                    let next = self.split(episode, began, now, events);
                    self.go_busy(kind, next, now, events);
                } else if self.state.busy_kind().is_none() {
                    self.go_busy(kind, episode, now, events);
                } else if matches!(self.state, State::BusySilent(..)) {
                    self.resume_busy(kind, episode, now, events);
                }
            }
        }
        if let Some(episode) = self.state.episode_mut() {
            episode.note_busy(sent, now.mono);
        }
        self.apply_early_name(now, events);
    }

    /// Handles a reply to FUNCTION STATS, sent at `sent`, that named the running function and its run time so far.
    pub(super) fn running(
        &mut self,
        name: &[u8],
        running_for: Option<Duration>,
        sent: Mono,
        now: Timestamps,
        events: &mut Vec<Event>,
    ) {
        self.busy(BusyKind::Function, sent, now, events);
        let Some(episode) = self.state.episode() else { return };
        let running_script = RunningScript::function(name);
        let Some(running_for) = running_for else {
            let began = episode.began;
            self.name(Running { running_script, began }, now, events);
            return;
        };
        // The server measured the run time between the request and the reply, in whole milliseconds of a clock that may run
        // slightly slower than this machine's.
        let latest = now.mono - running_for;
        let inexact = Duration::from_millis(1).saturating_add(running_for / 1000);
        let earliest = sent - running_for - inexact;
        let another = match &episode.running {
            Some(known) if known.running_script != running_script => latest > known.began,
            _ => episode.is_different_run(earliest, latest),
        };
        if another {
            self.split_in_same_state(latest, now, events);
        } else if let Some(episode) = self.state.episode_mut()
            && episode.gap.is_some_and(|gap| latest <= gap.still_ran)
        {
            episode.gap = None;
        }
        if let Some(evidence) = self.state.episode_mut().and_then(|episode| episode.evidence.as_mut()) {
            evidence.proof = Proof { asked: sent, read: now.mono, began: latest };
        }
        self.name(Running { running_script, began: latest }, now, events);
    }

    /// Handles a line of the server's log that named the script or function that exceeded the time limit, and its run time at
    /// that point. The line may be read some time after it was written.
    pub(super) fn logged(
        &mut self,
        running_script: RunningScript,
        running_for: Duration,
        now: Timestamps,
        events: &mut Vec<Event>,
    ) {
        let running = Running { running_script, began: now.mono - running_for };
        if running.began < self.last_free {
            self.history.name(running, now);
            return;
        }
        let Some(episode) = self.state.episode() else {
            self.early = Some(running);
            return;
        };
        if self.state.busy_kind().is_some_and(|kind| kind != running.running_script.kind) {
            // Either it began after the call behind the BUSY replies, or the line is about a call that has ended.
            if episode.evidence.is_none_or(|evidence| running.began >= evidence.last_sent) {
                self.early = Some(running);
            } else {
                self.history.name(running, now);
            }
            return;
        }
        match &episode.running {
            Some(known) if known.running_script != running.running_script => {
                if running.began <= known.began {
                    self.history.name(running, now);
                    return;
                }
                self.split_in_same_state(running.began, now, events);
            }
            _ if episode.is_certainly_different_run(running.began) => {
                self.split_in_same_state(running.began, now, events);
            }
            _ => {}
        }
        self.name(running, now, events);
    }

    /// Handles a LOADING reply to a request sent at `sent`.
    pub(super) fn loading(&mut self, sent: Mono, now: Timestamps, events: &mut Vec<Event>) {
        self.last_reply = Some(now.mono);
        self.last_free = self.last_free.max(sent);
        self.end_and_enter(State::Loading, now, events);
    }

    /// Handles a rejection of the exporter's credentials.
    pub(super) fn unauthorized(&mut self, detail: &str, now: Timestamps, events: &mut Vec<Event>) {
        self.last_reply = Some(now.mono);
        self.end_and_enter(State::Unauthorized { detail: clean(detail.trim(), MAX_DETAIL) }, now, events);
    }

    /// Handles a failure to reach the server.
    pub(super) fn unreachable(&mut self, outage: &Outage, now: Timestamps, events: &mut Vec<Event>) {
        let was_blocked = self.state.episode().is_some();
        let outage = Outage::new(outage.reason, clean(outage.detail.trim(), MAX_DETAIL));
        self.end_and_enter(State::Unreachable(outage), now, events);
        // The slow log may be gone by the time the server is reachable again.
        self.attribute_without_slowlog(events);
        if was_blocked {
            self.history.incidents.connection_lost();
        }
    }

    /// Attributes ended blockages. `entries` are all new slow log entries as of the latest answered request.
    pub(super) fn attribute(
        &mut self,
        entries: &[Entry],
        clock_ahead: Option<f64>,
        events: &mut Vec<Event>,
    ) -> Attributed {
        self.history.attribute(entries, clock_ahead, Some(self.last_free), events)
    }

    /// True while only the next reply can show whether the server is still blocked.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        self.state.episode().is_some_and(|episode| episode.answered.is_some())
    }

    /// Attributes ended blockages without the slow log, which can't be read.
    pub(super) fn attribute_without_slowlog(&mut self, events: &mut Vec<Event>) {
        self.history.attribute(&[], None, None, events);
    }

    /// Returns an episode that began at `began`, or at the end of the last one if that is later.
    fn begin(&self, began: Mono, now: Timestamps, events: &mut Vec<Event>) -> Episode {
        let began = began.clamp(self.history.last_end().min(now.mono), now.mono);
        events.push(Event::BlockageBegan);
        Episode::new(began, now.mono)
    }

    /// Applies a name that arrived before the blockage was noticed.
    fn apply_early_name(&mut self, now: Timestamps, events: &mut Vec<Event>) {
        if let Some(Running { running_script, began }) = self.early.take() {
            self.logged(running_script, now.mono.since(began), now, events);
        }
    }

    /// Enters the state BUSY with an episode in which the server was not BUSY yet. The running call has reached the time limit,
    /// so the episode may have begun before the first unanswered request.
    fn go_busy(&mut self, kind: BusyKind, mut episode: Episode, now: Timestamps, events: &mut Vec<Event>) {
        if let Some(limit) = self.time_limit {
            let latest = (now.mono - limit).max(self.last_free);
            if latest < episode.began {
                let silent = self.history.take_back(latest).map(|silent| silent.max(self.last_free));
                episode.began = silent.unwrap_or_else(|| self.history.adjust_previous_end(latest, false));
            }
        }
        let blocked = now.mono.since(episode.began);
        for (known, count) in BusyKind::ALL.into_iter().zip(&mut self.busy_episodes) {
            *count += u64::from(known == kind);
        }
        self.enter(State::Busy(kind, episode), now, events);
        events.push(Event::WentBusy { kind, blocked });
    }

    /// Enters the state BUSY again after a silence. Unless the time limit has passed, no other call can have
    /// started since and already be BUSY.
    fn resume_busy(&mut self, kind: BusyKind, episode: Episode, now: Timestamps, events: &mut Vec<Event>) {
        let still_ran = episode.still_ran(self.time_limit);
        let is_same = self.time_limit.is_some_and(|limit| now.mono.since(still_ran) < limit);
        // An earlier silence stays ambiguous.
        let gap = episode.gap.filter(|gap| !is_same || gap.still_ran < still_ran);
        self.enter(State::Busy(kind, Episode { gap, ..episode }), now, events);
    }

    /// Ends the episode at `began`, when another call began without a gap. Returns the episode that follows.
    fn split(&mut self, episode: Episode, began: Mono, now: Timestamps, events: &mut Vec<Event>) -> Episode {
        let began = began.clamp(episode.began.min(now.mono), now.mono);
        self.history.push(episode, self.state.busy_kind(), began, now, events);
        Episode { follows: true, ..self.begin(began, now, events) }
    }

    /// Like [`Self::split`], if the state stays the same.
    fn split_in_same_state(&mut self, began: Mono, now: Timestamps, events: &mut Vec<Event>) {
        let Some(episode) = self.state.episode().cloned() else { return };
        let busy = self.state.busy_kind().zip(episode.evidence);
        let next = self.split(episode, began, now, events);
        if let Some((kind, Evidence { last_sent, .. })) = busy {
            let proof = Proof { asked: began, read: now.mono, began: now.mono };
            let evidence = Some(Evidence { last_sent, proof });
            self.go_busy(kind, Episode { evidence, ..next }, now, events);
        } else {
            self.enter(State::Blocked(next), now, events);
        }
    }

    /// Sets the name of the running script or function.
    fn name(&mut self, running: Running, now: Timestamps, events: &mut Vec<Event>) {
        let Some(episode) = self.state.episode() else { return };
        let Running { running_script, began } = running;
        let began = began.clamp(self.last_free.min(now.mono), now.mono);
        let began = match &episode.running {
            Some(known) if known.running_script == running_script => began.min(known.began),
            _ => {
                events.push(Event::Named(running_script.clone()));
                began
            }
        };
        let exact = episode.running.is_none() && episode.follows;
        let start = if exact { began } else { episode.began.min(began) };
        let start = self.history.adjust_previous_end(start, exact);
        if let Some(episode) = self.state.episode_mut() {
            episode.running = Some(Running { running_script, began });
            episode.began = start;
        }
    }

    /// Ends the episode, if there is one, and enters a state without one.
    fn end_and_enter(&mut self, state: State, now: Timestamps, events: &mut Vec<Event>) {
        if let Some(episode) = self.state.episode().cloned() {
            let end = episode.answered.unwrap_or(now.mono);
            self.history.push(episode, self.state.busy_kind(), end, now, events);
        }
        self.enter(state, now, events);
    }

    fn enter(&mut self, state: State, now: Timestamps, events: &mut Vec<Event>) {
        let before = std::mem::replace(&mut self.state, state);
        let (kind, detail) = (self.state.kind(), self.state.detail().map(str::to_owned));
        if !before.is_tried() || before.kind() != kind {
            if let Some(kind) = IncidentKind::of_state(before.kind()).filter(|_| before.is_tried()) {
                self.history.incidents.push(Incident {
                    began: now.unix_of(self.since).since_epoch(),
                    lasted: now.mono.since(self.since),
                    kind,
                    busy: false,
                    script: None,
                    client: String::new(),
                    client_name: String::new(),
                    end: None,
                    refused: None,
                    detail: before.detail().map(str::to_owned),
                    guard: Vec::new(),
                });
            }
            (self.since, self.logged_at) = (now.mono, now.mono);
            let from = before.is_tried().then(|| before.kind());
            let outage = self.state.outage_reason();
            events.push(Event::StateChanged { from, to: kind, detail, outage });
        } else if let Some(detail) = detail
            && now.mono.since(self.logged_at) >= REMIND_AFTER
        {
            self.logged_at = now.mono;
            events.push(Event::StateUnchanged { state: kind, detail });
        }
    }
}
