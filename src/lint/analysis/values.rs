//! Origins of values: the constants, replies and collections that an expression may evaluate to.
//!
//! Values are traced back through variables, operators, calls of the script's own functions, and named fields of tables.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::lint::analysis::calls::{Calls, protected};
use crate::lint::analysis::capacity::Capacities;
use crate::lint::analysis::commands::{self, Argument, Extent};
use crate::lint::analysis::numbers::Sum;
use crate::lint::source::syntax::{Binary, Comparison, Expr, ExprId, Function, Script, Unary, Value, VarId};

/// Maximum number of expressions that one value is traced through; only hostile scripts have more.
const MAX_FOLLOWED: usize = 300;

/// Maximum number of steps for a script, after which nothing more is found. A hostile script of 1 MiB takes seconds to reach it.
const MAX_STEPS: usize = 5_000_000;

/// Maximum number of values of a variable that are searched for limits.
const MAX_LIMITS: usize = 8;

/// Functions whose result grows with their argument.
const MONOTONIC: [&str; 4] = ["math.ceil", "math.floor", "math.max", "tonumber"];

/// Functions whose result hardly grows with their argument.
const LOGARITHMS: [&str; 2] = ["math.log", "math.log10"];

/// Functions that take a position in a string as one of their first three arguments.
const TEXT: [&str; 4] = ["string.byte", "string.find", "string.match", "string.sub"];

/// Values in a script.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    calls: Rc<Calls<'a>>,
    /// Commands that read without a limit.
    extents: HashMap<ExprId, Extent>,
    /// True if some of them read streams.
    reads_streams: bool,
    /// Remaining steps of [`MAX_STEPS`].
    steps: Cell<usize>,
    /// Commands whose replies are bounded by limits in the script.
    limited: Capacities,
}

impl<'a> Values<'a> {
    pub(crate) fn new(calls: &Rc<Calls<'a>>) -> Self {
        let mut values = Self {
            calls: Rc::clone(calls),
            extents: HashMap::new(),
            reads_streams: false,
            steps: Cell::new(MAX_STEPS),
            limited: Capacities::default(),
        };
        let extents = calls.all_redis().into_iter().filter_map(|(id, call)| {
            let command = call.command.as_deref()?;
            // A range from a score to the same score is not a whole collection.
            if let [_, first, last, ..] = call.args[..]
                && commands::is_range(command)
                && calls.script.is_same(first, last)
            {
                return None;
            }
            let args: Vec<Argument> = call.args.iter().map(|id| values.argument(*id)).collect();
            let is_whole = || values.counts_all(command, &call.args).then_some(Extent::Whole);
            Some((id, commands::extent(command, &args).or_else(is_whole)?))
        });
        values.extents = extents.collect();
        let mut unlimited = values.extents.keys();
        values.reads_streams = unlimited.any(|call| commands::reads_streams(calls.command(*call)));
        values
    }

    /// True for a command that takes the size of its collection as the number of elements, or as the last position: `LPOP key LLEN`.
    fn counts_all(&self, command: &str, args: &[ExprId]) -> bool {
        let Some(number) = commands::number_of_elements(command).and_then(|index| args.get(index)) else {
            return false;
        };
        let sum = Sum::of(self.script(), *number);
        let [(factor, size)] = sum.terms[..] else { return false };
        let is_size_of_key = self.calls.redis(size).is_some_and(|call| {
            call.command.as_deref().is_some_and(commands::is_size)
                && matches!((args, &call.args[..]), ([key, ..], [other]) if self.script().is_same(*key, *other))
        });
        is_size_of_key && factor >= 1.0 && sum.constant >= -1.0
    }

