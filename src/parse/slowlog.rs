//! SLOWLOG GET.
//!
//! An entry is an array of id, end time (whole seconds), duration (µs), arguments, client address and client name; the last two
//! were added in Redis 4.0. Redis Enterprise and Redis Cloud insert another element before the arguments: a string (`Complexity
//! info: N:16`, `N:16,M:2`) or null. Elements after the client name are ignored, because newer servers may add some. The server
//! logs at most 32 arguments and truncates each to 128 bytes (measured on Redis 6.2.14, 7.0.15 and Valkey 9.1.2).

use std::time::Duration;

use ::redis::Value;

use super::reply::{MAX_TEXT, Malformed, bytes, integer, items};
use crate::script::{Call, ScriptCommand};
use crate::text::clean;

/// Arguments that identify a call: the command, the script and the number of keys.
const CALL_ARGUMENTS: usize = 3;

/// Maximum number of keys kept per call.
const MAX_KEYS: u64 = 8;

/// Maximum length of a command name, client address or client name, bytes.
const MAX_NAME: usize = 128;

/// Maximum length of a body that the server logs in full, bytes.
const MAX_WHOLE_BODY: usize = 128;

/// Settings that control which call and script data is kept and shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Privacy {
    /// Keep the first keys of slow calls for the status page and the API.
    pub(crate) show_keys: bool,
    /// Drop client addresses and names while parsing.
    pub(crate) hide_clients: bool,
    /// Read the sources of scripts from servers, and show them on the status page and in the API.
    pub(crate) show_source: bool,
}

/// An entry of the slow log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Id; the server increments it with every entry.
    pub(crate) id: u64,
    /// End of the command, in whole seconds since the Unix epoch, according to the server's clock.
    pub(crate) ended_at: u64,
    /// Run time of the command.
    pub(crate) duration: Duration,
    /// Name of the command in lower case, at most [`MAX_NAME`] bytes; empty if the entry has no arguments.
    pub(crate) command: String,
    /// Call to a script or function; `None` for other commands.
    pub(crate) call: Option<Call>,
    /// Body of an EVAL that the server has logged in full.
    pub(crate) body: Option<Vec<u8>>,
    /// First keys of the call as text; empty unless [`Privacy::show_keys`] is set.
    pub(crate) keys: Vec<String>,
    /// Client address; empty or `?:0` for commands inside a script, depending on the version.
    pub(crate) client: String,
    /// Client name, as set by CLIENT SETNAME; often empty.
    pub(crate) client_name: String,
}

/// A parsed reply to SLOWLOG GET.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SlowlogReply {
    /// Readable entries by ascending id, without duplicates.
    pub(crate) entries: Vec<Entry>,
    /// Number of elements, readable or not. Fewer than requested means that the server has no more.
    pub(crate) received: usize,
    /// Number of elements that can't be parsed as entries.
    pub(crate) malformed: usize,
    /// Ids of malformed elements that have one, ascending, without the ids of readable entries.
    pub(crate) unreadable: Vec<u64>,
}

impl SlowlogReply {
    /// Parses a reply and omits the data that `privacy` excludes. Malformed entries are counted and skipped.
    ///
    /// # Errors
    /// The reply is not an array.
    pub(crate) fn parse(value: Value, privacy: Privacy) -> Result<Self, Malformed> {
        let elements = items(value)?;
        let received = elements.len();
        let (mut entries, mut unreadable, mut malformed) = (Vec::new(), Vec::new(), 0);
        for element in elements {
            let id = id(&element);
            if let Ok(entry) = Entry::parse(element, privacy) {
                entries.push(entry);
            } else {
                malformed += 1;
                unreadable.extend(id);
            }
        }
        entries.sort_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        unreadable.sort_unstable();
        unreadable.dedup();
        unreadable.retain(|id| entries.binary_search_by_key(id, |entry| entry.id).is_err());
        Ok(Self { entries, received, malformed, unreadable })
    }
}

