//! Scripts in a recording of client commands: the output of MONITOR, or commands in the wire protocol, which is also the format of
//! an append-only file.

use memchr::{memchr, memmem};

/// Maximum number of arguments of a command that are parsed.
const PARSED_ARGUMENTS: usize = 4;

/// Maximum number of arguments of a command.
const MAX_ARGUMENTS: usize = 1 << 20;

/// Returns the bodies in SCRIPT LOAD, EVAL, `EVAL_RO` and FUNCTION LOAD commands, in the order of the recording. Everything else is
/// ignored.
#[must_use]
pub(crate) fn recorded_scripts(recording: &[u8]) -> Vec<Vec<u8>> {
    let mut scripts = Vec::new();
    let mut rest = recording;
    while !rest.is_empty() {
        if let Some((arguments, after)) = wire(rest) {
            scripts.extend(script(arguments));
            rest = after;
            continue;
        }
        let end = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let Some((line, after)) = rest.split_at_checked(end) else { break };
        scripts.extend(monitored(line).and_then(script));
        rest = after;
    }
    scripts
}

/// Returns the script body in a command; `None` if there is none.
fn script(arguments: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let is = |at: usize, name: &str| {
        arguments.get(at).is_some_and(|argument: &Vec<u8>| argument.eq_ignore_ascii_case(name.as_bytes()))
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
    arguments.into_iter().nth(at)
}

/// Parses a command in the wire protocol (`*2\r\n$3\r\nGET\r\n$1\r\nx\r\n`); returns its first arguments and the bytes after it.
fn wire(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, &[u8])> {
    let (count, mut rest) = number(bytes.strip_prefix(b"*")?)?;
    let mut arguments = Vec::new();
    for _ in 0..Some(count).filter(|count| (1..=MAX_ARGUMENTS).contains(count))? {
        let (length, after) = number(rest.strip_prefix(b"$")?)?;
        let (argument, after) = after.split_at_checked(length)?;
        if arguments.len() < PARSED_ARGUMENTS {
            arguments.push(argument.to_vec());
        }
        rest = after.strip_prefix(b"\r\n")?;
    }
    Some((arguments, rest))
}

/// Parses a number up to the end of its line.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = memmem::find(bytes.get(..bytes.len().min(24))?, b"\r\n")?;
    let number = std::str::from_utf8(bytes.get(..end)?).ok()?.parse().ok()?;
    Some((number, bytes.get(end + 2..)?))
}

/// Parses the first arguments in a line of MONITOR output: `1339518083.107412 [0 127.0.0.1:60866] "script" "load" "return 1"`.
fn monitored(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let begin = memmem::find(line, b"] \"")?;
    let mut rest = line.get(begin + 2..)?;
    let mut arguments = Vec::new();
    while arguments.len() < PARSED_ARGUMENTS {
        let Some(quoted) = rest.strip_prefix(b"\"") else { break };
        let (argument, after) = unquote(quoted)?;
        arguments.push(argument);
        rest = after.strip_prefix(b" ").unwrap_or_default();
    }
    Some(arguments)
}

/// Decodes an argument with the escapes of MONITOR, up to its closing quote. Returns the argument and the bytes after the quote.
pub(super) fn unquote(quoted: &[u8]) -> Option<(Vec<u8>, &[u8])> {
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
        let scripts = recorded_scripts(recording.as_bytes());
        scripts.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    #[test]
    fn scripts_are_found_in_output_of_monitor() {
        // Output of Redis 7.0.15.
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
    fn scripts_are_found_in_the_wire_protocol() {
        let recording = "REDIS0011 rubbish\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$8\r\nfunction\r\n$4\r\nload\r\n$15\r\n#!lua name=lib\n\r\n*3\r\n$6\r\nscript\r\n$4\r\nload\r\n$8\r\nreturn 1\r\n*9\r\n$1\r\n";
        assert_eq!(texts(recording), ["#!lua name=lib\n", "return 1"]);
    }

    proptest! {
        #[test]
        fn any_recording_is_parsed(recording in prop::collection::vec(prop::sample::select(&b"*$12\r\n] \"\\xevalEVAL\xff"[..]), 0..300)) {
            let _ = recorded_scripts(&recording);
        }

        #[test]
        fn escapes_of_monitor_are_decoded(body in prop::collection::vec(any::<u8>(), 0..50)) {
            // The escapes of `sdscatrepr` in Redis.
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
