//! First lines that servers reject.

use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, Source};
use crate::lint::source::header;
use crate::lua::Position;

pub(super) static RULE: Rule = Rule {
    name: "invalid-shebang",
    severity: Severity::Error,
    on_by_default: true,
    summary: "a #! line that the server rejects: an engine other than lua, or an unknown option or flag",
    instead: "write `#!lua flags=…` for a script (no-writes, allow-oom, allow-stale, no-cluster, \
              allow-cross-slot-keys), `#!lua name=…` for a library",
    why: "The server does not run the script at all: every call fails.",
    example: Some(Example {
        bad: "\
            #!lua flags=nowrites\n\
            return redis.call('GET', KEYS[1])",
        good: "\
            #!lua flags=no-writes\n\
            return redis.call('GET', KEYS[1])",
    }),
    check: Check::Source(check),
};

fn check(source: &Source<'_>) -> Vec<Diagnostic> {
    // The program may append the rest of the script to a literal.
    let is_part = source.origin.is_literal() && !source.text.contains('\n');
    let problem = header::problem(source.text).filter(|_| !is_part);
    problem.map(|problem| Diagnostic::new(&RULE, Position::START, problem)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn lines_that_servers_reject_are_reported() {
        assert_reported(
            "invalid-shebang",
            &[
                "#!lua flags=nowrites\nreturn 1",
                "#!/usr/bin/env lua\nreturn 1",
                "#!lua",
                "#!lua flags=no-write\r\nreturn 1\r\n",
            ],
        );
        assert_clean(&[
            "#!lua flags=allow-oom,no-writes\nreturn 1",
            "#!lua name=l\nlocal a = 1",
            "#!lua\r\nreturn 1\r\n",
        ]);
    }
}
