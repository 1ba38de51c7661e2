//! SLOWLOG GET. An entry is id, end time (whole seconds), duration (µs), arguments, client address, client
//! name: the last two since Redis 4; newer servers and forks may add more, which is passed over. Redis Enterprise and
//! Redis Cloud have one more element before the arguments: text (`Complexity info: N:16`, `N:16,M:2`) or null.

use std::time::Duration;

use ::redis::Value;

use super::reply::{MAX_TEXT, Malformed, bytes, integer, items, printable};
use crate::script::ScriptCommand;
use crate::text::is_hidden;

/// Arguments that are kept of an entry: the command, the script, the number of keys.
const KEPT_ARGUMENTS: usize = 3;

/// Keys that are kept of a script call besides, if the user wants to see them.
const KEPT_KEYS: u64 = 8;

/// Most characters of a client's address or name that are kept.
const MAX_NAME: usize = 128;

/// Data of calls and scripts that may be kept and shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Privacy {
    /// Keep the first keys of slow calls for the status page and the API.
    pub(crate) show_keys: bool,
    /// Drop clients' addresses and names as soon as they are read.
    pub(crate) hide_clients: bool,
    /// Ask servers for the sources of scripts, and show them on the status page and in the API.
    pub(crate) show_source: bool,
}

/// One entry of the slow log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Grows by one with every entry of a server's life.
    pub(crate) id: u64,
    /// When the command ended, in whole seconds since the Unix epoch by the server's clock.
    pub(crate) ended_at: u64,
    /// How long it ran.
    pub(crate) duration: Duration,
    /// The first arguments (`KEPT_ARGUMENTS`), as bytes; the server has cut each to 128, and all but a script are cut to
    /// 256 here. Then a script call's first keys, if they were asked for.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// Address of the client; empty or `?:0` for commands inside a script, depending on the version.
    pub(crate) client: String,
    /// Name that the client gave itself; often empty.
    pub(crate) client_name: String,
}

impl Entry {
    /// The keys that were kept, made printable.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        let keys = self.arguments.iter().skip(KEPT_ARGUMENTS);
        keys.map(|key| {
            String::from_utf8_lossy(key).chars().map(|c| if is_hidden(c) { '\u{fffd}' } else { c }).collect()
        })
    }
}

/// What SLOWLOG GET told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SlowlogReply {
    /// The entries that could be read, oldest first, no id twice.
    pub(crate) entries: Vec<Entry>,
    /// Elements of the reply, readable or not: fewer than asked for means that the ring holds no more.
    pub(crate) received: usize,
    /// Elements that could not be read as entries.
    pub(crate) malformed: usize,
    /// Ids of those of them that have one, rising, none of a readable entry among them.
    pub(crate) unreadable: Vec<u64>,
}

