//! What commands do, as far as it matters to a script: whether they write, and whether their reply grows with the data.
//!
//! The flags are those of `COMMAND INFO` of Redis 7.0 and Valkey 9.1.

/// What a command does to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It reads.
    Reads,
    /// It writes: SCRIPT KILL is refused from then on.
    Writes,
    /// It writes nothing, but is sent to replicas: refused where there is `no-writes`.
    Replicates,
    /// The command is not known.
    Unknown,
}

const READS: &[&str] = &[
    "BITCOUNT",
    "BITFIELD_RO",
    "BITPOS",
    "DBSIZE",
    "DUMP",
    "ECHO",
    "EXISTS",
    "EXPIRETIME",
    "GEODIST",
    "GEOHASH",
    "GEOPOS",
    "GEORADIUSBYMEMBER_RO",
    "GEORADIUS_RO",
    "GEOSEARCH",
    "GET",
    "GETBIT",
    "GETRANGE",
    "HEXISTS",
    "HEXPIRETIME",
    "HGET",
    "HGETALL",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HPEXPIRETIME",
    "HPTTL",
    "HRANDFIELD",
    "HSCAN",
    "HSTRLEN",
    "HTTL",
    "HVALS",
    "INFO",
    "KEYS",
    "LCS",
    "LINDEX",
    "LLEN",
    "LOLWUT",
    "LPOS",
    "LRANGE",
    "MEMORY",
    "MGET",
    "OBJECT",
    "PEXPIRETIME",
    "PING",
    "PTTL",
    "PUBSUB",
    "RANDOMKEY",
    "SCAN",
    "SCARD",
    "SDIFF",
    "SINTER",
    "SINTERCARD",
    "SISMEMBER",
    "SMEMBERS",
    "SMISMEMBER",
    "SORT_RO",
    "SRANDMEMBER",
    "SSCAN",
    "STRLEN",
    "SUBSTR",
    "SUNION",
    "TIME",
    "TOUCH",
    "TTL",
    "TYPE",
    "XINFO",
    "XLEN",
    "XPENDING",
    "XRANGE",
    "XREAD",
    "XREVRANGE",
    "ZCARD",
    "ZCOUNT",
    "ZDIFF",
    "ZINTER",
    "ZINTERCARD",
    "ZLEXCOUNT",
    "ZMSCORE",
    "ZRANDMEMBER",
    "ZRANGE",
    "ZRANGEBYLEX",
    "ZRANGEBYSCORE",
    "ZRANK",
    "ZREVRANGE",
    "ZREVRANGEBYLEX",
    "ZREVRANGEBYSCORE",
    "ZREVRANK",
    "ZSCAN",
    "ZSCORE",
    "ZUNION",
];

const WRITES: &[&str] = &[
    "APPEND",
    "BITFIELD",
    "BITOP",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "COPY",
    "DECR",
    "DECRBY",
    "DEL",
    "EXPIRE",
    "EXPIREAT",
    "FLUSHALL",
    "FLUSHDB",
    "GEOADD",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
    "GEOSEARCHSTORE",
    "GETDEL",
    "GETEX",
    "GETSET",
    "HDEL",
    "HEXPIRE",
    "HEXPIREAT",
    "HGETDEL",
    "HGETEX",
    "HINCRBY",
    "HINCRBYFLOAT",
    "HMSET",
    "HPERSIST",
    "HPEXPIRE",
    "HPEXPIREAT",
    "HSET",
    "HSETEX",
    "HSETNX",
    "INCR",
    "INCRBY",
    "INCRBYFLOAT",
    "LINSERT",
    "LMOVE",
    "LMPOP",
    "LPOP",
    "LPUSH",
    "LPUSHX",
    "LREM",
    "LSET",
    "LTRIM",
    "MIGRATE",
    "MOVE",
    "MSET",
    "MSETNX",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "PFADD",
    "PFMERGE",
    "PSETEX",
    "RENAME",
    "RENAMENX",
    "RESTORE",
    "RPOP",
    "RPOPLPUSH",
    "RPUSH",
    "RPUSHX",
    "SADD",
    "SDIFFSTORE",
    "SET",
    "SETBIT",
    "SETEX",
    "SETNX",
    "SETRANGE",
    "SINTERSTORE",
    "SMOVE",
    "SORT",
    "SPOP",
    "SREM",
    "SUNIONSTORE",
    "SWAPDB",
    "UNLINK",
    "XACK",
    "XADD",
    "XAUTOCLAIM",
    "XCLAIM",
    "XDEL",
    "XGROUP",
    "XREADGROUP",
    "XSETID",
    "XTRIM",
    "ZADD",
    "ZDIFFSTORE",
    "ZINCRBY",
    "ZINTERSTORE",
    "ZMPOP",
    "ZPOPMAX",
    "ZPOPMIN",
    "ZRANGESTORE",
    "ZREM",
    "ZREMRANGEBYLEX",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE",
    "ZUNIONSTORE",
];

