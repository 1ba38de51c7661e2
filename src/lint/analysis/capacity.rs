//! Collections that a script keeps below a limit: it adds to them only where they are smaller, or ends where they are larger.
//!
//! Semaphores, leaky buckets and bounded queues have such a limit, which is constant or comes from the caller.

use std::collections::{HashMap, HashSet};

use crate::lint::analysis::calls::RedisCall;
use crate::lint::analysis::loops::LoopAnalysis;
use crate::lint::analysis::numbers::Sum;
use crate::lint::analysis::{built, commands};
use crate::lint::source::syntax::{Binary, Comparison, Expr, ExprId, FnId, Loop, LoopKind, Script, Value};

/// Commands that add an element to a collection.
const ADDS: &str = "\
    HINCRBY HINCRBYFLOAT HMSET HSET HSETNX LINSERT LPUSH LPUSHX RPUSH RPUSHX SADD XADD ZADD ZINCRBY";

/// Commands that remove an element.
const POPS: &str = "LPOP RPOP SPOP ZPOPMAX ZPOPMIN";

/// Smallest constant that is a limit; others ask for an empty collection, or for one element.
const MIN_LIMIT: f64 = 2.0;

/// Maximum number of commands that may make room for an element, and of keys with a limit; only hostile scripts have more.
const MAX_CALLS: usize = 500;

/// Maximum depth of the parts of a key that are compared one by one.
const MAX_DEPTH: usize = 8;

/// Maximum number of variables between a key and its value.
const MAX_ALIASES: usize = 4;

/// Calls of commands that a limit bounds.
#[derive(Debug, Default)]
pub(crate) struct Capacities {
    /// Those on a collection that is kept below a limit.
    pub(crate) capped: HashSet<ExprId>,
    /// Those whose reply the script works on only if its length is below a limit.
    pub(crate) checked: HashSet<ExprId>,
    /// Keys of the collections to which the script adds elements, and which it cuts to a limit, or adds to only below one.
    pub(crate) limited: Vec<ExprId>,
}

/// Size that a condition compares with a limit.
#[derive(Debug, Default)]
struct Compared {
    /// Commands that reply with it, and their keys.
    sizes: Vec<(ExprId, ExprId)>,
    /// Commands whose reply has this length.
    reads: Vec<ExprId>,
}

