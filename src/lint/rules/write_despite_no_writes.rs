//! Writes in scripts and functions with the flag `no-writes`.

use crate::lint::analysis::entry_points::entry_points;
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::{Flags, Header};

pub(super) static RULE: Rule = Rule {
    name: "write-despite-no-writes",
    severity: Severity::Error,
    on_by_default: true,
    summary: "a write in a script or function with the flag no-writes, which the server rejects",
    instead: "remove the flag or the write",
    why: "The write fails with an error each time it is reached.",
    example: Some(Example {
        bad: "\
            #!lua flags=no-writes\n\
            return redis.call('SET', KEYS[1], ARGV[1])",
        good: "\
            #!lua\n\
            return redis.call('SET', KEYS[1], ARGV[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, header: Header) -> Vec<Diagnostic> {
    let entry_points = entry_points(facts, header).into_iter();
    entry_points
        .filter(|entry| entry.flags == Flags::NoWrites)
        .filter_map(|entry| {
            let effects = facts.summaries.function(entry.function);
            let write = effects.write.or(effects.replicates)?;
            let command = facts.calls.command(write);
            let message = format!("{} has the flag no-writes, but calls {command}", entry.title);
            Some(Diagnostic::new(&RULE, facts.script.position(write), message))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::severe;

    #[test]
    fn a_write_in_spite_of_the_flag_is_reported() {
        for script in [
            "#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], 1)",
            "#!lua flags=no-writes\nreturn redis.call('PUBLISH', 'a', 'b')",
            "#!lua name=l\nredis.register_function{function_name='f', callback=function(k) return redis.call('DEL', k[1]) end, flags={'no-writes'}}",
            "#!lua name=l\nlocal flags = {'no-writes'}\nredis.register_function{function_name='f', callback=function(k) return redis.call('DEL', k[1]) end, flags=flags}",
        ] {
            assert_eq!(severe(script), ["write-despite-no-writes"], "{script}");
        }
    }
}
