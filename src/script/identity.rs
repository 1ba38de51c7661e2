//! Identity of a script, from the arguments of its call in the slow log.
//!
//! The slow log truncates an argument of more than 128 bytes to its first 128 bytes and `... (N more bytes)` (measured on Redis
//! 6.2.14, 7.0.15 and Valkey 9.1.2). The SHA1 of a truncated body can't be computed, but its first 128 bytes and its length are a
//! stable fingerprint.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::command::ScriptCommand;
use super::sha1::Sha1Digits;
use crate::text::clean;

/// Maximum length of an argument in the slow log, in bytes.
const MAX_ARGUMENT: usize = 128;

/// Number of digits of a SHA1 in a label.
const LABEL_DIGITS: usize = 12;

/// Value of the label `script`, or a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) struct Label(Arc<str>);

impl Label {
    /// Creates a label.
    #[must_use]
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Text of the label.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.as_str().to_owned()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Source of a script's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Fingerprint of a truncated body.
    Approximate,
    /// SHA1 computed from the whole body.
    Computed,
    /// SHA1 or function name given by the server or its client.
    Server,
    /// File in `--script.dir`.
    Catalogue,
    /// Template in a file of `--script.dir`, recognized by its fixed parts.
    Template,
    /// Bundled catalogue of libraries.
    Bundled,
}

impl Origin {
    /// Value of the label `origin`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Approximate => "approximate",
            Self::Computed => "computed",
            Self::Server => "server",
            Self::Catalogue => "catalogue",
            Self::Template => "template",
            Self::Bundled => "bundled",
        }
    }
}

/// Identity of a script or function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// Value of the label `script`: 12 digits of the SHA1, a function's name, or `~` and 12 digits of the fingerprint.
    pub(crate) label: Label,
    /// SHA1; `None` for functions and truncated bodies.
    #[serde(with = "super::sha1::or_empty")]
    pub(crate) sha1: Option<Sha1Digits>,
    /// Name of the function in lower case; empty for scripts.
    pub(crate) name: String,
    /// Source of the identity.
    pub(crate) origin: Origin,
    /// Beginning of the body of an EVAL.
    #[serde(skip)]
    pub(super) beginning: Beginning,
}

/// Beginning of a script's body as recorded in the slow log, used to recognize templates. It is not part of the identity: it is
/// neither compared nor written to the state file.
#[derive(Debug, Clone, Default)]
pub(super) struct Beginning(Option<(Arc<[u8]>, usize)>);

impl Beginning {
    /// Creates the beginning of a body with this length.
    fn new(head: &[u8], length: usize) -> Self {
        Self(Some((head.get(..MAX_ARGUMENT).unwrap_or(head).into(), length)))
    }

    /// First bytes of the body, and the length of the whole body.
    pub(super) fn get(&self) -> Option<(&[u8], usize)> {
        self.0.as_ref().map(|(head, length)| (&**head, *length))
    }
}

impl PartialEq for Beginning {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Beginning {}

impl std::hash::Hash for Beginning {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Identity {
    /// Returns the identity of the script with this SHA1, in any letter case; `None` if it is not a SHA1.
    #[must_use]
    pub(crate) fn from_sha1(sha1: &[u8], origin: Origin) -> Option<Self> {
        Sha1Digits::parse(sha1).map(|sha1| Self::of_sha1(sha1, origin))
    }

    /// Returns the identity of the script with this SHA1.
    fn of_sha1(sha1: Sha1Digits, origin: Origin) -> Self {
        let (name, beginning) = (String::new(), Beginning::default());
        Self { label: short_label(sha1), sha1: Some(sha1), name, origin, beginning }
    }

    /// Returns the name of a script that is not in any catalogue. If the SHA1 of a fingerprint has become known, the name
    /// consists of its digits, so that EVAL and EVALSHA of the script have the same name.
    pub(super) fn own_name(&self) -> Label {
        self.sha1.map_or_else(|| self.label.clone(), short_label)
    }

