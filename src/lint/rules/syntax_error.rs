//! Sources that are not Lua 5.1.

use full_moon::tokenizer::Symbol;

use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, Source};
use crate::lint::source::parse::ParseError;
use crate::lint::source::placeholders;
use crate::lua::{Kind, Position, Token};

pub(super) static RULE: Rule = Rule {
    name: "syntax-error",
    severity: Severity::Error,
    on_by_default: true,
    summary: "a source that is not Lua 5.1, which the server rejects",
    instead: "correct the syntax; SCRIPT LOAD and FUNCTION LOAD report the same error",
    why: "The server replies to every call with an error. Later versions of Lua have syntax that Lua 5.1 \
          lacks, such as `goto`, `//` and `&`.",
    example: Some(Example {
        bad: "\
            return redis.call('GET', KEYS[1]",
        good: "\
            return redis.call('GET', KEYS[1])",
    }),
    check: Check::Source(check),
};

fn check(source: &Source<'_>) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    if let Some(ParseError::Syntax(position, message)) = source.error
        && placeholders::in_code(source.text, source.tokens, *position).is_none()
        && !(source.origin.is_literal() && is_part(source, *position))
    {
        diagnostics.push(Diagnostic::new(&RULE, *position, message));
    }
    // A client that replaces `@key` reads the file as text, and drops the byte order mark.
    if source.text.starts_with('\u{feff}') && source.parameters.is_empty() {
        let message = "the file begins with a byte order mark, which is not Lua";
        diagnostics.push(Diagnostic::new(&RULE, Position::START, message));
    }
    diagnostics
}

/// True if a literal is not a whole script, but a part that the program concatenates with others, or a text that mentions a command.
/// The error is at its first token, at its end, at a comma, or at a token that closes a block or a bracket; or a block or a bracket is
/// not closed; or it contains no command call.
fn is_part(source: &Source<'_>, error: Position) -> bool {
    let is_open = source.tokens.last().is_none_or(|last| last.position <= error);
    let closes = |kind: Kind<'_>| {
        use Symbol::{Else, ElseIf, End, RightBrace, RightBracket, RightParen, Until};
        matches!(
            kind,
            Kind::Symbol(
                Else | ElseIf | End | Until | RightBrace | RightBracket | RightParen | Symbol::Comma
            )
        )
    };
    let begins_with_end = source.tokens.iter().any(|token| token.position == error && closes(token.kind));
    let is_call = |words: &[Token<'_>]| match words {
        [name, open, argument] => {
            matches!(name.kind, Kind::Word("call" | "pcall"))
                && matches!(open.kind, Kind::Symbol(Symbol::LeftParen))
                && matches!(argument.kind, Kind::Word(_) | Kind::String(_))
        }
        _ => false,
    };
    let is_at_start = source.tokens.first().is_some_and(|first| first.position == error);
    is_open
        || is_at_start
        || begins_with_end
        || !is_closed(source.tokens)
        || !source.tokens.windows(3).any(is_call)
}

