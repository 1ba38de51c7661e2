//! All state of one target. Observations change it only through [`Target::step`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::{Account, Reconciliation, SavedAccount, ServerIdentity};
use super::event::Event;
use super::exporter::{Absence, ExporterStats, Feature};
use super::history::Attributed;
use super::incidents::{Incident, OutcomeCounts};
use super::latest::LatestCalls;
use super::ledger::{Ledger, Totals};
use super::liveness::Liveness;
use super::observation::{Next, Observation, Reaction};
use super::running_script::RunningScript;
use super::scripts::{SavedScripts, Scripts};
use super::server::{SavedServer, ServerFacts};
use super::slow_call::{SlowCall, Thresholds};
use super::state::{State, StateKind};
use crate::clock::{Mono, Timestamps, Unix};
use crate::guard::{
    Caller, Confirmation, Decision, Guard, GuardContext, GuardReport, Named, NamedLine, Policy, SavedGuard,
};
use crate::parse::{BusyKind, Command, Entry, Info, SlowlogReply};
use crate::script::NamedScript;
use crate::text::Trouble;

/// Minimum interval between heartbeats that cause an error on the server (BUSY, LOADING, MASTERDOWN).
const ERROR_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which the same unexpected reply is logged again.
const REMIND_AFTER: Duration = Duration::from_secs(600);

/// Minimum interval between log messages about different unexpected replies to the same command.
const LOG_ANOTHER_AFTER: Duration = Duration::from_secs(60);

/// Minimum interval between log messages about lost entries.
const LOG_LOST_INTERVAL: Duration = Duration::from_secs(10);

/// Time after the last loss of entries for which a target is considered to be losing entries.
const LOSING: Duration = Duration::from_secs(3600);

/// Command of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// PING.
    Ping,
    /// MULTI and EXEC. While the server is BUSY, MULTI succeeds and EXEC is answered with EXECABORT, which the server does not
    /// count as a BUSY error (measured on Redis 6.2.14, 7.0.15 and Valkey 9.1.2).
    Transaction,
    /// SLOWLOG LEN, for users without permission for the other commands.
    SlowlogLen,
}

/// Heartbeats in order of preference, with the features they need.
const HEARTBEATS: [(Heartbeat, Feature); 3] = [
    (Heartbeat::Ping, Feature::Ping),
    (Heartbeat::Transaction, Feature::Transaction),
    (Heartbeat::SlowlogLen, Feature::SlowlogLength),
];

/// Part of a target that is kept across restarts of the exporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedTarget {
    account: SavedAccount,
    scripts: SavedScripts,
    /// Number of slow log entries that were overwritten or reset before they could be read, or that are unreadable.
    lost: u64,
    /// Number of unreadable entries among the lost ones.
    #[serde(default)]
    unreadable: u64,
    server: SavedServer,
    /// Number of BUSY errors that the exporter itself caused.
    busy_replies: u64,
    /// Ended incidents; missing in files of earlier versions.
    #[serde(default)]
    incidents: Vec<Incident>,
    #[serde(default, skip_serializing_if = "SavedGuard::is_empty")]
    guard: SavedGuard,
    /// Latest slow calls; missing in files of format version 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    latest: Vec<(SlowCall, bool)>,
}

impl SavedTarget {
    /// Removes client addresses and names, which a previous process without `--web.hide-clients` may have saved.
    pub(crate) fn hide_clients(&mut self) {
        self.scripts.forget_callers();
        for incident in &mut self.incidents {
            incident.hide_client();
        }
        for (call, _) in &mut self.latest {
            call.client.clear();
            call.client_name.clear();
        }
    }

    /// Drops the least valuable part that is not empty, in this order: positions in the logs of other servers, latest calls,
    /// callers, incidents, counters of individual scripts. Returns false if all are empty.
    pub(crate) fn shorten(&mut self) -> bool {
        self.account.forget_others()
            || !std::mem::take(&mut self.latest).is_empty()
            || self.scripts.forget_callers()
            || !std::mem::take(&mut self.incidents).is_empty()
            || self.scripts.forget_each()
    }
}

