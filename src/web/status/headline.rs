//! The headline of the page: the worst state that any target is in, and how many are in each.

use std::collections::BTreeMap;

use serde::Serialize;

/// The worst state of all targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// A target is blocked or BUSY.
    Blocked,
    /// A target can't be reached, or does not accept the exporter.
    Down,
    /// A target is loading its data or has not been tried yet, or there is no target.
    Waiting,
    /// All targets answer.
    Ok,
}

/// The headline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Headline {
    pub(crate) level: Level,
    /// The worst state, and how many targets are in it.
    pub(crate) text: String,
    /// The other states, and how many targets answer.
    pub(crate) details: String,
}

impl Headline {
    /// The headline for `states`: the number of targets in each state.
    pub(crate) fn of(states: &BTreeMap<&'static str, usize>) -> Self {
        let in_state = |state: &str| states.get(state).copied().unwrap_or_default();
        let (all, ok) = (states.values().sum::<usize>(), in_state("ok"));
        let blocked =
            ["blocked", "busy_script", "busy_function", "busy_module"].map(in_state).into_iter().sum();
        let kinds = [
            (Level::Blocked, blocked, "is blocked.", "are blocked."),
            (Level::Down, in_state("unreachable"), "can't be reached.", "can't be reached."),
            (
                Level::Down,
                in_state("unauthorized"),
                "does not accept the exporter.",
                "do not accept the exporter.",
            ),
            (Level::Waiting, in_state("loading"), "is loading its data.", "are loading their data."),
            (
                Level::Waiting,
                in_state(super::targets::UNTRIED),
                "has not been tried yet.",
                "have not been tried yet.",
            ),
        ];
        let mut bad =
            kinds.into_iter().filter(|(_, count, ..)| *count > 0).map(|(level, count, one, more)| {
                (
                    level,
                    if count == 1 { format!("1 target {one}") } else { format!("{count} targets {more}") },
                )
            });
        let (level, text) = match (bad.next(), all) {
            (Some(worst), _) => worst,
            (None, 0) => (Level::Waiting, "There are no targets yet.".to_owned()),
            (None, 1) => (Level::Ok, "The target is not blocked.".to_owned()),
            (None, _) => (Level::Ok, "No target is blocked.".to_owned()),
        };
        let others = bad.map(|(_, text)| text);
        let details: Vec<String> = others.chain([format!("{ok} of {all} answer as they should.")]).collect();
        Self { level, text, details: details.join(" ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_state_of_all_targets_comes_first() {
        for (states, level, text, details) in [
            (&[][..], Level::Waiting, "There are no targets yet.", "0 of 0 answer as they should."),
            (&[("ok", 1)], Level::Ok, "The target is not blocked.", "1 of 1 answer as they should."),
            (&[("ok", 120)], Level::Ok, "No target is blocked.", "120 of 120 answer as they should."),
            (
                &[("ok", 119), ("unreachable", 1)],
                Level::Down,
                "1 target can't be reached.",
                "119 of 120 answer as they should.",
            ),
            (
                &[("unreachable", 120)],
                Level::Down,
                "120 targets can't be reached.",
                "0 of 120 answer as they should.",
            ),
            (
                &[("ok", 1), ("unauthorized", 2), ("loading", 1)],
                Level::Down,
                "2 targets do not accept the exporter.",
                "1 target is loading its data. 1 of 4 answer as they should.",
            ),
            (
                &[("ok", 1), ("loading", 1)],
                Level::Waiting,
                "1 target is loading its data.",
                "1 of 2 answer as they should.",
            ),
            (
                &[("ok", 1), ("untried", 3)],
                Level::Waiting,
                "3 targets have not been tried yet.",
                "1 of 4 answer as they should.",
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
                "1 target can't be reached. 0 of 5 answer as they should.",
            ),
        ] {
            let headline = Headline::of(&states.iter().copied().collect());
            assert_eq!((headline.level, &*headline.text, &*headline.details), (level, text, details));
        }
    }
}
