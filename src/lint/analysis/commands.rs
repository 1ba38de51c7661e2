//! Properties of commands: their effects, their arguments, and the amount of data that they process.
//!
//! The effects are those that `COMMAND INFO` of Redis 7.0 and Valkey 9.1 reports as flags.

use std::ops::Range;

/// Effect of a command on the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    /// Writes. The server rejects SCRIPT KILL after it.
    Writes,
    /// Writes nothing, but is sent to replicas: the server rejects it in a script with `no-writes`.
    Replicates,
    /// Not in the lists below.
    Unknown,
}

const READS: &str = "\
    BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP ECHO EXISTS EXPIRETIME GEODIST GEOHASH GEOPOS \
    GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HEXPIRETIME HGET HGETALL HKEYS \
    HLEN HMGET HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN HTTL HVALS INFO KEYS LCS LINDEX LLEN LOLWUT LPOS \
    LRANGE MEMORY MGET OBJECT PEXPIRETIME PING PTTL PUBSUB RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD \
    SISMEMBER SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TIME TOUCH TTL TYPE XINFO \
    XLEN XPENDING XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER \
    ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE \
    ZUNION";

const WRITES: &str = "\
    APPEND BITFIELD BITOP BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH BZMPOP BZPOPMAX BZPOPMIN COPY DECR DECRBY DEL \
    EXPIRE EXPIREAT FLUSHALL FLUSHDB GEOADD GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE GETDEL GETEX GETSET \
    HDEL HEXPIRE HEXPIREAT HGETDEL HGETEX HINCRBY HINCRBYFLOAT HMSET HPERSIST HPEXPIRE HPEXPIREAT HSET \
    HSETEX HSETNX INCR INCRBY INCRBYFLOAT LINSERT LMOVE LMPOP LPOP LPUSH LPUSHX LREM LSET LTRIM MIGRATE MOVE \
    MSET MSETNX PERSIST PEXPIRE PEXPIREAT PFADD PFMERGE PSETEX RENAME RENAMENX RESTORE RPOP RPOPLPUSH RPUSH \
    RPUSHX SADD SDIFFSTORE SET SETBIT SETEX SETNX SETRANGE SINTERSTORE SMOVE SORT SPOP SREM SUNIONSTORE \
    SWAPDB UNLINK XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP XREADGROUP XSETID XTRIM ZADD ZDIFFSTORE ZINCRBY \
    ZINTERSTORE ZMPOP ZPOPMAX ZPOPMIN ZRANGESTORE ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE \
    ZUNIONSTORE";

const REPLICATES: &str = "\
    PFCOUNT PUBLISH SPUBLISH";

/// Commands whose first argument is not a key.
const WITHOUT_KEY: &str = "\
    BITOP DBSIZE ECHO FLUSHALL FLUSHDB INFO KEYS LMPOP LOLWUT MEMORY MIGRATE OBJECT PING PUBLISH PUBSUB \
    RANDOMKEY SCAN SINTERCARD SPUBLISH SWAPDB TIME XGROUP XINFO XREAD XREADGROUP ZDIFF ZINTER ZINTERCARD \
    ZMPOP ZUNION";

/// Commands whose duration grows with their collection, although their reply does not.
const LINEAR: &str = "\
    BITOP LCS LINSERT LPOS LREM SDIFFSTORE SINTERCARD SINTERSTORE SUNIONSTORE ZDIFFSTORE ZINTERCARD ZINTERSTORE \
    ZUNIONSTORE";

/// Commands that reply with a size, which is never negative.
const SIZES: &str = "\
    BITCOUNT DBSIZE EXISTS HLEN HSTRLEN LLEN PFCOUNT SCARD SINTERCARD STRLEN XLEN ZCARD ZCOUNT ZINTERCARD ZLEXCOUNT";

/// Commands whose second and third arguments are the ends of a range.
const RANGES: &str = "\
    LRANGE XRANGE XREVRANGE ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE";

/// True if a list of words contains a word.
pub(crate) fn contains(words: &str, word: &str) -> bool {
    words.split(' ').any(|one| one == word)
}

