//! Lua in the string literals of other languages.
//!
//! A file is parsed with the tree-sitter grammar of its language to find the literals, which `language.rs` and `escapes.rs` decode.
//! No code is executed: only joined literals, constants of the same file, and the calls in `calls.rs` are evaluated.

mod calls;
mod escapes;
mod evaluate;
mod language;
#[cfg(test)]
mod tests;
mod text;
mod walk;

use std::collections::HashSet;
use std::ops::Range;

use crate::lua::Position;

/// Words that indicate Lua. A script contains at least one of them.
const LUA_WORDS: [&str; 7] =
    ["redis.call", "redis.pcall", "server.call", "server.pcall", "KEYS[", "ARGV[", "#!lua"];

/// Maximum size of a file in another language, in bytes. The syntax tree takes up to 250 times as much memory as the file, and 50
/// times for real files.
pub(crate) const MAX_SIZE: u64 = 512 << 10;

/// Maximum size of a Lua file, in bytes. Servers accept larger scripts, but real scripts are smaller.
pub(crate) const MAX_LUA_SIZE: u64 = 1 << 20;

/// Maximum number of scripts in a file; the rest is ignored.
const MAX_SCRIPTS: usize = 1000;

/// Lua script in a literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmbeddedScript {
    /// Name of the variable, property or function that contains the script, or otherwise the number of its first line. Unique
    /// within the file.
    pub(crate) name: String,
    /// Position of the literal in the file.
    pub(crate) position: Position,
    /// Script as written in the program, with `${name}` for each value known only at run time.
    pub(crate) body: String,
    /// Script as sent by the program, if it is not UTF-8.
    binary: Option<Vec<u8>>,
    /// Ranges in the body of the values known only at run time.
    holes: Vec<Range<usize>>,
    /// Offset in the file of each byte of the body.
    origins: Vec<u32>,
}

/// Error: the file takes too long to parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("takes too long to parse")]
pub(crate) struct TooComplex;

/// True if a file with this extension may contain Lua in literals.
#[must_use]
pub(crate) fn is_known(extension: &str) -> bool {
    language::is_known(extension)
}

/// Returns the scripts in a file, in order of position; none for an unknown extension. The parser stops when `is_late` returns
/// true, because code with many errors can take minutes to parse.
///
/// # Errors
/// The parser was stopped.
pub(crate) fn scripts(
    extension: &str,
    source: &str,
    is_late: &mut dyn FnMut() -> bool,
) -> Result<Vec<EmbeddedScript>, TooComplex> {
    // Parsing takes a hundred times as long as this check.
    if !has_lua(source.as_bytes()) {
        return Ok(Vec::new());
    }
    let Some((family, grammar)) = language::by_extension(extension) else { return Ok(Vec::new()) };
    let tree = walk::parse(&grammar, source, is_late).ok_or(TooComplex)?;
    let mut found = walk::texts(family, &tree, source, has_lua);
    found.sort_by_key(|found| found.start);
    let lines = Lines::new(source);
    let mut names = HashSet::new();
    let scripts = found.into_iter().take(MAX_SCRIPTS).filter_map(|found| {
        let position = lines.position(source, found.start);
        let (body, binary, origins) = found.text.into_string();
        if !is_lua(&body) {
            return None;
        }
        let mut name = found.name;
        if name.is_empty() {
            name = position.line.to_string();
        }
        if !names.insert(name.clone()) {
            name = format!("{name}:{}", position.line);
            names.insert(name.clone());
        }
        Some(EmbeddedScript { name, position, body, binary, holes: found.holes, origins })
    });
    Ok(scripts.collect())
}

/// True if a source may contain scripts.
pub(crate) fn has_lua(text: &[u8]) -> bool {
    LUA_WORDS.iter().any(|word| memchr::memmem::find(text, word.as_bytes()).is_some())
}

fn is_lua(body: &str) -> bool {
    LUA_WORDS.iter().any(|word| match *word {
        "#!lua" => body.starts_with(word),
        word => contains(body, word),
    })
}

/// True if a text contains this word of [`LUA_WORDS`] as a whole word, and not only a longer word such as `redis.caller`.
fn contains(text: &str, word: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        word.ends_with('[') || !text.get(at + word.len()..).is_some_and(|rest| rest.starts_with(is_letter))
    })
}

impl EmbeddedScript {
    /// True if parts of the script are known only at run time, so that the server receives a different script.
    #[must_use]
    pub(crate) fn is_template(&self) -> bool {
        !self.holes.is_empty()
    }

    /// Script as sent by the program.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.binary.as_deref().unwrap_or(self.body.as_bytes())
    }

    /// Fixed parts of a template around its values. Their number is one more than the number of values.
    pub(crate) fn fixed_parts(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.holes.iter().map(|hole| hole.end));
        let ends = self.holes.iter().map(|hole| hole.start).chain([self.bytes().len()]);
        starts.zip(ends).map(|(start, end)| self.bytes().get(start..end).unwrap_or_default())
    }

    /// Returns a function that maps positions in the body to positions in the file. A position past the end is mapped to the end.
    pub(crate) fn positions<'a>(&'a self, source: &'a str) -> impl Fn(Position) -> Position + 'a {
        let (body, file) = (Lines::new(&self.body), Lines::new(source));
        move |position| {
            let offset = body.offset(&self.body, position);
            let origin =
                self.origins.get(offset).or_else(|| self.origins.last()).copied().unwrap_or_default();
            file.position(source, usize::try_from(origin).unwrap_or(usize::MAX))
        }
    }
}

/// Offsets of the lines of a text.
#[derive(Debug)]
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self(std::iter::once(0).chain(ends).collect())
    }

    fn position(&self, text: &str, offset: usize) -> Position {
        let line = self.0.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.0.get(index)).copied().unwrap_or_default();
        let column = text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Position { line, column }
    }

    fn offset(&self, text: &str, position: Position) -> usize {
        let start = position.line.checked_sub(1).and_then(|index| self.0.get(index)).copied();
        let start = start.unwrap_or(text.len());
        let rest = text.get(start..).unwrap_or_default();
        let before = rest.char_indices().nth(position.column.saturating_sub(1));
        start + before.map_or(rest.len(), |(at, _)| at)
    }
}
