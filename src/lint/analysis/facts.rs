//! Facts about a script, for the rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::commands::{self, Extent};
use crate::lint::analysis::costs::huge_loops;
use crate::lint::analysis::loops::{LongLoop, LoopAnalysis};
use crate::lint::analysis::recursion::{Recursion, recursions};
use crate::lint::analysis::summaries::Summaries;
use crate::lint::analysis::values::Values;
use crate::lint::source::arena::Arena;
use crate::lint::source::syntax::{Expr, ExprId, Loop, LoopId, Script, Value};

/// Number of repetitions of a command that don't matter.
const FEW: f64 = 10.0;

/// Script and all that is derived from it.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) script: &'a Script,
    pub(crate) calls: Rc<Calls<'a>>,
    pub(crate) values: Values<'a>,
    pub(crate) summaries: Summaries<'a>,
    loops: Arena<LoopId, Option<LongLoop>>,
    /// Recursions that may take long.
    pub(crate) recursions: Vec<Recursion>,
    /// Loops with a constant number of iterations that take seconds, with the number of empty iterations that take as long.
    pub(crate) huge: Vec<(LoopId, f64)>,
    /// Number of iterations of loops that only a constant ends.
    iterations: Arena<LoopId, Option<f64>>,
    /// Commands whose reply a loop iterates over, and the first such loop.
    iterated: BTreeMap<ExprId, LoopId>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(script: &'a Script) -> Self {
        let calls = Rc::new(Calls::new(script));
        let values = Values::new(&calls);
        let summaries = Summaries::new(Rc::clone(&calls));
        let analysis = LoopAnalysis { calls: &calls, values: &values, summaries: &summaries };
        let loops = script.loops.map(|(_, around)| analysis.analyse(around));
        let recursions = recursions(analysis);
        let iterations = script.loops.map(|(id, around)| {
            let is_endless = matches!(loops.get(id), Some(Some(LongLoop::Endless)));
            analysis.iterations(around).filter(|_| !is_endless)
        });
        let huge = huge_loops(&calls, &iterations);
        let mut iterated = BTreeMap::new();
        for (id, long) in loops.iter() {
            if let Some(LongLoop::Collection(reads)) = long {
                for read in reads {
                    iterated.entry(*read).or_insert(id);
                }
            }
        }
        Self { script, calls, values, summaries, loops, recursions, huge, iterations, iterated }
    }

    /// Reason for which a loop may take long; `None` if it is bounded.
    pub(crate) fn long(&self, id: LoopId) -> Option<&LongLoop> {
        self.loops.get(id)?.as_ref()
    }

    /// Loops that may take long, in the order of the source.
    pub(crate) fn long_loops(&self) -> impl Iterator<Item = (&Loop, &LongLoop)> {
        self.script.loops.iter().filter_map(|(id, around)| Some((around, self.long(id)?)))
    }

    /// True if a loop writes, which makes it unkillable.
    pub(crate) fn writes(&self, around: &Loop) -> bool {
        around.calls.iter().any(|call| self.summaries.call(*call).write.is_some())
    }

    /// Commands that read without a limit, in the order of the source, and the loop over the reply. KEYS is left out: it reads
    /// keys, not a collection.
    pub(crate) fn unlimited_reads(&self) -> impl Iterator<Item = UnlimitedRead<'_>> {
        self.calls.all_redis().into_iter().filter_map(|(id, call)| {
            let command = call.command.as_deref().filter(|command| *command != "KEYS")?;
            let iterated_by = self.iterated.get(&id).and_then(|id| self.script.loops.get(*id));
            Some(UnlimitedRead { id, command, extent: self.values.extent(id)?, iterated_by })
        })
    }

    /// Commands whose duration grows with their collection and which a loop repeats, in the order of the source, and the loop.
    /// A loop over KEYS that calls the command with each key is left out, and so are commands that read a whole collection.
    pub(crate) fn linear_in_loops(&self) -> impl Iterator<Item = (ExprId, &str, &Loop)> {
        let repeated = self.repeated();
        self.calls.all_redis().into_iter().filter_map(move |(id, call)| {
            let command = call.command.as_deref()?;
            let is_constant =
                |index: usize| call.args.get(index).is_some_and(|id| self.calls.constant(*id).is_some());
            let is_linear = commands::is_linear(command, call.args.len(), is_constant);
            let around = self.script.loops.get(*repeated.get(&id)?)?;
            (is_linear && self.values.extent(id).is_none() && !self.is_key_of_loop(&call.args))
                .then_some((id, command, around))
        })
    }

    /// Calls that a loop repeats more than [`FEW`] times, also in functions that the loop calls.
    fn repeated(&self) -> HashMap<ExprId, LoopId> {
        let mut repeated = HashMap::new();
        let mut next = Vec::new();
        for (id, around) in self.script.loops.iter() {
            if self.iterations.get(id).copied().flatten().is_none_or(|iterations| iterations > FEW) {
                for call in &around.calls {
                    repeated.insert(*call, id);
                    next.extend(self.calls.runs(*call).into_iter().map(|function| (function, id)));
                }
            }
        }
        let mut visited = HashSet::new();
        while let Some((function, id)) = next.pop() {
            if let Some(function) = self.script.functions.get(function).filter(|_| visited.insert(function)) {
                for call in &function.calls {
                    repeated.entry(*call).or_insert(id);
                    next.extend(self.calls.runs(*call).into_iter().map(|function| (function, id)));
                }
            }
        }
        repeated
    }

    /// True if the key of a command is an element of KEYS that a loop iterates over.
    fn is_key_of_loop(&self, args: &[ExprId]) -> bool {
        let Some(key) = args.first() else { return false };
        match self.script.expr(*key) {
            Expr::Index { base, key } => {
                self.calls.is_global(*base, "KEYS") && self.calls.constant(*key).is_none()
            }
            Expr::Variable(variable) => match self.script.values(*variable) {
                [Value::PartOf(iterator)] => match self.script.expr(*iterator) {
                    Expr::Call { args, .. } => args.iter().any(|arg| self.calls.is_global(*arg, "KEYS")),
                    _ => false,
                },
                [Value::Of(value)] => matches!(
                    self.script.expr(*value),
                    Expr::Index { base, key }
                        if self.calls.is_global(*base, "KEYS") && self.calls.constant(*key).is_none()
                ),
                _ => false,
            },
            _ => false,
        }
    }

    /// Commands whose replies are copied to a list: loops that iterate over them add elements to it.
    pub(crate) fn copied_to(&self, list: ExprId) -> Vec<ExprId> {
        let Expr::Variable(list) = self.script.expr(list) else { return Vec::new() };
        let reads =
            self.long_loops().filter(|(around, _)| around.grows(*list)).filter_map(|(_, long)| match long {
                LongLoop::Collection(reads) => reads.first().copied(),
                _ => None,
            });
        reads.collect()
    }
}

/// Command that reads without a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnlimitedRead<'a> {
    pub(crate) id: ExprId,
    pub(crate) command: &'a str,
    pub(crate) extent: Extent,
    /// Loop that iterates over the reply.
    pub(crate) iterated_by: Option<&'a Loop>,
}
