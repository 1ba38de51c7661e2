//! Reads of a whole hash.

use crate::lint::analysis::commands::Extent;
use crate::lint::analysis::facts::{ScriptFacts, UnlimitedRead};
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "whole-hash-read",
    severity: Severity::Info,
    on_by_default: true,
    summary: "a read of all fields of a hash, whose duration grows with the hash",
    instead: "read the needed fields with HMGET",
    why: "Most hashes are objects with a few fields, and reading them whole is fine. A hash with a field \
          for each user is not: with millions of fields the read takes seconds.",
    example: Some(Example {
        bad: "\
            return redis.call('HGETALL', KEYS[1])",
        good: "\
            return redis.call('HMGET', KEYS[1], 'state', 'attempts')",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let reads = facts.unlimited_reads();
    let reads = reads.filter(|read| read.iterated_by.is_none() && read.extent == Extent::WholeHash);
    reads
        .map(|UnlimitedRead { id, command, .. }| {
            let message = format!(
                "{command} reads all fields: its duration grows with their number, and is short for a record"
            );
            Diagnostic::new(&RULE, facts.script.position(id), message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, findings, severe};

    #[test]
    fn a_read_of_all_fields_is_reported() {
        let found = findings("return redis.call('HGETALL', KEYS[1])");
        assert!(found.contains(&(1, "whole-hash-read")), "{found:?}");
    }

    /// A cart, a window of counters, the slots of a semaphore.
    #[test]
    fn a_loop_over_fields_that_calls_no_command_is_no_warning() {
        let light = [
            "local h, n = redis.call('HGETALL', KEYS[1]), 0 for i = 2, #h, 2 do n = n + h[i] end return n",
            "local h, i = redis.call('HGETALL', KEYS[1]), 1 local o = {} while i <= #h do o[h[i]] = cjson.decode(h[i + 1]) i = i + 2 end",
            "local key = KEYS[1] for _, f in ipairs(redis.call('HKEYS', key)) do if f < ARGV[1] then redis.call('HDEL', key, f) end end",
            "local h, t = redis.call('HGETALL', KEYS[1]), {} local n = #h for i = 1, n do t[i] = h[i] end return n",
            "redis.call('INCR', KEYS[2]) local n = 0 for _, v in ipairs(redis.call('HVALS', 'cart:' .. KEYS[1])) do n = n + v end return n",
        ];
        assert_clean(&light);
        for script in light {
            assert!(findings(script).contains(&(1, "whole-hash-read")), "{script}");
        }
        for script in [
            "for _, f in ipairs(redis.call('HKEYS', KEYS[1] .. ':jobs')) do redis.call('DEL', f) end",
            "local jobs = redis.call('HKEYS', KEYS[1]) for _, f in ipairs(jobs) do redis.call('HDEL', KEYS[2], f) end",
            "for _, v in ipairs(redis.call('HVALS', 'orders')) do if v == ARGV[1] then return v end end",
        ] {
            assert_eq!(severe(script), ["loop-over-collection"], "{script}");
        }
    }
}
