//! Text of a literal, with the position of each byte in the file.

use std::ops::Range;

/// Text and the offset in the file of each of its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    /// Offsets. The highest bit marks a hole, which is a byte that stands for a value known only at run time.
    pub(super) origins: Vec<u32>,
}

/// Flag that marks an offset as a hole.
const HOLE: u32 = 1 << 31;

/// Byte of a hole: neither white space nor a significant character.
const HOLE_BYTE: u8 = 0xff;

impl Text {
    /// Maximum offset.
    pub(super) const MAX_OFFSET: u32 = HOLE - 1;

    /// Creates a text whose bytes all have the same offset.
    pub(super) fn of(text: &str, origin: u32) -> Self {
        Self { bytes: text.as_bytes().to_vec(), origins: vec![origin; text.len()] }
    }

    pub(super) fn push_hole(&mut self, origin: u32) {
        self.push(HOLE_BYTE, origin | HOLE);
    }

    /// Returns the offset of the hole at this index; `None` for an ordinary byte.
    pub(super) fn hole(&self, index: usize) -> Option<u32> {
        self.origins.get(index).filter(|origin| **origin & HOLE != 0).map(|origin| origin & Self::MAX_OFFSET)
    }

    pub(super) fn push(&mut self, byte: u8, origin: u32) {
        self.bytes.push(byte);
        self.origins.push(origin);
    }

    pub(super) fn push_str(&mut self, text: &str, origin: u32) {
        text.bytes().for_each(|byte| self.push(byte, origin));
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.bytes.append(&mut other.bytes);
        self.origins.append(&mut other.origins);
    }

