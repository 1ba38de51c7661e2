//! The state of a target and its blockages, by what its answers and silences say.
//!
//! An episode is one blockage: from the first request that stayed unanswered (or was answered BUSY) to the
//! first ordinary answer. BUSY is a part of an episode. Episodes never overlap, and there is none while the
//! state is [`State::Ok`].
//!
//! An ordinary answer to a request that a BUSY server refuses proves that the server was free at some time between the
//! sending of the request and the reading of the answer. Whatever began before the request was sent has ended; what
//! began later may still run. So an episode that has ended can lose its tail to the next one, as long as the slow log
//! was not read.

use std::collections::VecDeque;
use std::time::Duration;

use super::blockage::{Cause, Ended};
use super::event::Event;
use super::exporter::request_histogram;
use super::histogram::Histogram;
use crate::clock::{Mono, Timestamps, Unix};
use crate::convert::micros;
use crate::parse::{BusyKind, Entry, printable};
use crate::script::{Identity, Origin};

/// Most blockages that wait for the slow log.
const MAX_ENDED: usize = 16;

/// Most characters that are kept of why a state holds: certificates and error replies have a part in it.
const MAX_DETAIL: usize = 400;

/// How long a bad state holds before it is told again.
const REMIND_AFTER: Duration = Duration::from_secs(600);

/// How the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// It answers.
    Ok,
    /// It accepts connections and answers nothing.
    Blocked,
    /// It answers BUSY.
    Busy(BusyKind),
    /// It loads its data set.
    Loading,
    /// It does not accept who we are.
    Unauthorized,
    /// It can't be reached.
    Unreachable,
}

impl State {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Ok,
        Self::Blocked,
        Self::Busy(BusyKind::Script),
        Self::Busy(BusyKind::Function),
        Self::Busy(BusyKind::Module),
        Self::Loading,
        Self::Unauthorized,
        Self::Unreachable,
    ];

    /// The value of the label `state`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Blocked => "blocked",
            Self::Busy(BusyKind::Script) => "busy_script",
            Self::Busy(BusyKind::Function) => "busy_function",
            Self::Busy(BusyKind::Module) => "busy_module",
            Self::Loading => "loading",
            Self::Unauthorized => "unauthorized",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether the server answers at all, blocked and BUSY included.
    #[must_use]
    pub(crate) const fn is_up(self) -> bool {
        !matches!(self, Self::Unauthorized | Self::Unreachable)
    }
}

/// What runs and blocks the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runner {
    /// A script or a function.
    pub(crate) kind: BusyKind,
    /// Which one.
    pub(crate) script: Identity,
}

impl Runner {
    /// A function, by the name that FUNCTION STATS gives.
    #[must_use]
    pub(crate) fn function(name: &[u8]) -> Self {
        Self { kind: BusyKind::Function, script: Identity::from_function(name) }
    }

    /// What the server's log names: the SHA1 of a script, else the name of a function.
    #[must_use]
    pub(crate) fn logged(name: &str) -> Self {
        Identity::from_sha1(name.as_bytes(), Origin::Server)
            .map_or_else(|| Self::function(name.as_bytes()), |script| Self { kind: BusyKind::Script, script })
    }
}

/// A blockage that goes on.
#[derive(Debug, Clone)]
struct Episode {
    /// When it began, as far as known.
    since: Mono,
    /// When it was noticed.
    noticed: Mono,
    /// Whether another one, which ended as this one began, was split off: `since` is where they meet.
    follows: bool,
    /// What BUSY told; `None` before the server answers BUSY.
    busy: Option<BusyKind>,
    /// When the last request was sent that was answered BUSY.
    last_busy: Mono,
    /// The answer that tells most about when what runs now began; `None` before the server answers BUSY.
    proof: Option<Proof>,
    /// What runs, if it was named, and when it began at the latest, by what named it.
    runner: Option<(Runner, Mono)>,
}

/// An answer that something runs.
#[derive(Debug, Clone, Copy)]
struct Proof {
    /// When the request was sent. What runs ran at some time between this and `read`.
    asked: Mono,
    /// When the answer was read.
    read: Mono,
    /// When it began at the latest.
    began: Mono,
}

impl Episode {
    /// An episode that is noticed at `noticed`, and began at `since`.
    fn new(since: Mono, noticed: Mono) -> Self {
        let last_busy = Mono::EPOCH;
        Self { since, noticed, follows: false, busy: None, last_busy, proof: None, runner: None }
    }

    /// Whether something else ran in it than what is BUSY with `kind` now.
    fn is_of_another_kind(&self, kind: BusyKind) -> bool {
        let known = self.busy.or(self.runner.as_ref().map(|(runner, _)| runner.kind));
        known.is_some_and(|known| known != kind)
    }

    /// Whether what began between these times can't be what was proved to run before.
    fn is_another(&self, earliest: Mono, latest: Mono) -> bool {
        self.proof.is_some_and(|proof| earliest > proof.began && latest > proof.asked)
    }

    /// The same for what began at some time before `latest`.
    fn is_surely_another(&self, latest: Mono) -> bool {
        self.proof.is_some_and(|proof| latest > proof.read)
    }
}

/// A blockage that has ended and was not attributed yet.
#[derive(Debug, Clone)]
struct Past {
    since: Mono,
    /// It went on at least until then: BUSY was answered to a request sent at this time. Without BUSY: when it was
    /// noticed.
    least: Mono,
    ended: Ended,
}

/// Ended blockages of one cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many.
    pub(crate) episodes: u64,
    /// Their time together, µs.
    pub(crate) micros: u64,
}

/// The latest blockage that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastBlockage {
    /// When it began.
    pub(crate) began: Unix,
    /// How long it was.
    pub(crate) blocked: Duration,
    /// By what.
    pub(crate) cause: Cause,
    /// The script or function, if it is known.
    pub(crate) script: Option<Identity>,
}

