//! Attribution of an ended blockage to its cause.
//!
//! The cause is the kind named in BUSY replies or, without such replies, the kind of the slow log entry that covers the
//! blockage. The end of an entry is in whole seconds by the server's clock. A command that waits behind a script is answered
//! after the script's entry is written, so a slow log requested after the blockage contains every entry that explains it.

use std::time::Duration;

use super::cause::Cause;
use super::incidents::{Incident, IncidentKind};
use super::running_script::RunningScript;
use crate::clock::Unix;
use crate::parse::{BusyKind, Entry};
use crate::script::Identity;

/// Tolerance for times in slow log entries, in seconds. They are whole seconds, and the clocks are compared over a network.
const SLACK: f64 = 2.0;

/// Tolerance for the end of a call that ended with a blockage, in seconds: half a second for the resolution of whole seconds,
/// and the rest for the difference between the clocks and the time until the next heartbeat.
const END_SLACK: f64 = 1.5;

/// Maximum time from the start of a blockage to the start of the call that causes it, in seconds. On a busy machine, the
/// first unanswered request is delayed.
const BEGIN_SLACK: f64 = 0.5;

/// Tolerance for times measured to the millisecond, in seconds.
const EXACT_SLACK: f64 = 0.1;

/// Maximum time from the first unanswered request of a gap to the start of the next call, in seconds: the time the
/// request takes to reach the server.
const LATEST_BEGIN: f64 = 0.3;

/// Minimum duration of a follower (a later call in the same blockage) in seconds, and maximum number of followers.
const MIN_FOLLOWER: f64 = 0.25;
const MAX_FOLLOWERS: usize = 4;

/// An ended blockage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EndedEpisode {
    /// Start.
    pub(super) began: Unix,
    /// Duration.
    pub(super) blocked: Duration,
    /// Kind named in the BUSY replies, if there were any.
    pub(super) busy: Option<BusyKind>,
    /// Script or function last named by FUNCTION STATS or the log file, and its start.
    pub(super) running_script: Option<(RunningScript, Unix)>,
    /// Silence after BUSY in which another call may have started: the last time at which the earlier call was known to be
    /// running, and the time at which the unanswered request was sent.
    pub(super) gap: Option<[Unix; 2]>,
}

/// Result of an attribution.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attribution {
    /// Cause.
    pub(super) cause: Cause,
    /// Slow log entry that explains the blockage best.
    pub(super) cause_entry: Option<Entry>,
    /// Named script or function, unless `cause_entry` belongs to another call.
    pub(super) running_script: Option<RunningScript>,
}

impl EndedEpisode {
    /// Returns the incident, without caller, outcome and guard actions.
    pub(super) fn incident(&self, kind: IncidentKind, script: Option<Identity>) -> Incident {
        Incident {
            began: self.began.since_epoch(),
            lasted: self.blocked,
            kind,
            busy: self.busy.is_some(),
            script,
            client: String::new(),
            client_name: String::new(),
            end: None,
            refused: None,
            detail: None,
            guard: Vec::new(),
        }
    }

    /// Attributes the blockage using the entries written since before it began. `clock_ahead` is the number of seconds by which
    /// the server's clock is ahead of this machine's; if it is `None`, times are not compared.
    pub(super) fn attribute(&self, entries: &[Entry], clock_ahead: Option<f64>) -> Attribution {
        let near: Vec<&Entry> = entries
            .iter()
            .filter(|entry| clock_ahead.is_none_or(|ahead| self.is_near(entry, ahead)))
            .collect();
        let of = |cause: Cause| near.iter().filter(move |entry| Cause::of_entry(entry) == cause);
        let lasted =
            |cause: Cause| of(cause).fold(Duration::ZERO, |sum, entry| sum.saturating_add(entry.duration));
        let overlap = |cause: Cause| -> f64 { of(cause).map(|entry| self.overlap(entry, clock_ahead)).sum() };
        let cause = self.busy.map(Cause::of_kind).or_else(|| {
            // A script's entry covers the entries of the commands it calls, so they must not be added up; on a tie, the script
            // is the cause. Scripts and functions that ran one after another are added up.
            let covered =
                lasted(Cause::Script).saturating_add(lasted(Cause::Function)).max(lasted(Cause::Command));
            let causes = [Cause::Command, Cause::Function, Cause::Script];
            let longest = causes.into_iter().max_by(|one, other| {
                overlap(*one).total_cmp(&overlap(*other)).then(lasted(*one).cmp(&lasted(*other)))
            });
            longest.filter(|_| !covered.is_zero() && covered >= self.blocked / 2)
        });
        let cause = cause.unwrap_or(Cause::Unknown);
        let cause_entry = of(cause).max_by(|one, other| {
            let overlaps = self.overlap(one, clock_ahead).total_cmp(&self.overlap(other, clock_ahead));
            overlaps.then(one.duration.cmp(&other.duration))
        });
        let running_script = self.running_script.as_ref().filter(|(running_script, began)| {
            cause_entry.is_none_or(|cause_entry| {
                // Keep the name only if no other entry matches it: a wrong name is worse than none.
                Cause::of_kind(running_script.kind) == cause
                    && of(cause).filter(|entry| may_have_begun(entry, *began, clock_ahead)).eq([cause_entry])
            })
        });
        Attribution {
            cause,
            cause_entry: cause_entry.map(|entry| (*entry).clone()),
            running_script: running_script.map(|(running_script, _)| running_script.clone()),
        }
    }

