//! Keys that are not in KEYS.

use crate::lint::analysis::commands;
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;
use crate::lint::source::syntax::{Expr, ExprId, Value};

pub(super) static RULE: Rule = Rule {
    name: "undeclared-key",
    severity: Severity::Info,
    on_by_default: true,
    summary: "a key that is neither in KEYS nor derived from KEYS",
    instead: "pass it in KEYS, by which clients of a cluster find the node and ACLs check access",
    why: "In a cluster, a script runs on the node that holds the keys in KEYS. A key made of constants or \
          ARGV may belong to another node, and its command then fails.",
    example: Some(Example {
        bad: "\
            redis.call('INCR', 'counter:' .. ARGV[1])",
        good: "\
            redis.call('INCR', KEYS[1])",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let calls = facts.calls.all_redis().into_iter();
    calls
        .filter_map(|(_, call)| {
            let key = *call.args.first()?;
            let command = call.command.as_deref().filter(|command| commands::begins_with_key(command))?;
            let message = format!("the key of {command} is neither in KEYS nor derived from KEYS");
            is_undeclared(facts, key).then(|| Diagnostic::new(&RULE, facts.script.position(key), message))
        })
        .collect()
}

/// True if a key consists only of constants and ARGV.
fn is_undeclared(facts: &ScriptFacts<'_>, key: ExprId) -> bool {
    let mut is_undeclared = true;
    facts.values.follow(key, |id, next| {
        match facts.script.expr(id) {
            Expr::String(_) | Expr::Number(_) => {}
            Expr::Binary(_, left, right) => next.extend([*left, *right]),
            Expr::Index { base, .. } => is_undeclared &= facts.calls.is_global(*base, "ARGV"),
            Expr::Variable(variable) => {
                let values = facts.script.values(*variable);
                is_undeclared &= !values.is_empty();
                for value in values {
                    match value {
                        Value::Of(value) => next.push(*value),
                        Value::PartOf(_) | Value::ResultOf(_) => is_undeclared = false,
                    }
                }
            }
            Expr::Call { callee, args } if facts.calls.is_global(*callee, "tostring") => next.extend(args),
            _ => is_undeclared = false,
        }
        is_undeclared
    });
    is_undeclared
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::findings;

    #[test]
    fn keys_of_constants_and_arguments_are_reported() {
        let undeclared = |script: &str| findings(script).iter().any(|(_, rule)| *rule == "undeclared-key");
        assert!(undeclared("redis.call('SET', 'config', 1)"));
        assert!(undeclared("redis.call('SET', ARGV[1] .. ':x', 1)"));
        assert!(!undeclared("redis.call('SET', KEYS[1] .. ':x', 1)"));
        assert!(!undeclared("redis.call('PUBLISH', 'channel', 1)"));
    }
}
