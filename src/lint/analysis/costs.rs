//! Loops with a constant number of iterations that take seconds, alone or nested.

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::loops::{COMMAND, ITERATIONS_PER_SECOND};
use crate::lint::source::arena::Arena;
use crate::lint::source::syntax::{Expr, FnId, LoopId, Script, Statement};

/// Maximum depth of calls that are followed.
const MAX_CALL_DEPTH: usize = 32;

/// Loops that take seconds, each with the number of empty iterations that take as long, given the constant numbers of iterations.
pub(crate) fn huge_loops(calls: &Calls<'_>, iterations: &Arena<LoopId, Option<f64>>) -> Vec<(LoopId, f64)> {
    let script = calls.script;
    let mut costs =
        Costs { calls, iterations, functions: script.functions.map(|_| Cost::Unknown), huge: Vec::new() };
    for function in script.functions.ids() {
        costs.function(function, 0);
    }
    costs.huge.sort_by_key(|(id, _)| *id);
    costs.huge
}

/// Cost of a function.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cost {
    Unknown,
    /// It is being computed; found only if the function calls itself.
    Pending,
    Known(f64),
}

struct Costs<'a> {
    calls: &'a Calls<'a>,
    iterations: &'a Arena<LoopId, Option<f64>>,
    functions: Arena<FnId, Cost>,
    huge: Vec<(LoopId, f64)>,
}

impl Costs<'_> {
    fn script(&self) -> &Script {
        self.calls.script
    }

    fn function(&mut self, id: FnId, depth: usize) -> f64 {
        match self.functions.get(id).copied() {
            Some(Cost::Known(cost)) => return cost,
            Some(Cost::Unknown) if depth < MAX_CALL_DEPTH => {}
            _ => return 0.0,
        }
        let script = self.calls.script;
        let Some(function) = script.functions.get(id) else { return 0.0 };
        self.set(id, Cost::Pending);
        let cost = self.statements(&function.body, depth);
        self.set(id, Cost::Known(cost));
        cost
    }

    fn set(&mut self, id: FnId, cost: Cost) {
        if let Some(known) = self.functions.get_mut(id) {
            *known = cost;
        }
    }

    /// Number of empty iterations that take as long as these statements.
    fn statements(&mut self, statements: &[Statement], depth: usize) -> f64 {
        let mut cost = 0.0;
        for statement in statements {
            cost += match statement {
                Statement::Return => return cost,
                Statement::Call(call) if self.calls.redis(*call).is_some() => COMMAND,
                Statement::Call(call) => match self.script().expr(*call) {
                    Expr::Call { callee, .. } => {
                        let callees: Vec<FnId> = self.script().callees(*callee).collect();
                        callees.into_iter().map(|callee| self.function(callee, depth + 1)).fold(0.0, f64::max)
                    }
                    _ => 0.0,
                },
                Statement::Branches(branches) => {
                    branches.iter().map(|branch| self.statements(branch, depth)).fold(0.0, f64::max)
                }
                Statement::Loop(id) => self.around(*id, depth),
            };
        }
        cost
    }

    fn around(&mut self, id: LoopId, depth: usize) -> f64 {
        let Some(around) = self.calls.script.loops.get(id) else { return 0.0 };
        let body = self.statements(&around.body, depth);
        let iterations = self.iterations.get(id).copied().flatten().unwrap_or(1.0);
        let cost = iterations * (1.0 + body);
        if iterations > 1.0 && cost >= ITERATIONS_PER_SECOND {
            self.huge.push((id, cost));
            // Do not report the loops around it as well.
            return 0.0;
        }
        cost
    }
}