    /// Splits off the calls that ran after the first one, during or after the silence that may hide another call. Their
    /// entries are newer than the first call's and fill the time up to the end. The first call gets the remaining time, or all
    /// of it if there are no such entries.
    pub(super) fn split_followers(
        mut self,
        entries: &[Entry],
        clock_ahead: Option<f64>,
    ) -> (Self, Vec<(Self, &Entry)>) {
        let mut followers = Vec::new();
        let (Some(busy), Some([still_ran, unanswered]), Some(ahead)) = (self.busy, self.gap, clock_ahead)
        else {
            return (self, followers);
        };
        let length = |entry: &Entry| entry.duration.as_secs_f64();
        let is_of_kind = |entry: &&Entry| match busy {
            BusyKind::Module => Cause::of_entry(entry) == Cause::Command,
            kind => Cause::of_entry(entry) == Cause::of_kind(kind),
        };
        let still_ran = still_ran.since(self.began).as_secs_f64();
        let unanswered = unanswered.since(self.began).as_secs_f64();
        let mut left = self.blocked.as_secs_f64();
        let first = entries
            .iter()
            .filter(is_of_kind)
            .filter(|entry| length(entry) >= (still_ran - BEGIN_SLACK).max(still_ran / 2.0))
            .filter(|entry| self.begins(entry, ahead).abs() <= END_SLACK)
            .min_by_key(|entry| entry.id);
        // A call that took nearly the whole time has no followers. Entries of commands within a script are older than the script's entry.
        let Some(first) = first.filter(|first| length(first) < left - (left - still_ran) / 2.0) else {
            return (self, followers);
        };
        let mut newest = u64::MAX;
        while followers.len() < MAX_FOLLOWERS && left > unanswered + LATEST_BEGIN {
            let last = entries
                .iter()
                .filter(|entry| entry.id > first.id && entry.id < newest && length(entry) >= MIN_FOLLOWER)
                .filter(|entry| (self.begins(entry, ahead) + length(entry) - left).abs() <= END_SLACK)
                .filter(|entry| left - length(entry) >= still_ran - EXACT_SLACK)
                .max_by_key(|entry| entry.id);
            let Some(last) = last else { break };
            newest = last.id;
            left -= length(last);
            let began = self.began + Duration::try_from_secs_f64(left).unwrap_or_default();
            let follower =
                Self { began, blocked: last.duration, busy: None, running_script: None, gap: None };
            followers.push((follower, last));
        }
        followers.reverse();
        self.blocked = Duration::try_from_secs_f64(left).unwrap_or_default();
        (self, followers)
    }

    /// Seconds from the start of the blockage to the start of the entry's call, derived from the call's end in whole seconds.
    fn begins(&self, entry: &Entry, clock_ahead: f64) -> f64 {
        span(entry).0 - clock_ahead - self.began.as_secs_f64()
    }

    /// True if the entry and the blockage are at most [`SLACK`] apart.
    fn is_near(&self, entry: &Entry, clock_ahead: f64) -> bool {
        let (entry_began, entry_ended) = span(entry);
        let began = self.began.as_secs_f64() + clock_ahead;
        let ended = began + self.blocked.as_secs_f64();
        entry_began <= ended + SLACK && entry_ended >= began - SLACK
    }

    /// Overlap of the entry and the blockage, in seconds; the entry's whole duration if the clocks can't be compared.
    fn overlap(&self, entry: &Entry, clock_ahead: Option<f64>) -> f64 {
        let Some(clock_ahead) = clock_ahead else { return entry.duration.as_secs_f64() };
        let (entry_began, entry_ended) = span(entry);
        let began = self.began.as_secs_f64() + clock_ahead;
        let ended = began + self.blocked.as_secs_f64();
        (entry_ended.min(ended) - entry_began.max(began)).max(0.0)
    }
}

