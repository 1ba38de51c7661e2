//! Parsing of a source to a [`Script`]: `full_moon` parses it, and [`lower`] converts the tree.
//!
//! `full_moon` is the parser of the Lua formatter `StyLua` and the linter `selene`. Without features it accepts only Lua 5.1. It keeps
//! the position of every token.

use std::borrow::Cow;
use std::collections::BTreeSet;

use full_moon::LuaVersion;

use crate::lint::source::lower::lower;
use crate::lint::source::nesting;
use crate::lint::source::syntax::Script;
use crate::lua::{Kind, Position, Token};

/// Maximum number of tokens. The tree and the analysis take about 1.3 KB per token; the largest scripts in published packages have
/// 10,000 tokens.
pub(crate) const MAX_TOKENS: usize = 100_000;

/// Reason why a source has no syntax tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// The nesting exceeds the limit at this position.
    TooDeep(Position),
    /// The number of tokens exceeds the limit at this position.
    TooLong(Position),
    /// The source is not Lua 5.1.
    Syntax(Position, String),
}

/// Parses a source, given its tokens.
pub(crate) fn parse(source: &str, tokens: &[Token<'_>]) -> Result<Script, ParseError> {
    if let Some(token) = tokens.get(MAX_TOKENS) {
        return Err(ParseError::TooLong(token.position));
    }
    if let Some(position) = nesting::too_deep(tokens) {
        return Err(ParseError::TooDeep(position));
    }
    if let Some(position) = tokens.iter().find(|token| has_large_escape(token)).map(|token| token.position) {
        return Err(ParseError::Syntax(position, "escape sequence too large".to_owned()));
    }
    let mut illegal = tokens.iter().filter_map(|token| match token.kind {
        Kind::Illegal(character) => Some((token.position, character)),
        _ => None,
    });
    // The parser (full_moon 3.0.0) reports other illegal characters, but panics on a backtick.
    if let Some((position, first)) = illegal.clone().next()
        && illegal.any(|(_, character)| character == '`')
    {
        return Err(ParseError::Syntax(position, format!("unexpected symbol near `{first}`")));
    }
    let parsed = full_moon::parse_fallible(&without_exponents(source, tokens), LuaVersion::lua51());
    if let Some(error) = parsed.errors().first() {
        let (begin, _) = error.range();
        return Err(ParseError::Syntax(begin.into(), message(error)));
    }
    lower(parsed.ast().nodes(), source)
        .map_err(|(position, message)| ParseError::Syntax(position, message.to_owned()))
}

/// Replaces the `p` of hexadecimal exponents (`0x1p4`), which Lua 5.1 accepts and the parser does not, with a digit. Positions do not
/// change.
fn without_exponents<'a>(source: &'a str, tokens: &[Token<'_>]) -> Cow<'a, str> {
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    let exponents: BTreeSet<Position> = pairs.filter_map(|(one, other)| exponent(one, other)).collect();
    if exponents.is_empty() {
        return source.into();
    }
    let mut replaced = String::with_capacity(source.len());
    for (line, text) in source.split_inclusive('\n').enumerate() {
        let characters = text.chars().enumerate().map(|(column, character)| {
            let position = Position { line: line + 1, column: column + 1 };
            if exponents.contains(&position) { '0' } else { character }
        });
        replaced.extend(characters);
    }
    replaced.into()
}

/// Position of the `p` of a hexadecimal number. The lexer returns the exponent as a name immediately after the number.
fn exponent(number: &Token<'_>, name: &Token<'_>) -> Option<Position> {
    let (Kind::Word(number_text), Kind::Word(name_text)) = (number.kind, name.kind) else { return None };
    let digits = number_text.strip_prefix("0x").or_else(|| number_text.strip_prefix("0X"))?;
    let exponent = name_text.strip_prefix(['p', 'P'])?;
    let is_adjacent = number.position.line == name.position.line
        && number.position.column + number_text.len() == name.position.column;
    let is_number = !digits.is_empty() && !exponent.is_empty();
    (is_adjacent && is_number && exponent.bytes().all(|byte| byte.is_ascii_digit())).then_some(name.position)
}

/// True if a string has a decimal escape sequence that is not a byte: `\256`.
fn has_large_escape(token: &Token<'_>) -> bool {
    let Kind::String(text) = token.kind else { return false };
    if !text.starts_with(['\'', '"']) {
        return false;
    }
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            let number: String = characters.clone().take(3).take_while(char::is_ascii_digit).collect();
            if number.parse::<u16>().is_ok_and(|number| number > u16::from(u8::MAX)) {
                return true;
            }
            characters.next();
        }
    }
    false
}

/// One-line message of a parser error.
fn message(error: &full_moon::Error) -> String {
    match error {
        full_moon::Error::AstError(error) => {
            let token = error.token().to_string();
            match token.trim() {
                "" => format!("{} at the end", error.error_message()),
                token => format!("{} near `{token}`", error.error_message()),
            }
        }
        full_moon::Error::TokenizerError(error) => error.error().to_string(),
    }
}
