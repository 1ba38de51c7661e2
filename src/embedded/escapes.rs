//! Escape sequences of each language.

use self::Number::{Braces, Hexadecimal, Long, LongHexadecimal, Octal, OctalByte, Short};
use super::text::Text;

/// Escape sequences of one type of literal, without the backslash.
#[derive(Debug)]
pub(super) struct Escapes {
    /// Single-character escapes and their values.
    letters: &'static [(u8, u8)],
    numbers: &'static [Number],
    line_end: LineEnd,
    /// True if the backslash is kept before any other character.
    keeps_unknown: bool,
    /// True if `\x` and octal numbers denote bytes, not characters.
    has_bytes: bool,
}

/// Escape sequence with the code of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// `\x` with up to 2 digits.
    Hexadecimal,
    /// `\x` with up to 4 digits.
    LongHexadecimal,
    /// `\u` with 4 digits.
    Short,
    /// `\u{…}`.
    Braces,
    /// `\U` with 8 digits.
    Long,
    /// Up to 3 octal digits.
    Octal,
    /// Octal digits up to 377.
    OctalByte,
}

/// Effect of a backslash at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Unknown,
    /// The line ending is removed.
    Joins,
    /// The line ending and the indentation of the following lines are removed.
    JoinsTrimmed,
}

const NONE: Escapes = Escapes {
    letters: &[],
    numbers: &[],
    line_end: LineEnd::Unknown,
    keeps_unknown: false,
    has_bytes: false,
};

const QUOTES: [(u8, u8); 3] = [(b'\\', b'\\'), (b'\'', b'\''), (b'"', b'"')];

/// Single-quoted strings in PHP and Ruby.
pub(super) const QUOTED: Escapes =
    Escapes { letters: &[(b'\\', b'\\'), (b'\'', b'\'')], keeps_unknown: true, ..NONE };

pub(super) const JAVASCRIPT: Escapes = Escapes {
    letters: &[(b'n', 10), (b'r', 13), (b't', 9), (b'b', 8), (b'f', 12), (b'v', 11), (b'0', 0)],
    numbers: &[Hexadecimal, Short, Braces],
    line_end: LineEnd::Joins,
    ..NONE
};

pub(super) const PYTHON: Escapes = Escapes {
    letters: &[
        (b'n', 10),
        (b'r', 13),
        (b't', 9),
        (b'a', 7),
        (b'b', 8),
        (b'f', 12),
        (b'v', 11),
        QUOTES[0],
        QUOTES[1],
        QUOTES[2],
    ],
    numbers: &[Hexadecimal, Short, Long, Octal],
    line_end: LineEnd::Joins,
    keeps_unknown: true,
    ..NONE
};

/// Python byte strings.
pub(super) const PYTHON_BYTES: Escapes =
    Escapes { numbers: &[Hexadecimal, Octal], has_bytes: true, ..PYTHON };

pub(super) const RUBY: Escapes = Escapes {
    letters: &[
        (b'n', 10),
        (b'r', 13),
        (b't', 9),
        (b'a', 7),
        (b'b', 8),
        (b'e', 27),
        (b'f', 12),
        (b'v', 11),
        (b's', 32),
    ],
    numbers: &[Hexadecimal, Short, Braces, Octal],
    line_end: LineEnd::Joins,
    has_bytes: true,
    ..NONE
};

/// Double-quoted strings in PHP.
pub(super) const PHP: Escapes = Escapes {
    letters: &[
        (b'n', 10),
        (b'r', 13),
        (b't', 9),
        (b'v', 11),
        (b'e', 27),
        (b'f', 12),
        (b'\\', b'\\'),
        (b'$', b'$'),
        (b'"', b'"'),
    ],
    ..PHP_HEREDOC
};

pub(super) const PHP_HEREDOC: Escapes = Escapes {
    letters: &[
        (b'n', 10),
        (b'r', 13),
        (b't', 9),
        (b'v', 11),
        (b'e', 27),
        (b'f', 12),
        (b'\\', b'\\'),
        (b'$', b'$'),
    ],
    numbers: &[Hexadecimal, Braces, Octal],
    keeps_unknown: true,
    has_bytes: true,
    ..NONE
};

pub(super) const GO: Escapes = Escapes {
    letters: &[(b'n', 10), (b'r', 13), (b't', 9), (b'a', 7), (b'b', 8), (b'f', 12), (b'v', 11)],
    numbers: &[Hexadecimal, Short, Long, Octal],
    has_bytes: true,
    ..NONE
};

pub(super) const JAVA: Escapes = Escapes {
    letters: &[(b'n', 10), (b'r', 13), (b't', 9), (b'b', 8), (b'f', 12), (b's', 32)],
    numbers: &[Short, OctalByte],
    line_end: LineEnd::Joins,
    ..NONE
};

pub(super) const KOTLIN: Escapes =
    Escapes { letters: &[(b'n', 10), (b'r', 13), (b't', 9), (b'b', 8)], numbers: &[Short], ..NONE };

