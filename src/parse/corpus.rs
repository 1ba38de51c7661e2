//! Tests of all parsers on replies from real servers (`captured/`), intact and damaged. The replies are from Redis 6.2.14, Redis
//! 7.0.15 and Valkey 9.1.2, in RESP2 and RESP3.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use ::redis::Value;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{
    BusyKind, ErrorReply, Info, LogParts, Privacy, Settings, SlowlogReply, SlowlogThreshold, bytes,
    function_list, function_stats, integer, recorded_scripts,
};
use crate::script::{Library, ScriptCommand};

/// Name (`redis-7.0-resp2-slowlog`) and bytes of each reply.
static CAPTURED: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/parse/captured");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|ending| ending == "resp"))
        .map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&file).unwrap()))
        .collect()
});

/// Returns each server's reply to one command.
fn replies(what: &str) -> Vec<(&'static str, Value)> {
    let mine = CAPTURED.iter().filter(|(name, _)| {
        let mut parts = name.splitn(4, '-');
        parts.nth(3) == Some(what)
    });
    let replies: Vec<_> =
        mine.map(|(name, bytes)| (name.as_str(), ::redis::parse_redis_value(bytes).unwrap())).collect();
    assert!(replies.len() >= 2, "{what}");
    replies
}

#[test]
fn each_slow_log_is_parsed_whole() {
    for (server, reply) in replies("slowlog") {
        let reply = SlowlogReply::parse(reply, Privacy::default()).unwrap();
        assert_eq!((reply.malformed, reply.received), (0, reply.entries.len()), "{server}");
        let calls: Vec<ScriptCommand> =
            reply.entries.iter().filter_map(|entry| Some(entry.call.as_ref()?.command)).collect();
        let mut expected =
            vec![ScriptCommand::Eval, ScriptCommand::Eval, ScriptCommand::Evalsha, ScriptCommand::Eval];
        if !server.starts_with("redis-6.2") {
            expected.push(ScriptCommand::Fcall);
        }
        assert_eq!(calls, expected, "{server}");
        assert!(reply.entries.iter().any(|entry| entry.client_name == "worker-7"), "{server}");
    }
    for (server, reply) in replies("slowlog-empty") {
        assert_eq!(
            SlowlogReply::parse(reply, Privacy::default()).unwrap(),
            SlowlogReply::default(),
            "{server}"
        );
    }
}

#[test]
fn each_info_and_config_is_parsed() {
    for (server, reply) in replies("info") {
        let info = Info::parse(&bytes(reply).unwrap());
        let (name, rest) = server.split_once('-').unwrap();
        assert_eq!(info.server.as_deref(), Some(name), "{server}");
        assert!(info.version.unwrap().starts_with(rest.split_once('-').unwrap().0), "{server}");
        assert_eq!(info.run_id.map(|run_id| run_id.len()), Some(40), "{server}");
        assert_eq!(info.role.as_deref(), Some("master"), "{server}");
        assert!(info.commands.unwrap()[&ScriptCommand::Eval].calls >= 3, "{server}");
        assert!(info.errors.unwrap().noscript >= 1, "{server}");
    }
    for (server, reply) in replies("config") {
        let settings = Settings::parse(reply).unwrap();
        assert_eq!(
            settings.slowlog_threshold,
            Some(SlowlogThreshold::At(std::time::Duration::ZERO)),
            "{server}"
        );
        assert_eq!(settings.slowlog_max_len, Some(128), "{server}");
    }
}

#[test]
fn loaded_and_running_functions_are_named() {
    for (server, reply) in replies("function-list") {
        let libraries = function_list(reply).unwrap();
        assert_eq!(Library::parse(&libraries[0]).unwrap().name, "shop", "{server}");
    }
    for (server, reply) in replies("function-stats-running") {
        assert_eq!(function_stats(reply).unwrap().unwrap().name, b"checkout", "{server}");
    }
    for (server, reply) in replies("function-stats-idle") {
        // Redis 6.2 has no functions.
        let running = function_stats(reply);
        assert_eq!(running.is_err(), server.starts_with("redis-6.2"), "{server}: {running:?}");
        assert!(running.unwrap_or_default().is_none(), "{server}");
    }
}

