//! First line of a script: `#!lua name=… flags=…`.

/// Flags of a script or function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flags {
    /// `no-writes` is set.
    NoWrites,
    /// `no-writes` is not set.
    Others,
}

/// Type of a source, according to its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// Script without a `#!` line.
    None,
    /// Script for EVAL with a `#!` line.
    Script(Flags),
    /// Function library.
    Library,
}

impl Header {
    /// Parses the first line, and returns the source without it, as servers compile it; line numbers do not change. Skips a byte order
    /// mark, which servers reject.
    pub(crate) fn parse(source: &str) -> (Self, &str) {
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

/// True if the first line names the engine `lua`.
pub(crate) fn names_lua(source: &str) -> bool {
    let engine = source.trim_start_matches('\u{feff}').get(..5);
    engine.is_some_and(|engine| engine.eq_ignore_ascii_case("#!lua"))
}

/// Flags of scripts: those of Redis 7.0 and Valkey, then those of Upstash and Dragonfly.
const FLAGS: [&str; 8] = [
    "no-writes",
    "allow-oom",
    "allow-stale",
    "no-cluster",
    "allow-cross-slot-keys",
    "allow-key-locking",
    "disable-atomicity",
    "allow-undeclared-keys",
];

/// True if a server accepts a flag, or a template inserts it. Servers compare the flags of functions case-sensitively.
pub(crate) fn is_flag(flag: &str) -> bool {
    FLAGS.contains(&flag) || is_placeholder(flag)
}

/// True if a word looks like a template placeholder: `%s`, `${flags}`, `{{flags}}`, `<%= flags %>`.
fn is_placeholder(word: &str) -> bool {
    word.contains(['%', '$', '{', '}', '<', '>'])
}

/// Reason why servers reject the first line (measured on Redis 7.0.15: `evalExtractShebangFlags` and `functionExtractLibMetaData`).
pub(crate) fn problem(source: &str) -> Option<String> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source).strip_prefix("#!")?;
    let Some((line, _)) = source.split_once('\n') else {
        return Some("nothing follows the #! line".to_owned());
    };
    let mut words = line.split_ascii_whitespace();
    let engine = words.next().filter(|_| !line.starts_with([' ', '\t'])).unwrap_or_default();
    let is_library = words.clone().any(|word| word.starts_with("name="));
    // FUNCTION LOAD ignores the case of the engine name; SCRIPT LOAD does not.
    if engine != "lua" && !(is_library && engine.eq_ignore_ascii_case("lua")) {
        return Some(format!("unknown engine `{engine}`; the only one is lua"));
    }
    for word in words {
        let word = word.trim_matches(['"', '\'']);
        match word.strip_prefix("flags=") {
            _ if is_library && word.starts_with("name=") => {}
            Some(flags) if !is_library => {
                let mut flags = flags.split(',').filter(|_| !flags.is_empty());
                if let Some(flag) = flags.find(|flag| !is_flag(flag.trim_matches(['"', '\'']))) {
                    return Some(format!("unknown flag `{flag}`"));
                }
            }
            _ if is_placeholder(word) => {}
            _ => return Some(format!("unknown option `{word}`")),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_removed() {
        for (source, expected) in [
            ("return 1", (Header::None, "return 1")),
            ("#!lua\nreturn 1", (Header::Script(Flags::Others), "\nreturn 1")),
            ("#!lua flags=allow-stale,no-writes\nx", (Header::Script(Flags::NoWrites), "\nx")),
            ("#!lua name=l\nx", (Header::Library, "\nx")),
            ("\u{feff}#!lua", (Header::Script(Flags::Others), "")),
        ] {
            assert_eq!(Header::parse(source), expected, "{source}");
        }
    }

    /// Replies of Redis 7.0.15 to SCRIPT LOAD and FUNCTION LOAD.
    #[test]
    fn lines_that_servers_reject_have_a_problem() {
        for (line, part) in [
            ("#!lua", None),
            ("#!lua flags=", None),
            ("#!lua flags=no-writes,allow-cross-slot-keys", None),
            ("#!lua flags=no-writes\r", None),
            ("#!lua flags=\"no-writes\"", None),
            ("#!lua flags=allow-key-locking", None),
            ("#!lua name=library", None),
            ("#!LUA name=library", None),
            ("return '#!lua flags=x'", None),
            ("#!lua flags=%s", None),
            ("#!lua flags=${flags} {{more}}", None),
            ("-- #!/usr/bin/lua", None),
            ("#!lua flags=nowrites", Some("`nowrites`")),
            ("#!lua flags=no-writes, allow-oom", Some("``")),
            ("#!lua flags=no-writes,", Some("``")),
            ("#!lua flag=no-writes", Some("`flag=no-writes`")),
            ("#!lua no-writes", Some("`no-writes`")),
            ("#!LUA", Some("`LUA`")),
            ("#! lua", Some("``")),
            ("#!/usr/bin/env lua", Some("`/usr/bin/env`")),
            ("#!/usr/bin/lua name=library", Some("`/usr/bin/lua`")),
            ("#!lua name=library flags=no-writes", Some("`flags=no-writes`")),
            ("#!lua name=library version=1", Some("`version=1`")),
        ] {
            let problem = problem(&format!("{line}\nreturn 1"));
            assert_eq!(problem.is_some(), part.is_some(), "{line}: {problem:?}");
            assert!(part.is_none_or(|part| problem.is_some_and(|problem| problem.contains(part))), "{line}");
        }
    }
}
