//! Headline of the page: the worst state of all targets and the number of targets in each state.

use std::collections::BTreeMap;

use serde::Serialize;

/// State of a target before the first connection attempt has finished.
pub(crate) const UNTRIED: &str = "untried";

/// Severity of the headline, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// A target is blocked or BUSY.
    Blocked,
    /// A target is unreachable or denies access to the exporter.
    Down,
    /// A target is loading its dataset or has not been checked yet, or there is no target.
    Waiting,
    /// All targets respond.
    Ok,
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
    /// Creates the headline from the number of targets in each state.
    pub(crate) fn of(states: &BTreeMap<&'static str, usize>) -> Self {
        let in_state = |state: &str| states.get(state).copied().unwrap_or_default();
        let (total, ok) = (states.values().sum::<usize>(), in_state("ok"));
        let blocked =
            ["blocked", "busy_script", "busy_function", "busy_module"].map(in_state).into_iter().sum();
        let kinds = [
            (Level::Blocked, blocked, "is blocked.", "are blocked."),
            (Level::Down, in_state("unreachable"), "is unreachable.", "are unreachable."),
            (
                Level::Down,
                in_state("unauthorized"),
                "denies access to the exporter.",
                "deny access to the exporter.",
            ),
            (Level::Waiting, in_state("loading"), "is loading its dataset.", "are loading their datasets."),
            (Level::Waiting, in_state(UNTRIED), "has not been checked yet.", "have not been checked yet."),
        ];
        let mut bad =
            kinds.into_iter().filter(|(_, count, ..)| *count > 0).map(|(level, count, one, more)| {
                (
                    level,
                    if count == 1 { format!("1 target {one}") } else { format!("{count} targets {more}") },
                )
            });
        let (level, text) = match (bad.next(), total) {
            (Some(worst), _) => worst,
            (None, 0) => (Level::Waiting, "There are no targets yet.".to_owned()),
            (None, 1) => (Level::Ok, "The target is not blocked.".to_owned()),
            (None, _) => (Level::Ok, "No target is blocked.".to_owned()),
        };
        let others = bad.map(|(_, text)| text);
        let details: Vec<String> = others.chain([format!("{ok} of {total} responding.")]).collect();
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
                Level::Blocked,
                "4 targets are blocked.",
                "1 target is unreachable. 0 of 5 responding.",
            ),
        ] {
            let headline = Headline::of(&states.iter().copied().collect());
            assert_eq!((headline.level, &*headline.text, &*headline.details), (level, text, details));
        }
    }
}