/// True if all brackets and blocks of a source are closed.
fn is_closed(tokens: &[Token<'_>]) -> bool {
    use Symbol::{
        Do, End, Function, If, LeftBrace, LeftBracket, LeftParen, Repeat, RightBrace, RightBracket,
        RightParen, Until,
    };
    let mut open = [0_i32; 4];
    for token in tokens {
        let Kind::Symbol(symbol) = token.kind else { continue };
        let (kind, change) = match symbol {
            LeftParen => (0, 1),
            RightParen => (0, -1),
            LeftBracket => (1, 1),
            RightBracket => (1, -1),
            LeftBrace => (2, 1),
            RightBrace => (2, -1),
            Do | Function | If | Repeat => (3, 1),
            End | Until => (3, -1),
            _ => continue,
        };
        if let Some(open) = open.get_mut(kind) {
            *open += change;
        }
    }
    open == [0; 4]
}

#[cfg(test)]
mod tests {
    use super::Severity;
    use crate::lint::Limits;
    use crate::lint::rule::Origin;
    use crate::lint::tests::{findings, findings_in_literal, lint};

    #[test]
    fn parts_of_scripts_in_literals_are_not_errors() {
        for part in [
            "if redis.call('GET', KEYS[1]) then",
            "local a = 1 else redis.call('DEL', KEYS[1]) end",
            "redis.call('DEL', KEYS[1]) end",
            "redis.call('DEL', KEYS[1],",
            "redis.call(\"get\"",
            "<SHA:return redis.call('INCR', 'a')>",
            "for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, 9)) do redis.call('DEL', id)",
            "both redis.pubsub and redis.caller must be configured",
            "KEYS[1] is missing",
            "redis.call() without arguments fails",
        ] {
            assert_eq!(findings_in_literal(part), [], "{part}");
        }
        assert_eq!(
            findings_in_literal("if redis.call('GET', KEYS[1]) then return {= FULL =} end"),
            [(1, "client-value")]
        );
        let script = "local a = = 1\nredis.call('DEL', KEYS[1])\nreturn a";
        assert_eq!(findings_in_literal(script), [(1, "syntax-error")]);
    }

    #[test]
    fn findings_in_text_that_may_not_be_a_script_are_informational() {
        let severities = |source: &str, origin: Origin| {
            let (diagnostics, _) = crate::lint::checked(source, origin, &Limits::default(), &[]);
            diagnostics.into_iter().map(|found| (found.rule.name, found.severity)).collect::<Vec<_>>()
        };
        let literal = Origin::Literal { trims_lists: false };
        let script = "local a = = 1\nredis.call('DEL', KEYS[1])\nreturn a";
        assert_eq!(severities(script, literal), [("syntax-error", Severity::Info)]);
        assert_eq!(severities(script, Origin::File), [("syntax-error", Severity::Error)]);
        let line = "\nc = redis.call('INCR', KEYS[1])";
        assert_eq!(severities(line, literal), [("global-write", Severity::Info)]);
        assert_eq!(severities(&format!("{line}\nreturn c"), literal), [("global-write", Severity::Error)]);
        assert_eq!(severities("local a = = 1", Origin::File), [("syntax-error", Severity::Error)]);
        let long = "local a = work(1)\n".repeat(9) + "local a = = 1";
        assert_eq!(severities(&long, Origin::File), [("syntax-error", Severity::Info)]);
        let command = "#!/usr/bin/lua\n".to_owned() + &"local a = work(1)\n".repeat(9);
        assert_eq!(severities(&command, Origin::File), [("invalid-shebang", Severity::Info)]);
    }

    #[test]
    fn errors_have_a_position() {
        for (source, line) in [
            ("local x = 1\nlocal y = = 2", 2),
            ("local x = 'abc\nreturn 1", 1),
            ("return 1\n, 0x1p", 2),
            ("return 0x1p4x", 1),
            ("return 0xp4", 1),
            ("local x = 0x1 p4", 1),
            ("#!lua flags=no-writes\nreturn +", 2),
            ("if a then\n  break\nend", 2),
            ("local x = 'abc", 1),
            ("\u{feff}return 1", 1),
            ("-- <%= name %>\nlocal x = = 1", 2),
            ("local x = 'a'\nreturn '\\256'", 2),
            ("local function f()\n return ...\nend", 2),
            ("return [[abc", 1),
            ("local x\n--[[ abc", 2),
            ("return 'abc\\", 1),
            ("return \"abc\r\ndef\"", 1),
        ] {
            assert_eq!(findings(source), [(line, "syntax-error")], "{source}");
        }
    }

    /// The parser panics on these.
    #[test]
    fn backticks_are_errors() {
        for (source, line) in [
            ("local a = 1\n\nlocal x = `abc", 3),
            ("x = `abc`", 1),
            ("#!lua flags=no-writes\r\n-- `a`\r\nx = '`' .. `abc\r\n", 3),
        ] {
            assert_eq!(findings(source), [(line, "syntax-error")], "{source}");
        }
        let (findings, _) = lint("return `abc`");
        assert_eq!((findings[0].column, findings[0].message.as_str()), (8, "unexpected symbol near ```"));
    }

    #[test]
    fn line_ends_of_windows_are_line_ends() {
        assert_eq!(findings("return 'abc\\\n\rdef'"), []);
        assert_eq!(findings("return 'abc\\\rdef' .. [[\r\n]] .. '\\255\\\\999'"), []);
        assert_eq!(findings("local s = \"abc\\\r\ndef\"\r\nreturn s\r\n"), []);
        assert_eq!(findings("local s = 'a\\\r\n\\\r\n'\r\nlocal y = = 2\r\n"), [(4, "syntax-error")]);
        let found = findings("-- a\r\nreturn redis.call('KEYS', '*')\r\n");
        assert!(found.contains(&(2, "keys-command")), "{found:?}");
    }
}
