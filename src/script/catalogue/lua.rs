//! Names in Lua source: the functions registered by a library, and the name declared in a script.
//!
//! The source is tokenized, not executed, so names built at run time are not found.

use std::collections::{BTreeMap, BTreeSet};

use full_moon::tokenizer::Symbol;

use crate::lua::{self, Kind};

/// Names in the source of a function library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Library {
    /// Name of the library, from the first line: `#!lua name=…`.
    pub(crate) name: String,
    /// Functions that the library registers, in source order, without duplicates.
    pub(crate) functions: Vec<String>,
}

impl Library {
    /// Parses the source; returns `None` if it is not a library.
    #[must_use]
    pub(crate) fn parse(source: &[u8]) -> Option<Self> {
        let line = source.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?.strip_prefix("#!")?;
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|engine| engine.eq_ignore_ascii_case("lua"))?;
        let name = words.find_map(|word| word.strip_prefix("name="))?.to_owned();
        let body = String::from_utf8_lossy(source.get(line.len() + 2..).unwrap_or_default());
        let tokens: Vec<Token<'_>> = lua::tokens(&body).filter_map(Token::new).collect();
        Some(Self { name, functions: registered(&tokens) })
    }
}

/// Number of lines at the beginning of a source that may declare its name.
const NAMING_LINES: usize = 10;

/// Prefix of the name declaration, in a comment on its own line.
const NAMING: &str = "redis-script-exporter:";

/// Returns the name declared in a source: `-- redis-script-exporter: name=…` in one of its first lines.
pub(super) fn given_name(source: &[u8]) -> Option<&str> {
    let lines = source.split(|byte| *byte == b'\n').take(NAMING_LINES);
    lines.filter_map(|line| std::str::from_utf8(line).ok()).find_map(|line| {
        let comment = line.trim().strip_prefix("--")?.trim_start_matches(['-', ' ', '\t']);
        comment.strip_prefix(NAMING)?.trim().strip_prefix("name=").map(str::trim)
    })
}

/// Token of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'a> {
    /// Name, keyword or number.
    Name(&'a str),
    /// Value of a string literal.
    Literal(String),
    /// Operator, bracket or keyword.
    Punctuation(Symbol),
}

impl<'a> Token<'a> {
    /// Converts a token; `None` for comments and illegal characters.
    fn new(token: lua::Token<'a>) -> Option<Self> {
        match token.kind {
            Kind::Symbol(Symbol::Local) => Some(Self::Name("local")),
            Kind::Symbol(symbol) => Some(Self::Punctuation(symbol)),
            Kind::String(literal) => Some(Self::Literal(lua::string_value(literal))),
            Kind::Word(word) => Some(Self::Name(word)),
            Kind::Comment(_) | Kind::Illegal(_) => None,
        }
    }
}

