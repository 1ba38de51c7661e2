//! Values of literals.

use full_moon::tokenizer::{StringLiteralQuoteType, TokenReference, TokenType};

/// Text of a name or number.
pub(crate) fn word(token: &TokenReference) -> String {
    token.token().to_string()
}

/// Value of a string literal.
pub(crate) fn string(token: &TokenReference) -> String {
    match token.token_type() {
        TokenType::StringLiteral { literal, quote_type: StringLiteralQuoteType::Brackets, .. } => {
            literal.strip_prefix('\n').unwrap_or(literal).to_owned()
        }
        TokenType::StringLiteral { literal, .. } => unescaped(literal),
        _ => String::new(),
    }
}

/// Replaces the escape sequences of Lua 5.1. Bytes from 128 on become the characters of the same number.
fn unescaped(literal: &str) -> String {
    let mut text = String::new();
    let mut characters = literal.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(digit) if digit.is_ascii_digit() => {
                let mut code = digit.to_digit(10).unwrap_or_default();
                for _ in 0..2 {
                    let Some(next) = characters.peek().and_then(|next| next.to_digit(10)) else { break };
                    code = code * 10 + next;
                    characters.next();
                }
                text.extend(char::from_u32(code));
            }
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_replaced() {
        for (literal, expected) in [
            ("a", "a"),
            (r"a\n\t\r\\\'", "a\n\t\r\\'"),
            (r"\75EYS\0491", "KEYS11"),
            ("a\\\nb", "a\nb"),
            ("\\", ""),
        ] {
            assert_eq!(unescaped(literal), expected, "{literal}");
        }
    }
}
