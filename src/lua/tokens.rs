//! Tokens of a source, from the lexer of `full_moon`.
//!
//! The parser uses the same lexer, so the nesting counted in these tokens is the depth of the parser's recursion. Lexing takes
//! about 50 ms per MiB of source; parsing takes at least 15 times as long.

use std::borrow::Cow;
use std::iter;

use full_moon::LuaVersion;
use full_moon::tokenizer::{self, Lexer, LexerResult, Symbol, TokenType};

use super::position::Position;

/// Kind of a token; white space is omitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// Keyword or operator.
    Symbol(Symbol),
    /// String literal with its quotes.
    String(&'a str),
    /// Name or number.
    Word(&'a str),
    /// Comment with its delimiters.
    Comment(&'a str),
    /// Character that does not begin a token in Lua 5.1.
    Illegal(char),
}

/// Token and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) position: Position,
    /// Offset in bytes of the end of the token in the source.
    pub(crate) end: usize,
}

/// Returns the tokens of a source, which need not be valid Lua.
pub(crate) fn tokens(source: &str) -> impl Iterator<Item = Token<'_>> {
    // The lexer (full_moon 3.0.0) panics on a backtick outside of strings and comments. Backticks are replaced by another illegal
    // character of the same length; the text of tokens is taken from the original source.
    let lexable = if source.contains('`') { Cow::from(source.replace('`', "?")) } else { source.into() };
    let mut lexer = Lexer::new_lazy(&lexable, LuaVersion::lua51());
    iter::from_fn(move || lexer.process_next()).filter_map(|result| match result {
        LexerResult::Ok(token) | LexerResult::Recovered(token, _) => convert(&token, source),
        LexerResult::Fatal(errors) => {
            let start = errors.first()?.position();
            let character = source.get(start.bytes()..)?.chars().next()?;
            let end = start.bytes() + character.len_utf8();
            Some(Token { kind: Kind::Illegal(character), position: start.into(), end })
        }
    })
}

/// Converts a token; `None` for white space and the end.
fn convert<'a>(token: &tokenizer::Token, source: &'a str) -> Option<Token<'a>> {
    let (start, end) = (token.start_position(), token.end_position());
    let text = source.get(start.bytes()..end.bytes()).unwrap_or_default();
    let kind = match token.token_type() {
        TokenType::Symbol { symbol } => Kind::Symbol(*symbol),
        TokenType::StringLiteral { .. } => Kind::String(text),
        TokenType::SingleLineComment { .. } | TokenType::MultiLineComment { .. } => Kind::Comment(text),
        TokenType::Identifier { .. } | TokenType::Number { .. } => Kind::Word(text),
        _ => return None,
    };
    Some(Token { kind, position: start.into(), end: end.bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_text_and_position() {
        let source = "local é = [[\n`]] -- note `\n  --[==[ a\nb ]==] x ` 'a";
        let tokens: Vec<_> = tokens(source)
            .map(|Token { kind, position: Position { line, column }, .. }| (kind, line, column))
            .collect();
        assert_eq!(
            tokens,
            [
                (Kind::Symbol(Symbol::Local), 1, 1),
                (Kind::Illegal('é'), 1, 7),
                (Kind::Symbol(Symbol::Equal), 1, 9),
                (Kind::String("[[\n`]]"), 1, 11),
                (Kind::Comment("-- note `"), 2, 5),
                (Kind::Comment("--[==[ a\nb ]==]"), 3, 3),
                (Kind::Word("x"), 4, 8),
                (Kind::Illegal('`'), 4, 10),
                (Kind::String("'a"), 4, 12),
            ]
        );
    }
}