/// Snapshot of a target, to be saved.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Incremented by every change that has to be saved immediately.
    pub(crate) revision: u64,
    /// True if a server was ever identified, its log was ever read or its guard has acted; otherwise there is nothing to keep.
    pub(crate) begun: bool,
    account: SavedAccount,
    totals: Arc<Totals>,
    server: SavedServer,
    busy_replies: u64,
    incidents: Arc<VecDeque<Incident>>,
    guard: SavedGuard,
}

impl Snapshot {
    /// Returns the content for the state file.
    pub(crate) fn saved(&self) -> SavedTarget {
        SavedTarget {
            account: self.account.clone(),
            scripts: self.totals.scripts.saved(),
            lost: self.totals.lost,
            unreadable: self.totals.unreadable,
            server: self.server.clone(),
            busy_replies: self.busy_replies,
            incidents: self.incidents.iter().cloned().collect(),
            guard: self.guard.clone(),
            latest: self.totals.latest.saved(),
        }
    }
}

/// All state of one target.
#[derive(Debug)]
pub(crate) struct Target {
    liveness: Liveness,
    /// Position in the slow log, which separates new entries from counted ones.
    account: Account,
    /// Totals from the slow log: the exposed ones, and those not saved yet.
    ledger: Ledger,
    /// Facts from INFO, CONFIG GET and SLOWLOG LEN.
    server: ServerFacts,
    /// Counters of polls and failures, and capabilities.
    exporter: ExporterStats,
    /// Time of creation, by the exporter's clock.
    created: Unix,
    /// Number of BUSY errors that the exporter caused before the current connection.
    own_busy_elsewhere: u64,
    /// True if the last heartbeat was answered with an error that servers count.
    causes_errors: bool,
    /// Last logged unexpected reply to each command, and the time at which it was logged.
    logged_unexpected: BTreeMap<&'static str, (String, Mono)>,
    /// Time at which lost entries were last logged.
    logged_lost: Option<Mono>,
    /// Number of lost entries that have not been logged yet.
    unlogged_lost: u64,
    /// Time at which entries were last lost.
    lost_at: Option<Mono>,
    /// Number of addresses of the host name when the last connection was established; 0 before the first.
    addresses: usize,
    /// True once the slow log has been read to its end, or could not be read.
    has_baseline: bool,
    guard: Option<Guard>,
}

impl Target {
    /// Creates a target that has not been tried.
    #[must_use]
    pub(crate) fn new(slow: Thresholds, buckets: Arc<[f64]>, max_scripts: usize, created: Unix) -> Self {
        let scripts = Scripts::new(slow, buckets, max_scripts, created);
        let totals = Totals { scripts, lost: 0, unreadable: 0, latest: LatestCalls::default() };
        Self {
            liveness: Liveness::default(),
            account: Account::default(),
            ledger: Ledger::new(totals),
            server: ServerFacts::default(),
            exporter: ExporterStats::default(),
            created,
            own_busy_elsewhere: 0,
            causes_errors: false,
            logged_unexpected: BTreeMap::new(),
            logged_lost: None,
            unlogged_lost: 0,
            lost_at: None,
            addresses: 0,
            has_baseline: false,
            guard: None,
        }
    }

    /// Exposes counters from the slow log only once they are saved, from now on.
    pub(crate) fn enable_durability(&mut self) {
        self.ledger.enable_durability();
    }

    /// Enables a guard, which decides which scripts are killed; must be called before [`Self::restore`].
    /// `heartbeat` is the heartbeat interval.
    pub(crate) fn enable_guard(&mut self, policy: Policy, heartbeat: Duration) {
        self.guard = Some(Guard::new(policy, heartbeat));
    }

    /// Restores the state saved by a previous process; must be called before the target is tried. Returns false if the
    /// histogram bounds have changed, in which case the histograms start at 0 again.
    pub(crate) fn restore(&mut self, saved: SavedTarget) -> bool {
        let SavedTarget {
            account,
            scripts,
            lost,
            unreadable,
            server,
            busy_replies,
            incidents,
            guard,
            latest,
        } = saved;
        self.liveness.restore(incidents);
        if let Some(own) = &mut self.guard {
            own.restore(guard);
        }
        self.account = Account::restored(account);
        self.server = ServerFacts::restored(server);
        self.exporter.busy_replies = busy_replies;
        self.ledger.restore(|totals| {
            totals.lost = lost;
            totals.unreadable = unreadable;
            totals.latest.restore(latest);
            totals.scripts.restore(scripts)
        })
    }

