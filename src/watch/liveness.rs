//! The state of a target and its blockages, by what its answers and silences say.
//!
//! An episode is one blockage: from the first request that stayed unanswered (or was answered BUSY) to the
//! first ordinary answer. BUSY is a part of an episode. Episodes never overlap, and there is none while the
//! state is [`State::Ok`].

use std::time::Duration;

use super::blockage::{Cause, Ended};
use super::event::Event;
use super::exporter::request_histogram;
use super::histogram::Histogram;
use crate::clock::Moment;
use crate::number::micros;
use crate::parse::{BusyKind, Entry};
use crate::script::{Identity, Origin};

/// How long a bad state holds before it is told again.
const REMIND_AFTER: Duration = Duration::from_secs(600);

/// How the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
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
    pub const ALL: [Self; 8] = [
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
    pub const fn as_str(self) -> &'static str {
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
    pub const fn is_up(self) -> bool {
        !matches!(self, Self::Unauthorized | Self::Unreachable)
    }
}

/// What runs and blocks the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// A script or a function.
    pub kind: BusyKind,
    /// Which one.
    pub script: Identity,
}

impl Runner {
    /// A function, by the name that FUNCTION STATS gives.
    #[must_use]
    pub fn function(name: &[u8]) -> Self {
        Self { kind: BusyKind::Function, script: Identity::from_function(name) }
    }

    /// What the server's log names: the SHA1 of a script, else the name of a function.
    #[must_use]
    pub fn logged(name: &str) -> Self {
        Identity::from_sha1(name.as_bytes(), Origin::Server)
            .map_or_else(|| Self::function(name.as_bytes()), |script| Self { kind: BusyKind::Script, script })
    }
}

/// A blockage that goes on.
#[derive(Debug, Clone)]
struct Episode {
    /// When it began, as far as known (monotonic).
    since: Duration,
    /// What BUSY told; `None` before the server answers BUSY.
    busy: Option<BusyKind>,
    /// What runs, if it was named.
    runner: Option<Runner>,
}

/// Ended blockages of one cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub episodes: u64,
    /// Their time together, µs.
    pub micros: u64,
}

/// The state of a target and its blockages.
#[derive(Debug, Clone)]
pub struct Liveness {
    /// The state that holds.
    state: State,
    /// Whether the target has been tried: reached, or found to be out of reach.
    tried: bool,
    /// When the state was last told (monotonic).
    told: Duration,
    /// The blockage that goes on; there is none in the states `ok`, `loading`, `unauthorized`, `unreachable`.
    episode: Option<Episode>,
    /// The blockage that has ended and waits for the slow log.
    ended: Option<Ended>,
    /// The last answer of any kind (monotonic).
    last_answer: Option<Duration>,
    /// The last answer that was not BUSY (monotonic): no blockage began before it.
    last_free: Duration,
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
            told: Duration::ZERO,
            episode: None,
            ended: None,
            last_answer: None,
            last_free: Duration::ZERO,
            tallies: [Tally::default(); Cause::ALL.len()],
            busy_episodes: [0; BusyKind::ALL.len()],
            heartbeats: request_histogram(),
        }
    }
}

impl Liveness {
    /// The state that holds.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the target has been tried: reached, or found to be out of reach.
    #[must_use]
    pub fn tried(&self) -> bool {
        self.tried
    }

    /// How long the server has been blocked now; zero if it is not.
    #[must_use]
    pub fn blocked(&self, now: Moment) -> Duration {
        self.episode.as_ref().map_or(Duration::ZERO, |episode| now.mono.saturating_sub(episode.since))
    }

    /// What runs and blocks the server, if it is known.
    #[must_use]
    pub fn runner(&self) -> Option<&Runner> {
        self.episode.as_ref()?.runner.as_ref()
    }

    /// Ended blockages by cause; every cause exists.
    pub fn tallies(&self) -> impl Iterator<Item = (Cause, Tally)> {
        Cause::ALL.into_iter().zip(self.tallies)
    }

    /// Times that the server went BUSY, by kind; every kind exists.
    pub fn busy_episodes(&self) -> impl Iterator<Item = (BusyKind, u64)> {
        BusyKind::ALL.into_iter().zip(self.busy_episodes)
    }

    /// Round trips of the heartbeat.
    #[must_use]
    pub fn heartbeats(&self) -> &Histogram {
        &self.heartbeats
    }

    /// The last answer of any kind (monotonic).
    pub(super) fn last_answer(&self) -> Option<Duration> {
        self.last_answer
    }

    /// Whether a blockage has ended that the slow log has not been asked about.
    pub(super) fn awaits_attribution(&self) -> bool {
        self.ended.is_some()
    }

    /// Counts a round trip of the heartbeat.
    pub(super) fn heartbeat(&mut self, round_trip: Duration) {
        self.heartbeats.observe(round_trip);
    }

    /// An ordinary answer came.
    pub(super) fn answered(&mut self, now: Moment, events: &mut Vec<Event>) {
        (self.last_answer, self.last_free) = (Some(now.mono), now.mono);
        self.end(now, events);
        self.change(State::Ok, None, now, events);
    }

