//! Simulation of a server that runs scripts one after another, with delayed replies.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::tests::{at, ended, mono, ms};
use super::*;
use crate::watch::state::StateKind;

/// A call that keeps the simulated server busy. All times in the simulation are in milliseconds.
#[derive(Debug, Clone)]
struct Run {
    begins: u64,
    ends: u64,
    running_script: RunningScript,
}

/// Time limit of the simulated server.
const LIMIT: u64 = 3000;

/// A server, its log file, and one connection to it on which all replies are delayed. Requests are scheduled as in `poll/session.rs`.
struct Simulation {
    runs: Vec<Run>,
    /// State of the random number generator.
    chance: u64,
    liveness: Liveness,
    events: Vec<Event>,
    now: u64,
    /// Lines of the log: the time at which each is read, and the index of its run.
    lines: VecDeque<(u64, usize)>,
    /// Number of runs with a slow log entry that has been read.
    entries_read: usize,
}

enum Reply {
    Free,
    Busy(usize),
}

impl Simulation {
    fn new(runs: Vec<Run>, chance: u64) -> Self {
        let mut liveness = Liveness::default();
        liveness.set_time_limit(Some(ms(LIMIT)));
        let mut simulation = Self {
            runs,
            chance,
            liveness,
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

    /// Random number from 0 to `most`.
    fn up_to(&mut self, most: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % (most + 1)
    }

    /// Advances the time to `until`, reading the lines of the log that are due.
    fn pass(&mut self, until: u64) {
        while let Some((read, index)) = self.lines.front().copied().filter(|(read, _)| *read <= until) {
            self.lines.pop_front();
            let running_script = self.runs[index].running_script.clone();
            self.liveness.logged(running_script, ms(LIMIT), at(read), &mut self.events);
        }
        self.now = until;
    }

    /// Sends a request and reads the reply. Returns the times at which the request was sent and processed, and the reply.
    fn ask(&mut self) -> (u64, u64, Reply) {
        let asked = self.now;
        let mut worked_off = asked + self.up_to(50);
        let sent_late = self.up_to(1) == 1;
        let running = |time: u64| {
            let found = self.runs.iter().enumerate().find(|(_, run)| (run.begins..run.ends).contains(&time));
            found.map(|(index, run)| (index, run.clone()))
        };
        let (mut reply, mut sent) = (Reply::Free, 0);
        while let Some((index, run)) = running(worked_off) {
            let limit = worked_off.max(run.begins + LIMIT);
            if limit < run.ends {
                (worked_off, reply) = (limit, Reply::Busy(index));
                break;
            }
            worked_off = run.ends;
            // A run that follows immediately is processed either before this request, or after it but before the reply is sent.
            let next = self.runs.get(index + 1).filter(|next| next.begins == run.ends).cloned();
            if let Some(next) = next.filter(|_| sent_late) {
                sent = next.ends.min(next.begins + LIMIT);
                break;
            }
        }
        let read = worked_off.max(sent) + self.up_to(500);
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
                let kind = self.runs[*index].running_script.kind;
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
            let names = self.liveness.state().kind() == StateKind::Busy(BusyKind::Function);
            if self.liveness.state().kind() == StateKind::Ok && self.liveness.awaits_attribution() {
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
                    Reply::Busy(index) if self.runs[index].running_script.kind == BusyKind::Function => {
                        let Run { begins, running_script, .. } = self.runs[index].clone();
                        let name = running_script.script.label.as_str().to_owned();
                        let running_for = Some(ms(worked_off - begins));
                        let (asked, now) = (mono(asked), at(self.now));
                        self.liveness.running(name.as_bytes(), running_for, asked, now, &mut self.events);
                        assert_eq!(self.liveness.running_script(), Some(&running_script));
                        let blocked = self.liveness.blocked(now);
                        assert!(blocked.abs_diff(ms(self.now - begins)) <= ms(800), "{blocked:?}");
                    }
                    Reply::Free => self.liveness.inconclusive(at(self.now), &mut self.events),
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

    /// Reads the slow log as it was at `time`.
    fn attribute(&mut self, time: u64) {
        let written = self.runs.iter().filter(|run| run.ends <= time).count();
        let entries: Vec<Entry> = self.runs[self.entries_read..written]
            .iter()
            .map(|run| Entry {
                id: run.begins,
                ended_at: at(run.ends).unix.as_secs(),
                duration: ms(run.ends - run.begins),
                ..match run.running_script.kind {
                    BusyKind::Function => {
                        Entry::with_arguments(&["FCALL", run.running_script.script.label.as_str()])
                    }
                    _ => Entry::with_arguments(&["EVAL", "return 1"]),
                }
            })
            .collect();
        self.entries_read = written;
        // INFO was delayed too when the clocks were compared.
        let ahead = -ms(self.up_to(500)).as_secs_f64();
        self.liveness.attribute(&entries, Some(ahead), &mut self.events);
    }
}

/// `--heartbeat.blocked-after` of the simulation: longer than the maximum delay of a reply.
const BLOCKED_AFTER: u64 = 600;

/// Generates runs: pauses (half of them zero), lengths (some below the limit) and scripts or functions.
fn any_runs() -> impl Strategy<Value = Vec<Run>> {
    let runners = vec![
        RunningScript::function(b"one"),
        RunningScript::function(b"two"),
        RunningScript::logged(&"1".repeat(40)),
        RunningScript::logged(&"2".repeat(40)),
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
        for (pause, length, running_script) in drawn {
            // Without a gap, a run below the limit can't be distinguished from the run after it.
            let short = length < LIMIT;
            now += if below_limit { pause.max(4000) } else { pause };
            below_limit = short;
            runs.push(Run { begins: now, ends: now + length, running_script });
            now += length;
        }
        runs
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whichever_answers_are_late_each_run_is_one_blockage_with_its_name(
        runs in any_runs(),
        chance in any::<u64>(),
    ) {
        let mut simulation = Simulation::new(runs.clone(), chance);
        simulation.run();
        let told = ended(&simulation.events);
        prop_assert_eq!(told.len(), runs.len(), "{:?}", told);
        for ((cause, blocked, running_script), run) in told.iter().zip(&runs) {
            prop_assert_eq!(*cause, Cause::of_kind(run.running_script.kind), "{:?}", told);
            let length = ms(run.ends - run.begins);
            // Three replies take at most 550 ms each: one that was sent before the end, one to FUNCTION STATS, which does not
            // show that the server is free, and one to the next heartbeat.
            prop_assert!(blocked.abs_diff(length) <= ms(3 * 550), "{:?} of {:?}", blocked, run);
            if length > ms(LIMIT) {
                prop_assert_eq!(running_script.as_ref(), Some(&run.running_script), "{:?}", told);
            }
        }
        let over_limit = runs.iter().filter(|run| run.ends - run.begins > LIMIT).count();
        let busy: u64 = simulation.liveness.busy_episodes().map(|(_, count)| count).sum();
        prop_assert_eq!(busy, u64::try_from(over_limit).unwrap());
    }
}
