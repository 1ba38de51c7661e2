//! Commands that take longer the larger their collection is, in loops.

use crate::lint::analysis::commands;
use crate::lint::analysis::facts::{Repetition, ScriptFacts};
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "linear-command-in-loop",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a command in a loop or a recursion whose duration grows with its collection (LREM, LINSERT, LPOS, BITOP, \
              SINTERSTORE …), or with a position that moves (LINDEX, LRANGE, `LIMIT`)",
    instead: "use a type that finds an element at once (a set, hash or sorted set), or call the command once",
    why: "Each iteration searches the collection again: 100 iterations over a list of a million elements \
          visit 100 million elements.",
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
        .map(|(id, command, repetition)| {
            let (what, role) = match repetition {
                Repetition::Loop(_) => ("loop", "the loop"),
                Repetition::Recursion(_) => ("recursion", "the recursion"),
            };
            let grows = if commands::position(command, Some(0)).is_some() {
                "takes longer the farther its position is from the ends"
            } else {
                "takes longer the larger its collection is"
            };
            let message = format!("{command} {grows}, and the {what} on line {{line}} repeats it");
            let diagnostic = Diagnostic::new(&RULE, facts.script.position(id), message);
            let doubt = facts.doubt_of_search(id);
            diagnostic.with_related(facts.position_of(repetition), role).unless(doubt.as_ref())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported, severe};

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
                "for _, id in ipairs(ARGV) do redis.call('RPUSH', KEYS[1], id) redis.call('LREM', KEYS[1], 1, id) end",
                "for _, id in ipairs(ARGV) do if redis.call('GET', id) then redis.call('LPUSH', KEYS[1], id) else redis.call('LREM', KEYS[1], 1, id) end end",
                "for _, id in ipairs(ARGV) do redis.call('LREM', KEYS[1], 1, id) redis.call('LPUSH', KEYS[1], id) end",
                "for _, id in ipairs(ARGV) do redis.call('LREM', KEYS[1], 1, id) redis.call('LPUSH', KEYS[2], id) end",
            ],
        );
    }

    #[test]
    fn commands_that_search_are_reported_in_recursions() {
        for script in [
            "local function f(i) if i > #ARGV then return 0 end redis.call('LREM', KEYS[1], 0, ARGV[i]) return f(i + 1) end return f(1)",
            "local function f(n) if n == 0 then return end redis.call('LREM', KEYS[1], 0, ARGV[n]) f(n - 1) end f(#ARGV)",
            "local function rm(id) redis.call('LREM', KEYS[1], 1, id) end local function f(i) local id = ARGV[i] if id then rm(id) return f(i + 1) end end f(1)",
            "local g local function f(i) redis.call('LINSERT', KEYS[1], 'AFTER', 'p', ARGV[i]) return g(i + 1) end g = function(i) if ARGV[i] then return f(i) end end g(1)",
            "local function f(t) for _, v in pairs(t) do if type(v) == 'table' then f(v) end end redis.call('SINTERSTORE', KEYS[1], KEYS[2], t.id) end f(cjson.decode(ARGV[1]))",
            "local function f(i) if i > #ARGV then return end redis.call('LRANGE', KEYS[1], i, i) return f(i + 1) end f(1)",
        ] {
            assert_eq!(severe(script), ["linear-command-in-loop"], "{script}");
        }
        assert_clean(&[
            "local function f(q) if q == nil then return f(ARGV[1]) end return redis.call('LREM', KEYS[1], 0, q) end return f()",
            "local function f(i) if i > #ARGV then return end redis.call('LRANGE', KEYS[1], 0, 9) return f(i + 1) end f(1)",
        ]);
    }

    #[test]
    fn reads_at_moving_positions_are_reported() {
        assert_reported(
            "linear-command-in-loop",
            &[
                "for i = 1, tonumber(ARGV[1]) do redis.call('LRANGE', KEYS[1], i, i) end",
                "for i = 1, 1000 do redis.call('LRANGE', KEYS[1], i * 10, i * 10 + 9) end",
                "local i = 0 while i < tonumber(ARGV[1]) do redis.call('LRANGE', KEYS[1], i, i + 1) i = i + 2 end",
                "for i = 1, tonumber(ARGV[1]) do redis.call('LTRIM', KEYS[1], i, -1) end",
                "for i = 1, #ARGV do redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'LIMIT', i, 1) end",
                "for i = 1, #ARGV do redis.call('ZRANGE', KEYS[1], 0, 9, 'BYSCORE', 'LIMIT', i, 1) end",
                "for i = 0, 999 do redis.call('LINDEX', KEYS[1], i) end",
                "local n = redis.call('LLEN', KEYS[2]) for i = 1, #ARGV do redis.call('LINDEX', KEYS[1], n - 1) end",
                "local n = redis.call('LLEN', KEYS[1]) for i = 1, #ARGV do redis.call('LINDEX', KEYS[1], n - i) end",
                "local function at(i) return redis.call('LRANGE', KEYS[1], i, i)[1] end for i = 1, #ARGV do at(i) end",
            ],
        );
        assert_clean(&[
            "for i = 1, 100 do redis.call('LRANGE', KEYS[1], 0, 0) redis.call('LPOP', KEYS[1]) end",
            "for i = 1, #ARGV do redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[1]) end",
            "for i = 0, 99 do redis.call('LINDEX', KEYS[1], i) redis.call('LRANGE', KEYS[1], i, i) end",
            "for i = 1, #ARGV do redis.call('LTRIM', KEYS[1], 0, 99) end",
            "local cap, n, i = tonumber(ARGV[1]), redis.call('LLEN', KEYS[1]), 0 if n >= cap then return 0 end
             while i < n do redis.call('LINDEX', KEYS[1], i) i = i + 1 end redis.call('RPUSH', KEYS[1], ARGV[2])",
            "for i = 1, #ARGV do redis.call('LINDEX', KEYS[1], redis.call('LLEN', KEYS[1]) - 1) end",
            "local n = tonumber(redis.call('LLEN', KEYS[1])) for i = 1, #ARGV do redis.call('LINDEX', KEYS[1], n - 1) redis.call('RPOP', KEYS[1]) n = tonumber(redis.call('LLEN', KEYS[1])) end",
            "for i = 1, 1000 do redis.call('LRANGE', KEYS[1], i * 1000, i * 1000 + 999) end",
            "for i = 1, #ARGV do redis.call('ZRANGE', KEYS[1], i, i) end",
            "for i = 1, #ARGV do redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '+inf', 'LIMIT', i * 100, 100) end",
            "for i = 1, #ARGV do redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[i], '+inf', 'LIMIT', 0, 1) end",
            "for _, key in ipairs(KEYS) do redis.call('LRANGE', key, ARGV[1], ARGV[1]) end",
        ]);
    }

    #[test]
    fn one_call_and_few_are_not_reported() {
        assert_clean(&[
            "redis.call('LREM', KEYS[1], 0, ARGV[1])",
            "for i = 1, 3 do redis.call('LREM', KEYS[i], 0, ARGV[1]) end",
            "for i = 1, 4 do local x = redis.call('RPOP', KEYS[1]) if not x then return end redis.call('LINSERT', KEYS[2], 'BEFORE', x, i) end",
            "for i = 1, #KEYS do redis.call('LREM', KEYS[i], 0, ARGV[1]) end",
            "for _, key in ipairs(KEYS) do redis.call('LREM', key, 0, ARGV[1]) end",
            "local queues = ARGV for _, queue in ipairs(queues) do local key = 'probed:' .. queue redis.call('LREM', key, 1, KEYS[1]) end",
            "for i = 1, #ARGV do redis.call('LREM', KEYS[1] .. ARGV[i], 1, 'x') end",
            "for i = 1, #ARGV do redis.call('LINDEX', KEYS[1], 0) redis.call('LINDEX', KEYS[1], -1) end",
            "for i = 1, #ARGV do redis.call('ZREM', KEYS[1], ARGV[i]) end",
            "for i = 1, #ARGV do redis.call('BITCOUNT', KEYS[1], 0, 9) end",
            "for _, id in ipairs(ARGV) do redis.call('LPUSH', KEYS[1], id) if redis.call('GET', id) then redis.call('LREM', KEYS[1], 1, id) end end",
            "for _, id in ipairs(ARGV) do redis.call('RPUSH', KEYS[1], id) redis.call('LREM', KEYS[1], -1, id) end",
            "for i = 1, 100 do local x = redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') if not x then break end redis.call('LREM', KEYS[2], 1, x) end",
            "for i = 1, 100 do local x = redis.call('RPOPLPUSH', KEYS[1], KEYS[2]) if not x then break end redis.call('LREM', KEYS[2], 1, x) end",
            "local function done(id) redis.call('LREM', KEYS[1], 1, id) return id end for i = 1, 100 do local id = redis.call('RPOP', KEYS[2]) if id then return done(id) end end",
        ]);
    }
}
