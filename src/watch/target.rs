//! The numbers of one target, all in one place: `Target::step` is the only thing that changes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::{Account, SavedAccount, Take, Who};
use super::event::Event;
use super::exporter::{ExporterNumbers, FailureReason, Feature};
use super::latest::LatestCalls;
use super::ledger::{Book, Ledger};
use super::liveness::{Liveness, Runner, State};
use super::scripts::{SavedScripts, Scripts, Thresholds};
use super::server::{SavedServer, ServerFacts};
use crate::clock::{Mono, Timestamps};
use crate::parse::{BusyKind, Info, RunningFunction, Settings, SlowScriptLine, SlowlogReply};

/// Errors that our heartbeat draws from the server (BUSY, LOADING, MASTERDOWN) come at most this often.
const ERROR_INTERVAL: Duration = Duration::from_secs(1);

/// An unexpected answer that stays the same is told again after this time.
const REMIND_AFTER: Duration = Duration::from_secs(600);

/// Another unexpected answer to the same command is told after this time.
const TELL_ANOTHER_AFTER: Duration = Duration::from_secs(60);

/// Lost entries are told of at most this often.
const TELL_LOST_INTERVAL: Duration = Duration::from_secs(10);

/// What the edge saw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Observation {
    /// A new connection was made; nothing was asked on it yet.
    Connected,
    /// An ordinary answer came to a request that a BUSY server refuses.
    Answered {
        /// When the request was sent.
        since: Mono,
    },
    /// An answer came that the server also gives while it is BUSY: FUNCTION STATS, or an error that comes before it looks
    /// whether it is (no permission, unknown, and the like).
    Complained,
    /// An answer of any kind to the heartbeat came, after this time.
    Heartbeat {
        /// From sending to the answer.
        round_trip: Duration,
    },
    /// A request is unanswered for longer than `--heartbeat.blocked-after`, and connections are accepted.
    Silent {
        /// When it was sent.
        since: Mono,
    },
    /// A request was answered BUSY.
    Busy {
        /// With what.
        kind: BusyKind,
        /// Whether the server counted this as a BUSY error.
        counted: bool,
        /// When the request was sent.
        since: Mono,
    },
    /// A request was answered LOADING.
    Loading {
        /// When the request was sent.
        since: Mono,
    },
    /// The server does not accept who we are.
    Unauthorized {
        /// Why, and what to do.
        detail: String,
    },
    /// The server can't be reached.
    Unreachable {
        /// Why.
        detail: String,
    },
    /// A poll begins.
    PollBegan,
    /// A poll was answered.
    Polled {
        /// How long it took.
        took: Duration,
    },
    /// A poll was not answered as it should.
    PollFailed {
        /// Why.
        reason: FailureReason,
    },
    /// The server answered something that it should not; told once and then rarely.
    Trouble {
        /// What was asked.
        command: &'static str,
        /// What came.
        detail: String,
    },
    /// SLOWLOG GET was answered.
    Slowlog(SlowlogReply),
    /// The answer to SLOWLOG GET was larger than we take.
    SlowlogTooLarge,
    /// The connection broke before SLOWLOG GET was answered.
    SlowlogBroken,
    /// The slow log can't be read now.
    SlowlogUnreadable,
    /// SLOWLOG LEN was answered.
    SlowlogLength(u64),
    /// INFO was answered.
    Info(Box<Info>),
    /// INFO can't be read: the server does not tell who it is.
    Anonymous,
    /// CONFIG GET was answered.
    Settings(Settings),
    /// FUNCTION STATS named what runs: the server is BUSY.
    Running {
        /// What runs.
        function: RunningFunction,
        /// When the request was sent.
        since: Mono,
    },
    /// The server's log named what runs.
    Logged(SlowScriptLine),
    /// It turned out whether the server lets us ask something.
    Capability {
        /// What.
        feature: Feature,
        /// Whether it does.
        available: bool,
        /// Why not and what to do about it; `None` if that is how such servers are.
        problem: Option<String>,
    },
}

