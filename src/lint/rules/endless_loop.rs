//! Loops that never end.

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::analysis::loops::{Endless, LongLoop};
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "endless-loop",
    severity: Severity::Error,
    on_by_default: true,
    summary: "a loop or a recursion that nothing ends",
    instead: "add a condition or a break, and limit the number of iterations",
    why: "The server runs nothing else while a script runs. SCRIPT KILL ends the loop only if the script \
          has written nothing; otherwise only SHUTDOWN NOSAVE does.",
    example: Some(Example {
        bad: "\
            while true do\n\
            \x20\x20redis.call('LPOP', KEYS[1])\n\
            end",
        good: "\
            for i = 1, 100 do\n\
            \x20\x20if not redis.call('LPOP', KEYS[1]) then break end\n\
            end",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let recursions = facts.recursions.long.iter().filter_map(|recursion| {
        let LongLoop::Endless(reason) = recursion.long else { return None };
        let reason = match reason {
            Endless::NoEnd => "the function calls itself on every path",
            Endless::Unchanged => "the conditions around the call depend on nothing that the call changes",
            Endless::Away => "the number that is passed on moves away from its limit",
        };
        let message = format!("nothing ends this recursion: {reason}");
        Some(Diagnostic::new(&RULE, facts.script.position(recursion.call), message))
    });
    let loops = facts.long_loops().filter_map(|(around, long)| {
        let LongLoop::Endless(reason) = long else { return None };
        let reason = match reason {
            Endless::NoEnd => "it has no break, return or error",
            Endless::Unchanged => "it changes nothing that its condition depends on",
            Endless::Away => "its counter moves away from the limit, or past it",
        };
        let message = format!("nothing ends this {} loop: {reason}", around.kind.keyword());
        Some(Diagnostic::of_loop(&RULE, facts, around, &message, None))
    });
    loops.chain(recursions).collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn loops_without_an_end_are_reported() {
        assert_reported(
            "endless-loop",
            &[
                "while true do end",
                "repeat until false",
                "repeat until nil",
                "while not false do end",
                "while 1 == 1 do end",
                "repeat until not true",
                "while 1 do f() end",
                "while true do while a do break end end",
                "for i = 1, math.huge do redis.call('PING') end",
                "for i = 0, 1 / 0 do end",
                "for i = 1, -math.huge, -1 do end",
                "for i = 10, 1, 0 do end",
                "local go = true while go do redis.call('PING') end",
                "local stop = false repeat redis.call('PING') until stop",
                "local t = {} function t:go() return self:go() end return t:go()",
                "local max = math.huge for i = 1, max do end",
                "local function again() return again() end return again()",
            ],
        );
        assert_clean(&[
            "while true do break end",
            "while false do end",
            "local go = true while go do go = false end",
            "local go = true while go do go = next(KEYS) end",
            "repeat until true",
            "while true do error('x') end",
            "for i = 1, math.huge do break end",
            "for i = 1, math.huge, -1 do end",
            "for i = 1, 10, 0 do end",
            "for i = 1, math.huge do if i > 10 then return i end end",
            "local best = math.huge for i = 1, 3 do best = math.min(best, i) end",
        ]);
    }
}
