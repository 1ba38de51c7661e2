//! Scripts without a `#!` line that only read.

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "could-be-read-only",
    severity: Severity::Info,
    on_by_default: true,
    summary: "a script without a #! line that only reads",
    instead: "call it with EVAL_RO or EVALSHA_RO, or begin it with `#!lua flags=no-writes` (Redis 7.0): \
              replicas may then run it, and SCRIPT KILL always ends it",
    why: "Clients of a cluster, and proxies, treat EVAL as a write and send it to the master. A script \
          that is declared read-only may run on replicas, and SCRIPT KILL always ends it.",
    example: Some(Example {
        bad: "\
            return redis.call('GET', KEYS[1])",
        good: "\
            #!lua flags=no-writes\n\
            return redis.call('GET', KEYS[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, header: Header) -> Vec<Diagnostic> {
    if header != Header::None || !facts.summaries.function(facts.script.main).only_reads() {
        return Vec::new();
    }
    let first = facts.calls.all_redis().first().map(|(id, _)| facts.script.position(*id));
    let message = "this script only reads, but is not declared read-only";
    first.map(|position| Diagnostic::new(&RULE, position, message)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::findings;

    #[test]
    fn a_script_that_only_reads_is_reported() {
        assert_eq!(findings("return redis.call('GET', KEYS[1])"), [(1, "could-be-read-only")]);
        for script in [
            "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])",
            "return redis.call('SET', KEYS[1], 1)",
            "return f(redis.call('GET', KEYS[1]))",
            "return 1",
        ] {
            assert_eq!(findings(script), [], "{script}");
        }
    }
}