/// What a step asks of the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Go on as planned.
    Continue,
    /// Read the slow log again: the reply did not reach back far enough.
    ReadOn,
    /// Find out which server answers, and read the slow log again.
    Identify,
}

/// What a step led to.
#[derive(Debug)]
pub(crate) struct Reaction {
    /// What somebody should be told.
    pub(crate) events: Vec<Event>,
    /// What to do next.
    pub(crate) next: Next,
}

/// How to ask for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// PING.
    Ping,
    /// MULTI and EXEC: while the server is BUSY, MULTI works and EXEC is answered EXECABORT, which the server
    /// does not count as a BUSY error (measured on 6.2.14, 7.0.15, Valkey 9.1.2).
    Transaction,
    /// SLOWLOG LEN, where the user may run neither of the others.
    SlowlogLen,
}

/// Heartbeats in the order of preference, and what shows whether they can be had.
const HEARTBEATS: [(Heartbeat, Feature); 3] = [
    (Heartbeat::Ping, Feature::Ping),
    (Heartbeat::Transaction, Feature::Transaction),
    (Heartbeat::SlowlogLen, Feature::SlowlogLength),
];

/// What is kept of a target over restarts of the exporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedTarget {
    account: SavedAccount,
    scripts: SavedScripts,
    /// Slow log entries that were gone before they could be read, or are unreadable.
    lost: u64,
    /// The unreadable ones among them.
    #[serde(default)]
    unreadable: u64,
    server: SavedServer,
    /// BUSY errors that the exporter itself drew.
    busy_replies: u64,
}

impl SavedTarget {
    /// Leaves out what is worth least: positions in the logs of other servers, then the numbers of each script. Whether
    /// there was any.
    pub(crate) fn shorten(&mut self) -> bool {
        self.account.forget_others() || self.scripts.forget_each()
    }
}

/// A target as it was at one moment, to be saved.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Grows with every change that has to be saved at once.
    pub(crate) revision: u64,
    /// Whether a server was ever identified or read: else there is nothing to keep.
    pub(crate) begun: bool,
    account: SavedAccount,
    book: Arc<Book>,
    server: SavedServer,
    busy_replies: u64,
}

impl Snapshot {
    /// What is to be written.
    pub(crate) fn saved(&self) -> SavedTarget {
        SavedTarget {
            account: self.account.clone(),
            scripts: self.book.scripts.saved(),
            lost: self.book.lost,
            unreadable: self.book.unreadable,
            server: self.server.clone(),
            busy_replies: self.busy_replies,
        }
    }
}

/// All numbers of one target.
#[derive(Debug)]
pub(crate) struct Target {
    /// The label `target`.
    name: Arc<str>,
    /// State and blockages.
    liveness: Liveness,
    /// Position in the slow log.
    account: Account,
    /// What the slow log has come to.
    books: Ledger,
    /// What the server says about itself.
    server: ServerFacts,
    /// The exporter's own numbers.
    exporter: ExporterNumbers,
    /// Our own BUSY errors before the present connection.
    own_busy_elsewhere: u64,
    /// The last heartbeat was answered with an error that servers count.
    draws_errors: bool,
    /// The unexpected answer to each command that was last told, and when.
    told_trouble: BTreeMap<&'static str, (String, Mono)>,
    /// When lost entries were last told.
    told_lost: Option<Mono>,
    /// Lost entries that were not told yet.
    untold_lost: u64,
}

impl Target {
    /// A target that was never tried.
    #[must_use]
    pub(crate) fn new(name: Arc<str>, slow: Thresholds, buckets: Arc<[f64]>, max_scripts: usize) -> Self {
        let scripts = Scripts::new(slow, buckets, max_scripts);
        let book = Book { scripts, lost: 0, unreadable: 0, latest: LatestCalls::default() };
        Self {
            name,
            liveness: Liveness::default(),
            account: Account::default(),
            books: Ledger::new(book),
            server: ServerFacts::default(),
            exporter: ExporterNumbers::default(),
            own_busy_elsewhere: 0,
            draws_errors: false,
            told_trouble: BTreeMap::new(),
            told_lost: None,
            untold_lost: 0,
        }
    }

