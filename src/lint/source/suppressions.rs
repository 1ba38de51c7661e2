//! Comments that allow findings: `-- redis-script-lint: allow(rule, …) reason` for a line, `allow-file(…)` for the file.

use std::collections::BTreeSet;

use crate::lint::rules::{self, Found};
use crate::lint::source::syntax::Position;
use crate::lint::source::tokens::{Kind, Token};

/// What such a comment begins with.
const MARK: &str = "redis-script-lint:";

/// What a comment allows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowance {
    position: Position,
    rule: &'static str,
    /// The line that it is about; `None` is the whole file.
    line: Option<usize>,
}

/// What the comments of a file allow.
#[derive(Debug, Default)]
pub(crate) struct Allowances {
    allowed: Vec<Allowance>,
    /// Comments that name no rule.
    unknown: Vec<Found>,
}

impl Allowances {
    /// Reads the comments among these tokens.
    pub(crate) fn read(tokens: &[Token<'_>]) -> Self {
        let mut allowances = Self::default();
        let is_code = |token: &&Token<'_>| !matches!(token.kind, Kind::Comment(_));
        let code: BTreeSet<usize> = tokens.iter().filter(is_code).map(|token| token.line).collect();
        for token in tokens {
            if let Kind::Comment(comment) = token.kind
                && let Some((_, text)) = comment.split_once(MARK)
            {
                let position = Position { line: token.line, column: token.column + 1 };
                // Beside code it is about that line, alone about the next one with code.
                let line = code.range(token.line..).next().copied().unwrap_or(token.line);
                allowances.add(text, position, line);
            }
        }
        allowances
    }

    fn add(&mut self, text: &str, position: Position, line: usize) {
        let text = text.trim_start();
        let whole = text.strip_prefix("allow-file").map(|rest| (rest, None));
        let parsed = whole.or_else(|| text.strip_prefix("allow").map(|rest| (rest, Some(line))));
        let names = parsed.and_then(|(rest, line)| {
            let (names, _) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
            Some((names, line))
        });
        let Some((names, line)) = names else {
            let message =
                "this comment is not understood: allow(rule, …) or allow-file(rule, …) was expected";
            self.unknown.push(Found::new("unknown-rule", position, message));
            return;
        };
        for name in names.split(',').map(str::trim) {
            match rules::rule(name) {
                Some(rule) => self.allowed.push(Allowance { position, rule: rule.name, line }),
                None => {
                    self.unknown.push(Found::new(
                        "unknown-rule",
                        position,
                        format!("there is no rule `{name}`"),
                    ));
                }
            }
        }
    }

    /// Takes out what is allowed, and adds what is wrong with the comments, but for those about rules that are off. Gives how
    /// many were taken out.
    pub(crate) fn apply(self, found: &mut Vec<Found>, is_off: impl Fn(&str) -> bool) -> usize {
        let before = found.len();
        let mut used = vec![false; self.allowed.len()];
        found.retain(|found| {
            let mut is_allowed = false;
            for (allowance, used) in self.allowed.iter().zip(&mut used) {
                let is_here = allowance.line.is_none_or(|line| line == found.position.line);
                if allowance.rule == found.rule && is_here {
                    (is_allowed, *used) = (true, true);
                }
            }
            !is_allowed
        });
        let allowed = before - found.len();
        for (allowance, used) in self.allowed.iter().zip(used) {
            if !used && !is_off(allowance.rule) {
                let message = format!("nothing here is allowed by {}", allowance.rule);
                found.push(Found::new("unused-allow", allowance.position, message));
            }
        }
        found.extend(self.unknown);
        found.sort_by_key(|found| (found.position, found.rule));
        allowed
    }
}
