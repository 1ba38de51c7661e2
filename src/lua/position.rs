//! Positions in a source.

/// Line and column of a character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
}

impl Position {
    /// First character of a source.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

impl From<full_moon::tokenizer::Position> for Position {
    fn from(position: full_moon::tokenizer::Position) -> Self {
        Self { line: position.line(), column: position.character() }
    }
}
