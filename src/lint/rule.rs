//! Declaration of rules, and the inputs and outputs of their checks.

use std::collections::BTreeSet;
use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::lint::analysis::doubt::Doubt;
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::analysis::recursion::Recursion;
use crate::lint::source::header::Header;
use crate::lint::source::parse::ParseError;
use crate::lint::source::suppressions::{Suppression, Suppressions};
use crate::lint::source::syntax::{ExprId, Loop};
use crate::lua::{Position, Token};

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing, or harmless as long as something that the script does not show stays small.
    Info,
    /// Blocks the server once there is enough data: the script shows what grows, and nothing that limits it.
    Warning,
    /// Blocks the server, or fails.
    Error,
}

impl Severity {
    /// Name of the severity in text, JSON and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Declaration, documentation and check of a rule. Rules are equal if their names are.
pub struct Rule {
    /// Name, as used in suppressions.
    pub name: &'static str,
    /// Maximum severity of its findings.
    pub severity: Severity,
    /// False if the rule runs only with `--enable`.
    pub on_by_default: bool,
    /// Code that the rule reports.
    pub summary: &'static str,
    /// Code to write instead.
    pub instead: &'static str,
    /// Rationale, as Markdown.
    pub(crate) why: &'static str,
    /// Example for the documentation; `None` if it would be too long.
    pub(crate) example: Option<Example>,
    pub(crate) check: Check,
}

/// URL of the documentation.
const DOCUMENTATION: &str =
    "https://github.com/redis-script-exporter/redis-script-exporter/blob/main/docs/lint.md";

impl Rule {
    /// URL of the rule's documentation.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{DOCUMENTATION}#{}", self.name)
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Rule {}

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Rule").field(&self.name).finish()
    }
}

/// Example scripts of a rule. A test lints both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example {
    /// Script that the rule reports.
    pub(crate) bad: &'static str,
    /// The same script without the finding.
    pub(crate) good: &'static str,
}

/// Check of a rule, by the input that it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Check {
    /// Checks a parsed script.
    Script(fn(&ScriptFacts<'_>, Header) -> Vec<Diagnostic>),
    /// Checks a source, whether or not it can be parsed.
    Source(fn(&Source<'_>) -> Vec<Diagnostic>),
    /// Checks the suppressions, after all other checks.
    Suppressions(fn(&Suppressed<'_>) -> Vec<Diagnostic>),
}

/// Origin of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Lua file.
    File,
    /// String literal in a file of another language. The program may concatenate it with other strings.
    Literal {
        /// True if the file mentions LTRIM.
        trims_lists: bool,
    },
}

impl Origin {
    pub(crate) const fn is_literal(self) -> bool {
        matches!(self, Self::Literal { .. })
    }
}

/// Input of [`Check::Source`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    pub(crate) origin: Origin,
    /// Tokens after the `#!` line.
    pub(crate) tokens: &'a [Token<'a>],
    /// Parameters that a client replaces (`@key`). In `tokens`, their special characters are replaced with `_`.
    pub(crate) parameters: &'a [(Position, String)],
    /// Positions of globals that neither Lua nor the server nor the script defines.
    pub(crate) undefined: &'a BTreeSet<Position>,
    /// False if nothing in the source is specific to Redis; always true for a literal.
    pub(crate) is_for_redis: bool,
    /// Name that identifies the source as Lua for another program, and its position. If it is set, only `other-lua` runs.
    pub(crate) foreign: Option<(Position, &'a str)>,
    /// Reason why the source can't be analysed.
    pub(crate) error: Option<&'a ParseError>,
}

/// Input of [`Check::Suppressions`].
#[derive(Debug)]
pub(crate) struct Suppressed<'a> {
    pub(crate) suppressions: &'a Suppressions<'a>,
    /// Suppressions of enabled rules that suppressed nothing.
    pub(crate) unused: Vec<Suppression<'a>>,
    /// Suppressions of unknown rules.
    pub(crate) unknown: Vec<Suppression<'a>>,
}

/// Finding of a rule in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub(crate) rule: &'static Rule,
    pub(crate) severity: Severity,
    pub(crate) position: Position,
    /// Reason for the finding. `{line}` is a placeholder for the line of `related`; for a literal, the line in the file is not known
    /// yet.
    pub(crate) message: String,
    /// Another position that explains the finding, and its role.
    pub(crate) related: Option<(Position, &'static str)>,
}

impl Diagnostic {
    pub(crate) fn new(rule: &'static Rule, position: Position, message: impl Into<String>) -> Self {
        Self { rule, severity: rule.severity, position, message: message.into(), related: None }
    }

    /// Lowers the severity to information if there is a doubt.
    pub(crate) fn unless(self, doubt: Option<&Doubt>) -> Self {
        match doubt {
            Some(doubt) => self.lowered(&doubt.text()),
            None => self,
        }
    }

    /// Lowers the severity to information, and appends `text` to the message.
    pub(crate) fn lowered(mut self, text: &str) -> Self {
        self.severity = Severity::Info;
        self.message.push_str(text);
        self
    }

    pub(crate) fn with_related(mut self, position: Position, role: &'static str) -> Self {
        self.related = Some((position, role));
        self
    }

    /// Diagnostic about a loop. `call` is the command whose reply the loop depends on, if there is one.
    pub(crate) fn of_loop(
        rule: &'static Rule,
        facts: &ScriptFacts<'_>,
        around: &Loop,
        message: &str,
        call: Option<ExprId>,
    ) -> Self {
        let diagnostic = Self::new(rule, around.position, format!("{message}{}", unkillable(facts, around)));
        match call {
            Some(call) => {
                diagnostic.with_related(facts.script.position(call), "the reply that the loop depends on")
            }
            None => diagnostic,
        }
    }

    /// Diagnostic about a recursion. `call` is the command whose reply the recursion depends on.
    pub(crate) fn of_recursion(
        rule: &'static Rule,
        facts: &ScriptFacts<'_>,
        recursion: &Recursion,
        message: &str,
        call: ExprId,
    ) -> Self {
        let diagnostic = Self::new(rule, facts.script.position(recursion.call), message);
        diagnostic.with_related(facts.script.position(call), "the reply that the recursion depends on")
    }

    /// Sort key.
    pub(crate) fn key(&self) -> (Position, &'static str) {
        (self.position, self.rule.name)
    }
}

/// Suffix of the message about a loop that writes; empty for other loops.
pub(crate) fn unkillable(facts: &ScriptFacts<'_>, around: &Loop) -> &'static str {
    if facts.writes(around) { "; it writes, so SCRIPT KILL can't end it" } else { "" }
}
