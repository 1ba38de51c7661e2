//! Log lines of events, with a rate limit per target and another for the slow calls of all targets together.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::clock::Mono;
use crate::convert::millis;
use crate::diagnosis::{ENTRIES_LOST, ENTRIES_LOST_REMEDY, kill, login_remedy, outage_remedy};
use crate::script::{Catalogue, NamedScript, Sha1Digits};
use crate::text::Trouble;
use crate::watch::{Event, OutageReason, StateKind};

/// Long-term interval between lines of a target.
const INTERVAL: Duration = Duration::from_millis(250);

/// Size of the token bucket as a time: 16 lines. With the 4 lines per second that [`INTERVAL`] adds, no second has more
/// than 20 lines.
const BURST: Duration = Duration::from_secs(4);

/// Long-term interval between lines about slow calls of all targets together: 100 lines per second. Otherwise, 10,000
/// targets with one slow call per second each would write 260 GB per day.
const PROCESS_INTERVAL: Duration = Duration::from_millis(10);

/// Size of the token bucket for these lines as a time: 1,000 lines.
const PROCESS_BURST: Duration = Duration::from_secs(10);

/// Time without an omitted line after which omitted lines are reported.
const QUIET: Duration = Duration::from_secs(1);

/// Interval between reports while lines are being omitted.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Priority of a line. Part of the bucket is reserved for higher priorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Single slow calls. A server may have any number of them.
    Low,
    /// Problems of the account and of single commands.
    Medium,
    /// State changes and blockages.
    High,
}

impl Priority {
    /// Returns the priority of the line of an event.
    fn of(event: &Event) -> Self {
        match event {
            Event::SlowScript(_) => Self::Low,
            Event::EntriesLost { .. }
            | Event::Capability { .. }
            | Event::SeveralAddresses { .. }
            | Event::UnexpectedReply { .. } => Self::Medium,
            Event::StateChanged { .. }
            | Event::StateUnchanged { .. }
            | Event::BlockageBegan
            | Event::WentBusy { .. }
            | Event::Named(_)
            | Event::BlockageEnded { .. }
            | Event::Guard(_)
            | Event::GuardReady { .. } => Self::High,
        }
    }

    /// Returns the number of lines of the bucket that are reserved for higher priorities.
    fn reserve(self) -> u32 {
        match self {
            Self::Low => 7,
            Self::Medium => 6,
            Self::High => 0,
        }
    }
}

/// Numbers of lines that were omitted because of the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Omitted {
    /// All lines.
    pub(crate) lines: u64,
    /// Slow calls without a line.
    pub(crate) slow_calls: u64,
    /// Lost slow log entries without a line.
    pub(crate) lost_entries: u64,
}

/// Lines that a [`Limiter`] applies to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Scope {
    /// Lines of one target, or of one entry with `discover`.
    #[default]
    Target,
    /// Lines about slow calls of all targets.
    Process,
}

impl Scope {
    /// Returns the long-term interval between lines, and the size of the bucket as a time.
    fn rate(self) -> (Duration, Duration) {
        match self {
            Self::Target => (INTERVAL, BURST),
            Self::Process => (PROCESS_INTERVAL, PROCESS_BURST),
        }
    }
}

/// Token bucket that limits log lines.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    scope: Scope,
    /// Time at which the bucket is full again; each line delays it by the interval of the scope.
    full_at: Mono,
    omitted: Omitted,
    /// Times of the first and the latest omitted line.
    period: Option<(Mono, Mono)>,
}

impl Limiter {
    /// Creates a limiter for the lines about slow calls of all targets.
    pub(crate) fn of_slow_calls() -> Self {
        Self { scope: Scope::Process, ..Self::default() }
    }

    /// Takes a token for a line. If there is none, counts the line as omitted and returns false.
    pub(crate) fn admit(&mut self, priority: Priority, now: Mono) -> bool {
        self.admit_as(priority, Omitted { lines: 1, ..Omitted::default() }, now)
    }

    /// Takes a token for the line of an event, as [`Self::admit`] does.
    pub(crate) fn admit_event(&mut self, event: &Event, now: Mono) -> bool {
        let (slow_calls, lost_entries) = match event {
            Event::SlowScript(_) => (1, 0),
            Event::EntriesLost { count } => (0, *count),
            _ => (0, 0),
        };
        self.admit_as(Priority::of(event), Omitted { lines: 1, slow_calls, lost_entries }, now)
    }

