//! Wrappers: functions of the script that pass their parameters or `...` on to `redis.call`. A call of a wrapper counts as a call of
//! the command.

use std::collections::HashMap;

use crate::lint::analysis::calls::{elements, protected, unpack_args};
use crate::lint::source::syntax::{Expr, ExprId, FnId, Function, Script};

/// Maximum number of nested wrappers.
const MAX_DEPTH: usize = 4;

/// Words of commands, by call.
type Words = HashMap<ExprId, Vec<ExprId>>;

/// Word of a command that a wrapper calls.
#[derive(Debug, Clone, Copy)]
enum Word {
    Fixed(ExprId),
    /// Parameter of the wrapper.
    Parameter(usize),
    /// Elements of the table in a parameter.
    Unpacked(usize),
    /// All arguments from this index on.
    From(usize),
}

/// Replaces the command calls in wrappers with command calls where the wrappers are called.
pub(super) fn unwrapped(script: &Script, direct: Words) -> Words {
    let functions: HashMap<ExprId, FnId> = script
        .functions
        .iter()
        .flat_map(|(id, function)| function.calls.iter().map(move |call| (*call, id)))
        .collect();
    let mut callers: HashMap<FnId, Vec<(ExprId, &[ExprId])>> = HashMap::new();
    for (call, (expr, _)) in script.exprs.iter() {
        let Expr::Call { callee, args } = expr else { continue };
        let (callee, args) = protected(script, call).unwrap_or((*callee, args));
        for function in script.callees(callee) {
            callers.entry(function).or_default().push((call, args));
        }
    }
    let mut words = direct.clone();
    let mut new = direct;
    for _ in 0..MAX_DEPTH {
        let mut next = Words::new();
        for (call, inner) in &new {
            let Some((id, function)) =
                functions.get(call).and_then(|id| Some((*id, script.functions.get(*id)?)))
            else {
                continue;
            };
            let (Some(template), Some(callers)) = (template(script, function, inner), callers.get(&id))
            else {
                continue;
            };
            words.remove(call);
            for (caller, args) in callers.iter().filter(|(caller, _)| !words.contains_key(caller)) {
                next.insert(*caller, filled(script, &template, args));
            }
        }
        if next.is_empty() {
            break;
        }
        words.extend(next.iter().map(|(call, words)| (*call, words.clone())));
        new = next;
    }
    words
}

/// Words of the command that a function calls, if it passes on the command or a list of arguments.
fn template(script: &Script, function: &Function, words: &[ExprId]) -> Option<Vec<Word>> {
    let parameter = |id: ExprId| match script.expr(id) {
        Expr::Variable(variable) => function.parameters.iter().position(|parameter| parameter == variable),
        _ => None,
    };
    let word = |id: ExprId| {
        if let Some(index) = parameter(id) {
            return Word::Parameter(index);
        }
        if *script.expr(id) == Expr::Varargs {
            return Word::From(function.parameters.len());
        }
        if let Some([table]) = unpack_args(script, id) {
            let passed = elements(script, *table);
            if passed.is_some_and(|passed| matches!(passed[..], [one] if *script.expr(one) == Expr::Varargs))
            {
                return Word::From(function.parameters.len());
            }
            if let Some(index) = parameter(*table) {
                return Word::Unpacked(index);
            }
        }
        Word::Fixed(id)
    };
    let words: Vec<Word> = words.iter().map(|id| word(*id)).collect();
    let passes_command = !matches!(words.first()?, Word::Fixed(_));
    let passes_list = words.iter().any(|word| matches!(word, Word::From(_) | Word::Unpacked(_)));
    (passes_command || passes_list).then_some(words)
}

/// Words of the command that a wrapper calls, given the arguments of the wrapper.
fn filled(script: &Script, template: &[Word], args: &[ExprId]) -> Vec<ExprId> {
    let mut words = Vec::new();
    for word in template {
        match word {
            Word::Fixed(id) => words.push(*id),
            Word::Parameter(index) => words.extend(args.get(*index)),
            Word::From(index) => words.extend(args.get(*index..).unwrap_or_default()),
            Word::Unpacked(index) => {
                words.extend(args.get(*index).and_then(|table| elements(script, *table)).unwrap_or_default());
            }
        }
    }
    words
}