pub(super) const CSHARP: Escapes = Escapes {
    letters: &[
        (b'n', 10),
        (b'r', 13),
        (b't', 9),
        (b'a', 7),
        (b'b', 8),
        (b'e', 27),
        (b'f', 12),
        (b'v', 11),
        (b'0', 0),
    ],
    numbers: &[LongHexadecimal, Short, Long],
    ..NONE
};

pub(super) const RUST: Escapes = Escapes {
    letters: &[(b'n', 10), (b'r', 13), (b't', 9), (b'0', 0)],
    numbers: &[Hexadecimal, Braces],
    line_end: LineEnd::JoinsTrimmed,
    ..NONE
};

/// Rust byte strings.
pub(super) const RUST_BYTES: Escapes = Escapes { numbers: &[Hexadecimal], has_bytes: true, ..RUST };

pub(super) const ELIXIR: Escapes = Escapes {
    letters: &[
        (b'n', 10),
        (b'r', 13),
        (b't', 9),
        (b'a', 7),
        (b'b', 8),
        (b'd', 127),
        (b'e', 27),
        (b'f', 12),
        (b's', 32),
        (b'v', 11),
        (b'0', 0),
    ],
    numbers: &[Hexadecimal, Short, Braces],
    line_end: LineEnd::Joins,
    has_bytes: true,
    ..NONE
};

impl Escapes {
    /// Replaces the escape sequences in a text.
    pub(super) fn replaced(&self, text: &Text) -> Text {
        let has = |number| self.numbers.contains(&number);
        let mut result = Text::default();
        let mut index = 0;
        while let Some((byte, origin)) = text.get(index) {
            index += 1;
            if byte != b'\\' || text.hole(index - 1).is_some() {
                result.push(byte, origin);
                continue;
            }
            let Some((escape, _)) = text.get(index) else {
                result.push(byte, origin);
                break;
            };
            let digits = |from: usize, most: usize, radix: u32| {
                let digits = text.bytes.iter().skip(from).take(most);
                digits.take_while(|byte| char::from(**byte).is_digit(radix)).count()
            };
            let number = |from: usize, count: usize, radix: u32| {
                let digits = text.bytes.get(from..from + count)?;
                u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
            };
            let after = index + 1;
            let letter = self.letters.iter().find(|(letter, _)| *letter == escape);
            // Value, and the number of bytes after the backslash.
            let value = match escape {
                _ if letter.is_some() => letter.map(|(_, value)| (u32::from(*value), 1)),
                b'\n' if self.line_end != LineEnd::Unknown => {
                    index = after;
                    if self.line_end == LineEnd::JoinsTrimmed {
                        index +=
                            text.bytes.iter().skip(after).take_while(|b| b.is_ascii_whitespace()).count();
                    }
                    continue;
                }
                b'x' if has(Hexadecimal) || has(LongHexadecimal) => {
                    let count = digits(after, if has(Hexadecimal) { 2 } else { 4 }, 16);
                    number(after, count, 16).map(|value| (value, 1 + count))
                }
                b'u' if has(Braces) && text.bytes.get(after) == Some(&b'{') => {
                    if let Some(length) = characters(text, after + 1, origin, &mut result) {
                        index = after + 1 + length;
                        continue;
                    }
                    None
                }
                b'u' if has(Short) => number(after, 4, 16).map(|value| (value, 5)),
                b'U' if has(Long) => number(after, 8, 16).map(|value| (value, 9)),
                b'0'..=b'7' if has(Octal) => {
                    let count = digits(index, 3, 8);
                    number(index, count, 8).map(|value| (value, count))
                }
                b'0'..=b'7' if has(OctalByte) => {
                    let count = digits(index, if escape <= b'3' { 3 } else { 2 }, 8);
                    number(index, count, 8).map(|value| (value, count))
                }
                _ => None,
            };
            if let Some((value, length)) = value {
                if self.has_bytes && matches!(escape, b'x' | b'0'..=b'7') {
                    result.push(value.to_le_bytes()[0], origin);
                    index += length;
                    continue;
                }
                let character = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                result.push_str(character.encode_utf8(&mut [0; 4]), origin);
                index += length;
            } else {
                if self.keeps_unknown {
                    result.push(byte, origin);
                }
                // A second backslash does not begin another sequence.
                if let Some((byte, origin)) = text.get(index) {
                    result.push(byte, origin);
                }
                index = after;
            }
        }
        result
    }
}

/// Appends the characters of `\u{…}`; in Ruby, it may contain several numbers separated by spaces. Returns the length after the
/// opening brace.
fn characters(text: &Text, from: usize, origin: u32, result: &mut Text) -> Option<usize> {
    /// Maximum length of the numbers, in bytes.
    const MAX_LENGTH: usize = 200;
    let rest = text.bytes.get(from..)?;
    let end = rest.iter().take(MAX_LENGTH).position(|byte| *byte == b'}')?;
    let numbers = std::str::from_utf8(rest.get(..end)?).ok()?;
    let numbers = numbers.split_ascii_whitespace().map(|number| {
        // Rust allows `_`.
        u32::from_str_radix(&number.replace('_', ""), 16).ok().and_then(char::from_u32)
    });
    let characters: String = numbers.collect::<Option<_>>()?;
    result.append(Text::of(&characters, origin));
    Some(end + 1)
}