    /// From now on numbers from the slow log are shown only once they are saved.
    pub(crate) fn save_first(&mut self) {
        self.books.save_first();
    }

    /// Takes over what a former process saved; called before the target is tried. Whether all of it could be: histograms
    /// of other bounds start anew.
    pub(crate) fn restore(&mut self, saved: SavedTarget) -> bool {
        let SavedTarget { account, scripts, lost, unreadable, server, busy_replies } = saved;
        self.account = Account::restored(account);
        self.server = ServerFacts::restored(server);
        self.exporter.busy_replies = busy_replies;
        self.books.restore(|book| {
            book.lost = lost;
            book.unreadable = unreadable;
            book.scripts.restore(scripts)
        })
    }

    /// What there is to save now.
    pub(crate) fn snapshot(&self, now: Timestamps) -> Snapshot {
        Snapshot {
            begun: self.account.is_begun(),
            revision: self.books.revision(),
            account: self.account.saved(now),
            book: Arc::clone(self.books.latest()),
            server: self.server.saved(),
            busy_replies: self.exporter.busy_replies,
        }
    }

    /// Goes on for `old`, which ends: what it waited to tell is told when this target's numbers are saved.
    pub(crate) fn succeed(&mut self, old: &mut Self) {
        self.books.succeed(&mut old.books);
    }

