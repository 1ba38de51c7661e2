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
            let message = format!("{command} reads all fields: its duration grows with the hash");
            Diagnostic::new(&RULE, facts.script.position(id), message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::findings;

    #[test]
    fn a_read_of_all_fields_is_reported() {
        let found = findings("return redis.call('HGETALL', KEYS[1])");
        assert!(found.contains(&(1, "whole-hash-read")), "{found:?}");
    }
}