    fn admit_as(&mut self, priority: Priority, line: Omitted, now: Mono) -> bool {
        let admitted = self.take(priority, now);
        if !admitted {
            self.omit(line, now);
        }
        admitted
    }

    /// Takes the omitted lines and a token if they are to be reported now: none was omitted for [`QUIET`], or the first of them
    /// was omitted [`REPORT_INTERVAL`] ago.
    pub(crate) fn due(&mut self, now: Mono) -> Option<Omitted> {
        let (first, latest) = self.period?;
        let is_due = now.since(latest) >= QUIET || now.since(first) >= REPORT_INTERVAL;
        if is_due && self.take(Priority::High, now) { self.rest() } else { None }
    }

    /// Returns the omitted lines of one target if they are to be reported in a separate line. If all of them are about slow
    /// calls and there is no token for that line, adds them to the omitted lines of this limiter instead.
    pub(crate) fn fold(&mut self, of_target: Omitted, now: Mono) -> Option<Omitted> {
        if of_target.lines > of_target.slow_calls || self.take(Priority::Medium, now) {
            return Some(of_target);
        }
        self.omit(of_target, now);
        None
    }

    fn omit(&mut self, more: Omitted, now: Mono) {
        self.omitted.lines = self.omitted.lines.saturating_add(more.lines);
        self.omitted.slow_calls = self.omitted.slow_calls.saturating_add(more.slow_calls);
        self.omitted.lost_entries = self.omitted.lost_entries.saturating_add(more.lost_entries);
        let (first, _) = self.period.unwrap_or((now, now));
        self.period = Some((first, now));
    }

    /// Takes the omitted lines that have not been reported.
    pub(crate) fn rest(&mut self) -> Option<Omitted> {
        self.period.take()?;
        Some(std::mem::take(&mut self.omitted))
    }

    fn take(&mut self, priority: Priority, now: Mono) -> bool {
        let (interval, burst) = self.scope.rate();
        let next = self.full_at.max(now) + interval;
        let admitted = next.since(now) <= burst.saturating_sub(interval * priority.reserve());
        if admitted {
            self.full_at = next;
        }
        admitted
    }
}

/// Logs the number of omitted lines of a target.
pub(crate) fn write_omitted(target: &str, omitted: Omitted) {
    let Omitted { lines, slow_calls, lost_entries } = omitted;
    warn!(
        target,
        lines,
        slow_calls = Some(slow_calls).filter(|count| *count > 0),
        lost_entries = Some(lost_entries).filter(|count| *count > 0),
        "log lines were omitted: too many for one target; all metrics are exact"
    );
}

/// Logs the number of lines about slow calls that were omitted because of the limit for all targets.
pub(crate) fn write_omitted_slow_calls(omitted: Omitted) {
    let slow_calls = omitted.slow_calls;
    warn!(
        slow_calls,
        "log lines of slow calls were omitted: too many for one exporter; all metrics are exact"
    );
}

/// True if an event is a slow call. The limit for all targets applies to its line.
pub(crate) fn is_slow_call(event: &Event) -> bool {
    matches!(event, Event::SlowScript(_))
}

/// True if the line of an event is disabled by the log level, so that it takes no token.
pub(crate) fn is_silent(event: &Event) -> bool {
    // Blockages have separate lines.
    let is_debug = matches!(
        event,
        Event::StateChanged { to: StateKind::Blocked | StateKind::Busy(_) | StateKind::BusySilent, .. }
    );
    is_debug && !tracing::enabled!(tracing::Level::DEBUG)
}

