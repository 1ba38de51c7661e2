//! Headline of the page: the worst state of all targets and the number of targets in each state.

use std::collections::BTreeMap;

use serde::Serialize;

/// State of a target before the first connection attempt has finished.
pub(crate) const UNTRIED: &str = "untried";

/// Severity of a target and of the headline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// A target is unreachable or denies access to the exporter.
    Down,
    /// A target is blocked or BUSY.
    Blocked,
    /// A target responds, but its slow scripts cannot be observed or slow log entries were lost; or the state file cannot
    /// be written.
    Degraded,
    /// A target is loading its dataset or has not been checked yet, or there is no target.
    Waiting,
    /// All targets respond.
    Ok,
}

impl Level {
    /// All levels with their names, the worst first.
    pub(crate) const ALL: [(&str, Self); 5] = [
        ("down", Self::Down),
        ("blocked", Self::Blocked),
        ("degraded", Self::Degraded),
        ("waiting", Self::Waiting),
        ("ok", Self::Ok),
    ];
}

/// Counts from which the headline is built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Number of targets in each state.
    pub(crate) states: BTreeMap<&'static str, usize>,
    /// Number of responding targets whose slow scripts cannot be observed.
    pub(crate) blind: usize,
    /// Number of other responding targets that recently lost slow log entries.
    pub(crate) losing: usize,
    /// Number of incidents that ended in the last hour.
    pub(crate) incidents: usize,
    /// True if the last write of the state file failed.
    pub(crate) state_file_fails: bool,
}

/// Headline of the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Headline {
    pub(crate) level: Level,
    /// Worst state and number of targets in it.
    pub(crate) text: String,
    /// Other states, and number of targets that respond.
    pub(crate) details: String,
}

impl Headline {
    /// Creates the headline from the state of all targets.
    pub(crate) fn of(counts: &Counts) -> Self {
        let in_state = |state: &str| counts.states.get(state).copied().unwrap_or_default();
        let (total, ok) = (counts.states.values().sum::<usize>(), in_state("ok"));
        let is_blocked = |state: &str| state == "blocked" || state.starts_with("busy_");
        let blocked =
            counts.states.iter().filter(|(state, _)| is_blocked(state)).map(|(_, count)| count).sum();
        let kinds = [
            (Level::Down, in_state("unreachable"), "is unreachable.", "are unreachable."),
            (Level::Blocked, blocked, "is blocked.", "are blocked."),
            (
                Level::Down,
                in_state("unauthorized"),
                "denies access to the exporter.",
                "deny access to the exporter.",
            ),
            (
                Level::Degraded,
                counts.blind,
                "responds, but its slow scripts cannot be observed.",
                "respond, but their slow scripts cannot be observed.",
            ),
            (
                Level::Degraded,
                counts.losing,
                "lost slow log entries in the last hour.",
                "lost slow log entries in the last hour.",
            ),
            (Level::Waiting, in_state("loading"), "is loading its dataset.", "are loading their datasets."),
            (Level::Waiting, in_state(UNTRIED), "has not been checked yet.", "have not been checked yet."),
        ];
        let of_targets =
            kinds.into_iter().filter(|(_, count, ..)| *count > 0).map(|(level, count, one, more)| {
                (
                    level,
                    if count == 1 { format!("1 target {one}") } else { format!("{count} targets {more}") },
                )
            });
        let of_exporter = counts
            .state_file_fails
            .then(|| (Level::Degraded, "The state file cannot be written.".to_owned()));
        let mut bad: Vec<(Level, String)> = of_targets.chain(of_exporter).collect();
        // Stable sort that treats down like blocked, so targets that deny access stay after blocked ones.
        bad.sort_by_key(|(level, _)| (*level).max(Level::Blocked));
        let mut bad = bad.into_iter();
        let (level, text) = match (bad.next(), total) {
            (Some(worst), _) => worst,
            (None, 0) => (Level::Waiting, "There are no targets yet.".to_owned()),
            (None, 1) => (Level::Ok, "The target is not blocked.".to_owned()),
            (None, _) => (Level::Ok, "No target is blocked.".to_owned()),
        };
        let others = bad.map(|(_, text)| text);
        let ended = match counts.incidents {
            0 => None,
            1 => Some("1 incident ended in the last hour.".to_owned()),
            count => Some(format!("{count} incidents ended in the last hour.")),
        };
        let responding = format!("{ok} of {total} responding.");
        let details: Vec<String> = others.chain([responding]).chain(ended).collect();
        Self { level, text, details: details.join(" ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_state_of_all_targets_comes_first() {
        for (states, level, text, details) in [
            (&[][..], Level::Waiting, "There are no targets yet.", "0 of 0 responding."),
            (&[("ok", 1)], Level::Ok, "The target is not blocked.", "1 of 1 responding."),
            (&[("ok", 120)], Level::Ok, "No target is blocked.", "120 of 120 responding."),
            (
                &[("ok", 119), ("unreachable", 1)],
                Level::Down,
                "1 target is unreachable.",
                "119 of 120 responding.",
            ),
            (&[("unreachable", 120)], Level::Down, "120 targets are unreachable.", "0 of 120 responding."),
            (
                &[("ok", 1), ("unauthorized", 2), ("loading", 1)],
                Level::Down,
                "2 targets deny access to the exporter.",
                "1 target is loading its dataset. 1 of 4 responding.",
            ),
            (
                &[("unauthorized", 1), ("busy_script", 1)],
                Level::Blocked,
                "1 target is blocked.",
                "1 target denies access to the exporter. 0 of 2 responding.",
            ),
            (
                &[("ok", 1), ("loading", 1)],
                Level::Waiting,
                "1 target is loading its dataset.",
                "1 of 2 responding.",
            ),
            (
                &[("ok", 1), ("untried", 3)],
                Level::Waiting,
                "3 targets have not been checked yet.",
                "1 of 4 responding.",
            ),
            (
                &[
                    ("blocked", 1),
                    ("busy_script", 1),
                    ("busy_function", 1),
                    ("busy_module", 1),
                    ("unreachable", 1),
                ],
                Level::Down,
                "1 target is unreachable.",
                "4 targets are blocked. 0 of 5 responding.",
            ),
        ] {
            let counts = Counts { states: states.iter().copied().collect(), ..Counts::default() };
            let headline = Headline::of(&counts);
            assert_eq!((headline.level, &*headline.text, &*headline.details), (level, text, details));
        }
    }

    #[test]
    fn responding_targets_are_degraded_while_slow_scripts_are_hidden() {
        let states = BTreeMap::from([("ok", 3), ("loading", 1)]);
        let counts = Counts { states, blind: 1, losing: 2, state_file_fails: true, incidents: 4 };
        let headline = Headline::of(&counts);
        assert_eq!(headline.level, Level::Degraded);
        assert_eq!(headline.text, "1 target responds, but its slow scripts cannot be observed.");
        assert_eq!(
            headline.details,
            "2 targets lost slow log entries in the last hour. The state file cannot be written. \
             1 target is loading its dataset. 3 of 4 responding. 4 incidents ended in the last hour."
        );
        let only_file = Counts { blind: 0, losing: 0, ..counts };
        assert_eq!(Headline::of(&only_file).text, "The state file cannot be written.");
    }
}