impl Entry {
    fn parse(value: Value, privacy: Privacy) -> Result<Self, Malformed> {
        let mut fields = items(value)?.into_iter();
        let mut next = || fields.next().ok_or(Malformed::new("a slow log entry with at least 4 fields"));
        let id = unsigned(&next()?)?;
        let ended_at = unsigned(&next()?)?;
        let duration = Duration::from_micros(unsigned(&next()?)?);
        let mut arguments = next()?;
        if !matches!(arguments, Value::Array(_)) {
            arguments = next()?;
        }
        let mut arguments = items(arguments)?.into_iter();
        let first = arguments.by_ref().take(CALL_ARGUMENTS).map(bytes).collect::<Result<Vec<_>, _>>()?;
        let call = Call::from_arguments(&first);
        let keys = match &call {
            Some(call) if privacy.show_keys => {
                let count = usize::try_from(call.keys.unwrap_or(0).min(MAX_KEYS)).unwrap_or(0);
                arguments.take(count).filter_map(|key| Some(key_text(&bytes(key).ok()?))).collect()
            }
            _ => Vec::new(),
        };
        let is_eval = call
            .as_ref()
            .is_some_and(|call| matches!(call.command, ScriptCommand::Eval | ScriptCommand::EvalRo));
        let command = first.first().map(|name| command_name(name)).unwrap_or_default();
        let body = first.into_iter().nth(1).filter(|body| is_eval && body.len() <= MAX_WHOLE_BODY);
        let mut text = || match fields.next().map(bytes) {
            Some(Ok(text)) if !privacy.hide_clients => clean(String::from_utf8_lossy(&text).trim(), MAX_NAME),
            _ => String::new(),
        };
        let (client, client_name) = (text(), text());
        Ok(Self { id, ended_at, duration, command, call, body, keys, client, client_name })
    }
}

/// Returns the id of an element, even if the element is otherwise malformed.
fn id(element: &Value) -> Option<u64> {
    let Value::Array(fields) = element else { return None };
    unsigned(fields.first()?).ok()
}

fn command_name(name: &[u8]) -> String {
    let name = name.get(..MAX_NAME).unwrap_or(name);
    clean(String::from_utf8_lossy(name).trim(), MAX_NAME).to_ascii_lowercase()
}

/// Returns a key as text of at most [`MAX_TEXT`] bytes.
fn key_text(key: &[u8]) -> String {
    let key = key.get(..=MAX_TEXT).unwrap_or(key);
    clean(&String::from_utf8_lossy(key), MAX_TEXT)
}

fn unsigned(value: &Value) -> Result<u64, Malformed> {
    u64::try_from(integer(value)?).map_err(|_| Malformed::new("a non-negative number"))
}