    /// Returns the text as a string, the original bytes if they are not UTF-8, and the offset of each byte of the string.
    pub(super) fn into_string(self) -> (String, Option<Vec<u8>>, Vec<u32>) {
        let Self { bytes, origins } = self;
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => return (text, None, origins),
            Err(error) => error.into_bytes(),
        };
        let (mut text, mut places, mut at) = (String::new(), Vec::new(), 0);
        for chunk in bytes.utf8_chunks() {
            let end = at + chunk.valid().len();
            text.push_str(chunk.valid());
            places.extend_from_slice(origins.get(at..end).unwrap_or_default());
            at = end;
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                let place = origins.get(at).copied().unwrap_or_default();
                places.extend([place; char::REPLACEMENT_CHARACTER.len_utf8()]);
                at += chunk.invalid().len();
            }
        }
        (text, Some(bytes), places)
    }

    /// Returns a byte and its offset in the file.
    pub(super) fn get(&self, index: usize) -> Option<(u8, u32)> {
        Some((*self.bytes.get(index)?, *self.origins.get(index)?))
    }

    /// Appends a part of another text.
    fn push_part(&mut self, other: &Self, range: Range<usize>) {
        self.bytes.extend_from_slice(other.bytes.get(range.clone()).unwrap_or_default());
        self.origins.extend_from_slice(other.origins.get(range).unwrap_or_default());
    }

    /// Returns the ranges of the lines, including their line endings.
    fn lines(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.bytes.split_inclusive(|byte| *byte == b'\n').map(move |line| {
            let range = start..start + line.len();
            start = range.end;
            range
        })
    }

    fn part(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Smallest indentation of the non-blank lines, in bytes.
    fn indentation(&self) -> usize {
        let lines = self.lines().map(|line| self.part(line)).filter(|line| !line.trim_ascii().is_empty());
        lines.map(indentation).min().unwrap_or_default()
    }

    /// Removes up to `width` bytes of white space at the beginning of each line.
    fn outdented(&self, width: usize) -> Self {
        let mut text = Self::default();
        for line in self.lines() {
            let removed = indentation(self.part(line.clone())).min(width);
            text.push_part(self, line.start + removed..line.end);
        }
        text
    }

    /// Equivalent of Python's `textwrap.dedent`: removes the leading white space common to all lines. Blank lines are ignored and
    /// become empty.
    pub(super) fn dedented_lines(&self) -> Self {
        let is_blank = |line: &[u8]| line.trim_ascii().is_empty();
        let lines = self.lines().map(|line| self.part(line)).filter(|line| !is_blank(line));
        let margins = lines.map(|line| line.get(..indentation(line)).unwrap_or_default());
        let common = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let margin = margins.reduce(|a, b| a.get(..common(a, b)).unwrap_or_default()).unwrap_or_default();
        let mut text = Self::default();
        for line in self.lines() {
            let content = self.part(line.clone());
            let start = if is_blank(content) {
                content.len() - usize::from(content.ends_with(b"\n"))
            } else {
                margin.len()
            };
            text.push_part(self, line.start + start..line.end);
        }
        text
    }

    /// Removes the smallest indentation, like Ruby's `<<~`.
    pub(super) fn dedented(&self) -> Self {
        self.outdented(self.indentation())
    }

    /// Removes the last line, which consists of the indentation of the closing delimiter, and removes this indentation from the
    /// other lines. Unless `keeps_line_end`, the line ending before the last line is also removed.
    pub(super) fn without_closing_indentation(&self, keeps_line_end: bool) -> Self {
        let last = self.lines().last().filter(|line| !self.part(line.clone()).ends_with(b"\n"));
        let width = last.as_ref().map_or(0, ExactSizeIterator::len);
        let mut text = Self::default();
        text.push_part(self, 0..self.bytes.len() - width);
        if !keeps_line_end && text.bytes.pop_if(|byte| *byte == b'\n').is_some() {
            text.origins.pop();
        }
        text.outdented(width)
    }

    /// Removes incidental white space of a text block (Java Language Specification 3.10.6): the smallest indentation, including
    /// that of the closing delimiter, and trailing white space on each line.
    pub(super) fn without_incidental_space(&self) -> Self {
        let mut width = self.indentation();
        if let Some(last) = self.lines().last().filter(|line| self.part(line.clone()).trim_ascii().is_empty())
        {
            width = width.min(indentation(self.part(last)));
        } else if self.bytes.ends_with(b"\n") {
            width = 0;
        }
        let outdented = self.outdented(width);
        let mut text = Self::default();
        for line in outdented.lines() {
            let content = outdented.part(line.clone());
            let kept = content.trim_ascii_end().len();
            text.push_part(&outdented, line.start..line.start + kept);
            if content.ends_with(b"\n") {
                text.push_part(&outdented, line.end - 1..line.end);
            }
        }
        text
    }

    /// Removes white space at the start, at the end, or both.
    pub(super) fn trimmed(&self, at_start: bool, at_end: bool) -> Self {
        let start = if at_start { self.bytes.len() - self.bytes.trim_ascii_start().len() } else { 0 };
        let end = if at_end { self.bytes.trim_ascii_end().len() } else { self.bytes.len() };
        let mut text = Self::default();
        text.push_part(self, start..end.max(start));
        text
    }

    /// Removes a leading line ending.
    pub(super) fn without_first_line_end(mut self) -> Self {
        if self.bytes.starts_with(b"\n") {
            self.bytes.remove(0);
            self.origins.remove(0);
        }
        self
    }

    /// Removes a trailing line ending.
    pub(super) fn chomped(mut self) -> Self {
        if self.bytes.ends_with(b"\n") {
            self.bytes.pop();
            self.origins.pop();
        }
        self
    }

    /// Replaces the placeholders of `printf` and similar functions with holes: `%s`, `%-5.2d`, `%1$s`, `%[1]s`, `%(name)s`,
    /// `%{name}`.
    pub(super) fn with_percent_holes(&self) -> Self {
        let mut text = Self::default();
        let mut index = 0;
        while let Some((byte, origin)) = self.get(index) {
            index += 1;
            if byte != b'%' || self.hole(index - 1).is_some() {
                text.push(byte, origin);
                continue;
            }
            let rest = self.bytes.get(index..).unwrap_or_default();
            if rest.starts_with(b"%") {
                text.push(b'%', origin);
                index += 1;
            } else if let Some(length) = placeholder(rest) {
                text.push_hole(origin);
                index += length;
            } else {
                text.push(byte, origin);
            }
        }
        text
    }

    /// Replaces `{}`, `{0}` and `{name}` with the value that `known` returns for the name, or with a hole. `{{` is a literal
    /// brace.
    pub(super) fn with_brace_holes(&self, known: &mut dyn FnMut(&str) -> Option<Self>) -> Self {
        let mut text = Self::default();
        let mut index = 0;
        while let Some((byte, origin)) = self.get(index) {
            index += 1;
            let rest = self.bytes.get(index..).unwrap_or_default();
            let is_brace = matches!(byte, b'{' | b'}') && self.hole(index - 1).is_none();
            if is_brace && rest.first() == Some(&byte) {
                text.push(byte, origin);
                index += 1;
                continue;
            }
            let end =
                memchr::memchr2(b'}', b'\n', rest).filter(|at| byte == b'{' && rest.get(*at) == Some(&b'}'));
            let Some(end) = end else {
                text.push(byte, origin);
                continue;
            };
            let name = rest.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
            match known(name) {
                Some(value) => text.append(value),
                None => text.push_hole(origin),
            }
            index += end + 1;
        }
        text
    }

    /// Removes the first and the last line if they are blank, like Kotlin's `trimIndent` and `trimMargin`.
    fn without_blank_ends(&self) -> Self {
        let is_blank = |line: &Range<usize>| self.part(line.clone()).trim_ascii().is_empty();
        let start = self.lines().next().filter(is_blank).map_or(0, |line| line.end);
        // `lines` returns no range for an empty last line.
        let end = match self.lines().last() {
            Some(last) if self.bytes.ends_with(b"\n") => last.end - 1,
            Some(last) if is_blank(&last) => last.start.saturating_sub(1),
            Some(last) => last.end,
            None => 0,
        };
        let mut text = Self::default();
        text.push_part(self, start..end.max(start));
        text
    }

    /// Equivalent of Kotlin's `trimIndent`.
    pub(super) fn trimmed_indent(&self) -> Self {
        self.dedented().without_blank_ends()
    }

    /// Equivalent of Kotlin's `trimMargin`.
    pub(super) fn trimmed_margin(&self, prefix: &[u8]) -> Self {
        let mut text = Self::default();
        for line in self.lines() {
            let content = self.part(line.clone());
            let margin = indentation(content);
            let has_margin = content.get(margin..).is_some_and(|rest| rest.starts_with(prefix));
            let removed = if has_margin { margin + prefix.len() } else { 0 };
            text.push_part(self, line.start + removed..line.end);
        }
        text.without_blank_ends()
    }
}

fn indentation(line: &[u8]) -> usize {
    line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// Length of the placeholder after its `%`; `None` if there is no placeholder.
fn placeholder(text: &[u8]) -> Option<usize> {
    let group = |open: u8, close: u8| {
        text.first().filter(|first| **first == open)?;
        memchr::memchr2(close, b'\n', text).filter(|at| text.get(*at) == Some(&close)).map(|at| at + 1)
    };
    if let Some(length) = group(b'{', b'}') {
        return Some(length);
    }
    let mut length = group(b'(', b')').or_else(|| group(b'<', b'>')).unwrap_or_default();
    let mut skip = |set: &[u8]| {
        let rest = text.get(length..).unwrap_or_default();
        length += rest.iter().take_while(|byte| set.contains(byte)).count();
    };
    skip(b"[]0123456789$");
    skip(b"-+ #0,'");
    skip(b"[]0123456789*");
    skip(b".");
    skip(b"[]0123456789*");
    text.get(length).filter(|byte| byte.is_ascii_alphabetic()).map(|_| length + 1)
}
