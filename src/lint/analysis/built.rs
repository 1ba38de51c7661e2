//! Collections that a script builds from its arguments and deletes. Their number of elements depends only on the caller.

use crate::lint::analysis::commands::{self, Effect};
use crate::lint::analysis::loops::LoopAnalysis;
use crate::lint::source::syntax::{ExprId, LoopKind, Statement};

/// Commands that add their arguments as elements.
const ADDS: &str = "HINCRBY HMSET HSET HSETNX LPUSH RPUSH SADD ZADD ZINCRBY";

/// Commands that write, but add nothing.
const KEEPS: &str = "\
    DEL EXPIRE EXPIREAT HDEL LPOP LREM LTRIM PEXPIRE PEXPIREAT RENAME RENAMENX RPOP SPOP SREM UNLINK ZPOPMAX ZPOPMIN ZREM \
    ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE";

/// Commands that write to a key other than their first.
const MOVES: &str = "COPY LMOVE RENAME RENAMENX RPOPLPUSH SMOVE SORT ZRANGESTORE";

/// Maximum number of commands that are searched for such collections; only hostile scripts have more.
const MAX_CALLS: usize = 500;

/// Maximum number of collections that are built from each other.
const MAX_STORED: usize = 8;

/// Finds the commands that read such a collection.
pub(super) fn reads(analysis: LoopAnalysis<'_>, is_same_key: impl Fn(ExprId, ExprId) -> bool) -> Vec<ExprId> {
    let calls = analysis.calls.all_redis();
    if calls.len() > MAX_CALLS {
        return Vec::new();
    }
    let command = |id: ExprId| analysis.calls.command(id);
    // Every run of the script must delete the collection.
    let main = analysis.calls.script.functions.get(analysis.calls.script.main);
    let is_certain = |id: ExprId| main.is_some_and(|main| main.body.contains(&Statement::Call(id)));
    let deletes = |key: ExprId| -> Vec<ExprId> {
        let of_key = calls.iter().filter(|(id, call)| {
            matches!(command(*id), "DEL" | "UNLINK")
                && is_certain(*id)
                && call.args.iter().any(|other| is_same_key(*other, key))
        });
        of_key.map(|(id, _)| *id).collect()
    };
    let mut built: Vec<ExprId> = Vec::new();
    for _ in 0..MAX_STORED {
        let is_built = |key: ExprId| built.iter().any(|other| is_same_key(*other, key));
        let adds_what_is_given = |id: ExprId, args: &[ExprId]| match command(id) {
            name if commands::contains(ADDS, name) => args.iter().skip(1).all(|arg| is_given(analysis, *arg)),
            "SINTERSTORE" => args.iter().skip(1).any(|arg| is_built(*arg)),
            "ZINTERSTORE" => args.iter().skip(2).any(|arg| is_built(*arg)),
            "SDIFFSTORE" => args.get(1).is_some_and(|arg| is_built(*arg)),
            "ZDIFFSTORE" => args.get(2).is_some_and(|arg| is_built(*arg)),
            _ => false,
        };
        let next = calls.iter().find_map(|(id, call)| {
            let key = *call.args.first()?;
            let is_new = adds_what_is_given(*id, &call.args) && !is_built(key) && !deletes(key).is_empty();
            let grows_otherwise = || {
                calls.iter().any(|(other, call)| {
                    let name = command(*other);
                    let mut keys = call.args.iter().map(|arg| is_same_key(*arg, key));
                    let is_first = keys.next().unwrap_or_default();
                    is_first
                        && commands::effect(name) == Effect::Writes
                        && !commands::contains(KEEPS, name)
                        && !adds_what_is_given(*other, &call.args)
                        || commands::contains(MOVES, name) && keys.any(|is_key| is_key)
                })
            };
            (is_new && !grows_otherwise()).then_some(key)
        });
        match next {
            Some(key) => built.push(key),
            None => break,
        }
    }
    // Either the script deletes the collection before this read and all additions, or it deletes it after all additions.
    let is_bounded = |read: ExprId, key: ExprId| {
        let adds = calls.iter().filter(|(id, call)| {
            !commands::contains(KEEPS, command(*id))
                && commands::effect(command(*id)) == Effect::Writes
                && call.args.first().is_some_and(|other| is_same_key(*other, key))
        });
        let adds: Vec<ExprId> = adds.map(|(id, _)| *id).collect();
        built.iter().any(|other| is_same_key(*other, key))
            && deletes(key).into_iter().any(|delete| {
                delete < read && adds.iter().all(|add| delete < *add) || adds.iter().all(|add| *add < delete)
            })
    };
    let read = calls.iter().filter(|(id, call)| {
        let is_built = |key: &ExprId| is_bounded(*id, *key);
        match command(*id) {
            "SINTER" => call.args.iter().any(is_built),
            "ZINTER" => call.args.iter().skip(1).any(is_built),
            "ZDIFF" => call.args.get(1).is_some_and(is_built),
            "SUNION" | "ZUNION" => false,
            _ => call.args.first().is_some_and(is_built),
        }
    });
    read.map(|(id, _)| *id).collect()
}