impl Capacities {
    /// Finds the limits of a script.
    pub(crate) fn new(analysis: LoopAnalysis<'_>) -> Self {
        let script = analysis.calls.script;
        let calls = analysis.calls.all_redis();
        // Where it is larger, the function returns.
        let mut ends = Compared::default();
        for exit in script.functions.iter().flat_map(|(_, function)| function.exits.iter().flatten()) {
            ends.add(analysis, *exit, Binary::Or);
        }
        let exits = ends.sizes.clone();
        // The places that are left: `limit - ZCARD`.
        for (_, (expr, _)) in script.exprs.iter() {
            if let Expr::Binary(Binary::Minus, limit, size) = expr {
                ends.add_size(analysis, *size, *limit, Binary::Or);
            }
        }
        let trimmed = trimmed(analysis);
        // A function that ends at a limit says nothing of the others, which may be called without it.
        let functions: HashMap<ExprId, FnId> = script
            .functions
            .iter()
            .flat_map(|(id, function)| function.calls.iter().map(move |call| (*call, id)))
            .collect();
        // Where it is smaller, or after the function has returned where it is larger, and nowhere else, the script adds an element.
        let adds: Vec<(ExprId, ExprId)> = calls
            .iter()
            .filter(|(_, call)| {
                call.command.as_deref().is_some_and(|command| commands::contains(ADDS, command))
            })
            .filter_map(|(id, call)| Some((*id, *call.args.first()?)))
            .collect();
        // What is more than the limit is removed where an element is added.
        let removed = Compared::of_loops(analysis, |_, limit| Sum::of(script, limit).number().is_some());
        let is_added = |key: ExprId| adds.iter().any(|(_, other)| is_same_key(script, *other, key));
        let kept: Vec<ExprId> =
            removed.sizes.iter().map(|(_, key)| *key).filter(|key| is_added(*key)).collect();
        let kept: Vec<ExprId> = kept.into_iter().chain(with_room(analysis, &calls, &adds)).collect();
        let is_guarded = |(add, key): &(ExprId, ExprId)| {
            let mut guards = Compared::default();
            if let Some(guard) = script.guards.get(add) {
                guards.add(analysis, *guard, Binary::And);
            }
            let is_below = |(size, other): &(ExprId, ExprId)| {
                size < add && functions.get(size) == functions.get(add) && is_same_key(script, *other, *key)
            };
            guards.sizes.iter().any(|(_, other)| is_same_key(script, *other, *key))
                || exits.iter().any(is_below)
        };
        let guarded: Vec<bool> = adds.iter().map(is_guarded).collect();
        let is_kept = |key: ExprId| {
            let mut same = adds
                .iter()
                .zip(&guarded)
                .filter(|((_, other), _)| is_same_key(script, *other, key))
                .peekable();
            same.peek().is_some() && same.all(|(_, guarded)| *guarded)
        };
        let is_capped = |call: ExprId, key: ExprId| {
            // What the function does where the collection is larger, before it returns, is not bounded.
            let guard = script.guards.get(&call);
            let is_beyond = |size: ExprId| {
                guard.is_some_and(|guard| {
                    let mut larger = Compared::default();
                    larger.add(analysis, *guard, Binary::Or);
                    larger.sizes.iter().any(|(other, _)| *other == size)
                })
            };
            let ends_at_limit = |(size, other): &(ExprId, ExprId)| {
                functions.get(size) == functions.get(&call)
                    && is_same_key(script, *other, key)
                    && !is_beyond(*size)
            };
            // The call happens only where the collection has a certain size, or fewer elements.
            let mut guards = Compared::default();
            if let Some(guard) = script.guards.get(&call) {
                guards.add(analysis, *guard, Binary::And);
            }
            let is_small = guards.sizes.iter().any(|(size, other)| {
                commands::is_size(analysis.calls.command(*size)) && is_same_key(script, *other, key)
            });
            let is_trimmed =
                trimmed.iter().any(|(trim, other)| *trim < call && is_same_key(script, *other, key));
            ends.sizes.iter().any(ends_at_limit)
                || is_kept(key)
                || is_trimmed
                || is_small
                || kept.iter().any(|other| is_same_key(script, *other, key))
        };
        let capped = calls.iter().filter(|(id, call)| {
            call.command.as_deref().is_some_and(commands::begins_with_key)
                && call.args.first().is_some_and(|key| is_capped(*id, *key))
        });
        let built = built::reads(analysis, |one, other| is_same_key(script, one, other));
        let capped = capped.map(|(id, _)| *id).chain(built);
        let limited = cut(analysis, &trimmed, &adds).into_iter();
        let limited = limited.chain(kept.iter().copied());
        let added = adds.iter().take(MAX_CALLS).map(|(_, key)| *key);
        let limited = limited.chain(added.filter(|key| is_kept(*key)));
        Self {
            capped: capped.collect(),
            checked: ends.reads.into_iter().collect(),
            limited: limited.collect(),
        }
    }
}

impl Compared {
    /// Adds the sizes that the parts of a condition compare with a limit: one of them (`Or`) is larger, or all (`And`) are smaller.
    fn add(&mut self, analysis: LoopAnalysis<'_>, condition: ExprId, operator: Binary) {
        for (part, is_negated) in analysis.parts(condition, operator) {
            let Expr::Binary(Binary::Compare(comparison), left, right) = *analysis.calls.script.expr(part)
            else {
                continue;
            };
            let comparison = if is_negated { comparison.negated() } else { comparison };
            let sides = match (comparison, operator) {
                (Comparison::Greater, Binary::Or) | (Comparison::Less, Binary::And) => vec![(left, right)],
                (Comparison::Less, Binary::Or) | (Comparison::Greater, Binary::And) => vec![(right, left)],
                (Comparison::Unequal, Binary::Or) | (Comparison::Equal, Binary::And) => {
                    vec![(left, right), (right, left)]
                }
                _ => Vec::new(),
            };
            for (size, limit) in sides {
                self.add_size(analysis, size, limit, operator);
            }
        }
    }

