//! Loops and recursions with a condition that never ends them: the counter moves away from the limit, or nothing that the condition
//! depends on changes.

use crate::lint::analysis::calls::protected;
use crate::lint::analysis::loops::{End, Endless, LoopAnalysis, Step};
use crate::lint::analysis::numbers::Sum;
use crate::lint::source::syntax::{
    Binary, Comparison, Expr, ExprId, Function, Loop, LoopKind, Script, Unary, Value, VarId,
};

/// Functions whose result depends only on their arguments.
const PURE: [&str; 8] =
    ["math.abs", "math.ceil", "math.floor", "math.max", "math.min", "string.len", "tonumber", "tostring"];

/// Maximum distance from a whole number at which a quotient counts as whole.
const PRECISION: f64 = 1e-9;

/// Steps of a counter in one iteration, and its start values.
struct Counter {
    /// Factor of the counter in its side of the comparison.
    factor: f64,
    /// True if all steps add.
    is_up: bool,
    /// Constant step, if there is only one.
    step: Option<f64>,
    /// Differences between the side and the limit before the first iteration; `None` for those that are not constant.
    starts: Vec<Option<f64>>,
}

impl Counter {
    /// True if `ending`, the comparison with the limit that ends the repetition, never becomes true. It is first evaluated after
    /// `taken` steps.
    fn misses(&self, ending: Comparison, taken: f64) -> bool {
        let rises = self.is_up == (self.factor > 0.0);
        let first = |start: f64| start + taken * self.step.unwrap_or(0.0) * self.factor;
        let begins = |passes: &dyn Fn(f64) -> bool| {
            self.starts.iter().all(|start| start.is_none_or(|start| passes(first(start))))
        };
        match ending {
            Comparison::Less => rises && begins(&|distance| distance >= 0.0),
            Comparison::Greater => !rises && begins(&|distance| distance <= 0.0),
            Comparison::Unequal => false,
            Comparison::Equal => match (self.starts.as_slice(), self.step) {
                ([Some(start)], Some(step)) if step != 0.0 => {
                    let steps = -first(*start) / (step * self.factor);
                    steps < 0.0 || (steps - steps.round()).abs() > PRECISION
                }
                _ => false,
            },
        }
    }
}

