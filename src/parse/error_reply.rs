//! Error replies: what a server means when it does not do what it was asked.

use super::reply::printable;

/// What keeps a server BUSY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BusyKind {
    /// EVAL and its kin: SCRIPT KILL applies.
    Script,
    /// FCALL and its kin: FUNCTION KILL applies.
    Function,
    /// A module's command.
    Module,
}

impl BusyKind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Script, Self::Function, Self::Module];

    /// The value of the labels `kind` and `cause`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Function => "function",
            Self::Module => "module",
        }
    }
}

/// An error reply, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ErrorReply {
    /// A script, function or module command runs for longer than the time limit.
    Busy {
        /// What runs.
        kind: BusyKind,
        /// Whether the server added this to its `errorstat_BUSY` (an EXECABORT that tells BUSY is not).
        counted: bool,
    },
    /// The data set is being loaded.
    Loading,
    /// A replica without its master that is told not to serve stale data.
    MasterDown,
    /// The server does not accept who we are.
    Unauthorized {
        /// The server's words, safe to print.
        text: String,
    },
    /// The user may not run this command.
    NoPermission,
    /// The server does not know this command.
    Unknown,
    /// Something else.
    Other {
        /// The server's words, safe to print.
        text: String,
    },
}

/// How much of a server's text is passed on.
const MAX_TEXT: usize = 200;

impl ErrorReply {
    /// Understands an error reply from its first word and the rest. The facts: Redis 6.2.14, 7.0.15 and
    /// Valkey 9.1.2, measured.
    #[must_use]
    pub(crate) fn parse(code: &str, detail: &str) -> Self {
        let text = || printable(&format!("{code} {detail}"), MAX_TEXT);
        match code {
            "BUSY" => Self::Busy { kind: busy_kind(detail), counted: true },
            // EXEC while BUSY: "-EXECABORT Transaction discarded because of: BUSY Redis is busy …".
            "EXECABORT" => match detail.split_once("because of: ").map(|(_, cause)| words(cause)) {
                Some(("BUSY", cause)) => Self::Busy { kind: busy_kind(cause), counted: false },
                Some(("LOADING", _)) => Self::Loading,
                Some(("MASTERDOWN", _)) => Self::MasterDown,
                Some(("NOPERM", _)) => Self::NoPermission,
                _ => Self::Other { text: text() },
            },
            "LOADING" => Self::Loading,
            "MASTERDOWN" => Self::MasterDown,
            "NOAUTH" | "WRONGPASS" | "DENIED" => Self::Unauthorized { text: text() },
            "NOPERM" => Self::NoPermission,
            "ERR" if detail.starts_with("unknown command") || detail.starts_with("unknown subcommand") => {
                Self::Unknown
            }
            "ERR" if detail.starts_with("Unknown subcommand") => Self::Unknown,
            _ => Self::Other { text: text() },
        }
    }
}

/// Which kill the text of a BUSY reply offers.
fn busy_kind(detail: &str) -> BusyKind {
    if detail.contains("FUNCTION KILL") {
        BusyKind::Function
    } else if detail.contains("SCRIPT KILL") {
        BusyKind::Script
    } else {
        BusyKind::Module
    }
}

/// The first word and the rest.
fn words(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> ErrorReply {
        let (code, detail) = words(line);
        ErrorReply::parse(code, detail)
    }

    #[test]
    fn captured_error_replies_are_understood() {
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
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn words_that_only_look_alike_are_other_errors() {
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
    fn refused_credentials_keep_the_servers_words_in_one_line() {
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
        assert!(
            text.chars().count() <= MAX_TEXT && !text.contains(['\n', '\u{1b}', '\u{202e}', '\u{200b}']),
            "{text}"
        );
    }
}
