//! Text of a literal, with the place in the file from which each byte comes.

use std::ops::Range;

/// Text and the offset in the file of each of its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    pub(super) origins: Vec<u32>,
}

impl Text {
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

    /// Returns a byte with its offset in the file.
    pub(super) fn get(&self, index: usize) -> Option<(u8, u32)> {
        Some((*self.bytes.get(index)?, *self.origins.get(index)?))
    }

    /// Appends a part of another text.
    fn push_part(&mut self, other: &Self, range: Range<usize>) {
        self.bytes.extend_from_slice(other.bytes.get(range.clone()).unwrap_or_default());
        self.origins.extend_from_slice(other.origins.get(range).unwrap_or_default());
    }

    /// Returns the lines with their line ends.
    fn lines(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.bytes.split_inclusive(|byte| *byte == b'\n').map(move |line| {
            let range = start..start + line.len();
            start = range.end;
            range
        })
    }

    fn of(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// Smallest indentation of the lines that are not blank.
    fn indentation(&self) -> usize {
        let lines = self.lines().map(|line| self.of(line)).filter(|line| !line.trim_ascii().is_empty());
        lines.map(indentation).min().unwrap_or_default()
    }

    /// Removes up to `width` bytes of white space at the beginning of each line.
    fn outdented(&self, width: usize) -> Self {
        let mut text = Self::default();
        for line in self.lines() {
            let removed = indentation(self.of(line.clone())).min(width);
            text.push_part(self, line.start + removed..line.end);
        }
        text
    }

    /// Removes the smallest indentation: `<<~` of Ruby, `textwrap.dedent` of Python.
    pub(super) fn dedented(&self) -> Self {
        self.outdented(self.indentation())
    }

    /// Removes the indentation of the last line, which is that of the closing mark, and that line; without `keeps_line_end` also
    /// the line end before it.
    pub(super) fn without_closing_indentation(&self, keeps_line_end: bool) -> Self {
        let last = self.lines().last().filter(|line| !self.of(line.clone()).ends_with(b"\n"));
        let width = last.as_ref().map_or(0, ExactSizeIterator::len);
        let mut text = Self::default();
        text.push_part(self, 0..self.bytes.len() - width);
        if !keeps_line_end && text.bytes.pop_if(|byte| *byte == b'\n').is_some() {
            text.origins.pop();
        }
        text.outdented(width)
    }

    /// Removes incidental white space of a text block (Java Language Specification 3.10.6): the smallest indentation, that of the
    /// closing mark included, and white space at the ends of lines.
    pub(super) fn without_incidental_space(&self) -> Self {
        let mut width = self.indentation();
        if let Some(last) = self.lines().last().filter(|line| self.of(line.clone()).trim_ascii().is_empty()) {
            width = width.min(indentation(self.of(last)));
        } else if self.bytes.ends_with(b"\n") {
            width = 0;
        }
        let outdented = self.outdented(width);
        let mut text = Self::default();
        for line in outdented.lines() {
            let content = outdented.of(line.clone());
            let kept = content.trim_ascii_end().len();
            text.push_part(&outdented, line.start..line.start + kept);
            if content.ends_with(b"\n") {
                text.push_part(&outdented, line.end - 1..line.end);
            }
        }
        text
    }

    /// Returns the text without a blank first and a blank last line, as `trimIndent` and `trimMargin` of Kotlin.
    fn without_blank_ends(&self) -> Self {
        let is_blank = |line: &Range<usize>| self.of(line.clone()).trim_ascii().is_empty();
        let start = self.lines().next().filter(is_blank).map_or(0, |line| line.end);
        // An empty last line is no range of its own.
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

    /// `trimIndent` of Kotlin.
    pub(super) fn trimmed_indent(&self) -> Self {
        self.dedented().without_blank_ends()
    }

    /// `trimMargin` of Kotlin.
    pub(super) fn trimmed_margin(&self) -> Self {
        let mut text = Self::default();
        for line in self.lines() {
            let content = self.of(line.clone());
            let margin = indentation(content);
            let removed = if content.get(margin) == Some(&b'|') { margin + 1 } else { 0 };
            text.push_part(self, line.start + removed..line.end);
        }
        text.without_blank_ends()
    }
}

fn indentation(line: &[u8]) -> usize {
    line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}