impl LoopAnalysis<'_> {
    /// Reason why none of the conditions that should end a loop ever does.
    pub(super) fn never_reached(&self, around: &Loop, ends: &[End]) -> Option<Endless> {
        let is_away = |end: &End| self.moves_away(around, *end);
        if !around.kind.is_conditional()
            || ends.is_empty()
            || !ends.iter().all(|end| is_away(end) || self.is_unchanged_end(around, *end))
        {
            return None;
        }
        Some(if ends.iter().any(is_away) { Endless::Away } else { Endless::Unchanged })
    }

    /// True if a condition compares a counter of a loop with a limit that the counter moves away from, or past.
    pub(super) fn moves_away(&self, around: &Loop, end: End) -> bool {
        let taken = if matches!(around.kind, LoopKind::Repeat(_)) { 1.0 } else { 0.0 };
        self.sides(end).into_iter().any(|(side, limit, ending)| {
            self.counter_of(around, side, limit).is_some_and(|counter| counter.misses(ending, taken))
        })
    }

    /// Sides of a comparison in both orders, each with the comparison that ends a repetition.
    pub(super) fn sides(&self, end: End) -> Vec<(ExprId, ExprId, Comparison)> {
        let Expr::Binary(Binary::Compare(comparison), left, right) = *self.calls.script.expr(end.condition)
        else {
            return Vec::new();
        };
        let ending = if end.ends_when { comparison } else { comparison.negated() };
        vec![(left, right, ending), (right, left, ending.mirrored())]
    }

    /// Counter of a loop on one side of a comparison, if nothing else on either side changes.
    fn counter_of(&self, around: &Loop, side: ExprId, limit: ExprId) -> Option<Counter> {
        let script = self.calls.script;
        let variable = self.counter(around, side)?;
        let mut rest = Sum::with(script, side, variable);
        let factor = rest.take(script, variable)?;
        let rest = rest.plus(script, -1.0, &Sum::with(script, limit, variable));
        let is_unchanged = |other: VarId| self.is_kept(around, other);
        if !self.is_same_again(limit, is_unchanged)
            || !self.is_same_again(side, |other| other == variable || is_unchanged(other))
        {
            return None;
        }
        let steps = self.steps_of(around, variable);
        let is_up = steps.iter().all(|(step, _)| *step == Step::Up);
        if !is_up && !steps.iter().all(|(step, _)| *step == Step::Down) {
            return None;
        }
        let in_loop: Vec<Value> =
            around.assigned.iter().filter(|(id, _)| *id == variable).map(|(_, value)| *value).collect();
        let starts: Vec<&Value> =
            script.values(variable).iter().filter(|value| !in_loop.contains(value)).collect();
        // A function that the loop calls may set it.
        if starts.len() > 1 && self.runs_functions(around) {
            return None;
        }
        let distance =
            |start: &Value| rest.clone().plus(script, factor, &Sum::of(script, start.source())).number();
        let width = match steps.as_slice() {
            [(_, width)] => *width,
            _ => None,
        };
        Some(Counter {
            factor,
            is_up,
            step: width.map(|width| if is_up { width } else { -width }),
            starts: starts.into_iter().map(distance).collect(),
        })
    }

    /// True if a condition depends on nothing that a loop changes, and is not known to end the loop in its first iteration.
    fn is_unchanged_end(&self, around: &Loop, end: End) -> bool {
        let is_known = self.sides(end).into_iter().any(|(side, limit, ending)| {
            let script = self.calls.script;
            let distance = Sum::of(script, side).plus(script, -1.0, &Sum::of(script, limit)).number();
            distance.is_some_and(|distance| match ending {
                Comparison::Less => distance <= 0.0,
                Comparison::Greater => distance >= 0.0,
                Comparison::Equal => distance == 0.0,
                Comparison::Unequal => distance != 0.0,
            })
        });
        let is_constant = self.truth(around, end.condition) == Some(end.ends_when);
        let is_kept = |variable: VarId| self.is_kept(around, variable);
        !is_known && !is_constant && self.is_same_again(end.condition, is_kept)
    }

    /// True if a variable has the same value in each iteration of a loop.
    fn is_kept(&self, around: &Loop, variable: VarId) -> bool {
        variable < around.first_variable
            && !around.assigned.iter().any(|(assigned, _)| *assigned == variable)
            && (self.calls.script.values(variable).len() <= 1 || !self.runs_functions(around))
    }

    /// True if an expression has the same value each time it is evaluated, given that the variables accepted by `is_same` do.
    fn is_same_again(&self, id: ExprId, is_same: impl Fn(VarId) -> bool) -> bool {
        let script = self.calls.script;
        let is_given = |id: ExprId| ["KEYS", "ARGV"].iter().any(|name| self.calls.is_global(id, name));
        let mut is_unchanged = true;
        self.values.follow(id, |id, next| {
            match script.expr(id) {
                Expr::Variable(_) | Expr::Index { .. } if script.variable(id).is_some() => {
                    is_unchanged &= script.variable(id).is_some_and(&is_same);
                }
                Expr::Nil | Expr::Bool(_) | Expr::Number(_) | Expr::String(_) => {}
                Expr::Unary(Unary::Minus | Unary::Not, operand) => next.push(*operand),
                Expr::Binary(_, left, right) => next.extend([*left, *right]),
                Expr::Index { base, key } => {
                    is_unchanged &= is_given(*base);
                    next.push(*key);
                }
                Expr::Call { callee, args } => {
                    is_unchanged &= PURE.iter().any(|name| self.calls.is_global(*callee, name));
                    next.extend(args);
                }
                Expr::Unary(Unary::Length, _)
                | Expr::Variable(_)
                | Expr::Function(_)
                | Expr::Table(_)
                | Expr::Varargs
                | Expr::Unknown => is_unchanged = false,
            }
            is_unchanged
        });
        is_unchanged
    }

    fn runs_functions(&self, around: &Loop) -> bool {
        around.calls.iter().any(|call| !self.calls.runs(*call).is_empty())
    }

    /// Reason why a recursive function never stops: each condition that should stop it compares a parameter with a limit that the
    /// parameter moves away from, or depends on nothing that changes.
    pub(super) fn never_returns(&self, function: &Function, calls: &[ExprId]) -> Option<Endless> {
        let script = self.calls.script;
        let guards: Vec<ExprId> = calls.iter().filter_map(|call| script.guards.get(call)).copied().collect();
        let exits = function.exits.iter().flatten().filter(|exit| !guards.contains(exit));
        let mut ends: Vec<End> = Vec::new();
        for (guard, operator, ends_when) in guards
            .iter()
            .map(|guard| (*guard, Binary::And, false))
            .chain(exits.map(|exit| (*exit, Binary::Or, true)))
        {
            let parts = self.parts(guard, operator).into_iter();
            ends.extend(
                parts.map(|(condition, is_negated)| End { condition, ends_when: ends_when != is_negated }),
            );
        }
        let is_inner = |call: &ExprId| script.loops.iter().any(|(_, around)| around.calls.contains(call));
        if ends.is_empty() || calls.iter().any(is_inner) {
            return None;
        }
        let args: Vec<&[ExprId]> = calls.iter().filter_map(|call| args(script, *call)).collect();
        let is_passed_on = |variable: VarId| match function.parameters.iter().position(|id| *id == variable) {
            Some(index) => args.iter().all(|args| {
                args.get(index).is_some_and(|arg| *script.expr(*arg) == Expr::Variable(variable))
            }),
            None => match script.values(variable) {
                [Value::Of(value)] => self.is_same_again(*value, |_| false),
                _ => false,
            },
        };
        let is_away = |end: &End| {
            self.sides(*end).into_iter().any(|(side, limit, ending)| {
                let counter = self.parameter_of(function, &args, side, limit, is_passed_on);
                counter.is_some_and(|counter| counter.misses(ending, 0.0))
            })
        };
        let is_unchanged = |end: &End| self.is_same_again(end.condition, is_passed_on);
        if !ends.iter().all(|end| is_away(end) || is_unchanged(end)) {
            return None;
        }
        Some(if ends.iter().any(is_away) { Endless::Away } else { Endless::Unchanged })
    }

    /// Counter of a recursive function: a parameter on one side of a comparison that all recursive calls increment, or all decrement.
    fn parameter_of(
        &self,
        function: &Function,
        args: &[&[ExprId]],
        side: ExprId,
        limit: ExprId,
        is_passed_on: impl Fn(VarId) -> bool,
    ) -> Option<Counter> {
        let script = self.calls.script;
        let (index, variable) = function.parameters.iter().enumerate().find_map(|(index, variable)| {
            (script.variable(side) == Some(*variable)).then_some((index, *variable))
        })?;
        if !self.is_same_again(limit, is_passed_on) {
            return None;
        }
        let steps: Option<Vec<(Step, Option<f64>)>> =
            args.iter().map(|args| self.step(*args.get(index)?, variable)).collect();
        let steps = steps.filter(|steps| !steps.is_empty())?;
        let is_up = steps.iter().all(|(step, _)| *step == Step::Up);
        if !is_up && !steps.iter().all(|(step, _)| *step == Step::Down) {
            return None;
        }
        let passed: Vec<ExprId> = args.iter().filter_map(|args| args.get(index).copied()).collect();
        let starts = script.values(variable).iter().filter(|value| !passed.contains(&value.source()));
        let distance = |value: &Value| {
            Sum::of(script, value.source()).plus(script, -1.0, &Sum::of(script, limit)).number()
        };
        let starts = starts.map(distance).collect();
        let width = match steps.as_slice() {
            [(_, width)] => *width,
            _ => None,
        };
        Some(Counter {
            factor: 1.0,
            is_up,
            step: width.map(|width| if is_up { width } else { -width }),
            starts,
        })
    }
}