/// Effect of a command, given in upper case.
pub(crate) fn effect(command: &str) -> Effect {
    let is_in = |commands: &str| contains(commands, command);
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

/// True if the first argument of a known command is a key.
pub(crate) fn begins_with_key(command: &str) -> bool {
    effect(command) != Effect::Unknown && !contains(WITHOUT_KEY, command)
}

/// True for a command that reads streams, whose keys and IDs come after STREAMS.
pub(crate) fn reads_streams(command: &str) -> bool {
    matches!(command, "XREAD" | "XREADGROUP")
}

/// Indexes of the IDs of a command that reads streams, given the index of STREAMS and the number of arguments.
pub(crate) fn ids(streams: usize, args: usize) -> Range<usize> {
    let first_key = streams + 1;
    first_key + args.saturating_sub(first_key) / 2..args
}

/// True if the duration of a command grows with its collection, given the number of its arguments.
pub(crate) fn is_linear(command: &str, args: usize) -> bool {
    match command {
        "BITCOUNT" | "BITPOS" => args <= 2,
        _ => contains(LINEAR, command),
    }
}

/// Index of the argument with the position up to which a command traverses its collection, given the index of LIMIT.
pub(crate) fn position(command: &str, limit: Option<usize>) -> Option<usize> {
    match command {
        "LINDEX" | "LRANGE" | "LSET" | "LTRIM" => Some(1),
        "SORT" | "SORT_RO" | "ZRANGE" | "ZRANGEBYLEX" | "ZRANGEBYSCORE" | "ZREVRANGEBYLEX"
        | "ZREVRANGEBYSCORE" => Some(limit? + 1),
        _ => None,
    }
}

/// Index of the argument with the number of elements that a command reads, or with their last position.
pub(crate) fn number_of_elements(command: &str) -> Option<usize> {
    match command {
        "HRANDFIELD" | "LPOP" | "RPOP" | "SPOP" | "SRANDMEMBER" | "ZPOPMAX" | "ZPOPMIN" | "ZRANDMEMBER" => {
            Some(1)
        }
        "LRANGE" | "ZRANGE" | "ZREVRANGE" => Some(2),
        _ => None,
    }
}

/// True if a command searches within a radius.
pub(crate) fn has_radius(command: &str) -> bool {
    matches!(
        command,
        "GEORADIUS" | "GEORADIUSBYMEMBER" | "GEORADIUSBYMEMBER_RO" | "GEORADIUS_RO" | "GEOSEARCH"
    )
}

/// True if the second and the third argument of a command are the ends of a range.
pub(crate) fn is_range(command: &str) -> bool {
    contains(RANGES, command)
}

/// True if a command replies with a size.
pub(crate) fn is_size(command: &str) -> bool {
    contains(SIZES, command)
}

/// Amount of data that a command without a limit reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All elements of a collection.
    Whole,
    /// All fields of a hash, which is usually an object with few fields.
    WholeHash,
}

/// Values that an argument of a command may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Argument {
    /// Constants among them.
    pub(crate) constants: Vec<String>,
    /// True if there may be others.
    pub(crate) is_open: bool,
    /// True if the others may be negative: positions from the end.
    pub(crate) from_end: bool,
}

