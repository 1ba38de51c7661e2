//! Scripts mentioned in a text, such as a slow log, a log file, a web page or a report.

use std::collections::HashSet;

use memchr::{memchr, memmem};

use super::recorded::unquote;
use crate::script::{Call, Identity, Origin};

/// Maximum number of mentions.
const MAX_MENTIONS: usize = 10_000;

/// Number of SHA1 digits in the label `script`.
const LABEL_DIGITS: usize = 12;

/// Length to which the slow log truncates an argument, bytes.
const MAX_ARGUMENT: usize = 128;

/// Maximum length of the suffix of a truncated argument, `... (123 more bytes)`.
const MAX_MARK: usize = 40;

/// A mention of a script.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Mention {
    /// A complete SHA1, or a body.
    Script(Identity),
    /// The first digits of a SHA1, or other text of this form.
    Digits(String),
    /// A string that may be a body or any other argument.
    Argument(Identity),
}

/// Returns the scripts mentioned in a text, without duplicates: SHA1s of 40 digits, labels of 12 digits (with `~` for truncated
/// bodies), and EVAL bodies in the output of `redis-cli`, which must be quoted unless they are truncated.
#[must_use]
pub(crate) fn mentioned_scripts(text: &[u8]) -> Vec<Mention> {
    let (mut mentions, mut seen) = (Vec::new(), HashSet::new());
    let mut add = |mention: Option<Mention>| {
        if let Some(mention) = mention
            && mentions.len() < MAX_MENTIONS
            && seen.insert(mention.clone())
        {
            mentions.push(mention);
        }
    };
    for line in text.split(|byte| *byte == b'\n') {
        let mut before = None;
        for word in line.chunk_by(|a, b| is_word(*a) == is_word(*b)) {
            add(of_word(word, before));
            before = word.last().copied();
        }
        let mut rest = line;
        while let Some(quoted) = memchr(b'"', rest).and_then(|at| rest.get(at + 1..)) {
            let Some((argument, after)) = unquote(quoted) else { break };
            add(of_argument(argument));
            rest = after;
        }
    }
    // Without quotes, as in `redis-cli` output to a pipe, only the end of a truncated body can be recognized.
    for at in memmem::find_iter(text, b"... (") {
        let begin = at.checked_sub(MAX_ARGUMENT);
        let rest = text.get(at..).unwrap_or_default();
        let end = memchr(b')', rest.get(..MAX_MARK.min(rest.len())).unwrap_or_default());
        let is_quoted = end.is_some_and(|end| text.get(at + end + 1) == Some(&b'"'));
        if !is_quoted
            && let Some(argument) = begin.zip(end).and_then(|(begin, end)| text.get(begin..=at + end))
        {
            let call = Call::from_arguments(&[b"EVAL".to_vec(), argument.to_vec()]);
            add(call.filter(|call| call.script.sha1.is_none()).map(|call| Mention::Argument(call.script)));
        }
    }
    mentions
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn of_word(word: &[u8], before: Option<u8>) -> Option<Mention> {
    // Error messages contain the name of a script's Lua function, f_SHA1.
    let word = word.strip_prefix(b"f_").unwrap_or(word);
    if let Some(script) = Identity::from_sha1(word, Origin::Server) {
        return Some(Mention::Script(script));
    }
    let digits = std::str::from_utf8(word).ok()?;
    let is_label = digits.len() == LABEL_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = is_label.then(|| digits.to_ascii_lowercase())?;
    Some(Mention::Digits(if before == Some(b'~') { format!("~{digits}") } else { digits }))
}

fn of_argument(argument: Vec<u8>) -> Option<Mention> {
    const CALLS: [&[u8]; 6] =
        [b"redis.call", b"redis.pcall", b"server.call", b"server.pcall", b"KEYS[", b"ARGV["];
    let is_script = CALLS.iter().any(|call| memmem::find(&argument, call).is_some());
    let is_cut = argument.ends_with(b" more bytes)");
    if !is_script && !is_cut {
        return None;
    }
    let script = Call::from_arguments(&[b"EVAL".to_vec(), argument])?.script;
    Some(if is_script { Mention::Script(script) } else { Mention::Argument(script) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA1: &str = "7825e9dfe2d12df8d37533bad1bfbfacd98c46ea";

    fn labels(text: &str) -> Vec<String> {
        let label = |mention: &Mention| match mention {
            Mention::Script(script) => script.label.to_string(),
            Mention::Digits(digits) => format!("digits {digits}"),
            Mention::Argument(script) => format!("argument {}", script.label),
        };
        mentioned_scripts(text.as_bytes()).iter().map(label).collect()
    }

    #[test]
    fn sha1s_are_found_in_any_text() {
        let text = format!(
            "1) \"evalsha\" 2) \"{SHA1}\"\nError running script (call to f_{}): @user_script: 1\n{SHA1}",
            "AB".repeat(20)
        );
        assert_eq!(labels(&text), ["7825e9dfe2d1", "abababababab"]);
        assert_eq!(labels(&format!("{SHA1}0 x{SHA1} {}", SHA1.trim_start_matches('7'))), [""; 0]);
    }

    #[test]
    fn labels_are_found_in_metrics_and_pages() {
        let text = "x{script=\"7825e9dfe2d1\"} 1\nx{script=\"~0123456789ab\"} 1\n2026 123456789012345";
        assert_eq!(labels(text), ["digits 7825e9dfe2d1", "digits ~0123456789ab"]);
    }

    #[test]
    fn bodies_are_found_in_a_slow_log() {
        let long = format!("local a = 1\\n{}", "x".repeat(116));
        let text = format!(
            "   4) 1) \"EVAL\"\n      2) \"return redis.call(\\\"get\\\", KEYS[1])\"\n   4) 1) \"EVAL\"\n      2) \"{long}... (9 more bytes)\"\n 3) \"key\"\n \"open"
        );
        let body = Call::from_arguments(&[b"EVAL".to_vec(), b"return redis.call(\"get\", KEYS[1])".to_vec()]);
        let found = labels(&text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], body.unwrap().script.label.to_string());
        assert!(found[1].starts_with("argument ~"), "{found:?}");
    }

    #[test]
    fn cut_bodies_are_found_without_quotes() {
        let cut = [&[b'x'; 127][..], b"\n... (9 more bytes)"].concat();
        let label = Call::from_arguments(&[b"EVAL".to_vec(), cut.clone()]).unwrap().script.label;
        let text = [&b"5\nEVAL\n"[..], &cut, b"\n1\n... (\n... (7"].concat();
        assert_eq!(labels(std::str::from_utf8(&text).unwrap()), [format!("argument {label}")]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in prop::collection::vec(any::<u8>(), 0..500)) {
            prop_assert!(mentioned_scripts(&text).len() <= text.len());
        }
    }
}