impl SlowlogReply {
    /// Reads a whole reply, and leaves out what `privacy` does not want. A broken entry is counted and left out too, so
    /// that it can't hide the others.
    ///
    /// # Errors
    /// The reply is no array.
    pub(crate) fn parse(value: Value, privacy: Privacy) -> Result<Self, Malformed> {
        let elements = items(value)?;
        let received = elements.len();
        let (mut entries, mut unreadable, mut malformed) = (Vec::new(), Vec::new(), 0);
        for element in elements {
            let id = id(&element);
            if let Ok(entry) = entry(element, privacy) {
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

/// The id of an element, whether or not the rest of it can be read.
fn id(element: &Value) -> Option<u64> {
    let Value::Array(fields) = element else { return None };
    unsigned(fields.first()?).ok()
}

fn entry(value: Value, privacy: Privacy) -> Result<Entry, Malformed> {
    let mut fields = items(value)?.into_iter();
    let mut next = || fields.next().ok_or(Malformed::new("a slow log entry of at least 4 fields"));
    let id = unsigned(&next()?)?;
    let ended_at = unsigned(&next()?)?;
    let duration = Duration::from_micros(unsigned(&next()?)?);
    let mut arguments = next()?;
    if !matches!(arguments, Value::Array(_)) {
        arguments = next()?;
    }
    let mut given = items(arguments)?.into_iter();
    let mut arguments = given.by_ref().take(KEPT_ARGUMENTS).map(bytes).collect::<Result<Vec<_>, _>>()?;
    if privacy.show_keys {
        let keys = usize::try_from(announced_keys(&arguments).min(KEPT_KEYS)).unwrap_or(0);
        arguments.extend(given.take(keys).filter_map(|key| bytes(key).ok()));
    }
    // A script that some server shows whole has to stay whole: its SHA1 is computed.
    let script = arguments.first().and_then(|name| ScriptCommand::from_name(name)).map(|_| 1);
    for (index, argument) in arguments.iter_mut().enumerate() {
        if argument.len() > MAX_TEXT && Some(index) != script {
            argument.truncate(MAX_TEXT);
            argument.shrink_to_fit();
        }
    }
    let mut text = || fields.next().and_then(|value| bytes(value).ok()).unwrap_or_default();
    if privacy.hide_clients {
        return Ok(Entry {
            id,
            ended_at,
            duration,
            arguments,
            client: String::new(),
            client_name: String::new(),
        });
    }
    let client = printable(&String::from_utf8_lossy(&text()), MAX_NAME);
    let client_name = printable(&String::from_utf8_lossy(&text()), MAX_NAME);
    Ok(Entry { id, ended_at, duration, arguments, client, client_name })
}

/// The number of keys that a script call announces; 0 for anything else, whose arguments are nobody's business.
fn announced_keys(arguments: &[Vec<u8>]) -> u64 {
    let [command, _, keys] = arguments else { return 0 };
    let keys = ScriptCommand::from_name(command).and_then(|_| std::str::from_utf8(keys).ok()?.parse().ok());
    keys.unwrap_or(0)
}

fn unsigned(value: &Value) -> Result<u64, Malformed> {
    u64::try_from(integer(value)?).map_err(|_| Malformed::new("a number that is not negative"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Redis 7.0.15 sent for `EVAL "return 1" 0` and a PING, byte for byte.
    const CAPTURED: &[u8] = b"*2\r\n*6\r\n:201\r\n:1795422516\r\n:2500103\r\n*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n$15\r\n127.0.0.1:34154\r\n$4\r\nname\r\n*6\r\n:200\r\n:1795422248\r\n:39\r\n*1\r\n$4\r\nPING\r\n$3\r\n?:0\r\n$0\r\n\r\n";

    fn parse(bytes: &[u8]) -> Result<SlowlogReply, Malformed> {
        SlowlogReply::parse(::redis::parse_redis_value(bytes).unwrap(), Privacy::default())
    }

    #[test]
    fn a_captured_reply_is_read_oldest_first() {
        let reply = parse(CAPTURED).unwrap();
        assert_eq!((reply.received, reply.malformed), (2, 0));
        assert_eq!(reply.entries[0].id, 200);
        assert_eq!(
            reply.entries[1],
            Entry {
                id: 201,
                ended_at: 1_795_422_516,
                duration: Duration::from_micros(2_500_103),
                arguments: vec![b"EVAL".to_vec(), b"return 1".to_vec(), b"0".to_vec()],
                client: "127.0.0.1:34154".to_owned(),
                client_name: "name".to_owned(),
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

    /// Redis Enterprise and Redis Cloud; the first is what one of them sent.
    #[test]
    fn an_element_before_the_arguments_is_passed_over() {
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
                    arguments: vec![b"evalsha".to_vec(), b"abc".to_vec(), b"0".to_vec()],
                    client: if client.is_empty() { "" } else { "127.0.0.1:5" }.to_owned(),
                    client_name: if client.is_empty() { "" } else { "w" }.to_owned(),
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

    /// Reads one entry with these arguments.
    fn one(arguments: &[&str], privacy: Privacy) -> Entry {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let arguments = Value::Array(arguments.iter().map(|argument| text(argument)).collect());
        let fields =
            [Value::Int(1), Value::Int(2), Value::Int(3), arguments, text("10.0.0.9:1"), text("worker")];
        let reply = SlowlogReply::parse(Value::Array(vec![Value::Array(fields.to_vec())]), privacy);
        reply.unwrap().entries.remove(0)
    }

    #[test]
    fn keys_are_kept_only_of_script_calls_and_only_if_wanted() {
        let show = Privacy { show_keys: true, ..Privacy::default() };
        let keys = |arguments: &[&str], privacy| one(arguments, privacy).keys().collect::<Vec<_>>();
        let call = ["EVALSHA", "abc", "2", "user:1", "user:\n2", "secret"];
        assert!(keys(&call, Privacy::default()).is_empty());
        assert_eq!(keys(&call, show), ["user:1", "user:\u{fffd}2"]);
        // Not a script call, though the third argument looks like a number of keys.
        assert!(keys(&["SETEX", "k", "9", "secret"], show).is_empty());
        assert!(keys(&["EVAL", "return 1", "-1", "secret"], show).is_empty());
        let many: Vec<&str> = ["FCALL", "f", "100"].into_iter().chain(["k"; 29]).collect();
        assert_eq!(keys(&many, show).len(), 8);
    }

    #[test]
    fn clients_are_forgotten_at_once_if_they_are_to_be_hidden() {
        let hide = Privacy { hide_clients: true, ..Privacy::default() };
        let shown = one(&["EVAL", "return 1", "0"], Privacy::default());
        assert_eq!((shown.client.as_str(), shown.client_name.as_str()), ("10.0.0.9:1", "worker"));
        let hidden = one(&["EVAL", "return 1", "0"], hide);
        assert_eq!((hidden.client.as_str(), hidden.client_name.as_str()), ("", ""));
    }

    #[test]
    fn arguments_are_cut_but_for_scripts() {
        let show = Privacy { show_keys: true, ..Privacy::default() };
        let long = "x".repeat(10_000);
        let lengths =
            |arguments: &[&str]| one(arguments, show).arguments.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&["EVAL", &long, "1", &long]), [4, 10_000, 1, 256]);
        assert_eq!(lengths(&["SET", &long, &long]), [3, 256, 256]);
        assert_eq!(lengths(&[&long, &long]), [256, 256]);
        let call = ["FCALL", "f", "1", "a\u{202e}\u{200b}b"];
        assert_eq!(one(&call, show).keys().collect::<Vec<_>>(), ["a\u{fffd}\u{fffd}b"]);
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
        fn any_reply_is_read_or_refused(value in any_value()) {
            if let Ok(reply) = SlowlogReply::parse(value, Privacy::default()) {
                prop_assert!(reply.entries.windows(2).all(|pair| pair[0].id < pair[1].id));
                prop_assert!(reply.entries.len() + reply.malformed <= reply.received);
                prop_assert!(reply.unreadable.len() <= reply.malformed);
            }
        }
    }
}
