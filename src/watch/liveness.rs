//! The state of a target and its blockages, by what its answers and silences say.
//!
//! An episode is one blockage: from the first request that stayed unanswered (or was answered BUSY) to the
//! first ordinary answer. BUSY is a part of an episode. Episodes never overlap, and there is none while the
//! state is [`State::Ok`].

use std::collections::VecDeque;
use std::time::Duration;

use super::blockage::{Cause, Ended};
use super::event::Event;
use super::exporter::request_histogram;
use super::histogram::Histogram;
use crate::clock::Moment;
use crate::number::micros;
use crate::parse::{BusyKind, Entry};
use crate::script::{Call, Identity, Origin};

/// Most blockages that wait for the slow log.
const MOST_ENDED: usize = 16;

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
    /// When that began, by what named it (monotonic).
    runner_began: Option<Duration>,
}

/// Ended blockages of one cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub episodes: u64,
    /// Their time together, µs.
    pub micros: u64,
}

/// The latest blockage that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastBlockage {
    /// When it began, since the Unix epoch.
    pub began: Duration,
    /// How long it was.
    pub blocked: Duration,
    /// By what.
    pub cause: Cause,
    /// The script or function, if it is known.
    pub script: Option<Identity>,
}

/// The state of a target and its blockages.
#[derive(Debug, Clone)]
pub struct Liveness {
    /// The state that holds.
    state: State,
    /// Whether the target has been tried: reached, or found to be out of reach.
    tried: bool,
    /// When the state began (monotonic).
    since: Duration,
    /// Why it holds, where there is something to say.
    detail: Option<String>,
    /// When the state was last told (monotonic).
    told: Duration,
    /// The blockage that goes on; there is none in the states `ok`, `loading`, `unauthorized`, `unreachable`.
    episode: Option<Episode>,
    /// What was named while no blockage was noticed yet, and when it began (monotonic): with a time limit below
    /// `--heartbeat.blocked-after`, the server's log is first.
    early: Option<(Runner, Duration)>,
    /// Blockages that have ended and wait for the slow log, the oldest first. There are several when scripts run one
    /// behind the other: then the slow log is answered only when the last of them has ended.
    ended: VecDeque<Ended>,
    /// The last answer of any kind (monotonic).
    last_answer: Option<Duration>,
    /// When the server was last known not to be blocked (monotonic): no blockage began before.
    last_free: Duration,
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
            since: Duration::ZERO,
            detail: None,
            told: Duration::ZERO,
            episode: None,
            early: None,
            ended: VecDeque::new(),
            last_answer: None,
            last_free: Duration::ZERO,
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
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the target has been tried: reached, or found to be out of reach.
    #[must_use]
    pub fn tried(&self) -> bool {
        self.tried
    }

    /// How long the state has held.
    #[must_use]
    pub fn held(&self, now: Moment) -> Duration {
        now.mono.saturating_sub(self.since)
    }

    /// Why the state holds, where there is something to say.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The latest blockage that has ended.
    #[must_use]
    pub fn last_blockage(&self) -> Option<&LastBlockage> {
        self.last_blockage.as_ref()
    }

    /// Whether it has ever answered anything.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.last_answer.is_some()
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