    /// Sizes down to a limit of which loops remove elements: `while LLEN > 100 do RPOP`, `for i = 1, LLEN - 100 do RPOP`.
    fn of_loops(analysis: LoopAnalysis<'_>, is_limit: impl Fn(&Loop, ExprId) -> bool) -> Self {
        let script = analysis.calls.script;
        let mut sizes = Self::default();
        for (_, around) in script.loops.iter() {
            let mut add = |size: ExprId, limit: ExprId| {
                if is_limit(around, limit) {
                    sizes.add_size(analysis, size, limit, Binary::Or);
                }
            };
            match around.kind {
                LoopKind::While(condition) => {
                    for (part, is_negated) in analysis.parts(condition, Binary::And) {
                        if let Expr::Binary(Binary::Compare(comparison), left, right) = *script.expr(part) {
                            match if is_negated { comparison.negated() } else { comparison } {
                                Comparison::Greater => add(left, right),
                                Comparison::Less => add(right, left),
                                Comparison::Equal | Comparison::Unequal => {}
                            }
                        }
                    }
                }
                LoopKind::Numeric { end, .. } => {
                    if let Expr::Binary(Binary::Minus, size, limit) = script.expr(value(script, end)) {
                        add(*size, *limit);
                    }
                }
                LoopKind::Repeat(_) | LoopKind::Generic(_) => {}
            }
        }
        sizes
    }

    fn add_size(&mut self, analysis: LoopAnalysis<'_>, size: ExprId, limit: ExprId, operator: Binary) {
        // A text of digits is a number, too.
        let is_number = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit());
        match analysis.calls.script.expr(limit) {
            Expr::Nil | Expr::Bool(_) => return,
            Expr::String(text) if !is_number(text) => return,
            _ => {}
        }
        let number = Sum::of(analysis.calls.script, limit).number();
        if analysis.values.may_be_a_reply(limit) || number.is_some_and(|number| number < MIN_LIMIT) {
            return;
        }
        if let Some(list) = analysis.values.measured(size) {
            self.reads.extend(analysis.values.collections(list));
        }
        // A total of the elements is a size, too.
        let is_size = |call: ExprId| {
            commands::is_size(analysis.calls.command(call))
                || operator == Binary::And && analysis.values.extent(call).is_some()
        };
        if let Some(call) = analysis.values.reply_of(size, operator == Binary::And, is_size)
            && let Some(key) = analysis.calls.redis(call).and_then(|call| call.args.first())
        {
            self.sizes.push((call, *key));
        }
    }
}

/// Keys of collections from which a command removes an element where they have reached a limit, and to which one is added:
/// `if LLEN >= limit then LPOP end RPUSH`.
fn with_room(
    analysis: LoopAnalysis<'_>,
    calls: &[(ExprId, &RedisCall)],
    adds: &[(ExprId, ExprId)],
) -> Vec<ExprId> {
    let script = analysis.calls.script;
    let is_repeated = |call: ExprId| script.loops.iter().any(|(_, around)| around.calls.contains(&call));
    let adds_one = |key: ExprId| {
        let mut same = adds.iter().filter(|(_, other)| is_same_key(script, *other, key)).peekable();
        same.peek().is_some() && same.all(|(add, _)| !is_repeated(*add))
    };
    let makes_room = |(id, call): &(ExprId, &RedisCall)| {
        let key = *call.args.first()?;
        let mut larger = Compared::default();
        if call.command.as_deref().is_some_and(|command| commands::contains(POPS, command)) {
            larger.add(analysis, *script.guards.get(id)?, Binary::Or);
        }
        let is_of_key = larger.sizes.iter().any(|(_, other)| is_same_key(script, *other, key));
        (is_of_key && adds_one(key)).then_some(key)
    };
    calls.iter().take(MAX_CALLS).filter_map(makes_room).collect()
}

