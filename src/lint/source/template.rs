//! Placeholders of templates: a script with one is not what the server gets.

use crate::lint::rules::Found;
use crate::lint::source::syntax::Position;
use crate::lint::source::tokens::{Kind, Token};

/// Most characters of a placeholder.
const MAX_LENGTH: usize = 100;

/// Finds the placeholders in strings.
pub(crate) fn in_strings(tokens: &[Token<'_>]) -> Vec<Found> {
    let texts = tokens.iter().filter_map(|token| match token.kind {
        Kind::Text(text) => {
            Some((Position { line: token.line, column: token.column + 1 }, placeholder(text)?))
        }
        _ => None,
    });
    texts.map(|(position, placeholder)| found(position, placeholder)).collect()
}

/// Finds the placeholder in the line in which the source is no Lua, if that is why.
pub(crate) fn at(position: Position, source: &str) -> Option<Found> {
    let line = source.lines().nth(position.line.saturating_sub(1))?;
    placeholder(line).map(|placeholder| found(position, placeholder))
}

fn found(position: Position, placeholder: &str) -> Found {
    Found::new("template", position, format!("`{placeholder}` is a placeholder of a template"))
}

/// The first placeholder in a text. Patterns of Lua have such characters too (`<%w+>`, `{{(.-)}}`).
fn placeholder(text: &str) -> Option<&str> {
    let is_name = |inner: &str| {
        let inner = inner.trim_start_matches(['#', '/', '^', '&', '>', '{', '.', ' ']).trim_end();
        inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && inner.chars().all(|c| c.is_ascii_alphanumeric() || " _.-|:}".contains(c))
    };
    let is_spaced = |inner: &str| inner.starts_with([' ', '=']) || inner.starts_with("- ");
    let between = |begin: &str, end: &str, is_one: &dyn Fn(&str) -> bool| {
        text.match_indices(begin).find_map(|(at, _)| {
            let rest = text.get(at + begin.len()..)?;
            let length = rest.find(end).filter(|length| *length <= MAX_LENGTH)?;
            let inner = rest.get(..length).filter(|inner| is_one(inner))?;
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
    fn placeholders_are_told_from_patterns_and_tables() {
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
