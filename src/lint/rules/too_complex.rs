//! Sources that are nested too deeply, or too long, to be analysed.

use crate::lint::rule::{Check, Diagnostic, Rule, Severity, Source};
use crate::lint::source::parse::{MAX_TOKENS, ParseError};
use crate::lua::Position;

pub(super) static RULE: Rule = Rule {
    name: "too-complex",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a script that is nested too deeply, or too long, to be analysed",
    instead: "split it into functions",
    why: "A script is not analysed if brackets and blocks are nested deeper than 200 levels, which is \
          Lua's own limit, if an expression has more than 1,000 operators, or if the script has more than \
          100,000 words and symbols. Files of more than 1 MiB are not read.",
    example: None,
    check: Check::Source(check),
};

/// Diagnostic for a script whose check failed.
pub(crate) fn unchecked() -> Diagnostic {
    Diagnostic::new(&RULE, Position::START, "the script could not be analysed")
}

fn check(source: &Source<'_>) -> Vec<Diagnostic> {
    match source.error {
        Some(ParseError::TooDeep(position)) => {
            vec![Diagnostic::new(&RULE, *position, "the nesting is too deep to be analysed")]
        }
        Some(ParseError::TooLong(position)) => {
            let message = format!("more than {MAX_TOKENS} words and symbols are not analysed");
            vec![Diagnostic::new(&RULE, *position, message)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::MAX_TOKENS;
    use crate::lint::tests::findings;

    #[test]
    fn deep_nesting_is_reported() {
        assert_eq!(findings(&format!("x = {}", "(".repeat(100_000))), [(1, "too-complex")]);
        assert_eq!(findings(&format!("x = '\r{}", "(".repeat(100_000))), [(1, "too-complex")]);
    }

    #[test]
    fn long_scripts_are_reported() {
        let script = |statements: usize| "a=a\n".repeat(statements);
        assert_eq!(findings(&script(MAX_TOKENS / 3 + 1)), [(MAX_TOKENS / 3 + 1, "too-complex")]);
        assert!(!findings(&script(1000)).iter().any(|(_, rule)| *rule == "too-complex"));
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
            let source = format!("local a, f local x = {}1{}", begin.repeat(depth), end.repeat(depth));
            assert_eq!(findings(&source), [], "{begin}");
        }
    }
}