/// Extent of a command with these arguments; `None` if they set a limit, or the command is unknown.
pub(crate) fn extent(command: &str, args: &[Argument]) -> Option<Extent> {
    let has = |option: &str| {
        let mut constants = args.iter().flat_map(|argument| &argument.constants);
        constants.any(|argument| argument.eq_ignore_ascii_case(option))
    };
    // `LIMIT 0 -1` is not a limit.
    let is_negative = |argument: &Argument| {
        !argument.is_open && argument.constants.iter().all(|text| text.starts_with('-'))
    };
    let is_limit =
        |argument: &Argument| argument.constants.iter().any(|text| text.eq_ignore_ascii_case("LIMIT"));
    let has_limit = || {
        let limit = args.iter().position(is_limit);
        limit.is_some_and(|limit| !args.get(limit + 2).is_some_and(is_negative))
    };
    let from_the_front = |argument: &Argument| {
        let is_position = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        argument.constants.iter().any(is_position) || (argument.is_open && !argument.from_end)
    };
    let to_the_end = |argument: &Argument| argument.constants.iter().any(|text| text.starts_with('-'));
    let is_constant = |index: usize| args.get(index).is_some_and(|argument| !argument.is_open);
    // `$` is the end of a stream, and `>` all entries that no consumer of the group has read.
    let is_begin = |id: &Argument| {
        let begins = |text: &String| text.starts_with(|first: char| first.is_ascii_digit() || first == '>');
        id.is_open || id.constants.iter().any(begins)
    };
    let from_an_id = || {
        let is_option = |argument: &Argument, option: &str| {
            argument.constants.iter().any(|text| text.eq_ignore_ascii_case(option))
        };
        let streams = args.iter().position(|argument| is_option(argument, "STREAMS"));
        streams.is_some_and(|streams| {
            !args.iter().take(streams).any(|argument| is_option(argument, "COUNT"))
                && args.get(ids(streams, args.len())).is_some_and(|ids| ids.iter().any(is_begin))
        })
    };
    let all = match command {
        "HGETALL" | "HKEYS" | "HVALS" => return Some(Extent::WholeHash),
        "SMEMBERS" | "SUNION" | "SINTER" | "SDIFF" | "ZUNION" | "ZINTER" | "ZDIFF" | "KEYS" => true,
        "ZRANGE" if has("BYSCORE") || has("BYLEX") => !has_limit(),
        "LRANGE" | "ZRANGE" | "ZREVRANGE" => {
            args.get(1).is_some_and(from_the_front) && args.get(2).is_some_and(to_the_end)
        }
        "SORT" | "SORT_RO" | "ZRANGEBYSCORE" | "ZREVRANGEBYSCORE" | "ZRANGEBYLEX" | "ZREVRANGEBYLEX" => {
            !has_limit()
        }
        _ if has_radius(command) => !has("COUNT") && !has("STORE") && !has("STOREDIST"),
        "XREAD" | "XREADGROUP" => from_an_id(),
        "XRANGE" | "XREVRANGE" => !has("COUNT") && (is_constant(1) || is_constant(2)),
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
        let argument = |word: &str| Argument {
            constants: word.split('|').filter(|word| !word.ends_with('?')).map(str::to_owned).collect(),
            is_open: word.contains('?'),
            from_end: word.contains("-?"),
        };
        let args: Vec<_> = words.map(argument).collect();
        extent(command, &args)
    }

    #[test]
    fn the_lists_are_sorted_and_disjoint() {
        for list in [READS, WRITES, REPLICATES, WITHOUT_KEY, LINEAR, SIZES, RANGES] {
            assert!(list.split(' ').is_sorted());
        }
        assert!(READS.split(' ').all(|command| !contains(WRITES, command)));
        assert!(WITHOUT_KEY.split(' ').all(|command| effect(command) != Effect::Unknown));
    }

    #[test]
    fn whole_collections_are_distinguished_from_ranges() {
        for words in [
            "SMEMBERS ?",
            "LRANGE ? 0 -1",
            "LRANGE ? ? -1",
            "LRANGE ? 0|-? -?|-1",
            "ZRANGE ? 0 -1 WITHSCORES",
            "ZREVRANGE ? 5 -1",
            "ZRANGE ? -inf ? BYSCORE",
            "ZRANGEBYSCORE ? -inf ?",
            "ZRANGEBYSCORE ? -inf ? LIMIT 0 -1",
            "XRANGE ? - +",
            "XREAD STREAMS ? 0",
            "XREAD BLOCK 5 streams ? 0-0",
            "XREAD STREAMS ? ? $ 0",
            "XREAD STREAMS ? ?",
            "XREAD STREAMS COUNT 0",
            "XREADGROUP GROUP ? ? STREAMS ? 0",
            "XREADGROUP GROUP ? ? STREAMS ? >",
            "SORT ?",
        ] {
            assert_eq!(extent_of(words), Some(Extent::Whole), "{words}");
        }
        for words in [
            "LRANGE ? 0 99",
            "LRANGE ? -100 -1",
            "LRANGE ? -? -1",
            "LRANGE ? 0 ?",
            "ZRANGE ? 0 0",
            "ZRANGE ? 0 ? BYSCORE LIMIT 0 10",
            "ZRANGEBYSCORE ? 0 ? limit 0 ?",
            "XRANGE ? - + COUNT 10",
            "XREAD COUNT 10 STREAMS ? 0",
            "XREAD count ? STREAMS ? ?",
            "XREAD STREAMS ? $",
            "XREAD STREAMS ? +",
            "XREAD",
            "XREADGROUP GROUP ? ? COUNT 10 STREAMS ? >",
            "SPOP ?",
            "GET ?",
        ] {
            assert_eq!(extent_of(words), None, "{words}");
        }
        assert_eq!(extent_of("HGETALL ?"), Some(Extent::WholeHash));
    }
}
