//! Loops that may take a long time.

use std::collections::HashSet;

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::commands::{self, Extent};
use crate::lint::analysis::numbers::Sum;
use crate::lint::analysis::summaries::Summaries;
use crate::lint::analysis::values::Values;
use crate::lint::source::syntax::{
    Binary, Comparison, Expr, ExprId, Loop, LoopKind, Script, Statement, Unary, Value, VarId,
};

/// Number of empty iterations that take about a second.
pub(crate) const ITERATIONS_PER_SECOND: f64 = 1e8;

/// Duration of a command, in empty iterations.
pub(crate) const COMMAND: f64 = 50.0;

/// Functions that multiply or divide a number.
const SHIFTS: [&str; 3] = ["bit.arshift", "bit.lshift", "bit.rshift"];

/// Functions that return a part of a string.
const PARTS: [&str; 3] = ["gsub", "match", "sub"];

/// Reason why a loop may take a long time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LongLoop {
    /// Nothing ends it.
    Endless(Endless),
    /// It repeats a command of the SCAN family until the cursor is 0.
    Scan(ExprId),
    /// It iterates over replies of these commands, which read without a limit.
    Collection(Vec<ExprId>),
    /// It iterates over all fields of the hashes that these commands read, and calls no commands. Most such hashes are records.
    Fields(Vec<ExprId>),
    /// Its number of iterations is a reply.
    Count(ExprId),
    /// Its number of iterations is the difference between a number and a reply, such as the time since a stored one.
    Elapsed(ExprId),
    /// It ends only at a certain reply.
    Until(ExprId),
    /// It calls commands, and no counter with a limit ends it.
    Unbounded,
}

/// Reason why a loop or a recursion never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endless {
    /// It has no exit.
    NoEnd,
    /// Its conditions depend on nothing that it changes.
    Unchanged,
    /// A counter in its conditions moves away from the limit, or past it.
    Away,
}

/// Condition that ends a loop.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) condition: ExprId,
    /// Value of the condition that ends the loop.
    pub(super) ends_when: bool,
}

/// Bound on the number of iterations.
#[derive(Debug)]
enum Bound {
    /// Constant number.
    Constant(f64),
    /// Independent of the data.
    Fixed,
    /// Grows with the data.
    Data(LongLoop),
}

/// Change of a counter in each iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// Something is added.
    Up,
    /// Something is subtracted.
    Down,
    /// It is multiplied or divided by a constant.
    Scaled,
}

/// Analysis of the loops of a script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopAnalysis<'a> {
    pub(crate) calls: &'a Calls<'a>,
    pub(crate) values: &'a Values<'a>,
    pub(crate) summaries: &'a Summaries<'a>,
}

