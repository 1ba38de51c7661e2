//! Alerts of one target: decides when each is sent, renewed and ended.
//!
//! With the shipped rules, Prometheus sends the same alerts, but later. After a scrape during a blockage, Prometheus fires the
//! alert until its next scrape. If the exporter ended the alert before that, the next evaluation could make it fire again, and
//! one blockage would page twice. The end of an alert is therefore held back until every client that scraped the target while the
//! alert fired has scraped again, or its scrape is older than [`LOOKBACK`].

use core::net::IpAddr;
use std::time::Duration;

use super::text::{AlertFacts, AlertScript};
use crate::clock::{Mono, Timestamps};
use crate::guard::GuardOutcome;
use crate::watch::{Severity, StateKind};

/// Minimum time between the end of an alert and the next one with the same labels. Alertmanager sends the end only if the
/// next alert arrives more than `group_interval` later, which is 200 ms in the shipped example. The gap is shorter than the
/// default threshold, so that it delays only alerts triggered by BUSY.
const GAP: Duration = Duration::from_millis(800);

/// Time after a scrape within which Prometheus evaluates its samples and sends the end of the alert: the rules are evaluated
/// every second, and two evaluations are needed.
const EVALUATION_MARGIN: Duration = Duration::from_millis(2500);

/// Time after a scrape after which the rules no longer use its samples, with a margin.
const LOOKBACK: Duration = Duration::from_secs(62);

/// Interval between checks of an alert whose end is held back.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Severities, in the order in which a blockage reaches them.
const SEVERITIES: [Severity; 2] = [Severity::Warning, Severity::Critical];

/// State of an alert that one message reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(super) severity: Severity,
    /// Start of the alert.
    pub(super) since: Timestamps,
    /// Duration of the blockage: so far, or in total if it is over.
    pub(super) blocked: Duration,
    /// End of the blockage, if it is over.
    pub(super) over: Option<Timestamps>,
}

/// Result of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) notices: Vec<Notice>,
    /// Time of the next step without an event; `None` if nothing is open.
    pub(super) due: Option<Mono>,
}

/// Alerts of one target.
#[derive(Debug, Default)]
pub(crate) struct Tracker([Phase; SEVERITIES.len()]);

/// Phase of one alert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Phase {
    /// The alert does not fire.
    #[default]
    Idle,
    /// The alert has ended. The next one starts at `until` at the earliest.
    Ended { until: Mono },
    /// The alert fires.
    Firing {
        since: Timestamps,
        /// Time at which the blockage was detected.
        episode: Mono,
        /// Start of the blockage, as far as known.
        began: Mono,
        shown: Shown,
        sent_at: Mono,
    },
    /// The blockage is over, but the alert may still fire in Prometheus.
    Held {
        since: Timestamps,
        over: Timestamps,
        blocked: Duration,
        /// Clients that scraped while the alert fired.
        witnesses: Vec<IpAddr>,
        /// Time at which all of them had scraped again.
        settled_at: Option<Mono>,
    },
}

/// Parts of the annotations that do not change with time alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    state: Option<StateKind>,
    running: Option<AlertScript>,
    acted: Option<GuardOutcome>,
}

impl Tracker {
    /// True if no alert is open, so that the tracker can be dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.0.iter().all(|phase| *phase == Phase::Idle)
    }

    /// Applies the facts at `now`. `scrapes` contains each client's last scrape of the target.
    pub(super) fn step(
        &mut self,
        facts: &AlertFacts,
        scrapes: &[(IpAddr, Mono)],
        now: Timestamps,
        resend_delay: Duration,
    ) -> Step {
        let mut step = Step::default();
        for (phase, severity) in self.0.iter_mut().zip(SEVERITIES) {
            if facts.state.is_none() {
                // The target was replaced, and has not been tried since.
                step.due = earliest(step.due, Some(now.mono + Duration::from_secs(1)));
                continue;
            }
            let (next, notice) = phase.clone().step(severity, facts, scrapes, now, resend_delay);
            *phase = next;
            step.notices.extend(notice);
            step.due = earliest(step.due, phase.due(severity, facts, now, resend_delay));
        }
        step
    }
}

fn earliest(one: Option<Mono>, other: Option<Mono>) -> Option<Mono> {
    one.into_iter().chain(other).min()
}

/// Time at which the blockage reaches a severity: at the threshold or, for critical, at the start of a blockage with BUSY
/// replies.
fn reached_at(severity: Severity, facts: &AlertFacts) -> Option<Mono> {
    let blockage = facts.blockage.as_ref()?;
    let is_busy = severity == Severity::Critical && facts.is_busy();
    Some(if is_busy { blockage.began } else { blockage.began + facts.slow.of(severity) })
}

