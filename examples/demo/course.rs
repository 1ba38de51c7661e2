//! Course of the demo: its blockages, the time at which the exporter detected each, and the notifications about it.
//!
//! Scripts that the user runs during the demo are separate blockages, so their notifications are never attributed to a
//! script of the demo. Times are durations since the start of the demo.

use std::time::Duration;

/// Maximum difference between the start of a blockage and the start derived by the exporter.
const TOLERANCE: Duration = Duration::from_millis(500);

/// Time after the end of a blockage during which notifications are still attributed to it: `RedisScriptUnkillable` waits
/// for the next INFO.
const AFTERMATH: Duration = Duration::from_secs(20);

/// A blockage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blockage {
    /// Name of the script; `None` for one that the user runs.
    pub(crate) name: Option<String>,
    pub(crate) began: Duration,
    pub(crate) ended: Option<Duration>,
    /// Events, in order.
    pub(crate) events: Vec<(Duration, Event)>,
}

/// Event of a blockage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The exporter reports the server as blocked.
    Seen,
    /// Clients receive BUSY.
    Busy,
    /// A notification of severity `warning` arrives.
    Warned,
    /// A notification of severity `critical` arrives.
    Paged,
    /// The server accepts the kill.
    Killed,
}

/// A notification.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification<'a> {
    pub(crate) alertname: &'a str,
    pub(crate) is_firing: bool,
    pub(crate) is_critical: bool,
}

/// All blockages so far, in order.
#[derive(Debug, Default)]
pub(crate) struct Course {
    blockages: Vec<Blockage>,
}

impl Course {
    /// Returns the blockages by scripts of the demo.
    pub(crate) fn told(&self) -> impl Iterator<Item = &Blockage> {
        self.blockages.iter().filter(|blockage| blockage.name.is_some())
    }

    /// Records that a script of the demo begins.
    pub(crate) fn begin(&mut self, at: Duration, name: &str) {
        self.push(Some(name.to_owned()), at);
    }

    fn push(&mut self, name: Option<String>, began: Duration) {
        self.blockages.push(Blockage { name, began, ended: None, events: Vec::new() });
    }

    /// Records an event of the running script.
    pub(crate) fn note(&mut self, at: Duration, event: Event) {
        if let Some(blockage) = self.blockages.last_mut().filter(|blockage| blockage.ended.is_none()) {
            blockage.add(at, event);
        }
    }

    /// Records that the script of the demo has ended.
    pub(crate) fn end(&mut self, at: Duration) {
        if let Some(blockage) = self.blockages.last_mut() {
            blockage.ended.get_or_insert(at);
        }
    }

    /// Records for how long the server has been blocked according to the exporter; zero if it is not blocked.
    pub(crate) fn observe(&mut self, at: Duration, blocked: Duration) {
        let began = at.saturating_sub(blocked);
        let open = self.blockages.last_mut().filter(|last| last.ended.is_none());
        match open {
            Some(own) if blocked.is_zero() => {
                if own.name.is_none() {
                    own.ended = Some(at);
                }
            }
            Some(blockage) => blockage.add(at, Event::Seen),
            None if blocked.is_zero() => {}
            None => {
                // Right after the end of a script, the exporter still reports it.
                let known = self.blockages.last().and_then(|last| last.ended);
                if known.is_none_or(|ended| began + TOLERANCE > ended && at > ended + TOLERANCE) {
                    self.push(None, began);
                    self.note(at, Event::Seen);
                }
            }
        }
    }

    /// Records a notification. If it is about a blockage, returns the time since the event that caused it.
    pub(crate) fn notified(&mut self, at: Duration, page: Notification<'_>) -> Option<String> {
        let last = self.blockages.iter_mut().rev().find(|blockage| blockage.began <= at)?;
        let after_end = last.ended.map(|ended| at.saturating_sub(ended));
        let is_about_it = after_end.is_none_or(|after| after < AFTERMATH);
        let since = |moment: Duration, what: &str| {
            format!("{:.1} s after it {what}", at.saturating_sub(moment).as_secs_f64())
        };
        match (page.alertname, page.is_firing) {
            ("RedisScriptRunning", true) if is_about_it => {
                last.add(at, if page.is_critical { Event::Paged } else { Event::Warned });
                Some(since(last.began, "began"))
            }
            (name, is_firing) if is_about_it && (is_firing || name == "RedisScriptRunning") => {
                last.ended.map(|ended| since(ended, "ended"))
            }
            _ => None,
        }
    }
}

impl Blockage {
    /// Adds an event, unless there already is one of this type.
    fn add(&mut self, at: Duration, event: Event) {
        if !self.events.iter().any(|&(_, one)| one == event) {
            self.events.push((at, event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn running(is_firing: bool, is_critical: bool) -> Notification<'static> {
        Notification { alertname: "RedisScriptRunning", is_firing, is_critical }
    }

    #[test]
    fn notifications_are_timed_by_the_blockage_that_they_are_about() {
        let mut course = Course::default();
        assert_eq!(course.notified(ms(500), running(true, false)), None, "nothing has begun");
        course.begin(ms(1000), "a");
        course.observe(ms(1300), ms(300));
        course.observe(ms(1400), ms(400));
        assert_eq!(course.notified(ms(3000), running(true, false)).unwrap(), "2.0 s after it began");
        assert_eq!(course.notified(ms(4000), running(true, true)).unwrap(), "3.0 s after it began");
        course.note(ms(5000), Event::Busy);
        course.note(ms(7000), Event::Killed);
        course.end(ms(7100));
        assert_eq!(course.notified(ms(8100), running(false, true)).unwrap(), "1.0 s after it ended");
        let slow = Notification { alertname: "RedisSlowScript", is_firing: true, is_critical: true };
        assert_eq!(course.notified(ms(8200), slow).unwrap(), "1.1 s after it ended");
        // The alert is resolved a minute later.
        assert_eq!(course.notified(ms(70_000), Notification { is_firing: false, ..slow }), None);
        let told: Vec<&Blockage> = course.told().collect();
        let events = [
            (1300, Event::Seen),
            (3000, Event::Warned),
            (4000, Event::Paged),
            (5000, Event::Busy),
            (7000, Event::Killed),
        ];
        assert_eq!(told[0].events, events.map(|(at, event)| (ms(at), event)));
        assert_eq!((told.len(), told[0].ended), (1, Some(ms(7100))));
    }

    #[test]
    fn scripts_of_the_user_have_times_of_their_own() {
        let mut course = Course::default();
        course.begin(ms(1000), "a");
        course.observe(ms(1300), ms(300));
        course.end(ms(4000));
        // The exporter detects the end shortly afterwards.
        course.observe(ms(4100), ms(3100));
        course.observe(ms(4300), ms(0));
        // Five minutes later, the user runs another script.
        course.observe(ms(300_400), ms(400));
        assert_eq!(course.notified(ms(302_000), running(true, false)).unwrap(), "2.0 s after it began");
        course.observe(ms(304_000), ms(4000));
        course.observe(ms(304_200), ms(0));
        assert_eq!(course.notified(ms(305_200), running(false, false)).unwrap(), "1.0 s after it ended");
        assert_eq!(course.told().count(), 1);
        // Much later, an alert is resolved that belongs to no running script.
        assert_eq!(course.notified(ms(400_000), running(false, false)), None);
    }
}