/// Keys of collections that a command (`trimmed`) or a loop cuts to a limit where an element is added. The limit may be a lower one than the
/// last time.
fn cut(analysis: LoopAnalysis<'_>, trimmed: &[(ExprId, ExprId)], adds: &[(ExprId, ExprId)]) -> Vec<ExprId> {
    let script = analysis.calls.script;
    let is_counter = |around: &Loop, limit: ExprId| {
        let counter = script.variable(limit);
        around.assigned.iter().any(|(assigned, _)| Some(*assigned) == counter)
    };
    let removed = Compared::of_loops(analysis, |around, limit| !is_counter(around, limit));
    let is_cut = |(call, key): &&(ExprId, ExprId)| {
        let mut same = adds.iter().filter(|(_, other)| is_same_key(script, *other, *key)).peekable();
        // An option of the caller may decide about it, where the condition is not the one of an addition.
        let guard = script.guards.get(call);
        same.peek().is_some() && (guard.is_none() || same.any(|(add, _)| script.guards.get(add) == guard))
    };
    let all = trimmed.iter().chain(&removed.sizes).take(MAX_CALLS);
    all.filter(is_cut).map(|(_, key)| *key).collect()
}

/// Commands that cut a collection to a number of elements, and its key: `LTRIM key 0 99`, `ZREMRANGEBYRANK key 0 -101`,
/// `XTRIM key MAXLEN 100`.
fn trimmed(analysis: LoopAnalysis<'_>) -> Vec<(ExprId, ExprId)> {
    let script = analysis.calls.script;
    let number = |id: ExprId| Sum::of(script, id).number();
    let is_given = |value: ExprId| !analysis.values.may_be_a_reply(value);
    // `-limit`, `-(limit + 1)`
    let is_negative = |id: ExprId| {
        let sum = Sum::of(script, id);
        if sum.terms.is_empty() {
            return sum.constant < -1.0;
        }
        sum.terms.iter().all(|(factor, value)| *factor < 0.0 && is_given(*value))
    };
    // `limit`, `limit - 1`
    let is_limit = |id: ExprId| {
        let sum = Sum::of(script, id);
        if sum.terms.is_empty() {
            return sum.constant >= 0.0;
        }
        sum.terms.iter().all(|(factor, value)| *factor > 0.0 && is_given(*value))
    };
    let is = |id: ExprId, wanted: f64| number(id) == Some(wanted);
    let calls = analysis.calls.all_redis().into_iter();
    calls
        .filter_map(|(id, call)| {
            let command = call.command.as_deref()?;
            if matches!(command, "XADD" | "XTRIM") {
                let is_option = |arg: &ExprId| {
                    analysis.calls.constant(*arg).is_some_and(|text| text.eq_ignore_ascii_case("MAXLEN"))
                };
                return call.args.iter().any(is_option).then_some((id, *call.args.first()?));
            }
            let [key, from, to] = call.args[..] else { return None };
            let keeps = match command {
                "LTRIM" => is(from, 0.0) && is_limit(to) || is_negative(from) && is(to, -1.0),
                "ZREMRANGEBYRANK" => {
                    is(from, 0.0) && is_negative(to) || is_limit(from) && !is(from, 0.0) && is(to, -1.0)
                }
                _ => false,
            };
            keeps.then_some((id, key))
        })
        .collect()
}

/// True if two keys are written the same way, also by variables with one value.
pub(super) fn is_same_key(script: &Script, one: ExprId, other: ExprId) -> bool {
    has_same_parts(script, one, other, MAX_DEPTH)
}

fn has_same_parts(script: &Script, one: ExprId, other: ExprId, depth: usize) -> bool {
    let (one, other) = (value(script, one), value(script, other));
    match (script.expr(one), script.expr(other), depth.checked_sub(1)) {
        (Expr::Binary(Binary::Concat, a, b), Expr::Binary(Binary::Concat, c, d), Some(depth)) => {
            has_same_parts(script, *b, *d, depth) && has_same_parts(script, *a, *c, depth)
        }
        _ => script.is_same(one, other),
    }
}

