//! Template placeholders. A source that contains one is not the script that the server receives.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use full_moon::tokenizer::Symbol;

use crate::lua::{Kind, Position, Token, tokens};

/// Maximum length of the text inside a placeholder, in bytes.
const MAX_LENGTH: usize = 100;

/// Returns the first placeholder in each string literal, with the position of the literal.
pub(crate) fn in_strings<'a>(tokens: &'a [Token<'a>]) -> impl Iterator<Item = (Position, &'a str)> {
    tokens.iter().filter_map(|token| match token.kind {
        Kind::String(text) => Some((token.position, placeholder(text)?)),
        _ => None,
    })
}

/// Returns the placeholders that parse as Lua: `{{ name }}` is a nested table, and `#{name}` the length of a table. Only names whose
/// positions are in `undefined` count.
pub(crate) fn in_tables(tokens: &[Token<'_>], undefined: &BTreeSet<Position>) -> Vec<(Position, String)> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        let Some((braces, length)) = table_placeholder(first, others) else { continue };
        let (inner, after) = others.split_at_checked(length).unwrap_or_default();
        let mut names = inner.iter().filter(|token| word(token).is_some()).peekable();
        if names.peek().is_some_and(|name| undefined.contains(&name.position)) {
            let path: Vec<&str> = names.filter_map(word).collect();
            let (open, close) = if braces == 1 { ("#{", "}") } else { ("{{", "}}") };
            found.push((first.position, format!("{open}{}{close}", path.join("."))));
        }
        rest = after;
    }
    found
}

/// Number of closing braces of a placeholder that begins with the token `first`, and its number of tokens after `first`.
fn table_placeholder(first: &Token<'_>, others: &[Token<'_>]) -> Option<(usize, usize)> {
    let next = others.first()?;
    let is = |token: &Token<'_>, symbol: Symbol| token.kind == Kind::Symbol(symbol);
    let braces = match first.kind {
        Kind::Symbol(Symbol::Hash) => 1,
        Kind::Symbol(Symbol::LeftBrace) => 2,
        _ => return None,
    };
    if !is(next, Symbol::LeftBrace) || !is_adjacent(first, 1, next) {
        return None;
    }
    let path =
        others.iter().skip(1).take_while(|token| word(token).is_some() || is(token, Symbol::Dot)).count();
    let path_tokens = others.get(1..1 + path)?;
    let alternates =
        path_tokens.iter().enumerate().all(|(index, token)| (index % 2 == 0) == word(token).is_some());
    let closing = others.get(1 + path..1 + path + braces)?;
    let closes = closing.iter().all(|token| is(token, Symbol::RightBrace));
    let is_closed_at_once = closing.windows(2).all(|pair| match pair {
        [one, other] => is_adjacent(one, 1, other),
        _ => true,
    });
    (path % 2 == 1 && alternates && closes && is_closed_at_once).then_some((braces, 1 + path + braces))
}

/// Name, if a token is one.
fn word<'a>(token: &Token<'a>) -> Option<&'a str> {
    match token.kind {
        Kind::Word(name) if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => Some(name),
        _ => None,
    }
}

/// True if `next` immediately follows `token`, which has `length` characters.
fn is_adjacent(token: &Token<'_>, length: usize, next: &Token<'_>) -> bool {
    token.position.line == next.position.line && token.position.column + length == next.position.column
}

/// Returns the parameters that a client replaces with elements of KEYS and ARGV: `@key`, `_:key-name`.
pub(crate) fn parameters(source: &str) -> Vec<(Position, String)> {
    if !source.contains('@') && !source.contains("_:") {
        return Vec::new();
    }
    let tokens: Vec<Token<'_>> = tokens(source).collect();
    let mut found = marked(&tokens);
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    found.extend(pairs.filter_map(|(mark, colon)| {
        let is_mark = mark.kind == Kind::Word("_")
            && colon.kind == Kind::Symbol(Symbol::Colon)
            && is_adjacent(mark, 1, colon);
        let name = qualified(source.get(colon.end..).filter(|_| is_mark)?)?;
        Some((mark.position, format!("_:{name}")))
    }));
    found
}

/// Parameter name at the beginning of `text`: `key-name`, `old-?value`. A name followed by arguments is a method call instead.
fn qualified(text: &str) -> Option<&str> {
    let is_part = |(at, character): (usize, char)| {
        let next = text.get(at + 1..).and_then(|rest| rest.chars().next());
        character.is_ascii_alphanumeric()
            || matches!(character, '_' | '?')
            || character == '-' && next.is_some_and(|next| next.is_ascii_alphabetic() || next == '?')
    };
    let end = text.char_indices().find(|part| !is_part(*part)).map_or(text.len(), |(at, _)| at);
    let (name, rest) = text.split_at_checked(end)?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (begins && !rest.trim_start_matches([' ', '\t']).starts_with(['(', '{', '\'', '"'])).then_some(name)
}

