//! Keys of the collections that a script keeps below a limit, by names that other scripts may also use for them.

use std::rc::Rc;

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::capacity::{self, Capacities};
use crate::lint::analysis::doubt;
use crate::lint::analysis::loops::LoopAnalysis;
use crate::lint::analysis::summaries::Summaries;
use crate::lint::analysis::values::Values;
use crate::lint::source::syntax::{Binary, Expr, ExprId, Script};

/// Maximum number of parts of a key.
const MAX_PARTS: usize = 16;

/// Maximum number of keys of a group of scripts.
const MAX_KEYS: usize = 1000;

/// Commands and options; a script without any of them has no limit.
const MARKS: [&str; 8] = ["hlen", "llen", "ltrim", "maxlen", "scard", "xlen", "zcard", "zrem"];

/// Keys of collections that have a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Those to which the same script adds.
    kept: Vec<KeyName>,
    /// Lists that a script trims to a limit with LTRIM, even if another one adds to them.
    trimmed: Vec<KeyName>,
}

/// Name of a key. Two names are the same if their patterns are equal or, if one of them has no pattern, if their variables are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyName {
    /// Constant parts of the key, with `*` for the others: `jobs:*`.
    pattern: Option<String>,
    /// Name of its variable or parameter.
    variable: Option<String>,
}

/// True if a source, which may be in another language, may have a limit.
pub(crate) fn may_have(source: &str) -> bool {
    let source = source.to_ascii_lowercase();
    MARKS.iter().any(|mark| source.contains(mark))
}

impl Limits {
    /// Finds the limits of a script.
    pub(crate) fn of(script: &Script) -> Self {
        let calls = Rc::new(Calls::new(script));
        let values = Values::new(&calls);
        let summaries = Summaries::new(Rc::clone(&calls));
        let analysis = LoopAnalysis { calls: &calls, values: &values, summaries: &summaries };
        let capacities = Capacities::new(analysis);
        let names = |keys: Vec<ExprId>| {
            keys.into_iter().take(MAX_KEYS).filter_map(|key| KeyName::of(script, key)).collect()
        };
        Self { kept: names(capacities.limited), trimmed: names(capacities.trimmed_lists) }
    }

