//! Constant expressions.

use crate::lint::source::syntax::{Binary, Expr, ExprId, Script, Unary, Value};

/// Maximum number of variables between an expression and its constant.
const MAX_DEPTH: usize = 8;

/// Maximum length of a concatenated constant, in bytes.
const MAX_LENGTH: usize = 1000;

/// Constant that an expression evaluates to: a literal, or a variable with one value.
pub(crate) fn constant(script: &Script, id: ExprId) -> Option<String> {
    within(script, id, MAX_DEPTH)
}

fn within(script: &Script, id: ExprId, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match script.expr(id) {
        Expr::String(text) | Expr::Number(text) => Some(text.clone()),
        Expr::Unary(Unary::Minus, operand) => match script.expr(*operand) {
            Expr::Number(number) => Some(format!("-{number}")),
            _ => None,
        },
        Expr::Binary(Binary::Concat, left, right) => {
            let text = within(script, *left, depth)? + &within(script, *right, depth)?;
            (text.len() <= MAX_LENGTH).then_some(text)
        }
        Expr::Variable(variable) => match script.values(*variable) {
            [Value::Of(value)] => within(script, *value, depth),
            _ => None,
        },
        Expr::Call { callee, args } => {
            let text = || within(script, *args.first()?, depth);
            if script.is_global(*callee, "string.upper") {
                Some(text()?.to_ascii_uppercase())
            } else if script.is_global(*callee, "string.lower") {
                Some(text()?.to_ascii_lowercase())
            } else {
                None
            }
        }
        _ => None,
    }
}