/// Parameters that begin with `@`.
fn marked(tokens: &[Token<'_>]) -> Vec<(Position, String)> {
    let followers = tokens.iter().skip(2).map(Some).chain(std::iter::once(None));
    let parameters =
        tokens.iter().zip(tokens.iter().skip(1)).zip(followers).filter_map(|((mark, name), next)| {
            let text = word(name)?;
            let is_call = next.is_some_and(|next| next.kind == Kind::Symbol(Symbol::LeftParen));
            (mark.kind == Kind::Illegal('@') && is_adjacent(mark, 1, name) && !is_call)
                .then(|| (mark.position, format!("@{text}")))
        });
    parameters.collect()
}

/// Returns the values that a program inserts where an expression begins: `${name}`, `$name`, `%s`. No Lua expression begins like these.
pub(crate) fn values(source: &str) -> Vec<(Position, String)> {
    if !source.contains(['$', '%']) {
        return Vec::new();
    }
    let tokens: Vec<Token<'_>> = tokens(source).collect();
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    let values = pairs.filter(|(before, _)| precedes_expression(before)).filter_map(|(_, mark)| {
        let is_mark = matches!(mark.kind, Kind::Illegal('$') | Kind::Symbol(Symbol::Percent));
        let start = mark.end.checked_sub(1).filter(|_| is_mark)?;
        Some((mark.position, inserted(source.get(start..)?)?.to_owned()))
    });
    values.collect()
}

/// True for operators, separators, opening brackets and `return`, after which an expression begins. Keywords before a condition are not
/// among them: nothing is known of an inserted condition.
fn precedes_expression(token: &Token<'_>) -> bool {
    let Kind::Symbol(symbol) = token.kind else { return false };
    matches!(
        symbol,
        Symbol::And
            | Symbol::Caret
            | Symbol::Comma
            | Symbol::Equal
            | Symbol::GreaterThan
            | Symbol::GreaterThanEqual
            | Symbol::Hash
            | Symbol::In
            | Symbol::LeftBrace
            | Symbol::LeftBracket
            | Symbol::LeftParen
            | Symbol::LessThan
            | Symbol::LessThanEqual
            | Symbol::Minus
            | Symbol::Not
            | Symbol::Or
            | Symbol::Percent
            | Symbol::Plus
            | Symbol::Return
            | Symbol::Slash
            | Symbol::Star
            | Symbol::TildeEqual
            | Symbol::TwoDots
            | Symbol::TwoEqual
    )
}

/// Inserted value at the beginning of `text`.
fn inserted(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix("${") {
        let mut name = rest.char_indices().take(MAX_LENGTH).take_while(|(_, character)| *character != '\n');
        let (length, _) = name.find(|(_, character)| *character == '}').filter(|(at, _)| *at > 0)?;
        return text.get(.."${".len() + length + "}".len());
    }
    let rest = text.get(1..)?;
    let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let name = rest.get(..length)?;
    let is_value =
        if text.starts_with('$') { !name.is_empty() } else { matches!(name, "s" | "d" | "f" | "i") };
    is_value.then(|| text.get(..1 + length))?
}

/// Replaces all characters of parameters that are not alphanumeric with `_`. Positions do not change.
pub(crate) fn named<'a>(source: &'a str, parameters: &[(Position, String)]) -> Cow<'a, str> {
    if parameters.is_empty() {
        return source.into();
    }
    let marks = parameters.iter().flat_map(|(first, name)| {
        let marks = name.chars().enumerate().filter(|(_, character)| !character.is_ascii_alphanumeric());
        marks.map(|(index, _)| Position { line: first.line, column: first.column + index })
    });
    let marks: BTreeSet<Position> = marks.collect();
    let mut named = String::with_capacity(source.len());
    for (line, text) in source.split_inclusive('\n').enumerate() {
        named.extend(text.chars().enumerate().map(|(column, character)| {
            let position = Position { line: line + 1, column: column + 1 };
            if marks.contains(&position) { '_' } else { character }
        }));
    }
    named.into()
}

/// Returns the first placeholder in code, and its position. A script with placeholders in strings or comments is still Lua, and so is
/// one with nested tables, which look like `{{ name }}`; these count only on the line of the error.
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
        let is_mark =
            |kind| matches!(kind, Kind::Illegal('@' | '$') | Kind::Symbol(Symbol::Percent | Symbol::Hash));
        tokens.iter().any(|token| token.position == position && is_mark(token.kind))
    };
    let mut next = texts.iter().peekable();
    source.lines().enumerate().find_map(|(index, text)| {
        let line = index + 1;
        while next.next_if(|lines| *lines.end() < line).is_some() {}
        let is_text = next.peek().is_some_and(|lines| lines.contains(&line));
        let is_error = line == error.line;
        let placeholder = placeholder(text)
            .filter(|found| {
                is_error || !(is_text || ["{{", "#{", "%("].iter().any(|mark| found.starts_with(mark)))
            })
            .or_else(|| formatted(text).filter(|found| is_error && is_code(line, text, found)))?;
        let at = text.find(placeholder)?;
        let column = text.get(..at)?.chars().count() + 1;
        Some((Position { line, column }, placeholder))
    })
}

