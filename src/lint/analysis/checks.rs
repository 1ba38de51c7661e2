//! Numbers that a script compares with a limit before it counts to them: it ends if they are larger.

use crate::lint::analysis::loops::LoopAnalysis;
use crate::lint::analysis::numbers::Sum;
use crate::lint::source::syntax::{Binary, Comparison, Expr, ExprId, Function, Loop};

impl LoopAnalysis<'_> {
    /// True if the function around a loop ends before the loop if a reply, or a sum that contains it, is larger than a limit that does
    /// not depend on the data.
    pub(super) fn is_checked_before(&self, around: &Loop, reply: ExprId) -> bool {
        let script = self.calls.script;
        let has_loop = |function: &Function| around.calls.iter().any(|call| function.calls.contains(call));
        let functions = script.functions.iter().filter(|(_, function)| has_loop(function));
        let mut exits = functions.flat_map(|(_, function)| function.exits.iter().flatten());
        exits.any(|exit| {
            script.position(*exit) < around.position
                && around.outer_guard.is_none_or(|guard| !self.is_larger(guard, reply))
                && self.is_larger(*exit, reply)
        })
    }

    /// True if a condition holds whenever a reply, or a sum that contains it, is larger than a limit.
    fn is_larger(&self, condition: ExprId, reply: ExprId) -> bool {
        let script = self.calls.script;
        self.parts(condition, Binary::Or).into_iter().any(|(part, is_negated)| {
            let Expr::Binary(Binary::Compare(comparison), left, right) = *script.expr(part) else {
                return false;
            };
            let (large, limit) = match if is_negated { comparison.negated() } else { comparison } {
                Comparison::Greater => (left, right),
                Comparison::Less => (right, left),
                Comparison::Equal | Comparison::Unequal => return false,
            };
            let terms = Sum::of(script, large).terms;
            let depends = |value: ExprId| self.values.reply_of(value, false, |call| call == reply).is_some();
            !self.values.may_be_a_reply(limit)
                && terms.iter().all(|(factor, _)| *factor > 0.0)
                && terms.iter().any(|(_, value)| depends(*value))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn numbers_below_a_limit_are_bounded() {
        assert_clean(&[
            "local n = tonumber(redis.call('GET', KEYS[1])) if n > 100 then return 0 end for i = 1, n do redis.call('DEL', i) end",
            "local a, b = tonumber(redis.call('GET', KEYS[1])), tonumber(redis.call('GET', KEYS[2])) if a + b > tonumber(ARGV[1]) then return 0 end
             local last = math.floor(a) or -1 for i = 1, last do redis.call('DEL', i) end",
        ]);
        assert_reported(
            "unbounded-loop",
            &[
                "local n = tonumber(redis.call('GET', KEYS[1])) if n > tonumber(redis.call('GET', KEYS[2])) then return 0 end for i = 1, n do redis.call('DEL', i) end",
                "local n = tonumber(redis.call('GET', KEYS[1])) if n > 100 then for i = 1, n do redis.call('DEL', i) end return 0 end",
                "local n = tonumber(redis.call('GET', KEYS[1])) if n < 100 then return 0 end for i = 1, n do redis.call('DEL', i) end",
                "local a, b = tonumber(redis.call('GET', KEYS[1])), tonumber(redis.call('GET', KEYS[2])) if b - a > 100 then return 0 end for i = 1, a do redis.call('DEL', i) end",
            ],
        );
    }
}
