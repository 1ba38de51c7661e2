//! Scripts in a recording of what clients sent: the output of MONITOR, and commands as they go over the wire, which is also
//! the form of an append-only file.

use memchr::{memchr, memmem};

/// Most words of a command that matter here.
const KEPT_WORDS: usize = 4;

/// Most words that a command may have.
const MAX_WORDS: usize = 1 << 20;

/// The bodies in calls of SCRIPT LOAD, EVAL and FUNCTION LOAD, in the order of the recording. Whatever else is in it is
/// passed over.
#[must_use]
pub(crate) fn recorded_scripts(recording: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = recording;
    while !rest.is_empty() {
        if let Some((words, after)) = wire(rest) {
            found.extend(script(words));
            rest = after;
            continue;
        }
        let end = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let Some((line, after)) = rest.split_at_checked(end) else { break };
        found.extend(monitored(line).and_then(script));
        rest = after;
    }
    found
}

/// The body that a command brings.
fn script(words: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let is = |at: usize, name: &str| {
        words.get(at).is_some_and(|word: &Vec<u8>| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    let at = if is(0, "EVAL") || is(0, "EVAL_RO") {
        1
    } else if is(0, "SCRIPT") && is(1, "LOAD") {
        2
    } else if is(0, "FUNCTION") && is(1, "LOAD") {
        if is(2, "REPLACE") { 3 } else { 2 }
    } else {
        return None;
    };
    words.into_iter().nth(at)
}

/// A command as it goes over the wire (`*2\r\n$3\r\nGET\r\n$1\r\nx\r\n`), and what comes behind it.
fn wire(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, &[u8])> {
    let (count, mut rest) = number(bytes.strip_prefix(b"*")?)?;
    let mut words = Vec::new();
    for _ in 0..Some(count).filter(|count| (1..=MAX_WORDS).contains(count))? {
        let (length, after) = number(rest.strip_prefix(b"$")?)?;
        let (word, after) = after.split_at_checked(length)?;
        if words.len() < KEPT_WORDS {
            words.push(word.to_vec());
        }
        rest = after.strip_prefix(b"\r\n")?;
    }
    Some((words, rest))
}

/// A number that a line ends behind.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = memmem::find(bytes.get(..bytes.len().min(24))?, b"\r\n")?;
    let number = std::str::from_utf8(bytes.get(..end)?).ok()?.parse().ok()?;
    Some((number, bytes.get(end + 2..)?))
}

/// The first words of a line of MONITOR: `1339518083.107412 [0 127.0.0.1:60866] "script" "load" "return 1"`.
fn monitored(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let begin = memmem::find(line, b"] \"")?;
    let mut rest = line.get(begin + 2..)?;
    let mut words = Vec::new();
    while words.len() < KEPT_WORDS {
        let Some(quoted) = rest.strip_prefix(b"\"") else { break };
        let (word, after) = quoted_word(quoted)?;
        words.push(word);
        rest = after.strip_prefix(b" ").unwrap_or_default();
    }
    Some(words)
}

/// A word up to its closing quote, with the escapes that MONITOR writes undone, and what comes behind it.
fn quoted_word(quoted: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut word, mut bytes) = (Vec::new(), quoted.iter());
    loop {
        match bytes.next()? {
            b'"' => return Some((word, bytes.as_slice())),
            b'\\' => match bytes.next()? {
                b'n' => word.push(b'\n'),
                b'r' => word.push(b'\r'),
                b't' => word.push(b'\t'),
                b'a' => word.push(7),
                b'b' => word.push(8),
                b'x' => {
                    let digits = [*bytes.next()?, *bytes.next()?];
                    word.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                }
                other => word.push(*other),
            },
            byte => word.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(recording: &str) -> Vec<String> {
        let found = recorded_scripts(recording.as_bytes());
        found.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    #[test]
    fn scripts_are_found_in_what_monitor_shows() {
        // What Redis 7.0.15 sends to a client that said MONITOR.
        let recording = concat!(
            "OK\n",
            "1339518083.107412 [0 127.0.0.1:60866] \"SCRIPT\" \"LOAD\" \"return \\\"a\\\\b\\\"\\n\\xc3\\xa9\"\n",
            "+1339518083.1 [0 [::1]:60866] \"eval\" \"return 1\" \"0\"\r\n",
            "1339518083.2 [0 lua] \"get\" \"script\"\n",
            "1339518083.3 [0 unix:/run/r.sock] \"FUNCTION\" \"LOAD\" \"replace\" \"#!lua name=x\\n\"\n",
            "1339518083.4 [0 127.0.0.1:1] \"eval\" \"cut off",
        );
        assert_eq!(texts(recording), ["return \"a\\b\"\n\u{e9}", "return 1", "#!lua name=x\n"]);
    }

    #[test]
    fn scripts_are_found_in_what_goes_over_the_wire() {
        let recording = "REDIS0011 rubbish\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$8\r\nfunction\r\n$4\r\nload\r\n$15\r\n#!lua name=lib\n\r\n*3\r\n$6\r\nscript\r\n$4\r\nload\r\n$8\r\nreturn 1\r\n*9\r\n$1\r\n";
        assert_eq!(texts(recording), ["#!lua name=lib\n", "return 1"]);
    }

    proptest! {
        #[test]
        fn any_recording_is_read(recording in prop::collection::vec(prop::sample::select(&b"*$12\r\n] \"\\xevalEVAL\xff"[..]), 0..300)) {
            let _ = recorded_scripts(&recording);
        }

        #[test]
        fn what_monitor_writes_is_what_was_sent(body in prop::collection::vec(any::<u8>(), 0..50)) {
            // sdscatrepr of Redis.
            let mut line = b"1.1 [0 1.1.1.1:1] \"EVAL\" \"".to_vec();
            for byte in &body {
                match byte {
                    b'\\' | b'"' => line.extend([b'\\', *byte]),
                    b'\n' => line.extend(b"\\n"),
                    b'\r' => line.extend(b"\\r"),
                    b'\t' => line.extend(b"\\t"),
                    7 => line.extend(b"\\a"),
                    8 => line.extend(b"\\b"),
                    byte if byte.is_ascii_graphic() || *byte == b' ' => line.push(*byte),
                    byte => line.extend(format!("\\x{byte:02x}").bytes()),
                }
            }
            line.extend(b"\" \"0\"\n");
            prop_assert_eq!(recorded_scripts(&line), vec![body]);
        }
    }
}