    /// Returns a snapshot of the state to save.
    pub(crate) fn snapshot(&self, now: Timestamps) -> Snapshot {
        let guard = self.guard.as_ref().map(Guard::saved).unwrap_or_default();
        Snapshot {
            begun: self.account.is_begun() || !guard.is_empty(),
            revision: self.ledger.revision(),
            account: self.account.saved(now),
            totals: Arc::clone(self.ledger.pending()),
            server: self.server.saved(),
            busy_replies: self.exporter.busy_replies,
            incidents: self
                .liveness
                .saved_incidents(self.guard.as_ref().and_then(|guard| guard.unanswered(now)), now),
            guard,
        }
    }

    /// Replaces `old`, which is being removed. The events it still holds are returned when this target's counters are saved.
    pub(crate) fn replace(&mut self, old: &mut Self) {
        self.ledger.inherit(&mut old.ledger);
    }

    /// True if a change has to be saved.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.ledger.is_unsaved()
    }

    /// Current revision of the state to save.
    pub(crate) fn revision(&self) -> u64 {
        self.ledger.revision()
    }

    /// True if the state of this revision is saved, or can't be, or need not be.
    pub(crate) fn is_written(&self, revision: u64) -> bool {
        self.ledger.is_written(revision)
    }

    /// Commits the counters of a snapshot that is saved, or can't be. Returns the events up to the snapshot.
    pub(crate) fn saved(&mut self, snapshot: Snapshot) -> Vec<Event> {
        self.ledger.saved(snapshot.revision, snapshot.totals)
    }

    /// Returns the state, the blockage in progress and the totals of ended blockages.
    #[must_use]
    pub(crate) fn liveness(&self) -> &Liveness {
        &self.liveness
    }

    /// Returns the committed counters of scripts.
    #[must_use]
    pub(crate) fn scripts(&self) -> &Scripts {
        &self.ledger.committed().scripts
    }

    /// Returns the latest INFO, settings and length of the slow log.
    #[must_use]
    pub(crate) fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// Returns the counters of polls, failures and capabilities.
    #[must_use]
    pub(crate) fn exporter(&self) -> &ExporterStats {
        &self.exporter
    }

    /// Time of creation, since the Unix epoch by the exporter's clock: the start of all counters that are not saved.
    #[must_use]
    pub(crate) fn created(&self) -> Duration {
        self.created.since_epoch()
    }

    /// Guard, if the target has one.
    #[must_use]
    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    /// Next step of the guard. `script` is the script returned by [`Guard::script`] with its name.
    #[must_use]
    pub(crate) fn guard_decision(&self, script: Option<&NamedScript>, now: Timestamps) -> Decision {
        let Some(guard) = &self.guard else { return Decision::Idle };
        guard.decide(guard_facts(&self.server, script), now)
    }

    /// Time at which the guard must query what is running, if heartbeats are not frequent enough.
    #[must_use]
    pub(crate) fn guard_probe_at(&self) -> Option<Mono> {
        self.guard.as_ref()?.probe_at(self.server.settings().time_limit)
    }

    /// Time limit of the server, as used by the guard.
    #[must_use]
    pub(crate) fn guard_limit(&self) -> Duration {
        Guard::limit(self.server.settings().time_limit)
    }

    /// Number of slow log entries that were overwritten or reset before they could be read, or that are unreadable.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.ledger.committed().lost
    }

    /// True if slow log entries were lost in the last hour, as far as this process knows.
    #[must_use]
    pub(crate) fn lost_recently(&self, now: Timestamps) -> bool {
        self.lost_at.is_some_and(|at| now.mono.since(at) < LOSING)
    }

    /// Number of unreadable entries among the lost ones.
    #[must_use]
    pub(crate) fn unreadable(&self) -> u64 {
        self.ledger.committed().unreadable
    }

    /// True if the latest reply to SLOWLOG GET exceeded the size limit.
    #[must_use]
    pub(crate) fn is_slowlog_too_large(&self) -> bool {
        self.account.is_too_large()
    }

    /// False while the slow log has entries but none of them can be read.
    #[must_use]
    pub(crate) fn reads_slowlog(&self) -> bool {
        self.account.is_readable()
    }

    /// Number of addresses of the host name when the last connection was established; 0 before the first.
    #[must_use]
    pub(crate) fn addresses(&self) -> usize {
        self.addresses
    }

    /// True once the server has been tried and, if it answers, the content of its slow log is known, so that later calls are counted.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        match self.liveness.state() {
            State::Ok => self.has_baseline,
            state => state.is_tried(),
        }
    }

    /// True if the feature is available and its replies can be read; `None` until it has been tried.
    #[must_use]
    pub(crate) fn capability(&self, feature: Feature) -> Option<bool> {
        let available = self.exporter.capability(feature);
        available.map(|available| available && (feature != Feature::Slowlog || self.reads_slowlog()))
    }

    /// Latest slow calls.
    #[must_use]
    pub(crate) fn latest_calls(&self) -> &LatestCalls {
        &self.ledger.committed().latest
    }

    /// Number of entries to request with SLOWLOG GET.
    pub(crate) fn slowlog_request(&self) -> usize {
        self.account.request()
    }

    /// Pause until the next poll of the slow log.
    pub(crate) fn poll_interval(&self, longest: Duration) -> Duration {
        if self.liveness.awaits_attribution() { Duration::ZERO } else { self.account.interval(longest) }
    }

    /// Command of the next heartbeat: while the server is BUSY, one that causes no BUSY error; otherwise the first available one.
    pub(crate) fn heartbeat(&self, now: Timestamps) -> Heartbeat {
        if matches!(self.liveness.state(), State::Busy(..) | State::BusySilent(..))
            && self.may_use(Feature::Transaction)
        {
            return Heartbeat::Transaction;
        }
        if self.should_try(Feature::Ping, now) {
            return Heartbeat::Ping;
        }
        let other = HEARTBEATS.iter().find(|(_, feature)| self.may_use(*feature));
        other.map_or(Heartbeat::Ping, |(heartbeat, _)| *heartbeat)
    }

    /// Heartbeat interval: `configured` while the server is blocked, otherwise `usual`, which is longer if there are too many
    /// targets. At least [`ERROR_INTERVAL`] if heartbeats cause errors.
    pub(crate) fn heartbeat_interval(&self, configured: Duration, usual: Duration) -> Duration {
        let usual = if self.liveness.blockage().is_some() { configured } else { usual };
        let refused = !HEARTBEATS.iter().any(|(_, feature)| self.may_use(*feature));
        if self.causes_errors || refused { usual.max(ERROR_INTERVAL) } else { usual }
    }

    /// True if the feature is available, or has not been tried yet.
    fn may_use(&self, feature: Feature) -> bool {
        self.exporter.capability(feature).unwrap_or(true)
    }

    /// True unless the feature is known to be unavailable and was tried recently.
    pub(crate) fn should_try(&self, feature: Feature, now: Timestamps) -> bool {
        self.exporter.should_try(feature, now.mono)
    }

    /// True if a function is running and FUNCTION STATS can name it.
    pub(crate) fn wants_function_name(&self) -> bool {
        self.liveness.state().kind() == StateKind::Busy(BusyKind::Function)
            && self.may_use(Feature::FunctionStats)
    }

    /// Applies an observation made at `now`.
    pub(crate) fn step(&mut self, observation: Observation, now: Timestamps) -> Reaction {
        let mut events = Vec::new();
        let revisions = |target: &Self| {
            (target.account.revision(), target.exporter.busy_replies, target.liveness.incidents().revision())
        };
        let before = revisions(self);
        self.inform_guard(&observation, now);
        let next = self.apply(observation, now, &mut events);
        if let Some(guard) = &mut self.guard {
            guard.blocked_since(self.liveness.blockage().map(|(_, began)| began));
        }
        if before != revisions(self) {
            self.ledger.touch();
        }
        Reaction { events, next }
    }

    fn apply(&mut self, observation: Observation, now: Timestamps, events: &mut Vec<Event>) -> Next {
        let liveness = &mut self.liveness;
        match observation {
            Observation::Connected { addresses } => {
                if addresses > 1 && addresses != self.addresses {
                    events.push(Event::SeveralAddresses { count: addresses });
                }
                self.addresses = addresses;
                self.own_busy_elsewhere = self.exporter.busy_replies;
            }
            Observation::Heartbeat { round_trip } => liveness.heartbeat(round_trip),
            Observation::Answered { since } => {
                self.causes_errors = false;
                liveness.answered(since, now, events);
            }
            Observation::Inconclusive => {
                self.causes_errors = false;
                if HEARTBEATS.iter().any(|(_, feature)| self.exporter.capability(*feature) != Some(false)) {
                    liveness.inconclusive(now, events);
                } else {
                    // This server can't provide better proof that it is free.
                    liveness.presumed_free(now, events);
                }
            }
            Observation::Silent { since } => liveness.silent(since, now, events),
            Observation::Busy { kind, counted, since } => {
                self.causes_errors = counted;
                self.exporter.busy_replies += u64::from(counted);
                liveness.busy(kind, since, now, events);
            }
            Observation::Loading { since } => {
                self.causes_errors = true;
                liveness.loading(since, now, events);
            }
            Observation::Unauthorized { detail } => liveness.unauthorized(&detail, now, events),
            Observation::Unreachable(outage) => liveness.unreachable(&outage, now, events),
            Observation::PollBegan => self.exporter.polls += 1,
            Observation::Polled { took } => {
                self.exporter.successes += 1;
                self.exporter.poll_time = self.exporter.poll_time.saturating_add(took);
                self.exporter.last_poll = Some(now.unix);
            }
            Observation::PollFailed => {
                self.has_baseline = true;
                self.exporter.failures += 1;
            }
            Observation::UnexpectedReply { command, detail } => {
                self.unexpected_reply(command, detail, now, events);
            }
            Observation::Slowlog(reply) => return self.slowlog(reply, now, events),
            Observation::SlowlogTooLarge => self.account.too_large(now.mono),
            Observation::SlowlogBroken => self.account.broken(now.mono),
            Observation::SlowlogUnreadable => {
                self.has_baseline = true;
                liveness.attribute_without_slowlog(events);
            }
            Observation::SlowlogLength(entries) => self.server.set_slowlog_length(entries),
            Observation::Info(info) => self.set_info(*info, now),
            Observation::InfoUnavailable => {
                self.server.forget_info();
                self.account.identify(ServerIdentity::default(), now.mono);
            }
            Observation::Settings(settings) => {
                liveness.set_time_limit(settings.time_limit);
                if let Some(entries) = settings.slowlog_max_len {
                    self.account.set_max_len(entries);
                }
                if let Some(threshold) = settings.slowlog_threshold {
                    self.account.set_threshold(threshold.duration());
                }
                self.server.set_settings(settings);
            }
            Observation::Running { function, since } => {
                liveness.running(&function.name, function.running_for, since, now, events);
            }
            Observation::Logged { line, .. } => {
                liveness.logged(RunningScript::logged(&line.name), line.running_for, now, events);
            }
            Observation::Capability { feature, absence, trouble } => {
                self.set_capability(feature, absence, trouble, now, events);
            }
            Observation::LostAt(command) => {
                // A reply with fewer entries may stay below the server's output buffer limit.
                let can_be_smaller = matches!(command, Command::SlowlogGet(entries) if entries > 1);
                if let Some(feature) = Feature::of(command)
                    && self.exporter.lost_at(feature, self.account.is_identified())
                    && !can_be_smaller
                {
                    let problem =
                        format!("the server or a proxy closes the connection on {}", command.name());
                    self.set_capability(feature, Some(Absence::Closed), Some(problem.into()), now, events);
                }
            }
            Observation::Guard(report) => return self.guarded(report, now, events),
        }
        Next::Continue
    }

    fn set_info(&mut self, info: Info, now: Timestamps) {
        let identity =
            ServerIdentity { run_id: info.run_id.as_deref(), uptime: info.uptime, past: info.slowlog_past };
        self.account.identify(identity, now.mono);
        let own = self.exporter.busy_replies;
        let same = info.run_id.is_none() || info.run_id == self.server.info().run_id;
        self.server.set_info(info, own, self.own_busy_elsewhere, now);
        self.liveness.learn_outcome(OutcomeCounts::of(&self.server), same);
    }

    /// Passes an observation about the running script to the guard.
    fn inform_guard(&mut self, observation: &Observation, now: Timestamps) {
        let Some(guard) = &mut self.guard else { return };
        let limit = self.server.settings().time_limit;
        match observation {
            Observation::Answered { since } | Observation::Loading { since } => guard.free(*since),
            Observation::Unreachable(_) | Observation::Unauthorized { .. } => guard.free(now.mono),
            Observation::Busy { kind, since, .. } => {
                guard.busy(Confirmation { kind: *kind, named: None, sent: *since }, limit, now);
            }
            Observation::Running { function, since } => {
                guard.busy(Confirmation::of_function(function, *since), limit, now);
            }
            Observation::Logged { line, written_after } => {
                let RunningScript { kind, script } = RunningScript::logged(&line.name);
                let named = Named { kind, script, running_for: line.running_for };
                guard.logged(NamedLine { named, written_after: *written_after, read: now.mono }, limit);
            }
            _ => {}
        }
    }

    /// Applies a report from the guard's own connection.
    fn guarded(&mut self, report: GuardReport, now: Timestamps, events: &mut Vec<Event>) -> Next {
        let Some(guard) = &mut self.guard else { return Next::Continue };
        let action = match report {
            GuardReport::Ready { trouble } => {
                if guard.set_ready(trouble.clone()) {
                    events.push(Event::GuardReady { trouble });
                }
                None
            }
            GuardReport::Confirmed { order, confirmation, counted, script } => {
                self.exporter.busy_replies += u64::from(counted);
                let facts = guard_facts(&self.server, script.as_ref());
                let Some(order) = guard.confirm(order, confirmation, facts, now) else {
                    return Next::Continue;
                };
                self.ledger.touch();
                return Next::Kill(order);
            }
            GuardReport::Intended => {
                guard.intend(now);
                self.ledger.touch();
                None
            }
            GuardReport::Withdrawn => {
                guard.withdraw();
                self.ledger.touch();
                None
            }
            GuardReport::Probed { confirmation, counted } => {
                self.exporter.busy_replies += u64::from(counted);
                guard.busy(confirmation, self.server.settings().time_limit, now);
                None
            }
            GuardReport::Free { since } => {
                guard.free(since);
                None
            }
            GuardReport::Left { order, outcome } => guard.leave(order, outcome, now),
            GuardReport::Answered { order, outcome, detail } => guard.answered(order, outcome, detail, now),
            GuardReport::Unreachable { order, detail } => guard.unreachable(order, detail, now),
        };
        if let Some(action) = action {
            // The budget may have changed.
            self.ledger.touch();
            // The blockage may have been attributed before the reply was reported.
            if let Some(incident) = self.liveness.guard_acted(action.record()) {
                let Incident { client, client_name, script, .. } = &incident;
                let caller = Caller { client: client.clone(), client_name: client_name.clone() };
                guard.explain(incident.began(), incident.ended(), script.as_ref(), Some(&caller));
            }
            events.push(Event::Guard(action));
        }
        Next::Continue
    }

    fn set_capability(
        &mut self,
        feature: Feature,
        absence: Option<Absence>,
        trouble: Option<Trouble>,
        now: Timestamps,
        events: &mut Vec<Event>,
    ) {
        let available = absence.is_none();
        match feature {
            Feature::Config if !available => {
                self.server.forget_settings();
                self.liveness.set_time_limit(None);
            }
            Feature::SlowlogLength if !available => self.server.forget_slowlog_length(),
            _ => {}
        }
        if self.exporter.set_capability(feature, absence, now.mono) && (available || trouble.is_some()) {
            events.push(Event::Capability { feature, available, trouble });
        }
    }

    /// Logs an unexpected reply, unless the last one to this command was logged recently.
    fn unexpected_reply(
        &mut self,
        command: &'static str,
        detail: String,
        now: Timestamps,
        events: &mut Vec<Event>,
    ) {
        let due = self.logged_unexpected.get(command).is_none_or(|(before, at)| {
            let pause = if *before == detail { REMIND_AFTER } else { LOG_ANOTHER_AFTER };
            now.mono.since(*at) >= pause
        });
        if due {
            self.logged_unexpected.insert(command, (detail.clone(), now.mono));
            events.push(Event::UnexpectedReply { command, detail });
        }
    }

    fn slowlog(&mut self, reply: SlowlogReply, now: Timestamps, events: &mut Vec<Event>) -> Next {
        let baseline = if self.account.is_unread() { self.uncounted_calls(&reply) } else { Vec::new() };
        let (new, lost, unreadable) = match self.account.reconcile(reply, now.mono) {
            Reconciliation::Incomplete => return Next::ReadOn,
            Reconciliation::Rewound => return Next::Identify,
            Reconciliation::Complete { new, lost, unreadable } => (new, lost, unreadable),
        };
        self.has_baseline = true;
        if lost > 0 {
            self.lost_at = Some(now.mono);
        }
        let mut ended = Vec::new();
        let Attributed { resolved, undetected } =
            self.liveness.attribute(&new, self.server.clock_ahead(), &mut ended);
        let report = self.report_lost(lost.saturating_sub(unreadable), now);
        let server = &self.server;
        if !baseline.is_empty() {
            self.ledger.change(events, |totals, _| {
                for call in baseline {
                    totals.latest.push_before_start(call);
                }
            });
        }
        if !new.is_empty() || lost > 0 || report.is_some() {
            self.ledger.change(events, |totals, events| {
                totals.lost = totals.lost.saturating_add(lost);
                totals.unreadable = totals.unreadable.saturating_add(unreadable);
                events.extend(report);
                let count = |entry: &Entry| {
                    let is_undetected = undetected.contains(&entry.id);
                    totals.scripts.count(entry, server.local_seconds(entry.ended_at), is_undetected, now.unix)
                };
                for call in new.iter().filter_map(count) {
                    totals.latest.push(call.clone());
                    events.push(Event::SlowScript(call));
                }
                for (script, entry) in &resolved {
                    if let Some(call) = &entry.call {
                        totals.scripts.resolve(&call.script.label, script);
                    }
                }
            });
        }
        if let Some(guard) = &mut self.guard {
            for event in &ended {
                explain(guard, event);
            }
        }
        events.append(&mut ended);
        Next::Continue
    }

    /// Returns the slow calls in a slow log that is read for the first time.
    fn uncounted_calls(&self, reply: &SlowlogReply) -> Vec<SlowCall> {
        let scripts = &self.ledger.pending().scripts;
        let call = |entry: &Entry| scripts.uncounted(entry, self.server.local_seconds(entry.ended_at));
        reply.entries.iter().filter_map(call).collect()
    }

    /// Returns an event for lost entries, at most once per [`LOG_LOST_INTERVAL`].
    fn report_lost(&mut self, count: u64, now: Timestamps) -> Option<Event> {
        self.unlogged_lost = self.unlogged_lost.saturating_add(count);
        let due = self.logged_lost.is_none_or(|at| now.mono.since(at) >= LOG_LOST_INTERVAL);
        if self.unlogged_lost == 0 || !due {
            return None;
        }
        self.logged_lost = Some(now.mono);
        Some(Event::EntriesLost { count: std::mem::take(&mut self.unlogged_lost) })
    }
}