/// Logs an event. Lines about state changes contain the `address`, which is `None` if it is the target's name. Lines about
/// scripts contain their identity, and their name if it differs. `user` is the user of the connection, `redis_cli` returns
/// the command line that connects to the server, and `page` is the URL of the target's status page.
pub(crate) fn write(
    target: &str,
    address: Option<&str>,
    user: &str,
    event: &Event,
    names: &Catalogue,
    redis_cli: impl Fn() -> String,
    page: Option<&str>,
) {
    match event {
        Event::StateChanged { from, to, detail, outage } => {
            state_changed(target, address, user, *from, *to, detail.as_deref(), *outage);
        }
        Event::StateUnchanged { state, detail } => {
            warn!(target, address, state = state.as_str(), detail, "state unchanged");
        }
        Event::BlockageBegan => warn!(target, address, page, "blocked: the server does not answer"),
        Event::WentBusy { kind, blocked } => {
            let command = kill(*kind).map(|command| format!("{} {command}", redis_cli()));
            let (kind, blocked_ms) = (kind.as_str(), millis(*blocked));
            warn!(target, address, kind, blocked_ms, kill = command, page, "the server is BUSY");
        }
        Event::Named(running_script) => {
            let script = names.named(&running_script.script);
            warn!(
                target,
                kind = running_script.kind.as_str(),
                script = script.label.as_str(),
                name = script.distinct_name(),
                sha1 = script.sha1.as_ref().map(Sha1Digits::as_str),
                "running script identified"
            );
        }
        Event::BlockageEnded { blocked, cause, cause_entry, running_script, .. } => {
            let call = cause_entry.as_ref().and_then(|cause_entry| cause_entry.call.as_ref());
            let running = running_script.as_ref().map(|running_script| &running_script.script);
            let script = running.or(call.map(|call| &call.script)).map(|script| names.named(script));
            let command = cause_entry.as_ref().and_then(|cause_entry| non_empty(&cause_entry.command));
            warn!(
                target,
                blocked_ms = millis(*blocked),
                cause = cause.as_str(),
                script = script.as_ref().map(|script| script.label.as_str()),
                name = script.as_ref().and_then(NamedScript::distinct_name),
                sha1 = script.as_ref().and_then(|script| Some(script.sha1.as_ref()?.as_str())),
                command,
                duration_ms = cause_entry.as_ref().map(|cause_entry| millis(cause_entry.duration)),
                client = cause_entry.as_ref().and_then(|cause_entry| non_empty(&cause_entry.client)),
                client_name =
                    cause_entry.as_ref().and_then(|cause_entry| non_empty(&cause_entry.client_name)),
                "blockage ended"
            );
        }
        Event::SlowScript(slow) => {
            let command = slow.call.command.as_str();
            let script = names.named(&slow.call.script);
            warn!(
                target,
                id = slow.id,
                severity = slow.severity.as_str(),
                command,
                script = slow.label.as_str(),
                // Scripts beyond the limit of labels also have a name.
                name = Some(script.name.as_str()).filter(|name| *name != slow.label.as_str()),
                sha1 = script.sha1.as_ref().map(Sha1Digits::as_str),
                duration_ms = millis(slow.duration),
                client = non_empty(&slow.client),
                client_name = non_empty(&slow.client_name),
                keys = slow.call.keys,
                "slow script"
            );
        }
        Event::EntriesLost { count } => {
            warn!(target, count, "slow log entries were {ENTRIES_LOST}; {ENTRIES_LOST_REMEDY}");
        }
        Event::SeveralAddresses { count } => {
            warn!(
                target,
                count,
                "the host name has several addresses and only one of these servers is watched; set discover: dns"
            );
        }
        Event::Capability { feature, available: true, .. } => {
            info!(target, feature = feature.as_str(), "command available again");
        }
        Event::Capability { feature, available: false, trouble } => {
            let (problem, fix) = problem_and_fix(trouble.as_ref());
            warn!(target, feature = feature.as_str(), problem, fix, "command not available");
        }
        Event::Guard(action) => {
            let script = action.script.as_ref().map(|script| names.named(script));
            warn!(
                target,
                address,
                outcome = action.outcome.as_str(),
                kind = action.kind.as_str(),
                script = script.as_ref().map(|script| script.label.as_str()),
                name = script.as_ref().and_then(NamedScript::distinct_name),
                sha1 = script.as_ref().and_then(|script| Some(script.sha1.as_ref()?.as_str())),
                ran_for_ms = millis(action.ran_for),
                detail = action.detail,
                "{}",
                action.outcome.sentence()
            );
        }
        Event::GuardReady { trouble } => guard_ready(target, trouble.as_ref()),
        Event::UnexpectedReply { command, detail } => warn!(target, command, detail, "unexpected reply"),
    }
}