    /// Whether something waits to be saved.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.books.is_unsaved()
    }

    /// A snapshot is saved, or can't be: it may be shown now, and what happened until then be told.
    pub(crate) fn saved(&mut self, snapshot: Snapshot) -> Vec<Event> {
        self.books.saved(snapshot.revision, snapshot.book)
    }

    /// The label `target`.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// State and blockages.
    #[must_use]
    pub(crate) fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Numbers of scripts.
    #[must_use]
    pub(crate) fn scripts(&self) -> &Scripts {
        &self.books.shown().scripts
    }

    /// What the server says about itself.
    #[must_use]
    pub(crate) fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// The exporter's own numbers.
    #[must_use]
    pub(crate) fn exporter(&self) -> &ExporterNumbers {
        &self.exporter
    }

    /// Slow log entries that were gone before they could be read, or are unreadable.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.books.shown().lost
    }

    /// The unreadable ones among the lost slow log entries.
    #[must_use]
    pub(crate) fn unreadable(&self) -> u64 {
        self.books.shown().unreadable
    }

    /// Whether entries of the slow log can be read: false while all that it holds can't be.
    #[must_use]
    pub(crate) fn reads_slowlog(&self) -> bool {
        self.account.is_readable()
    }

    /// Whether the server lets us ask this and the answer can be read; `None` until it is known.
    #[must_use]
    pub(crate) fn capability(&self, feature: Feature) -> Option<bool> {
        let granted = self.exporter.capability(feature);
        granted.map(|granted| granted && (feature != Feature::Slowlog || self.reads_slowlog()))
    }

    /// The latest slow calls.
    #[must_use]
    pub(crate) fn latest_calls(&self) -> &LatestCalls {
        &self.books.shown().latest
    }

    /// Entries to ask SLOWLOG GET for.
    pub(crate) fn slowlog_ask(&self) -> usize {
        self.account.ask()
    }

    /// Time to leave until the next poll of the slow log.
    pub(crate) fn poll_interval(&self, longest: Duration) -> Duration {
        if self.liveness.awaits_attribution() { Duration::ZERO } else { self.account.interval(longest) }
    }

    /// How to ask for a sign of life at `now`: while BUSY in a way that draws no BUSY error, and always in one that is
    /// not refused for a reason of its own.
    pub(crate) fn heartbeat(&self, now: Timestamps) -> Heartbeat {
        if matches!(self.liveness.state(), State::Busy(_)) && self.may_ask(Feature::Transaction) {
            return Heartbeat::Transaction;
        }
        if self.worth_asking(Feature::Ping, now) {
            return Heartbeat::Ping;
        }
        let other = HEARTBEATS.iter().find(|(_, feature)| self.may_ask(*feature));
        other.map_or(Heartbeat::Ping, |(heartbeat, _)| *heartbeat)
    }

    /// Time to leave between two heartbeats.
    pub(crate) fn heartbeat_interval(&self, usual: Duration) -> Duration {
        let refused = !HEARTBEATS.iter().any(|(_, feature)| self.may_ask(*feature));
        if self.draws_errors || refused { usual.max(ERROR_INTERVAL) } else { usual }
    }

    /// Whether the server lets us ask this, or it is not known yet.
    fn may_ask(&self, feature: Feature) -> bool {
        self.exporter.capability(feature).unwrap_or(true)
    }

    /// Whether to ask this now: it is not known to be refused, or it is time to try again.
    pub(crate) fn worth_asking(&self, feature: Feature, now: Timestamps) -> bool {
        self.exporter.worth_asking(feature, now.mono)
    }

    /// Whether a function runs that FUNCTION STATS could name, and the server has FUNCTION.
    pub(crate) fn wants_function_name(&self) -> bool {
        self.liveness.state() == State::Busy(BusyKind::Function) && self.may_ask(Feature::FunctionStats)
    }

    /// Takes an observation made at `now`.
    pub(crate) fn step(&mut self, observation: Observation, now: Timestamps) -> Reaction {
        let mut events = Vec::new();
        let before = (self.account.revision(), self.exporter.busy_replies);
        let next = self.apply(observation, now, &mut events);
        if before != (self.account.revision(), self.exporter.busy_replies) {
            self.books.touch();
        }
        Reaction { events, next }
    }

    fn apply(&mut self, observation: Observation, now: Timestamps, events: &mut Vec<Event>) -> Next {
        let liveness = &mut self.liveness;
        match observation {
            Observation::Connected => {
                self.own_busy_elsewhere = self.exporter.busy_replies;
            }
            Observation::Heartbeat { round_trip } => liveness.heartbeat(round_trip),
            Observation::Answered { since } => {
                self.draws_errors = false;
                liveness.answered(since, now, events);
            }
            Observation::Complained => {
                self.draws_errors = false;
                if HEARTBEATS.iter().any(|(_, feature)| self.exporter.capability(*feature) != Some(false)) {
                    liveness.complained(now, events);
                } else {
                    // Nothing else is to be had from this server: it lives.
                    liveness.presumed_free(now, events);
                }
            }
            Observation::Silent { since } => liveness.silent(since, now, events),
            Observation::Busy { kind, counted, since } => {
                self.draws_errors = counted;
                self.exporter.busy_replies += u64::from(counted);
                liveness.busy(kind, since, now, events);
            }
            Observation::Loading { since } => {
                self.draws_errors = true;
                liveness.loading(since, now, events);
            }
            Observation::Unauthorized { detail } => liveness.unauthorized(detail, now, events),
            Observation::Unreachable { detail } => liveness.unreachable(detail, now, events),
            Observation::PollBegan => self.exporter.polls += 1,
            Observation::Polled { took } => {
                self.exporter.poll_duration.observe(took);
                self.exporter.last_poll = Some(now.unix);
            }
            Observation::PollFailed { reason } => *self.exporter.failures.entry(reason).or_default() += 1,
            Observation::Trouble { command, detail } => self.trouble(command, detail, now, events),
            Observation::Slowlog(reply) => return self.slowlog(reply, now, events),
            Observation::SlowlogTooLarge => self.account.too_large(now.mono),
            Observation::SlowlogBroken => self.account.broken(now.mono),
            Observation::SlowlogUnreadable => {
                liveness.attribute(&[], None, events);
            }
            Observation::SlowlogLength(entries) => self.server.set_slowlog_length(entries),
            Observation::Info(info) => {
                let who =
                    Who { run_id: info.run_id.as_deref(), uptime: info.uptime, past: info.slowlog_past };
                self.account.identify(who, now.mono);
                let own = self.exporter.busy_replies;
                self.server.set_info(*info, own, self.own_busy_elsewhere, now);
            }
            Observation::Anonymous => {
                self.server.forget_info();
                self.account.identify(Who::default(), now.mono);
            }
            Observation::Settings(settings) => {
                if let Some(entries) = settings.slowlog_max_len {
                    self.account.set_ring(entries);
                }
                if let Some(threshold) = settings.slowlog_threshold {
                    self.account.set_threshold(threshold);
                }
                self.server.set_settings(settings);
            }
            Observation::Running { function, since } => {
                liveness.running(&function.name, function.running_for, since, now, events);
            }
            Observation::Logged(line) => {
                liveness.logged(Runner::logged(&line.name), line.running_for, now, events);
            }
            Observation::Capability { feature, available, problem } => {
                match feature {
                    Feature::Config if !available => self.server.forget_settings(),
                    Feature::SlowlogLength if !available => self.server.forget_slowlog_length(),
                    _ => {}
                }
                if self.exporter.set_capability(feature, available, now.mono)
                    && (available || problem.is_some())
                {
                    events.push(Event::Capability { feature, available, problem });
                }
            }
        }
        Next::Continue
    }

    /// Tells of an unexpected answer, once and then rarely.
    fn trouble(&mut self, command: &'static str, detail: String, now: Timestamps, events: &mut Vec<Event>) {
        let due = self.told_trouble.get(command).is_none_or(|(before, at)| {
            let pause = if *before == detail { REMIND_AFTER } else { TELL_ANOTHER_AFTER };
            now.mono.since(*at) >= pause
        });
        if due {
            self.told_trouble.insert(command, (detail.clone(), now.mono));
            events.push(Event::Trouble { command, detail });
        }
    }

    fn slowlog(&mut self, reply: SlowlogReply, now: Timestamps, events: &mut Vec<Event>) -> Next {
        let (new, lost, unreadable) = match self.account.take(reply, now.mono) {
            Take::More => return Next::ReadOn,
            Take::Rewound => return Next::Identify,
            Take::Done { new, lost, unreadable } => (new, lost, unreadable),
        };
        let mut ended = Vec::new();
        let resolved = self.liveness.attribute(&new, self.server.clock_ahead(), &mut ended);
        let tell = self.tell_lost(lost.saturating_sub(unreadable), now);
        if !new.is_empty() || lost > 0 || tell.is_some() {
            self.books.change(events, |book, events| {
                book.lost = book.lost.saturating_add(lost);
                book.unreadable = book.unreadable.saturating_add(unreadable);
                events.extend(tell);
                for call in new.iter().filter_map(|entry| book.scripts.take(entry)) {
                    book.latest.push(call.clone());
                    events.push(Event::SlowScript(call));
                }
                for (script, entry) in &resolved {
                    if let Some(call) = &entry.call {
                        book.scripts.resolve(&call.script.label, script);
                    }
                }
            });
        }
        events.append(&mut ended);
        Next::Continue
    }

    /// What is to be told of lost entries: at once, and then now and then.
    fn tell_lost(&mut self, count: u64, now: Timestamps) -> Option<Event> {
        self.untold_lost = self.untold_lost.saturating_add(count);
        let due = self.told_lost.is_none_or(|at| now.mono.since(at) >= TELL_LOST_INTERVAL);
        if self.untold_lost == 0 || !due {
            return None;
        }
        self.told_lost = Some(now.mono);
        Some(Event::EntriesLost { count: std::mem::take(&mut self.untold_lost) })
    }
}
