//! From events to log lines: the one place that words them, and that limits their rate.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::clock::Mono;
use crate::convert::millis;
use crate::script::{Call, Catalogue, OTHER, Sha1Digits};
use crate::watch::{Event, State};

/// Interval at which a target may have another line, in the long run.
const INTERVAL: Duration = Duration::from_millis(250);

/// Size of the token bucket as a time: 16 lines at once. With the 4 that [`INTERVAL`] adds, no second has more than 20.
const BURST: Duration = Duration::from_secs(4);

/// Time without a line that was left out after which the rate counts as fallen.
const QUIET: Duration = Duration::from_secs(1);

/// Time after which the lines that were left out are reported although the rate has not fallen.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes of a command's name that are written. Real names are shorter, and slow logs of real servers have no more than 128.
const MAX_COMMAND: usize = 128;

/// Importance of a line. The lower ones leave a part of the bucket to the higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Single slow calls, which a server may have any number of.
    Low,
    /// Problems of the account and of single commands.
    Medium,
    /// States and blockages, which people are paged for.
    High,
}

impl Priority {
    /// Priority of an event's line.
    fn of(event: &Event) -> Self {
        match event {
            Event::SlowScript(_) => Self::Low,
            Event::EntriesLost { .. } | Event::Capability { .. } | Event::Trouble { .. } => Self::Medium,
            Event::StateChanged { .. }
            | Event::StateHolds { .. }
            | Event::BlockageBegan
            | Event::WentBusy { .. }
            | Event::Named(_)
            | Event::BlockageEnded { .. } => Self::High,
        }
    }

    /// Part of the bucket that is left to higher priorities.
    fn reserve(self) -> Duration {
        match self {
            Self::Low => INTERVAL * 7,
            Self::Medium => INTERVAL * 6,
            Self::High => Duration::ZERO,
        }
    }
}

/// Lines that were not written because of the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Omitted {
    /// All of them.
    pub(crate) lines: u64,
    /// Slow calls that had no line.
    pub(crate) slow_calls: u64,
    /// Lost slow log entries that had no line.
    pub(crate) lost_entries: u64,
}

/// Limits the rate of the log lines of one target (or one entry of `discover`): a token bucket.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    /// Time at which the bucket is full again; each line moves it by [`INTERVAL`].
    full_at: Mono,
    omitted: Omitted,
    /// Times at which the first and the latest of them were omitted.
    period: Option<(Mono, Mono)>,
}

impl Limiter {
    /// Takes a token for a line; `false` if there is none. The line is counted as omitted then.
    pub(crate) fn admit(&mut self, priority: Priority, now: Mono) -> bool {
        let admitted = self.take(priority, now);
        if !admitted {
            self.omitted.lines = self.omitted.lines.saturating_add(1);
            let (first, _) = self.period.unwrap_or((now, now));
            self.period = Some((first, now));
        }
        admitted
    }

    /// Takes a token for the line of an event.
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

    /// Lines that were omitted, once no more are, or for the last [`REPORT_INTERVAL`]. They are to be reported now.
    pub(crate) fn due(&mut self, now: Mono) -> Option<Omitted> {
        let (first, latest) = self.period?;
        let is_due = now.since(latest) >= QUIET || now.since(first) >= REPORT_INTERVAL;
        if is_due && self.take(Priority::High, now) { self.rest() } else { None }
    }

