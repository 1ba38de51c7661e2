//! Annotations of `RedisScriptRunning`, with the same text as in the shipped rule.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::ALERT_NAME;
use super::alert::Labels;
use super::guard::GuardAction;
use crate::clock::{Mono, Unix};
use crate::convert::float;
use crate::guard::GuardOutcome;
use crate::parse::BusyKind;
use crate::text::clean;
use crate::watch::{StateKind, Thresholds};

/// URL of the runbooks.
const RUNBOOKS: &str =
    "https://github.com/redis-script-exporter/redis-script-exporter/blob/main/docs/runbooks.md";

/// Maximum length of a name in an annotation, in bytes.
pub(super) const MAX_NAME: usize = 400;

/// Facts about a target that alerts depend on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlertFacts {
    pub(crate) target: Arc<str>,
    /// Address of the server, if it differs from the name of the target.
    pub(crate) address: Option<String>,
    /// `redis-cli` command line that connects as the exporter does.
    pub(crate) redis_cli: String,
    /// `None` if the target has not been tried yet.
    pub(crate) state: Option<StateKind>,
    pub(crate) slow: Thresholds,
    /// Run time of a script after which the server answers BUSY; zero means never.
    pub(crate) time_limit: Option<Duration>,
    /// Current blockage.
    pub(crate) blockage: Option<Blockage>,
    /// URL of the target on the status page, if known.
    pub(crate) page: Option<String>,
    /// Run time after which the guard kills; `None` unless there is a guard in mode kill.
    pub(crate) kill_after: Option<Duration>,
    /// Latest action of the guard for each outcome.
    pub(crate) actions: Vec<GuardAction>,
    /// Command line that grants the guard's user the missing permissions, if any.
    pub(crate) guard_grant: Option<String>,
}

/// Current blockage of a target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Blockage {
    /// Time at which the blockage was detected; unique among the target's blockages.
    pub(crate) noticed: Mono,
    /// Start of the blockage, as far as known.
    pub(crate) began: Mono,
    /// Start by the wall clock.
    pub(crate) began_at: Unix,
    /// Running script or function, if it has been named.
    pub(crate) running: Option<AlertScript>,
}

/// Named script or function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlertScript {
    /// `script` or `function`.
    pub(crate) kind: &'static str,
    /// Identity of the script or function.
    pub(crate) script: String,
    pub(crate) name: String,
}

impl AlertFacts {
    /// Kind of BUSY replies, if the server answers BUSY.
    pub(super) fn busy(&self) -> Option<BusyKind> {
        match self.state {
            Some(StateKind::Busy(kind)) => Some(kind),
            _ => None,
        }
    }

    /// True if the server answers BUSY, or answered BUSY during this blockage and is now silent.
    pub(super) fn is_busy(&self) -> bool {
        self.busy().is_some() || self.is_busy_silent()
    }

    fn is_busy_silent(&self) -> bool {
        self.state == Some(StateKind::BusySilent)
    }

