//! Placeholders of templates. A script that has one is not the script that the server gets.

use std::ops::RangeInclusive;

use full_moon::tokenizer::Symbol;

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
    let is_code = |line: usize, text: &str, found: &str| {
        let before = text.find(found).and_then(|at| text.get(..at)).unwrap_or_default();
        let position = Position { line, column: before.chars().count() + 1 };
        let is_mark = |kind| matches!(kind, Kind::Illegal('@') | Kind::Symbol(Symbol::Percent));
        tokens.iter().any(|token| token.position == position && is_mark(token.kind))
    };
    let mut next = texts.iter().peekable();
    source.lines().enumerate().find_map(|(index, text)| {
        let line = index + 1;
        while next.next_if(|lines| *lines.end() < line).is_some() {}
        let is_text = next.peek().is_some_and(|lines| lines.contains(&line));
        let is_error = line == error.line;
        let placeholder = placeholder(text)
            .filter(|found| is_error || !(is_text || found.starts_with("{{") || found.starts_with("#{")))
            .or_else(|| formatted(text).filter(|found| is_error && is_code(line, text, found)))?;
        let at = text.find(placeholder)?;
        let column = text.get(..at)?.chars().count() + 1;
        Some((Position { line, column }, placeholder))
    })
}

/// Returns the first parameter of a format (`%s`) or of a client that names them (`@key`). Neither `%` nor `@` begins an expression
/// of Lua.
fn formatted(text: &str) -> Option<&str> {
    let begins = |at: usize| {
        let before = text.get(..at).unwrap_or_default().trim_end();
        before.is_empty() || before.ends_with(['(', ',', '=', '{', '[', '+', '-', '*', '/', '<', '>'])
    };
    let at = text.match_indices(['%', '@']).map(|(at, _)| at).find(|at| begins(*at))?;
    let rest = text.get(at + 1..)?;
    let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let name = rest.get(..length)?;
    let is_verb = text.get(at..)?.starts_with('@') || ["s", "d", "v", "q", "i", "f"].contains(&name);
    (is_verb && name.starts_with(|c: char| c.is_ascii_alphabetic())).then(|| text.get(at..at + 1 + length))?
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