#[test]
fn each_error_reply_is_parsed() {
    let error_replies = |what: &'static str| {
        replies(what).into_iter().map(move |(server, reply)| {
            let Value::ServerError(error) = reply else { panic!("{server}: {what} is an error") };
            (server, ErrorReply::parse(error.code(), error.details().unwrap_or_default()))
        })
    };
    for (server, reply) in error_replies("error-busy") {
        let kind = if server.starts_with("redis-6.2") { BusyKind::Script } else { BusyKind::Function };
        assert_eq!(reply, ErrorReply::Busy { kind, counted: true }, "{server}");
    }
    for (server, reply) in error_replies("error-busy-script") {
        assert_eq!(reply, ErrorReply::Busy { kind: BusyKind::Script, counted: true }, "{server}");
    }
    assert!(error_replies("error-noperm").all(|(_, reply)| reply == ErrorReply::NoPermission));
    assert!(
        error_replies("error-wrongpass").all(|(_, reply)| matches!(reply, ErrorReply::Unauthorized { .. }))
    );
    for what in ["error-noscript", "error-script"] {
        assert!(error_replies(what).all(|(_, reply)| matches!(reply, ErrorReply::Other { .. })), "{what}");
    }
}

/// Damage to the bytes of a reply.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let telling: &[&[u8]] = &[
        b"\r\n",
        b"*",
        b"$",
        b":",
        b"-",
        b"%",
        b"~",
        b"_\r\n",
        b"*-1\r\n",
        b"$-1\r\n",
        b":-9223372036854775808\r\n",
        b":18446744073709551616\r\n",
        b"*4294967296\r\n",
        b"$1099511627776\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n",
        b"\"",
        b"\0",
        b"\xff",
        b"\x1b[2J",
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<Index>(), select(telling)).prop_map(|(at, bytes)| Damage::Insert(at, bytes.to_vec())),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), 1..200_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ]
}

fn damaged(bytes: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        let range = |at: &Index, wanted: usize| {
            let at = at.index(length);
            at..(at + wanted).min(length)
        };
        match damage {
            Damage::Flip(at, bits) => bytes[at.index(length)] ^= bits,
            Damage::Cut(at) => bytes.truncate(at.index(length)),
            Damage::Remove(at, wanted) => drop(bytes.drain(range(at, *wanted))),
            Damage::Insert(at, new) => {
                let at = at.index(length);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Repeat(at, wanted) => {
                let piece = bytes[range(at, *wanted)].to_vec();
                let at = at.index(length);
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// Runs all parsers on a value.
fn parse_with_all(value: &Value) {
    for privacy in [Privacy::default(), Privacy { show_keys: true, hide_clients: true, ..Privacy::default() }]
    {
        if let Ok(reply) = SlowlogReply::parse(value.clone(), privacy) {
            assert!(reply.entries.windows(2).all(|pair| pair[0].id < pair[1].id), "oldest first, none twice");
            assert!(reply.entries.len() + reply.malformed <= reply.received);
            for entry in &reply.entries {
                let names = [&entry.command, &entry.client, &entry.client_name];
                let texts = names.into_iter().chain(&entry.keys);
                assert!(texts.into_iter().all(|text: &String| !text.chars().any(char::is_control)));
            }
        }
    }
    let _ = (Settings::parse(value.clone()), function_stats(value.clone()), integer(value));
    for library in function_list(value.clone()).unwrap_or_default() {
        let _ = Library::parse(&library);
    }
    if let Value::ServerError(error) = value {
        let _ = ErrorReply::parse(error.code(), error.details().unwrap_or_default());
    }
    if let Ok(text) = bytes(value.clone()) {
        let _ = (Info::parse(&text), recorded_scripts(&text));
        let _ = LogParts::default().slow_script_line(&String::from_utf8_lossy(&text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_replies_are_parsed_or_rejected(
        reply in any::<Index>(),
        damages in prop::collection::vec(damage(), 0..6),
    ) {
        let name = CAPTURED.keys().nth(reply.index(CAPTURED.len())).unwrap();
        let bytes = damaged(&CAPTURED[name], &damages);
        // An incomplete reply is not parsed: the connection waits for the rest.
        if let Ok(value) = ::redis::parse_redis_value(&bytes) {
            parse_with_all(&value);
        }
        // Bytes that are not a reply may still be a string within one.
        parse_with_all(&Value::BulkString(bytes));
    }
}
