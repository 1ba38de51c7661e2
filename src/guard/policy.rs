//! The operator's rules: what the guard may kill, when and how often.

use std::time::Duration;

use crate::script::NamedScript;
use crate::text::matches_pattern;

/// Rules of the guard of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Minimum run time before a script is killed; the server's time limit applies instead if it is longer.
    pub(crate) kill_after: Duration,
    /// Effect of a decision to kill.
    pub(crate) mode: Mode,
    /// Scripts and functions that may be killed.
    pub(crate) scripts: Patterns,
    /// Treatment of a script with an unknown name, if there are patterns.
    pub(crate) unknown: UnknownScript,
    /// True if functions may be killed too.
    pub(crate) functions: bool,
    /// Limit on kills.
    pub(crate) budget: Budget,
}

/// Effect of a decision to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The decision is counted and reported, but no kill is sent.
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

/// Treatment of a script with an unknown name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownScript {
    /// The script is not killed.
    Leave,
    /// The script is killed.
    Kill,
}

/// Limit on kills: `max_kills` within `per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Maximum number of kills; at least 1.
    pub(crate) max_kills: usize,
    /// Period to which the maximum applies.
    pub(crate) per: Duration,
}

/// Name patterns, in which `*` matches any characters. Case is ignored, because function names are case-insensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Patterns {
    /// If not empty, only scripts that match one of these may be killed.
    only: Vec<String>,
    /// Scripts that match one of these are never killed.
    never: Vec<String>,
}

impl Patterns {
    /// Creates patterns.
    #[must_use]
    pub(crate) fn new(only: &[String], never: &[String]) -> Self {
        let lower = |patterns: &[String]| patterns.iter().map(|one| one.to_ascii_lowercase()).collect();
        Self { only: lower(only), never: lower(never) }
    }

    /// True if there are no patterns, so that every script may be killed.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.only.is_empty() && self.never.is_empty()
    }

    /// True if the script may be killed. Patterns are matched against its name, its identity and its SHA1.
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