#[cfg(test)]
impl Entry {
    /// Returns an entry with these arguments, and with zero or empty values in all other fields.
    pub(crate) fn with_arguments(arguments: &[impl AsRef<[u8]>]) -> Self {
        let arguments = arguments.iter().map(|argument| Value::BulkString(argument.as_ref().to_vec()));
        let fields = vec![Value::Int(0), Value::Int(0), Value::Int(0), Value::Array(arguments.collect())];
        Self::parse(Value::Array(fields), Privacy::default()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::script::Sha1Digits;

    /// Reply of Redis 7.0.15 after `EVAL "return 1" 0` and a PING.
    const CAPTURED: &[u8] = b"*2\r\n*6\r\n:201\r\n:1795422516\r\n:2500103\r\n*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n$15\r\n127.0.0.1:34154\r\n$4\r\nname\r\n*6\r\n:200\r\n:1795422248\r\n:39\r\n*1\r\n$4\r\nPING\r\n$3\r\n?:0\r\n$0\r\n\r\n";

    fn parse(bytes: &[u8]) -> Result<SlowlogReply, Malformed> {
        SlowlogReply::parse(::redis::parse_redis_value(bytes).unwrap(), Privacy::default())
    }

    #[test]
    fn a_captured_reply_is_sorted_oldest_first() {
        let reply = parse(CAPTURED).unwrap();
        assert_eq!((reply.received, reply.malformed), (2, 0));
        assert_eq!(reply.entries[0].id, 200);
        assert_eq!(
            reply.entries[1],
            Entry {
                id: 201,
                ended_at: 1_795_422_516,
                duration: Duration::from_micros(2_500_103),
                client: "127.0.0.1:34154".to_owned(),
                client_name: "name".to_owned(),
                ..Entry::with_arguments(&["EVAL", "return 1", "0"])
            }
        );
    }

    #[test]
    fn entries_of_other_servers_have_fewer_or_more_fields() {
        let old = parse(b"*1\r\n*4\r\n:1\r\n:2\r\n:3\r\n*1\r\n$4\r\nPING\r\n").unwrap();
        assert_eq!((old.entries[0].id, old.entries[0].client.as_str()), (1, ""));
        let new =
            parse(b"*1\r\n*8\r\n:1\r\n:2\r\n:3\r\n*1\r\n$4\r\nPING\r\n$1\r\na\r\n$1\r\nb\r\n:9\r\n*0\r\n")
                .unwrap();
        assert_eq!((new.entries[0].client.as_str(), new.entries[0].client_name.as_str()), ("a", "b"));
    }

    /// Replies of Redis Enterprise and Redis Cloud; only the first one was captured.
    #[test]
    fn an_element_before_the_arguments_is_ignored() {
        for extra in [
            "$21\r\nComplexity info: N:16\r\n",
            "$8\r\nN:16,M:2\r\n",
            "+N:1\r\n",
            "$-1\r\n",
            "*-1\r\n",
            ":7\r\n",
        ] {
            for (fields, client) in [(7, "$11\r\n127.0.0.1:5\r\n$1\r\nw\r\n"), (5, "")] {
                let reply = format!(
                    "*1\r\n*{fields}\r\n:5\r\n:1795650000\r\n:9000000\r\n{extra}*3\r\n$7\r\nevalsha\r\n$3\r\nabc\r\n$1\r\n0\r\n{client}"
                );
                let reply = parse(reply.as_bytes()).unwrap();
                let expected = Entry {
                    id: 5,
                    ended_at: 1_795_650_000,
                    duration: Duration::from_secs(9),
                    client: if client.is_empty() { "" } else { "127.0.0.1:5" }.to_owned(),
                    client_name: if client.is_empty() { "" } else { "w" }.to_owned(),
                    ..Entry::with_arguments(&["evalsha", "abc", "0"])
                };
                assert_eq!((reply.malformed, reply.entries), (0, vec![expected]), "{extra:?} {fields}");
            }
        }
    }

    #[test]
    fn a_broken_entry_does_not_hide_the_others() {
        let reply =
            parse(b"*3\r\n:7\r\n*4\r\n:5\r\n:2\r\n:-3\r\n*0\r\n*4\r\n:4\r\n:2\r\n:3\r\n*0\r\n").unwrap();
        assert_eq!((reply.received, reply.malformed, reply.entries.len()), (3, 2, 1));
        assert_eq!(reply.unreadable, [5], "the account needs the id");
        assert_eq!(parse(b"*1\r\n:7\r\n").unwrap().malformed, 1);
        let twice = parse(b"*3\r\n*1\r\n:4\r\n*4\r\n:4\r\n:2\r\n:3\r\n*0\r\n*1\r\n:4\r\n").unwrap();
        assert_eq!((twice.malformed, twice.unreadable.len(), twice.entries.len()), (2, 0, 1));
        assert!(parse(b"+OK\r\n").is_err());
        assert_eq!(parse(b"*0\r\n").unwrap(), SlowlogReply::default());
    }

    /// Parses an entry with these arguments.
    fn one(arguments: &[&str], privacy: Privacy) -> Entry {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let arguments = Value::Array(arguments.iter().map(|argument| text(argument)).collect());
        let fields =
            [Value::Int(1), Value::Int(2), Value::Int(3), arguments, text("10.0.0.9:1"), text("worker")];
        let reply = SlowlogReply::parse(Value::Array(vec![Value::Array(fields.to_vec())]), privacy);
        reply.unwrap().entries.remove(0)
    }

    #[test]
    fn keys_are_kept_only_for_script_calls_and_only_on_request() {
        let show = Privacy { show_keys: true, ..Privacy::default() };
        let keys = |arguments: &[&str], privacy| one(arguments, privacy).keys;
        let call = ["EVALSHA", "abc", "2", "user:1", "user:\n2", "secret"];
        assert!(keys(&call, Privacy::default()).is_empty());
        assert_eq!(keys(&call, show), ["user:1", "user:\\n2"]);
        // Not a script call, although the third argument looks like a key count.
        assert!(keys(&["SETEX", "k", "9", "secret"], show).is_empty());
        assert!(keys(&["EVAL", "return 1", "-1", "secret"], show).is_empty());
        let many: Vec<&str> = ["FCALL", "f", "100"].into_iter().chain(["k"; 29]).collect();
        assert_eq!(keys(&many, show).len(), 8);
    }

    #[test]
    fn hidden_clients_are_dropped() {
        let hide = Privacy { hide_clients: true, ..Privacy::default() };
        let shown = one(&["EVAL", "return 1", "0"], Privacy::default());
        assert_eq!((shown.client.as_str(), shown.client_name.as_str()), ("10.0.0.9:1", "worker"));
        let hidden = one(&["EVAL", "return 1", "0"], hide);
        assert_eq!((hidden.client.as_str(), hidden.client_name.as_str()), ("", ""));
    }

    #[test]
    fn what_is_kept_of_arguments_is_bounded() {
        let show = Privacy { show_keys: true, ..Privacy::default() };
        let long = "x".repeat(10_000);
        let entry = one(&["EVAL", &long, "1", &long], show);
        assert_eq!((entry.body, entry.keys), (None, vec!["x".repeat(253) + "…"]));
        // A script from a server that does not truncate arguments is hashed in full.
        assert_eq!(entry.call.unwrap().script.sha1, Some(Sha1Digits::of(long.as_bytes())));
        let entry = one(&[&long, &long], show);
        assert_eq!((entry.command.len(), entry.call, entry.body), (128, None, None));
        let entry = one(&["FCALL", "f", "1", "a\u{202e}\u{200b}b"], show);
        assert_eq!(entry.keys, ["a\\u{202e}\\u{200b}b"]);
        assert_eq!(one(&["G\u{1b}ET\u{202e}", "k"], show).command, "g\\u{1b}et\\u{202e}");
    }

    #[test]
    fn a_call_is_parsed_with_its_entry() {
        let entry = one(&["EVAL_RO", "return 1", "2", "a", "b"], Privacy::default());
        let call = entry.call.unwrap();
        assert_eq!((call.command, call.keys), (ScriptCommand::EvalRo, Some(2)));
        assert_eq!(call.script.sha1, Some(Sha1Digits::of(b"return 1")));
        assert_eq!((entry.command.as_str(), entry.body), ("eval_ro", Some(b"return 1".to_vec())));
        let entry = one(&["EVALSHA", "abc", "0"], Privacy::default());
        assert_eq!((entry.call.is_some(), entry.body), (true, None));
        let entry = one(&["GET", "k"], Privacy::default());
        assert_eq!((entry.command.as_str(), entry.call, entry.body), ("get", None, None));
    }

    pub(super) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Int),
            any::<Vec<u8>>().prop_map(Value::BulkString),
            Just(Value::Nil),
            Just(Value::Okay),
            any::<f64>().prop_map(Value::Double),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_reply_is_parsed_or_rejected(value in any_value()) {
            if let Ok(reply) = SlowlogReply::parse(value, Privacy::default()) {
                prop_assert!(reply.entries.windows(2).all(|pair| pair[0].id < pair[1].id));
                prop_assert!(reply.entries.len() + reply.malformed <= reply.received);
                prop_assert!(reply.unreadable.len() <= reply.malformed);
            }
        }
    }
}
