//! Suppressions: comments `-- redis-script-lint: allow(rule, …) reason` for a line, `allow-file(…)` for the file.

use std::collections::BTreeSet;

use crate::lua::{Kind, Position, Token};

/// Mark that begins a suppression in a comment.
const MARK: &str = "redis-script-lint:";

/// Lines that a suppression applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    File,
    Line(usize),
}

/// Suppression of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suppression<'a> {
    pub(crate) position: Position,
    pub(crate) scope: Scope,
    /// Name of the rule as written; there may be no such rule.
    pub(crate) rule: &'a str,
}

/// Suppressions of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Suppressions<'a> {
    pub(crate) parsed: Vec<Suppression<'a>>,
    /// Comments that contain the mark but have neither form.
    pub(crate) malformed: Vec<Position>,
}

impl<'a> Suppressions<'a> {
    /// Parses the comments among the tokens of a source.
    pub(crate) fn parse(tokens: &[Token<'a>]) -> Self {
        let mut suppressions = Self::default();
        let is_code = |token: &&Token<'_>| !matches!(token.kind, Kind::Comment(_));
        let code: BTreeSet<usize> = tokens.iter().filter(is_code).map(|token| token.position.line).collect();
        for token in tokens {
            if let Kind::Comment(comment) = token.kind
                && let Some((_, text)) = comment.split_once(MARK)
            {
                // A comment next to code applies to its line; a comment on its own line applies to the next line with code.
                let line = token.position.line;
                let line = code.range(line..).next().copied().unwrap_or(line);
                match names(text) {
                    Some((scope, names)) => {
                        let scope = scope.unwrap_or(Scope::Line(line));
                        let rules = names.split(',').map(str::trim);
                        let position = token.position;
                        suppressions.parsed.extend(rules.map(|rule| Suppression { position, scope, rule }));
                    }
                    None => suppressions.malformed.push(token.position),
                }
            }
        }
        suppressions
    }
}

/// Parses `allow(…)` or `allow-file(…)`. Returns [`Scope::File`] for the latter, and the text in parentheses.
fn names(text: &str) -> Option<(Option<Scope>, &str)> {
    let text = text.trim_start();
    let (scope, rest) = match text.strip_prefix("allow-file") {
        Some(rest) => (Some(Scope::File), rest),
        None => (None, text.strip_prefix("allow")?),
    };
    let (names, _) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    Some((scope, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lua::tokens;

    #[test]
    fn comments_apply_to_a_line_or_the_file() {
        let source = "-- redis-script-lint: allow(a, b) why\n\nx = 1 -- redis-script-lint: allow-file(c)\n\
                      --[[ redis-script-lint: allow a ]]\ny = '-- redis-script-lint: allow(d)'";
        let tokens: Vec<_> = tokens(source).collect();
        let suppressions = Suppressions::parse(&tokens);
        let parsed: Vec<_> = suppressions
            .parsed
            .iter()
            .map(|parsed| (parsed.position.line, parsed.scope, parsed.rule))
            .collect();
        assert_eq!(parsed, [(1, Scope::Line(3), "a"), (1, Scope::Line(3), "b"), (3, Scope::File, "c")]);
        assert_eq!(suppressions.malformed, [Position { line: 4, column: 1 }]);
    }
}
