//! Alerts about the guard's actions, equivalent to those of the shipped rules, and their annotations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::alert::Labels;
use super::text::{AlertFacts, MAX_NAME, humanize};
use crate::clock::{Mono, Timestamps, Unix};
use crate::guard::GuardOutcome;
use crate::text::clean;

/// Time for which the rules fire after an action.
const FIRES_FOR: Duration = Duration::from_secs(300);

/// Time for which the alert is resent after an action. It is shorter than [`FIRES_FOR`], with a margin for a clock that is ahead,
/// because an alert that Prometheus has resolved must not fire again.
const RENEWED_FOR: Duration = Duration::from_secs(240);

/// Action of the guard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GuardAction {
    pub(crate) outcome: GuardOutcome,
    /// Time of the outcome.
    pub(crate) at: Unix,
    /// Run time of the script.
    pub(crate) ran_for: Duration,
    /// `script`, `function` or `module`.
    pub(crate) kind: &'static str,
    /// Identity and name of the script or function, if known.
    pub(crate) script: Option<(String, String)>,
}

/// Alerts of the guard of one target.
#[derive(Debug, Default)]
pub(super) struct GuardAlerts(BTreeMap<GuardOutcome, Open>);

/// Firing alert.
#[derive(Debug)]
struct Open {
    since: Unix,
    action: GuardAction,
    sent_at: Mono,
}

/// Alert to send.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GuardNotice {
    /// Name of the alert.
    pub(super) name: &'static str,
    pub(super) action: GuardAction,
    /// Start of the alert.
    pub(super) since: Unix,
    /// End of the alert if the action is not repeated.
    pub(super) until: Unix,
}

/// Name of the rule for an outcome; `None` if there is none.
const fn rule(outcome: GuardOutcome) -> Option<&'static str> {
    match outcome {
        GuardOutcome::Killed | GuardOutcome::KilledNext | GuardOutcome::KilledAgain => {
            Some("RedisScriptKilledByGuard")
        }
        GuardOutcome::Unkillable
        | GuardOutcome::FromMaster
        | GuardOutcome::NotPermitted
        | GuardOutcome::Error
        | GuardOutcome::Unreachable => Some("RedisScriptGuardRefused"),
        GuardOutcome::Budget => Some("RedisScriptGuardBudgetExhausted"),
        GuardOutcome::NotBusy
        | GuardOutcome::OtherKind
        | GuardOutcome::DryRun
        | GuardOutcome::Excluded
        | GuardOutcome::UnknownScript
        | GuardOutcome::FunctionsOff
        | GuardOutcome::Module
        | GuardOutcome::Replica
        | GuardOutcome::UnknownRole => None,
    }
}

impl GuardAlerts {
    /// Returns the alerts to send at `now`, and the time of the next step. `actions` contains the latest action for each outcome.
    pub(super) fn step(
        &mut self,
        actions: &[GuardAction],
        now: Timestamps,
        resend_delay: Duration,
    ) -> (Vec<GuardNotice>, Option<Mono>) {
        let (mut notices, mut due) = (Vec::new(), None::<Mono>);
        // Actions disappear if the target is replaced.
        self.0.retain(|outcome, _| actions.iter().any(|action| action.outcome == *outcome));
        for action in actions {
            let Some(name) = rule(action.outcome) else { continue };
            let age = now.unix.since(action.at);
            if age >= FIRES_FOR {
                self.0.remove(&action.outcome);
                continue;
            }
            let open = self.0.get(&action.outcome);
            let is_known = open.is_some_and(|open| {
                open.action == *action && (age >= RENEWED_FOR || now.mono < open.sent_at + resend_delay)
            });
            let (since, sent_at) = match open {
                Some(open) if is_known => (open.since, open.sent_at),
                open => (open.map_or(action.at, |open| open.since), now.mono),
            };
            if !is_known {
                let until = action.at + FIRES_FOR;
                notices.push(GuardNotice { name, action: action.clone(), since, until });
                self.0.insert(action.outcome, Open { since, action: action.clone(), sent_at });
            }
            let end = now.mono + FIRES_FOR.saturating_sub(age);
            let next = if age < RENEWED_FOR { end.min(sent_at + resend_delay) } else { end };
            due = Some(due.map_or(next, |due| due.min(next)));
        }
        (notices, due)
    }
}