    /// Lines that were omitted and not reported yet.
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

/// Writes the line that says how many lines of a target were omitted.
pub(crate) fn write_omitted(target: &str, omitted: Omitted) {
    let Omitted { lines, slow_calls, lost_entries } = omitted;
    warn!(
        target,
        lines,
        slow_calls = Some(slow_calls).filter(|count| *count > 0),
        lost_entries = Some(lost_entries).filter(|count| *count > 0),
        "log lines were left out: too many for one target; all metrics are exact"
    );
}

/// Whether the line of an event is not written at the present log level. It takes no token then.
pub(crate) fn is_silent(event: &Event) -> bool {
    // Blockages have lines of their own.
    let is_debug = matches!(event, Event::StateChanged { to: State::Blocked | State::Busy(_), .. });
    is_debug && !tracing::enabled!(tracing::Level::DEBUG)
}

/// Writes the log line of an event; scripts have the names of the catalogue.
pub(crate) fn write(target: &str, event: &Event, names: &Catalogue) {
    match event {
        Event::StateChanged { from, to, detail } => state_changed(target, *from, *to, detail.as_deref()),
        Event::StateHolds { state, detail } => {
            warn!(target, state = state.as_str(), detail, "state holds");
        }
        Event::BlockageBegan => warn!(target, "blocked: the server does not answer"),
        Event::WentBusy { kind, blocked } => {
            warn!(target, kind = kind.as_str(), blocked_ms = millis(*blocked), "the server went BUSY");
        }
        Event::Named(runner) => {
            let script = names.identify(&runner.script);
            warn!(
                target,
                kind = runner.kind.as_str(),
                script = script.label.as_str(),
                sha1 = script.sha1.as_ref().map(Sha1Digits::as_str),
                "running now"
            );
        }
        Event::BlockageEnded { blocked, cause, culprit, runner } => {
            let call = culprit.as_ref().and_then(|culprit| Call::from_arguments(&culprit.arguments));
            let told = runner.as_ref().map(|runner| &runner.script);
            let script = told.or(call.as_ref().map(|call| &call.script)).map(|script| names.identify(script));
            let command = culprit.as_ref().and_then(|culprit| culprit.arguments.first());
            let command = command.map(|name| {
                let (start, _) = name.split_at_checked(MAX_COMMAND).unwrap_or((name, &[]));
                String::from_utf8_lossy(start).to_ascii_lowercase()
            });
            warn!(
                target,
                blocked_ms = millis(*blocked),
                cause = cause.as_str(),
                script = script.as_ref().map(|script| script.label.as_str()),
                sha1 = script.as_ref().and_then(|script| Some(script.sha1.as_ref()?.as_str())),
                command,
                duration_ms = culprit.as_ref().map(|culprit| millis(culprit.duration)),
                client = culprit.as_ref().and_then(|culprit| given(&culprit.client)),
                client_name = culprit.as_ref().and_then(|culprit| given(&culprit.client_name)),
                "blockage ended"
            );
        }
        Event::SlowScript(slow) => {
            let command = slow.call.command.as_str();
            let script = names.identify(&slow.call.script);
            // What came after the limit of labels is told as it is counted.
            let label = if slow.label.as_str() == OTHER { &slow.label } else { &script.label };
            warn!(
                target,
                id = slow.id,
                severity = slow.severity.as_str(),
                command,
                script = label.as_str(),
                sha1 = script.sha1.as_ref().map(Sha1Digits::as_str),
                duration_ms = millis(slow.duration),
                client = given(&slow.client),
                client_name = given(&slow.client_name),
                keys = slow.call.keys,
                "slow script"
            );
        }
        Event::EntriesLost { count } => warn!(
            target,
            count,
            "slow log entries were overwritten before they could be read; a larger slowlog-max-len keeps them longer"
        ),
        Event::Capability { feature, available: true, .. } => {
            info!(target, feature = feature.as_str(), "available again");
        }
        Event::Capability { feature, available: false, problem } => {
            warn!(target, feature = feature.as_str(), problem, "not available");
        }
        Event::Trouble { command, detail } => warn!(target, command, detail, "unexpected answer"),
    }
}

fn state_changed(target: &str, from: Option<State>, to: State, detail: Option<&str>) {
    let (from, to_text) = (from.map(State::as_str), to.as_str());
    match to {
        State::Ok => info!(target, from, state = to_text, "state changed"),
        // Blockages have lines of their own.
        State::Blocked | State::Busy(_) => debug!(target, from, state = to_text, "state changed"),
        State::Loading => info!(target, from, state = to_text, "state changed"),
        State::Unauthorized | State::Unreachable => {
            warn!(target, from, state = to_text, detail, "state changed");
        }
    }
}

/// A text that says something: empty ones are left out of the line.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(count: u64) -> Mono {
        Mono::from_epoch(Duration::from_millis(count))
    }

    /// Times at which a line of the priority that comes every `every` is admitted, for 30 s.
    fn admitted(limiter: &mut Limiter, priority: Priority, every: Duration) -> Vec<Mono> {
        let times = (0..).map(|count| every * count).take_while(|now| *now < Duration::from_secs(30));
        times.map(Mono::from_epoch).filter(|now| limiter.admit(priority, *now)).collect()
    }

    /// Most lines in any one second.
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
            // Five lines, as a blockage has, every two seconds.
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
        let trouble = Event::Trouble { command: "PING", detail: "strange".to_owned() };
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
