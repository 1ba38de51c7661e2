//! Entry points: the script itself, or the functions that a library registers.

use crate::lint::analysis::facts::Facts;
use crate::lint::source::header::{Flags, Header};
use crate::lint::source::syntax::{Expr, ExprId, FnId};
use crate::lua::Position;

/// Entry point with flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryPoint {
    /// Subject of a sentence: "this script", "the function f".
    pub(crate) title: String,
    pub(crate) flags: Flags,
    pub(crate) function: FnId,
    /// Position of the flags, or where they belong.
    pub(crate) position: Position,
}

/// Entry points of a script with a `#!` line. Functions whose flags are not constant are left out.
pub(crate) fn entry_points(facts: &Facts<'_>, header: Header) -> Vec<EntryPoint> {
    match header {
        Header::None => Vec::new(),
        Header::Script(flags) => vec![EntryPoint {
            title: "this script".to_owned(),
            flags,
            function: facts.script.main,
            position: Position::START,
        }],
        Header::Library => {
            let exprs = facts.script.exprs.iter();
            exprs
                .filter_map(|(id, (expr, _))| match expr {
                    Expr::Call { callee, args } if facts.calls.registers(*callee) => {
                        registered(facts, id, args)
                    }
                    _ => None,
                })
                .collect()
        }
    }
}

/// Function that a call of `register_function` registers.
fn registered(facts: &Facts<'_>, call: ExprId, args: &[ExprId]) -> Option<EntryPoint> {
    let constant = |id: ExprId| facts.calls.constant(id);
    let (name, callback, flags) = match args {
        [table] => {
            let Expr::Table(fields) = facts.script.expr(*table) else { return None };
            let field = |wanted: &str| {
                fields.iter().find_map(|(key, value)| {
                    let key = key.and_then(constant);
                    (key.as_deref() == Some(wanted)).then_some(*value)
                })
            };
            let flags = match field("flags").map(|flags| facts.script.expr(flags)) {
                None => Flags::Others,
                Some(Expr::Table(flags)) => {
                    let mut flags = flags.iter().filter_map(|(_, flag)| constant(*flag));
                    if flags.any(|flag| flag == "no-writes") { Flags::NoWrites } else { Flags::Others }
                }
                Some(_) => return None,
            };
            (field("function_name").and_then(constant), field("callback")?, flags)
        }
        [name, callback, ..] => (constant(*name), *callback, Flags::Others),
        [] => return None,
    };
    Some(EntryPoint {
        title: name.map_or("this function".to_owned(), |name| format!("the function {name}")),
        flags,
        function: facts.script.callees(callback).next()?,
        position: facts.script.position(call),
    })
}
