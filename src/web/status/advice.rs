//! What to do about a blockage, and what hides the truth: the words of the status page.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamps;
use crate::config::TargetConfig;
use crate::parse::{BusyKind, SlowlogThreshold};
use crate::shell;
use crate::text::duration;
use crate::watch::{Feature, State, Target};

/// A script can't be killed before the time limit has passed: a longer one than this is worth a word. The servers' default.
const USUAL_TIME_LIMIT: Duration = Duration::from_secs(5);

/// The slow log has to be read at least so often, whatever the poll interval.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// How much a problem hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weight {
    /// Nothing, or little, is seen of what happens.
    Blind,
    /// Some of what happens is not seen.
    Partial,
    /// Good to know.
    Note,
}

/// Something that hides the truth, or makes a blockage worse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// A word for programs; stays the same.
    pub(crate) kind: &'static str,
    pub(crate) weight: Weight,
    /// What it means, and what to do.
    pub(crate) text: String,
}

/// All problems of a target, the heaviest first.
pub(crate) fn problems(config: &TargetConfig, target: &Target, now: Timestamps) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    found.unseen(target);
    found.refused(config, target);
    found.settings(target);
    found.numbers(config, target, now);
    found.0.sort_by_key(|problem| problem.weight);
    found.0
}

/// The problems found so far.
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, kind: &'static str, weight: Weight, text: impl Into<String>) {
        self.0.push(Problem { kind, weight, text: text.into() });
    }

    /// States in which nothing can be seen.
    fn unseen(&mut self, target: &Target) {
        let liveness = target.liveness();
        match liveness.state() {
            State::Unreachable { detail } => self.add(
                "unreachable",
                Weight::Blind,
                format!(
                    "The exporter can't reach this server: {detail}. Nothing is seen of what happens there."
                ),
            ),
            State::Unauthorized { detail } => self.add(
                "unauthorized",
                Weight::Blind,
                format!(
                    "The server does not accept the exporter: {detail}. Nothing is seen of what happens there."
                ),
            ),
            _ => {}
        }
    }

    /// What the server does not let us ask.
    fn refused(&mut self, config: &TargetConfig, target: &Target) {
        let user = config.credentials.user_shown();
        let refused = |feature: Feature| target.exporter().capability(feature) == Some(false);
        if refused(Feature::Slowlog) {
            self.add(
                "slowlog_refused",
                Weight::Blind,
                format!("SLOWLOG is refused: no script call is counted. ACL SETUSER {user} +slowlog|get allows it."),
            );
        }
        if refused(Feature::Config) {
            self.add(
                "config_refused",
                Weight::Partial,
                format!(
                    "CONFIG GET is refused: whether the slow log is on, and from when on a script can be killed, is \
                     not known. ACL SETUSER {user} +config|get allows it; a managed service may not."
                ),
            );
        }
        if refused(Feature::Info) {
            self.add(
                "info_refused",
                Weight::Partial,
                format!(
                    "INFO is refused: a restart of the server may go unnoticed, and its own counts are missing. \
                     ACL SETUSER {user} +info allows it."
                ),
            );
        }
        let has_functions = target.server().info().compatible_major.is_some_and(|major| major >= 7);
        if has_functions && refused(Feature::FunctionStats) {
            self.add(
                "function_stats_refused",
                Weight::Note,
                format!(
                    "FUNCTION STATS is refused: a function is not named while it runs. \
                     ACL SETUSER {user} +function|stats allows it."
                ),
            );
        }
    }

    /// Settings of the server that hide something or are unsafe.
    fn settings(&mut self, target: &Target) {
        let settings = target.server().settings();
        let warning = target.scripts().slow().warning;
        match settings.slowlog_threshold {
            Some(SlowlogThreshold::Off) => self.add(
                "slowlog_off",
                Weight::Blind,
                "The slow log is off: no script call is counted. CONFIG SET slowlog-log-slower-than 10000 turns it on.",
            ),
            Some(SlowlogThreshold::At(threshold)) if threshold > warning => self.add(
                "slowlog_threshold",
                Weight::Partial,
                format!(
                    "The slow log begins at {}, above --slow.warning ({}): calls in between are not seen. \
                     CONFIG SET slowlog-log-slower-than {} or less.",
                    duration(threshold),
                    duration(warning),
                    crate::convert::micros(warning)
                ),
            ),
            _ => {}
        }
        if settings.slowlog_max_len == Some(0) {
            self.add(
                "slowlog_empty",
                Weight::Blind,
                "The slow log keeps no entries: no script call is counted. CONFIG SET slowlog-max-len 1024.",
            );
        }
        match settings.time_limit {
            Some(Duration::ZERO) => self.add(
                "time_limit_off",
                Weight::Note,
                "The time limit of scripts is 0: the server never answers BUSY and takes no kill. \
                 CONFIG SET busy-reply-threshold 5000 (before 7.0: lua-time-limit).",
            ),
            Some(limit) if limit > USUAL_TIME_LIMIT => self.add(
                "time_limit_long",
                Weight::Note,
                format!("A script can't be killed before it has run for {} (busy-reply-threshold, lua-time-limit).", duration(limit)),
            ),
            _ => {}
        }
    }

    /// Numbers that are too low.
    fn numbers(&mut self, config: &TargetConfig, target: &Target, now: Timestamps) {
        let unreadable = target.unreadable();
        if !target.reads_slowlog() {
            self.add(
                "slowlog_unreadable",
                Weight::Blind,
                "No entry of the slow log is in a form that the exporter can read: no script call is counted. What is new \
                 is counted as lost. Please report it, with the answer to SLOWLOG GET 1.",
            );
        } else if unreadable > 0 {
            self.add(
                "slowlog_unreadable",
                Weight::Partial,
                format!(
                    "{unreadable} slow log {} not in a form that the exporter can read: the counts are too low by as much. \
                     Please report it, with such an entry of SLOWLOG GET.",
                    if unreadable == 1 { "entry was" } else { "entries were" }
                ),
            );
        }
        let lost = target.lost().saturating_sub(unreadable);
        if lost > 0 {
            self.add(
                "entries_lost",
                Weight::Partial,
                format!(
                    "{lost} slow log {} overwritten or reset before the exporter could read: the counts are too low by \
                     as much. A larger slowlog-max-len keeps entries longer.",
                    if lost == 1 { "entry was" } else { "entries were" }
                ),
            );
        }
        let overflow = target.scripts().overflow();
        if overflow > 0 {
            self.add(
                "script_overflow",
                Weight::Note,
                format!(
                    "{overflow} {} of further scripts counted under \u{201c}other\u{201d}. Raise --script.max-series to name more.",
                    if overflow == 1 { "call is" } else { "calls are" }
                ),
            );
        }
        let stale = STALE_AFTER.max(config.intervals.poll.saturating_mul(10));
        let read = target.exporter().last_poll;
        if *target.liveness().state() == State::Ok && read.is_some_and(|read| now.unix.since(read) > stale) {
            self.add(
                "stale",
                Weight::Blind,
                format!(
                    "The slow log has not been read for more than {}: see the exporter's log.",
                    duration(stale)
                ),
            );
        }
    }
}