/// True for an argument that is not a reply, and for `unpack` of a list that is filled only by loops over values from the caller.
fn is_given(analysis: LoopAnalysis<'_>, arg: ExprId) -> bool {
    let script = analysis.calls.script;
    let may_be_a_reply = |id: ExprId| analysis.values.may_be_a_reply(id);
    let Some(list) = analysis.calls.unpack_args(arg).map(|args| args.first().copied()) else {
        return !may_be_a_reply(arg);
    };
    let Some(list) = list.filter(|list| !may_be_a_reply(*list)).and_then(|list| script.variable(list)) else {
        return false;
    };
    script.loops.iter().filter(|(_, around)| around.grows(list)).all(|(_, around)| match around.kind {
        LoopKind::Numeric { end, .. } => !may_be_a_reply(end),
        LoopKind::Generic(iterator) => !may_be_a_reply(iterator),
        LoopKind::While(_) | LoopKind::Repeat(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, severe};

    #[test]
    fn what_is_built_of_arguments_is_bounded() {
        assert_clean(&[
            "redis.call('DEL', KEYS[1]) for i = 1, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end return redis.call('SDIFF', KEYS[1], KEYS[2])",
            "redis.call('DEL', KEYS[1]) local t = {} for i = 1, tonumber(ARGV[1]) do table.insert(t, ARGV[i + 1]) end redis.call('SADD', KEYS[1], unpack(t)) return redis.call('SDIFF', KEYS[1], KEYS[2])",
            "for _, id in ipairs(ARGV) do redis.call('ZADD', KEYS[1], 1, id) end redis.call('ZINTERSTORE', KEYS[2], 2, KEYS[3], KEYS[1])
             local online = redis.call('ZRANGE', KEYS[2], 0, -1) redis.call('DEL', KEYS[1], KEYS[2]) return online",
        ]);
        for script in [
            // The collection is kept.
            "redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('SMEMBERS', KEYS[1])",
            "if ARGV[2] then redis.call('DEL', KEYS[1]) end redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('SMEMBERS', KEYS[1])",
            "local m = redis.call('SMEMBERS', KEYS[1]) redis.call('DEL', KEYS[1]) redis.call('SADD', KEYS[1], ARGV[1]) return m",
            // Other elements are added.
            "redis.call('DEL', KEYS[1]) redis.call('SADD', KEYS[1], ARGV[1]) redis.call('SADD', KEYS[1], redis.call('GET', KEYS[2])) return redis.call('SMEMBERS', KEYS[1])",
            "for _, m in ipairs(redis.call('SPOP', KEYS[2], 100)) do redis.call('SADD', KEYS[1], m) end local all = redis.call('SMEMBERS', KEYS[1]) redis.call('DEL', KEYS[1]) return all",
            "redis.call('DEL', KEYS[1]) redis.call('SADD', KEYS[1], ARGV[1]) redis.call('SUNIONSTORE', KEYS[1], KEYS[1], KEYS[2]) return redis.call('SMEMBERS', KEYS[1])",
            "redis.call('DEL', KEYS[1]) redis.call('SADD', KEYS[1], ARGV[1]) redis.call('RENAME', KEYS[2], KEYS[1]) return redis.call('SMEMBERS', KEYS[1])",
            "redis.call('DEL', KEYS[1]) redis.call('SADD', KEYS[1], ARGV[1]) return redis.call('SDIFF', KEYS[2], KEYS[1])",
        ] {
            assert_eq!(severe(script), ["whole-collection-read"], "{script}");
        }
    }
}