/// The state of a target and its blockages.
#[derive(Debug, Clone)]
pub(crate) struct Liveness {
    /// The state that holds.
    state: State,
    /// Whether the target has been tried: reached, or found to be out of reach.
    tried: bool,
    /// When the state began.
    since: Mono,
    /// Why it holds, where there is something to say.
    detail: Option<String>,
    /// When the state was last told.
    told: Mono,
    /// The blockage that goes on; there is none in the states `ok`, `loading`, `unauthorized`, `unreachable`.
    episode: Option<Episode>,
    /// What was named while no blockage was noticed yet, and when it began: with a time limit below
    /// `--heartbeat.blocked-after`, the server's log is first.
    early: Option<(Runner, Mono)>,
    /// Blockages that have ended and wait for the slow log, the oldest first. There are several when scripts run one
    /// behind the other: then the slow log is answered only when the last of them has ended.
    ended: VecDeque<Past>,
    /// The last answer of any kind.
    last_answer: Option<Mono>,
    /// When the last request was sent that a free server answered: nothing that began before still runs.
    last_free: Mono,
    /// When the latest blockage ended: the next one begins no earlier.
    last_end: Mono,
    /// The latest blockage that has ended, with what it turned out to be.
    last_blockage: Option<LastBlockage>,
    /// Ended blockages by [`Cause::ALL`].
    tallies: [Tally; Cause::ALL.len()],
    /// Times that the server went BUSY, by [`BusyKind::ALL`].
    busy_episodes: [u64; BusyKind::ALL.len()],
    /// Round trips of the heartbeat.
    heartbeats: Histogram,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            state: State::Unreachable,
            tried: false,
            since: Mono::EPOCH,
            detail: None,
            told: Mono::EPOCH,
            episode: None,
            early: None,
            ended: VecDeque::new(),
            last_answer: None,
            last_free: Mono::EPOCH,
            last_end: Mono::EPOCH,
            last_blockage: None,
            tallies: [Tally::default(); Cause::ALL.len()],
            busy_episodes: [0; BusyKind::ALL.len()],
            heartbeats: request_histogram(),
        }
    }
}

impl Liveness {
    /// The state that holds.
    #[must_use]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether the target has been tried: reached, or found to be out of reach.
    #[must_use]
    pub(crate) fn tried(&self) -> bool {
        self.tried
    }

    /// How long the state has held.
    #[must_use]
    pub(crate) fn held(&self, now: Timestamps) -> Duration {
        now.mono.since(self.since)
    }

    /// Why the state holds, where there is something to say.
    #[must_use]
    pub(crate) fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The latest blockage that has ended.
    #[must_use]
    pub(crate) fn last_blockage(&self) -> Option<&LastBlockage> {
        self.last_blockage.as_ref()
    }

    /// Whether it has ever answered anything.
    #[must_use]
    pub(crate) fn has_answered(&self) -> bool {
        self.last_answer.is_some()
    }

    /// How long the server has been blocked now; zero if it is not.
    #[must_use]
    pub(crate) fn blocked(&self, now: Timestamps) -> Duration {
        self.episode.as_ref().map_or(Duration::ZERO, |episode| now.mono.since(episode.since))
    }

    /// What runs and blocks the server, if it is known.
    #[must_use]
    pub(crate) fn runner(&self) -> Option<&Runner> {
        self.episode.as_ref()?.runner.as_ref().map(|(runner, _)| runner)
    }