/// Start and end of an entry by the server's clock, in seconds. The end is only known to the second; the middle of that second is used.
fn span(entry: &Entry) -> (f64, f64) {
    let ended = Duration::from_secs(entry.ended_at).as_secs_f64() + 0.5;
    (ended - entry.duration.as_secs_f64(), ended)
}

/// True if the entry's call may have started at `began` (by this machine's clock).
fn may_have_begun(entry: &Entry, began: Unix, clock_ahead: Option<f64>) -> bool {
    clock_ahead.is_none_or(|ahead| (span(entry).0 - began.as_secs_f64() - ahead).abs() <= SLACK / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, ended_at: u64, ms: u64) -> Entry {
        Entry { id: 0, ended_at, duration: Duration::from_millis(ms), ..Entry::with_arguments(&[name, "x"]) }
    }

    fn ended(busy: Option<BusyKind>) -> EndedEpisode {
        EndedEpisode {
            began: Unix::from_epoch(Duration::from_secs(1000)),
            blocked: Duration::from_millis(1500),
            busy,
            running_script: None,
            gap: None,
        }
    }

    fn cause(entries: &[Entry]) -> Cause {
        ended(None).attribute(entries, Some(0.0)).cause
    }

    #[test]
    fn the_cause_is_that_of_the_entry_that_covers_the_blockage() {
        assert_eq!(cause(&[entry("evalsha", 1001, 1600)]), Cause::Script);
        assert_eq!(cause(&[entry("FCALL_RO", 1001, 1600)]), Cause::Function);
        assert_eq!(cause(&[entry("keys", 1001, 1600)]), Cause::Command);
        assert_eq!(cause(&[]), Cause::Unknown);
    }

    #[test]
    fn a_script_takes_precedence_over_the_commands_that_it_calls() {
        let entries = [entry("keys", 1001, 1600), entry("eval", 1001, 1600)];
        assert_eq!(cause(&entries), Cause::Script);
        assert_eq!(cause(&[entries[1].clone(), entries[0].clone()]), Cause::Script);
    }

    #[test]
    fn entries_that_are_too_short_or_of_another_time_are_no_cause() {
        assert_eq!(cause(&[entry("eval", 1001, 300)]), Cause::Unknown);
        assert_eq!(cause(&[entry("eval", 990, 5000)]), Cause::Unknown);
        assert_eq!(cause(&[entry("eval", 1020, 5000)]), Cause::Unknown);
    }

    #[test]
    fn short_scripts_in_a_row_are_added_up() {
        assert_eq!(cause(&vec![entry("eval", 1001, 300); 5]), Cause::Script);
        let mixed = [entry("eval", 1001, 500), entry("fcall", 1001, 510), entry("eval", 1001, 490)];
        assert_eq!(cause(&mixed), Cause::Script);
        assert_eq!(cause(&mixed[..2]), Cause::Function);
    }

    #[test]
    fn a_difference_between_the_clocks_is_corrected() {
        let entries = [entry("eval", 4601, 1500)];
        assert_eq!(ended(None).attribute(&entries, Some(3600.0)).cause, Cause::Script);
        assert_eq!(ended(None).attribute(&entries, Some(0.0)).cause, Cause::Unknown);
        assert_eq!(ended(None).attribute(&entries, None).cause, Cause::Script);
    }

    #[test]
    fn the_kind_of_the_busy_replies_determines_the_cause() {
        let found = ended(Some(BusyKind::Script)).attribute(&[entry("eval", 1001, 300)], Some(0.0));
        assert_eq!(
            (found.cause, found.cause_entry.unwrap().duration),
            (Cause::Script, Duration::from_millis(300))
        );
        let found = ended(Some(BusyKind::Module)).attribute(&[entry("eval", 1001, 1500)], Some(0.0));
        assert_eq!((found.cause, found.cause_entry), (Cause::Module, None));
    }

    #[test]
    fn a_name_is_kept_only_if_no_other_entry_fits_it() {
        let sha1 = "a".repeat(40);
        let named = |began_ms: u64| EndedEpisode {
            running_script: Some((
                RunningScript::logged(&sha1),
                Unix::from_epoch(Duration::from_millis(began_ms)),
            )),
            busy: Some(BusyKind::Script),
            blocked: Duration::from_millis(4500),
            ..ended(None)
        };
        // A script of 3 s, followed by the named one of 1.5 s.
        let entries = [entry("eval", 1003, 3000), entry("evalsha", 1004, 1500)];
        assert_eq!(named(1_003_000).attribute(&entries, Some(0.0)).running_script, None);
        assert!(named(1_000_500).attribute(&entries[..1], Some(0.0)).running_script.is_some());
        assert!(named(1_000_500).attribute(&[], Some(0.0)).running_script.is_some());
        assert_eq!(named(1_000_500).attribute(&entries, None).running_script, None);
    }
}