    /// Returns the identity of the function named by a caller. The name is converted to lower case, because servers ignore case.
    /// Function names consist of letters, digits and `_` (documentation of FUNCTION LOAD). Hidden characters are escaped, and a
    /// name of more than 128 bytes is replaced with a fingerprint.
    #[must_use]
    pub(crate) fn from_function(name: &[u8]) -> Self {
        if name.is_empty() || name.len() > MAX_ARGUMENT {
            return Self::fingerprint(name, name.len());
        }
        let cleaned = clean(&String::from_utf8_lossy(name), usize::MAX).to_ascii_lowercase();
        if cleaned.len() > MAX_ARGUMENT {
            return Self::fingerprint(name, name.len());
        }
        let beginning = Beginning::default();
        Self { label: Label::new(&cleaned), sha1: None, name: cleaned, origin: Origin::Server, beginning }
    }

    /// Returns the identity of the script with this body, as recorded in the slow log.
    fn from_body(argument: &[u8]) -> Self {
        if let Some((head, length)) = cut(argument) {
            return Self { beginning: Beginning::new(head, length), ..Self::fingerprint(head, length) };
        }
        let beginning = Beginning::new(argument, argument.len());
        Self { beginning, ..Self::of_sha1(Sha1Digits::of(argument), Origin::Computed) }
    }

    /// Returns the identity of a truncated body with this label (`~` and 12 digits).
    #[must_use]
    pub(crate) fn from_cut_label(label: &str) -> Self {
        let (name, beginning) = (String::new(), Beginning::default());
        Self { label: Label::new(label), sha1: None, name, origin: Origin::Approximate, beginning }
    }

    /// Returns the label of this body when truncated by the slow log; `None` if it is short enough to be logged in full.
    pub(super) fn cut_label(body: &[u8]) -> Option<Label> {
        (body.len() > MAX_ARGUMENT).then(|| Self::fingerprint(body, body.len()).label)
    }

    /// Returns the identity of a script from the beginning and the length of its body.
    fn fingerprint(head: &[u8], length: usize) -> Self {
        let mut hash = Sha1::new();
        hash.update(head.get(..MAX_ARGUMENT).unwrap_or(head));
        hash.update(length.to_string().as_bytes());
        let digits: String = hex(&hash.finalize()).chars().take(LABEL_DIGITS).collect();
        Self {
            label: Label(format!("~{digits}").into()),
            sha1: None,
            name: String::new(),
            origin: Origin::Approximate,
            beginning: Beginning::default(),
        }
    }
}

/// Script with its displayed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedScript {
    /// Identity: value of the label `script`.
    pub(crate) label: Label,
    /// Name in the catalogue, otherwise the name of the function, otherwise digits of the SHA1 or fingerprint. All forms of a
    /// script have the same name.
    pub(crate) name: Label,
    /// SHA1; `None` for functions and unknown bodies.
    pub(crate) sha1: Option<Sha1Digits>,
    /// Source of the name.
    pub(crate) origin: Origin,
}

impl NamedScript {
    /// Returns the name if it differs from the identity.
    #[must_use]
    pub(crate) fn distinct_name(&self) -> Option<&str> {
        Some(self.name.as_str()).filter(|name| *name != self.label.as_str())
    }
}

/// Call of a script in the slow log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// Command.
    pub(crate) command: ScriptCommand,
    /// Script or function that was called.
    pub(crate) script: Identity,
    /// Number of keys given by the caller; `None` if it is not a number.
    pub(crate) keys: Option<u64>,
}

impl Call {
    /// Parses the arguments of a slow log entry; returns `None` if it is not a script call.
    #[must_use]
    pub(crate) fn from_arguments(arguments: &[Vec<u8>]) -> Option<Self> {
        let mut arguments = arguments.iter();
        let command = ScriptCommand::from_name(arguments.next()?)?;
        let script = arguments.next()?;
        let keys = arguments.next().and_then(|keys| std::str::from_utf8(keys).ok()?.parse().ok());
        let script = match command {
            ScriptCommand::Eval | ScriptCommand::EvalRo => Identity::from_body(script),
            // An argument that is not a SHA1 is untrusted text, and must not become a label.
            ScriptCommand::Evalsha | ScriptCommand::EvalshaRo => Identity::from_sha1(script, Origin::Server)
                .unwrap_or_else(|| Identity::fingerprint(script, script.len())),
            ScriptCommand::Fcall | ScriptCommand::FcallRo => Identity::from_function(script),
        };
        Some(Self { command, script, keys })
    }
}

