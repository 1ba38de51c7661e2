//! Lines of a server's log as written by container runtimes, which may split a line into several.
//!
//! - CRI (containerd, CRI-O): `2026-11-26T08:28:34.755123456Z stdout P text`. The tag is `P` if more parts of the line follow,
//!   otherwise `F`; further tags may follow after a colon.
//! - Docker's JSON files: `{"log":"text\n","stream":"stdout","time":"…"}`. The text has no `\n` if more parts of the line follow.
//!
//! All other formats (plain, syslog, journal export and JSON, Compose output) do not split lines.

use std::borrow::Cow;

use serde::Deserialize;

use super::log_line::{SlowScriptLine, slow_script_line};

/// Maximum length of a joined line, bytes; the rest is ignored.
const MAX_JOINED: usize = 4 << 10;

/// Joins the parts of split lines, separately for each of the two streams of a container.
#[derive(Debug, Default)]
pub(crate) struct LogParts {
    stdout: String,
    stderr: String,
}

/// Part of a line of a server's log.
struct Part<'a> {
    is_stderr: bool,
    text: Cow<'a, str>,
    /// True for the only or the last part of a line.
    is_last: bool,
}

impl LogParts {
    /// True if no incomplete line is waiting for its next part.
    pub(crate) fn is_empty(&self) -> bool {
        self.stdout.is_empty() && self.stderr.is_empty()
    }

    /// Parses a line of the file; returns `None` for lines that do not name a script, and for all parts of a line except the last.
    pub(crate) fn slow_script_line(&mut self, line: &str) -> Option<SlowScriptLine> {
        let Some(part) = Part::from_cri(line).or_else(|| Part::from_docker(line)) else {
            return slow_script_line(line);
        };
        let begun = if part.is_stderr { &mut self.stderr } else { &mut self.stdout };
        begun.extend(part.text.chars().take(MAX_JOINED.saturating_sub(begun.len())));
        if !part.is_last {
            return None;
        }
        let named = slow_script_line(begun);
        begun.clear();
        named
    }
}

impl<'a> Part<'a> {
    fn from_cri(line: &'a str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let (time, stream, tags) = (words.next()?, words.next()?, words.next()?);
        let is_time = time.starts_with(|c: char| c.is_ascii_digit()) && time.contains('T');
        let is_last = match tags.split(':').next()? {
            "F" => true,
            "P" => false,
            _ => return None,
        };
        let is_stderr = match stream {
            "stdout" => false,
            "stderr" => true,
            _ => return None,
        };
        is_time.then(|| Self { is_stderr, text: words.next().unwrap_or_default().into(), is_last })
    }

    fn from_docker(line: &'a str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(borrow)]
            log: Cow<'a, str>,
            stream: Cow<'a, str>,
        }
        // Cheaper than trying to parse each line of another format.
        line.starts_with("{\"log\":").then_some(())?;
        let Line { log, stream } = serde_json::from_str(line).ok()?;
        Some(Self { is_stderr: stream == "stderr", is_last: log.ends_with('\n'), text: log })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA1: &str = "048edf432df3dcd1939da5d0151cbb7f9501034a";

    /// A complete line of a server's log.
    const TEXT: &str = "1:M 26 Nov 2026 08:28:34.755 # Slow script detected: still in execution after 5000 milliseconds. You can \
                        try killing the script using the SCRIPT KILL command. Script name is: \
                        048edf432df3dcd1939da5d0151cbb7f9501034a.";

    fn names(lines: &[String]) -> Vec<String> {
        let mut parts = LogParts::default();
        lines.iter().filter_map(|line| parts.slow_script_line(line)).map(|line| line.name).collect()
    }

    /// Line of a Docker JSON file.
    fn docker(text: &str, stream: &str) -> String {
        format!(
            "{{\"log\":{},\"stream\":\"{stream}\",\"time\":\"2026-11-26T08:28:34.755123456Z\"}}",
            serde_json::to_string(text).unwrap()
        )
    }

    fn cri(stream: &str, tag: &str, text: &str) -> String {
        format!("2026-11-26T08:28:34.755123456Z {stream} {tag} {text}")
    }

    #[test]
    fn every_form_of_a_log_names_the_script() {
        for line in [
            TEXT.to_owned(),
            docker(&format!("{TEXT}\n"), "stdout"),
            format!(
                "{{\"log\":\"{TEXT}\\n\",\"stream\":\"stdout\",\"attrs\":{{\"app\":\"shop\"}},\"time\":\"2026-11-26T08:28:34.755Z\"}}"
            ),
            cri("stdout", "F", TEXT),
            format!("2026-11-26T10:28:34.755123456+02:00 stderr F {TEXT}"),
            format!("Nov 26 08:28:34 db-1 redis-server[812]: {TEXT}"),
            format!("<28>1 2026-11-26T08:28:34.755Z db-1 redis 812 - - {TEXT}"),
            format!("MESSAGE={TEXT}"),
            format!("{{\"_PID\":\"812\",\"MESSAGE\":\"{TEXT}\",\"PRIORITY\":\"4\"}}"),
            format!("redis-1  | {TEXT}"),
            format!("\u{1b}[36mredis-1  | \u{1b}[0m{TEXT}"),
            format!("{{\"log\":\"{TEXT} cut"),
        ] {
            assert_eq!(names(std::slice::from_ref(&line)), [SHA1], "{line}");
        }
    }

    #[test]
    fn parts_of_a_line_are_joined_for_each_stream() {
        for at in [10, 80, 150, TEXT.len() - 20] {
            let (begin, end) = TEXT.split_at(at);
            let (middle, end) = end.split_at(7);
            for lines in [
                vec![
                    cri("stdout", "P", begin),
                    cri("stderr", "P", "another"),
                    cri("stdout", "P:x", middle),
                    cri("stderr", "F", "line"),
                    cri("stdout", "F", end),
                    cri("stdout", "F", "next"),
                ],
                vec![
                    docker(begin, "stdout"),
                    docker("another\n", "stderr"),
                    docker(middle, "stdout"),
                    docker(&format!("{end}\n"), "stdout"),
                    docker("next\n", "stdout"),
                ],
            ] {
                assert_eq!(names(&lines), [SHA1], "split at {at}");
            }
        }
        assert_eq!(
            names(&[cri("stdout", "P", "x"), cri("stdout", "F", "y"), cri("stdout", "F", TEXT)]),
            [SHA1]
        );
    }

    #[test]
    fn parts_without_an_end_take_little_memory() {
        let mut parts = LogParts::default();
        for _ in 0..1000 {
            assert_eq!(parts.slow_script_line(&cri("stdout", "P", &"é".repeat(2000))), None);
            assert_eq!(parts.slow_script_line(&docker(&"é".repeat(2000), "stderr")), None);
        }
        assert!(parts.stdout.capacity() <= 4 * MAX_JOINED && parts.stderr.capacity() <= 4 * MAX_JOINED);
    }

    proptest! {
        #[test]
        fn any_lines_are_parsed_or_ignored(lines in prop::collection::vec("(\\{\"log\":\"|2026T stdout [PF] |\\PC|\"|\\}){0,9}", 0..9)) {
            names(&lines);
        }
    }
}