    /// Returns the annotations for a blockage that has lasted for `blocked` so far.
    pub(super) fn while_blocked(&self, labels: &Labels, blocked: Duration) -> BTreeMap<&'static str, String> {
        let mut text = format!("{} has been blocked for {}", self.subject(labels), humanize(blocked));
        if self.busy().is_some() {
            text.push_str(", and answers BUSY");
        }
        let running = self.blockage.as_ref().and_then(|blockage| blockage.running.as_ref());
        let runs = match (running, self.busy()) {
            (Some(AlertScript { kind, script, name }), _) if name == script => {
                format!("It is running the {kind} {name}.")
            }
            (Some(AlertScript { kind, script, name }), _) => format!("It is running the {kind} {name} ({script})."),
            (None, Some(BusyKind::Script)) => {
                "It is running a script whose name is not known yet.".to_owned()
            }
            (None, Some(BusyKind::Function)) => {
                "It is running a function whose name is not known yet.".to_owned()
            }
            (None, Some(BusyKind::Module)) => "It is running a module command.".to_owned(),
            (None, None) if self.is_busy_silent() => {
                "It answered BUSY but is not responding now; it is not known whether the same call is still running."
                    .to_owned()
            }
            (None, None) => "What it is running is not known yet.".to_owned(),
        };
        // Writing to a string can't fail.
        let _ = write!(text, ". {} Next: {}", clean(&runs, MAX_NAME), self.next(blocked));
        let is_pending = self.acted().is_none() && self.busy() != Some(BusyKind::Module);
        if let Some(kill_after) = self.kill_after.filter(|_| is_pending) {
            let after = humanize(kill_after);
            let _ = write!(
                text,
                " The exporter's guard kills a script or function after {after}, if its rules permit."
            );
        }
        self.of_running("is", text)
    }

    /// Latest outcome of the guard during the current blockage.
    pub(super) fn acted(&self) -> Option<GuardOutcome> {
        let began = self.blockage.as_ref()?.began_at;
        let latest = self.actions.iter().filter(|action| action.at >= began).max_by_key(|action| action.at);
        latest.map(|action| action.outcome)
    }

    /// True if the guard has had a matching outcome since `began`.
    fn has_acted(&self, began: Unix, is_wanted: impl Fn(GuardOutcome) -> bool) -> bool {
        self.actions.iter().any(|action| action.at >= began && is_wanted(action.outcome))
    }

    /// Returns the annotations for a blockage that lasted for `blocked` and ended at `over`.
    pub(super) fn after_end(
        &self,
        labels: &Labels,
        blocked: Duration,
        over: Unix,
    ) -> BTreeMap<&'static str, String> {
        let state = self.state.map_or("unknown", StateKind::as_str);
        let is_killed = self.has_acted(over - blocked, GuardOutcome::is_kill);
        let killed = if is_killed { " The exporter's guard killed the running script." } else { "" };
        let text = format!(
            "{} was blocked for at least {}. The blockage is over; the state is now {state}.{killed} Next: find the call with `{} SLOWLOG GET`, \
             or in the exporter's log.",
            self.subject(labels),
            humanize(blocked),
            self.redis_cli
        );
        self.of_running("was", text)
    }

    fn of_running(&self, is: &str, description: String) -> BTreeMap<&'static str, String> {
        let summary = format!("{} {is} blocked, most likely by a script.", self.target);
        self.annotations(summary, description, ALERT_NAME)
    }

    /// Returns the annotations of the alert with this name.
    pub(super) fn annotations(
        &self,
        summary: String,
        mut description: String,
        name: &str,
    ) -> BTreeMap<&'static str, String> {
        if let Some(page) = &self.page {
            let _ = write!(description, " Status page: {page}");
        }
        BTreeMap::from([
            ("summary", summary),
            ("description", description),
            ("runbook_url", format!("{RUNBOOKS}#{}", name.to_lowercase())),
        ])
    }

    /// Name of the target, with details that distinguish it from other targets of the same name.
    pub(super) fn subject(&self, labels: &Labels) -> String {
        let mut text = format!("{} (", self.target);
        if let Some(address) = &self.address {
            let _ = write!(text, "address {address}, ");
        }
        let _ = write!(text, "instance {}", labels.get("instance").map_or("", String::as_str));
        if let Some(pod) = labels.get("pod") {
            let _ = write!(text, ", pod {pod}");
        }
        text.push(')');
        text
    }

    /// Next step for the operator.
    fn next(&self, blocked: Duration) -> String {
        let began = self.blockage.as_ref().map(|blockage| blockage.began_at);
        let is_refused =
            began.is_some_and(|began| self.has_acted(began, |outcome| outcome == GuardOutcome::Unkillable));
        let cli = &self.redis_cli;
        let kill = |command: &str| {
            let hint = if cli.contains("--askpass") {
                " If the reply is NOPERM, log in as a user that may run the command (--user)."
            } else {
                ""
            };
            format!("`{cli} {command}`.{hint}")
        };
        let kills = format!("`{cli} SCRIPT KILL` ends a script, and `{cli} FUNCTION KILL` a function.");
        match (self.busy(), self.time_limit) {
            (Some(BusyKind::Script | BusyKind::Function), _) if is_refused => {
                "wait for it to finish, or stop the server with SHUTDOWN NOSAVE, which loses every write since its last save: it has already written data, so the server refused the guard's \
                 kill."
                    .to_owned()
            }
            (Some(BusyKind::Script), _) => kill("SCRIPT KILL"),
            (Some(BusyKind::Function), _) => kill("FUNCTION KILL"),
            (Some(BusyKind::Module), _) => {
                "see the module's documentation; neither SCRIPT KILL nor FUNCTION KILL ends it.".to_owned()
            }
            (None, _) if self.is_busy_silent() => format!("wait until it answers BUSY again. Then {kills}"),
            (None, Some(Duration::ZERO)) => {
                "only a restart ends it, because the time limit is 0: the server accepts no kill.".to_owned()
            }
            (None, Some(limit)) if blocked > limit.saturating_add(Duration::from_secs(1)) => {
                "check whether the process is running or stopped. It has not answered BUSY, so the cause is most likely one long \
                 command, which cannot be killed."
                    .to_owned()
            }
            (None, limit) => {
                let after = limit.map(|limit| format!(", after {}", humanize(limit))).unwrap_or_default();
                format!("wait until it answers BUSY{after}. Then {kills}")
            }
        }
    }
}

