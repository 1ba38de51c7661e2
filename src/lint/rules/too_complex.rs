//! Sources that are nested too deep for the parser.

use crate::lint::rule::{Check, Diagnostic, Rule, Severity, Source};
use crate::lint::source::parse::ParseError;
use crate::lint::source::position::Position;

pub(super) static RULE: Rule = Rule {
    name: "too-complex",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "the script is nested too deep to be read",
    instead: "take it apart into functions",
    why: "Brackets and blocks that are nested deeper than 200 levels, which is the limit of Lua \
          itself, or an expression with over 1,000 operators are not analysed, so that a hostile \
          script can't exhaust the stack.",
    example: None,
    check: Check::Source(check),
};

/// Diagnostic for a script whose check failed.
pub(crate) fn unchecked() -> Diagnostic {
    Diagnostic::new(&RULE, Position::START, "the parser gave up")
}

fn check(source: &Source<'_>) -> Vec<Diagnostic> {
    match source.error {
        Some(ParseError::TooDeep(position)) => {
            vec![Diagnostic::new(&RULE, *position, "this is nested too deep to be read")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::findings;

    #[test]
    fn deep_nesting_is_reported() {
        assert_eq!(findings(&format!("x = {}", "(".repeat(100_000))), [(1, "too-complex")]);
        assert_eq!(findings(&format!("x = '\r{}", "(".repeat(100_000))), [(1, "too-complex")]);
    }

    #[test]
    fn allowed_nesting_is_analysed_in_time() {
        for (begin, end) in [
            ("a[", "]"),
            ("f(", ")"),
            ("{", "}"),
            ("(a .. ", ")"),
            ("a[f({", "})]"),
            ("f(function() return ", " end)"),
        ] {
            let depth = 190 / begin.matches(['[', '(', '{']).count().max(2);
            let source = format!("x = {}1{}", begin.repeat(depth), end.repeat(depth));
            assert_eq!(findings(&source), [], "{begin}");
        }
    }
}
