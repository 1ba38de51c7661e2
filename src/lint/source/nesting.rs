//! Limit on the nesting of a source. The parser (`full_moon`) is recursive and has no limit of its own. A source that is nested too
//! deeply must not reach it; otherwise the stack overflows and the process aborts.

use full_moon::tokenizer::Symbol;

use crate::lua::{Kind, Position, Token};

/// Maximum depth of brackets and blocks, which is Lua's own limit (`LUAI_MAXCCALLS`).
const MAX_DEPTH: usize = 200;

/// Maximum number of operators and levels that are open at the same time.
const MAX_OPERATORS: usize = 1000;

/// Returns the position at which a source is nested too deeply for the parser.
pub(crate) fn too_deep<'a>(tokens: impl IntoIterator<Item = &'a Token<'a>>) -> Option<Position> {
    // Number of operators in the current expression, for each open level.
    let mut levels = vec![0_usize];
    // Number of open levels and of the operators in all of them.
    let mut total = 0;
    for token in tokens {
        let Kind::Symbol(symbol) = token.kind else { continue };
        let count = levels.last_mut()?;
        match symbol {
            Symbol::LeftParen
            | Symbol::LeftBracket
            | Symbol::LeftBrace
            | Symbol::Function
            | Symbol::Do
            | Symbol::Then
            | Symbol::Repeat => {
                levels.push(0);
                total += 1;
            }
            Symbol::RightParen
            | Symbol::RightBracket
            | Symbol::RightBrace
            | Symbol::End
            | Symbol::Until
            | Symbol::ElseIf
            | Symbol::Else => {
                if levels.len() > 1 {
                    total -= levels.pop()? + 1;
                }
                // `else` closes one block of its `if` and opens another.
                if symbol == Symbol::Else {
                    levels.push(0);
                    total += 1;
                }
            }
            // One expression ends and another begins.
            Symbol::Comma
            | Symbol::Semicolon
            | Symbol::Equal
            | Symbol::Local
            | Symbol::Return
            | Symbol::If
            | Symbol::While
            | Symbol::For
            | Symbol::In => total -= std::mem::take(count),
            Symbol::Plus
            | Symbol::Minus
            | Symbol::Star
            | Symbol::Slash
            | Symbol::Percent
            | Symbol::Caret
            | Symbol::Hash
            | Symbol::LessThan
            | Symbol::GreaterThan
            | Symbol::TwoDots
            | Symbol::TwoEqual
            | Symbol::TildeEqual
            | Symbol::LessThanEqual
            | Symbol::GreaterThanEqual
            | Symbol::And
            | Symbol::Or
            | Symbol::Not => {
                *count += 1;
                total += 1;
            }
            _ => {}
        }
        if levels.len() > MAX_DEPTH || total > MAX_OPERATORS {
            return Some(token.position);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lua::tokens;

    fn is_too_deep(source: &str) -> bool {
        too_deep(&tokens(source).collect::<Vec<_>>()).is_some()
    }

    #[test]
    fn deep_nesting_is_rejected() {
        for (begin, end) in [
            ("x = (", ")"),
            ("x = {", "}"),
            ("do ", " end"),
            ("if a then ", " end"),
            ("if a then else ", " end"),
            ("f = function() ", " end"),
            ("repeat ", " until a"),
        ] {
            let nested = |depth: usize| format!("{} {}", begin.repeat(depth), end.repeat(depth));
            assert!(is_too_deep(&nested(250)), "{begin}");
            assert!(!is_too_deep(&nested(100)), "{begin}");
        }
        for operator in ["..", "==", "^", "and", "-", "- -", "not not", "<", "#"] {
            assert!(is_too_deep(&format!("x = a {}", format!("{operator} a ").repeat(1100))), "{operator}");
        }
        // Many levels, each with operators.
        assert!(is_too_deep(&format!("x = {}", "a .. a .. a .. a .. a .. a .. (".repeat(190))));
    }

    /// The parser ends a string at a carriage return, so the text after it is code.
    #[test]
    fn nesting_behind_an_unclosed_string_is_counted() {
        for end in ["\r", "\n", "\r\n"] {
            assert!(is_too_deep(&format!("x = '{end}{}", "(".repeat(250))), "{end:?}");
        }
    }

    #[test]
    fn long_scripts_are_not_deep() {
        for statement in [
            "redis.call('SET', a .. b, -1)\n",
            "x = x + 1\n",
            "if a == b then f(a.b.c) elseif c ~= d then x = not y else z = -1 end\n",
            "local t = {1, 2, #x, a .. b}\n",
            "t[i] = t.x.y[j] - 1\n",
            "for i = 1, #x do f(i - 1) end\n",
            "while x < 1 do x = x + 1 end repeat x = x - 1 until x <= 0\n",
            "function f(a) return a + 1 end\n",
        ] {
            assert!(!is_too_deep(&statement.repeat(3000)), "{statement}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_tokens(source in "[-=\\[\\]'\"\\\\\r\n`a é(){}.0x]{0,200}") {
            is_too_deep(&source);
        }
    }
}