    /// Whether a blockage has ended that the slow log has not been asked about.
    pub(super) fn awaits_attribution(&self) -> bool {
        !self.ended.is_empty()
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

    /// An error came that the server gives before it looks whether it is BUSY: it lives, and may be blocked still.
    pub(super) fn complained(&mut self, now: Moment, events: &mut Vec<Event>) {
        self.last_answer = Some(now.mono);
        if self.episode.is_none() {
            self.answered(now, events);
        }
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
        running_for: Duration,
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        let began = now.mono.saturating_sub(running_for);
        if began < self.last_free {
            // The server has been free since: this is told late of something that has ended.
            return;
        }
        let Some(episode) = &mut self.episode else {
            self.early = Some((runner, began));
            return;
        };
        if episode.runner.is_none() {
            episode.since = episode.since.min(began);
        }
        if episode.runner.as_ref() != Some(&runner) {
            events.push(Event::Named(runner.clone()));
            (episode.runner, episode.runner_began) = (Some(runner), Some(began));
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
        (self.last_answer, self.last_free) = (Some(now.mono), now.mono);
        self.end(now, events);
        self.change(State::Unauthorized, Some(detail), now, events);
    }

    /// The server can't be reached.
    pub(super) fn unreachable(&mut self, detail: String, now: Moment, events: &mut Vec<Event>) {
        self.last_free = now.mono;
        self.end(now, events);
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
        while let Some(ended) = self.ended.pop_front() {
            resolved.extend(self.settle(&ended, entries, clock_ahead, events));
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
        let called = attribution.culprit.as_ref().and_then(|entry| Call::from_arguments(&entry.arguments));
        self.last_blockage = Some(LastBlockage {
            began: ended.began,
            blocked: ended.blocked,
            cause: attribution.cause,
            script: named.or(called.map(|call| call.script)),
        });
        events.push(Event::BlockageEnded {
            blocked: ended.blocked,
            cause: attribution.cause,
            culprit: attribution.culprit.clone(),
            runner: attribution.runner.clone(),
        });
        let script = attribution.runner?.script;
        Some((script, attribution.culprit?)).filter(|(script, _)| !script.sha1.is_empty())
    }

    fn begin(&mut self, since: Duration, now: Moment, events: &mut Vec<Event>) {
        let since = since.clamp(self.last_free.min(now.mono), now.mono);
        self.episode = Some(Episode { since, busy: None, runner: None, runner_began: None });
        events.push(Event::BlockageBegan);
        if let Some((runner, began)) = self.early.take() {
            self.named(runner, now.mono.saturating_sub(began), now, events);
        }
    }

    fn end(&mut self, now: Moment, events: &mut Vec<Event>) {
        let Some(episode) = self.episode.take() else { return };
        self.last_free = now.mono;
        if self.ended.len() >= MOST_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.settle(&oldest, &[], None, events);
        }
        let unix = |mono: Duration| now.unix.saturating_sub(now.mono.saturating_sub(mono));
        self.ended.push_back(Ended {
            began: unix(episode.since),
            blocked: now.mono.saturating_sub(episode.since),
            busy: episode.busy,
            runner: episode.runner.zip(episode.runner_began.map(unix)),
        });
    }

    fn change(&mut self, to: State, detail: Option<String>, now: Moment, events: &mut Vec<Event>) {
        self.detail.clone_from(&detail);
        if self.state != to || !self.tried {
            let from = self.tried.then_some(self.state);
            (self.state, self.tried, self.told, self.since) = (to, true, now.mono, now.mono);
            events.push(Event::StateChanged { from, to, detail });
        } else if let Some(detail) = detail
            && now.mono.saturating_sub(self.told) >= REMIND_AFTER
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
    fn at(ms: u64) -> Moment {
        let since_start = Duration::from_millis(ms);
        Moment { mono: since_start, unix: Duration::from_secs(1_700_000_000) + since_start }
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
        liveness.answered(at(0), &mut events);
        liveness.silent(ms(200), at(450), &mut events);
        assert_eq!((liveness.state(), liveness.blocked(at(1200))), (State::Blocked, ms(1000)));
        liveness.busy(BusyKind::Script, ms(200), at(5200), &mut events);
        liveness.busy(BusyKind::Script, ms(5400), at(5410), &mut events);
        assert_eq!(liveness.state(), State::Busy(BusyKind::Script));
        liveness.answered(at(6200), &mut events);
        assert_eq!((liveness.state(), liveness.blocked(at(6300))), (State::Ok, ms(0)));
        assert!(liveness.awaits_attribution());
        liveness.attribute(&[], None, &mut events);
        assert_eq!(tally(&liveness, Cause::Script), Tally { episodes: 1, micros: 6_000_000 });
        assert_eq!(busy_count(&liveness, BusyKind::Script), 1);
    }

    #[test]
    fn another_kind_of_busy_is_another_blockage() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.busy(BusyKind::Script, ms(0), at(10), &mut events);
        liveness.busy(BusyKind::Function, ms(1000), at(1010), &mut events);
        assert_eq!(liveness.state(), State::Busy(BusyKind::Function));
        assert_eq!(liveness.blocked(at(1020)), ms(10), "it begins where the other one ended");
        liveness.answered(at(2000), &mut events);
        liveness.attribute(&[], None, &mut events);
        assert_eq!(
            (tally(&liveness, Cause::Script).episodes, tally(&liveness, Cause::Function).episodes),
            (1, 1)
        );
    }

    #[test]
    fn a_lost_server_ends_its_blockage() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(at(0), &mut events);
        liveness.silent(ms(200), at(450), &mut events);
        liveness.unreachable("gone".to_owned(), at(1200), &mut events);
        assert_eq!((liveness.state(), liveness.blocked(at(2000))), (State::Unreachable, ms(0)));
        assert_eq!(tally(&liveness, Cause::Unknown), Tally { episodes: 1, micros: 1_000_000 });
        assert!(!liveness.awaits_attribution());
    }

    #[test]
    fn what_is_named_holds_only_while_it_runs() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(at(0), &mut events);
        liveness.busy(BusyKind::Function, ms(5200), at(5210), &mut events);
        liveness.named(Runner::function(b"slow"), ms(5100), at(5210), &mut events);
        assert_eq!(liveness.runner().unwrap().script.label.as_str(), "slow");
        assert_eq!(liveness.blocked(at(5210)), ms(5100), "the server knows better since when");
        liveness.answered(at(6000), &mut events);
        assert!(liveness.runner().is_none());
    }