/// Returns the first directive (`%include`, `@@include`, `#include`), format specifier (`%s`, `%%NAME%%`), shell parameter (`$name`,
/// `$1`) or named parameter of a client (`@key`). No Lua expression begins like these.
fn formatted(text: &str) -> Option<&str> {
    let begins = |at: usize| {
        let before = text.get(..at).unwrap_or_default().trim_end();
        before.is_empty() || before.ends_with(['(', ',', '=', '{', '[', '+', '-', '*', '/', '<', '>'])
    };
    let at = text.match_indices(['%', '@', '$', '#']).map(|(at, _)| at).find(|at| begins(*at))?;
    let marked = text.get(at..)?;
    let rest = marked.trim_start_matches(['@', '%']);
    let (mark, rest) =
        if rest.len() < marked.len() { (marked.len() - rest.len(), rest) } else { (1, marked.get(1..)?) };
    let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let name = rest.get(..length)?;
    let is_first = text.get(..at)?.trim_start().is_empty();
    let is_name = match marked.chars().next() {
        Some('$') => !name.is_empty(),
        Some('#') => is_first && name == "include",
        Some('%') if mark == 2 => rest.get(length..)?.starts_with("%%"),
        Some('%') => is_first || ["s", "d", "v", "q", "i", "f"].contains(&name),
        _ => mark <= 2,
    };
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic()) || marked.starts_with('$');
    (is_name && is_word).then(|| marked.get(..mark + length))?
}

/// Returns the first placeholder in a string. Lua patterns that consist of the same characters (`<%w+>`, `{{(.-)}}`) are not
/// placeholders.
fn placeholder(text: &str) -> Option<&str> {
    let is_name = |inner: &str| {
        let inner = inner.trim_start_matches(['#', '/', '^', '&', '>', '{', '.', '-', ' ']).trim_end();
        inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && inner.chars().all(|c| c.is_ascii_alphanumeric() || " _.-|:}\"$".contains(c))
    };
    let is_word = |inner: &str| {
        inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let is_spaced = |inner: &str| {
        inner.starts_with([' ', '=']) || ["- ", "# "].iter().any(|mark| inner.starts_with(mark))
    };
    let is_php = |inner: &str| inner.starts_with('=') || inner.starts_with("php");
    let is_conversion = |inner: &str| is_word(inner.strip_suffix(')').unwrap_or_default());
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
    between("<%", "%>", &is_spaced)
        .or_else(|| between("{%", "%}", &is_spaced))
        .or_else(|| between("{{", "}}", &is_name))
        .or_else(|| between("${", "}", &is_expression))
        .or_else(|| between("#{", "}", &is_expression))
        .or_else(|| between("%{", "}", &is_word))
        .or_else(|| between("<?", "?>", &is_php))
        .or_else(|| between("{=", "=}", &|inner| is_word(inner.trim())))
        .or_else(|| between("{0[", "]}", &is_word))
        .or_else(|| between("{#", "#}", &|inner| inner.starts_with(' ')))
        .or_else(|| ["s", "d", "i", "f", "r"].iter().find_map(|verb| between("%(", verb, &is_conversion)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserted_values_are_where_an_expression_begins() {
        for (source, expected) in [
            ("local n = ${options.limit || 10}", &["${options.limit || 10}"][..]),
            ("for i = $from, $to do end", &["$from", "$to"]),
            ("redis.call('EXPIRE', KEYS[%d], %s)", &["%d", "%s"]),
            ("return {'é', ${a}, ${b}}", &["${a}", "${b}"]),
            ("local n = a %s", &[]),
            ("local n = 7 % s", &[]),
            ("${logic}\nreturn 1", &[]),
            ("${name} = 1", &[]),
            ("while ${condition} do end", &[]),
            ("local key${n} = 'a' .. \"${b}\" -- = ${c}", &[]),
            ("return ${}, $", &[]),
        ] {
            let found = values(source);
            assert_eq!(found.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), expected, "{source}");
            for (Position { line, column }, text) in found {
                let line: String = source.lines().nth(line - 1).unwrap().chars().skip(column - 1).collect();
                assert!(line.starts_with(&text), "{source}");
            }
        }
    }

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
            ("local n = %(limit)s", Some("%(limit)s")),
            ("'%(key)s:a'", Some("%(key)s")),
            ("<?= $limit ?>", Some("<?= $limit ?>")),
            ("<?php echo 1 ?>", Some("<?php echo 1 ?>")),
            ("{{- if .Values.big }}", Some("{{- if .Values.big }}")),
            ("{{ .limit | default \"5\" }}", Some("{{ .limit | default \"5\" }}")),
            ("{# a comment #}", Some("{# a comment #}")),
            ("<%# a comment %>", Some("<%# a comment %>")),
            ("return {{=PENDING_FULL=}, 0}", Some("{=PENDING_FULL=}")),
            ("return {= SUCCESS =}", Some("{= SUCCESS =}")),
            ("if {0[where_clause]} then", Some("{0[where_clause]}")),
            ("return {0, a[0]}", None),
            ("'%((%d+)%)s'", None),
            ("'(%()s'", None),
            ("'<%#%d+%>'", None),
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
