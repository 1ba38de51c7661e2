//! Detection of Lua files for other programs.
//!
//! Besides scripts for Redis, repositories contain Lua for web servers, editors, games and tests. A file is for another program if
//! nothing in it is specific to Redis and it uses a name that Redis does not have.

use full_moon::tokenizer::Symbol;

use crate::lua::{Kind, Position, Token};

/// Names that only other programs define, and that are rarely names of variables.
const FOREIGN: &str = "\
    AddCSLuaFile CreateFrame LibStub RegisterNetEvent SMODS UnityEngine after_each awesome before_each describe dofile ffi \
    hooksecurefunc io jit loadfile love minetest module ngx package print require vim wezterm";

/// Tables of functions that scripts extend.
const LIBRARIES: &str = "\
    math redis server string table";

/// Members of `redis` in the script API.
const API: &str = "\
    REDIS_VERSION REDIS_VERSION_NUM acl_check_cmd breakpoint call debug error_reply log pcall register_function \
    replicate_commands set_repl setresp sha1hex status_reply";

/// Members of `server`; a subset of [`API`].
const SERVER_API: &str = "\
    call error_reply pcall register_function status_reply";

/// True if a source uses KEYS, ARGV, or the API of the server.
pub(crate) fn uses_redis(tokens: &[Token<'_>]) -> bool {
    let mut found = false;
    variables(tokens, |name, _, followers| {
        found |= match name {
            "KEYS" | "ARGV" => true,
            "redis" => is_member(followers, API),
            "server" => is_member(followers, SERVER_API),
            _ => false,
        };
    });
    found
}

/// Character that no text file contains.
pub(crate) const NUL: &str = "\0";

/// Name that identifies a source as Lua for another program, and its position. Other undefined names may occur in a fragment of a
/// script.
pub(crate) fn foreign_name<'a>(tokens: &[Token<'a>]) -> Option<(Position, &'a str)> {
    let mut found = None;
    variables(tokens, |name, position, _| {
        if found.is_none() && contains(FOREIGN, name) {
            found = Some((position, name));
        }
    });
    found.or_else(|| label(tokens))
}

/// First use of a member of `assert`, and its position. `assert` is a function in Redis and a table in test frameworks.
pub(crate) fn assertion<'a>(tokens: &[Token<'a>]) -> Option<(Position, &'a str)> {
    let mut found = None;
    variables(tokens, |name, position, followers| {
        let is_table = followers.first().is_some_and(|next| next.kind == Kind::Symbol(Symbol::Dot));
        if found.is_none() && name == "assert" && is_table {
            found = Some((position, name));
        }
    });
    found
}

/// First function that a source declares as a member of a table (`function class.name`, `function class:name`).
pub(crate) fn method<'a>(tokens: &[Token<'a>]) -> Option<(Position, &'a str)> {
    tokens.windows(4).find_map(|words| match words {
        [function, table, dot, name] => {
            let is_member = function.kind == Kind::Symbol(Symbol::Function)
                && matches!(dot.kind, Kind::Symbol(Symbol::Dot | Symbol::Colon))
                && matches!(name.kind, Kind::Word(_));
            let Kind::Word(word) = table.kind else { return None };
            (is_member && !contains(LIBRARIES, word)).then_some((table.position, word))
        }
        _ => None,
    })
}

/// First `goto`, label or variable attribute (`<const>`). Lua 5.1 has none of them.
fn label<'a>(tokens: &[Token<'a>]) -> Option<(Position, &'a str)> {
    let is_colon = |token: &Token<'_>| token.kind == Kind::Symbol(Symbol::Colon);
    tokens.windows(3).find_map(|words| match words {
        [goto, name, _] => match (goto.kind, name.kind) {
            (Kind::Word(word @ "goto"), Kind::Word(_)) => Some((goto.position, word)),
            (Kind::Symbol(Symbol::LessThan), Kind::Word(word @ ("const" | "close"))) => {
                Some((goto.position, word))
            }
            (Kind::Symbol(_), Kind::Symbol(_)) if is_colon(goto) && is_colon(name) => {
                Some((goto.position, "::"))
            }
            _ => None,
        },
        _ => None,
    })
}

/// Visits the words that may be variables, with their positions and the tokens after them.
fn variables<'a>(tokens: &[Token<'a>], mut visit: impl FnMut(&'a str, Position, &[Token<'a>])) {
    let (mut is_field, mut is_method) = (false, false);
    for (index, token) in tokens.iter().enumerate() {
        if let Kind::Word(name) = token.kind
            && !is_field
        {
            visit(name, token.position, tokens.get(index + 1..).unwrap_or_default());
        }
        // Two colons delimit a label; the word after them is not a field.
        let is_colon = token.kind == Kind::Symbol(Symbol::Colon);
        is_field = token.kind == Kind::Symbol(Symbol::Dot) || is_colon && !is_method;
        is_method = is_colon;
    }
}

/// True if tokens begin with `.member` or `['member']`, where `member` is in `members`.
fn is_member(followers: &[Token<'_>], members: &str) -> bool {
    match followers {
        [dot, member, ..] if dot.kind == Kind::Symbol(Symbol::Dot) => {
            matches!(member.kind, Kind::Word(member) if contains(members, member))
        }
        [bracket, member, ..] if bracket.kind == Kind::Symbol(Symbol::LeftBracket) => {
            matches!(member.kind, Kind::String(member) if contains(members, member.trim_matches(['\'', '"'])))
        }
        _ => false,
    }
}

fn contains(words: &str, word: &str) -> bool {
    words.split(' ').any(|one| one == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lua::tokens;

    #[test]
    fn the_api_of_the_server_tells_scripts_from_other_lua() {
        for (source, expected) in [
            ("return redis.call('GET', 'a')", true),
            ("local call = redis['pcall'] return call('GET', 'a')", true),
            ("return server.call('GET', 'a')", true),
            ("return KEYS[1]", true),
            ("for i = 1, #ARGV do end", true),
            (
                "local redis = require 'resty.redis' local red = redis:new() red:eval('return redis.call(1)', 0)",
                false,
            ),
            ("return self.redis.call, ngx.KEYS, a.ARGV", false),
            ("server.log('a') -- redis.call KEYS[1]", false),
            ("return 1", false),
        ] {
            assert_eq!(uses_redis(&tokens(source).collect::<Vec<_>>()), expected, "{source}");
        }
    }
}
