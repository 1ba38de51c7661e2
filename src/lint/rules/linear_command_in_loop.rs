//! Commands in loops whose duration grows with their collection.

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "linear-command-in-loop",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a command in a loop whose duration grows with its collection (LREM, LINSERT, LPOS, LINDEX, BITOP, \
              SINTERSTORE …)",
    instead: "use a type that finds an element at once (a set, hash or sorted set), or call the command once",
    why: "Each iteration searches the collection again: 100 iterations over a list of a million elements \
          visit 100 million.",
    example: Some(Example {
        bad: "\
            for _, id in ipairs(ARGV) do\n\
            \x20\x20redis.call('LREM', KEYS[1], 0, id)\n\
            end",
        good: "\
            for _, id in ipairs(ARGV) do\n\
            \x20\x20redis.call('ZREM', KEYS[1], id)\n\
            end",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let linear = facts.linear_in_loops();
    linear
        .map(|(id, command, around)| {
            let message = format!(
                "{command} takes longer the larger its collection is, and the loop in line {{line}} repeats it"
            );
            let diagnostic = Diagnostic::new(&RULE, facts.script.position(id), message);
            diagnostic.with_related(around.position, "the loop")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn commands_that_search_are_reported_in_loops() {
        assert_reported(
            "linear-command-in-loop",
            &[
                "for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, 99)) do redis.call('LREM', KEYS[2], 0, id) end",
                "for _, id in ipairs(ARGV) do redis.call('LINSERT', KEYS[1], 'BEFORE', id, 'x') end",
                "for i = 1, #ARGV do redis.call('LPOS', KEYS[1], ARGV[i]) end",
                "for i = 0, tonumber(ARGV[1]) do redis.call('LINDEX', KEYS[1], i) end",
                "for i = 1, 1000 do redis.call('SINTERSTORE', KEYS[1], KEYS[2], 'tag:' .. i) end",
                "local i = 1 while i <= #ARGV do redis.call('LREM', KEYS[1], 1, ARGV[i]) i = i + 1 end",
                "local function drop(id) redis.call('LREM', KEYS[1], 0, id) end for _, id in ipairs(ARGV) do drop(id) end",
                "for i = 1, #ARGV do for j = 1, 2 do redis.call('LREM', KEYS[1], j, ARGV[i]) end end",
            ],
        );
        assert_clean(&[
            "redis.call('LREM', KEYS[1], 0, ARGV[1])",
            "for i = 1, 3 do redis.call('LREM', KEYS[i], 0, ARGV[1]) end",
            "for i = 1, 4 do local x = redis.call('RPOP', KEYS[1]) if not x then return end redis.call('LINSERT', KEYS[2], 'BEFORE', x, i) end",
            "for i = 1, #KEYS do redis.call('LREM', KEYS[i], 0, ARGV[1]) end",
            "for _, key in ipairs(KEYS) do redis.call('LREM', key, 0, ARGV[1]) end",
            "for i = 1, #ARGV do redis.call('LINDEX', KEYS[1], 0) redis.call('LINDEX', KEYS[1], -1) end",
            "for i = 1, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]) end",
            "for i = 1, #ARGV do redis.call('BITCOUNT', KEYS[1], 0, 9) end",
        ]);
    }
}