    fn script(&self) -> &'a Script {
        self.calls.script
    }

    /// Takes the limits of the script into account.
    pub(crate) fn limit(&mut self, limited: Capacities) {
        self.extents.retain(|call, _| !limited.capped.contains(call));
        self.limited = limited;
    }

    /// True if a command is called on a collection that the script keeps below a limit.
    pub(crate) fn is_capped(&self, call: ExprId) -> bool {
        self.limited.capped.contains(&call)
    }

    /// True if a command is called on a collection that the script keeps below a number that it reads.
    pub(crate) fn is_capped_by_stored(&self, call: ExprId) -> bool {
        self.limited.capped_by_stored.contains(&call)
    }

    /// True if the script processes the reply of a command only if its length is below a limit.
    pub(crate) fn is_checked(&self, call: ExprId) -> bool {
        self.limited.checked.contains(&call)
    }

    /// Extent of a command that reads without a limit; `None` if there is a limit.
    pub(crate) fn extent(&self, call: ExprId) -> Option<Extent> {
        self.extents.get(&call).copied()
    }

    /// Visits an expression and all expressions that `visit` adds, each of them once, until `visit` returns false.
    pub(crate) fn follow(&self, from: ExprId, mut visit: impl FnMut(ExprId, &mut Vec<ExprId>) -> bool) {
        let (mut next, mut visited) = (vec![from], HashSet::new());
        while let Some(id) = next.pop() {
            let Some(left) = self.steps.get().checked_sub(1).filter(|_| visited.len() < MAX_FOLLOWED) else {
                return;
            };
            self.steps.set(left);
            if visited.insert(id) && !visit(id, &mut next) {
                return;
            }
        }
    }

    /// Values that an argument of a command may have.
    pub(crate) fn argument(&self, id: ExprId) -> Argument {
        let mut argument = Argument::default();
        self.follow(id, |id, next| {
            match (self.calls.constant(id), self.script().expr(id)) {
                (Some(constant), _) => argument.constants.push(constant),
                (None, Expr::Variable(variable)) => {
                    let values = self.script().values(*variable);
                    argument.is_open |= values.is_empty();
                    for value in values {
                        match value {
                            Value::Of(value) => next.push(*value),
                            Value::PartOf(_) | Value::ResultOf(_) => argument.is_open = true,
                        }
                    }
                }
                _ => argument.is_open = true,
            }
            true
        });
        argument.from_end = argument.is_open && self.may_be_negative(id);
        argument
    }

    fn may_be_negative(&self, id: ExprId) -> bool {
        let mut negative = false;
        self.follow(id, |id, next| {
            match self.script().expr(id) {
                // A position minus a constant is a position.
                Expr::Binary(Binary::Minus, left, right) if self.calls.constant(*right).is_some() => {
                    next.push(*left);
                }
                Expr::Unary(Unary::Minus, _)
                | Expr::Binary(Binary::Minus, ..)
                | Expr::Varargs
                | Expr::Unknown => {
                    negative = true;
                }
                Expr::Binary(_, left, right) => next.extend([*left, *right]),
                Expr::Call { args, .. } => next.extend(args),
                Expr::String(text) => negative |= text.starts_with('-'),
                Expr::Variable(variable) => next.extend(self.script().assigned(*variable)),
                _ => {}
            }
            !negative
        });
        negative
    }

    /// Commands without a limit whose reply an expression may be.
    pub(crate) fn collections(&self, id: ExprId) -> Vec<ExprId> {
        let (mut reads, mut bases) = (Vec::new(), Vec::new());
        self.follow(id, |id, next| {
            match self.script().expr(id) {
                Expr::Call { .. } if self.calls.redis(id).is_some() => {
                    reads.extend(self.extent(id).map(|_| id));
                }
                Expr::Call { callee, .. } => next.extend(self.script().returned(*callee)),
                Expr::Variable(variable) => {
                    for value in self.script().values(*variable) {
                        match value {
                            Value::Of(value) => next.push(*value),
                            Value::ResultOf(call) => self.later_results(*call, next),
                            Value::PartOf(_) => {}
                        }
                    }
                }
                Expr::Index { base, key } => {
                    next.extend(self.script().field(*base, *key));
                    bases.push(*base);
                }
                Expr::Binary(Binary::And | Binary::Or, left, right) => next.extend([*left, *right]),
                _ => {}
            }
            true
        });
        if self.reads_streams {
            reads.extend(bases.into_iter().flat_map(|base| self.streams(base)));
        }
        reads.sort_unstable();
        reads.dedup();
        reads
    }

    /// Commands without a limit that read streams and whose reply contains an expression. The entries are in the reply: `reply[1][2]`.
    fn streams(&self, id: ExprId) -> Vec<ExprId> {
        let mut reads = Vec::new();
        self.follow(id, |id, next| {
            match self.script().expr(id) {
                Expr::Call { .. } if self.extent(id).is_some() => {
                    reads.extend(commands::reads_streams(self.calls.command(id)).then_some(id));
                }
                Expr::Variable(variable) => next.extend(self.script().assigned(*variable)),
                Expr::Index { base, .. } => next.push(*base),
                Expr::Binary(Binary::And | Binary::Or, left, right) => next.extend([*left, *right]),
                _ => {}
            }
            true
        });
        reads
    }

    /// Adds the possible values of the results of a call after the first one.
    fn later_results(&self, call: ExprId, next: &mut Vec<ExprId>) {
        if self.calls.redis(call).is_some() {
            next.push(call);
        } else if let Some((function, _)) = protected(self.script(), call) {
            next.extend(self.script().returned(function));
        } else if let Expr::Call { callee, .. } = self.script().expr(call) {
            let functions = self.script().callees(*callee).filter_map(|id| self.script().functions.get(id));
            next.extend(functions.flat_map(|function| function.later_returns.iter().copied()));
        }
    }

    /// Adds the values that a function of the script returns after the first one; for another function, adds the call itself.
    fn result(&self, call: ExprId, next: &mut Vec<ExprId>) {
        let Expr::Call { callee, .. } = self.script().expr(call) else { return next.push(call) };
        let functions = self.script().callees(*callee).filter_map(|id| self.script().functions.get(id));
        let later: Vec<ExprId> =
            functions.flat_map(|function| function.later_returns.iter().copied()).collect();
        if later.is_empty() { next.push(call) } else { next.extend(later) }
    }

    /// Commands without a limit whose reply, or the length of whose reply, an expression may be.
    pub(crate) fn sizes(&self, id: ExprId) -> Vec<ExprId> {
        let mut reads = self.collections(id);
        let mut measured = Vec::new();
        self.follow(id, |id, next| {
            match self.script().expr(id) {
                _ if self.is_limited(id) => {}
                _ if self.measured(id).is_some() => measured.extend(self.measured(id)),
                Expr::Binary(_, left, right) => next.extend([*left, *right]),
                Expr::Call { callee, args }
                    if MONOTONIC.iter().any(|name| self.calls.is_global(*callee, name)) =>
                {
                    next.extend(args);
                }
                Expr::Variable(variable) => next.extend(self.script().assigned(*variable)),
                _ => {}
            }
            true
        });
        reads.extend(measured.iter().flat_map(|operand| self.collections(*operand)));
        reads.sort_unstable();
        reads.dedup();
        reads
    }

    /// Table or string, if an expression is its length: `#list`, `table.getn(list)`.
    pub(super) fn measured(&self, id: ExprId) -> Option<ExprId> {
        match self.script().expr(id) {
            Expr::Unary(Unary::Length, operand) => Some(*operand),
            Expr::Call { callee, args } if self.calls.is_global(*callee, "table.getn") => {
                args.first().copied()
            }
            _ => None,
        }
    }

    /// Command whose reply a number depends on. The length of a reply with a limit counts only if `lengths` is set.
    pub(crate) fn reply(&self, id: ExprId, lengths: bool) -> Option<ExprId> {
        self.reply_of(id, lengths, |_| true)
    }

    /// Command that `accepts` returns true for and whose reply a number depends on.
    pub(crate) fn reply_of(
        &self,
        id: ExprId,
        lengths: bool,
        accepts: impl Fn(ExprId) -> bool,
    ) -> Option<ExprId> {
        let mut reply = None;
        self.follow(id, |id, next| {
            let expr = self.script().expr(id);
            match expr {
                Expr::Call { .. } if self.calls.redis(id).is_some() => {
                    reply = reply.or_else(|| accepts(id).then_some(id));
                }
                _ if self.is_limited(id) => {}
                _ => match self.measured(id) {
                    Some(operand) if lengths || !self.collections(operand).is_empty() => next.push(operand),
                    Some(_) => {}
                    None => self.operands(expr, next),
                },
            }
            reply.is_none()
        });
        reply
    }

    /// True if a number is the minimum of several numbers, at least one of which does not depend on a reply.
    fn is_limited(&self, id: ExprId) -> bool {
        self.minimum(id).iter().any(|number| !self.may_be_a_reply(*number))
    }

    /// Operands of a number that is a minimum; empty for other numbers. Minimums are `math.min(a, b)`, `a < b and a or b`, and a
    /// variable with limits.
    pub(super) fn minimum(&self, id: ExprId) -> Vec<ExprId> {
        match self.script().expr(id) {
            Expr::Call { callee, args } if self.calls.is_global(*callee, "math.min") => args.clone(),
            Expr::Variable(variable) => {
                let limits = self.script().variables.get(*variable).map(|variable| variable.limits.clone());
                let mut limits = limits.unwrap_or_default();
                // The only value that neither is a limit nor lowers the variable bounds it, too: 100 in
                // `n = 100 if left < n then n = left end n = n - 1`.
                let values = self.script().values(*variable);
                let mut others = values.iter().filter(|value| {
                    let value = value.source();
                    !limits.contains(&value) && !self.is_lower(value, *variable)
                });
                if let (Some(Value::Of(first)), None, true) =
                    (others.next().copied(), others.next(), values.len() > 1)
                {
                    limits.push(first);
                }
                // `n = math.min(n, 100)`
                for value in self.script().assigned(*variable).take(MAX_LIMITS) {
                    if !matches!(self.script().expr(value), Expr::Variable(_)) {
                        let (same, others): (Vec<ExprId>, Vec<ExprId>) = self
                            .minimum(value)
                            .into_iter()
                            .partition(|number| self.script().is_same(*number, id));
                        limits.extend(others.into_iter().filter(|_| !same.is_empty()));
                    }
                }
                limits
            }
            Expr::Binary(Binary::Or, either, other) => self.chosen(*either, *other).unwrap_or_default(),
            Expr::Call { callee, .. } => {
                let functions =
                    self.script().callees(*callee).filter_map(|id| self.script().functions.get(id));
                let returned: Option<Vec<Vec<ExprId>>> =
                    functions.map(|function| self.returned_minimum(function)).collect();
                returned.unwrap_or_default().concat()
            }
            _ => Vec::new(),
        }
    }

    /// True for 0, and for the variable minus a number.
    fn is_lower(&self, value: ExprId, variable: VarId) -> bool {
        match self.script().expr(value) {
            Expr::Number(number) => number.parse() == Ok(0.0),
            Expr::Binary(Binary::Minus, left, _) => *self.script().expr(*left) == Expr::Variable(variable),
            _ => false,
        }
    }

    /// The numbers `a` and `b` in `a < b and a or b`, given the operands of `or`.
    fn chosen(&self, either: ExprId, other: ExprId) -> Option<Vec<ExprId>> {
        let script = self.script();
        let Expr::Binary(Binary::And, condition, number) = script.expr(either) else { return None };
        let Expr::Binary(Binary::Compare(comparison), left, right) = script.expr(*condition) else {
            return None;
        };
        let (small, large) = match comparison {
            Comparison::Less => (*left, *right),
            Comparison::Greater => (*right, *left),
            Comparison::Equal | Comparison::Unequal => return None,
        };
        (script.is_same(small, *number) && script.is_same(large, other)).then(|| vec![*number, other])
    }

    /// The numbers `a` and `b` in a function that returns the smaller one: `if a < b then return a end return b`.
    fn returned_minimum(&self, function: &Function) -> Option<Vec<ExprId>> {
        let ([Some(guard), _], [first, second]) = (&function.exits[..], &function.returns[..]) else {
            return None;
        };
        let Expr::Binary(Binary::Compare(comparison), left, right) = self.script().expr(*guard) else {
            return None;
        };
        let (small, large) = match comparison {
            Comparison::Less => (*left, *right),
            Comparison::Greater => (*right, *left),
            Comparison::Equal | Comparison::Unequal => return None,
        };
        let is_same = |one: ExprId, other: ExprId| self.script().is_same(one, other);
        (is_same(small, *first) && is_same(large, *second)).then(|| vec![*first, *second])
    }

    /// True if the value of an expression may come from a reply.
    pub(super) fn may_be_a_reply(&self, id: ExprId) -> bool {
        let mut is_reply = false;
        self.follow(id, |id, next| {
            is_reply |= self.calls.redis(id).is_some();
            self.operands(self.script().expr(id), next);
            !is_reply
        });
        is_reply
    }

    /// True if an expression depends on KEYS or ARGV but not on a reply, and uses a different element or a different part of a string
    /// each time.
    pub(crate) fn is_given(&self, id: ExprId) -> bool {
        let (mut is_given, mut is_reply, mut varies) = (false, false, false);
        self.follow(id, |id, next| {
            is_reply |= self.calls.redis(id).is_some();
            is_given |= ["KEYS", "ARGV"].iter().any(|name| self.calls.is_global(id, name));
            let expr = self.script().expr(id);
            varies |= match expr {
                Expr::Index { base, key } => {
                    self.calls.constant(*key).is_none()
                        && ["KEYS", "ARGV"].iter().any(|name| self.calls.is_global(*base, name))
                }
                Expr::Call { callee, args } => {
                    args.len() > 2 && TEXT.iter().any(|name| self.calls.is_global(*callee, name))
                }
                _ => false,
            };
            self.operands(expr, next);
            !is_reply
        });
        is_given && varies && !is_reply
    }

    /// Adds the expressions from which the value of an expression is computed.
    fn operands(&self, expr: &Expr, next: &mut Vec<ExprId>) {
        match expr {
            Expr::Call { callee, .. }
                if LOGARITHMS.iter().any(|name| self.calls.is_global(*callee, name)) => {}
            Expr::Call { callee, args } => {
                // The arguments of a function of the script are the values of its parameters.
                let mut functions = self
                    .script()
                    .callees(*callee)
                    .filter_map(|id| self.script().functions.get(id))
                    .peekable();
                if functions.peek().is_none() || functions.any(|function| function.is_variadic) {
                    next.extend(args);
                }
                next.extend(self.script().returned(*callee));
            }
            Expr::Variable(variable) => {
                for value in self.script().values(*variable) {
                    match value {
                        Value::ResultOf(call) => self.result(*call, next),
                        value => next.push(value.source()),
                    }
                }
            }
            Expr::Index { base, key } => {
                next.push(*base);
                next.extend(self.script().field(*base, *key));
            }
            Expr::Unary(_, operand) => next.push(*operand),
            Expr::Binary(_, left, right) => next.extend([*left, *right]),
            _ => {}
        }
    }
}