impl AlertFacts {
    /// Returns the annotations of an alert about an action of the guard.
    pub(super) fn of_guard(&self, labels: &Labels, action: &GuardAction) -> BTreeMap<&'static str, String> {
        let (target, cli) = (&self.target, &self.redis_cli);
        let by_hand = format!("run `{cli} SCRIPT KILL` or `{cli} FUNCTION KILL` manually");
        let (summary, did, next) = match action.outcome {
            GuardOutcome::Killed | GuardOutcome::KilledNext | GuardOutcome::KilledAgain => {
                let more = match action.outcome {
                    GuardOutcome::KilledNext => {
                        " The server accepted the kill late, so a run other than the intended one may have been killed."
                    }
                    GuardOutcome::KilledAgain => " An earlier kill had no effect.",
                    _ => "",
                };
                (
                    format!("The guard killed a script or function on {target}."),
                    "killed it. Its caller got an error (Script killed by user).",
                    format!(
                        "{more} Next: find its caller with `{cli} SLOWLOG GET`, or in the exporter's log."
                    ),
                )
            }
            GuardOutcome::Budget => (
                format!(
                    "The guard has reached its limit on kills, and did not kill a script or function on {target}."
                ),
                "decided not to kill it, because the guard's limit on kills had been reached.",
                format!(" Next: {by_hand}, and stop the client that keeps calling it."),
            ),
            outcome => (
                format!("The guard could not kill a script or function on {target}."),
                "tried to kill it.",
                format!(" {}", refused(outcome, &by_hand, self.guard_grant.as_deref())),
            ),
        };
        let mut what = action.kind.to_owned();
        if let Some((script, name)) = &action.script {
            // Writing to a string can't fail.
            let _ = write!(what, " {name}");
            if name != script {
                let _ = write!(what, " ({script})");
            }
        }
        let description = format!(
            "{}: the {} had run for {} when the exporter's guard {did}{next}",
            self.subject(labels),
            clean(&what, MAX_NAME),
            humanize(action.ran_for),
        );
        let runbook = rule(action.outcome).unwrap_or_default();
        self.annotations(summary, description, runbook)
    }
}

