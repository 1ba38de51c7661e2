//! Loops that may take long.

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::summaries::Summaries;
use crate::lint::analysis::values::Values;
use crate::lint::source::syntax::{Binary, Expr, ExprId, Loop, LoopKind, Script, Value, VarId};

/// Reason for which a loop may take long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LongLoop {
    /// Nothing ends it.
    Endless,
    /// It repeats a command of the SCAN family until the cursor is 0.
    Scan(ExprId),
    /// It iterates over replies without a limit, of these commands.
    Collection(Vec<ExprId>),
    /// A reply is its number of iterations.
    Count(ExprId),
    /// It ends at a certain reply.
    Until(ExprId),
    /// It calls commands, and no counter with a limit ends it.
    Unbounded,
}

/// Bound that a counter is compared with.
#[derive(Debug)]
enum Bound {
    /// Independent of the data.
    Fixed,
    /// Grows with the data.
    Data(LongLoop),
}

/// Decides about the loops of a script.
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

    /// Reason for which a loop may take long; `None` if it is bounded.
    pub(crate) fn analyse(&self, around: &Loop) -> Option<LongLoop> {
        match around.kind {
            LoopKind::Generic(iterator) => {
                let Expr::Call { args, .. } = self.script().expr(iterator) else { return None };
                let mut reads: Vec<ExprId> = args.iter().flat_map(|arg| self.values.sizes(*arg)).collect();
                reads.dedup();
                (!reads.is_empty()).then_some(LongLoop::Collection(reads))
            }
            LoopKind::Numeric(end) => self.data_bound(end),
            LoopKind::While(condition) => self.conditional(around, condition, true),
            LoopKind::Repeat(condition) => self.conditional(around, condition, false),
        }
    }

    /// Loop that counts up to a number, if the number grows with the data.
    fn data_bound(&self, number: ExprId) -> Option<LongLoop> {
        let reads = self.values.sizes(number);
        if reads.is_empty() {
            self.values.reply(number, false).map(LongLoop::Count)
        } else {
            Some(LongLoop::Collection(reads))
        }
    }

    fn conditional(&self, around: &Loop, condition: ExprId, is_while: bool) -> Option<LongLoop> {
        let scan = around.own_calls.iter().find_map(|call| self.summaries.call(*call).scan);
        if let Some(scan) = scan {
            return Some(LongLoop::Scan(scan));
        }
        let never_ends = match self.script().expr(condition) {
            Expr::Bool(value) => *value == is_while,
            Expr::Nil => !is_while,
            Expr::Number(_) | Expr::String(_) | Expr::Table(_) => is_while,
            _ => false,
        };
        if never_ends && around.exits.is_empty() {
            return Some(LongLoop::Endless);
        }
        if around.exits.contains(&None) {
            return None;
        }
        // Each of these alone ends the loop.
        let mut ends = Vec::new();
        if !never_ends {
            self.split(condition, if is_while { Binary::And } else { Binary::Or }, &mut ends);
        }
        for guard in around.exits.iter().flatten() {
            self.split(*guard, Binary::Or, &mut ends);
        }
        let mut bound = None;
        for end in &ends {
            match self.counted(around, *end) {
                Some(Bound::Fixed) => return None,
                Some(Bound::Data(long)) => bound = bound.or(Some(long)),
                None => {}
            }
        }
        if bound.is_some() {
            return bound;
        }
        // A loop without commands works on data in memory.
        let calls = around.calls.iter().any(|call| self.summaries.call(*call).calls);
        calls.then(|| {
            let reply = ends.iter().find_map(|end| self.values.reply(*end, true));
            reply.map_or(LongLoop::Unbounded, LongLoop::Until)
        })
    }

    /// Collects the operands of nested operators of the same kind.
    fn split(&self, id: ExprId, operator: Binary, parts: &mut Vec<ExprId>) {
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            match self.script().expr(id) {
                Expr::Binary(other, left, right) if *other == operator => next.extend([*left, *right]),
                _ => parts.push(id),
            }
        }
    }

    /// Bound of a comparison of a counter of the loop.
    fn counted(&self, around: &Loop, end: ExprId) -> Option<Bound> {
        let Expr::Binary(Binary::Compare, left, right) = self.script().expr(end) else { return None };
        [(*left, *right), (*right, *left)].into_iter().find_map(|(counter, bound)| {
            self.counts(around, counter).then(|| self.data_bound(bound).map_or(Bound::Fixed, Bound::Data))
        })
    }

    /// True if an expression has a variable that the loop increments or decrements in each iteration.
    fn counts(&self, around: &Loop, counter: ExprId) -> bool {
        let mut counts = false;
        self.values.follow(counter, |id, next| {
            match self.script().expr(id) {
                Expr::Variable(variable) => counts |= self.is_counter(around, *variable),
                Expr::Binary(Binary::Plus | Binary::Minus, left, right) => next.extend([*left, *right]),
                _ => {}
            }
            !counts
        });
        counts
    }

    /// True if all assignments to a variable in a loop increment or decrement it.
    fn is_counter(&self, around: &Loop, variable: VarId) -> bool {
        let mut assigned = around.assigned.iter().filter(|(assigned, _)| *assigned == variable).peekable();
        assigned.peek().is_some()
            && assigned.all(|(_, value)| match value {
                Value::Of(value) => self.steps(*value, variable) || self.returns_step(*value, variable),
                Value::PartOf(_) => false,
            })
    }

    /// True if an expression adds to a variable or subtracts from it.
    fn steps(&self, id: ExprId, variable: VarId) -> bool {
        let is_variable = |id: ExprId| *self.script().expr(id) == Expr::Variable(variable);
        let is_reply = |id: ExprId| self.calls.redis(id).is_some();
        match self.script().expr(id) {
            Expr::Binary(Binary::Plus, left, right) => {
                (is_variable(*left) && !is_reply(*right)) || (is_variable(*right) && !is_reply(*left))
            }
            Expr::Binary(Binary::Minus, left, right) => is_variable(*left) && !is_reply(*right),
            _ => false,
        }
    }

    /// True if an expression calls functions that all return a variable, which is their argument, incremented or decremented.
    fn returns_step(&self, id: ExprId, variable: VarId) -> bool {
        let script = self.script();
        let Expr::Call { callee, args } = script.expr(id) else { return false };
        let is_variable = |arg: &ExprId| *script.expr(*arg) == Expr::Variable(variable);
        let Some(index) = args.iter().position(is_variable) else { return false };
        let mut functions = script.callees(*callee).filter_map(|id| script.functions.get(id)).peekable();
        functions.peek().is_some()
            && functions.all(|function| {
                let parameter = function.parameters.get(index);
                let steps =
                    |parameter: &VarId| function.returns.iter().all(|value| self.steps(*value, *parameter));
                !function.returns.is_empty() && parameter.is_some_and(steps)
            })
    }
}
