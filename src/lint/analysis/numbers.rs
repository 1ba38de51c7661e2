//! Numbers as sums of a constant and multiples of unknown values.
//!
//! The difference between two such sums distinguishes a window (`n` to `n + 9`) from a range that grows with the data (1 to `n`).

use crate::lint::source::syntax::{Binary, Expr, ExprId, Script, Unary, Value, VarId};

/// Maximum depth of an expression that is decomposed.
const MAX_DEPTH: usize = 16;

/// Maximum number of unknown values in a sum.
const MAX_TERMS: usize = 8;

/// Functions whose result is close to their argument.
const SAME: [&str; 5] = ["math.abs", "math.ceil", "math.floor", "tonumber", "tostring"];

/// Sum of a constant and multiples of unknown values.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) constant: f64,
    /// Factors and values.
    pub(super) terms: Vec<(f64, ExprId)>,
}

impl Sum {
    const fn constant(constant: f64) -> Self {
        Self { constant, terms: Vec::new() }
    }

    fn term(value: ExprId) -> Self {
        Self { constant: 0.0, terms: vec![(1.0, value)] }
    }

    /// Decomposes a number.
    pub(super) fn of(script: &Script, number: ExprId) -> Self {
        Self::within(script, number, None, MAX_DEPTH)
    }

    /// Decomposes a number, but keeps `variable` as a term.
    pub(super) fn with(script: &Script, number: ExprId, variable: VarId) -> Self {
        Self::within(script, number, Some(variable), MAX_DEPTH)
    }

    /// This sum plus a multiple of another one.
    pub(super) fn plus(mut self, script: &Script, factor: f64, other: &Self) -> Self {
        if other.constant != 0.0 {
            self.constant += factor * other.constant;
        }
        for (times, value) in &other.terms {
            match self.terms.iter_mut().find(|(_, known)| script.is_same(*known, *value)) {
                Some((known, _)) => *known += factor * times,
                None => self.terms.push((factor * times, *value)),
            }
        }
        self.terms.retain(|(factor, _)| factor.abs() > 1e-9);
        self
    }

    /// Removes the term of a variable, and returns its factor.
    pub(super) fn take(&mut self, script: &Script, variable: VarId) -> Option<f64> {
        let is_variable = |(_, value): &(f64, ExprId)| script.variable(*value) == Some(variable);
        let index = self.terms.iter().position(is_variable)?;
        Some(self.terms.swap_remove(index).0)
    }

    /// Value of the sum, if it has no unknown terms.
    pub(super) fn number(&self) -> Option<f64> {
        self.terms.is_empty().then_some(self.constant)
    }

    fn within(script: &Script, number: ExprId, kept: Option<VarId>, depth: usize) -> Self {
        let sum = depth.checked_sub(1).and_then(|depth| Self::parts(script, number, kept, depth));
        sum.filter(|sum| sum.terms.len() <= MAX_TERMS).unwrap_or_else(|| Self::term(number))
    }

    fn parts(script: &Script, number: ExprId, kept: Option<VarId>, depth: usize) -> Option<Self> {
        let of = |id: ExprId| Self::within(script, id, kept, depth);
        Some(match script.expr(number) {
            Expr::Number(text) | Expr::String(text) => Self::constant(parsed(text)?),
            Expr::Unary(Unary::Minus, operand) => Self::default().plus(script, -1.0, &of(*operand)),
            Expr::Binary(Binary::Plus, left, right) => of(*left).plus(script, 1.0, &of(*right)),
            Expr::Binary(Binary::Minus, left, right) => of(*left).plus(script, -1.0, &of(*right)),
            Expr::Binary(Binary::Times, left, right) => match (of(*left), of(*right)) {
                (left, right) if left.terms.is_empty() => Self::default().plus(script, left.constant, &right),
                (left, right) if right.terms.is_empty() => {
                    Self::default().plus(script, right.constant, &left)
                }
                _ => return None,
            },
            Expr::Binary(Binary::Divide, left, right) => {
                let (left, divisor) = (of(*left), of(*right).number()?);
                match left.number() {
                    Some(number) => Self::constant(number / divisor),
                    None if divisor != 0.0 => Self::default().plus(script, divisor.recip(), &left),
                    None => return None,
                }
            }
            // A remainder is less than the divisor.
            Expr::Binary(Binary::Modulo, _, divisor) => Self::constant(of(*divisor).number()?),
            Expr::Binary(Binary::Power, base, exponent) => {
                Self::constant(of(*base).number()?.powf(of(*exponent).number()?))
            }
            // The constant is a default for a missing value.
            Expr::Binary(Binary::Or, left, right) => {
                of(*right).number()?;
                of(*left)
            }
            Expr::Index { .. } if script.is_global(number, "math.huge") => Self::constant(f64::INFINITY),
            Expr::Call { callee, args } if SAME.iter().any(|name| script.is_global(*callee, name)) => {
                of(*args.first()?)
            }
            Expr::Variable(variable) if kept != Some(*variable) => match script.values(*variable) {
                [Value::Of(value)] => of(*value),
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// Value of a number as written.
fn parsed(text: &str) -> Option<f64> {
    let text = text.trim();
    let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
        return text
            .parse()
            .ok()
            .filter(|_| text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)));
    };
    let (digits, exponent) = digits.split_once(['p', 'P']).unwrap_or((digits, "0"));
    let number = u32::from_str_radix(digits, 16).ok().map(f64::from)?;
    Some(number * 2_f64.powi(exponent.parse::<i16>().ok()?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_value_that_lua_gives_them() {
        for (text, value) in [
            ("12", Some(12.0)),
            ("1e3", Some(1000.0)),
            ("0x1F", Some(31.0)),
            ("0x1p4", Some(16.0)),
            ("0XaP2", Some(40.0)),
            ("0x1p", None),
            ("0x", None),
            ("inf", None),
        ] {
            assert_eq!(parsed(text), value, "{text}");
        }
    }
}