/// Returns the facts about the server for a decision of the guard.
fn guard_facts<'a>(server: &'a ServerFacts, script: Option<&'a NamedScript>) -> GuardContext<'a> {
    GuardContext { role: server.info().role.as_deref(), time_limit: server.settings().time_limit, script }
}

/// Adds the known facts about an ended blockage to the guard's actions during it.
fn explain(guard: &mut Guard, event: &Event) {
    let Event::BlockageEnded { began, blocked, cause_entry, running_script, .. } = event else { return };
    let logged = cause_entry.as_ref().and_then(|entry| entry.call.as_ref()).map(|call| &call.script);
    let script = running_script.as_ref().map(|running| &running.script).or(logged);
    let caller = cause_entry
        .as_ref()
        .map(|entry| Caller { client: entry.client.clone(), client_name: entry.client_name.clone() });
    guard.explain(*began, *began + *blocked, script, caller.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_addresses_are_reported_when_their_number_changes() {
        let slow = Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) };
        let (mono, unix) = (Mono::from_epoch(Duration::ZERO), Unix::from_epoch(Duration::ZERO));
        let (at, buckets) = (Timestamps { mono, unix }, Arc::from([0.1, 1.0]));
        let mut target = Target::new(slow, buckets, 10, at.unix);
        for (addresses, reported) in [(1, false), (3, true), (3, false), (2, true), (1, false), (2, true)] {
            let events = target.step(Observation::Connected { addresses }, at).events;
            let expected = if reported { vec![Event::SeveralAddresses { count: addresses }] } else { vec![] };
            assert_eq!((events, target.addresses()), (expected, addresses));
        }
    }

    /// Target without an account, and the time at which it was created.
    fn target() -> (Target, Timestamps) {
        let slow = Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) };
        let at =
            Timestamps { mono: Mono::from_epoch(Duration::ZERO), unix: Unix::from_epoch(Duration::ZERO) };
        (Target::new(slow, Arc::from([0.1, 1.0]), 10, at.unix), at)
    }

    fn info(run_id: &str) -> Observation {
        Observation::Info(Box::new(Info { run_id: Some(run_id.to_owned()), ..Info::default() }))
    }

    /// Slow log with entries up to this id.
    fn slowlog(newest: u64) -> Observation {
        let entry = |id| Entry { id, ..Entry::with_arguments(&["KEYS"]) };
        let entries: Vec<Entry> = (0..=newest).map(entry).collect();
        Observation::Slowlog(SlowlogReply { received: entries.len(), entries, ..SlowlogReply::default() })
    }

    /// Two servers are behind one address. The connection is lost at INFO 19 times in a row, then the other server
    /// answers. Its slow log must not be mistaken for the first server's.
    #[test]
    fn a_network_that_fails_at_info_does_not_mix_two_servers() {
        let (mut target, at) = target();
        let lost = || Observation::LostAt(Command::Info(&["server"]));
        target.step(info("a"), at);
        target.step(slowlog(3), at);
        for _ in 1..=19 {
            assert_eq!(target.step(lost(), at).events, []);
            assert!(target.should_try(Feature::Info, at), "the next connection is identified");
        }
        target.step(info("b"), at);
        target.step(slowlog(5), at);
        assert_eq!(target.scripts().entries(), (0, 0), "the baseline of the other server");
        // A proxy that closes every connection at INFO makes INFO unavailable.
        target.step(Observation::Capability { feature: Feature::Info, absence: None, trouble: None }, at);
        for _ in 1..=20 {
            assert!(target.should_try(Feature::Info, at));
            target.step(lost(), at);
        }
        assert!(!target.should_try(Feature::Info, at));
        // From then on, and if INFO is refused, any slow log is treated as that of the last server.
        target.step(Observation::InfoUnavailable, at);
        target.step(slowlog(7), at);
        assert_eq!(target.scripts().entries(), (0, 2));
        // INFO becomes unavailable sooner for a server that was never identified.
        let (mut target, at) = self::target();
        for _ in 1..=2 {
            assert!(target.should_try(Feature::Info, at));
            target.step(lost(), at);
        }
        assert!(!target.should_try(Feature::Info, at));
    }

    /// The server closes the connection at each SLOWLOG GET, because the reply exceeds its output buffer limit. The slow log is
    /// unavailable only if even a single entry can't be read.
    #[test]
    fn a_reply_over_the_output_buffer_limit_is_requested_with_fewer_entries() {
        let (mut target, start) = target();
        target.step(info("a"), start);
        target.step(Observation::Slowlog(SlowlogReply::default()), start);
        // The reply does not reach back to the last entry.
        let entry = Entry { id: 99, ..Entry::with_arguments(&["KEYS"]) };
        let newest = SlowlogReply { received: 1, entries: vec![entry], ..SlowlogReply::default() };
        target.step(Observation::Slowlog(newest), start);
        let mut requested = vec![target.slowlog_request()];
        let mut seconds = 0;
        while target.should_try(Feature::Slowlog, start) {
            let entries = target.slowlog_request();
            let at = Timestamps { mono: start.mono + Duration::from_secs(seconds), ..start };
            target.step(Observation::SlowlogBroken, at);
            target.step(Observation::LostAt(Command::SlowlogGet(entries)), at);
            requested.push(target.slowlog_request());
            seconds += 1;
            assert!(seconds < 60, "{requested:?}");
        }
        let first = requested[0];
        assert!(first > 64, "{requested:?}");
        assert_eq!(requested[..6], [first; 6], "not in the first 5 s");
        assert_eq!(requested[6..9], [first / 2, first / 4, first / 8]);
        assert_eq!(requested[requested.len() - 2..], [1, 1], "one entry was requested: {requested:?}");
    }
}
