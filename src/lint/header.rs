//! The first line of a script: `#!lua name=… flags=…`.

/// What the flags promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flags {
    /// `no-writes` is among them.
    NoWrites,
    /// It is not.
    Others,
}

/// What the first line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// It is Lua already.
    None,
    /// A script for EVAL.
    Script(Flags),
    /// A function library.
    Library,
}

impl Header {
    /// Reads the first line, and gives the source without it: servers take it off too. Line numbers stay.
    pub(super) fn read(source: &str) -> (Self, &str) {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        if !source.starts_with("#!") {
            return (Self::None, source);
        }
        let (line, rest) =
            source.split_at_checked(source.find('\n').unwrap_or(source.len())).unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        if words.clone().any(|word| word.starts_with("name=")) {
            return (Self::Library, rest);
        }
        let flags = words.find_map(|word| word.strip_prefix("flags=")).unwrap_or_default();
        let no_writes = flags.split(',').any(|flag| flag == "no-writes");
        (Self::Script(if no_writes { Flags::NoWrites } else { Flags::Others }), rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_taken_off() {
        for (source, expected) in [
            ("return 1", (Header::None, "return 1")),
            ("#!lua\nreturn 1", (Header::Script(Flags::Others), "\nreturn 1")),
            ("#!lua flags=allow-stale,no-writes\nx", (Header::Script(Flags::NoWrites), "\nx")),
            ("#!lua name=l\nx", (Header::Library, "\nx")),
            ("\u{feff}#!lua", (Header::Script(Flags::Others), "")),
        ] {
            assert_eq!(Header::read(source), expected, "{source}");
        }
    }
}