/// Arguments that a call passes to the function that it runs, including through `pcall`.
fn args(script: &Script, call: ExprId) -> Option<&[ExprId]> {
    if let Some((_, args)) = protected(script, call) {
        return Some(args);
    }
    match script.expr(call) {
        Expr::Call { args, .. } => Some(args),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported, severe};

    #[test]
    fn loops_that_move_away_from_their_limit_are_endless() {
        for script in [
            "local i = 1 while i > 0 do redis.call('LPOP', KEYS[1]) i = i + 1 end",
            "local i = 1 while i > 0 do i = i + 1 end",
            "local i = 0 while i >= 0 do i = i + 1 end",
            "local i = 1 while 0 < i do i = i + 1 end",
            "local i = 10 while i < 20 do redis.call('LPOP', KEYS[1]) i = i - 1 end",
            "local i = 10 while not (i >= 20) do i = i - 1 end",
            "local i = 0 repeat redis.call('LPOP', KEYS[1]) i = i + 1 until i < 0",
            "local i = 10 repeat redis.call('LPOP', KEYS[1]) i = i - 1 until i > 10",
            "local i = 0 repeat i = i + 1 until i == 0",
            "local i = 0 while i ~= 10 do redis.call('LPOP', KEYS[1]) i = i + 3 end",
            "local i = 10 repeat i = i - 4 until i == 0",
            "local i = 11 repeat i = i + 1 until i == 10",
            "local n = tonumber(ARGV[1]) while n > 0 do redis.call('LPOP', KEYS[1]) n = n + 1 end",
            "local n = redis.call('LLEN', KEYS[1]) while n > 0 do redis.call('LPOP', KEYS[1]) n = n + 1 end",
            "local i, n = 0, 10 while n > i do redis.call('LPOP', KEYS[1]) n = n + 1 end",
            "local i, n = 0, redis.call('LLEN', KEYS[1]) while i < n do i = i - 1 end",
            "local s = {n = 1} while s.n > 0 do s.n = s.n + 1 end",
            "local i, n = 0, #ARGV while n - i > 0 do i = i - 1 end",
            "local i, max = 5, tonumber(ARGV[1]) while i > 0 and i > max - 100 do i = i + 1 end",
        ] {
            assert_eq!(severe(script), ["endless-loop"], "{script}");
        }
        assert_clean(&[
            "local i = 10 while i > 0 do i = i - 1 end",
            "local i = 10 while not (i <= 0) do i = i - 1 end",
            "local i = -1 while i > 0 do i = i + 1 end",
            "local i = 0 while i ~= 12 do i = i + 3 end",
            "local i = 0.0 while i ~= 1 do i = i + 0.1 end",
            "local i = 5 repeat i = i - 1 until i == 0",
            "local i = -5 repeat i = i + 1 until i < 0",
            "local i, n = 10, 0 while n < i do n = n + 1 end",
            "local i = 10 local function less() i = 0 end while i > 0 do i = i + 1 less() end",
            "local i, j = 10, 0 while i > j do i = i + 1 j = j + 2 end",
            "local i = 0 while i > -10 and i < 10 do i = i + 1 end",
            "local i = 1 while i > 0 do if i > 10 then break end i = i + 1 end",
        ]);
    }

    #[test]
    fn a_condition_that_never_ends_a_loop_does_not_bound_it() {
        assert_reported(
            "unbounded-loop",
            &[
                "local i = 1 while i > 0 do if not redis.call('LPOP', KEYS[1]) then break end i = i + 1 end",
                "local i = 0 repeat i = i + 1 until i < 0 or not redis.call('LPOP', KEYS[1])",
                "local i = 9 while i < 10 and redis.call('LPOP', KEYS[1]) do i = i - 1 end",
            ],
        );
    }

    /// Time until a token is free, corrected for rounding.
    #[test]
    fn a_counter_that_begins_near_its_limit_is_bounded() {
        assert_clean(&[
            "local n, rate = tonumber(redis.call('HGET', KEYS[1], 'n')), ARGV[1] / ARGV[2]
             local wait = math.max(1, math.ceil((1 - n) / rate)) while n + wait * rate < 1 do wait = wait + 1 end return wait",
        ]);
        assert_reported(
            "unbounded-loop",
            &[
                "local n, i = redis.call('HLEN', KEYS[1]), tonumber(ARGV[1]) if i < 0 then i = n + i end while i < n do redis.call('HDEL', KEYS[1], i) i = i + 1 end",
            ],
        );
    }

    #[test]
    fn loops_that_change_nothing_in_their_condition_are_endless() {
        for script in [
            "local i = 0 while i < 10 do redis.call('LPOP', KEYS[1]) end",
            "local i = 0 while i < 10 do end",
            "local n = tonumber(ARGV[1]) while n > 0 do redis.call('LPOP', KEYS[1]) end",
            "local i, n = 1, redis.call('LLEN', KEYS[1]) while i <= n do redis.call('LPOP', KEYS[1]) end",
            "local i = 1 while i <= 10 do local i = i + 1 redis.call('LPOP', KEYS[1]) end",
            "local i = 1 while ARGV[i] do redis.call('LPOP', KEYS[1]) end",
            "local last = redis.call('GET', KEYS[1]) repeat redis.call('LPOP', KEYS[1]) until last == ARGV[1]",
            "local n = #KEYS while n > 0 do redis.call('DEL', KEYS[n]) end",
        ] {
            assert_eq!(severe(script), ["endless-loop"], "{script}");
        }
        assert_clean(&[
            "local i = 10 while i < 10 do end",
            "local i = 0 local function more() i = i + 1 end while i < 10 do more() end",
            "local t = {} while #t < 10 do t[#t + 1] = 1 end",
            "local i, t = 1, cjson.decode(ARGV[1]) while t[i] do i = i + 1 end",
            "while #ARGV > 0 do redis.call('LPUSH', KEYS[1], table.remove(ARGV)) end",
        ]);
    }

    #[test]
    fn recursions_that_move_away_from_their_limit_are_endless() {
        for script in [
            "local M = {} function M.f(n) if n < 0 then return end return M.f(n + 1) end return M.f(1)",
            "local function f(n) if n == 0 then return end return f(n + 1) end return f(1)",
            "local function f(n) if n > 0 then redis.call('LPOP', KEYS[1]) return f(n + 1) end end f(#KEYS)",
            "local function f(n) if n <= 0 then return 0 else return f(n + 1) end end return f(5)",
            "local function f(n) if n > 10 then return end redis.call('INCR', KEYS[1]) return f(n) end return f(1)",
            "local function f(k, n) if n >= 10 then return end redis.call('INCR', k) return f(k, n - 1) end return f(KEYS[1], 1)",
        ] {
            assert_eq!(severe(script), ["endless-loop"], "{script}");
        }
        assert_clean(&[
            "local function f(n) if n > 10 then return end redis.call('INCR', KEYS[1]) return f(n + 1) end return f(1)",
            "local function f(n) if n == 0 then return end return f(n - 1) end return f(9)",
            "local function f(n) if n > 0 then return f(n - 1) end end f(#KEYS)",
            "local function f(n, t) if n > 0 and not t[n] then return f(n + 1, t) end end f(1, {})",
            "local function f(a, b) if b == 0 then return a end return f(b, a % b) end return f(9, 6)",
            "local function f(n, up) if up then return f(n + 1, false) end return n end return f(1, true)",
        ]);
    }
}