    /// Adds the limits of another script.
    pub(crate) fn add(&mut self, other: Self) {
        for (names, others) in [(&mut self.kept, other.kept), (&mut self.trimmed, other.trimmed)] {
            for name in others {
                if names.len() < MAX_KEYS && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }

    /// True if a key has the same name as a key with a limit.
    pub(crate) fn has(&self, script: &Script, key: ExprId) -> bool {
        contains(&self.kept, script, key)
    }

    /// True if a key has the same name as that of a list which a script trims to a limit.
    pub(crate) fn trims(&self, script: &Script, key: ExprId) -> bool {
        contains(&self.trimmed, script, key)
    }
}

/// True if a key has one of these names.
fn contains(names: &[KeyName], script: &Script, key: ExprId) -> bool {
    !names.is_empty()
        && KeyName::of(script, key).is_some_and(|name| names.iter().any(|other| other.is_same(&name)))
}

impl KeyName {
    /// Name of a key, if it distinguishes the key from others.
    fn of(script: &Script, key: ExprId) -> Option<Self> {
        let pattern = pattern(script, key).filter(|pattern| pattern.contains(char::is_alphabetic));
        let variable = variable(script, key).filter(|name| doubt::is_telling(name)).map(ToOwned::to_owned);
        (pattern.is_some() || variable.is_some()).then_some(Self { pattern, variable })
    }

    fn is_same(&self, other: &Self) -> bool {
        match (&self.pattern, &other.pattern) {
            (Some(one), Some(other)) => one == other,
            _ => self.variable.is_some() && self.variable == other.variable,
        }
    }
}

/// Constant parts of a key, with `*` for the others.
fn pattern(script: &Script, key: ExprId) -> Option<String> {
    let mut pattern = String::new();
    let mut next = vec![key];
    for _ in 0..MAX_PARTS {
        let Some(id) = next.pop() else { return Some(pattern) };
        match script.expr(capacity::value(script, id)) {
            Expr::Binary(Binary::Concat, left, right) => next.extend([*right, *left]),
            Expr::String(text) => pattern.push_str(text),
            _ => pattern.push('*'),
        }
    }
    None
}

/// Name of the variable or field that a key comes from.
fn variable(script: &Script, key: ExprId) -> Option<&str> {
    match script.expr(key) {
        Expr::Variable(variable) => Some(script.variables.get(*variable)?.name.as_str()),
        Expr::Index { key, .. } => match script.expr(*key) {
            Expr::String(field) => Some(field),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::{Limits, Severity, limits, lint};

    /// True if the limits of `neighbour` lower the findings in `script` to information.
    fn is_limited_by(script: &str, neighbour: &str) -> bool {
        let is_reported = |limits: &Limits| {
            let (findings, _) = lint("a.lua", script, limits, &[]);
            findings.iter().any(|finding| finding.severity >= Severity::Warning)
        };
        assert!(is_reported(&Limits::default()), "{script}");
        !is_reported(&limits(neighbour))
    }

    #[test]
    fn a_limit_in_another_script_downgrades_an_unlimited_read() {
        for (script, neighbour) in [
            (
                "return redis.call('LRANGE', 'log:' .. KEYS[1], 0, -1)",
                "local id = ARGV[2] local key = 'log:' .. id redis.call('LPUSH', key, ARGV[1]) redis.call('LTRIM', key, 0, 99)",
            ),
            (
                "for _, b in ipairs(redis.call('SMEMBERS', 'a:' .. KEYS[1])) do redis.call('DEL', b) end",
                "local key = 'a:' .. KEYS[1] if redis.call('SCARD', key) >= tonumber(ARGV[1]) then return 0 end redis.call('SADD', key, ARGV[2])",
            ),
            (
                "local function all(unread_key) return redis.call('ZRANGE', unread_key, 0, -1) end return all(KEYS[1])",
                "local unread_key = KEYS[2] redis.call('ZADD', unread_key, 1, ARGV[1]) redis.call('ZREMRANGEBYRANK', unread_key, 0, -101)",
            ),
            (
                "local done = KEYS[1] for _, m in ipairs(redis.call('ZRANGE', done, 0, -1)) do redis.call('DEL', m) end",
                "local done = KEYS[1] redis.call('ZADD', done, 1, ARGV[1]) local excess = redis.call('ZCARD', done) - tonumber(ARGV[2])
                 if excess > 0 then for _, m in ipairs(redis.call('ZRANGE', done, 0, excess - 1)) do redis.call('DEL', m) redis.call('ZREM', done, m) end end",
            ),
            (
                "return redis.call('ZRANGE', 'done:' .. KEYS[1], 0, -1)",
                "local key = 'done:' .. ARGV[1] redis.call('ZADD', key, 1, ARGV[2]) local old = redis.call('ZRANGE', key, 0, -101)
                 if #old > 0 then redis.call('DEL', unpack(old)) redis.call('ZREM', key, unpack(old)) end",
            ),
            (
                "local rk = {events = KEYS[1]} return redis.call('XRANGE', rk.events, '-', '+')",
                "local events = KEYS[1] redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'a', ARGV[1])",
            ),
        ] {
            assert!(is_limited_by(script, neighbour), "{script}");
        }
    }

    #[test]
    fn a_trim_in_another_script_downgrades_a_repeated_search() {
        let search = "local done = KEYS[1] for i = 1, #ARGV do redis.call('LPOS', done, ARGV[i]) end";
        let by_pattern = "for i = 1, #ARGV do redis.call('LREM', 'done:' .. KEYS[1], 1, ARGV[i]) end";
        for (script, neighbour) in [
            (search, "local done = KEYS[2] redis.call('LTRIM', done, 0, ARGV[1] - 1)"),
            (
                search,
                "local done = KEYS[2] local old = redis.call('LRANGE', done, 100, -1) if #old > 0 then redis.call('DEL', unpack(old)) redis.call('LTRIM', done, 0, 99) end",
            ),
            (by_pattern, "redis.call('LTRIM', 'done:' .. ARGV[1], -100, -1)"),
        ] {
            assert!(is_limited_by(script, neighbour), "{neighbour}");
        }
        for (script, neighbour) in [
            (search, "local failed = KEYS[1] redis.call('LTRIM', failed, 0, 99)"),
            (search, "local list = KEYS[1] redis.call('LTRIM', list, 0, 99)"),
            (search, "redis.call('LTRIM', KEYS[1], 0, 99)"),
            (search, "local done = KEYS[2] redis.call('LTRIM', done, 100, -1)"),
            (search, "local done = KEYS[2] if ARGV[1] == '1' then redis.call('LTRIM', done, 0, 99) end"),
            (by_pattern, "redis.call('LTRIM', 'failed:' .. ARGV[1], 0, 99)"),
            (
                "for i = 1, #ARGV do redis.call('LPOS', KEYS[1], ARGV[i]) end",
                "redis.call('LTRIM', KEYS[1], 0, 99)",
            ),
            (
                "local list = KEYS[1] for i = 1, #ARGV do redis.call('LPOS', list, ARGV[i]) end",
                "local list = KEYS[1] redis.call('LTRIM', list, 0, 99)",
            ),
        ] {
            assert!(!is_limited_by(script, neighbour), "{neighbour}");
        }
    }

    #[test]
    fn every_push_needs_a_trim() {
        let script = "local log = KEYS[1] return redis.call('LRANGE', log, 0, -1)";
        for neighbour in [
            "local log = KEYS[1] if a then redis.call('LPUSH', log, 1) redis.call('LTRIM', log, 0, 99) end",
            "local log = KEYS[1] if a then redis.call('LPUSH', log, 1) else redis.call('RPUSH', log, 1) end redis.call('LTRIM', log, 0, 99)",
            "local log = KEYS[1] if a then redis.call('LPUSH', log, 1) redis.call('LTRIM', log, 0, 99) else redis.call('LPUSH', log, 2) redis.call('LTRIM', log, 0, 9) end",
            "local log = KEYS[1] if a then redis.call('LPUSH', log, 1) end if redis.call('LLEN', log) > 99 then redis.call('LTRIM', log, 0, 99) end",
        ] {
            assert!(is_limited_by(script, neighbour), "{neighbour}");
        }
        for neighbour in [
            "local log = KEYS[1] if a then redis.call('LPUSH', log, 1) else redis.call('LPUSH', log, 1) redis.call('LTRIM', log, 0, 99) end",
            "local log = KEYS[1] redis.call('LPUSH', log, 1) if a then redis.call('LPUSH', log, 2) redis.call('LTRIM', log, 0, 99) end",
        ] {
            assert!(!is_limited_by(script, neighbour), "{neighbour}");
        }
    }

    #[test]
    fn limits_of_other_collections_do_not_count() {
        for (script, neighbour) in [
            // Other constants, or none at all.
            (
                "local key = 'jobs:' .. KEYS[1] return redis.call('LRANGE', key, 0, -1)",
                "local key = 'log:' .. KEYS[1] redis.call('LPUSH', key, 1) redis.call('LTRIM', key, 0, 99)",
            ),
            (
                "return redis.call('LRANGE', KEYS[1], 0, -1)",
                "redis.call('LPUSH', KEYS[1], 1) redis.call('LTRIM', KEYS[1], 0, 99)",
            ),
            (
                "local prefix = KEYS[1] return redis.call('LRANGE', prefix .. ':' .. ARGV[1], 0, -1)",
                "local log = ARGV[1] .. ':' .. ARGV[2] redis.call('LPUSH', log, 1) redis.call('LTRIM', log, 0, 99)",
            ),
            // A name that may be used for anything.
            (
                "local list_key = KEYS[1] return redis.call('LRANGE', list_key, 0, -1)",
                "local list_key = KEYS[1] redis.call('LPUSH', list_key, 1) redis.call('LTRIM', list_key, 0, 99)",
            ),
            // The neighbour adds nothing.
            ("return redis.call('LRANGE', 'log', 0, -1)", "redis.call('LTRIM', 'log', 0, 99)"),
            // Elements that are not above a limit, or not all of those above it.
            (
                "local done = KEYS[1] return redis.call('ZRANGE', done, 0, -1)",
                "local done = KEYS[1] redis.call('ZADD', done, 1, ARGV[1]) redis.call('ZREM', done, unpack(redis.call('ZRANGE', done, 0, 99)))",
            ),
            (
                "local done = KEYS[1] return redis.call('ZRANGE', done, 0, -1)",
                "local done, all = KEYS[1], KEYS[2] redis.call('ZADD', done, 1, ARGV[1]) redis.call('ZREM', done, unpack(redis.call('ZRANGE', all, 0, -101)))",
            ),
            (
                "local done = KEYS[1] return redis.call('ZRANGE', done, 0, -1)",
                "local done = KEYS[1] redis.call('ZADD', done, 1, ARGV[1]) for _, m in ipairs(redis.call('ZRANGE', done, 0, -101)) do
                 if redis.call('EXISTS', m) == 0 then redis.call('ZREM', done, m) end end",
            ),
            // No limit.
            (
                "local log = KEYS[1] return redis.call('LRANGE', log, 0, -1)",
                "local log = KEYS[1] if redis.call('LLEN', log) > 100 then redis.call('SET', KEYS[2], 1) end redis.call('RPUSH', log, ARGV[1])",
            ),
        ] {
            assert!(!is_limited_by(script, neighbour), "{script}");
        }
    }
}
