//! The words of Lua source, for what the parser does not tell: comments, and whether it may be trusted with this source.
//!
//! The parser (`full_moon`) recurses with the nesting of what it reads and has no limit of its own.

use memchr::{memchr, memmem};

/// Brackets and blocks within each other. Lua's own limit (`LUAI_MAXCCALLS`).
const MAX_DEPTH: usize = 200;

/// Operators and levels within each other that one expression may have.
const MAX_OPERATORS: usize = 1000;

/// Operators of more than one character.
const OPERATORS: [&str; 6] = ["...", "..", "==", "~=", "<=", ">="];

/// A piece of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// A name, a keyword or a number.
    Word(&'a str),
    /// A string literal, with its quotes.
    Text(&'a str),
    /// An operator or any other character.
    Mark(&'a str),
    /// The text of a comment, without its marks.
    Comment(&'a str),
}

/// A piece of source and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    /// The line, from 1.
    pub(crate) line: usize,
    /// Characters before it on its line.
    pub(crate) column: usize,
}

/// The tokens of a source.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    /// Characters before `at` on its line.
    column: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        Self { source, at: 0, line: 1, column: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.source.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Goes on to `end`, and gives what it passes over.
    fn take(&mut self, end: usize) -> &'a str {
        let taken = self.source.get(self.at..end).unwrap_or_default();
        match taken.rsplit_once('\n') {
            Some((before, last)) => {
                self.line += 1 + memchr::memchr_iter(b'\n', before.as_bytes()).count();
                self.column = last.chars().count();
            }
            None => self.column += taken.chars().count(),
        }
        self.at = end;
        taken
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let blank = self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.take(self.at + blank);
        let rest = self.rest();
        let first = *rest.first()?;
        let (line, column) = (self.line, self.column);
        let kind = if let Some(comment) = rest.strip_prefix(b"--") {
            let length =
                2 + long_bracket(comment).unwrap_or_else(|| memchr(b'\n', comment).unwrap_or(comment.len()));
            let text = self.take(self.at + length);
            Kind::Comment(text.get(2..).unwrap_or_default())
        } else if let Some(length) = long_bracket(rest) {
            Kind::Text(self.take(self.at + length))
        } else if matches!(first, b'"' | b'\'') {
            Kind::Text(self.take(self.at + quoted(rest, first)))
        } else if first.is_ascii_alphanumeric() || first == b'_' {
            let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
            let length = rest.iter().take_while(is_part).count();
            Kind::Word(self.take(self.at + length))
        } else {
            let operator = OPERATORS.iter().find(|operator| rest.starts_with(operator.as_bytes()));
            let character = self.source.get(self.at..).and_then(|rest| rest.chars().next())?;
            let length = operator.map_or(character.len_utf8(), |operator| operator.len());
            Kind::Mark(self.take(self.at + length))
        };
        Some(Token { kind, line, column })
    }
}

/// The length of a long bracket (`[[…]]`, `[==[…]==]`) that begins here. One without an end goes on to the end.
fn long_bracket(source: &[u8]) -> Option<usize> {
    let inner = source.strip_prefix(b"[")?;
    let level = inner.iter().take_while(|byte| **byte == b'=').count();
    let content = inner.get(level..)?.strip_prefix(b"[")?;
    let end = [b"]".as_slice(), &vec![b'='; level], b"]"].concat();
    Some(memmem::find(content, &end).map_or(source.len(), |at| level + 2 + at + end.len()))
}

/// The length of a string in quotes; it ends at the line's end if nothing else ends it.
fn quoted(source: &[u8], quote: u8) -> usize {
    let mut bytes = source.iter().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'\n' => return at,
            byte if *byte == quote => return at + 1,
            _ => {}
        }
    }
    source.len()
}

/// Where the source is nested too deep for the parser, if it is.
pub(crate) fn too_complex<'a>(tokens: impl IntoIterator<Item = Token<'a>>) -> Option<Token<'a>> {
    // Operators of the expression so far, at each level.
    let mut levels = vec![0_usize];
    let mut total = 0;
    for token in tokens {
        let count = levels.last_mut()?;
        match token.kind {
            Kind::Mark("(" | "[" | "{") | Kind::Word("function" | "do" | "then" | "repeat") => {
                levels.push(0);
                total += 1;
            }
            Kind::Mark(")" | "]" | "}") | Kind::Word("end" | "until" | "elseif" | "else") => {
                if levels.len() > 1 {
                    total -= levels.pop()? + 1;
                }
                // `else` begins another block of its `if`.
                if token.kind == Kind::Word("else") {
                    levels.push(0);
                    total += 1;
                }
            }
            // Here one expression ends and another one begins.
            Kind::Mark("," | ";" | "=") | Kind::Word("local" | "return" | "if" | "while" | "for" | "in") => {
                total -= std::mem::take(count);
            }
            Kind::Mark(
                "+" | "-" | "*" | "/" | "%" | "^" | "#" | "<" | ">" | ".." | "==" | "~=" | "<=" | ">=",
            )
            | Kind::Word("and" | "or" | "not") => {
                *count += 1;
                total += 1;
            }
            _ => {}
        }
        if levels.len() > MAX_DEPTH || total > MAX_OPERATORS {
            return Some(token);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(source: &str) -> bool {
        too_complex(Tokens::new(source)).is_some()
    }

    #[test]
    fn tokens_know_where_they_are() {
        let source = "local é = [[\n]] -- note\n  --[==[ a\nb ]==] x";
        let tokens: Vec<_> =
            Tokens::new(source).map(|token| (token.kind, token.line, token.column)).collect();
        assert_eq!(
            tokens,
            [
                (Kind::Word("local"), 1, 0),
                (Kind::Mark("é"), 1, 6),
                (Kind::Mark("="), 1, 8),
                (Kind::Text("[[\n]]"), 1, 10),
                (Kind::Comment(" note"), 2, 3),
                (Kind::Comment("[==[ a\nb ]==]"), 3, 2),
                (Kind::Word("x"), 4, 7),
            ]
        );
    }

    #[test]
    fn what_nests_too_deep_is_refused() {
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
            assert!(refused(&nested(250)), "{begin}");
            assert!(!refused(&nested(100)), "{begin}");
        }
        for operator in ["..", "==", "^", "and", "-", "- -", "not not", "<", "#"] {
            assert!(refused(&format!("x = a {}", format!("{operator} a ").repeat(1100))), "{operator}");
        }
        // Many levels, each with operators.
        assert!(refused(&format!("x = {}", "a .. a .. a .. a .. a .. a .. (".repeat(190))));
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
            assert!(!refused(&statement.repeat(3000)), "{statement}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(source in "[-=\\[\\]'\"\\\\\na é(){}.]{0,200}") {
            let tokens: Vec<_> = Tokens::new(&source).collect();
            too_complex(tokens);
        }
    }
}
