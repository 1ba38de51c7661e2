//! Log lines of events, with a rate limit per target.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::clock::Mono;
use crate::convert::millis;
use crate::diagnosis::{ENTRIES_LOST, ENTRIES_LOST_REMEDY, kill, login_remedy, outage_remedy};
use crate::script::{Catalogue, NamedScript, Sha1Digits};
use crate::text::Trouble;
use crate::watch::{Event, OutageReason, StateKind};

/// Interval between lines of a target in the long run.
const INTERVAL: Duration = Duration::from_millis(250);

/// Size of the token bucket as a time: 16 lines. With the 4 lines a second that [`INTERVAL`] adds, no second has more than
/// 20 lines.
const BURST: Duration = Duration::from_secs(4);

/// Time without an omitted line after which omitted lines are reported.
const QUIET: Duration = Duration::from_secs(1);

/// Interval between reports while lines are being omitted.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Priority of a line. Part of the bucket is reserved for higher priorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Single slow calls, of which a server may have any number.
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

    /// Returns the part of the bucket that is reserved for higher priorities.
    fn reserve(self) -> Duration {
        match self {
            Self::Low => INTERVAL * 7,
            Self::Medium => INTERVAL * 6,
            Self::High => Duration::ZERO,
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

/// Token bucket that limits the log lines of one target, or of one entry with `discover`.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// Time at which the bucket is full; each line moves it by [`INTERVAL`].
    full_at: Mono,
    omitted: Omitted,
    /// Times of the first and the latest omitted line.
    period: Option<(Mono, Mono)>,
}

impl Limiter {
    /// Takes a token for a line. If there is none, counts the line as omitted and returns false.
    pub(crate) fn admit(&mut self, priority: Priority, now: Mono) -> bool {
        let admitted = self.take(priority, now);
        if !admitted {
            self.omitted.lines = self.omitted.lines.saturating_add(1);
            let (first, _) = self.period.unwrap_or((now, now));
            self.period = Some((first, now));
        }
        admitted
    }

    /// Takes a token for the line of an event, as [`Self::admit`] does.
    pub(crate) fn admit_event(&mut self, event: &Event, now: Mono) -> bool {
        let admitted = self.admit(Priority::of(event), now);
        match event {
            Event::SlowScript(_) if !admitted => {
                self.omitted.slow_calls = self.omitted.slow_calls.saturating_add(1);
            }
            Event::EntriesLost { count } if !admitted => {
                self.omitted.lost_entries = self.omitted.lost_entries.saturating_add(*count);
            }
            _ => {}
        }
        admitted
    }

    /// Takes the omitted lines if they are to be reported now: none was omitted for [`QUIET`], or the last report is
    /// [`REPORT_INTERVAL`] ago.
    pub(crate) fn due(&mut self, now: Mono) -> Option<Omitted> {
        let (first, latest) = self.period?;
        let is_due = now.since(latest) >= QUIET || now.since(first) >= REPORT_INTERVAL;
        if is_due && self.take(Priority::High, now) { self.rest() } else { None }
    }

    /// Takes the omitted lines that were not reported.
    pub(crate) fn rest(&mut self) -> Option<Omitted> {
        self.period.take()?;
        Some(std::mem::take(&mut self.omitted))
    }

    fn take(&mut self, priority: Priority, now: Mono) -> bool {
        let next = self.full_at.max(now) + INTERVAL;
        let admitted = next.since(now) <= BURST.saturating_sub(priority.reserve());
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

/// True if the line of an event is disabled by the log level, so that it takes no token.
pub(crate) fn is_silent(event: &Event) -> bool {
    // Blockages have lines of their own.
    let is_debug = matches!(
        event,
        Event::StateChanged { to: StateKind::Blocked | StateKind::Busy(_) | StateKind::BusySilent, .. }
    );
    is_debug && !tracing::enabled!(tracing::Level::DEBUG)
}

/// Logs an event. Changes of the state have the `address`, which is `None` if it is the target's name. Scripts have their
/// identity, and the name if that differs. `user` is that of the connection, `redis_cli` returns the command line that connects to the server;
/// `page` is the URL of its status page.
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
                // The name of a script beyond the limit of labels, too.
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
                "the host name has several addresses and one of these servers is watched; set discover: dns"
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
        // Blockages have lines of their own.
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

/// Returns a text, or `None` if it is empty, so that the field is omitted.
fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(count: u64) -> Mono {
        Mono::from_epoch(Duration::from_millis(count))
    }

    /// Returns the times of admitted lines, for lines of a priority at an interval over 30 s.
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
            assert_eq!(slow.len(), 120, "{priority:?}: nothing is omitted of what is slow enough");
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
            // Five lines, as of a blockage, every two seconds.
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
        assert_eq!(limiter.due(millis(25_500)), None, "the rate has not fallen for long");
        reports.push((26_500, limiter.due(millis(26_500)).expect("the rate has fallen")));
        assert_eq!((limiter.due(millis(60_000)), limiter.rest()), (None, None));
        let lines: u64 = reports.iter().map(|(_, omitted)| omitted.lines).sum();
        assert_eq!(written + lines, 50_000);
        let lost: u64 = reports.iter().map(|(_, omitted)| omitted.lost_entries).sum();
        assert!(lost.is_multiple_of(7) && lost / 7 < lines, "{lost} of {lines} lines");
        assert_eq!(reports.iter().map(|(_, omitted)| omitted.slow_calls).sum::<u64>(), 0);
    }

    #[test]
    fn what_is_left_at_the_end_can_be_had() {
        let mut limiter = Limiter::default();
        let written = (0..100).filter(|_| limiter.admit(Priority::Low, Mono::EPOCH)).count();
        assert_eq!(limiter.due(Mono::EPOCH), None);
        let omitted = limiter.rest().expect("some");
        assert_eq!(usize::try_from(omitted.lines).unwrap() + written, 100);
        assert_eq!(limiter.rest(), None);
    }
}
