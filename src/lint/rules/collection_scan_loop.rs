//! Loops over SSCAN, HSCAN and ZSCAN.

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::analysis::loops::LongLoop;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "collection-scan-loop",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a loop or a recursion over SSCAN, HSCAN or ZSCAN, which reads the whole collection while nothing else runs",
    instead: "scan from the client, and call the script for each page",
    why: "SCAN commands return one page at a time, so that other clients can run between pages. In a \
          script nothing else runs between them, and the loop takes longer than a single command that \
          reads the whole collection.",
    example: Some(Example {
        bad: "\
            local cursor = '0'\n\
            repeat\n\
            \x20\x20local page = redis.call('HSCAN', KEYS[1], cursor)\n\
            \x20\x20cursor = page[1]\n\
            until cursor == '0'",
        good: "\
            return redis.call('HSCAN', KEYS[1], ARGV[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let loops = facts.long_loops().filter_map(|(around, long)| match long {
        LongLoop::Scan(call) if facts.calls.command(*call) != "SCAN" => {
            let command = facts.calls.command(*call);
            let message =
                format!("this loop reads a whole collection with {command} while nothing else runs");
            Some(Diagnostic::of_loop(&RULE, facts, around, &message, Some(*call)))
        }
        _ => None,
    });
    let recursions = facts.recursions.long.iter().filter_map(|recursion| match &recursion.long {
        LongLoop::Scan(call) if facts.calls.command(*call) != "SCAN" => {
            let command = facts.calls.command(*call);
            let message =
                format!("this recursion reads a whole collection with {command} while nothing else runs");
            Some(Diagnostic::of_recursion(&RULE, facts, recursion, &message, *call))
        }
        _ => None,
    });
    loops.chain(recursions).collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn loops_over_a_cursor_are_reported() {
        let script = "local c while c ~= '0' do c = redis.call('HSCAN', KEYS[1], c)[1] end";
        assert_reported("collection-scan-loop", &[script]);
        assert_clean(&["local c for i = 1, 10 do c = redis.call('SSCAN', KEYS[1], c)[1] end"]);
    }
}
