//! Assignments to globals.

use crate::lint::analysis::facts::Facts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "global-write",
    severity: Severity::Error,
    on_by_default: true,
    summary: "an assignment to a global variable, which the server rejects",
    instead: "declare it: local name = …, local function name()",
    why: "Globals would be shared by all scripts, so the server protects them: the call fails when it gets \
          to the assignment, after whatever it has written before.",
    example: Some(Example {
        bad: "\
            count = redis.call('GET', KEYS[1])\n\
            return count",
        good: "\
            local count = redis.call('GET', KEYS[1])\n\
            return count",
    }),
    check: Check::Script(check),
};

fn check(facts: &Facts<'_>, _: Header) -> Vec<Diagnostic> {
    let writes = facts.script.global_writes.iter();
    let writes = writes.map(|(position, name)| {
        Diagnostic::new(&RULE, *position, format!("the server rejects this assignment to the global {name}"))
    });
    writes.collect()
}