/// Returns the first 128 bytes and the original length of an argument truncated by the slow log; `None` for other arguments.
fn cut(argument: &[u8]) -> Option<(&[u8], usize)> {
    let (head, tail) = argument.split_at_checked(MAX_ARGUMENT)?;
    let more = std::str::from_utf8(tail).ok()?.strip_prefix("... (")?.strip_suffix(" more bytes)")?;
    Some((head, MAX_ARGUMENT.saturating_add(more.parse().ok()?)))
}

/// Returns the first digits of a SHA1.
fn short_label(sha1: Sha1Digits) -> Label {
    Label(sha1.as_str().chars().take(LABEL_DIGITS).collect::<String>().into())
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(40), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(arguments: &[&[u8]]) -> Option<Call> {
        Call::from_arguments(&arguments.iter().map(|argument| argument.to_vec()).collect::<Vec<_>>())
    }

    /// Reply of `SCRIPT LOAD "return 1"`.
    const RETURN_1: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

    #[test]
    fn a_script_has_one_label_whichever_way_it_is_called() {
        let eval = call(&[b"EVAL", b"return 1", b"0"]).unwrap();
        let evalsha = call(&[b"evalSHA", RETURN_1.to_ascii_uppercase().as_bytes(), b"2", b"k"]).unwrap();
        assert_eq!(eval.script.label.as_str(), "e0e1f9fabfc9");
        assert_eq!(evalsha.script.label, eval.script.label);
        let sha1 = Sha1Digits::parse(RETURN_1);
        assert_eq!((eval.script.sha1, evalsha.script.sha1), (sha1, sha1));
        assert!(sha1.is_some());
        assert_eq!((eval.script.origin, evalsha.script.origin), (Origin::Computed, Origin::Server));
        assert_eq!((eval.command, eval.keys, evalsha.keys), (ScriptCommand::Eval, Some(0), Some(2)));
    }

    #[test]
    fn cut_bodies_differ_by_head_and_length() {
        let body = |first: u8, more: &str| {
            let mut body = vec![b'x'; 128];
            body[0] = first;
            body.extend(format!("... ({more} more bytes)").as_bytes());
            call(&[b"EVAL", &body, b"0"]).unwrap().script
        };
        let script = body(b'a', "10");
        assert!(script.label.as_str().starts_with('~') && script.label.as_str().len() == 13);
        assert_eq!(script, body(b'a', "10"));
        assert_ne!(script, body(b'a', "11"));
        assert_ne!(script, body(b'b', "10"));
        assert_eq!((script.sha1, script.origin), (None, Origin::Approximate));
    }

    #[test]
    fn a_whole_body_that_ends_like_a_cut_one_is_hashed() {
        let body = b"return 1 -- ... (5 more bytes)";
        assert_eq!(call(&[b"EVAL", body, b"0"]).unwrap().script.origin, Origin::Computed);
    }

    #[test]
    fn the_label_of_a_function_is_its_name() {
        let script = call(&[b"FCALL_RO", b"my_function", b"0"]).unwrap().script;
        assert_eq!(
            (script.label.as_str(), script.name.as_str(), script.sha1),
            ("my_function", "my_function", None)
        );
        assert_eq!(call(&[b"FCALL", b"My_Function", b"0"]).unwrap().script, script, "in any letter case");
        let hostile = call(&[b"FCALL", b"a\n\x1b\xff\"", b"0"]).unwrap().script;
        assert!(!hostile.label.as_str().contains(['\n', '\u{1b}']));
    }

    #[test]
    fn other_commands_and_broken_calls_are_no_script_calls() {
        assert!(call(&[b"SET", b"eval", b"1"]).is_none());
        assert!(call(&[b"EVAL"]).is_none());
        assert!(call(&[]).is_none());
        let junk = call(&[b"EVALSHA", b"not a sha", b"0"]).unwrap();
        assert!(junk.script.label.as_str().starts_with('~'));
    }

    proptest! {
        #[test]
        fn any_arguments_give_a_short_printable_label(
            command in prop::sample::select(ScriptCommand::ALL.to_vec()),
            arguments in prop::collection::vec(any::<Vec<u8>>(), 1..4),
        ) {
            let mut all = vec![command.as_str().as_bytes().to_vec()];
            all.extend(arguments);
            let label = Call::from_arguments(&all).unwrap().script.label;
            prop_assert!(!label.as_str().is_empty() && !label.as_str().chars().any(char::is_control));
            prop_assert!(label.as_str().chars().count() <= MAX_ARGUMENT);
        }
    }
}
