//! Facts about a script, for the rules.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::commands::Extent;
use crate::lint::analysis::loops::{LongLoop, LoopAnalysis};
use crate::lint::analysis::summaries::Summaries;
use crate::lint::analysis::values::Values;
use crate::lint::source::arena::Arena;
use crate::lint::source::syntax::{Expr, ExprId, Loop, LoopId, Script};

/// Script and all that is derived from it.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) script: &'a Script,
    pub(crate) calls: Rc<Calls<'a>>,
    pub(crate) values: Values<'a>,
    pub(crate) summaries: Summaries<'a>,
    loops: Arena<LoopId, Option<LongLoop>>,
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
        let mut iterated = BTreeMap::new();
        for (id, long) in loops.iter() {
            if let Some(LongLoop::Collection(reads)) = long {
                for read in reads {
                    iterated.entry(*read).or_insert(id);
                }
            }
        }
        Self { script, calls, values, summaries, loops, iterated }
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
