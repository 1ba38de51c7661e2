//! Placeholders of templates. A script that has one is not the script that the server gets.

use crate::lua::{Kind, Position, Token};

/// Maximum number of characters of a placeholder.
const MAX_LENGTH: usize = 100;

/// Returns the first placeholder of each string literal.
pub(crate) fn in_strings<'a>(tokens: &'a [Token<'a>]) -> impl Iterator<Item = (Position, &'a str)> {
    tokens.iter().filter_map(|token| match token.kind {
        Kind::String(text) => Some((token.position, placeholder(text)?)),
        _ => None,
    })
}

/// Returns the first placeholder in a line.
pub(crate) fn in_line(source: &str, line: usize) -> Option<&str> {
    placeholder(source.lines().nth(line.saturating_sub(1))?)
}

/// Returns the first placeholder in a text. Patterns of Lua have the same characters (`<%w+>`, `{{(.-)}}`).
fn placeholder(text: &str) -> Option<&str> {
    let is_name = |inner: &str| {
        let inner = inner.trim_start_matches(['#', '/', '^', '&', '>', '{', '.', ' ']).trim_end();
        inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && inner.chars().all(|c| c.is_ascii_alphanumeric() || " _.-|:}".contains(c))
    };
    let is_spaced = |inner: &str| inner.starts_with([' ', '=']) || inner.starts_with("- ");
    let between = |begin: &str, end: &str, accepts: &dyn Fn(&str) -> bool| {
        text.match_indices(begin).find_map(|(at, _)| {
            let rest = text.get(at + begin.len()..)?;
            let length = rest.find(end).filter(|length| *length <= MAX_LENGTH)?;
            let inner = rest.get(..length).filter(|inner| accepts(inner))?;
            text.get(at..at + begin.len() + inner.len() + end.len())
        })
    };
    between("<%", "%>", &is_spaced)
        .or_else(|| between("{%", "%}", &is_spaced))
        .or_else(|| between("{{", "}}", &is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_distinguished_from_patterns_and_tables() {
        for (text, expected) in [
            ("'<%= prefix %>:x'", Some("<%= prefix %>")),
            ("<%=prefix%>", Some("<%=prefix%>")),
            ("<% if a then %>", Some("<% if a then %>")),
            ("{% include 'a' %}", Some("{% include 'a' %}")),
            ("'{{ prefix }}:{{b}}'", Some("{{ prefix }}")),
            ("{{#each keys}}", Some("{{#each keys}}")),
            ("{{ .Values.prefix | quote }}", Some("{{ .Values.prefix | quote }}")),
            ("<%w+>", None),
            ("<%w+%>", None),
            ("{{(.-)}}", None),
            ("{{1, 2}, {3, 4}}", None),
            ("{{KEYS[1]}}", None),
            ("{user}:x", None),
            ("<% ", None),
        ] {
            assert_eq!(placeholder(text), expected, "{text}");
        }
    }
}
