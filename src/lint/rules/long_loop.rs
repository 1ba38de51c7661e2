//! Loops with a constant number of iterations that take seconds.

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "long-loop",
    severity: Severity::Error,
    on_by_default: true,
    summary: "a loop, or nested loops, with a constant number of iterations that takes seconds",
    instead: "do less in one call, and call the script again for the rest",
    why: "10⁸ empty iterations take about a second, and so do 2 million commands. Nothing else runs in the \
          meantime. The numbers of iterations of nested loops are multiplied.",
    example: Some(Example {
        bad: "\
            for i = 1, 100000 do\n\
            \x20\x20for j = 1, 100000 do end\n\
            end",
        good: "\
            for i = 1, 100 do\n\
            \x20\x20for j = 1, 100 do end\n\
            end",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let huge = facts.huge.iter().filter_map(|(id, cost)| Some((facts.script.loops.get(*id)?, *cost)));
    huge.map(|(around, cost)| {
        let keyword = around.kind.keyword();
        let message = format!(
            "this {keyword} loop takes as long as {cost:.0e} empty iterations; 1e8 take about a second"
        );
        Diagnostic::of_loop(&RULE, facts, around, &message, None)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn constant_loops_that_take_seconds_are_reported() {
        assert_reported(
            "long-loop",
            &[
                "for i = 1, 1000000000 do end",
                "for i = 1, 1e9 do end",
                "for i = 1, 0x1p40 do end",
                "local s = {i = 0} while s.i < 1e9 do s.i = s.i + 1 end",
                "for i = 10^9, 1, -1 do end",
                "local n = 1000000000 for i = 1, n do end",
                "local n = 5 * 1000 * 1000 for i = 1, n do redis.call('PING') end",
                "for i = 1, 30000 do for j = 1, 30000 do end end",
                "for i = 1, 1000 do for j = 1, 1000 do for k = 1, 1000 do end end end",
                "local function f() for j = 1, 100000 do end end for i = 1, 100000 do f() end",
                "local i = 0 while i < 1000000000 do i = i + 1 end",
                "local i = 1000000000 while i > 0 do i = i - 1 end",
                "local i = 0 repeat i = i + 1 until i >= 1e9",
                "local i = 0 while true do i = i + 1 if i > 1e9 then break end end",
                "for _, k in ipairs(KEYS) do for i = 1, 1e9 do end end",
                "for i = 1, 1e9 do local x = i % 7 end",
            ],
        );
        assert_clean(&[
            "for i = 1, 1000000 do end",
            "for i = 1, 0x1p10 do end",
            "return {0x1P4, '0x1p4', 0xFp00}",
            "for i = 1, 1000 do for j = 1, 1000 do end end",
            "for i = 1, 1000 do redis.call('SETBIT', KEYS[1], i, 0) end",
            "for i = 1000000000, 1000000010 do end",
            "for i = 1, 1000000000, 100000000 do end",
            "local t = {} for i = 1, 1e9 do if not t[i] then break end end",
            "local i = 1 while i < 1e12 do i = i * 2 end",
        ]);
    }
}
