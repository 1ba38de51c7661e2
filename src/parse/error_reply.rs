//! Error replies.
//!
//! The texts were captured from Redis 6.2.14 and 7.0.15 and from Valkey 9.1.2, unless another source is given.

use std::fmt;

use crate::text::clean;

/// Kind of command that makes a server reply BUSY. The text of the reply names the applicable kill command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BusyKind {
    /// EVAL and EVALSHA: `-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.`
    ///
    /// Redis 6.2.14 and 7.0.15; Valkey 9.1.2 says `Valkey is busy`.
    Script,
    /// FCALL: `-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.`
    ///
    /// Redis 7.0.15; Valkey 9.1.2 says `Valkey is busy`. Redis 6.2 has no functions.
    Function,
    /// A module's command: `-BUSY Redis is busy running a module command.`, or a text specific to the module.
    ///
    /// From the source of Redis 7.0; not measured. Neither kill command applies.
    Module,
}

impl BusyKind {
    /// All variants.
    pub(crate) const ALL: [Self; 3] = [Self::Script, Self::Function, Self::Module];

    /// Returns the value of the labels `kind` and `cause`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Function => "function",
            Self::Module => "module",
        }
    }

    /// Parses the text of a BUSY reply.
    fn parse(detail: &str) -> Self {
        if detail.contains("FUNCTION KILL") {
            Self::Function
        } else if detail.contains("SCRIPT KILL") {
            Self::Script
        } else {
            Self::Module
        }
    }
}

/// A parsed error reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ErrorReply {
    /// A script, function or module command exceeds the time limit: `-BUSY …` (see [`BusyKind`]), or, for EXEC,
    /// `-EXECABORT Transaction discarded because of: BUSY …`.
    Busy {
        /// Kind of the running command.
        kind: BusyKind,
        /// True if the server has counted the reply in `errorstat_BUSY`. EXECABORT is counted elsewhere.
        counted: bool,
    },
    /// `-LOADING Redis is loading the dataset in memory`.
    Loading,
    /// `-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.`
    MasterDown,
    /// The server rejects the credentials or the client: `-NOAUTH Authentication required.`, `-WRONGPASS invalid
    /// username-password pair or user is disabled.`, or `-DENIED Redis is running in protected mode …`.
    Unauthorized {
        /// Text of the reply, printable.
        text: String,
    },
    /// The ACL does not allow the command: `-NOPERM this user has no permissions to run the 'slowlog|get' command` (Redis
    /// 7.0.15), `… the 'slowlog' command or its subcommand` (6.2.14), `-NOPERM User … has no permissions …` (Valkey 9.1.2).
    NoPermission,
    /// The server does not have the command: `-ERR unknown command 'CONFIG', with args beginning with: …`,
    /// `-ERR unknown subcommand 'STATS'. Try FUNCTION HELP.` (7.0.15), or `-ERR Unknown subcommand …` (6.2.14). Services and
    /// proxies use their own texts ([`UNKNOWN_COMMAND`]).
    Unknown,
    /// Any other error.
    Other {
        /// Text of the reply, printable.
        text: String,
    },
}

/// Maximum length of a text, characters.
const MAX_TEXT: usize = 200;

impl ErrorReply {
    /// Parses an error reply from its first word and the rest.
    #[must_use]
    pub(crate) fn parse(code: &str, detail: &str) -> Self {
        let text = || clean(format!("{code} {detail}").trim(), MAX_TEXT);
        match code {
            "BUSY" => Self::Busy { kind: BusyKind::parse(detail), counted: true },
            "EXECABORT" => match detail.split_once("because of: ").map(|(_, cause)| split_code(cause)) {
                Some(("BUSY", cause)) => Self::Busy { kind: BusyKind::parse(cause), counted: false },
                Some(("LOADING", _)) => Self::Loading,
                Some(("MASTERDOWN", _)) => Self::MasterDown,
                Some(("NOPERM", _)) => Self::NoPermission,
                _ => Self::Other { text: text() },
            },
            "LOADING" => Self::Loading,
            "MASTERDOWN" => Self::MasterDown,
            "NOAUTH" | "WRONGPASS" | "DENIED" => Self::Unauthorized { text: text() },
            "NOPERM" => Self::NoPermission,
            _ if is_unknown_command(&text()) => Self::Unknown,
            _ => Self::Other { text: text() },
        }
    }
}