impl Phase {
    fn step(
        self,
        severity: Severity,
        facts: &AlertFacts,
        scrapes: &[(IpAddr, Mono)],
        now: Timestamps,
        resend_delay: Duration,
    ) -> (Self, Option<Notice>) {
        let reached = reached_at(severity, facts).is_some_and(|at| at <= now.mono);
        let blockage = facts.blockage.as_ref();
        let fire = |since: Timestamps| {
            let Some(blockage) = blockage else { return (Self::Idle, None) };
            let shown = Shown { state: facts.state, running: blockage.running.clone(), acted: facts.acted() };
            let (episode, began) = (blockage.noticed, blockage.began);
            let blocked = now.mono.since(began);
            let phase = Self::Firing { since, episode, began, shown, sent_at: now.mono };
            (phase, Some(Notice { severity, since, blocked, over: None }))
        };
        let end = |since, over, blocked| {
            let notice = Notice { severity, since, blocked, over: Some(over) };
            (Self::Ended { until: now.mono + GAP }, Some(notice))
        };
        match self {
            Self::Ended { until } if now.mono < until => (self, None),
            Self::Idle | Self::Ended { .. } if reached => fire(now),
            Self::Idle | Self::Ended { .. } => (Self::Idle, None),
            Self::Firing { since, episode, shown, sent_at, .. }
                if blockage.is_some_and(|blockage| blockage.noticed == episode) =>
            {
                let is_same = blockage.is_some_and(|blockage| {
                    shown.running == blockage.running
                        && shown.state == facts.state
                        && shown.acted == facts.acted()
                });
                if is_same && now.mono < sent_at + resend_delay {
                    let began = blockage.map_or(now.mono, |blockage| blockage.began);
                    return (Self::Firing { since, episode, began, shown, sent_at }, None);
                }
                fire(since)
            }
            Self::Firing { since, began, .. } => {
                let blocked = now.mono.since(began);
                let fired = |at: Mono| at >= since.mono && now.mono.since(at) < LOOKBACK;
                let witnesses: Vec<IpAddr> =
                    scrapes.iter().filter(|(_, at)| fired(*at)).map(|(client, _)| *client).collect();
                if witnesses.is_empty() {
                    return end(since, now, blocked);
                }
                (Self::Held { since, over: now, blocked, witnesses, settled_at: None }, None)
            }
            Self::Held { since, .. } if reached => fire(since),
            Self::Held { since, over, blocked, witnesses, settled_at } => {
                let waits = |client: &IpAddr| {
                    scrapes.iter().any(|(other, at)| {
                        other == client && *at <= over.mono && now.mono.since(*at) < LOOKBACK
                    })
                };
                let settled_at = settled_at.or_else(|| (!witnesses.iter().any(waits)).then_some(now.mono));
                if settled_at.is_some_and(|at| now.mono.since(at) >= EVALUATION_MARGIN) {
                    return end(since, over, blocked);
                }
                (Self::Held { since, over, blocked, witnesses, settled_at }, None)
            }
        }
    }

