//! Reads of a whole collection.

use crate::lint::analysis::commands::Extent;
use crate::lint::analysis::facts::{ScriptFacts, UnlimitedRead};
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "whole-collection-read",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a read of a whole collection, whose duration grows with the collection",
    instead: "read a part with a limit, or only what is needed (SISMEMBER, HMGET, ZSCORE)",
    why: "The command is fast with ten elements and takes seconds with a million, and the script holds \
          the whole reply in memory.",
    example: Some(Example {
        bad: "\
            return redis.call('SMEMBERS', KEYS[1])",
        good: "\
            return redis.call('SISMEMBER', KEYS[1], ARGV[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let reads = facts.unlimited_reads();
    let reads = reads.filter(|read| read.iterated_by.is_none() && read.extent == Extent::Whole);
    reads
        .map(|UnlimitedRead { id, command, .. }| {
            let message = format!("{command} reads without a limit: its duration grows with the collection");
            let diagnostic = Diagnostic::new(&RULE, facts.script.position(id), message);
            diagnostic.unless(facts.doubt_of_read(id).as_ref())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported, severe};

    #[test]
    fn a_read_without_a_limit_is_reported() {
        assert_eq!(severe("return redis.call('SMEMBERS', KEYS[1])"), ["whole-collection-read"]);
    }

    #[test]
    fn a_stream_that_is_read_from_a_constant_id_is_reported() {
        assert_reported(
            "whole-collection-read",
            &[
                "return redis.call('XREAD', 'STREAMS', KEYS[1], '0')",
                "return redis.call('XREAD', 'STREAMS', KEYS[1], KEYS[2], '$', '0-0')",
                "local from = 0 return redis.call('XREAD', 'BLOCK', 5, 'streams', KEYS[1], from)",
                "return redis.call('XREADGROUP', 'GROUP', 'g', ARGV[1], 'STREAMS', KEYS[1], '0')",
            ],
        );
        assert_clean(&[
            "return redis.call('XREAD', 'COUNT', 10, 'STREAMS', KEYS[1], '0')",
            "return redis.call('XREAD', 'STREAMS', KEYS[1], '$')",
            "redis.call('XTRIM', KEYS[1], 'MAXLEN', 100) return redis.call('XREAD', 'STREAMS', KEYS[1], '0')",
        ]);
    }
}