/// Formats a duration like Prometheus' `humanizeDuration`: with four significant digits below a minute.
pub(super) fn humanize(duration: Duration) -> String {
    let (whole, seconds) = (duration.as_secs(), duration.as_secs_f64());
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if whole == 0 && !duration.is_zero() => {
            format!("{}ms", four_digits(float(u64::from(duration.subsec_micros())) / 1e3))
        }
        (0, 0, 0) => format!("{}s", four_digits(seconds)),
        (0, 0, _) => format!("{minutes}m {rest}s"),
        (0, _, _) => format!("{hours}h {minutes}m {rest}s"),
        _ => format!("{days}d {hours}h {minutes}m {rest}s"),
    }
}

/// Formats a number below 1000 with four significant digits, without trailing zeros.
fn four_digits(number: f64) -> String {
    let text = match number {
        ..10.0 => format!("{number:.3}"),
        ..100.0 => format!("{number:.2}"),
        _ => format!("{number:.1}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Target that answers.
    pub(in crate::notify) fn idle() -> AlertFacts {
        AlertFacts {
            target: "t:1".into(),
            address: None,
            redis_cli: "redis-cli -h t -p 1".to_owned(),
            state: Some(StateKind::Ok),
            slow: Thresholds { warning: Duration::from_secs(1), critical: Duration::from_secs(2) },
            time_limit: Some(Duration::from_secs(5)),
            blockage: None,
            page: None,
            kill_after: None,
            actions: Vec::new(),
            guard_grant: None,
        }
    }

    /// The same instant on the wall clock.
    pub(in crate::notify) fn wall(at: Mono) -> Unix {
        Unix::from_epoch(at.since(Mono::EPOCH))
    }

    /// Target that has been blocked since `began`.
    pub(in crate::notify) fn blocked(state: StateKind, began: Mono) -> AlertFacts {
        let noticed = began + Duration::from_millis(250);
        let blockage = Blockage { noticed, began, began_at: wall(began), running: None };
        AlertFacts { state: Some(state), blockage: Some(blockage), ..idle() }
    }

    fn labels() -> Labels {
        Labels::from([("instance".to_owned(), "i:1".to_owned())])
    }

    #[test]
    fn durations_are_those_of_prometheus() {
        for (millis, text) in [
            (0, "0s"),
            (250, "250ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1234, "1.234s"),
            (12_340, "12.34s"),
            (59_990, "59.99s"),
            (60_000, "1m 0s"),
            (3_661_000, "1h 1m 1s"),
            (90_061_000, "1d 1h 1m 1s"),
        ] {
            assert_eq!(humanize(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn the_text_describes_the_state_and_the_next_step() {
        let second = Duration::from_secs(1);
        let began = Mono::from_epoch(second);
        let description =
            |facts: &AlertFacts, blocked| facts.while_blocked(&labels(), blocked)["description"].clone();
        let silent = blocked(StateKind::Blocked, began);
        assert_eq!(
            description(&silent, second),
            "t:1 (instance i:1) has been blocked for 1s. What it is running is not known yet. Next: wait until it answers \
             BUSY, after 5s. Then `redis-cli -h t -p 1 SCRIPT KILL` ends a script, and `redis-cli -h t -p 1 FUNCTION KILL` a \
             function."
        );
        assert!(
            description(&silent, second * 7)
                .contains("Next: check whether the process is running or stopped.")
        );
        let no_limit = AlertFacts { time_limit: Some(Duration::ZERO), ..silent.clone() };
        assert!(description(&no_limit, second).contains("Next: only a restart ends it"));
        let unknown = AlertFacts { time_limit: None, ..silent };
        assert!(description(&unknown, second).contains("Next: wait until it answers BUSY. Then"));
        let mut named = blocked(StateKind::Busy(BusyKind::Script), began);
        let running = AlertScript { kind: "script", script: "abc".to_owned(), name: "queue.lua".to_owned() };
        named.blockage.as_mut().unwrap().running = Some(running);
        named.address = Some("10.0.0.1:6379".to_owned());
        let mut pod = labels();
        pod.insert("pod".to_owned(), "redis-0".to_owned());
        assert_eq!(
            named.while_blocked(&pod, second * 6)["description"],
            "t:1 (address 10.0.0.1:6379, instance i:1, pod redis-0) has been blocked for 6s, and answers BUSY. It is running the \
             script queue.lua (abc). Next: `redis-cli -h t -p 1 SCRIPT KILL`."
        );
        let login = AlertFacts { redis_cli: "redis-cli -h t -p 1 --askpass".to_owned(), ..named.clone() };
        assert!(description(&login, second * 6).ends_with(
            "Next: `redis-cli -h t -p 1 --askpass SCRIPT KILL`. If the reply is NOPERM, log in as a user that may run the \
             command (--user)."
        ));
        assert_eq!(named.while_blocked(&pod, second)["summary"], "t:1 is blocked, most likely by a script.");
        for (kind, runs, next) in [
            (
                BusyKind::Script,
                "It is running a script whose name is not known yet.",
                "`redis-cli -h t -p 1 SCRIPT KILL`.",
            ),
            (
                BusyKind::Function,
                "It is running a function whose name is not known yet.",
                "`redis-cli -h t -p 1 FUNCTION KILL`.",
            ),
            (BusyKind::Module, "It is running a module command.", "see the module's documentation;"),
        ] {
            let text = description(&blocked(StateKind::Busy(kind), began), second);
            assert!(text.contains(&format!("{runs} Next: {next}")), "{text}");
        }
        let silent = blocked(StateKind::BusySilent, began);
        let silent = AlertFacts { page: Some("http://x/?target=t%3A1".to_owned()), ..silent };
        let text = description(&silent, second);
        assert!(text.contains(" for 1s. It answered BUSY but is not responding now; "), "{text}");
        assert!(text.contains(" Next: wait until it answers BUSY again. "), "{text}");
        assert!(text.ends_with(" Status page: http://x/?target=t%3A1"), "{text}");
        assert_eq!(
            idle().after_end(&labels(), second * 3, wall(began + second * 3))["description"],
            "t:1 (instance i:1) was blocked for at least 3s. The blockage is over; the state is now ok. Next: find the call with \
             `redis-cli -h t -p 1 SLOWLOG GET`, or in the exporter's log."
        );
    }

    #[test]
    fn the_text_agrees_with_the_guard() {
        let second = Duration::from_secs(1);
        let began = Mono::from_epoch(second * 100);
        let mut facts = blocked(StateKind::Busy(BusyKind::Script), began);
        let text = |facts: &AlertFacts| facts.while_blocked(&labels(), second * 12)["description"].clone();
        assert!(text(&facts).ends_with(" Next: `redis-cli -h t -p 1 SCRIPT KILL`."), "no guard");
        facts.kill_after = Some(second * 10);
        let kills = " Next: `redis-cli -h t -p 1 SCRIPT KILL`. The exporter's guard kills a script or function after 10s, if its rules \
                     permit.";
        assert!(text(&facts).ends_with(kills), "{}", text(&facts));
        let action = |outcome, after: u32| GuardAction {
            outcome,
            at: wall(began) + second * after,
            ran_for: second * 10,
            kind: "script",
            script: None,
        };
        facts.actions = vec![action(GuardOutcome::Budget, 0)];
        facts.actions[0].at = wall(began - second);
        assert!(text(&facts).ends_with(kills), "that was about the previous blockage");
        facts.actions.push(action(GuardOutcome::Unkillable, 10));
        let refused = " Next: wait for it to finish, or stop the server with SHUTDOWN NOSAVE, which loses every write since its last save: it has already written data, so the server refused \
                       the guard's kill.";
        assert!(text(&facts).ends_with(refused), "{}", text(&facts));
        let end = |facts: &AlertFacts| {
            let over = wall(began + second * 12);
            facts.after_end(&labels(), second * 12, over)["description"].clone()
        };
        assert!(!end(&facts).contains("guard"), "{}", end(&facts));
        facts.actions = vec![action(GuardOutcome::Killed, 12)];
        assert!(end(&facts).contains(
            " The blockage is over; the state is now busy_script. The exporter's guard killed the running script. Next: "
        ));
        assert_eq!(facts.acted(), Some(GuardOutcome::Killed));
    }
}
