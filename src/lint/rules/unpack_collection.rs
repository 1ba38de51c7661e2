//! `unpack` of a whole collection.

use std::collections::HashSet;

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;
use crate::lint::source::syntax::{Expr, ExprId};

pub(super) static RULE: Rule = Rule {
    name: "unpack-collection",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "unpack of a whole collection, which fails with 8,000 or more elements (`too many results to \
              unpack`)",
    instead: "unpack slices: unpack(list, from, to)",
    why: "Lua's stack holds 8,000 elements. The script works until the collection is larger than that; \
          then every call fails.",
    example: Some(Example {
        bad: "\
            redis.call('DEL', unpack(redis.call('SMEMBERS', KEYS[1])))",
        good: "\
            local members = redis.call('SPOP', KEYS[1], 1000)\n\
            redis.call('DEL', unpack(members))",
    }),
    check: Check::Script(check),
};

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let calls = facts.script.exprs.ids().filter_map(|id| Some((id, facts.calls.unpack_args(id)?)));
    // Report each list only once.
    let mut reported = HashSet::new();
    calls
        .filter_map(|(id, args)| {
            let [list] = args else { return None };
            if facts.is_short_list(id, *list) {
                return None;
            }
            let (mut whole, copied) = (facts.values.collections(*list), facts.copied_to(*list));
            whole.retain(|read| !facts.values.is_checked(*read) && !finds_one_key(facts, *read));
            let (read, what) = match (whole.first(), copied.first()) {
                (Some(read), _) => (*read, "the reply of"),
                (None, Some(read)) => (*read, "a copy of the reply of"),
                (None, None) => return None,
            };
            let is_new = match facts.script.expr(*list) {
                Expr::Variable(list) => reported.insert(*list),
                _ => true,
            };
            let command = facts.calls.command(read);
            let message = format!(
                "unpack of {what} {command} fails with 8,000 or more elements (too many results to unpack)"
            );
            let diagnostic = Diagnostic::new(&RULE, facts.script.position(id), message)
                .unless(facts.doubt_of_unpack(read).as_ref());
            is_new.then(|| diagnostic.with_related(facts.script.position(read), "the read"))
        })
        .collect()
}

/// True for KEYS with a constant pattern that matches only one key.
fn finds_one_key(facts: &ScriptFacts<'_>, read: ExprId) -> bool {
    let pattern = facts.calls.redis(read).and_then(|call| facts.calls.constant(*call.args.first()?));
    facts.calls.command(read) == "KEYS"
        && pattern.is_some_and(|pattern| !pattern.contains(['*', '?', '[', '\\']))
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_reported, findings};

    #[test]
    fn collections_and_copies_of_them_are_reported() {
        assert_reported(
            "unpack-collection",
            &[
                "redis.call('DEL', unpack(redis.call('SMEMBERS', KEYS[1])))",
                "local t = {} for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do t[#t + 1] = m end redis.call('DEL', unpack(t))",
                "redis.call('MGET', unpack(redis.call('KEYS', 'cache:*')))",
                "local m = redis.call('SMEMBERS', KEYS[1]) if #m > 100 then redis.call('DEL', unpack(m)) end",
                "local m = redis.call('SMEMBERS', KEYS[1]) if #m < 100000 then redis.call('DEL', unpack(m)) end",
                "local function del(t) redis.call('DEL', unpack(t)) end local m = redis.call('SMEMBERS', KEYS[1]) if #m < 100 then del(m) end del(m)",
            ],
        );
    }

    #[test]
    fn batches_are_not_reported() {
        for script in [
            "local t = {} for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do table.insert(t, m) if #t == 4000 then redis.call('DEL', unpack(t)) t = {} end end redis.call('DEL', unpack(t))",
            "redis.call('MGET', unpack(redis.call('KEYS', 'cache')))",
            "local m = redis.call('SMEMBERS', KEYS[1]) if #m < 4000 then redis.call('DEL', unpack(m)) end",
            "local m = redis.call('SMEMBERS', KEYS[1]) if #m > 0 and 100 > #m then redis.call('DEL', unpack(m)) end",
            "local function del(t) redis.call('DEL', unpack(t)) end local m = redis.call('SMEMBERS', KEYS[1]) if #m <= 100 then del(m) else local b = {} for _, v in ipairs(m) do b[#b + 1] = v if #b == 100 then del(b) b = {} end end del(b) end",
        ] {
            let rules: Vec<&str> = findings(script).into_iter().map(|(_, rule)| rule).collect();
            assert!(!rules.contains(&"unpack-collection"), "{script}: {rules:?}");
        }
    }
}