fn state_changed(
    target: &str,
    address: Option<&str>,
    user: &str,
    from: Option<StateKind>,
    to: StateKind,
    detail: Option<&str>,
    outage: Option<OutageReason>,
) {
    let (from, to_text) = (from.map(StateKind::as_str), to.as_str());
    match to {
        StateKind::Ok => info!(target, address, from, state = to_text, "state changed"),
        // Blockages have separate lines.
        StateKind::Blocked | StateKind::Busy(_) | StateKind::BusySilent => {
            debug!(target, address, from, state = to_text, "state changed");
        }
        StateKind::Loading => info!(target, address, from, state = to_text, "state changed"),
        StateKind::Unauthorized => {
            let remedy = detail.map(login_remedy);
            warn!(target, address, from, state = to_text, user, detail, remedy, "state changed");
        }
        StateKind::Unreachable => {
            let remedy = outage.map(outage_remedy).and_then(non_empty);
            warn!(target, address, from, state = to_text, detail, remedy, "state changed");
        }
    }
}

fn guard_ready(target: &str, trouble: Option<&Trouble>) {
    let (problem, fix) = problem_and_fix(trouble);
    if trouble.is_none() {
        info!(target, "the guard can kill again");
    } else {
        warn!(target, problem, fix, "the guard can't kill");
    }
}

/// Returns the problem, and the command line that solves it.
fn problem_and_fix(trouble: Option<&Trouble>) -> (Option<&str>, Option<&str>) {
    let fix = trouble.and_then(|trouble| Some(&*trouble.fix.as_ref()?.shell));
    (trouble.map(|trouble| &*trouble.problem), fix)
}

