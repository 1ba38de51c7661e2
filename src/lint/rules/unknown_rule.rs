//! Suppressions of unknown rules.

use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, Suppressed};

pub(super) static RULE: Rule = Rule {
    name: "unknown-rule",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a comment that suppresses an unknown rule",
    instead: "use a name from the table in docs/lint.md",
    why: "The comment suppresses nothing: the name is misspelt, or the rule no longer exists.",
    example: Some(Example {
        bad: "\
            -- redis-script-lint: allow(keys)\n\
            return 1",
        good: "\
            return 1",
    }),
    check: Check::Suppressions(check),
};

fn check(suppressed: &Suppressed<'_>) -> Vec<Diagnostic> {
    let message = "malformed comment: expected allow(rule, …) or allow-file(rule, …)";
    let malformed = suppressed.suppressions.malformed.iter();
    let malformed = malformed.map(|position| Diagnostic::new(&RULE, *position, message));
    let unknown = suppressed
        .unknown
        .iter()
        .map(|unknown| Diagnostic::new(&RULE, unknown.position, format!("unknown rule `{}`", unknown.rule)));
    malformed.chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::severe;

    #[test]
    fn misspelt_comments_are_reported() {
        for comment in ["allow(keys)", "allow keys-command", "allow()", "disable(keys-command)"] {
            let script = format!("-- redis-script-lint: {comment}\nreturn 1");
            assert_eq!(severe(&script), ["unknown-rule"], "{comment}");
        }
    }
}
