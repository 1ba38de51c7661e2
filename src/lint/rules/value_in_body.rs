//! Values in the body that look like data.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::lint::analysis::commands::{self, Effect};
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;
use crate::lint::source::syntax::{Binary, Expr, ExprId};

pub(super) static RULE: Rule = Rule {
    name: "value-in-body",
    severity: Severity::Info,
    on_by_default: false,
    summary: "an identifier in the body that is part of a key or stored: the server receives a different script for each value",
    instead: "pass it in KEYS or ARGV",
    why: "A client that formats values into the body sends a different script for each value. The server \
          compiles every one of them, and servers before Redis 7.4 keep them all. The rule reports UUIDs \
          and hexadecimal identifiers that are stored or part of a key, and numbers in keys. It does not \
          report other numbers, the nil UUID or digits that repeat or count up, because these are mostly constants (an \
          epoch, a maximum score, a seed). The rule is off by default, and its findings are information, \
          because a random constant looks the same.",
    example: Some(Example {
        bad: "\
            redis.call('SET', 'session:9f86d081884c7d659a2feaa0c55ad015', ARGV[1])",
        good: "\
            redis.call('SET', KEYS[1], ARGV[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (_, call) in facts.calls.all_redis() {
        let Some(command) = call.command.as_deref() else { continue };
        let stores = commands::effect(command) == Effect::Writes;
        for (index, arg) in call.args.iter().enumerate() {
            let role = match index {
                0 if commands::begins_with_key(command) => "in a key",
                _ if stores => "stored",
                _ => continue,
            };
            let id = constants(facts, *arg).into_iter().find_map(|(text, at)| {
                let number = || (role == "in a key" && has_number(&text)).then_some("a number");
                Some((at, identifier(&text).or_else(number)?))
            });
            diagnostics.extend(id.map(|(position, what)| {
                let message = format!("{what} is {role}: each value creates a new script");
                Diagnostic::new(&RULE, facts.script.position(position), message)
            }));
        }
    }
    diagnostics
}

/// String constants that a value is concatenated from.
fn constants(facts: &ScriptFacts<'_>, value: ExprId) -> Vec<(String, ExprId)> {
    let mut constants = Vec::new();
    facts.values.follow(value, |id, next| {
        match facts.script.expr(id) {
            Expr::String(text) => constants.push((text.clone(), id)),
            Expr::Binary(Binary::Concat, left, right) => next.extend([*left, *right]),
            Expr::Variable(variable) => next.extend(facts.script.assigned(*variable)),
            _ => {}
        }
        true
    });
    constants
}

/// Minimum length of an identifier of hexadecimal digits.
const MIN_HEX: usize = 12;

/// Minimum number of different characters in a random identifier; the characters of constants repeat or count up.
const MIN_DIFFERENT: usize = 6;

/// Identifier in a string that looks random.
fn identifier(text: &str) -> Option<&'static str> {
    let parts: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_uuid = |parts: &&[&str]| {
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| is_hex(part)) && is_random(&parts.concat())
    };
    if parts.windows(5).any(|window| is_uuid(&window)) {
        return Some("a UUID");
    }
    let has = |part: &str, kind: fn(&u8) -> bool| part.bytes().filter(kind).count() > 1;
    let is_id = |part: &&str| {
        part.len() >= MIN_HEX
            && is_hex(part)
            && has(part, u8::is_ascii_digit)
            && has(part, u8::is_ascii_alphabetic)
            && is_random(part)
    };
    parts.iter().any(is_id).then_some("a random identifier")
}

/// Lengths of numbers that count as identifiers.
const NUMBER: RangeInclusive<usize> = 6..=20;

/// Minimum number of different digits in a number that counts as an identifier.
const MIN_DIGITS: usize = 4;

/// True if a key contains a number that looks like an identifier.
fn has_number(key: &str) -> bool {
    let mut parts = key.split(|c: char| !c.is_ascii_alphanumeric());
    parts.any(|part| {
        let digits: BTreeSet<u8> = part.bytes().collect();
        NUMBER.contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && digits.len() >= MIN_DIGITS
            && !part.ends_with("000")
            && is_irregular(part)
    })
}

/// True if enough characters are different, and most of them neither repeat nor count up or down.
fn is_random(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let different: BTreeSet<u8> = text.bytes().collect();
    different.len() >= MIN_DIFFERENT && is_irregular(&text)
}

/// True if most characters neither repeat the previous character nor are adjacent to it in order.
fn is_irregular(text: &str) -> bool {
    let bytes = text.as_bytes();
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    let regular = pairs.clone().filter(|(one, other)| one.abs_diff(**other) <= 1).count();
    regular * 2 < pairs.count()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::findings;

    #[test]
    fn identifiers_that_are_keys_or_stored_are_reported() {
        for script in [
            "redis.call('SET', 'session:9f86d081884c7d659a2feaa0c55ad015', ARGV[1])",
            "redis.call('SET', KEYS[1], '3f2504e0-4f89-11d3-9a0c-0305e82c3301')",
            "local user = '3f2504e0-4f89-11d3-9a0c-0305e82c3301' return redis.call('GET', 'user:' .. user)",
            "redis.call('HSET', KEYS[1], 'owner', '507f1f77bcf86cd799439011')",
            "redis.call('GET', 'user:482913:session')",
        ] {
            assert!(findings(script).contains(&(1, "value-in-body")), "{script}");
        }
    }

    #[test]
    fn constants_are_not_reported() {
        for script in [
            "redis.call('SET', 'config:v2', ARGV[1])",
            "redis.call('SET', 'user:1234', ARGV[1])",
            "redis.call('EXPIRE', KEYS[1], 2592000)",
            "redis.call('SET', KEYS[1], 2147483647)",
            "redis.call('SET', KEYS[1], 1704067200000)",
            "redis.call('SET', KEYS[1], 9007199254740992)",
            "redis.call('ZADD', KEYS[1], '92233720368547758', 'a')",
            "local seed = 2166136261 for i = 1, #ARGV do seed = (seed * 16777619) % 4294967296 end redis.call('SET', KEYS[1], seed)",
            "local epoch = 1483228800 return tonumber(redis.call('TIME')[1]) - epoch",
            "if ARGV[1] == '00000000-0000-0000-0000-000000000000' then redis.call('DEL', KEYS[1]) end",
            "redis.call('SET', KEYS[1], '00000000-0000-0000-0000-000000000000')",
            "redis.call('SET', KEYS[1], 'ffffffff-ffff-ffff-ffff-ffffffffffff')",
            "redis.call('SET', KEYS[1], '12345678-1234-1234-1234-123456789012')",
            "redis.call('SET', KEYS[1], '01234567-89ab-cdef-0123-456789abcdef')",
            "redis.call('SET', KEYS[1], '0123456789abcdef0123456789abcdef')",
            "redis.call('SET', KEYS[1], 'deadbeefdeadbeefdeadbeef')",
            "if redis.sha1hex(ARGV[1]) == '2fd4e1c67a2d28fced849ee1bb76e7391b93eb12' then return 1 end",
        ] {
            assert!(!findings(script).contains(&(1, "value-in-body")), "{script}");
        }
    }
}