/// Returns the names that are registered with `redis.register_function` or `server.register_function`.
fn registered(tokens: &[Token<'_>]) -> Vec<String> {
    use Token::{Name, Punctuation};
    let mut functions = Vec::new();
    let mut found = |name: Option<String>| {
        if let Some(name) = name
            && !functions.contains(&name)
        {
            functions.push(name);
        }
    };
    let (mut aliases, mut constants) = (BTreeSet::new(), BTreeMap::new());
    let mut rest = tokens;
    while let Some((_, after)) = rest.split_first() {
        match rest {
            [
                Name("local"),
                Name(alias),
                Punctuation(Symbol::Equal),
                Name("redis" | "server"),
                Punctuation(Symbol::Dot),
                Name("register_function"),
                ..,
            ] => {
                aliases.insert(*alias);
                // The definition of the alias is not a call.
                rest = rest.get(6..).unwrap_or_default();
                continue;
            }
            [Name("local"), Name(name), Punctuation(Symbol::Equal), Token::Literal(text), ..] => {
                constants.insert(*name, text.as_str());
            }
            [Name("redis" | "server"), Punctuation(Symbol::Dot), Name("register_function"), call @ ..] => {
                found(name_in_call(call, &constants));
            }
            [Name(alias), call @ ..] if aliases.contains(alias) => found(name_in_call(call, &constants)),
            _ => {}
        }
        rest = after;
    }
    functions
}

/// Returns the name in `('name', …)`, `{function_name='name', …}` or `({…})`.
fn name_in_call(call: &[Token<'_>], constants: &BTreeMap<&str, &str>) -> Option<String> {
    use Token::{Literal, Name, Punctuation};
    let constant = |name: &str| constants.get(name).map(|text| (*text).to_owned());
    match call {
        [Punctuation(Symbol::LeftParen), Literal(name), ..] => Some(name.clone()),
        [Punctuation(Symbol::LeftParen), Name(name), Punctuation(Symbol::Comma), ..] => constant(name),
        [Punctuation(Symbol::LeftParen), Punctuation(Symbol::LeftBrace), fields @ ..]
        | [Punctuation(Symbol::LeftBrace), fields @ ..] => {
            let (mut rest, mut depth) = (fields, 0_usize);
            while let Some((first, after)) = rest.split_first() {
                match rest {
                    [Name("function_name"), Punctuation(Symbol::Equal), Literal(name), ..] if depth == 0 => {
                        return Some(name.clone());
                    }
                    [Name("function_name"), Punctuation(Symbol::Equal), Name(name), ..] if depth == 0 => {
                        return constant(name);
                    }
                    [
                        Punctuation(Symbol::LeftBracket),
                        Literal(key),
                        Punctuation(Symbol::RightBracket),
                        Punctuation(Symbol::Equal),
                        Literal(name),
                        ..,
                    ] if depth == 0 && key == "function_name" => {
                        return Some(name.clone());
                    }
                    _ => {}
                }
                match first {
                    Punctuation(Symbol::LeftBrace | Symbol::LeftParen | Symbol::LeftBracket) => depth += 1,
                    Punctuation(Symbol::RightBrace | Symbol::RightParen | Symbol::RightBracket) => {
                        depth = depth.checked_sub(1)?;
                    }
                    _ => {}
                }
                rest = after;
            }
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn functions(body: &str) -> Vec<String> {
        Library::parse(format!("#!lua name=mylib\n{body}").as_bytes()).unwrap().functions
    }

    #[test]
    fn functions_are_found_in_every_form_of_the_call() {
        for body in [
            "redis.register_function('f', function(keys, args) return 1 end)",
            "redis.register_function(\"f\", g)",
            "redis . register_function ( [[f]] , g )",
            "redis.register_function('\\102', g)",
            "server.register_function('f', g)",
            "redis.register_function{function_name='f', callback=g, flags={'no-writes'}}",
            "redis.register_function{flags={'no-writes'}, callback=function(k) return {function_name='x'} end, function_name='f'}",
            "redis.register_function({ callback = g, [\"function_name\"] = 'f' })",
            "local register = redis.register_function\nregister('f', g)",
            "local NAME = 'f'\nredis.register_function(NAME, g)",
            "local NAME = 'f'\nredis.register_function{function_name=NAME, callback=g}",
        ] {
            assert_eq!(functions(body), ["f"], "{body}");
        }
    }

    #[test]
    fn words_in_comments_and_strings_register_nothing() {
        for body in [
            "-- redis.register_function('f', g)",
            "--[==[ redis.register_function('f', g) ]] ]==]",
            "local s = \"redis.register_function('f', g)\"",
            "local s = [[redis.register_function('f', g)]]",
            "redis.register_function(name, g)",
            "local register = redis.register_function",
        ] {
            assert_eq!(functions(body), [""; 0], "{body}");
        }
        assert_eq!(functions("local q = '\\''; redis.register_function('f', g)"), ["f"]);
    }

    #[test]
    fn a_library_begins_with_its_name() {
        let library = Library::parse(b"#!LUA name=a_b engine=x\r\nreturn 1").unwrap();
        assert_eq!((library.name.as_str(), library.functions.len()), ("a_b", 0));
        for source in ["return 1", "#!lua\nreturn 1", "#!js name=x\n", "\n#!lua name=x\n", ""] {
            assert_eq!(Library::parse(source.as_bytes()), None, "{source}");
        }
    }

    #[test]
    fn a_source_may_give_itself_a_name() {
        assert_eq!(
            given_name(b"#!lua\n--  redis-script-exporter: name=checkout/pay \r\n"),
            Some("checkout/pay")
        );
        for source in [
            "-- name: pay",
            "-- see redis-script-exporter: name=x",
            "local s = '-- redis-script-exporter: name=x'",
            "\n\n\n\n\n\n\n\n\n\n-- redis-script-exporter: name=too-late",
        ] {
            assert_eq!(given_name(source.as_bytes()), None, "{source}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(source in prop::collection::vec(prop::sample::select(&b"[]=-'\"\\\n redis.register_function{}(),a\xff"[..]), 0..200)) {
            let _ = Library::parse(&[b"#!lua name=x\n", source.as_slice()].concat());
            given_name(&source);
        }
    }
}
