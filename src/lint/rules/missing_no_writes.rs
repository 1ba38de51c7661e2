//! Functions, and scripts with a `#!` line, that lack the flag `no-writes`.

use crate::lint::analysis::entry_points::entry_points;
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::{Flags, Header};

pub(super) static RULE: Rule = Rule {
    name: "missing-no-writes",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a script with a #! line, or a function, that only reads and lacks the flag no-writes",
    instead: "add the flag no-writes: replicas, FCALL_RO and EVALSHA_RO may then run it, and SCRIPT KILL \
              always ends it",
    why: "Replicas reject a script or function whose flags lack no-writes, even if it only reads; \
          FCALL_RO and EVALSHA_RO reject it everywhere.",
    example: Some(Example {
        bad: "\
            #!lua flags=allow-stale\n\
            return redis.call('GET', KEYS[1])",
        good: "\
            #!lua flags=allow-stale,no-writes\n\
            return redis.call('GET', KEYS[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, header: Header) -> Vec<Diagnostic> {
    let entry_points = entry_points(facts, header).into_iter();
    let missing = entry_points.filter(|entry| {
        entry.flags == Flags::Others && facts.summaries.function(entry.function).only_reads()
    });
    missing
        .map(|entry| {
            let message = format!("{} only reads, but lacks the flag no-writes", entry.title);
            Diagnostic::new(&RULE, entry.position, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, severe};

    #[test]
    fn a_script_that_only_reads_needs_the_no_writes_flag() {
        for script in [
            "#!lua\nreturn redis.call('GET', KEYS[1])",
            "#!lua name=l\nredis.register_function('f', function(k) return redis.call('GET', k[1]) end)",
            "#!lua name=l\nlocal flags = {'allow-oom'}\nredis.register_function{function_name='f', callback=function(k) return redis.call('GET', k[1]) end, flags=flags}",
            "#!lua name=l\nlocal f = {flags={'allow-oom'}}\nf.function_name = 'f'\nf.callback = function(k) return redis.call('GET', k[1]) end\nredis.register_function(f)",
        ] {
            assert_eq!(severe(script), ["missing-no-writes"], "{script}");
        }
        assert_clean(&[
            "#!lua\nreturn redis.call(ARGV[1], KEYS[1])",
            "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])",
            "#!lua name=l\nredis.register_function('f', function(k) return redis.call('GET', k[1]) end, {'no-writes'})",
            "#!lua name=l\nlocal function f(k) return redis.call('SET', k[1], 1) end\nredis.register_function('f', f)",
            "#!lua name=l\nlocal flags = {'no-writes'}\nredis.register_function{function_name='f', callback=function(k) return redis.call('GET', k[1]) end, flags=flags}",
            "#!lua name=l\nlocal flag = {'no-writes'}\nredis.register_function{function_name='f', callback=function(k) return redis.call('GET', k[1]) end, flags={flag[1]}}",
        ]);
    }
}
