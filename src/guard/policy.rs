//! Rules of the operator: when, what and how often the guard may kill.

use std::time::Duration;

use crate::script::NamedScript;
use crate::text::matches_pattern;

/// Rules of the guard of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Minimum run time of a script that is killed. The server's time limit applies if it is longer.
    pub(crate) kill_after: Duration,
    /// Effect of a decision to kill.
    pub(crate) mode: Mode,
    /// Scripts and functions that may be killed.
    pub(crate) scripts: Patterns,
    /// Treatment of a script without a known name, if there are patterns.
    pub(crate) unknown: UnknownScript,
    /// True if functions may be killed too.
    pub(crate) functions: bool,
    /// Limit on kills.
    pub(crate) budget: Budget,
}

/// Effect of a decision to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is counted and reported; no kill is sent.
    DryRun,
    /// A kill is sent.
    Kill,
}

impl Mode {
    /// Value of the label `mode`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::DryRun => "dry-run",
            Self::Kill => "kill",
        }
    }
}

/// Treatment of a script without a known name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownScript {
    /// It is not killed.
    Leave,
    /// It is killed.
    Kill,
}

/// Limit on kills: `max_kills` within `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Maximum number of kills; at least 1.
    pub(crate) max_kills: usize,
    /// Period that it applies to.
    pub(crate) per: Duration,
}

/// Patterns of names, in which `*` matches any characters. Letter case is ignored, as the names of functions have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Patterns {
    /// If not empty, only scripts that one of these matches are killed.
    only: Vec<String>,
    /// Scripts that one of these matches are never killed.
    never: Vec<String>,
}

impl Patterns {
    /// Creates patterns.
    #[must_use]
    pub(crate) fn new(only: &[String], never: &[String]) -> Self {
        let lower = |patterns: &[String]| patterns.iter().map(|one| one.to_ascii_lowercase()).collect();
        Self { only: lower(only), never: lower(never) }
    }

    /// True without patterns: every script may be killed.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.only.is_empty() && self.never.is_empty()
    }

    /// True if the script may be killed. Its name, its identity and its SHA1 are compared.
    #[must_use]
    pub(crate) fn admit(&self, script: &NamedScript) -> bool {
        let is_one_of = |patterns: &[String]| {
            let sha1 = script.sha1.as_ref().map(crate::script::Sha1Digits::as_str);
            let texts = [Some(script.name.as_str()), Some(script.label.as_str()), sha1];
            texts.into_iter().flatten().any(|text| {
                let text = text.to_ascii_lowercase();
                patterns.iter().any(|pattern| matches_pattern(pattern.as_bytes(), text.as_bytes()))
            })
        };
        !is_one_of(&self.never) && (self.only.is_empty() || is_one_of(&self.only))
    }
}
