//! SENTINEL MASTER, REPLICAS and SENTINELS: the servers that a Sentinel monitors.

use ::redis::Value;

use super::announced::announced;
use super::reply::{Malformed, bytes, items, pairs};

/// A host and a port.
pub(crate) type HostPort = (String, u16);

/// State of a server, as reported by a Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentinelServer {
    /// Address; `None` if it is not valid.
    pub(crate) address: Option<HostPort>,
    /// True if the Sentinel can reach the server and has read its INFO since monitoring began or was last reset. A Sentinel
    /// discovers the replicas only from the master's INFO, and reports no `runid` until it has read that INFO
    /// (`sentinelResetMaster` in Redis 7.0 clears it; measured on Redis 7.0.15 and Valkey 9.1.2).
    pub(crate) known: bool,
}

/// Parses a reply to SENTINEL MASTER.
///
/// # Errors
/// The reply does not describe a server.
pub(crate) fn sentinel_master(value: Value) -> Result<SentinelServer, Malformed> {
    let (mut ip, mut port, mut down, mut has_info) = (None, None, false, false);
    for (name, value) in pairs(value)? {
        match name.as_str() {
            "ip" => ip = Some(bytes(value)?),
            "port" => port = Some(bytes(value)?),
            "runid" => has_info = !bytes(value)?.is_empty(),
            "flags" => {
                let flags = bytes(value)?;
                let is_down = |flag: &[u8]| matches!(flag, b"s_down" | b"o_down" | b"disconnected");
                down = flags.split(|byte| *byte == b',').any(is_down);
            }
            _ => {}
        }
    }
    let (Some(ip), Some(port)) = (ip, port) else { return Err(Malformed::new("a server with ip and port")) };
    let address = announced(&String::from_utf8_lossy(&ip), &String::from_utf8_lossy(&port));
    Ok(SentinelServer { address, known: has_info && !down })
}

/// Parses the addresses in a reply to SENTINEL REPLICAS or SENTINELS; skips invalid ones.
///
/// # Errors
/// The reply is not a list of servers.
pub(crate) fn sentinel_list(value: Value) -> Result<Vec<HostPort>, Malformed> {
    let servers = items(value)?.into_iter().map(sentinel_master).collect::<Result<Vec<_>, _>>()?;
    Ok(servers.into_iter().filter_map(|server| server.address).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// MASTER, REPLICAS, SENTINELS, and the port of the master.
    type Captured = (&'static [u8], &'static [u8], &'static [u8], u16);

    const CAPTURED: [Captured; 3] = [
        (
            include_bytes!("captured/sentinel-master-redis-6.2.14.txt"),
            include_bytes!("captured/sentinel-replicas-redis-6.2.14.txt"),
            include_bytes!("captured/sentinel-sentinels-redis-6.2.14.txt"),
            31_040,
        ),
        (
            include_bytes!("captured/sentinel-master-redis-7.0.15.txt"),
            include_bytes!("captured/sentinel-replicas-redis-7.0.15.txt"),
            include_bytes!("captured/sentinel-sentinels-redis-7.0.15.txt"),
            31_030,
        ),
        (
            include_bytes!("captured/sentinel-master-valkey-9.1.2.txt"),
            include_bytes!("captured/sentinel-replicas-valkey-9.1.2.txt"),
            include_bytes!("captured/sentinel-sentinels-valkey-9.1.2.txt"),
            31_050,
        ),
    ];

    fn value(bytes: &[u8]) -> Value {
        ::redis::parse_redis_value(bytes).unwrap()
    }

    /// Replies from one of two Sentinels about a master and its replica.
    #[test]
    fn captured_replies_hold_the_addresses() {
        let at = |port| ("127.0.0.1".to_owned(), port);
        for (master, replicas, sentinels, port) in CAPTURED {
            let master = sentinel_master(value(master));
            assert_eq!(master, Ok(SentinelServer { address: Some(at(port)), known: true }));
            assert_eq!(sentinel_list(value(replicas)), Ok(vec![at(port + 1)]));
            assert_eq!(sentinel_list(value(sentinels)), Ok(vec![at(port + 3)]));
        }
    }

    #[test]
    fn invalid_addresses_are_skipped_and_invalid_servers_are_errors() {
        let server = |ip: &str, port: &str| {
            let word = |text: &str| Value::BulkString(text.into());
            Value::Array(vec![word("ip"), word(ip), word("port"), word(port), word("x"), Value::Nil])
        };
        let list = Value::Array(vec![server("a b", "1"), server("Db.", "7000"), server("", "1")]);
        assert_eq!(sentinel_list(list), Ok(vec![("db".to_owned(), 7000)]));
        assert_eq!(sentinel_master(server("a", "0")), Ok(SentinelServer { address: None, known: false }));
        let known = |flags: &str, run_id: &str| {
            let Value::Array(mut fields) = server("a", "1") else { return None };
            let more = ["flags", flags, "runid", run_id];
            fields.extend(more.map(|text| Value::BulkString(text.into())));
            sentinel_master(Value::Array(fields)).ok().map(|server| server.known)
        };
        assert_eq!((known("s_down,master", "a"), known("master,o_down", "a")), (Some(false), Some(false)));
        assert_eq!((known("master", "a"), known("master", "")), (Some(true), Some(false)));
        assert_eq!(sentinel_list(Value::Array(vec![])), Ok(vec![]));
        assert!(sentinel_master(Value::Array(vec![])).is_err());
        assert!(sentinel_master(Value::Nil).is_err());
        assert!(sentinel_list(Value::Array(vec![Value::Okay])).is_err());
    }

    proptest! {
        #[test]
        fn any_reply_is_parsed_or_rejected(bytes in prop::collection::vec(prop::sample::select(&b"*2$12\r\nipport:-"[..]), 0..100)) {
            if let Ok(value) = ::redis::parse_redis_value(&bytes) {
                let _ = (sentinel_master(value.clone()), sentinel_list(value));
            }
        }
    }
}