    /// Ended blockages by cause; every cause exists.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = (Cause, Tally)> {
        Cause::ALL.into_iter().zip(self.tallies)
    }

    /// Times that the server went BUSY, by kind; every kind exists.
    pub(crate) fn busy_episodes(&self) -> impl Iterator<Item = (BusyKind, u64)> {
        BusyKind::ALL.into_iter().zip(self.busy_episodes)
    }

    /// Round trips of the heartbeat.
    #[must_use]
    pub(crate) fn heartbeats(&self) -> &Histogram {
        &self.heartbeats
    }

    /// Whether a blockage has ended that the slow log has not been asked about.
    pub(super) fn awaits_attribution(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Counts a round trip of the heartbeat.
    pub(super) fn heartbeat(&mut self, round_trip: Duration) {
        self.heartbeats.observe(round_trip);
    }

    /// A request that was sent at `since`, and that a BUSY server refuses, was answered.
    pub(super) fn answered(&mut self, since: Mono, now: Timestamps, events: &mut Vec<Event>) {
        self.last_free = self.last_free.max(since);
        self.presumed_free(now, events);
    }

    /// An answer came, and no better sign that the server is free is to be had from it.
    pub(super) fn presumed_free(&mut self, now: Timestamps, events: &mut Vec<Event>) {
        self.last_answer = Some(now.mono);
        self.end(now.mono, now, events);
        self.change(State::Ok, None, now, events);
    }

    /// An answer came that the server also gives while it is BUSY: it lives, and may be blocked still.
    pub(super) fn complained(&mut self, now: Timestamps, events: &mut Vec<Event>) {
        self.last_answer = Some(now.mono);
        if self.episode.is_none() {
            self.presumed_free(now, events);
        }
    }

    /// A request that was sent at `since` is still unanswered, and the server's kernel accepts connections.
    pub(super) fn silent(&mut self, since: Mono, now: Timestamps, events: &mut Vec<Event>) {
        // A server that is BUSY and silent is inside one long command of the same script.
        if self.episode.is_none() {
            self.begin(since, now, events);
            self.change(State::Blocked, None, now, events);
            self.recall(now, events);
        }
    }

    /// A request that was sent at `since` was answered BUSY.
    pub(super) fn busy(&mut self, kind: BusyKind, since: Mono, now: Timestamps, events: &mut Vec<Event>) {
        self.last_answer = Some(now.mono);
        match &self.episode {
            None => self.begin(since, now, events),
            Some(episode) if episode.is_of_another_kind(kind) => {
                // One has ended and another has begun between two answers. The other one kept this request waiting:
                // until something tells better, it began when the request was sent.
                let began = episode.runner.as_ref().map_or(since, |(_, began)| since.max(*began));
                self.split(began, now, events);
            }
            Some(_) => {}
        }
        self.went_busy(kind, now, events);
        if let Some(episode) = &mut self.episode {
            episode.last_busy = since;
            episode.proof.get_or_insert(Proof { asked: since, read: now.mono, began: now.mono });
        }
        self.recall(now, events);
    }

    /// FUNCTION STATS, asked at `asked`, named the function that runs, and for how long it has.
    pub(super) fn running(
        &mut self,
        name: &[u8],
        running_for: Option<Duration>,
        asked: Mono,
        now: Timestamps,
        events: &mut Vec<Event>,
    ) {
        self.busy(BusyKind::Function, asked, now, events);
        let Some(episode) = &self.episode else { return };
        let runner = Runner::function(name);
        let Some(running_for) = running_for else {
            let since = episode.since;
            self.name(runner, since, now, events);
            return;
        };
        // The server measured it between the question and the answer, in whole milliseconds of a clock that may run
        // a little slower than ours.
        let latest = now.mono - running_for;
        let inexact = Duration::from_millis(1).saturating_add(running_for / 1000);
        let earliest = asked - running_for - inexact;
        let another = match &episode.runner {
            Some((known, began)) if *known != runner => latest > *began,
            _ => episode.is_another(earliest, latest),
        };
        if another {
            self.split_alike(latest, now, events);
        }
        if let Some(episode) = &mut self.episode {
            episode.proof = Some(Proof { asked, read: now.mono, began: latest });
        }
        self.name(runner, latest, now, events);
    }

    /// A line of the server's log named what passed the time limit, and how long it had run by then. The line may be
    /// read some time after it was written.
    pub(super) fn logged(
        &mut self,
        runner: Runner,
        running_for: Duration,
        now: Timestamps,
        events: &mut Vec<Event>,
    ) {
        let began = now.mono - running_for;
        let Some(episode) = self.episode.as_ref().filter(|_| began >= self.last_free) else {
            if began >= self.last_free {
                self.early = Some((runner, began));
            } else {
                self.name_ended(runner, began, now);
            }
            return;
        };
        if episode.busy.is_some_and(|kind| kind != runner.kind) {
            // It began behind what BUSY told, or this is told late of something that has ended.
            if began >= episode.last_busy {
                self.early = Some((runner, began));
            } else {
                self.name_ended(runner, began, now);
            }
            return;
        }
        match &episode.runner {
            Some((known, known_began)) if *known != runner => {
                if began <= *known_began {
                    self.name_ended(runner, began, now);
                    return;
                }
                self.split_alike(began, now, events);
            }
            _ if episode.is_surely_another(began) => self.split_alike(began, now, events),
            _ => {}
        }
        self.name(runner, began, now, events);
    }

    /// A request that was sent at `since` was answered with: the server loads its data set.
    pub(super) fn loading(&mut self, since: Mono, now: Timestamps, events: &mut Vec<Event>) {
        self.last_answer = Some(now.mono);
        self.last_free = self.last_free.max(since);
        self.end(now.mono, now, events);
        self.change(State::Loading, None, now, events);
    }

    /// The server does not accept who we are.
    pub(super) fn unauthorized(&mut self, detail: String, now: Timestamps, events: &mut Vec<Event>) {
        self.last_answer = Some(now.mono);
        self.end(now.mono, now, events);
        self.change(State::Unauthorized, Some(detail), now, events);
    }

    /// The server can't be reached.
    pub(super) fn unreachable(&mut self, detail: String, now: Timestamps, events: &mut Vec<Event>) {
        self.end(now.mono, now, events);
        self.change(State::Unreachable, Some(detail), now, events);
        // Its slow log can't be asked now, and may be gone.
        self.attribute(&[], None, events);
    }

    /// The slow log was read to its end, or can't be read: counts the blockages that have ended under their causes.
    /// Returns what had been named by its SHA1, and the entries of cut bodies that it is the SHA1 of.
    pub(super) fn attribute(
        &mut self,
        entries: &[Entry],
        clock_ahead: Option<f64>,
        events: &mut Vec<Event>,
    ) -> Vec<(Identity, Entry)> {
        let mut resolved = Vec::new();
        while let Some(past) = self.ended.pop_front() {
            resolved.extend(self.settle(&past.ended, entries, clock_ahead, events));
        }
        resolved
    }

    /// Counts a blockage under its cause, as far as that is known.
    fn settle(
        &mut self,
        ended: &Ended,
        entries: &[Entry],
        clock_ahead: Option<f64>,
        events: &mut Vec<Event>,
    ) -> Option<(Identity, Entry)> {
        let attribution = ended.attribute(entries, clock_ahead);
        for (known, tally) in Cause::ALL.into_iter().zip(&mut self.tallies) {
            if known == attribution.cause {
                tally.episodes += 1;
                tally.micros = tally.micros.saturating_add(micros(ended.blocked));
            }
        }
        let named = attribution.runner.as_ref().map(|runner| runner.script.clone());
        let called = attribution.culprit.as_ref().and_then(|entry| entry.call.as_ref());
        self.last_blockage = Some(LastBlockage {
            began: ended.began,
            blocked: ended.blocked,
            cause: attribution.cause,
            script: named.or_else(|| called.map(|call| call.script.clone())),
        });
        events.push(Event::BlockageEnded {
            blocked: ended.blocked,
            cause: attribution.cause,
            culprit: attribution.culprit.clone(),
            runner: attribution.runner.clone(),
        });
        let script = attribution.runner?.script;
        Some((script, attribution.culprit?)).filter(|(script, _)| script.sha1.is_some())
    }

    fn begin(&mut self, since: Mono, now: Timestamps, events: &mut Vec<Event>) {
        let since = since.clamp(self.last_end.min(now.mono), now.mono);
        self.episode = Some(Episode::new(since, now.mono));
        events.push(Event::BlockageBegan);
    }

    /// Takes what was named before the blockage was noticed.
    fn recall(&mut self, now: Timestamps, events: &mut Vec<Event>) {
        if let Some((runner, began)) = self.early.take() {
            self.logged(runner, now.mono.since(began), now, events);
        }
    }

    fn went_busy(&mut self, kind: BusyKind, now: Timestamps, events: &mut Vec<Event>) {
        let blocked = self.blocked(now);
        let Some(episode) = self.episode.as_mut().filter(|episode| episode.busy.is_none()) else { return };
        episode.busy = Some(kind);
        for (known, count) in BusyKind::ALL.into_iter().zip(&mut self.busy_episodes) {
            *count += u64::from(known == kind);
        }
        self.change(State::Busy(kind), None, now, events);
        events.push(Event::WentBusy { kind, blocked });
    }

    /// Ends the blockage at `began`, when something else began without a gap, and begins another one.
    fn split(&mut self, began: Mono, now: Timestamps, events: &mut Vec<Event>) {
        let Some(since) = self.episode.as_ref().map(|episode| episode.since) else { return };
        let began = began.clamp(since.min(now.mono), now.mono);
        self.end(began, now, events);
        self.begin(began, now, events);
        if let Some(episode) = &mut self.episode {
            episode.follows = true;
        }
    }

    /// Like [`Self::split`], where the server is BUSY with the same kind of thing as before.
    fn split_alike(&mut self, began: Mono, now: Timestamps, events: &mut Vec<Event>) {
        let busy =
            self.episode.as_ref().and_then(|episode| episode.busy.map(|kind| (kind, episode.last_busy)));
        self.split(began, now, events);
        let Some((kind, last_busy)) = busy else { return };
        self.went_busy(kind, now, events);
        if let Some(episode) = &mut self.episode {
            (episode.last_busy, episode.proof) =
                (last_busy, Some(Proof { asked: began, read: now.mono, began: now.mono }));
        }
    }

    /// Names what runs, which began at `began` at the latest.
    fn name(&mut self, runner: Runner, began: Mono, now: Timestamps, events: &mut Vec<Event>) {
        let began = began.clamp(self.last_free.min(now.mono), now.mono);
        let Some(episode) = &self.episode else { return };
        let named = episode.runner.as_ref().map(|(known, _)| known);
        let first = named.is_none();
        let began = match &episode.runner {
            Some((known, known_began)) if *known == runner => began.min(*known_began),
            _ => began,
        };
        if named != Some(&runner) {
            events.push(Event::Named(runner.clone()));
        }
        let exact = first && episode.follows;
        let since = if exact { began } else { episode.since.min(began) };
        let since = self.move_last_end(since, exact);
        if let Some(episode) = &mut self.episode {
            episode.runner = Some((runner, began));
            episode.since = since;
        }
    }

    /// Makes room for a blockage that began at `since`, although the one before is taken to have ended later, or where
    /// the two meet. Gives when it begins then.
    fn move_last_end(&mut self, since: Mono, meets: bool) -> Mono {
        if since >= self.last_end && !meets {
            return since;
        }
        let Some(last) = self.ended.back_mut() else { return since.max(self.last_end) };
        if last.ended.busy.is_none() && since < last.least {
            // Nothing but an answer that was long on its way.
            self.last_end = last.since;
            self.ended.pop_back();
            return since.max(self.last_end);
        }
        let since = since.max(last.least);
        last.ended.blocked = since.since(last.since);
        self.last_end = since;
        since
    }

    /// Names what has ended, if it is the one that ran then and was not named.
    fn name_ended(&mut self, runner: Runner, began: Mono, now: Timestamps) {
        let fits = |past: &&mut Past| {
            past.ended.runner.is_none()
                && past.ended.busy == Some(runner.kind)
                && began < past.since + past.ended.blocked
        };
        if let Some(past) = self.ended.back_mut().filter(fits) {
            past.ended.runner = Some((runner, now.unix_of(began)));
        }
    }

    /// Ends the blockage, which lasted until `at`.
    fn end(&mut self, at: Mono, now: Timestamps, events: &mut Vec<Event>) {
        let Some(episode) = self.episode.take() else { return };
        self.last_end = at;
        if self.ended.len() >= MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.settle(&oldest.ended, &[], None, events);
        }
        let ended = Ended {
            began: now.unix_of(episode.since),
            blocked: at.since(episode.since),
            busy: episode.busy,
            runner: episode.runner.map(|(runner, began)| (runner, now.unix_of(began))),
        };
        let least = if episode.busy.is_some() { episode.last_busy } else { episode.noticed };
        self.ended.push_back(Past { since: episode.since, least: least.clamp(episode.since, at), ended });
    }

    fn change(&mut self, to: State, detail: Option<String>, now: Timestamps, events: &mut Vec<Event>) {
        let detail = detail.map(|detail| printable(&detail, MAX_DETAIL));
        self.detail.clone_from(&detail);
        if self.state != to || !self.tried {
            let from = self.tried.then_some(self.state);
            (self.state, self.tried, self.told, self.since) = (to, true, now.mono, now.mono);
            events.push(Event::StateChanged { from, to, detail });
        } else if let Some(detail) = detail
            && now.mono.since(self.told) >= REMIND_AFTER
        {
            self.told = now.mono;
            events.push(Event::StateHolds { state: to, detail });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A moment so many milliseconds after the start.
    fn at(ms: u64) -> Timestamps {
        let since_start = Duration::from_millis(ms);
        let began = Duration::from_secs(1_700_000_000);
        Timestamps { mono: Mono::from_epoch(since_start), unix: Unix::from_epoch(began + since_start) }
    }

    fn mono(ms: u64) -> Mono {
        at(ms).mono
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn tally(liveness: &Liveness, cause: Cause) -> Tally {
        liveness.tallies().find(|(known, _)| *known == cause).unwrap().1
    }

    fn busy_count(liveness: &Liveness, kind: BusyKind) -> u64 {
        liveness.busy_episodes().find(|(known, _)| *known == kind).unwrap().1
    }

    #[test]
    fn a_script_is_blocked_then_busy_then_over() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(mono(0), at(0), &mut events);
        liveness.silent(mono(200), at(450), &mut events);
        assert_eq!((liveness.state(), liveness.blocked(at(1200))), (State::Blocked, ms(1000)));
        liveness.busy(BusyKind::Script, mono(200), at(5200), &mut events);
        liveness.busy(BusyKind::Script, mono(5400), at(5410), &mut events);
        assert_eq!(liveness.state(), State::Busy(BusyKind::Script));
        liveness.answered(mono(6200), at(6200), &mut events);
        assert_eq!((liveness.state(), liveness.blocked(at(6300))), (State::Ok, ms(0)));
        assert!(liveness.awaits_attribution());
        liveness.attribute(&[], None, &mut events);
        assert_eq!(tally(&liveness, Cause::Script), Tally { episodes: 1, micros: 6_000_000 });
        assert_eq!(busy_count(&liveness, BusyKind::Script), 1);
    }

    #[test]
    fn another_kind_of_busy_is_another_blockage() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.busy(BusyKind::Script, mono(0), at(10), &mut events);
        liveness.busy(BusyKind::Function, mono(1000), at(1010), &mut events);
        assert_eq!(liveness.state(), State::Busy(BusyKind::Function));
        assert_eq!(liveness.blocked(at(1020)), ms(20), "it begins where the other one ended");
        liveness.answered(mono(2000), at(2000), &mut events);
        liveness.attribute(&[], None, &mut events);
        assert_eq!(
            (tally(&liveness, Cause::Script).episodes, tally(&liveness, Cause::Function).episodes),
            (1, 1)
        );
    }

    #[test]
    fn a_lost_server_ends_its_blockage() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(mono(0), at(0), &mut events);
        liveness.silent(mono(200), at(450), &mut events);
        liveness.unreachable("gone".to_owned(), at(1200), &mut events);
        assert_eq!((liveness.state(), liveness.blocked(at(2000))), (State::Unreachable, ms(0)));
        assert_eq!(tally(&liveness, Cause::Unknown), Tally { episodes: 1, micros: 1_000_000 });
        assert!(!liveness.awaits_attribution());
    }

    #[test]
    fn what_is_named_holds_only_while_it_runs() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(mono(0), at(0), &mut events);
        liveness.busy(BusyKind::Function, mono(5200), at(5210), &mut events);
        liveness.running(b"slow", Some(ms(5100)), mono(5210), at(5210), &mut events);
        assert_eq!(liveness.runner().unwrap().script.label.as_str(), "slow");
        assert_eq!(liveness.blocked(at(5210)), ms(5100), "the server knows better since when");
        liveness.answered(mono(6000), at(6000), &mut events);
        assert!(liveness.runner().is_none());
    }

    #[test]
    fn a_name_may_come_before_the_blockage_is_noticed_but_not_from_an_earlier_one() {
        let sha1 = "a".repeat(40);
        // The script began at 50. A request that was sent before may have been answered before it.
        for (asked, answered, named) in [(0, 0, true), (40, 150, true), (60, 150, false)] {
            let (mut liveness, mut events) = (Liveness::default(), Vec::new());
            liveness.answered(mono(0), at(0), &mut events);
            liveness.logged(Runner::logged(&sha1), ms(50), at(100), &mut events);
            liveness.answered(mono(asked), at(answered), &mut events);
            liveness.silent(mono(200), at(450), &mut events);
            assert_eq!(liveness.runner().is_some(), named, "{asked}");
        }
    }

    /// What the blockages turned out to be: the cause, how long they were, and what had been named.
    fn ended(events: &[Event]) -> Vec<(Cause, Duration, Option<Runner>)> {
        let told = events.iter().filter_map(|event| match event {
            Event::BlockageEnded { cause, blocked, runner, .. } => Some((*cause, *blocked, runner.clone())),
            _ => None,
        });
        told.collect()
    }

    #[test]
    fn a_function_that_begins_while_an_answer_is_under_way_is_one_blockage_with_a_name() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        // PING is answered at 1000, and the answer is read at 1100; the function begins at 1010.
        liveness.answered(mono(1000), at(1100), &mut events);
        liveness.silent(mono(1200), at(1450), &mut events);
        liveness.busy(BusyKind::Function, mono(1200), at(6010), &mut events);
        liveness.running(b"slow", Some(ms(5001)), mono(6011), at(6012), &mut events);
        assert_eq!(liveness.runner(), Some(&Runner::function(b"slow")));
        assert_eq!(liveness.blocked(at(6012)), ms(5001));
        liveness.answered(mono(13_000), at(13_011), &mut events);
        liveness.attribute(&[], None, &mut events);
        assert_eq!(ended(&events), [(Cause::Function, ms(12_000), Some(Runner::function(b"slow")))]);
    }

    #[test]
    fn an_answer_that_was_held_back_is_no_blockage_of_its_own() {
        // PING is answered at 1000, and the answer is read at 1400, when the server seems to be blocked already.
        for (began, first) in [(1010, None), (1300, Some(ms(300)))] {
            let (mut liveness, mut events) = (Liveness::default(), Vec::new());
            liveness.silent(mono(1000), at(1250), &mut events);
            liveness.answered(mono(1000), at(1400), &mut events);
            liveness.silent(mono(1500), at(1750), &mut events);
            liveness.busy(BusyKind::Function, mono(1500), at(began + 5000), &mut events);
            let asked = began + 5001;
            liveness.running(b"slow", Some(ms(5001)), mono(asked), at(asked), &mut events);
            liveness.answered(mono(13_000), at(13_000), &mut events);
            liveness.attribute(&[], None, &mut events);
            let of_function = (Cause::Function, ms(13_000 - began), Some(Runner::function(b"slow")));
            let before = first.map(|blocked| (Cause::Unknown, blocked, None));
            assert_eq!(ended(&events), before.into_iter().chain([of_function]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_lost_connection_costs_a_function_no_name() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(mono(0), at(0), &mut events);
        liveness.silent(mono(200), at(450), &mut events);
        liveness.unreachable("reset".to_owned(), at(1000), &mut events);
        liveness.unauthorized("no password yet".to_owned(), at(1100), &mut events);
        liveness.busy(BusyKind::Function, mono(1200), at(6000), &mut events);
        liveness.running(b"slow", Some(ms(5900)), mono(6000), at(6000), &mut events);
        assert!(liveness.runner().is_some());
        assert_eq!(liveness.blocked(at(6000)), ms(5000), "what was counted before is not counted again");
    }

    #[test]
    fn busy_that_changes_its_kind_without_a_gap_is_two_blockages_with_names() {
        let sha1 = "a".repeat(40);
        let (script, function) = (Runner::logged(&sha1), Runner::function(b"endless"));
        // The first one runs from 1000 to 9000, the second one from 9000 to 20,000; the limit is 5 s.
        for script_first in [true, false] {
            let (mut liveness, mut events) = (Liveness::default(), Vec::new());
            let mut kinds = [BusyKind::Script, BusyKind::Function];
            let mut expected_ends = [(script.clone(), 8000), (function.clone(), 11_000)];
            if !script_first {
                kinds.reverse();
                expected_ends = [(function.clone(), 8000), (script.clone(), 11_000)];
            }
            let [one, two] = kinds;
            liveness.answered(mono(900), at(901), &mut events);
            liveness.silent(mono(1100), at(1350), &mut events);
            let mut began = 1000;
            for kind in [one, two] {
                let passed = began + 5000;
                if kind == BusyKind::Script {
                    // For the second one it comes before BUSY is read.
                    liveness.logged(script.clone(), ms(5000), at(passed), &mut events);
                }
                liveness.busy(
                    kind,
                    mono(if kind == one { 1100 } else { 9100 }),
                    at(passed + 10),
                    &mut events,
                );
                if kind == BusyKind::Function {
                    liveness.running(
                        b"endless",
                        Some(ms(5020)),
                        mono(passed + 20),
                        at(passed + 20),
                        &mut events,
                    );
                }
                assert_eq!(liveness.state(), State::Busy(kind));
                let expected = if kind == BusyKind::Script { &script } else { &function };
                assert_eq!(liveness.runner(), Some(expected));
                assert_eq!(liveness.blocked(at(passed + 20)), ms(5020));
                liveness.busy(kind, mono(8900), at(8910), &mut events);
                began = 9000;
            }
            liveness.answered(mono(20_000), at(20_000), &mut events);
            liveness.attribute(&[], None, &mut events);
            let expected =
                expected_ends.map(|(runner, length)| (Cause::of_kind(runner.kind), ms(length), Some(runner)));
            assert_eq!(ended(&events), expected);
            assert_eq!(busy_count(&liveness, one) + busy_count(&liveness, two), 2);
        }
    }

    #[test]
    fn another_function_or_script_without_a_gap_is_another_blockage() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(mono(0), at(0), &mut events);
        liveness.busy(BusyKind::Function, mono(200), at(5100), &mut events);
        liveness.running(b"one", Some(ms(5000)), mono(5100), at(5100), &mut events);
        liveness.running(b"one", Some(ms(6000)), mono(6100), at(6600), &mut events);
        assert_eq!(
            liveness.blocked(at(6600)),
            ms(6500),
            "an answer that was held back tells of no other one"
        );
        liveness.running(b"one", Some(ms(5000)), mono(12_000), at(12_000), &mut events);
        liveness.running(b"two", Some(ms(5000)), mono(18_000), at(18_000), &mut events);
        let sha1 = "a".repeat(40);
        liveness.busy(BusyKind::Script, mono(20_000), at(25_000), &mut events);
        liveness.logged(Runner::logged(&sha1), ms(5000), at(25_000), &mut events);
        liveness.logged(Runner::logged(&sha1), ms(5000), at(31_000), &mut events);
        liveness.answered(mono(33_000), at(33_000), &mut events);
        liveness.attribute(&[], None, &mut events);
        let function =
            |name: &str, length| (Cause::Function, ms(length), Some(Runner::function(name.as_bytes())));
        let script = |length| (Cause::Script, ms(length), Some(Runner::logged(&sha1)));
        assert_eq!(
            ended(&events),
            [function("one", 6900), function("one", 6000), function("two", 7000), script(6000), script(7000)]
        );
    }

    #[test]
    fn a_line_of_the_log_that_is_read_late_names_what_has_ended() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        let sha1 = "a".repeat(40);
        liveness.answered(mono(0), at(0), &mut events);
        liveness.busy(BusyKind::Script, mono(200), at(5300), &mut events);
        liveness.answered(mono(5400), at(5400), &mut events);
        liveness.logged(Runner::logged(&sha1), ms(5000), at(5410), &mut events);
        liveness.attribute(&[], None, &mut events);
        assert_eq!(ended(&events), [(Cause::Script, ms(5200), Some(Runner::logged(&sha1)))]);
    }

    #[test]
    fn scripts_that_run_one_behind_the_other_are_each_attributed() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(mono(0), at(0), &mut events);
        let mut entries = Vec::new();
        for (id, (name, begins)) in [("EVAL", 200), ("FCALL", 1700), ("EVAL", 3200)].into_iter().enumerate() {
            // SLOWLOG GET, which was sent when the one before had ended, is answered when this one has.
            liveness.silent(mono(begins), at(begins + 250), &mut events);
            liveness.answered(mono(begins + 1500), at(begins + 1500), &mut events);
            entries.push(Entry {
                id: u64::try_from(id).unwrap(),
                ended_at: at(begins + 1500).unix.as_secs(),
                duration: ms(1500),
                ..Entry::with_arguments(&[name, "f"])
            });
        }
        liveness.attribute(&entries, Some(0.0), &mut events);
        assert_eq!(tally(&liveness, Cause::Script), Tally { episodes: 2, micros: 3_000_000 });
        assert_eq!(tally(&liveness, Cause::Function), Tally { episodes: 1, micros: 1_500_000 });
    }

    #[test]
    fn an_error_that_busy_does_not_hold_up_ends_no_blockage() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.complained(at(0), &mut events);
        assert_eq!(liveness.state(), State::Ok);
        liveness.busy(BusyKind::Script, mono(200), at(1200), &mut events);
        liveness.complained(at(1300), &mut events);
        assert_eq!((liveness.state(), liveness.blocked(at(1400))), (State::Busy(BusyKind::Script), ms(1200)));
    }

    #[test]
    fn why_a_state_holds_is_cut_and_cleaned() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.unreachable(format!("no\u{1b}\u{202e}\n{}", "x".repeat(9000)), at(0), &mut events);
        let detail = liveness.detail().unwrap();
        assert!(detail.starts_with("nox") && detail.len() == MAX_DETAIL, "{detail}");
    }

    #[test]
    fn a_bad_state_is_told_once_and_then_rarely() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        for second in 0..1500 {
            liveness.unreachable("refused".to_owned(), at(second * 1000), &mut events);
        }
        assert_eq!(events.len(), 3, "{events:?}");
    }

    /// A server that runs scripts, as the exporter's heartbeat sees it: three hours at five beats a second.
    #[test]
    fn hours_of_blockages_are_measured_to_the_heartbeat() {
        const LIMIT: u64 = 5000;
        const BLOCKED_AFTER: u64 = 250;
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        let (mut now, mut scripts, mut real, mut over_limit) = (0, 0, 0, 0);
        // Scripts of 0.6 to 9 s that begin at odd times.
        let mut begins = 1_000;
        while now < 3 * 3600 * 1000 {
            let length = 600 + (begins * 7919) % 8400;
            while now <= begins {
                liveness.answered(mono(now), at(now), &mut events);
                now += 200;
            }
            let ends = begins + length;
            liveness.silent(mono(now), at(now + BLOCKED_AFTER), &mut events);
            let shown = liveness.blocked(at(now + BLOCKED_AFTER));
            let truth = ms(now + BLOCKED_AFTER - begins);
            assert!(shown <= truth && truth <= shown + ms(200), "{shown:?} {truth:?}");
            if length > LIMIT {
                over_limit += 1;
                liveness.busy(BusyKind::Script, mono(now), at(begins + LIMIT), &mut events);
                now = begins + LIMIT + 200;
                while now < ends {
                    liveness.busy(BusyKind::Script, mono(now), at(now + 15), &mut events);
                    now += 200;
                }
                liveness.answered(mono(now), at(now), &mut events);
            } else {
                now = ends;
                liveness.answered(mono(now), at(now), &mut events);
            }
            let entry = Entry {
                id: scripts,
                ended_at: at(ends).unix.as_secs(),
                duration: ms(length),
                ..Entry::with_arguments(&["EVAL", "return 1"])
            };
            liveness.attribute(&[entry], Some(0.0), &mut events);
            (scripts, real) = (scripts + 1, real + length);
            begins = now + 300 + (length * 31) % 20_000;
        }
        let total = tally(&liveness, Cause::Script);
        assert_eq!(total.episodes, scripts);
        assert_eq!(busy_count(&liveness, BusyKind::Script), over_limit);
        let off = total.micros.abs_diff(real * 1000) / scripts;
        assert!(off <= 200_000, "{off} µs a blockage");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Answered,
        Silent,
        Busy(BusyKind),
        Running,
        Logged,
        Complained,
        Loading,
        Unauthorized,
        Unreachable,
        Attribute(Vec<(&'static str, u64)>),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let entries =
            prop::collection::vec((prop::sample::select(vec!["eval", "fcall", "keys"]), 0..9000_u64), 0..3);
        prop_oneof![
            3 => Just(Step::Answered),
            3 => Just(Step::Silent),
            3 => prop::sample::select(BusyKind::ALL.to_vec()).prop_map(Step::Busy),
            1 => Just(Step::Running),
            1 => Just(Step::Logged),
            2 => Just(Step::Complained),
            1 => Just(Step::Loading),
            1 => Just(Step::Unauthorized),
            1 => Just(Step::Unreachable),
            3 => entries.prop_map(Step::Attribute),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_sequence_breaks_the_books(steps in prop::collection::vec((any_step(), 0..3000_u64, 0..3000_u64), 0..80)) {
            let (mut liveness, mut events) = (Liveness::default(), Vec::new());
            let (mut now, mut last_read, mut last_asked) = (0_u64, 0, 0);
            let mut before = liveness.clone();
            for (step, pause, waited) in steps {
                now += pause;
                // A request can't have been sent before the last answer was read.
                let asked = now.saturating_sub(waited).max(last_read);
                let since = mono(asked);
                let proves_free = matches!(step, Step::Answered | Step::Loading);
                match step {
                    Step::Answered => liveness.answered(since, at(now), &mut events),
                    Step::Silent => liveness.silent(since, at(now), &mut events),
                    Step::Busy(kind) => liveness.busy(kind, since, at(now), &mut events),
                    Step::Running => liveness.running(b"f", Some(ms(waited * 2)), since, at(now), &mut events),
                    Step::Logged => liveness.logged(Runner::function(b"g"), ms(waited), at(now), &mut events),
                    Step::Complained => liveness.complained(at(now), &mut events),
                    Step::Loading => liveness.loading(since, at(now), &mut events),
                    Step::Unauthorized => liveness.unauthorized(String::new(), at(now), &mut events),
                    Step::Unreachable => liveness.unreachable(String::new(), at(now), &mut events),
                    Step::Attribute(entries) => {
                        let entries: Vec<Entry> = entries.into_iter().map(|(name, duration)| Entry {
                            id: 0,
                            ended_at: at(now).unix.as_secs(),
                            duration: ms(duration),
                            ..Entry::with_arguments(&[name, "x"])
                        }).collect();
                        liveness.attribute(&entries, Some(0.0), &mut events);
                    }
                }
                if proves_free {
                    (last_read, last_asked) = (now, asked);
                }
                let blocking = matches!(liveness.state(), State::Blocked | State::Busy(_));
                if blocking {
                    prop_assert!(liveness.episode.is_some());
                    prop_assert!(liveness.blocked(at(now)) <= ms(now - last_asked));
                } else {
                    prop_assert_eq!(liveness.blocked(at(now + 5000)), Duration::ZERO);
                    prop_assert!(liveness.runner().is_none());
                }
                for ((_, old), (_, new)) in before.tallies().zip(liveness.tallies()) {
                    prop_assert!(old.episodes <= new.episodes && old.micros <= new.micros);
                }
                for ((_, old), (_, new)) in before.busy_episodes().zip(liveness.busy_episodes()) {
                    prop_assert!(old <= new);
                }
                // Blockages that don't overlap last no longer than the time that has passed.
                let counted: u64 = liveness.tallies().map(|(_, tally)| tally.micros).sum();
                let waiting: Duration = liveness.ended.iter().map(|past| past.ended.blocked).sum();
                let all = counted + micros(waiting + liveness.blocked(at(now)));
                prop_assert!(all <= now * 1000, "{} µs of {} ms", all, now);
                before = liveness.clone();
            }
            let began = events.iter().filter(|event| **event == Event::BlockageBegan).count();
            let ended = events.iter().filter(|event| matches!(event, Event::BlockageEnded { .. })).count();
            let open = usize::from(liveness.episode.is_some()) + liveness.ended.len();
            // Those that were nothing but an answer that was long on its way are taken back.
            prop_assert!(began >= ended + open);
        }
    }

    /// Something that keeps the simulated server busy. All times of the simulation are in milliseconds.
    #[derive(Debug, Clone)]
    struct Run {
        begins: u64,
        ends: u64,
        runner: Runner,
    }

    /// The time limit of the simulated server.
    const LIMIT: u64 = 3000;

    /// A server that runs things, one connection to it on which all answers come late, and its log file. What is asked
    /// when is as in `poll/session.rs`.
    struct Simulation {
        runs: Vec<Run>,
        /// Draws delays and all else that is left to chance.
        chance: u64,
        liveness: Liveness,
        events: Vec<Event>,
        now: u64,
        /// Lines of the log: when each is read, and about which run.
        lines: VecDeque<(u64, usize)>,
        /// Runs whose slow log entry was read.
        entries_read: usize,
    }

    enum Reply {
        Free,
        Busy(usize),
    }

    impl Simulation {
        fn new(runs: Vec<Run>, chance: u64) -> Self {
            let mut simulation = Self {
                runs,
                chance,
                liveness: Liveness::default(),
                events: Vec::new(),
                now: 0,
                lines: VecDeque::new(),
                entries_read: 0,
            };
            for index in 0..simulation.runs.len() {
                let Run { begins, ends, .. } = simulation.runs[index];
                if ends > begins + LIMIT {
                    let read = begins + LIMIT + simulation.up_to(200);
                    simulation.lines.push_back((read, index));
                }
            }
            simulation
        }

        /// A number from 0 to `most`.
        fn up_to(&mut self, most: u64) -> u64 {
            self.chance =
                self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.chance >> 33) % (most + 1)
        }

        /// Lets the time pass; lines of the log are read meanwhile.
        fn pass(&mut self, until: u64) {
            while let Some((read, index)) = self.lines.front().copied().filter(|(read, _)| *read <= until) {
                self.lines.pop_front();
                let runner = self.runs[index].runner.clone();
                self.liveness.logged(runner, ms(LIMIT), at(read), &mut self.events);
            }
            self.now = until;
        }

        /// Sends a request. When it was sent and worked off, and with what answer, which is read now.
        fn ask(&mut self) -> (u64, u64, Reply) {
            let asked = self.now;
            let mut worked_off = asked + self.up_to(50);
            let running = |time: u64| {
                let found =
                    self.runs.iter().enumerate().find(|(_, run)| (run.begins..run.ends).contains(&time));
                found.map(|(index, run)| (index, run.clone()))
            };
            let mut reply = Reply::Free;
            while let Some((index, run)) = running(worked_off) {
                let limit = worked_off.max(run.begins + LIMIT);
                if limit < run.ends {
                    (worked_off, reply) = (limit, Reply::Busy(index));
                    break;
                }
                // What comes right behind it is worked off first.
                worked_off = run.ends;
            }
            let read = worked_off + self.up_to(500);
            if read > asked + BLOCKED_AFTER {
                self.pass(asked + BLOCKED_AFTER);
                self.liveness.silent(mono(asked), at(self.now), &mut self.events);
            }
            self.pass(read);
            (asked, worked_off, reply)
        }

        fn understand(&mut self, asked: u64, reply: &Reply) {
            match reply {
                Reply::Free => self.liveness.answered(mono(asked), at(self.now), &mut self.events),
                Reply::Busy(index) => {
                    let kind = self.runs[*index].runner.kind;
                    self.liveness.busy(kind, mono(asked), at(self.now), &mut self.events);
                }
            }
        }

        fn run(&mut self) {
            const HEARTBEAT: u64 = 200;
            const NAMING: u64 = 1000;
            let over = self.runs.last().map_or(0, |run| run.ends) + 10_000;
            let (mut heartbeat, mut naming) = (0, 0);
            while self.now < over {
                let names = self.liveness.state() == State::Busy(BusyKind::Function);
                if self.liveness.state() == State::Ok && self.liveness.awaits_attribution() {
                    let (asked, worked_off, reply) = self.ask();
                    self.understand(asked, &reply);
                    if matches!(reply, Reply::Free) {
                        self.attribute(worked_off);
                    }
                } else if names && naming <= heartbeat {
                    self.pass(naming.max(self.now));
                    naming = self.now + NAMING;
                    let (asked, worked_off, reply) = self.ask();
                    match reply {
                        Reply::Busy(index) if self.runs[index].runner.kind == BusyKind::Function => {
                            let Run { begins, runner, .. } = self.runs[index].clone();
                            let name = runner.script.label.as_str().to_owned();
                            let running_for = Some(ms(worked_off - begins));
                            let (asked, now) = (mono(asked), at(self.now));
                            self.liveness.running(name.as_bytes(), running_for, asked, now, &mut self.events);
                            assert_eq!(self.liveness.runner(), Some(&runner));
                            let blocked = self.liveness.blocked(now);
                            assert!(blocked.abs_diff(ms(self.now - begins)) <= ms(800), "{blocked:?}");
                        }
                        Reply::Free => self.liveness.complained(at(self.now), &mut self.events),
                        Reply::Busy(_) => self.understand(asked, &reply),
                    }
                } else {
                    self.pass(heartbeat.max(self.now));
                    heartbeat = self.now + HEARTBEAT;
                    let (asked, _, reply) = self.ask();
                    self.understand(asked, &reply);
                }
            }
        }

        /// The slow log as it was at `time` is read.
        fn attribute(&mut self, time: u64) {
            let written = self.runs.iter().filter(|run| run.ends <= time).count();
            let entries: Vec<Entry> = self.runs[self.entries_read..written]
                .iter()
                .map(|run| Entry {
                    id: run.begins,
                    ended_at: at(run.ends).unix.as_secs(),
                    duration: ms(run.ends - run.begins),
                    ..match run.runner.kind {
                        BusyKind::Function => {
                            Entry::with_arguments(&["FCALL", run.runner.script.label.as_str()])
                        }
                        _ => Entry::with_arguments(&["EVAL", "return 1"]),
                    }
                })
                .collect();
            self.entries_read = written;
            // INFO was late too when the clocks were compared.
            let ahead = -ms(self.up_to(500)).as_secs_f64();
            self.liveness.attribute(&entries, Some(ahead), &mut self.events);
        }
    }

    /// `--heartbeat.blocked-after` of the simulation: longer than any answer is on its way.
    const BLOCKED_AFTER: u64 = 600;

    /// Pauses (half of them none), lengths (some below the limit) and what runs.
    fn any_runs() -> impl Strategy<Value = Vec<Run>> {
        let runners = vec![
            Runner::function(b"one"),
            Runner::function(b"two"),
            Runner::logged(&"1".repeat(40)),
            Runner::logged(&"2".repeat(40)),
        ];
        let run = (
            prop_oneof![Just(0), 4000..9000_u64],
            prop_oneof![1 => 1600..LIMIT - 100, 3 => LIMIT + 2500..LIMIT + 9000],
            prop::sample::select(runners),
        );
        prop::collection::vec(run, 1..6).prop_map(|drawn| {
            let mut runs: Vec<Run> = Vec::new();
            let mut now = 3000;
            let mut below_limit = true;
            for (pause, length, runner) in drawn {
                // Without a gap, what is below the limit is seen as one with what comes before or behind it.
                let short = length < LIMIT;
                now += if short || below_limit { pause.max(4000) } else { pause };
                below_limit = short;
                runs.push(Run { begins: now, ends: now + length, runner });
                now += length;
            }
            runs
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_answers_are_late_each_run_is_one_blockage_with_its_name(
            runs in any_runs(),
            chance in any::<u64>(),
        ) {
            let mut simulation = Simulation::new(runs.clone(), chance);
            simulation.run();
            let told = ended(&simulation.events);
            prop_assert_eq!(told.len(), runs.len(), "{:?}", told);
            for ((cause, blocked, runner), run) in told.iter().zip(&runs) {
                prop_assert_eq!(*cause, Cause::of_kind(run.runner.kind), "{:?}", told);
                let length = ms(run.ends - run.begins);
                prop_assert!(blocked.abs_diff(length) <= ms(1500), "{:?} of {:?}", blocked, run);
                if length > ms(LIMIT) {
                    prop_assert_eq!(runner.as_ref(), Some(&run.runner), "{:?}", told);
                }
            }
            let over_limit = runs.iter().filter(|run| run.ends - run.begins > LIMIT).count();
            let busy: u64 = simulation.liveness.busy_episodes().map(|(_, count)| count).sum();
            prop_assert_eq!(busy, u64::try_from(over_limit).unwrap());
        }
    }
}
