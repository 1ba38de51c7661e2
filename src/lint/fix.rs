//! Corrections of reported code that change nothing else.

use crate::lint::analysis::limits::Limits;
use crate::lint::linter;
use crate::lint::rule::Origin;
use crate::lint::source::header::{Flags, Header};
use crate::lua::Position;

/// Mark that some editors write at the beginning of a file. Servers reject it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns the corrected source, or `None` if there is nothing to correct. Removes a byte order mark, and adds the flag `no-writes` to
/// the `#!` line of a script that only reads.
pub(crate) fn fixed(source: &str) -> Option<String> {
    // Bytes that are not UTF-8 were replaced, so the file can't be written back.
    if source.contains(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    let body = source.strip_prefix(BYTE_ORDER_MARK).unwrap_or(source);
    let with_flag = lacks_no_writes(body).then(|| with_no_writes(body)).flatten();
    with_flag.or_else(|| (body.len() < source.len()).then(|| body.to_owned()))
}

/// True if a script with a `#!` line only reads, but lacks the flag `no-writes`.
fn lacks_no_writes(source: &str) -> bool {
    matches!(Header::parse(source), (Header::Script(Flags::Others), _))
        && linter::in_thread(|| linter::check(source, Origin::File, &Limits::default(), &[])).is_some_and(
            |(diagnostics, _)| {
                diagnostics.iter().any(|diagnostic| {
                    diagnostic.rule.name == "missing-no-writes" && diagnostic.position == Position::START
                }) && !diagnostics.iter().any(|diagnostic| diagnostic.rule.name == "invalid-shebang")
            },
        )
}

/// Adds the flag `no-writes` to the first line.
fn with_no_writes(source: &str) -> Option<String> {
    let end = source.find(['\r', '\n']).unwrap_or(source.len());
    let (line, rest) = source.split_at_checked(end)?;
    let line = match line.split_once("flags=") {
        // Quoted flags are not corrected.
        Some((_, flags)) if flags.contains(['"', '\'']) => return None,
        Some((before, flags)) => {
            let (flags, after) = flags.split_at_checked(flags.find([' ', '\t']).unwrap_or(flags.len()))?;
            let separator = if flags.is_empty() { "" } else { "," };
            format!("{before}flags={flags}{separator}no-writes{after}")
        }
        None => format!("{} flags=no-writes", line.trim_end()),
    };
    Some(line + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_safe_is_corrected() {
        for (source, expected) in [
            (
                "#!lua\nreturn redis.call('GET', KEYS[1])",
                "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])",
            ),
            (
                "#!lua \r\nreturn redis.call('GET', 'a')\r\n",
                "#!lua flags=no-writes\r\nreturn redis.call('GET', 'a')\r\n",
            ),
            (
                "#!lua flags=allow-stale\nreturn redis.call('GET', 'a')",
                "#!lua flags=allow-stale,no-writes\nreturn redis.call('GET', 'a')",
            ),
            (
                "#!lua flags=\nreturn redis.call('GET', 'a')",
                "#!lua flags=no-writes\nreturn redis.call('GET', 'a')",
            ),
            ("\u{feff}return redis.call('SET', 'a', 1)", "return redis.call('SET', 'a', 1)"),
            (
                "\u{feff}#!lua\nreturn redis.call('GET', 'a')",
                "#!lua flags=no-writes\nreturn redis.call('GET', 'a')",
            ),
        ] {
            let fixed = fixed(source);
            assert_eq!(fixed.as_deref(), Some(expected));
            assert_eq!(super::fixed(expected), None, "{expected}");
        }
    }

    #[test]
    fn nothing_else_is_changed() {
        for source in [
            "return redis.call('GET', KEYS[1])",
            "#!lua\nreturn redis.call('SET', KEYS[1], 1)",
            "#!lua\nreturn redis.call(ARGV[1], KEYS[1])",
            "#!lua\nreturn redis.call('PUBLISH', 'a', 'b')",
            "#!lua flags=no-writes\nreturn redis.call('GET', 'a')",
            "#!lua flags=nowrites\nreturn redis.call('GET', 'a')",
            "#!lua\n-- redis-script-lint: allow-file(missing-no-writes)\nreturn redis.call('GET', 'a')",
            "#!lua\nreturn redis.call('GET', 'a'",
            "#!lua name=l\nredis.register_function('f', function(k) return redis.call('GET', k[1]) end)",
            "\u{feff}return '\u{fffd}'",
            "",
        ] {
            assert_eq!(fixed(source), None, "{source}");
        }
    }
}
