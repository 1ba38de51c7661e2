//! Assignments to globals.

use crate::lint::analysis::calls::TABLES;
use crate::lint::analysis::commands::contains;
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;
use crate::lint::source::syntax::{Expr, GlobalWrite};
use crate::lua::Position;

pub(super) static RULE: Rule = Rule {
    name: "global-write",
    severity: Severity::Error,
    on_by_default: true,
    summary: "an assignment to a global variable, which the server rejects",
    instead: "declare it: local name = …, local function name()",
    why: "Globals would be shared by all scripts, so the server protects them: the call fails when it \
          reaches the assignment, and earlier writes remain.",
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

fn check(facts: &ScriptFacts<'_>, header: Header) -> Vec<Diagnostic> {
    if is_fragment(facts, header) {
        return Vec::new();
    }
    let writes = facts.script.global_writes.iter().filter(|write| match write.name.split_once(['.', '[']) {
        Some((table, _)) => contains(TABLES, table),
        None => true,
    });
    let writes = writes.map(|GlobalWrite { position, name, .. }| {
        Diagnostic::new(&RULE, *position, format!("the server rejects this assignment to the global {name}"))
    });
    let raw = facts.script.exprs.iter().filter_map(|(_, (expr, position))| match expr {
        Expr::Call { callee, args } => {
            let is_global = |name: &str| facts.calls.is_global(*callee, name);
            let changes = is_global("rawset") || is_global("setmetatable");
            let table = *args.first().filter(|_| changes)?;
            let message = "the server rejects this change to the table of globals";
            facts.calls.is_global(table, "_G").then(|| Diagnostic::new(&RULE, *position, message))
        }
        _ => None,
    });
    writes.chain(raw).collect()
}

/// True if a source declares functions with parameters, and uses no commands, KEYS or ARGV. It does nothing on its own: it is a part of
/// a script.
fn is_library(facts: &ScriptFacts<'_>) -> bool {
    let takes = |name: &str| !facts.script.exprs.ids().any(|id| facts.calls.is_global(id, name));
    facts.calls.all_redis().is_empty()
        && takes("KEYS")
        && takes("ARGV")
        && facts
            .script
            .functions
            .iter()
            .any(|(id, function)| id != facts.script.main && !function.parameters.is_empty())
}

/// True for a part of a script that a build assembles: it uses names that it does not define, or only declares functions. A single
/// function that calls a command is more likely a script whose author forgot `local`.
fn is_fragment(facts: &ScriptFacts<'_>, header: Header) -> bool {
    let main = facts.script.functions.get(facts.script.main);
    let only_declares = header == Header::None
        && main.is_some_and(|main| main.body.is_empty())
        && (facts.script.global_writes.len() > 1 || is_library(facts))
        && facts.script.global_writes.iter().all(|write| write.is_declaration);
    // For this check, `_G.x = 1` defines `x`.
    let defined: Vec<&str> =
        facts.script.global_writes.iter().filter_map(|write| write.name.strip_prefix("_G.")).collect();
    let is_undefined =
        |position: &Position| match facts.script.exprs.iter().find(|(_, (_, at))| at == position) {
            Some((_, (Expr::Variable(variable), _))) => facts
                .script
                .variables
                .get(*variable)
                .is_none_or(|variable| !defined.contains(&variable.name.as_str())),
            _ => true,
        };
    only_declares || facts.calls.undefined().iter().any(is_undefined)
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    /// Redis 6.0 to 8.6 and Valkey reject each script of the first list at EVAL.
    #[test]
    fn assignments_to_globals_are_reported() {
        assert_reported(
            "global-write",
            &[
                "x = 5",
                "x = 5 return redis.call('GET', KEYS[1])",
                "local a = 1 a, b = 2, 3",
                "function f() return 1 end return f()",
                "function f() end",
                "function f() return f end",
                "function redis.f() end",
                "function f(a) return redis.call('GET', a) end",
                "function f(a) return a[ARGV[1]] end",
                "if ARGV[1] then x = 1 end",
                "local function f() x = 1 end f()",
                "for i = 1, 3 do x = i end",
                "_G.x = 5",
                "_G.x = 5 return x",
                "x = (x or 0) + 1",
                "_G['x'] = 5",
                "rawset(_G, 'x', 5)",
                "setmetatable(_G, nil)",
                "KEYS = {}",
                "string.trim = function() end",
                "function string.trim() end return 1",
                "local function f() end x = f",
                "#!lua name=l\nfunction f() end redis.register_function('f', f)",
            ],
        );
        assert_clean(&[
            "local x = 5 x = 6",
            "KEYS[1] = 'a' ARGV[1] = 'b'",
            "local t = {} rawset(t, 'x', 5)",
            "local t = {} t.x = 5 function t.f() end",
            "local x x = 5",
            "local function f(a) a = 5 end f(1)",
            "for i = 1, 3 do i = 5 end",
            "function f() return 1 end function g() return f() end",
            "total = total + limits[1]",
            "function serialize(x) return tostring(x) end",
        ]);
    }
}