/// Returns `None` for an empty string, so that the field is omitted.
fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(count: u64) -> Mono {
        Mono::from_epoch(Duration::from_millis(count))
    }

    /// Returns the times of the admitted lines if lines of one priority are written at this interval for 30 s.
    fn admitted(limiter: &mut Limiter, priority: Priority, every: Duration) -> Vec<Mono> {
        let times = (0..).map(|count| every * count).take_while(|now| *now < Duration::from_secs(30));
        times.map(Mono::from_epoch).filter(|now| limiter.admit(priority, *now)).collect()
    }

    /// Returns the maximum number of lines in any second.
    fn most_in_a_second(lines: &[Mono]) -> usize {
        let within = |begin: Mono| {
            lines.iter().filter(|at| (begin..begin + Duration::from_secs(1)).contains(*at)).count()
        };
        lines.iter().map(|begin| within(*begin)).max().unwrap_or_default()
    }

    #[test]
    fn no_second_has_more_than_20_lines() {
        for priority in [Priority::Low, Priority::Medium, Priority::High] {
            let lines = admitted(&mut Limiter::default(), priority, Duration::from_millis(1));
            assert!(most_in_a_second(&lines) <= 20, "{priority:?}");
            assert!(lines.len() >= 120, "{priority:?}: {}", lines.len());
            let slow = admitted(&mut Limiter::default(), priority, Duration::from_millis(250));
            assert_eq!(slow.len(), 120, "{priority:?}: nothing is omitted at a low enough rate");
        }
    }

    #[test]
    fn what_happens_at_once_is_written_after_a_pause() {
        let mut limiter = Limiter::default();
        for second in [0, 10, 20] {
            let now = Mono::from_epoch(Duration::from_secs(second));
            assert_eq!((0..50).filter(|_| limiter.admit(Priority::High, now)).count(), 16);
        }
    }

    #[test]
    fn states_are_written_whatever_else_there_is() {
        let mut limiter = Limiter::default();
        let mut lines = Vec::new();
        for ms in 0..30_000 {
            let now = millis(ms);
            for priority in [Priority::Low, Priority::Low, Priority::Medium] {
                if limiter.admit(priority, now) {
                    lines.push(now);
                }
            }
            // Five lines every two seconds, as for a blockage.
            if ms % 2000 < 5 {
                let omitted = limiter.omitted;
                assert!(limiter.admit(Priority::High, now), "at {ms} ms");
                assert_eq!(limiter.omitted, omitted);
                lines.push(now);
            }
            if limiter.due(now).is_some() {
                lines.push(now);
            }
        }
        assert!(most_in_a_second(&lines) <= 20);
    }

    #[test]
    fn what_is_omitted_is_reported_exactly() {
        let lost = Event::EntriesLost { count: 7 };
        let trouble = Event::UnexpectedReply { command: "PING", detail: "strange".to_owned() };
        let mut limiter = Limiter::default();
        let (mut written, mut reports) = (0, Vec::new());
        for ms in 0..25_000 {
            let now = millis(ms);
            if let Some(omitted) = limiter.due(now) {
                reports.push((ms, omitted));
            }
            for event in [&lost, &trouble] {
                written += u64::from(limiter.admit_event(event, now));
            }
        }
        assert_eq!(reports.len(), 2, "while it goes on, every 10 s: {reports:?}");
        assert_eq!(limiter.due(millis(25_500)), None, "the rate has not been low for long enough");
        reports.push((26_500, limiter.due(millis(26_500)).expect("the rate has fallen")));
        assert_eq!((limiter.due(millis(60_000)), limiter.rest()), (None, None));
        let lines: u64 = reports.iter().map(|(_, omitted)| omitted.lines).sum();
        assert_eq!(written + lines, 50_000);
        let lost: u64 = reports.iter().map(|(_, omitted)| omitted.lost_entries).sum();
        assert!(lost.is_multiple_of(7) && lost / 7 < lines, "{lost} of {lines} lines");
        assert_eq!(reports.iter().map(|(_, omitted)| omitted.slow_calls).sum::<u64>(), 0);
    }

    /// 10,000 targets with one slow call per second each, and 1,000 targets whose own limits omit slow calls.
    #[test]
    fn slow_calls_of_all_targets_share_a_limit_and_each_is_written_or_counted() {
        let slow_call = |limiter: &mut Limiter, now| {
            let line = Omitted { lines: 1, slow_calls: 1, lost_entries: 0 };
            limiter.admit_as(Priority::Low, line, now)
        };
        let of_target = Omitted { lines: 40, slow_calls: 40, lost_entries: 0 };
        let mut limiter = Limiter::of_slow_calls();
        let (mut written, mut reported, mut omitted, mut calls) = (0_u64, 0_u64, 0_u64, 0_u64);
        let (mut lines, mut reports) = (Vec::new(), Vec::new());
        for ms in 0..20_000 {
            let now = millis(ms);
            for _ in 0..10 {
                calls += 1;
                if slow_call(&mut limiter, now) {
                    written += 1;
                    lines.push(now);
                }
            }
            if ms % 10 == 0 {
                calls += of_target.slow_calls;
                if let Some(own) = limiter.fold(of_target, now) {
                    reported += own.slow_calls;
                    lines.push(now);
                }
            }
            if let Some(report) = limiter.due(now) {
                omitted += report.slow_calls;
                reports.push(now);
            }
        }
        assert!(omitted > 0, "a report while it goes on");
        omitted += limiter.rest().expect("some since the last report").slow_calls;
        assert_eq!(written + reported + omitted, calls);
        assert!(lines.len() <= 1000 + 20 * 100 && lines.len() >= 20 * 100, "{}", lines.len());
        let last_ten: Vec<Mono> = lines.iter().copied().filter(|at| *at >= millis(10_000)).collect();
        assert_eq!((most_in_a_second(&last_ten), most_in_a_second(&reports)), (100, 1));
        let first = lines.iter().filter(|at| **at < millis(1000)).count();
        assert!((1000..=1100).contains(&first), "{first}");
        // Omitted lines other than slow calls are always reported in a separate line.
        let lost = Omitted { lines: 2, slow_calls: 1, lost_entries: 9 };
        assert_eq!(limiter.fold(lost, millis(20_000)), Some(lost));
    }

    #[test]
    fn omitted_lines_left_at_the_end_are_returned_once() {
        let mut limiter = Limiter::default();
        let written = (0..100).filter(|_| limiter.admit(Priority::Low, Mono::EPOCH)).count();
        assert_eq!(limiter.due(Mono::EPOCH), None);
        let omitted = limiter.rest().expect("some");
        assert_eq!(usize::try_from(omitted.lines).unwrap() + written, 100);
        assert_eq!(limiter.rest(), None);
    }
}
