//! Function flags that servers reject.

use crate::lint::analysis::entry_points::function_flags;
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::{self, Header};

pub(super) static RULE: Rule = Rule {
    name: "invalid-flag",
    severity: Severity::Error,
    on_by_default: true,
    summary: "an unknown flag of `register_function`, which makes the server reject the library",
    instead: "use no-writes, allow-oom, allow-stale, no-cluster or allow-cross-slot-keys",
    why: "FUNCTION LOAD replies with an error, and none of the functions in the library is created.",
    example: Some(Example {
        bad: "\
            #!lua name=carts\n\
            redis.register_function{\n\
              function_name = 'total', flags = {'nowrites'},\n\
              callback = function(keys) return redis.call('HLEN', keys[1]) end,\n\
            }",
        good: "\
            #!lua name=carts\n\
            redis.register_function{\n\
              function_name = 'total', flags = {'no-writes'},\n\
              callback = function(keys) return redis.call('HLEN', keys[1]) end,\n\
            }",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, header: Header) -> Vec<Diagnostic> {
    if header != Header::Library {
        return Vec::new();
    }
    let unknown = function_flags(facts).into_iter().filter(|(flag, _)| !header::is_flag(flag));
    unknown
        .map(|(flag, position)| {
            Diagnostic::new(&RULE, position, format!("the server rejects the library: unknown flag `{flag}`"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported, severe};

    /// Library whose function has flags.
    fn library(before: &str, flags: &str) -> String {
        format!(
            "#!lua name=l\n{before}\nlocal function f(keys) return redis.call('GET', keys[1]) end\n\
             redis.register_function{{function_name='f', callback=f, flags={flags}}}"
        )
    }

    #[test]
    fn unknown_flags_are_reported() {
        for (before, flags) in [
            ("", "{'nowrites', 'no-writes'}"),
            ("", "{'no-writes', 'NO-WRITES'}"),
            ("local flags = {'no-writes', 'readonly'}", "flags"),
            ("local ro = 'no_writes'", "{'no-writes', ro}"),
        ] {
            assert_reported("invalid-flag", &[&library(before, flags)]);
        }
        assert_clean(&[
            &library("", "{'no-writes'}"),
            &library("", "{'no-writes', 'allow-oom', 'allow-stale', 'no-cluster', 'allow-cross-slot-keys'}"),
            &library("local flags = {'no-writes'}", "flags"),
            &library("local ro = {}", "{'no-writes', ro.flag}"),
            "redis.register_function{function_name='f', callback=f, flags={'any'}}",
        ]);
        let template = severe(&library("", "{'%s', '${flag}'}"));
        assert!(!template.contains(&"invalid-flag"), "{template:?}");
    }
}