/// Reason why the guard could not kill, and the next step. `by_hand` contains the commands that kill, `grant` the command that
/// grants the guard the permission.
fn refused(outcome: GuardOutcome, by_hand: &str, grant: Option<&str>) -> String {
    let (reason, next) = match outcome {
        GuardOutcome::Unkillable => (
            "The server refused, because the script has already written data.",
            "wait for it to finish, or stop the server with SHUTDOWN NOSAVE, which loses every write since its last save.".to_owned(),
        ),
        GuardOutcome::FromMaster => (
            "The server refused, because the script came from its master.",
            "SCRIPT KILL or FUNCTION KILL on the master.".to_owned(),
        ),
        GuardOutcome::NotPermitted => (
            "The guard's user does not have permission.",
            match grant {
                Some(grant) => format!("{by_hand}; then `{grant}`."),
                None => format!("{by_hand}; then grant +script|kill +function|kill."),
            },
        ),
        GuardOutcome::Unreachable => {
            ("The guard had no connection.", format!("{by_hand}; the exporter's log shows the reason."))
        }
        _ => ("The server answered with an error.", format!("{by_hand}; the exporter's log shows the error.")),
    };
    format!("{reason} Next: {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESEND: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Timestamps {
        let since = Duration::from_millis(1_000_000 + millis);
        Timestamps { mono: Mono::from_epoch(since), unix: Unix::from_epoch(since) }
    }

    fn action(outcome: GuardOutcome, millis: u64) -> GuardAction {
        let ran_for = Duration::from_millis(10_020);
        GuardAction { outcome, at: at(millis).unix, ran_for, kind: "script", script: None }
    }

    /// Names of the alerts sent, and the time of the next step.
    fn step(
        alerts: &mut GuardAlerts,
        actions: &[GuardAction],
        millis: u64,
    ) -> (Vec<&'static str>, Option<u64>) {
        let (notices, due) = alerts.step(actions, at(millis), RESEND);
        for notice in &notices {
            assert_eq!(notice.until, notice.action.at + FIRES_FOR);
        }
        let due = due.map(|due| u64::try_from(due.since(at(0).mono).as_millis()).unwrap());
        (notices.into_iter().map(|notice| notice.name).collect(), due)
    }

    #[test]
    fn an_action_is_sent_at_once_renewed_and_ends_with_the_rule() {
        let mut alerts = GuardAlerts::default();
        let killed = [action(GuardOutcome::DryRun, 0), action(GuardOutcome::Killed, 0)];
        assert_eq!(step(&mut alerts, &killed[..1], 1), (vec![], None), "no rule");
        assert_eq!(step(&mut alerts, &killed, 2), (vec!["RedisScriptKilledByGuard"], Some(10_002)));
        assert_eq!(step(&mut alerts, &killed, 3), (vec![], Some(10_002)));
        assert_eq!(step(&mut alerts, &killed, 10_002), (vec!["RedisScriptKilledByGuard"], Some(20_002)));
        assert_eq!(step(&mut alerts, &killed, 240_000), (vec![], Some(300_000)), "Prometheus may be ahead");
        assert_eq!(step(&mut alerts, &killed, 300_000), (vec![], None));
        assert!(alerts.0.is_empty());
    }

    #[test]
    fn each_outcome_has_the_alert_of_the_shipped_rules() {
        let rules = include_str!("../../alerts/redis-script.rules.yml");
        let durations = "redis_script_guard_last_action_duration_seconds{outcome=";
        let mut of_rules: BTreeMap<&str, &str> = BTreeMap::new();
        for rule in rules.split("- alert: ").skip(1) {
            let (name, rule) = rule.split_once('\n').unwrap();
            let Some((_, after)) = rule.split_once(durations) else { continue };
            let outcomes = after.trim_start_matches(['~', '"']).split('"').next().unwrap();
            of_rules.extend(outcomes.split('|').map(|outcome| (outcome, name)));
        }
        let own = GuardOutcome::ALL.into_iter();
        let own = own.filter_map(|outcome| Some((outcome.as_str(), rule(outcome)?)));
        assert_eq!(own.collect::<BTreeMap<_, _>>(), of_rules);
        assert_eq!(of_rules.len(), 9, "{of_rules:?}");
    }

    #[test]
    fn a_name_or_another_action_renews_the_alert_and_keeps_its_start() {
        let mut alerts = GuardAlerts::default();
        let first = action(GuardOutcome::Unkillable, 0);
        step(&mut alerts, std::slice::from_ref(&first), 1);
        let named = GuardAction { script: Some(("a".to_owned(), "b.lua".to_owned())), ..first };
        assert_eq!(step(&mut alerts, &[named], 2000).0, ["RedisScriptGuardRefused"]);
        let again = [action(GuardOutcome::Unkillable, 100_000), action(GuardOutcome::Budget, 100_000)];
        let (notices, _) = alerts.step(&again, at(100_001), RESEND);
        let since: Vec<Unix> = notices.iter().map(|notice| notice.since).collect();
        assert_eq!(since, [at(0).unix, at(100_000).unix]);
        assert_eq!(step(&mut alerts, &[], 100_002), (vec![], None), "the target was replaced");
    }
}