    #[test]
    fn a_name_may_come_before_the_blockage_is_noticed_but_not_from_an_earlier_one() {
        let sha1 = "a".repeat(40);
        for (answered_at, named) in [(0, true), (150, false)] {
            let (mut liveness, mut events) = (Liveness::default(), Vec::new());
            liveness.answered(at(0), &mut events);
            liveness.named(Runner::logged(&sha1), ms(50), at(100), &mut events);
            liveness.answered(at(answered_at), &mut events);
            liveness.silent(ms(200), at(450), &mut events);
            assert_eq!(liveness.runner().is_some(), named);
        }
    }

    #[test]
    fn scripts_that_run_one_behind_the_other_are_each_attributed() {
        let (mut liveness, mut events) = (Liveness::default(), Vec::new());
        liveness.answered(at(0), &mut events);
        let mut entries = Vec::new();
        for (id, (name, begins)) in [("EVAL", 200), ("FCALL", 1700), ("EVAL", 3200)].into_iter().enumerate() {
            // SLOWLOG GET, which was sent when the one before had ended, is answered when this one has.
            liveness.silent(ms(begins), at(begins + 250), &mut events);
            liveness.answered(at(begins + 1500), &mut events);
            entries.push(Entry {
                id: u64::try_from(id).unwrap(),
                ended_at: at(begins + 1500).unix.as_secs(),
                duration: ms(1500),
                arguments: vec![name.as_bytes().to_vec(), b"f".to_vec()],
                client: String::new(),
                client_name: String::new(),
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
        liveness.busy(BusyKind::Script, ms(200), at(1200), &mut events);
        liveness.complained(at(1300), &mut events);
        assert_eq!((liveness.state(), liveness.blocked(at(1400))), (State::Busy(BusyKind::Script), ms(1200)));
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
                liveness.answered(at(now), &mut events);
                now += 200;
            }
            let ends = begins + length;
            liveness.silent(ms(now), at(now + BLOCKED_AFTER), &mut events);
            let shown = liveness.blocked(at(now + BLOCKED_AFTER));
            let truth = ms(now + BLOCKED_AFTER - begins);
            assert!(shown <= truth && truth <= shown + ms(200), "{shown:?} {truth:?}");
            if length > LIMIT {
                over_limit += 1;
                liveness.busy(BusyKind::Script, ms(now), at(begins + LIMIT), &mut events);
                now = begins + LIMIT + 200;
                while now < ends {
                    liveness.busy(BusyKind::Script, ms(now), at(now + 15), &mut events);
                    now += 200;
                }
                liveness.answered(at(now), &mut events);
            } else {
                now = ends;
                liveness.answered(at(now), &mut events);
            }
            let entry = Entry {
                id: scripts,
                ended_at: at(ends).unix.as_secs(),
                duration: ms(length),
                arguments: vec![b"EVAL".to_vec(), b"return 1".to_vec()],
                client: String::new(),
                client_name: String::new(),
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
        Named,
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
            1 => Just(Step::Named),
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
            let (mut now, mut free_since) = (0, 0);
            let mut before = liveness.clone();
            for (step, pause, waited) in steps {
                now += pause;
                // A request can't have been sent before the last ordinary answer came.
                let since = ms(now.saturating_sub(waited).max(free_since));
                let tells_of_state = !matches!(step, Step::Named | Step::Attribute(_) | Step::Complained);
                match step {
                    Step::Answered => liveness.answered(at(now), &mut events),
                    Step::Silent => liveness.silent(since, at(now), &mut events),
                    Step::Busy(kind) => liveness.busy(kind, since, at(now), &mut events),
                    Step::Named => liveness.named(Runner::function(b"f"), ms(waited), at(now), &mut events),
                    Step::Complained => liveness.complained(at(now), &mut events),
                    Step::Loading => liveness.loading(at(now), &mut events),
                    Step::Unauthorized => liveness.unauthorized(String::new(), at(now), &mut events),
                    Step::Unreachable => liveness.unreachable(String::new(), at(now), &mut events),
                    Step::Attribute(entries) => {
                        let entries: Vec<Entry> = entries.into_iter().map(|(name, duration)| Entry {
                            id: 0,
                            ended_at: at(now).unix.as_secs(),
                            duration: ms(duration),
                            arguments: vec![name.as_bytes().to_vec(), b"x".to_vec()],
                            client: String::new(),
                            client_name: String::new(),
                        }).collect();
                        liveness.attribute(&entries, Some(0.0), &mut events);
                    }
                }
                let blocking = matches!(liveness.state(), State::Blocked | State::Busy(_));
                if blocking {
                    prop_assert!(liveness.episode.is_some());
                    prop_assert!(liveness.blocked(at(now)) <= ms(now - free_since));
                } else {
                    free_since = if tells_of_state { now } else { free_since };
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
                prop_assert!(counted <= now * 1000, "{} µs of {} ms", counted, now);
                before = liveness.clone();
            }
            let began = events.iter().filter(|event| **event == Event::BlockageBegan).count();
            let ended = events.iter().filter(|event| matches!(event, Event::BlockageEnded { .. })).count();
            let open = usize::from(liveness.episode.is_some()) + liveness.ended.len();
            prop_assert_eq!(began, ended + open);
        }
    }
}
