//! Origins of values: the constants, replies and collections that an expression may evaluate to.
//!
//! Values are followed backwards through variables, operators, and calls of the script's own functions; not through tables.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::commands::{self, Argument, Extent};
use crate::lint::source::syntax::{Binary, Expr, ExprId, Script, Unary, Value};

/// Maximum number of expressions that one value is followed through; only hostile scripts have more.
const MAX_FOLLOWED: usize = 300;

/// Maximum number of steps for a script. Past it nothing more is found; a hostile script of 1 MiB takes seconds until then.
const MAX_STEPS: usize = 5_000_000;

/// Functions whose result grows with their argument.
const MONOTONIC: [&str; 4] = ["math.ceil", "math.floor", "math.max", "tonumber"];

/// Values in a script.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    calls: Rc<Calls<'a>>,
    /// Commands that read without a limit.
    extents: HashMap<ExprId, Extent>,
    /// Steps left of [`MAX_STEPS`].
    steps: Cell<usize>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(calls: &Rc<Calls<'a>>) -> Self {
        let mut values =
            Self { calls: Rc::clone(calls), extents: HashMap::new(), steps: Cell::new(MAX_STEPS) };
        let extents = calls.all_redis().into_iter().filter_map(|(id, call)| {
            let args: Vec<Argument> = call.args.iter().map(|id| values.argument(*id)).collect();
            Some((id, commands::extent(call.command.as_deref()?, &args)?))
        });
        values.extents = extents.collect();
        values
    }

    fn script(&self) -> &'a Script {
        self.calls.script
    }

    /// Extent of a command that reads without a limit; `None` if there is a limit.
    pub(crate) fn extent(&self, call: ExprId) -> Option<Extent> {
        self.extents.get(&call).copied()
    }

    /// Visits an expression and all that `visit` adds, none twice, until `visit` returns false.
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
    fn argument(&self, id: ExprId) -> Argument {
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
                            Value::PartOf(_) => argument.is_open = true,
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
                Expr::Unary(Unary::Minus, _) | Expr::Binary(Binary::Minus, ..) | Expr::Unknown => {
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

    /// Commands that read without a limit and whose reply an expression may be.
    pub(crate) fn collections(&self, id: ExprId) -> Vec<ExprId> {
        let mut reads = Vec::new();
        self.follow(id, |id, next| {
            match self.script().expr(id) {
                Expr::Call { .. } if self.calls.redis(id).is_some() => {
                    reads.extend(self.extent(id).map(|_| id));
                }
                Expr::Call { callee, .. } => next.extend(self.script().returned(*callee)),
                Expr::Variable(variable) => next.extend(self.script().assigned(*variable)),
                Expr::Binary(Binary::And | Binary::Or, left, right) => next.extend([*left, *right]),
                _ => {}
            }
            true
        });
        reads.sort_unstable();
        reads
    }

    /// Commands that read without a limit and whose reply an expression is, or is the length of.
    pub(crate) fn sizes(&self, id: ExprId) -> Vec<ExprId> {
        let mut reads = self.collections(id);
        let mut measured = Vec::new();
        self.follow(id, |id, next| {
            match self.script().expr(id) {
                Expr::Unary(Unary::Length, operand) => measured.push(*operand),
                Expr::Binary(_, left, right) => next.extend([*left, *right]),
                Expr::Call { callee, args } if self.calls.is_global(*callee, "table.getn") => {
                    measured.extend(args);
                }
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

    /// Command whose reply a number depends on. The length of a reply with a limit counts only if `lengths` is set.
    pub(crate) fn reply(&self, id: ExprId, lengths: bool) -> Option<ExprId> {
        let mut reply = None;
        self.follow(id, |id, next| {
            let expr = self.script().expr(id);
            match expr {
                Expr::Call { .. } if self.calls.redis(id).is_some() => reply = Some(id),
                // A minimum is bounded if one of its arguments is.
                Expr::Call { callee, args } if self.calls.is_global(*callee, "math.min") => {
                    if args.iter().all(|arg| self.may_be_a_reply(*arg)) {
                        next.extend(args);
                    }
                }
                Expr::Unary(Unary::Length, operand) if lengths || !self.collections(*operand).is_empty() => {
                    next.push(*operand);
                }
                Expr::Unary(Unary::Length, _) => {}
                _ => self.operands(expr, next),
            }
            reply.is_none()
        });
        reply
    }

    /// True if a reply is anywhere in an expression.
    fn may_be_a_reply(&self, id: ExprId) -> bool {
        let mut is_reply = false;
        self.follow(id, |id, next| {
            is_reply |= self.calls.redis(id).is_some();
            self.operands(self.script().expr(id), next);
            !is_reply
        });
        is_reply
    }

    /// Adds the expressions that the value of an expression is computed from.
    fn operands(&self, expr: &Expr, next: &mut Vec<ExprId>) {
        match expr {
            Expr::Call { callee, args } => {
                next.extend(args);
                next.extend(self.script().returned(*callee));
            }
            Expr::Variable(variable) => next.extend(self.script().sources(*variable)),
            Expr::Index { base, .. } => next.push(*base),
            Expr::Unary(_, operand) => next.push(*operand),
            Expr::Binary(_, left, right) => next.extend([*left, *right]),
            _ => {}
        }
    }
}
