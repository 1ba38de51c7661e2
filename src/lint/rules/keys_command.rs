//! The command KEYS.

use crate::lint::analysis::facts::Facts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "keys-command",
    severity: Severity::Error,
    on_by_default: true,
    summary: "the command KEYS, which visits every key of the database",
    instead: "keep the names of the keys in a set or sorted set, or use SCAN from the client",
    why: "KEYS compares the pattern with every key of the database, however few of them match, and \
          nothing else runs meanwhile.",
    example: Some(Example {
        bad: "\
            return redis.call('KEYS', 'session:*')",
        good: "\
            return redis.call('ZRANGE', KEYS[1], 0, 99)",
    }),
    check: Check::Script(check),
};

fn check(facts: &Facts<'_>, _: Header) -> Vec<Diagnostic> {
    let calls = facts.calls.all_redis().into_iter();
    let keys = calls.filter(|(_, call)| call.command.as_deref() == Some("KEYS"));
    keys.map(|(id, _)| {
        let message = "KEYS visits every key of the database while nothing else runs";
        Diagnostic::new(&RULE, facts.script.position(id), message)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn the_command_is_recognised_in_every_form_of_a_call() {
        assert_reported(
            "keys-command",
            &[
                "redis.call('KEYS', '*')",
                "redis.pcall 'keys'",
                "server.call(\"KEYS\", '*')",
                "local call = redis.call return call('KEYS', '*')",
                "local r = redis; local c = redis.pcall; c('Keys', '*')",
                "pcall(redis.call, 'KEYS', '*')",
                "local C = 'KEYS' redis.call(C, '*')",
                "redis.call(unpack({'KEYS', '*'}))",
                "redis['call']('KEYS', '*')",
                "rcall('KEYS', '*')",
            ],
        );
        assert_clean(&[
            "local redis = {} redis.call('KEYS', '*')",
            "print('KEYS', '*')",
            "log('keys of the set', 1)",
            "local function rcall() end rcall('KEYS', '*')",
        ]);
    }
}
