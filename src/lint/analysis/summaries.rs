//! Effects of functions, including those of all functions that they call.

use std::rc::Rc;

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::commands::Effect;
use crate::lint::source::arena::Arena;
use crate::lint::source::syntax::{Expr, ExprId, FnId};

/// Effects of a call or function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// True if a command is called.
    pub(crate) calls: bool,
    /// Command that writes.
    pub(crate) write: Option<ExprId>,
    /// Command that writes nothing, but is rejected in a script with `no-writes`.
    pub(crate) replicates: Option<ExprId>,
    /// Command of the SCAN family.
    pub(crate) scan: Option<ExprId>,
    /// True if an unknown command or function is called.
    pub(crate) opaque: bool,
}

impl Summary {
    /// True if commands are called, all of which only read.
    pub(crate) const fn only_reads(self) -> bool {
        self.calls && self.write.is_none() && self.replicates.is_none() && !self.opaque
    }

    fn merge(&mut self, other: Self) {
        self.calls |= other.calls;
        self.write = self.write.or(other.write);
        self.replicates = self.replicates.or(other.replicates);
        self.scan = self.scan.or(other.scan);
        self.opaque |= other.opaque;
    }
}

/// Effects of all functions of a script.
#[derive(Debug)]
pub(crate) struct Summaries<'a> {
    calls: Rc<Calls<'a>>,
    functions: Arena<FnId, Summary>,
}

impl<'a> Summaries<'a> {
    /// Merges the effects of callees into their callers until nothing changes.
    pub(crate) fn new(calls: Rc<Calls<'a>>) -> Self {
        let functions = &calls.script.functions;
        let mut callers: Arena<FnId, Vec<FnId>> = functions.map(|_| Vec::new());
        let mut summaries = functions.map(|(id, function)| {
            let mut summary = Summary::default();
            for call in &function.calls {
                summary.merge(own(&calls, *call));
                for callee in calls.runs(*call) {
                    if let Some(callers) = callers.get_mut(callee) {
                        callers.push(id);
                    }
                }
            }
            summary
        });
        let mut changed: Vec<FnId> = functions.ids().collect();
        while let Some(callee) = changed.pop() {
            let effects = summaries.get(callee).copied().unwrap_or_default();
            for caller in callers.get(callee).into_iter().flatten() {
                let Some(summary) = summaries.get_mut(*caller) else { continue };
                let before = *summary;
                summary.merge(effects);
                if *summary != before {
                    changed.push(*caller);
                }
            }
        }
        Self { calls, functions: summaries }
    }

    /// Effects of a function.
    pub(crate) fn function(&self, id: FnId) -> Summary {
        self.functions.get(id).copied().unwrap_or_default()
    }

    /// Effects of a call without those of the functions that it runs.
    pub(crate) fn own(&self, call: ExprId) -> Summary {
        own(&self.calls, call)
    }

    /// Effects of a call and of the functions that it runs.
    pub(crate) fn call(&self, call: ExprId) -> Summary {
        let mut summary = self.own(call);
        for function in self.calls.runs(call) {
            summary.merge(self.function(function));
        }
        summary
    }
}

fn own(calls: &Calls<'_>, id: ExprId) -> Summary {
    let Some(call) = calls.redis(id) else {
        let Expr::Call { callee, .. } = calls.script.expr(id) else { return Summary::default() };
        return Summary { opaque: calls.is_undefined(*callee), ..Summary::default() };
    };
    let effect = calls.effect(id);
    let has = |wanted: Effect| (effect == Some(wanted)).then_some(id);
    Summary {
        calls: true,
        write: has(Effect::Writes),
        replicates: has(Effect::Replicates),
        scan: call.command.as_deref().is_some_and(is_scan).then_some(id),
        opaque: effect == Some(Effect::Unknown),
    }
}

/// True if a command takes a cursor.
fn is_scan(command: &str) -> bool {
    matches!(command, "SCAN" | "SSCAN" | "HSCAN" | "ZSCAN")
}