/// Phrases with which servers, services and proxies report an unknown command, in lower case.
const UNKNOWN_COMMAND: [&str; 12] = [
    "unknown command",
    "unknown redis command",
    "unknown subcommand",
    "unsupported command",
    "unsupport command",
    "command is not supported",
    "command not supported",
    "command is not available",
    "command is not allowed",
    "command not allowed",
    "command is disabled",
    "command not support",
];

/// True if a text reports an unknown command.
fn is_unknown_command(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    UNKNOWN_COMMAND.iter().any(|words| text.contains(words))
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { kind, .. } => write!(f, "BUSY ({})", kind.as_str()),
            Self::Loading => f.write_str("LOADING"),
            Self::MasterDown => f.write_str("MASTERDOWN"),
            Self::NoPermission => f.write_str("NOPERM"),
            Self::Unknown => f.write_str("unknown command"),
            Self::Unauthorized { text } | Self::Other { text } => f.write_str(text),
        }
    }
}

/// Splits a text after its first word.
fn split_code(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> ErrorReply {
        let (code, detail) = split_code(line);
        ErrorReply::parse(code, detail)
    }

    #[test]
    fn captured_error_replies_are_parsed() {
        let busy = |kind, counted| ErrorReply::Busy { kind, counted };
        for (line, expected) in [
            (
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                busy(BusyKind::Script, true),
            ),
            (
                "BUSY Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
                busy(BusyKind::Function, true),
            ),
            ("BUSY Redis is busy running a module command.", busy(BusyKind::Module, true)),
            (
                "EXECABORT Transaction discarded because of: BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                busy(BusyKind::Script, false),
            ),
            (
                "EXECABORT Transaction discarded because of: NOPERM this user has no permissions to run the 'exec' command",
                ErrorReply::NoPermission,
            ),
            ("LOADING Redis is loading the dataset in memory", ErrorReply::Loading),
            (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                ErrorReply::MasterDown,
            ),
            (
                "NOPERM this user has no permissions to run the 'slowlog|get' command",
                ErrorReply::NoPermission,
            ),
            ("ERR unknown command 'CONFIG', with args beginning with: 'GET' 'x' ", ErrorReply::Unknown),
            ("ERR unknown subcommand 'STATS'. Try FUNCTION HELP.", ErrorReply::Unknown),
            ("ERR Command is not available: 'CONFIG'.", ErrorReply::Unknown),
            ("unsupported command 'slowlog'", ErrorReply::Unknown),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn similar_codes_are_other_errors() {
        for line in [
            "BUSYGROUP Consumer Group name already exists",
            "BUSYKEY Target key name already exists.",
            "EXECABORT Transaction discarded because of previous errors.",
            "",
        ] {
            assert!(matches!(parse(line), ErrorReply::Other { .. }), "{line}");
        }
    }

    #[test]
    fn the_text_of_rejected_credentials_is_one_printable_line() {
        for line in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOAUTH Authentication required.",
            "DENIED Redis is running in protected mode",
        ] {
            assert_eq!(parse(line), ErrorReply::Unauthorized { text: line.to_owned() });
        }
        let ErrorReply::Other { text } =
            ErrorReply::parse("ERR", &format!("a\nb\u{1b}[31m\u{202e}\u{200b}{}", "x".repeat(500)))
        else {
            panic!()
        };
        assert!(text.len() <= MAX_TEXT && !text.contains(['\n', '\u{1b}', '\u{202e}', '\u{200b}']), "{text}");
    }
}