    /// A request that was sent at `since` is still unanswered, and the server's kernel accepts connections.
    pub(super) fn silent(&mut self, since: Duration, now: Moment, events: &mut Vec<Event>) {
        // A server that is BUSY and silent is inside one long command of the same script.
        if self.episode.is_none() {
            self.begin(since, now, events);
            self.change(State::Blocked, None, now, events);
        }
    }

    /// A request that was sent at `since` was answered BUSY.
    pub(super) fn busy(&mut self, kind: BusyKind, since: Duration, now: Moment, events: &mut Vec<Event>) {
        self.last_answer = Some(now.mono);
        if self.episode.as_ref().is_some_and(|episode| episode.busy.is_some_and(|before| before != kind)) {
            // One has ended and another has begun between two answers.
            self.end(now, events);
        }
        if self.episode.is_none() {
            self.begin(since, now, events);
        }
        let blocked = self.blocked(now);
        if let Some(episode) = &mut self.episode
            && episode.busy.is_none()
        {
            episode.busy = Some(kind);
            for (known, count) in BusyKind::ALL.into_iter().zip(&mut self.busy_episodes) {
                *count += u64::from(known == kind);
            }
            self.change(State::Busy(kind), None, now, events);
            events.push(Event::WentBusy { kind, blocked });
        }
    }

    /// The server named what runs, and for how long it has.
    pub(super) fn named(
        &mut self,
        runner: Runner,
        running_for: Option<Duration>,
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        let earliest = self.last_free;
        let Some(episode) = &mut self.episode else { return };
        if let Some(began) = running_for.and_then(|running_for| now.mono.checked_sub(running_for))
            && episode.runner.is_none()
        {
            episode.since = episode.since.min(began.max(earliest));
        }
        if episode.runner.as_ref() != Some(&runner) {
            events.push(Event::Named(runner.clone()));
            episode.runner = Some(runner);
        }
    }

    /// The server loads its data set.
    pub(super) fn loading(&mut self, now: Moment, events: &mut Vec<Event>) {
        (self.last_answer, self.last_free) = (Some(now.mono), now.mono);
        self.end(now, events);
        self.change(State::Loading, None, now, events);
    }

    /// The server does not accept who we are.
    pub(super) fn unauthorized(&mut self, detail: String, now: Moment, events: &mut Vec<Event>) {
        self.last_answer = Some(now.mono);
        self.end(now, events);
        self.change(State::Unauthorized, Some(detail), now, events);
    }

    /// The server can't be reached.
    pub(super) fn unreachable(&mut self, detail: String, now: Moment, events: &mut Vec<Event>) {
        self.end(now, events);
        self.change(State::Unreachable, Some(detail), now, events);
        // Its slow log can't be asked now, and may be gone.
        self.attribute(&[], None, events);
    }

    /// The slow log was read to its end, or can't be read: counts the blockage that has ended under its cause.
    /// Returns what had run and the entry that shows it, if both are known.
    pub(super) fn attribute(
        &mut self,
        entries: &[Entry],
        clock_ahead: Option<f64>,
        events: &mut Vec<Event>,
    ) -> Option<(Runner, Entry)> {
        let ended = self.ended.take()?;
        let (cause, culprit) = ended.attribute(entries, clock_ahead);
        for (known, tally) in Cause::ALL.into_iter().zip(&mut self.tallies) {
            if known == cause {
                tally.episodes += 1;
                tally.micros = tally.micros.saturating_add(micros(ended.blocked));
            }
        }
        let resolved = ended.runner.clone().zip(culprit.as_ref().map(|culprit| culprit.entry.clone()));
        events.push(Event::BlockageEnded { blocked: ended.blocked, cause, culprit, runner: ended.runner });
        resolved
    }

    fn begin(&mut self, since: Duration, now: Moment, events: &mut Vec<Event>) {
        // A blockage that still waits for the slow log is counted by what is known.
        self.attribute(&[], None, events);
        self.episode = Some(Episode { since: since.min(now.mono), busy: None, runner: None });
        events.push(Event::BlockageBegan);
    }

    fn end(&mut self, now: Moment, events: &mut Vec<Event>) {
        if let Some(episode) = self.episode.take() {
            self.attribute(&[], None, events);
            let blocked = now.mono.saturating_sub(episode.since);
            let began = now.unix.saturating_sub(blocked);
            self.ended = Some(Ended { began, blocked, busy: episode.busy, runner: episode.runner });
        }
    }

    fn change(&mut self, to: State, detail: Option<String>, now: Moment, events: &mut Vec<Event>) {
        if self.state != to || !self.tried {
            let from = self.state;
            (self.state, self.tried, self.told) = (to, true, now.mono);
            events.push(Event::StateChanged { from, to, detail });
        } else if let Some(detail) = detail
            && now.mono.saturating_sub(self.told) >= REMIND_AFTER
        {
            self.told = now.mono;
            events.push(Event::StateHolds { state: to, detail });
        }
    }
}
