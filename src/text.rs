//! Text from servers, files and the network, made safe to show: bounded, and without characters that can't be seen.

use std::fmt;

/// Characters that change how other text is shown, or that take no room: controls (C0, C1), marks that change the direction
/// of writing, zero-width characters, fillers, tags and variation selectors.
#[must_use]
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Bytes that a hidden character takes at most when it is escaped (`\u{e0001}`, or a pair of `\ud800` in JSON).
const ESCAPED: usize = 12;

/// A buffer for text that is cut as soon as it would take more than `limit` bytes when it is shown. Writing to it fails from
/// then on, so that formatting a long value ends early.
#[derive(Debug)]
pub(crate) struct Bounded {
    text: String,
    /// Bytes that are left.
    room: usize,
    is_cut: bool,
}

impl Bounded {
    /// Mark at the end of a text that was cut.
    const MARK: char = '…';

    /// An empty buffer.
    pub(crate) fn new(limit: usize) -> Self {
        Self { text: String::new(), room: limit, is_cut: false }
    }

    /// The text, with a mark if it was cut.
    pub(crate) fn finish(mut self) -> String {
        if self.is_cut {
            self.text.push(Self::MARK);
        }
        self.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let size = match c {
                '"' | '\\' => 2,
                c if is_hidden(c) => ESCAPED,
                c => c.len_utf8(),
            };
            match self.room.checked_sub(size) {
                Some(room) if !self.is_cut => self.room = room,
                _ => {
                    self.is_cut = true;
                    return Err(fmt::Error);
                }
            }
            self.text.push(c);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn bounded(limit: usize, pieces: &[&str]) -> String {
        let mut buffer = Bounded::new(limit);
        for piece in pieces {
            let _ = buffer.write_str(piece);
        }
        buffer.finish()
    }

    #[test]
    fn text_is_cut_between_characters_and_marked() {
        for (limit, pieces, expected) in [
            (4, &["abcd"][..], "abcd"),
            (4, &["abcde"], "abcd…"),
            (4, &["ab", "cde", "f"], "abcd…"),
            (4, &["abcé"], "abc…"),
            (4, &["\"\\\""], "\"\\…"),
            (12, &["\u{1b}a"], "\u{1b}…"),
            (4, &[], ""),
        ] {
            assert_eq!(bounded(limit, pieces), expected);
        }
    }

    #[test]
    fn formatting_ends_where_the_text_is_cut() {
        let mut buffer = Bounded::new(10);
        assert!(write!(buffer, "{}", "x".repeat(1 << 20)).is_err());
        assert!(write!(buffer, "y").is_err(), "nothing follows what was cut");
        assert_eq!(buffer.finish(), "xxxxxxxxxx…");
    }

    #[test]
    fn letters_are_shown_and_hidden_characters_are_not() {
        for c in
            ['\0', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{e0041}']
        {
            assert!(is_hidden(c), "{c:?}");
        }
        for c in ['a', ' ', 'é', '日', '😀', '\u{fffd}', '…'] {
            assert!(!is_hidden(c), "{c:?}");
        }
    }
}
