//! The command KEYS.

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "keys-command",
    severity: Severity::Error,
    on_by_default: true,
    summary: "the command KEYS, which visits every key of the database",
    instead: "keep the names of the keys in a set or sorted set, or use SCAN from the client",
    why: "KEYS compares the pattern with every key of the database, however few of them match, and nothing \
          else runs in the meantime.",
    example: Some(Example {
        bad: "\
            return redis.call('KEYS', 'session:*')",
        good: "\
            return redis.call('ZRANGE', KEYS[1], 0, 99)",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
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
                "local r = redis return r.call('KEYS', '*')",
                "local r = redis return r['call']('KEYS', '*')",
                "local redis = redis return redis.call('KEYS', '*')",
                "local name = 'call' return redis[name]('KEYS', '*')",
                "local r = server or redis return r.call('KEYS', '*')",
                "local call = redis.pcall or redis.call return call('KEYS', '*')",
                "local pcall, call = pcall, redis.call pcall(call, 'KEYS', '*')",
                "_G.redis.call('KEYS', '*')",
                "_G['redis'].call('KEYS', '*')",
                "redis.call('KE' .. 'YS', '*')",
                "xpcall(redis.call, print, 'KEYS', '*')",
                "pcall(redis.pcall, 'KEYS', '*')",
                "pcall(function() return redis.call('KEYS', '*') end)",
                "local api = { call = redis.call } return api.call('KEYS', '*')",
                "local api = {} api.call = redis.call return api.call('KEYS', '*')",
                "local M = {} function M.call(...) return redis.call(...) end return M.call('KEYS', '*')",
                "local M = {} function M:call(...) return redis.call(...) end return M:call('KEYS', '*')",
                "local function call(command, ...) return redis.call(command, ...) end call('GET', 'a') call('KEYS', '*')",
                "local function safe(...) local ok, r = pcall(redis.call, ...) return r end safe('KEYS', '*')",
                "local function safe(...) return xpcall(redis.call, print, ...) end safe('KEYS', '*')",
                "local function a(...) return redis.call(...) end local function b(...) return a(...) end b('KEYS', '*')",
                "local function call(...) local args = {...} return redis.call(unpack(args)) end call('KEYS', '*')",
                "local function call(args) return redis.call(unpack(args)) end call({'GET', 'a'}) call({'KEYS', '*'})",
                "local call = function(...) return redis.call(...) end pcall(call, 'KEYS', '*')",
                "local function keys(...) return redis.call('KEYS', ...) end keys('*')",
            ],
        );
        assert_clean(&[
            "local redis = {} redis.call('KEYS', '*')",
            "print('KEYS', '*')",
            "local function call(...) return redis.call(...) end call('GET', 'KEYS')",
            "local function call(command, ...) return redis.call('GET', ...) end call('KEYS', 'a')",
            "log('keys of the set', 1)",
            "local function rcall() end rcall('KEYS', '*')",
        ]);
    }
}
