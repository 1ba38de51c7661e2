//! Placeholders of templates. A script that has one is not the script that the server gets.

use std::ops::RangeInclusive;

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

/// Returns the position of the first placeholder in code, and the placeholder. Those in strings and comments leave a script
/// as Lua, and so do nested tables, which look like `{{ name }}`: only those in the line of the error count.
pub(crate) fn in_code<'a>(
    source: &'a str,
    tokens: &[Token<'_>],
    error: Position,
) -> Option<(Position, &'a str)> {
    let texts = tokens.iter().filter_map(|token| match token.kind {
        Kind::String(text) | Kind::Comment(text) => {
            Some(token.position.line..=token.position.line + text.matches('\n').count())
        }
        _ => None,
    });
    let texts: Vec<RangeInclusive<usize>> = texts.collect();
    let mut next = texts.iter().peekable();
    source.lines().enumerate().find_map(|(index, text)| {
        let line = index + 1;
        while next.next_if(|lines| *lines.end() < line).is_some() {}
        let is_text = next.peek().is_some_and(|lines| lines.contains(&line));
        let placeholder = placeholder(text).filter(|found| {
            line == error.line || !(is_text || found.starts_with("{{") || found.starts_with("#{"))
        })?;
        let at = text.find(placeholder)?;
        let column = text.get(..at)?.chars().count() + 1;
        Some((Position { line, column }, placeholder))
    })
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
    let is_expression = |inner: &str| {
        inner.trim_start().starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && !inner.contains(['\n', '{'])
    };
    let is_word = |inner: &str| {
        inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    between("<%", "%>", &is_spaced)
        .or_else(|| between("{%", "%}", &is_spaced))
        .or_else(|| between("{{", "}}", &is_name))
        .or_else(|| between("${", "}", &is_expression))
        .or_else(|| between("#{", "}", &is_expression))
        .or_else(|| between("%{", "}", &is_word))
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
            ("'${prefix}:x'", Some("${prefix}")),
            ("local n = ${options.limit || 10}", Some("${options.limit || 10}")),
            ("'#{prefix}:x'", Some("#{prefix}")),
            ("local n = %{limit}", Some("%{limit}")),
            ("'%{(.-)%}'", None),
            ("'%${(%w+)}'", None),
            ("'%{name%}'", None),
            ("local n = #{1, 2}", None),
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
