//! Suppressions that suppress nothing.

use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, Suppressed};

pub(super) static RULE: Rule = Rule {
    name: "unused-allow",
    severity: Severity::Info,
    on_by_default: true,
    summary: "a comment that suppresses nothing",
    instead: "remove it",
    why: "The suppressed finding no longer exists, and the comment would suppress a new one.",
    example: Some(Example {
        bad: "\
            -- redis-script-lint: allow(keys-command)\n\
            return 1",
        good: "\
            return 1",
    }),
    check: Check::Suppressions(check),
};

fn check(suppressed: &Suppressed<'_>) -> Vec<Diagnostic> {
    let unused = suppressed.unused.iter().map(|unused| {
        Diagnostic::new(&RULE, unused.position, format!("no finding of {} is suppressed", unused.rule))
    });
    unused.collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::findings;

    #[test]
    fn a_suppression_without_a_finding_is_reported() {
        assert_eq!(findings("-- redis-script-lint: allow(keys-command)\nreturn 1"), [(1, "unused-allow")]);
    }
}
