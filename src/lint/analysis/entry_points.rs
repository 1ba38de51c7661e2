//! Entry points: the script itself, or the functions that a library registers.

use crate::lint::analysis::facts::ScriptFacts;
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
    /// Position of the first line, or of the call that registers the function.
    pub(crate) position: Position,
}

/// Entry points of a script with a `#!` line. Functions whose flags are not constant are left out.
pub(crate) fn entry_points(facts: &ScriptFacts<'_>, header: Header) -> Vec<EntryPoint> {
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
fn registered(facts: &ScriptFacts<'_>, call: ExprId, args: &[ExprId]) -> Option<EntryPoint> {
    let constant = |id: ExprId| facts.calls.constant(id);
    let (name, callback, flags) = match args {
        [table] => {
            let table = Table::new(facts, *table)?;
            let flags = table.field("flags");
            (table.field("function_name").and_then(constant), table.field("callback")?, flags)
        }
        // Kvrocks takes the flags as the third argument.
        [name, callback, flags @ ..] => (constant(*name), *callback, flags.first().copied()),
        [] => return None,
    };
    let flags = flags.map_or(Some(Flags::Others), |flags| flags_of(facts, flags))?;
    Some(EntryPoint {
        title: name.map_or("this function".to_owned(), |name| format!("the function {name}")),
        flags,
        function: facts.script.callees(callback).next()?,
        position: facts.script.position(call),
    })
}

/// Flags in a table; `None` if they are not constant.
fn flags_of(facts: &ScriptFacts<'_>, table: ExprId) -> Option<Flags> {
    let flags: Vec<_> = Table::new(facts, table)?.values().map(|(flag, _)| flag).collect();
    if flags.iter().any(|flag| flag.as_deref() == Some("no-writes")) {
        return Some(Flags::NoWrites);
    }
    flags.iter().all(Option::is_some).then_some(Flags::Others)
}

/// Constant flags of the functions that a library registers, and their positions.
pub(crate) fn function_flags(facts: &ScriptFacts<'_>) -> Vec<(String, Position)> {
    let mut flags = Vec::new();
    for (_, (expr, _)) in facts.script.exprs.iter() {
        if let Expr::Call { callee, args } = expr
            && facts.calls.registers(*callee)
            && let [table] = args.as_slice()
            && let Some(table) = Table::new(facts, *table)
            && let Some(list) = table.field("flags").and_then(|list| Table::new(facts, list))
        {
            let constants = list.values().filter_map(|(flag, id)| Some((flag?, facts.script.position(id))));
            flags.extend(constants);
        }
    }
    flags
}

/// Table constructor, given directly or in a variable.
struct Table<'a> {
    facts: &'a ScriptFacts<'a>,
    fields: &'a [(Option<ExprId>, ExprId)],
    /// Expression through which the table was found.
    origin: ExprId,
}

impl<'a> Table<'a> {
    fn new(facts: &'a ScriptFacts<'a>, id: ExprId) -> Option<Self> {
        let mut tables = facts.script.aliased(id).into_iter().filter_map(|id| match facts.script.expr(id) {
            Expr::Table(fields) => Some(fields.as_slice()),
            _ => None,
        });
        let fields = tables.next()?;
        // If there is more than one constructor, the table is unknown.
        tables.next().is_none().then_some(Self { facts, fields, origin: id })
    }

    /// Value of a field, including one that is assigned later.
    fn field(&self, wanted: &str) -> Option<ExprId> {
        let constant = |id: ExprId| self.facts.calls.constant(id);
        let given = self.fields.iter().find(|(key, _)| key.and_then(constant).as_deref() == Some(wanted));
        given.map(|(_, value)| *value).or_else(|| self.facts.script.named_field(self.origin, wanted))
    }

    /// Values: the constant, if the value is one, and the expression.
    fn values(&self) -> impl Iterator<Item = (Option<String>, ExprId)> {
        self.fields.iter().map(|(_, value)| (self.facts.calls.constant(*value), *value))
    }
}