impl LoopAnalysis<'_> {
    fn script(&self) -> &Script {
        self.calls.script
    }

    /// Reason why a loop may take a long time; `None` if it is bounded.
    pub(crate) fn analyse(&self, around: &Loop) -> Option<LongLoop> {
        if around.exits.contains(&None) || self.always_exits(around) {
            return None;
        }
        let never_ends = self.never_ends(around);
        if never_ends && around.exits.is_empty() {
            return Some(LongLoop::Endless(Endless::NoEnd));
        }
        let ends = self.ends(around, never_ends);
        if ends.iter().any(|end| self.is_bounded(around, *end)) {
            return None;
        }
        if around.exits.is_empty()
            && let Some(reason) = self.never_reached(around, &ends)
        {
            return Some(LongLoop::Endless(reason));
        }
        let long = match around.kind {
            LoopKind::Generic(iterator) => {
                let Expr::Call { args, .. } = self.script().expr(iterator) else { return None };
                let mut reads: Vec<ExprId> = args.iter().flat_map(|arg| self.values.sizes(*arg)).collect();
                reads.dedup();
                LongLoop::Collection(reads)
            }
            LoopKind::Numeric { .. } => match self.numeric(around)? {
                Bound::Data(LongLoop::Count(reply)) if self.is_checked_before(around, reply) => return None,
                Bound::Data(long) => long,
                Bound::Constant(iterations) if self.is_huge(around, iterations) => {
                    self.ended(around, &ends)?
                }
                Bound::Constant(_) | Bound::Fixed => return None,
            },
            LoopKind::While(_) | LoopKind::Repeat(_) => self.ended(around, &ends)?,
        };
        match long {
            LongLoop::Collection(reads) => self.over(around, reads),
            LongLoop::Count(read) if self.values.extent(read) == Some(Extent::WholeHash) => {
                self.over(around, vec![read])
            }
            long => Some(long),
        }
    }

    /// True if both branches of an `if` exit a loop.
    fn always_exits(&self, around: &Loop) -> bool {
        let exits = || around.exits.iter().flatten();
        let is_negation = |exit: &ExprId| match self.script().expr(*exit) {
            Expr::Unary(Unary::Not, other) => exits().any(|exit| exit == other),
            _ => false,
        };
        exits().any(is_negation)
    }

    /// Reason why a loop over replies without a limit may take a long time.
    fn over(&self, around: &Loop, mut reads: Vec<ExprId>) -> Option<LongLoop> {
        reads.retain(|read| !self.values.is_checked(*read) && !self.converts(around, *read));
        let (fields, elements): (Vec<ExprId>, Vec<ExprId>) =
            reads.into_iter().partition(|read| self.only_looks_at_fields(around, *read));
        if elements.is_empty() {
            (!fields.is_empty()).then_some(LongLoop::Fields(fields))
        } else {
            Some(LongLoop::Collection(elements))
        }
    }

    /// True if a loop over the fields of a hash calls no command except HDEL on this hash, and the key of the hash is not constant. A
    /// constant key means a single hash for all data.
    fn only_looks_at_fields(&self, around: &Loop, read: ExprId) -> bool {
        let key = self.calls.redis(read).and_then(|call| call.args.first().copied());
        let Some(key) = key.filter(|_| self.values.extent(read) == Some(Extent::WholeHash)) else {
            return false;
        };
        let is_light = |call: ExprId| {
            if let Some(command) = self.calls.redis(call) {
                return command.command.as_deref() == Some("HDEL")
                    && command.args.first().is_some_and(|other| self.script().is_same(*other, key));
            }
            let summary = self.summaries.call(call);
            !summary.calls && !summary.opaque
        };
        self.calls.constant(key).is_none() && around.calls.iter().all(|call| is_light(*call))
    }

    /// True if the hash that HGETALL reads is an object with few fields: the script compares their names with constants, or the loop
    /// only copies the reply to a table.
    fn converts(&self, around: &Loop, read: ExprId) -> bool {
        let is_plain = |statement: &Statement| match statement {
            Statement::Call(call) => {
                let summary = self.summaries.call(*call);
                !summary.calls && !summary.opaque
            }
            Statement::Return | Statement::Branches(_) | Statement::Loop(_) => false,
        };
        let copies = || {
            around.body.iter().all(is_plain)
                && around.assigned.iter().all(|(variable, value)| {
                    *variable >= around.first_variable || self.is_element(value.source())
                })
        };
        self.calls.command(read) == "HGETALL" && (copies() || self.has_named_fields(read))
    }

    /// True if a script compares an element of the reply of a command with a constant string.
    fn has_named_fields(&self, read: ExprId) -> bool {
        let script = self.script();
        let is_element = |id: ExprId| {
            let mut is_element = false;
            self.values.follow(id, |id, next| {
                match script.expr(id) {
                    Expr::Index { base, .. } => is_element |= self.values.collections(*base).contains(&read),
                    Expr::Variable(variable) => next.extend(script.assigned(*variable)),
                    _ => {}
                }
                !is_element
            });
            is_element
        };
        let is_text = |id: ExprId| matches!(script.expr(id), Expr::String(text) if !text.is_empty());
        script.exprs.iter().any(|(_, (expr, _))| match expr {
            Expr::Binary(Binary::Compare(Comparison::Equal | Comparison::Unequal), left, right) => {
                is_text(*right) && is_element(*left) || is_text(*left) && is_element(*right)
            }
            _ => false,
        })
    }

    /// True for an element of a table, possibly converted to a number or a string.
    fn is_element(&self, id: ExprId) -> bool {
        match self.script().expr(id) {
            Expr::Index { .. } => true,
            Expr::Call { callee, args } => {
                let converts =
                    ["tonumber", "tostring"].iter().any(|name| self.script().is_global(*callee, name));
                converts
                    && args.first().is_some_and(|arg| matches!(self.script().expr(*arg), Expr::Index { .. }))
            }
            _ => false,
        }
    }

    /// Constant upper bound of the number of iterations of a `for` loop.
    pub(crate) fn at_most(&self, around: &Loop) -> Option<f64> {
        match self.numeric(around) {
            Some(Bound::Constant(iterations)) => Some(iterations),
            _ => None,
        }
    }

    /// Number of iterations of a loop that runs a constant number of times.
    pub(crate) fn iterations(&self, around: &Loop) -> Option<f64> {
        let ends = self.ends(around, self.never_ends(around));
        let bound = match (around.kind, &ends[..]) {
            (LoopKind::Numeric { .. }, []) => self.numeric(around),
            (LoopKind::While(_) | LoopKind::Repeat(_), [end]) => self.counted(around, end.condition),
            _ => None,
        };
        match bound {
            Some(Bound::Constant(iterations)) if around.exits.iter().all(Option::is_some) => {
                Some(iterations.max(0.0))
            }
            _ => None,
        }
    }

    /// True if a number of iterations takes seconds.
    fn is_huge(&self, around: &Loop, iterations: f64) -> bool {
        let time = if self.calls_commands(around) { COMMAND } else { 1.0 };
        iterations * time >= ITERATIONS_PER_SECOND
    }

    fn calls_commands(&self, around: &Loop) -> bool {
        around.calls.iter().any(|call| self.summaries.call(*call).calls)
    }

    /// True if the condition of a loop never ends it.
    fn never_ends(&self, around: &Loop) -> bool {
        let (condition, is_while) = match around.kind {
            LoopKind::While(condition) => (condition, true),
            LoopKind::Repeat(condition) => (condition, false),
            LoopKind::Numeric { .. } => {
                return matches!(self.numeric(around), Some(Bound::Constant(f64::INFINITY)));
            }
            LoopKind::Generic(_) => return false,
        };
        self.truth(around, condition).is_some_and(|truth| truth == is_while)
    }

    /// Value of a condition, if it is constant.
    pub(super) fn truth(&self, around: &Loop, condition: ExprId) -> Option<bool> {
        let script = self.script();
        let (mut condition, mut expected) = (condition, true);
        while let Expr::Unary(Unary::Not, operand) = script.expr(condition) {
            (condition, expected) = (*operand, !expected);
        }
        // A flag that is set once.
        let is_parameter = |variable: VarId| {
            script.functions.iter().any(|(_, function)| function.parameters.contains(&variable))
        };
        if let Expr::Variable(variable) = script.expr(condition)
            && let [Value::Of(value)] = script.values(*variable)
            && matches!(script.expr(*value), Expr::Bool(_))
            && !is_parameter(*variable)
            && !around.assigned.iter().any(|(assigned, _)| assigned == variable)
        {
            condition = *value;
        }
        let truth = match script.expr(condition) {
            Expr::Bool(value) => *value,
            Expr::Nil => false,
            Expr::Number(_) | Expr::String(_) | Expr::Table(_) => true,
            Expr::Binary(Binary::Compare(Comparison::Equal), left, right) => {
                let is_number = |id: ExprId| matches!(script.expr(id), Expr::Number(_));
                (is_number(*left) && script.is_same(*left, *right)).then_some(true)?
            }
            _ => return None,
        };
        Some(truth == expected)
    }

    /// Conditions, each of which ends a loop on its own.
    fn ends(&self, around: &Loop, never_ends: bool) -> Vec<End> {
        let end = |ends_when: bool| {
            move |(condition, is_negated): (ExprId, bool)| End {
                condition,
                ends_when: ends_when != is_negated,
            }
        };
        let mut ends: Vec<End> = match around.kind {
            LoopKind::While(condition) if !never_ends => {
                self.parts(condition, Binary::And).into_iter().map(end(false)).collect()
            }
            LoopKind::Repeat(condition) if !never_ends => {
                self.parts(condition, Binary::Or).into_iter().map(end(true)).collect()
            }
            _ => Vec::new(),
        };
        for guard in around.exits.iter().flatten() {
            ends.extend(self.parts(*guard, Binary::Or).into_iter().map(end(true)));
        }
        let flags: Vec<End> = ends.iter().flat_map(|end| self.flagged(around, *end)).collect();
        ends.extend(flags);
        ends
    }

    /// Conditions under which a loop sets a flag that ends it: `done = n >= 10`, `if n >= 10 then done = true end`.
    fn flagged(&self, around: &Loop, end: End) -> Vec<End> {
        let script = self.script();
        let Some(flag) = script.variable(end.condition).filter(|flag| *flag < around.first_variable) else {
            return Vec::new();
        };
        let (mut conditions, mut computed) = (Vec::new(), 0);
        for (_, value) in around.assigned.iter().filter(|(assigned, _)| *assigned == flag) {
            let Value::Of(value) = *value else { return Vec::new() };
            let guard = script.assignment_guards.get(&value);
            match (script.expr(value), guard) {
                (Expr::Bool(set), Some(guard)) if *set == end.ends_when => conditions.push((*guard, true)),
                (_, None) if is_condition(script, value) => {
                    conditions.push((value, end.ends_when));
                    computed += 1;
                }
                _ => return Vec::new(),
            }
        }
        if computed > 1 {
            return Vec::new();
        }
        let ends = conditions.into_iter().flat_map(|(condition, ends_when)| {
            let operator = if ends_when { Binary::Or } else { Binary::And };
            let parts = self.parts(condition, operator).into_iter();
            parts.map(move |(condition, is_negated)| End { condition, ends_when: ends_when != is_negated })
        });
        ends.collect()
    }

    /// True if a condition ends a loop after a number of iterations that doesn't depend on the data.
    fn is_bounded(&self, around: &Loop, end: End) -> bool {
        if self.moves_away(around, end) {
            return false;
        }
        // `repeat … until true` runs once, and a `break` in it continues the enclosing loop.
        if self.truth(around, end.condition) == Some(end.ends_when) {
            return true;
        }
        match self.counted(around, end.condition) {
            Some(Bound::Constant(iterations)) => !self.is_huge(around, iterations),
            Some(Bound::Fixed) => true,
            Some(Bound::Data(_)) => false,
            None => {
                self.is_given(end.condition)
                    || self.is_consumed(around, end.condition)
                    || self.is_filled(around, end)
                    || self.is_cut(around, end.condition)
                    || self.is_iterated(around, end.condition)
            }
        }
    }

    /// True for a condition on the length of a table from which each iteration removes an element, if the table is not a reply without
    /// a limit.
    fn is_consumed(&self, around: &Loop, end: ExprId) -> bool {
        let script = self.script();
        let sides = match script.expr(end) {
            Expr::Binary(Binary::Compare(_), left, right) => [*left, *right],
            _ => return false,
        };
        let mut tables = sides.into_iter().filter_map(|side| self.values.measured(side));
        let removes = |statement: &Statement, table: ExprId| {
            matches!(statement, Statement::Call(call) if matches!(
                script.expr(*call),
                Expr::Call { callee, args } if self.calls.is_global(*callee, "table.remove")
                    && args.first().is_some_and(|arg| script.is_same(*arg, table))
            ))
        };
        tables.any(|table| {
            let is_grown = match script.expr(table) {
                Expr::Variable(variable) => {
                    around.grown.contains(variable)
                        || around.assigned.iter().any(|(assigned, _)| assigned == variable)
                }
                _ => true,
            };
            !is_grown
                && around.body.iter().any(|statement| removes(statement, table))
                && self.values.collections(table).is_empty()
        })
    }

    /// True for a condition on a variable that each iteration sets to the next element of a table: `key = next(table, key)`.
    fn is_iterated(&self, around: &Loop, end: ExprId) -> bool {
        let script = self.script();
        let sides = match script.expr(end) {
            Expr::Binary(Binary::Compare(_), left, right) => vec![*left, *right],
            _ => vec![end],
        };
        let is_next = |call: ExprId| match script.expr(call) {
            Expr::Call { callee, args } => {
                self.calls.is_global(*callee, "next")
                    && args.first().is_some_and(|table| self.values.collections(*table).is_empty())
                    && args.len() == 2
            }
            _ => false,
        };
        sides.into_iter().filter_map(|side| script.variable(side)).any(|key| {
            let mut values = around.assigned.iter().filter(|(assigned, _)| *assigned == key).peekable();
            values.peek().is_some() && values.all(|(_, value)| is_next(value.source()))
        })
    }

    /// True for a condition on a string, or its length, if each iteration replaces the string with a part of it:
    /// `path = path:match('/(.*)')`.
    fn is_cut(&self, around: &Loop, end: ExprId) -> bool {
        let script = self.script();
        let sides = match script.expr(end) {
            Expr::Binary(Binary::Compare(_), left, right) => vec![*left, *right],
            _ => vec![end],
        };
        let is_part = |value: ExprId, text: VarId| {
            let (mut is_cut, mut is_text, mut is_reply) = (false, false, false);
            self.values.follow(value, |id, next| {
                is_reply |= self.calls.redis(id).is_some();
                match script.expr(id) {
                    Expr::Variable(variable) if *variable == text => is_text = true,
                    Expr::Variable(variable) => next.extend(script.sources(*variable)),
                    Expr::Call { callee, args } => {
                        is_cut |= matches!(script.expr(*callee), Expr::Index { key, .. }
                            if matches!(script.expr(*key), Expr::String(name) if PARTS.contains(&name.as_str())));
                        next.extend(args);
                    }
                    Expr::Binary(_, left, right) => next.extend([*left, *right]),
                    _ => {}
                }
                true
            });
            is_cut && is_text && !is_reply
        };
        let texts = sides.into_iter().map(|side| self.values.measured(side).unwrap_or(side));
        texts.filter_map(|text| script.variable(text)).any(|text| {
            let mut values = around.assigned.iter().filter(|(assigned, _)| *assigned == text).peekable();
            values.peek().is_some() && values.all(|(_, value)| is_part(value.source(), text))
        })
    }

    /// True for a condition that ends the loop when a list to which it adds elements reaches a limit that does not depend on the data:
    /// `while #batch < ARGV[1]`.
    fn is_filled(&self, around: &Loop, end: End) -> bool {
        let script = self.script();
        self.sides(end).into_iter().any(|(side, limit, ending)| {
            let terms = Sum::of(script, side).terms;
            let grows = |value: ExprId| {
                let list = self.values.measured(value).and_then(|list| script.variable(list));
                list.is_some_and(|list| {
                    self.grows(around, list) && !around.assigned.iter().any(|(id, _)| *id == list)
                })
            };
            matches!(ending, Comparison::Greater | Comparison::Equal)
                && matches!(terms.as_slice(), [(factor, value)] if *factor > 0.0 && grows(*value))
                && !self.values.may_be_a_reply(limit)
        })
    }

    /// True if a loop, or a function that it calls, adds elements to a list that is declared before the loop.
    fn grows(&self, around: &Loop, list: VarId) -> bool {
        let script = self.script();
        let in_function = |call: &ExprId| {
            let passed = |parameter: VarId| {
                script.assigned(parameter).any(|arg| *script.expr(arg) == Expr::Variable(list))
            };
            let functions = self.calls.runs(*call).into_iter().filter_map(|id| script.functions.get(id));
            functions.flat_map(|function| function.grown.iter().map(move |grown| (function, *grown))).any(
                |(function, grown)| grown == list || function.parameters.contains(&grown) && passed(grown),
            )
        };
        around.grows(list) || list < around.first_variable && around.calls.iter().any(in_function)
    }

    /// Reason why a loop that ends at one of several conditions may take a long time.
    fn ended(&self, around: &Loop, ends: &[End]) -> Option<LongLoop> {
        let scan = around.own_calls.iter().find_map(|call| self.summaries.call(*call).scan);
        if let Some(scan) = scan {
            return Some(LongLoop::Scan(scan));
        }
        let counted = ends.iter().filter(|end| !self.moves_away(around, **end));
        let counted = counted.filter_map(|end| self.counted(around, end.condition));
        let mut is_constant = false;
        for bound in counted {
            match bound {
                Bound::Data(long) => return Some(long),
                Bound::Constant(_) => is_constant = true,
                Bound::Fixed => {}
            }
        }
        // A constant number of iterations is a different finding. A loop without commands processes data in memory.
        let is_other = is_constant && ends.len() == 1;
        (self.calls_commands(around) && !is_other)
            .then(|| {
                let reply = ends.iter().find_map(|end| {
                    let reply = self.values.reply(end.condition, true);
                    reply.or_else(|| self.decides(end.condition))
                });
                let is_capped = reply.is_some_and(|call| self.values.is_capped(call));
                (!is_capped).then(|| reply.map_or(LongLoop::Unbounded, LongLoop::Until))
            })
            .flatten()
    }

    /// Command whose reply determines where a function that a condition calls returns.
    fn decides(&self, condition: ExprId) -> Option<ExprId> {
        let Expr::Call { callee, .. } = self.script().expr(condition) else { return None };
        let functions = self.script().callees(*callee).filter_map(|id| self.script().functions.get(id));
        let mut guards = functions.flat_map(|function| function.exits.iter().flatten());
        guards.find_map(|guard| self.values.reply(*guard, true))
    }

    /// Operands of nested uses of the same operator, including those that a `not` turns into it, each with true if it is negated. The
    /// operands are returned without their `not`.
    pub(super) fn parts(&self, id: ExprId, operator: Binary) -> Vec<(ExprId, bool)> {
        let (mut next, mut parts) = (vec![(id, operator, false)], Vec::new());
        // A function may call itself in the condition that it returns.
        let mut visited = HashSet::new();
        while let Some((id, operator, is_negated)) = next.pop() {
            let id = self.condition(id);
            if !visited.insert((id, is_negated)) {
                continue;
            }
            match self.script().expr(id) {
                Expr::Binary(other, left, right) if *other == operator => {
                    next.extend([(*left, operator, is_negated), (*right, operator, is_negated)]);
                }
                Expr::Unary(Unary::Not, operand) => {
                    let negated = if operator == Binary::And { Binary::Or } else { Binary::And };
                    next.push((*operand, negated, !is_negated));
                }
                _ => parts.push((id, is_negated)),
            }
        }
        parts
    }

    /// Condition that is the only value of a variable, or that a function with a single `return` returns; otherwise the expression
    /// itself.
    fn condition(&self, id: ExprId) -> ExprId {
        let script = self.script();
        let value = match script.expr(id) {
            Expr::Variable(variable) => match script.values(*variable) {
                [Value::Of(value)] => Some(*value),
                _ => None,
            },
            Expr::Call { callee, .. } => {
                let mut functions = script.callees(*callee).filter_map(|id| script.functions.get(id));
                match (functions.next(), functions.next()) {
                    (Some(function), None) if function.exits.len() == 1 => function.returns.first().copied(),
                    _ => None,
                }
            }
            _ => None,
        };
        value.filter(|value| is_condition(script, *value)).unwrap_or(id)
    }

    /// True if a condition depends on KEYS or ARGV and on no reply.
    fn is_given(&self, end: ExprId) -> bool {
        self.values.is_given(end)
    }

    /// Bound of a numeric `for` loop.
    fn numeric(&self, around: &Loop) -> Option<Bound> {
        let LoopKind::Numeric { start, end, step } = around.kind else { return None };
        let step = step.map_or(Some(1.0), |step| Sum::of(self.script(), step).number());
        let (up, down) = (|| self.span(end, Some(start)), || self.span(start, Some(end)));
        let bound = match step {
            Some(step) if step > 0.0 => up(),
            Some(step) if step < 0.0 => down(),
            Some(_) => match down() {
                Bound::Constant(span) if span >= 0.0 => Bound::Constant(f64::INFINITY),
                bound => bound,
            },
            None => match up() {
                Bound::Data(long) => Bound::Data(long),
                _ => match down() {
                    Bound::Data(long) => Bound::Data(long),
                    _ => Bound::Fixed,
                },
            },
        };
        Some(match (bound, step) {
            (Bound::Constant(span), Some(step)) if span.is_finite() => {
                Bound::Constant(if step == 0.0 { 0.0 } else { (span / step.abs()).floor() + 1.0 })
            }
            (bound, _) => bound,
        })
    }

    /// Bound on the difference between two numbers.
    fn span(&self, high: ExprId, low: Option<ExprId>) -> Bound {
        let script = self.script();
        let mut lowest = low.map_or_else(|| vec![Sum::default()], |low| self.sums(low, "math.max"));
        // The rest of a limit is not negative: `limit - LLEN`.
        if lowest.iter().any(|low| self.is_rest(low)) {
            lowest.push(Sum::default());
        }
        let mut bound = None;
        for high in self.sums(high, "math.min") {
            for low in &lowest {
                match self.growth(&high.clone().plus(script, -1.0, low)) {
                    Bound::Data(long) => bound = bound.or(Some(Bound::Data(long))),
                    bound => return bound,
                }
            }
        }
        bound.unwrap_or(Bound::Fixed)
    }

    /// True for a limit that does not depend on the data, minus a size.
    fn is_rest(&self, sum: &Sum) -> bool {
        let (taken, limits): (Vec<_>, Vec<_>) = sum.terms.iter().partition(|(factor, _)| *factor < 0.0);
        let is_size =
            |value: ExprId| matches!(self.data(value), Some(LongLoop::Count(call)) if self.is_size(call));
        let is_given = limits.iter().all(|(_, value)| self.data(*value).is_none());
        !taken.is_empty()
            && (!limits.is_empty() || sum.constant > 0.0)
            && is_given
            && taken.iter().all(|(_, value)| is_size(*value))
    }

    /// Sum that a number is, and sums that are upper or lower bounds of it because it contains `math.min` or `math.max`.
    fn sums(&self, number: ExprId, function: &str) -> Vec<Sum> {
        let script = self.script();
        let sum = Sum::of(script, number);
        let mut sums = Vec::new();
        let whole = [(1.0, number, Sum::default())].into_iter();
        let terms = sum.terms.iter().enumerate().filter(|(_, (factor, _))| *factor > 0.0);
        let parts = terms.map(|(index, (factor, value))| {
            let mut rest = sum.clone();
            rest.terms.remove(index);
            (*factor, *value, rest)
        });
        for (factor, value, rest) in whole.chain(parts) {
            let alternatives = self.alternatives(value, function);
            sums.extend(
                alternatives.into_iter().map(|id| rest.clone().plus(script, factor, &Sum::of(script, id))),
            );
        }
        sums.push(sum);
        sums
    }

    /// Arguments of `math.min` or `math.max`, if a number is its result.
    fn alternatives(&self, number: ExprId, function: &str) -> Vec<ExprId> {
        let mut alternatives = if function == "math.min" { self.values.minimum(number) } else { Vec::new() };
        let value = match self.script().expr(number) {
            Expr::Variable(variable) => match self.script().values(*variable) {
                [Value::Of(value)] => *value,
                _ => number,
            },
            _ => number,
        };
        if let Expr::Call { callee, args } = self.script().expr(value)
            && self.calls.is_global(*callee, function)
        {
            alternatives.extend(args);
        }
        alternatives
    }

    /// Bound on a sum. A constant minus something is bounded, and so is anything minus the size of a collection, but the time since a
    /// stored time grows.
    fn growth(&self, sum: &Sum) -> Bound {
        if let Some(number) = sum.number() {
            return Bound::Constant(number);
        }
        let is_constant = sum.terms.iter().all(|(factor, _)| *factor < 0.0);
        let mut long = sum.terms.iter().filter_map(|(factor, value)| {
            let long = self.data(*value)?;
            let grows = *factor > 0.0
                || (!is_constant && matches!(&long, LongLoop::Count(call) if !self.is_size(*call)));
            grows.then_some(match long {
                LongLoop::Count(call) if *factor < 0.0 => LongLoop::Elapsed(call),
                long => long,
            })
        });
        long.next().map_or(Bound::Fixed, Bound::Data)
    }

    /// True if a command replies with a size.
    fn is_size(&self, call: ExprId) -> bool {
        commands::is_size(self.calls.command(call))
    }

    /// Reason why a loop with this number of iterations may take a long time; `None` if the number does not grow with the data.
    fn data(&self, number: ExprId) -> Option<LongLoop> {
        let reads = self.values.sizes(number);
        if reads.is_empty() {
            let reply = self.values.reply(number, false);
            reply.filter(|call| !self.values.is_capped(*call)).map(LongLoop::Count)
        } else {
            Some(LongLoop::Collection(reads))
        }
    }

    /// Bound from the comparison of a counter of the loop with a limit.
    fn counted(&self, around: &Loop, end: ExprId) -> Option<Bound> {
        let Expr::Binary(Binary::Compare(_), left, right) = self.script().expr(end) else { return None };
        if self.is_halved(around, *left) || self.is_halved(around, *right) {
            return Some(Bound::Fixed);
        }
        let sides = [(*left, *right), (*right, *left)];
        sides.into_iter().find_map(|(side, limit)| {
            let counter = self.counter(around, side)?;
            Some(match self.distance(around, counter, side, limit) {
                Bound::Data(LongLoop::Count(call) | LongLoop::Elapsed(call))
                    if !self.calls_commands(around)
                        && self.begins_near(around, counter, [side, limit], call) =>
                {
                    Bound::Fixed
                }
                bound => bound,
            })
        })
    }

    /// Bound on the number of steps that a counter takes to reach a limit.
    fn distance(&self, around: &Loop, counter: VarId, side: ExprId, limit: ExprId) -> Bound {
        let script = self.script();
        let steps: Vec<(Step, Option<f64>)> = self.steps_of(around, counter);
        if steps.iter().any(|(step, _)| *step == Step::Scaled) {
            return Bound::Fixed;
        }
        let mut rest = Sum::with(script, side, counter);
        let Some(factor) = rest.take(script, counter) else {
            // The side depends on the counter through another variable.
            return [limit, side].into_iter().find_map(|id| self.data(id)).map_or(Bound::Fixed, Bound::Data);
        };
        let in_loop: Vec<Value> =
            around.assigned.iter().filter(|(id, _)| *id == counter).map(|(_, value)| *value).collect();
        let starts = script.values(counter).iter().filter(|value| !in_loop.contains(value));
        let starts: Vec<Sum> = match starts.map(|value| Sum::of(script, value.source())).collect::<Vec<_>>() {
            starts if starts.is_empty() => vec![Sum::default()],
            starts => starts,
        };
        let mut bounds = Vec::new();
        for (step, width) in &steps {
            let is_up = (*step == Step::Up) == (factor > 0.0);
            for start in &starts {
                let from = rest.clone().plus(script, factor, start);
                let bound = if is_up {
                    self.sums(limit, "math.min")
                        .into_iter()
                        .map(|limit| self.growth(&limit.plus(script, -1.0, &from)))
                        .reduce(smaller)
                } else {
                    let limit = Sum::of(script, limit);
                    Some(self.growth(&from.plus(script, -1.0, &limit)))
                };
                let bound = match bound.unwrap_or(Bound::Fixed) {
                    Bound::Constant(span) if steps.len() == 1 => match width {
                        Some(width) if *width > 0.0 => Bound::Constant(span / (width * factor.abs())),
                        _ => Bound::Fixed,
                    },
                    Bound::Constant(_) => Bound::Fixed,
                    bound => bound,
                };
                bounds.push(bound);
            }
        }
        bounds.into_iter().reduce(larger).unwrap_or(Bound::Fixed)
    }

    /// True if the start of a counter is computed from a reply that another part of the comparison also depends on, as in
    /// `i = math.ceil((1 - n) / rate) while n + i * rate < 1`. Such a start is usually near the limit.
    fn begins_near(&self, around: &Loop, counter: VarId, sides: [ExprId; 2], reply: ExprId) -> bool {
        let script = self.script();
        let is_start = |value: &&Value| !around.assigned.contains(&(counter, **value));
        let mut starts = script.values(counter).iter().filter(is_start);
        let depends = |id: ExprId| self.values.reply_of(id, false, |call| call == reply).is_some();
        let is_elsewhere = |side: ExprId| {
            let mut found = false;
            self.values.follow(side, |id, next| {
                match script.expr(id) {
                    _ if script.variable(id) == Some(counter) => {}
                    Expr::Binary(_, left, right) => next.extend([*left, *right]),
                    _ => found |= depends(id),
                }
                !found
            });
            found
        };
        starts.any(|start| depends(start.source())) && sides.into_iter().any(is_elsewhere)
    }

    /// Variable in an expression that the loop increments or decrements in each iteration.
    pub(super) fn counter(&self, around: &Loop, side: ExprId) -> Option<VarId> {
        let mut counter = None;
        self.values.follow(side, |id, next| {
            if let Some(variable) = self.script().variable(id).filter(|id| self.is_counter(around, *id)) {
                counter = Some(variable);
            }
            match self.script().expr(id) {
                Expr::Variable(variable) => next.extend(self.script().assigned(*variable)),
                Expr::Binary(Binary::Plus | Binary::Minus | Binary::Times | Binary::Divide, left, right) => {
                    next.extend([*left, *right]);
                }
                _ => {}
            }
            counter.is_none()
        });
        counter
    }

    /// True if all assignments to a variable in a loop increment or decrement it.
    fn is_counter(&self, around: &Loop, variable: VarId) -> bool {
        let mut assigned = around.assigned.iter().filter(|(assigned, _)| *assigned == variable).peekable();
        assigned.peek().is_some()
            && assigned.all(|(_, value)| match value {
                Value::Of(value) => {
                    self.step(*value, variable).is_some() || self.returned_step(*value, variable).is_some()
                }
                Value::PartOf(_) | Value::ResultOf(_) => false,
            })
    }

    /// Steps of a counter in a loop, and the constants that are added or subtracted.
    pub(super) fn steps_of(&self, around: &Loop, counter: VarId) -> Vec<(Step, Option<f64>)> {
        let assigned = around.assigned.iter().filter(|(assigned, _)| *assigned == counter);
        let steps = assigned.filter_map(|(_, value)| match value {
            Value::Of(value) => {
                self.step(*value, counter).or_else(|| Some((self.returned_step(*value, counter)?, None)))
            }
            Value::PartOf(_) | Value::ResultOf(_) => None,
        });
        steps.collect()
    }

    /// True if an expression subtracts from a variable, false if it adds to it or scales it.
    pub(super) fn counts_down(&self, id: ExprId, variable: VarId) -> Option<bool> {
        self.step(id, variable).map(|(step, _)| step == Step::Down)
    }

    /// Step of an expression that adds to a variable, subtracts from it or scales it, and the constant that is added or subtracted.
    pub(super) fn step(&self, id: ExprId, variable: VarId) -> Option<(Step, Option<f64>)> {
        let script = self.script();
        let is_variable = |id: ExprId| script.variable(id) == Some(variable);
        let is_reply = |id: ExprId| self.calls.redis(id).is_some();
        let added = |id: ExprId, step: Step| {
            let number = Sum::of(script, id).number();
            match (step, number) {
                (Step::Up, Some(number)) if number < 0.0 => (Step::Down, Some(-number)),
                (Step::Down, Some(number)) if number < 0.0 => (Step::Up, Some(-number)),
                _ => (step, number),
            }
        };
        match script.expr(id) {
            Expr::Binary(Binary::Plus, left, right) if is_variable(*left) && is_variable(*right) => {
                Some((Step::Scaled, None))
            }
            Expr::Binary(Binary::Plus, left, right) if is_variable(*left) && !is_reply(*right) => {
                Some(added(*right, Step::Up))
            }
            Expr::Binary(Binary::Plus, left, right) if is_variable(*right) && !is_reply(*left) => {
                Some(added(*left, Step::Up))
            }
            Expr::Binary(Binary::Minus, left, right) if is_variable(*left) && !is_reply(*right) => {
                Some(added(*right, Step::Down))
            }
            Expr::Binary(Binary::Times | Binary::Divide, left, right) if is_variable(*left) => {
                Sum::of(script, *right).number().map(|_| (Step::Scaled, None))
            }
            Expr::Binary(Binary::Times, left, right) if is_variable(*right) => {
                Sum::of(script, *left).number().map(|_| (Step::Scaled, None))
            }
            Expr::Call { callee, args } if self.calls.is_global(*callee, "math.floor") => {
                self.step(*args.first()?, variable)
            }
            Expr::Call { callee, args }
                if SHIFTS.iter().any(|name| self.calls.is_global(*callee, name))
                    && args.first().is_some_and(|arg| is_variable(*arg)) =>
            {
                Some((Step::Scaled, None))
            }
            _ => self.is_next_part(id, variable).then_some((Step::Up, None)),
        }
    }

    /// True for the start of the next slice: `last + 1`, where `last = math.min(first + 99, n)`.
    fn is_next_part(&self, id: ExprId, variable: VarId) -> bool {
        let script = self.script();
        let is_ahead = |id: ExprId| {
            let mut sum = Sum::with(script, id, variable);
            sum.take(script, variable) == Some(1.0) && sum.number().is_some_and(|ahead| ahead > 0.0)
        };
        let Expr::Binary(Binary::Plus, last, one) = script.expr(id) else { return false };
        let Expr::Variable(last) = script.expr(*last) else { return false };
        let [Value::Of(last)] = script.values(*last) else { return false };
        let Expr::Call { callee, args } = script.expr(*last) else { return false };
        Sum::of(script, *one).number().is_some_and(|one| one >= 1.0)
            && self.calls.is_global(*callee, "math.min")
            && args.iter().any(|arg| is_ahead(*arg))
    }

    /// Step of a call of functions that all return their argument, which is the variable, incremented or decremented.
    fn returned_step(&self, id: ExprId, variable: VarId) -> Option<Step> {
        let script = self.script();
        let Expr::Call { callee, args } = script.expr(id) else { return None };
        let is_variable = |arg: &ExprId| script.variable(*arg) == Some(variable);
        let index = args.iter().position(is_variable)?;
        let mut steps = Vec::new();
        for function in script.callees(*callee).filter_map(|id| script.functions.get(id)) {
            let parameter = function.parameters.get(index)?;
            for value in &function.returns {
                steps.push(self.step(*value, *parameter)?.0);
            }
        }
        steps.into_iter().reduce(|one, other| if one == other { one } else { Step::Scaled })
    }

    /// True if a loop sets a variable to the middle of a range, as a binary search does.
    fn is_halved(&self, around: &Loop, side: ExprId) -> bool {
        let script = self.script();
        let Some(variable) = script.variable(side) else { return false };
        let assigned = around.assigned.iter().filter(|(assigned, _)| *assigned == variable);
        let mut values = assigned.filter_map(|(_, value)| match value {
            Value::Of(value) => Some(*value),
            Value::PartOf(_) | Value::ResultOf(_) => None,
        });
        values.any(|value| {
            let mut halves = false;
            self.values.follow(value, |id, next| {
                match script.expr(id) {
                    Expr::Binary(Binary::Divide, sum, two) => {
                        halves |= Sum::of(script, *two).number().is_some_and(|number| number > 1.0)
                            && !matches!(script.expr(*sum), Expr::Number(_));
                    }
                    Expr::Binary(Binary::Plus | Binary::Minus | Binary::Times, left, right) => {
                        next.extend([*left, *right]);
                    }
                    Expr::Call { callee, args } if self.calls.is_global(*callee, "math.floor") => {
                        next.extend(args);
                    }
                    Expr::Variable(variable) => next.extend(script.assigned(*variable)),
                    _ => {}
                }
                !halves
            });
            halves
        })
    }
}

/// True for a comparison, and for a combination of conditions with `and`, `or` and `not`.
fn is_condition(script: &Script, id: ExprId) -> bool {
    matches!(
        script.expr(id),
        Expr::Binary(Binary::And | Binary::Or | Binary::Compare(_), ..) | Expr::Unary(Unary::Not, _)
    )
}

/// The bound that ends a loop first.
fn smaller(one: Bound, other: Bound) -> Bound {
    match (one, other) {
        (Bound::Data(_), bound) | (bound, Bound::Data(_)) => bound,
        (Bound::Constant(one), Bound::Constant(other)) => Bound::Constant(one.min(other)),
        (Bound::Constant(number), Bound::Fixed) | (Bound::Fixed, Bound::Constant(number)) => {
            Bound::Constant(number)
        }
        (Bound::Fixed, Bound::Fixed) => Bound::Fixed,
    }
}

/// The bound that ends a loop last.
fn larger(one: Bound, other: Bound) -> Bound {
    match (one, other) {
        (Bound::Data(long), _) | (_, Bound::Data(long)) => Bound::Data(long),
        (Bound::Constant(one), Bound::Constant(other)) => Bound::Constant(one.max(other)),
        _ => Bound::Fixed,
    }
}
