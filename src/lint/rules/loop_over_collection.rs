//! Loops over a whole collection.

use crate::lint::analysis::facts::{ScriptFacts, UnlimitedRead};
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, unkillable};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "loop-over-collection",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a read of a whole collection, and a loop over the reply",
    instead: "read a part with a limit (LRANGE 0 99, ZRANGE … LIMIT, SPOP key 100), and call the script \
              again while there is more",
    why: "The loop is fast with ten elements and takes seconds with a million. Nothing else runs in the \
          meantime, even if the script only reads.",
    example: Some(Example {
        bad: "\
            for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do\n\
            \x20\x20redis.call('DEL', 'job:' .. member)\n\
            end",
        good: "\
            for _, member in ipairs(redis.call('SPOP', KEYS[1], 100)) do\n\
            \x20\x20redis.call('DEL', 'job:' .. member)\n\
            end",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let reads = facts.unlimited_reads().filter_map(|read| Some((read.iterated_by?, read)));
    reads
        .map(|(around, UnlimitedRead { id, command, .. })| {
            let unkillable = unkillable(facts, around);
            let message = format!(
                "{command} reads without a limit, and the loop on line {{line}} iterates over the whole reply{unkillable}"
            );
            let diagnostic = Diagnostic::new(&RULE, facts.script.position(id), message);
            diagnostic.with_related(around.position, "the loop").unless(facts.doubt_of_iteration(id).as_ref())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, severe};

    #[test]
    fn loops_over_replies_without_a_limit_are_reported() {
        for script in [
            "for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do f(m) end",
            "local t = redis.call('HGETALL', KEYS[1] .. ':jobs') for i = 1, #t, 2 do f(t[i]) end",
            "local t = redis.call('LRANGE', KEYS[1], 0, -1) or {} for k in pairs(t) do f(k) end",
            "local i, t = 1, redis.call('ZRANGE', KEYS[1], 0, -1) while i <= #t do i = i + 1 end",
            "local ok, t = pcall(redis.call, 'SMEMBERS', KEYS[1]) for _, m in ipairs(t) do f(m) end",
            "local ok, t = xpcall(function() return redis.call('SMEMBERS', KEYS[1]) end, f) for _, m in ipairs(t) do f(m) end",
            "local function call(c, ...) return redis.call(c, ...) end for _, m in ipairs(call('SMEMBERS', KEYS[1])) do f(m) end",
            "local function try(...) local ok, r = pcall(redis.call, ...) return ok, r end local _, t = try('SMEMBERS', KEYS[1]) for _, m in ipairs(t) do f(m) end",
            "for _, m in next, redis.call('SMEMBERS', KEYS[1]) do f(m) end",
            "local r = redis.call('XREAD', 'STREAMS', KEYS[1], 0) for _, e in ipairs(r[1][2]) do f(e) end",
            "local s = {} s.all = redis.call('SMEMBERS', KEYS[1]) for _, m in ipairs(s.all) do f(m) end",
            "local f = 0 local function g(t) for i = 1, #t do f = i end end g(redis.call('SMEMBERS', KEYS[1]))",
        ] {
            assert_eq!(severe(script), ["loop-over-collection"], "{script}");
        }
        assert_clean(&[
            "for _, m in ipairs(redis.call('LRANGE', KEYS[1], 0, 9)) do f(m) end",
            "for _, m in ipairs(redis.call('MGET', unpack(KEYS))) do f(m) end",
            "local t = redis.call('HGETALL', KEYS[1]) return t[1]",
            "local o, t = {}, redis.call('HGETALL', KEYS[1]) for i = 1, #t, 2 do o[t[i]] = t[i + 1] end",
            "local t = redis.call('HGETALL', KEYS[1]) for i = 1, #t, 2 do local n = tonumber(t[i]) end",
        ]);
    }
}
