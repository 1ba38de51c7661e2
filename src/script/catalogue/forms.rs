//! Forms in which programs send the content of a file.
//!
//! Programs may trim a file, drop its last line ending, or convert its line endings. To the server, each form is a separate
//! script with its own SHA1.

/// Byte order mark, which some editors write at the beginning of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the content without a byte order mark.
pub(super) fn unmarked(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Returns all forms of a body: with and without the byte order mark, with either type of line ending, whole, without the last
/// line ending, and trimmed. The unchanged body comes first.
pub(super) fn forms(body: &[u8]) -> Vec<Vec<u8>> {
    let unmarked = unmarked(body);
    let unix = replace(unmarked, b"\r\n", b"\n");
    let windows = replace(&unix, b"\n", b"\r\n");
    let mut forms: Vec<Vec<u8>> = vec![body.to_vec()];
    for text in [unmarked, unix.as_slice(), windows.as_slice()] {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for form in [text, line, text.trim_ascii_end(), text.trim_ascii()] {
            if !form.is_empty() && !forms.iter().any(|known| known == form) {
                forms.push(form.to_vec());
            }
        }
    }
    forms
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        let Some((before, after)) = rest.split_at_checked(at) else { break };
        result.extend_from_slice(before);
        result.extend_from_slice(to);
        rest = after.strip_prefix(from).unwrap_or_default();
    }
    result.extend_from_slice(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_recognized_trimmed_and_with_either_line_ending() {
        let forms = forms(b"\xef\xbb\xbfa\r\nb\r\n");
        assert_eq!(forms[0], b"\xef\xbb\xbfa\r\nb\r\n");
        for form in [b"a\r\nb\r\n".as_slice(), b"a\nb\n", b"a\r\nb", b"a\nb"] {
            assert!(forms.iter().any(|one| one == form), "{form:?}");
        }
        assert_eq!(forms.len(), 5);
    }
}
