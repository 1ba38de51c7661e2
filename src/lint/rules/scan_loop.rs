//! Loops over SCAN.

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::analysis::loops::LongLoop;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "scan-loop",
    severity: Severity::Error,
    on_by_default: true,
    summary: "a loop or a recursion over SCAN, which visits every key of the database while nothing else runs",
    instead: "scan from the client, and call the script for each page",
    why: "SCAN returns one page at a time, so that other clients can run between pages. In a script \
          nothing else runs between them, and the loop takes longer than KEYS.",
    example: Some(Example {
        bad: "\
            local cursor = '0'\n\
            repeat\n\
            \x20\x20local page = redis.call('SCAN', cursor)\n\
            \x20\x20cursor = page[1]\n\
            until cursor == '0'",
        good: "\
            return redis.call('SCAN', ARGV[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let loops = facts.long_loops().filter_map(|(around, long)| match long {
        LongLoop::Scan(call) if facts.calls.command(*call) == "SCAN" => {
            let message = "this loop visits every key of the database while nothing else runs";
            Some(Diagnostic::of_loop(&RULE, facts, around, message, Some(*call)))
        }
        _ => None,
    });
    let recursions = facts.recursions.long.iter().filter_map(|recursion| match &recursion.long {
        LongLoop::Scan(call) if facts.calls.command(*call) == "SCAN" => {
            let message = "this recursion visits every key of the database while nothing else runs";
            Some(Diagnostic::of_recursion(&RULE, facts, recursion, message, *call))
        }
        _ => None,
    });
    loops.chain(recursions).collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported, findings, severe};

    #[test]
    fn loops_over_the_cursor_are_reported() {
        assert_reported("scan-loop", &["repeat local r = redis.call('SCAN', c) c = r[1] until c == '0'"]);
        assert_clean(&[
            "local r = redis.call('SCAN', ARGV[1]) for i = 1, #r[2] do redis.call('DEL', r[2][i]) end",
        ]);
    }
    #[test]
    fn only_the_scan_loop_inside_a_counted_loop_is_reported() {
        let inner = "repeat\n c = redis.call('SCAN', c)[1]\n until c == '0'";
        let script = format!("local i, c = 0, '0'\nwhile i < 3 do\n i = i + 1\n {inner}\nend");
        assert_eq!(severe(&script), ["scan-loop"]);
        assert!(findings(&script).contains(&(4, "scan-loop")));
    }
}
