//! Reads of a whole hash.

use crate::lint::analysis::commands::Extent;
use crate::lint::analysis::facts::{Facts, UnlimitedRead};
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "whole-hash-read",
    severity: Severity::Info,
    on_by_default: true,
    summary: "all fields of a hash are read: fine for an object, not for a hash that grows",
    instead: "HMGET the fields that are needed",
    why: "A hash is usually an object with a few fields, and reading it is fine. A hash with a field \
          per user takes seconds once there are millions.",
    example: Some(Example {
        bad: "\
            return redis.call('HGETALL', KEYS[1])",
        good: "\
            return redis.call('HMGET', KEYS[1], 'state', 'attempts')",
    }),
    check: Check::Script(check),
};

fn check(facts: &Facts<'_>, _: Header) -> Vec<Diagnostic> {
    let reads = facts.unlimited_reads();
    let reads = reads.filter(|read| read.iterated_by.is_none() && read.extent == Extent::WholeHash);
    reads
        .map(|UnlimitedRead { id, command, .. }| {
            let message =
                format!("{command} reads all fields: fine for an object, not for a hash that grows");
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