    /// Time of the next step.
    fn due(
        &self,
        severity: Severity,
        facts: &AlertFacts,
        now: Timestamps,
        resend_delay: Duration,
    ) -> Option<Mono> {
        match self {
            Self::Idle => reached_at(severity, facts),
            Self::Ended { until } => Some(*until),
            Self::Firing { sent_at, .. } => Some(*sent_at + resend_delay),
            Self::Held { .. } => earliest(
                Some(now.mono + CHECK_INTERVAL),
                reached_at(severity, facts).filter(|at| *at > now.mono),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::super::text::tests::{blocked, idle};
    use super::*;
    use crate::clock::Unix;
    use crate::parse::BusyKind;

    const RESEND: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Timestamps {
        let since = Duration::from_millis(millis);
        Timestamps { mono: Mono::from_epoch(since), unix: Unix::from_epoch(since) }
    }

    fn client(number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
    }

    /// Tracker under test. A step returns the severities and phases of its notices.
    #[derive(Default)]
    struct Run(Tracker);

    impl Run {
        fn step(
            &mut self,
            facts: &AlertFacts,
            scrapes: &[(IpAddr, Mono)],
            millis: u64,
        ) -> (Vec<String>, Option<u64>) {
            let step = self.0.step(facts, scrapes, at(millis), RESEND);
            let notices = step.notices.iter().map(|notice| {
                assert!(notice.since <= at(millis));
                let phase = if notice.over.is_some() { "over" } else { "fires" };
                format!("{} {phase}", notice.severity.as_str())
            });
            let due = step.due.map(|due| u64::try_from(due.since(Mono::EPOCH).as_millis()).unwrap());
            (notices.collect(), due)
        }
    }

    fn silent(began: u64) -> AlertFacts {
        blocked(StateKind::Blocked, at(began).mono)
    }

    #[test]
    fn each_severity_fires_at_its_threshold_and_ends_at_once_if_nobody_scraped() {
        let mut run = Run::default();
        assert_eq!(run.step(&silent(1000), &[], 1300), (vec![], Some(2000)));
        assert_eq!(run.step(&silent(1000), &[], 2000), (vec!["warning fires".into()], Some(3000)));
        assert_eq!(run.step(&silent(1000), &[], 2500), (vec![], Some(3000)));
        assert_eq!(run.step(&silent(1000), &[], 3000), (vec!["critical fires".into()], Some(12_000)));
        assert_eq!(
            run.step(&idle(), &[], 3400),
            (vec!["warning over".into(), "critical over".into()], Some(4200))
        );
        assert_eq!(run.step(&idle(), &[], 4200), (vec![], None));
        assert!(run.0.is_idle());
    }

    #[test]
    fn busy_is_critical_before_the_threshold() {
        let mut run = Run::default();
        let busy = blocked(StateKind::Busy(BusyKind::Script), at(1000).mono);
        assert_eq!(run.step(&busy, &[], 1100), (vec!["critical fires".into()], Some(2000)));
    }

    #[test]
    fn an_alert_is_renewed_and_follows_state_and_name() {
        let mut run = Run::default();
        run.step(&silent(0), &[], 2000);
        assert_eq!(run.step(&silent(0), &[], 11_999).0, [""; 0]);
        assert_eq!(run.step(&silent(0), &[], 12_000).0, ["warning fires", "critical fires"], "renewed");
        let busy = blocked(StateKind::Busy(BusyKind::Script), at(0).mono);
        assert_eq!(run.step(&busy, &[], 12_100).0, ["warning fires", "critical fires"], "BUSY");
        let mut named = busy.clone();
        let running = AlertScript { kind: "script", script: "a".to_owned(), name: "b".to_owned() };
        named.blockage.as_mut().unwrap().running = Some(running);
        assert_eq!(run.step(&named, &[], 12_200).0, ["warning fires", "critical fires"], "named");
        assert_eq!(run.step(&named, &[], 12_300).0, [""; 0], "nothing has changed");
    }

    #[test]
    fn an_alert_ends_only_after_those_who_scraped_it_scrape_again() {
        let mut run = Run::default();
        run.step(&silent(0), &[], 1000);
        // One client scraped before the alert, the other while it fired.
        let early = (client(1), at(900).mono);
        let scrapes = [early, (client(2), at(1500).mono)];
        assert_eq!(run.step(&idle(), &scrapes, 1600), (vec![], Some(1850)));
        assert_eq!(run.step(&idle(), &scrapes, 16_000).0, [""; 0], "it has not scraped again");
        let scrapes = [early, (client(2), at(16_500).mono)];
        assert_eq!(run.step(&idle(), &scrapes, 16_600).0, [""; 0], "it has not evaluated yet");
        assert_eq!(run.step(&idle(), &scrapes, 19_100).0, ["warning over"]);
    }

    #[test]
    fn the_end_does_not_wait_longer_than_the_rules_look_back() {
        let mut run = Run::default();
        run.step(&silent(0), &[], 1000);
        let scrapes = [(client(2), at(1500).mono)];
        run.step(&idle(), &scrapes, 1600);
        assert_eq!(run.step(&idle(), &scrapes, 63_400).0, [""; 0]);
        run.step(&idle(), &scrapes, 63_600);
        assert_eq!(run.step(&idle(), &scrapes, 66_100).0, ["warning over"]);
    }

    #[test]
    fn the_next_blockage_is_a_new_alert_after_a_gap() {
        let mut run = Run::default();
        run.step(&silent(0), &[], 2000);
        // The second blockage begins without a gap after the first one, and is BUSY immediately.
        let busy = blocked(StateKind::Busy(BusyKind::Function), at(2000).mono);
        let ends = vec!["warning over".into(), "critical over".into()];
        assert_eq!(run.step(&busy, &[], 2100), (ends, Some(2900)));
        assert_eq!(run.step(&busy, &[], 2899).0, [""; 0]);
        assert_eq!(run.step(&busy, &[], 2900).0, ["critical fires"]);
        assert_eq!(run.step(&busy, &[], 3000).0, ["warning fires"]);
    }

    #[test]
    fn a_blockage_that_follows_while_the_end_waits_continues_the_alert() {
        let mut run = Run::default();
        run.step(&silent(0), &[], 1000);
        let scrapes = [(client(2), at(1500).mono)];
        run.step(&silent(1800), &scrapes, 1900);
        assert_eq!(run.step(&silent(1800), &scrapes, 2799).0, [""; 0], "the second one is not long enough");
        let step = run.0.step(&silent(1800), &scrapes, at(2800), RESEND);
        assert_eq!((step.notices.len(), step.notices[0].since), (1, at(1000)));
    }

    #[test]
    fn a_replaced_target_leaves_its_alert_unchanged_until_tried() {
        let mut run = Run::default();
        run.step(&silent(0), &[], 1000);
        let untried = AlertFacts { state: None, ..idle() };
        assert_eq!(run.step(&untried, &[], 1100), (vec![], Some(2100)));
        assert_eq!(run.step(&idle(), &[], 1200).0, ["warning over"]);
    }
}