const REPLICATES: &[&str] = &["PFCOUNT", "PUBLISH", "SPUBLISH"];

/// Commands whose first argument is no key.
const WITHOUT_KEY: &[&str] = &[
    "BITOP",
    "DBSIZE",
    "ECHO",
    "FLUSHALL",
    "FLUSHDB",
    "INFO",
    "KEYS",
    "LMPOP",
    "LOLWUT",
    "MEMORY",
    "MIGRATE",
    "OBJECT",
    "PING",
    "PUBLISH",
    "PUBSUB",
    "RANDOMKEY",
    "SCAN",
    "SINTERCARD",
    "SPUBLISH",
    "SWAPDB",
    "TIME",
    "XGROUP",
    "XINFO",
    "XREAD",
    "XREADGROUP",
    "ZDIFF",
    "ZINTER",
    "ZINTERCARD",
    "ZMPOP",
    "ZUNION",
];

/// What a command, in capitals, does.
pub(super) fn effect(command: &str) -> Effect {
    let is_in = |commands: &[&str]| commands.contains(&command);
    if is_in(READS) {
        Effect::Reads
    } else if is_in(WRITES) {
        Effect::Writes
    } else if is_in(REPLICATES) {
        Effect::Replicates
    } else {
        Effect::Unknown
    }
}

/// Whether the first argument of a known command is a key.
pub(super) fn begins_with_key(command: &str) -> bool {
    effect(command) != Effect::Unknown && !WITHOUT_KEY.contains(&command)
}

/// How much a command reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of a collection that is mostly large where it matters.
    Whole,
    /// All fields of a hash: mostly an object with a few.
    WholeHash,
}

/// How much a command reads by its constant arguments; `None` if there is a bound, or it is not known.
pub(super) fn extent(command: &str, args: &[Option<String>]) -> Option<Extent> {
    let constant = |index: usize| args.get(index).and_then(Option::as_deref);
    let has = |option: &str| args.iter().flatten().any(|argument| argument.eq_ignore_ascii_case(option));
    // What is not constant may be the bound.
    let is_negative = |text: Option<&str>| text.is_some_and(|text| text.starts_with('-'));
    let is_position = |text: Option<&str>| {
        text.is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let all = match command {
        "HGETALL" | "HKEYS" | "HVALS" => return Some(Extent::WholeHash),
        "SMEMBERS" | "SUNION" | "SINTER" | "SDIFF" | "ZUNION" | "ZINTER" | "ZDIFF" | "KEYS" => true,
        "SORT" | "SORT_RO" => !has("LIMIT"),
        "ZRANGE" if has("BYSCORE") || has("BYLEX") => !has("LIMIT"),
        "LRANGE" | "ZRANGE" | "ZREVRANGE" => is_position(constant(1)) && is_negative(constant(2)),
        "ZRANGEBYSCORE" | "ZREVRANGEBYSCORE" | "ZRANGEBYLEX" | "ZREVRANGEBYLEX" => !has("LIMIT"),
        "XRANGE" | "XREVRANGE" => !has("COUNT") && (constant(1).is_some() || constant(2).is_some()),
        _ => false,
    };
    all.then_some(Extent::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent_of(words: &str) -> Option<Extent> {
        let mut words = words.split(' ');
        let command = words.next().unwrap();
        let args: Vec<_> = words.map(|word| (word != "?").then(|| word.to_owned())).collect();
        extent(command, &args)
    }

    #[test]
    fn the_lists_are_sorted_and_apart() {
        for list in [READS, WRITES, REPLICATES, WITHOUT_KEY] {
            assert!(list.is_sorted());
        }
        assert!(READS.iter().all(|command| !WRITES.contains(command)));
        assert!(WITHOUT_KEY.iter().all(|command| effect(command) != Effect::Unknown));
    }

    #[test]
    fn whole_collections_are_told_from_ranges() {
        for words in [
            "SMEMBERS ?",
            "LRANGE ? 0 -1",
            "ZRANGE ? 0 -1 WITHSCORES",
            "ZREVRANGE ? 5 -1",
            "ZRANGE ? -inf ? BYSCORE",
            "ZRANGEBYSCORE ? -inf ?",
            "XRANGE ? - +",
            "SORT ?",
        ] {
            assert_eq!(extent_of(words), Some(Extent::Whole), "{words}");
        }
        for words in [
            "LRANGE ? 0 99",
            "LRANGE ? -100 -1",
            "LRANGE ? ? -1",
            "LRANGE ? 0 ?",
            "ZRANGE ? 0 0",
            "ZRANGE ? 0 ? BYSCORE LIMIT 0 10",
            "ZRANGEBYSCORE ? 0 ? limit 0 ?",
            "XRANGE ? - + COUNT 10",
            "SPOP ?",
            "GET ?",
        ] {
            assert_eq!(extent_of(words), None, "{words}");
        }
        assert_eq!(extent_of("HGETALL ?"), Some(Extent::WholeHash));
    }
}