/// A command that ends what blocks a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Kill {
    /// What the server is to be told.
    pub(crate) command: &'static str,
    /// The same for a shell.
    pub(crate) shell: String,
}

/// What can be done about a blockage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Way {
    /// Commands, one of which applies.
    pub(crate) kill: Vec<Kill>,
    /// When they work, and what an error means.
    pub(crate) advice: String,
}

const SCRIPT_KILL: &str = "SCRIPT KILL";
const FUNCTION_KILL: &str = "FUNCTION KILL";

/// What the answer UNKILLABLE means.
const UNKILLABLE: &str = "If the answer is UNKILLABLE, it has already written data: then either wait until it ends, or \
    SHUTDOWN NOSAVE, which ends the server and loses every write since its last save.";

/// The answer NOPERM to a user that may only watch.
const NO_PERMISSION: &str = " If the answer is NOPERM, the exporter's user is not allowed to do this: log in with --user as \
    one that is.";

/// What can be done about the blockage of this target.
pub(crate) fn way(config: &TargetConfig, target: &Target, now: Timestamps) -> Way {
    let kills = |commands: &[&'static str]| commands.iter().map(|command| kill(config, command)).collect();
    let mut way = match target.liveness().state() {
        State::Busy(BusyKind::Script, _) => Way { kill: kills(&[SCRIPT_KILL]), advice: UNKILLABLE.to_owned() },
        State::Busy(BusyKind::Function, _) => Way { kill: kills(&[FUNCTION_KILL]), advice: UNKILLABLE.to_owned() },
        State::Busy(BusyKind::Module, _) => Way {
            kill: Vec::new(),
            advice: "A module's command keeps the server busy; neither SCRIPT KILL nor FUNCTION KILL ends it. Wait, or \
                     see what the module offers."
                .to_owned(),
        },
        _ => not_busy_yet(config, target, now),
    };
    if !way.kill.is_empty() && config.credentials.password.is_some() {
        way.advice.push_str(NO_PERMISSION);
    }
    way
}

/// A server that answers nothing at all.
fn not_busy_yet(config: &TargetConfig, target: &Target, now: Timestamps) -> Way {
    let limit = target.server().settings().time_limit;
    if limit == Some(Duration::ZERO) {
        return Way {
            kill: Vec::new(),
            advice: "This server's time limit of scripts is 0: it takes no kill, and answers only when what runs has \
                     ended. Wait, or end its process."
                .to_owned(),
        };
    }
    let names: &[&'static str] = match target.liveness().runner().map(|runner| runner.kind) {
        Some(BusyKind::Function) => &[FUNCTION_KILL],
        Some(BusyKind::Script) => &[SCRIPT_KILL],
        // Servers before 7.0 have no functions.
        _ if target.server().info().compatible_major.is_some_and(|major| major < 7) => &[SCRIPT_KILL],
        _ => &[SCRIPT_KILL, FUNCTION_KILL],
    };
    let usual = limit.unwrap_or(USUAL_TIME_LIMIT);
    let advice = if target.liveness().blocked(now) > usual.saturating_add(Duration::from_secs(1)) {
        format!(
            "It answers nothing, not even BUSY, though the time limit of {} has passed: this is probably no script, but \
             another slow command, a stopped process or swapping. A kill helps only if it is a script.",
            duration(usual)
        )
    } else {
        format!(
            "It answers nothing yet. If a script runs, the server takes a kill after {} of it; sent now, the command \
             waits until then. Another slow command can't be killed.",
            duration(usual)
        )
    };
    Way { kill: names.iter().map(|command| kill(config, command)).collect(), advice }
}

/// The command, also as a line for a shell.
fn kill(config: &TargetConfig, command: &'static str) -> Kill {
    Kill { command, shell: format!("{} {command}", shell::redis_cli(config)) }
}