/// Value of a variable that has only one.
pub(super) fn value(script: &Script, id: ExprId) -> ExprId {
    let mut id = id;
    for _ in 0..MAX_ALIASES {
        let Expr::Variable(variable) = script.expr(id) else { break };
        let [Value::Of(value)] = script.values(*variable) else { break };
        id = *value;
    }
    id
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, severe};

    #[test]
    fn a_limit_of_the_script_bounds_its_collections() {
        assert_clean(&[
            // A semaphore.
            "for _, h in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1])) do redis.call('ZREM', KEYS[1], h) end
             if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then redis.call('ZADD', KEYS[1], ARGV[1], ARGV[3]) end",
            "local key, n = KEYS[1], tonumber(redis.call('SCARD', KEYS[1])) if n >= 100 then return 0 end
             for _, m in ipairs(redis.call('SMEMBERS', key)) do redis.call('DEL', m) end redis.call('SADD', KEYS[1], ARGV[1])",
            // Bindings, which a function reads.
            "local function all() for _, b in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', b) end end
             if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[1]) then return all() end redis.call('SADD', KEYS[1], ARGV[2]) return all()",
            // The last ones, one of which makes room for the next.
            "local n = redis.call('LLEN', KEYS[1]) if n >= tonumber(ARGV[1]) then redis.call('LPOP', KEYS[1]) end redis.call('RPUSH', KEYS[1], ARGV[2]) return redis.call('LRANGE', KEYS[1], 0, -1)",
            "local function all(id) for _, b in ipairs(redis.call('SMEMBERS', 'a:' .. id)) do redis.call('DEL', b) end end
             local id = KEYS[1] local key = 'a:' .. id all(id) if redis.call('SCARD', key) >= 9 then return 0 end redis.call('SADD', key, ARGV[2])",
            // A leaky bucket.
            "local limit = tonumber(ARGV[1]) while redis.call('LLEN', KEYS[1]) > 0 do
             if redis.call('LINDEX', KEYS[1], -1) > ARGV[2] then break end redis.call('RPOP', KEYS[1]) end
             if redis.call('LLEN', KEYS[1]) < limit then redis.call('LPUSH', KEYS[1], ARGV[2]) return 1 end return 0",
            // A log of the last ones.
            "redis.call('LPUSH', KEYS[1], ARGV[1]) while redis.call('LLEN', KEYS[1]) > 100 do redis.call('RPOP', KEYS[1]) end",
            "local log, max = KEYS[1], 1000 redis.call('ZADD', log, 1, ARGV[1])
             while redis.call('ZCARD', log) > max do redis.call('ZPOPMIN', log) end",
            "redis.call('LPUSH', KEYS[1], ARGV[1]) local more = redis.call('LLEN', KEYS[1]) - 100 for i = 1, more do redis.call('RPOP', KEYS[1]) end",
            "redis.call('LPUSH', KEYS[1], ARGV[1]) redis.call('LTRIM', KEYS[1], 0, 99) for _, m in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do redis.call('DEL', m) end",
            "redis.call('LTRIM', KEYS[1], -ARGV[1], -1) return redis.call('LRANGE', KEYS[1], 0, -1)",
            "redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[1]) - 1) return redis.call('LRANGE', KEYS[1], 0, -1)",
            "local max = ARGV[1] redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -(max + 1)) return redis.call('ZRANGE', KEYS[1], 0, -1)",
            "redis.call('ZREMRANGEBYRANK', KEYS[1], 100, -1) return redis.call('ZRANGE', KEYS[1], 0, -1)",
            // A lobby of four.
            "if redis.call('SCARD', KEYS[1]) == 4 then local all = table.concat(redis.call('SMEMBERS', KEYS[1]), ',') redis.call('DEL', KEYS[1]) return all end",
            "local n = redis.call('LLEN', KEYS[1]) if n < tonumber(ARGV[1]) then return redis.call('LRANGE', KEYS[1], 0, -1) end",
            // All of one score.
            "local t = ARGV[1] for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], t, t)) do redis.call('DEL', m) end",
            "if redis.call('LLEN', KEYS[1]) + #ARGV > 1000 then return 0 end for i = 1, redis.call('LLEN', KEYS[1]) do redis.call('LPOP', KEYS[1]) end",
            "local places = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[1]) local old = redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[2])
             for _, h in ipairs(old) do redis.call('ZREM', KEYS[1], h) end return places",
            // A window with weights.
            "local total = 0 for _, e in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[2])) do total = total + tonumber(e) end
             if total + ARGV[3] <= tonumber(ARGV[4]) then redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3]) end",
            // A record.
            "local h, n = redis.call('HGETALL', KEYS[1]), 0 for i = 1, #h, 2 do if h[i] == 'tokens' then n = h[i + 1] end end return n",
            "local h = redis.call('HGETALL', KEYS[1]) for i = 1, #h, 2 do local name = h[i] if name ~= 'tokens' then redis.call('HDEL', KEYS[1], name) end end",
            "local h = redis.call('HGETALL', KEYS[1]) if #h ~= 6 then return 0 end for i = 1, #h, 2 do if h[i] == 'x' then return h[i + 1] end end",
        ]);
    }

    #[test]
    fn other_comparisons_are_no_limit() {
        for (script, rule) in [
            (
                "local function full() if redis.call('LLEN', KEYS[1]) > 99 then return 1 end end local function all() for _, m in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do redis.call('DEL', m) end end return full() or all()",
                "loop-over-collection",
            ),
            (
                "if redis.call('LLEN', KEYS[1]) == 0 then return end for _, m in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "if redis.call('SCARD', KEYS[2]) > 100 then return end for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "if redis.call('LLEN', KEYS[1]) < 100 then return end for _, m in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "if redis.call('LLEN', KEYS[1]) > redis.call('LLEN', KEYS[2]) then return end for i = 1, redis.call('LLEN', KEYS[1]) do redis.call('LPOP', KEYS[1]) end",
                "unbounded-loop",
            ),
            (
                "while redis.call('LLEN', KEYS[1]) > tonumber(ARGV[1]) do redis.call('LPOP', KEYS[1]) end",
                "unbounded-loop",
            ),
            (
                "while redis.call('LLEN', KEYS[1]) > 100 do redis.call('RPOP', KEYS[1]) end redis.call('LPUSH', KEYS[2], ARGV[1])",
                "unbounded-loop",
            ),
            (
                "for _, m in ipairs(redis.call('ZREVRANGE', KEYS[1], ARGV[1], -1)) do redis.call('DEL', m) end redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -(ARGV[1] + 1))",
                "loop-over-collection",
            ),
            (
                "if redis.call('SCARD', KEYS[1]) > 4 then return redis.call('SMEMBERS', KEYS[1]) end",
                "whole-collection-read",
            ),
            (
                "if redis.call('SCARD', KEYS[1]) == 4 then return 0 else return redis.call('SMEMBERS', KEYS[1]) end",
                "whole-collection-read",
            ),
            (
                "local n = redis.call('GET', KEYS[2]) if n == false then return 1 else for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do n = n + m end redis.call('SET', KEYS[2], n) end",
                "loop-over-collection",
            ),
            (
                "local p = redis.pcall('LPOS', KEYS[1], ARGV[1]) if type(p) == 'table' and p.err then p = redis.call('LRANGE', KEYS[1], 0, -1) end return p",
                "whole-collection-read",
            ),
            (
                "if redis.call('SCARD', KEYS[2]) == 4 then return redis.call('SMEMBERS', KEYS[1]) end",
                "whole-collection-read",
            ),
            (
                "redis.call('LTRIM', KEYS[1], 100, -1) return redis.call('LRANGE', KEYS[1], 0, -1)",
                "whole-collection-read",
            ),
            (
                "redis.call('LTRIM', KEYS[1], 0, redis.call('GET', KEYS[2])) return redis.call('LRANGE', KEYS[1], 0, -1)",
                "whole-collection-read",
            ),
            (
                "for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', m) end if redis.call('SCARD', KEYS[1]) < 9 then redis.call('SADD', KEYS[1], 1) end redis.call('SADD', KEYS[1], 2)",
                "loop-over-collection",
            ),
            (
                "for i = 1, redis.call('LLEN', KEYS[1]) - 1 do redis.call('LPOP', KEYS[1]) end",
                "unbounded-loop",
            ),
            (
                "local all = redis.call('SMEMBERS', KEYS[1]) if #all > 1000 then return 0 end for _, m in ipairs(all) do redis.call('DEL', m) end",
                "whole-collection-read",
            ),
        ] {
            let found = severe(script);
            assert_eq!(
                found.iter().filter(|name| **name != "write-before-long-work").collect::<Vec<_>>(),
                [&rule],
                "{script}"
            );
        }
    }
}
