//! Line of a server's log that names a script that exceeds the time limit.
//!
//! - Redis 7.0.15, Valkey 9.1.2: `Slow script detected: still in execution after 1013 milliseconds. You can try killing the script
//!   using the SCRIPT KILL command. Script name is: 479664e8….`; for FCALL, the name of the function.
//! - Redis 6.2.14: `Lua slow script detected: … Script SHA1 is: 479664e8…`.
//!
//! The rest of the line (process id, time, level; plain or logfmt) is ignored.

use std::time::Duration;

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlowScriptLine {
    /// SHA1 (EVAL and EVALSHA) or function name (FCALL).
    pub(crate) name: String,
    /// Time from the start of the call to the log line.
    pub(crate) running_for: Duration,
}

/// Parses a line; returns `None` for all other lines.
#[must_use]
pub(crate) fn slow_script_line(line: &str) -> Option<SlowScriptLine> {
    let (_, rest) = line.split_once("low script detected: still in execution after ")?;
    let (milliseconds, rest) = rest.split_once(" milliseconds")?;
    let running_for = Duration::from_millis(milliseconds.parse().ok()?);
    let (_, name) = rest.split_once("Script name is: ").or_else(|| rest.split_once("Script SHA1 is: "))?;
    let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(SlowScriptLine { name, running_for })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn captured_lines_name_the_script() {
        let sha = "048edf432df3dcd1939da5d0151cbb7f9501034a";
        for (line, name, ms) in [
            (format!("5175:M 23 Nov 2026 08:28:34.755 # Lua slow script detected: still in execution after 1002 milliseconds. You can try killing the script using the SCRIPT KILL command. Script SHA1 is: {sha}"), sha, 1002),
            (format!("5181:M 23 Nov 2026 08:28:37.268 # Slow script detected: still in execution after 1013 milliseconds. You can try killing the script using the SCRIPT KILL command. Script name is: {sha}."), sha, 1013),
            ("7:M 23 Nov 2026 08:28:37.268 # Slow script detected: still in execution after 5001 milliseconds. You can try killing the script using the FUNCTION KILL command. Script name is: slow_fn.".to_owned(), "slow_fn", 5001),
            (format!("pid=8 role=primary timestamp=\"23 Nov 2026 08:28:37.268\" level=warning message=\"Slow script detected: still in execution after 1000 milliseconds. You can try killing the script using the SCRIPT KILL command. Script name is: {sha}.\""), sha, 1000),
        ] {
            let expected = SlowScriptLine { name: name.to_owned(), running_for: Duration::from_millis(ms) };
            assert_eq!(slow_script_line(&line), Some(expected), "{line}");
        }
        assert_eq!(slow_script_line("1:M 23 Nov 2026 08:28:37.268 * DB saved on disk"), None);
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_or_ignored(line in ".*", tail in ".*") {
            let _ = slow_script_line(&line);
            let _ = slow_script_line(&format!("slow script detected: still in execution after {line} milliseconds{tail}Script name is: {line}"));
        }
    }
}
