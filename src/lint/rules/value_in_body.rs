//! Values in the body that look like data.

use crate::lint::analysis::commands;
use crate::lint::analysis::facts::Facts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;
use crate::lint::source::syntax::Expr;

pub(super) static RULE: Rule = Rule {
    name: "value-in-body",
    severity: Severity::Warning,
    on_by_default: false,
    summary: "a value in the body that looks like data: the server gets another script for each value",
    instead: "pass it in KEYS or ARGV",
    why: "A client that formats values into the body sends another script for each value. The server \
          compiles every one of them, and servers before Redis 7.4 keep them all. The rule is off by \
          default because it can't distinguish an identifier from a constant: in 969 public scripts of 38 \
          repositories, all of its 90 findings were constants (an epoch, a largest score, a seed, the nil \
          UUID).",
    example: Some(Example {
        bad: "\
            redis.call('SET', 'user:1234', ARGV[1])",
        good: "\
            redis.call('SET', KEYS[1], ARGV[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &Facts<'_>, _: Header) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (id, call) in facts.calls.all_redis() {
        let key =
            call.args.first().filter(|_| call.command.as_deref().is_some_and(commands::begins_with_key));
        if let Some(key) = key
            && let Expr::String(text) = facts.script.expr(*key)
            && let Some(what) = data_in_key(text)
        {
            let message = format!("the key contains {what}: each value makes another script");
            diagnostics.push(Diagnostic::new(&RULE, facts.script.position(id), message));
        }
    }
    for (_, (expr, position)) in facts.script.exprs.iter() {
        let what = match expr {
            Expr::String(text) => data_in_text(text),
            Expr::Number(number) => data_in_number(number),
            _ => None,
        };
        if let Some(what) = what {
            let message = format!("this is {what}: each value makes another script");
            diagnostics.push(Diagnostic::new(&RULE, *position, message));
        }
    }
    diagnostics
}

/// Minimum number of digits of an identifier in a key; versions and shards have fewer.
const MIN_ID: usize = 3;

/// Part of a key that looks like data.
fn data_in_key(key: &str) -> Option<&'static str> {
    let mut parts = key.split(|c: char| !c.is_ascii_alphanumeric());
    let is_id = |part: &str| part.len() >= MIN_ID && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.any(is_id).then_some("a number")
}

/// Kind of data that a text looks like.
fn data_in_text(text: &str) -> Option<&'static str> {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_uuid = |parts: &[&str]| {
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| is_hex(part))
    };
    if parts.windows(5).any(is_uuid) {
        return Some("a UUID");
    }
    let has_digit = |part: &str| part.bytes().any(|byte| byte.is_ascii_digit());
    if parts.iter().any(|part| part.len() >= 24 && is_hex(part) && has_digit(part)) {
        return Some("a hash or an identifier");
    }
    if parts.iter().any(|part| part.len() >= 9 && part.bytes().all(|byte| byte.is_ascii_digit())) {
        return Some("a long number");
    }
    None
}

/// Large numbers that are constants.
const LIMITS: &[&str] = &[
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "1000000007",
    "1103515245",
    "2654435761",
    "123456789",
];

/// Kind of data that a number looks like.
fn data_in_number(number: &str) -> Option<&'static str> {
    let is_long = number.len() >= 9 && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_limit = LIMITS.contains(&number) || number.bytes().all(|byte| byte == b'9');
    // Round numbers are units and epochs.
    (is_long && !is_limit && !number.ends_with("0000")).then_some("a long number")
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn identifiers_and_times_are_reported() {
        assert_reported(
            "value-in-body",
            &[
                "redis.call('SET', 'user:1234', ARGV[1])",
                "redis.call('SET', KEYS[1], 1718035261734)",
                "redis.call('SET', KEYS[1], '3f2504e0-4f89-11d3-9a0c-0305e82c3301')",
            ],
        );
        assert_clean(&[
            "redis.call('SET', 'config:v2', ARGV[1])",
            "redis.call('EXPIRE', KEYS[1], 2592000)",
            "redis.call('SET', KEYS[1], 2147483647)",
            "redis.call('SET', KEYS[1], 1704067200000)",
        ]);
    }
}
