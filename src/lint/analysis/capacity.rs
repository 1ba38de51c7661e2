//! Collections that a script keeps below a limit: it adds to them only if they are smaller, or ends if they are larger.
//!
//! Semaphores, leaky buckets and bounded queues have such a limit, which is constant or comes from the caller.

use std::collections::{HashMap, HashSet};

use crate::lint::analysis::calls::RedisCall;
use crate::lint::analysis::loops::LoopAnalysis;
use crate::lint::analysis::numbers::Sum;
use crate::lint::analysis::{built, commands};
use crate::lint::source::syntax::{Binary, Comparison, Expr, ExprId, FnId, Loop, LoopKind, Script, Value};

/// Commands that add an element to a collection.
pub(super) const ADDS: &str = "\
    HINCRBY HINCRBYFLOAT HMSET HSET HSETNX LINSERT LPUSH LPUSHX RPUSH RPUSHX SADD XADD ZADD ZINCRBY";

/// Commands that add an element to a list, and reply with its new length.
const PUSHES: &str = "LINSERT LPUSH LPUSHX RPUSH RPUSHX";

/// Commands that remove an element.
const POPS: &str = "LPOP RPOP SPOP ZPOPMAX ZPOPMIN";

/// Commands that remove one or more elements.
const REMOVES: &str = "\
    HDEL LMOVE LPOP LTRIM RPOP RPOPLPUSH SMOVE SPOP SREM XDEL XTRIM ZPOPMAX ZPOPMIN ZREM ZREMRANGEBYRANK";

/// Commands that remove all elements.
const CLEARS: &str = "DEL RENAME UNLINK";

/// Commands that reply with the total number of elements.
const COUNTS: &str = "HLEN LLEN SCARD XLEN ZCARD";

/// Commands that test whether an element is in a collection.
const TESTS: &str = "HEXISTS HGET LPOS SISMEMBER ZRANK ZREVRANK ZSCORE";

/// Commands that reply with stored numbers.
const STORED: &str = "GET HGET HMGET";

/// Smallest constant that is a limit. Comparisons with smaller ones test for an empty collection, or for one element.
const MIN_LIMIT: f64 = 2.0;

/// Maximum number of commands that may make room for an element, and of keys with a limit; only hostile scripts have more.
const MAX_CALLS: usize = 500;

/// Maximum depth of the parts of a key that are compared individually.
const MAX_DEPTH: usize = 8;

/// Maximum number of variables between a key and its value.
const MAX_ALIASES: usize = 4;

/// Command calls that are bounded by a limit.
#[derive(Debug, Default)]
pub(crate) struct Capacities {
    /// Calls on a collection that is kept below a limit.
    pub(crate) capped: HashSet<ExprId>,
    /// Calls on a collection that is kept below a limit that the script reads.
    pub(crate) capped_by_stored: HashSet<ExprId>,
    /// Calls whose reply the script processes only if its length is below a limit.
    pub(crate) checked: HashSet<ExprId>,
    /// Keys of the collections that the script adds elements to and keeps below a limit, by trimming them or by adding only below it.
    pub(crate) limited: Vec<ExprId>,
    /// Keys of lists that the script trims with LTRIM, whether or not it adds to them.
    pub(crate) trimmed_lists: Vec<ExprId>,
}

impl Capacities {
    /// Finds the limits of a script.
    pub(crate) fn new(analysis: LoopAnalysis<'_>) -> Self {
        let given = Search::new(analysis, Limit::Given).capacities();
        if !analysis.calls.all_redis().iter().any(|(_, call)| is_one_of(STORED, call)) {
            return given;
        }
        let stored = Search::new(analysis, Limit::Stored).capacities();
        Self {
            capped_by_stored: stored.capped.difference(&given.capped).copied().collect(),
            limited: stored.limited,
            trimmed_lists: stored.trimmed_lists,
            ..given
        }
    }
}

/// Numbers that count as limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// Constants, and numbers from the caller.
    Given,
    /// Those of `Given`, and numbers that the script reads.
    Stored,
}

/// Size that a condition compares with a limit.
#[derive(Debug, Default)]
struct Compared {
    /// Commands that reply with it, and their keys.
    sizes: Vec<(ExprId, ExprId)>,
    /// Commands whose reply has this length.
    reads: Vec<ExprId>,
}

/// Exit from a function that is taken if a collection is larger than a limit.
struct Exit {
    function: Option<FnId>,
    /// Condition under which it is taken.
    guard: ExprId,
    /// Command that replies with the size, and its key.
    size: (ExprId, ExprId),
}

/// Search for the limits of a script.
struct Search<'a> {
    analysis: LoopAnalysis<'a>,
    limit: Limit,
    calls: Vec<(ExprId, &'a RedisCall)>,
    /// Commands that add elements, and their keys.
    adds: Vec<(ExprId, ExprId)>,
    /// Function that contains each call.
    functions: HashMap<ExprId, FnId>,
    /// Conditions around each call, innermost first.
    guards: HashMap<ExprId, Vec<ExprId>>,
    /// Keys of the commands that add elements, by the conditions around them.
    added_where: HashMap<ExprId, Vec<ExprId>>,
}

/// Command that trims a collection to a number of elements.
struct Trim {
    call: ExprId,
    key: ExprId,
    /// True if each condition around it is also around an addition, or depends on the collection or on chance.
    is_certain: bool,
    /// Other conditions around it that do not involve the limit either: options of the caller.
    options: Vec<ExprId>,
}

impl<'a> Search<'a> {
    fn new(analysis: LoopAnalysis<'a>, limit: Limit) -> Self {
        let calls = analysis.calls.all_redis();
        let adds = calls.iter().filter(|(_, call)| is_one_of(ADDS, call));
        let adds: Vec<(ExprId, ExprId)> =
            adds.filter_map(|(id, call)| Some((*id, *call.args.first()?))).collect();
        let guards = analysis.calls.script.all_guards();
        let mut added_where: HashMap<ExprId, Vec<ExprId>> = HashMap::new();
        for (add, key) in &adds {
            for guard in guards.get(add).into_iter().flatten() {
                added_where.entry(*guard).or_default().push(*key);
            }
        }
        let functions = analysis.calls.script.functions.iter();
        let functions =
            functions.flat_map(|(id, function)| function.calls.iter().map(move |call| (*call, id))).collect();
        Self { analysis, limit, calls, adds, functions, guards, added_where }
    }

    fn script(&self) -> &'a Script {
        self.analysis.calls.script
    }

    /// Conditions around a call, innermost first.
    fn guards(&self, call: ExprId) -> &[ExprId] {
        self.guards.get(&call).map(Vec::as_slice).unwrap_or_default()
    }

    fn is_same_key(&self, one: ExprId, other: ExprId) -> bool {
        is_same_key(self.script(), one, other)
    }

    fn capacities(&self) -> Capacities {
        let script = self.script();
        // Exits that are taken if a collection is larger than a limit.
        let (mut exits, mut checked) = (Vec::new(), Vec::new());
        // Exits that are taken if a reply with all elements is longer than a limit.
        let mut long_replies = Vec::new();
        for (id, function) in script.functions.iter() {
            for guard in function.exits.iter().flatten() {
                let larger = self.compared(*guard, Binary::Or);
                let exit = |size: (ExprId, ExprId)| Exit { function: Some(id), guard: *guard, size };
                let replies = larger.reads.iter().filter_map(|read| Some((*read, self.key(*read)?)));
                long_replies.extend(replies.map(exit));
                checked.extend(larger.reads);
                exits.extend(larger.sizes.into_iter().map(exit));
            }
        }
        // The remaining capacity: `limit - ZCARD`.
        let mut rests = Compared::default();
        for (_, (expr, _)) in script.exprs.iter() {
            if let Expr::Binary(Binary::Minus, limit, size) = expr {
                self.add_size(&mut rests, (*size, *limit), Binary::Or, MIN_LIMIT);
            }
        }
        checked.extend(rests.reads);
        let ends_at_exit = exits.len();
        exits.extend(rests.sizes.into_iter().map(|size| Exit {
            function: self.functions.get(&size.0).copied(),
            guard: size.0,
            size,
        }));
        let trimmed = self.trimmed();
        // Collections from which elements above the limit are removed where an element is added.
        let removed = self.removed_by_loops(|_, limit| Sum::of(script, limit).number().is_some());
        let kept = removed.sizes.iter().map(|(_, key)| *key).filter(|key| self.is_added(*key));
        let kept: Vec<ExprId> = kept.chain(self.with_room()).collect();
        let ends = exits.get(..ends_at_exit).unwrap_or_default().iter().chain(&long_replies);
        let ends: Vec<&Exit> = ends.collect();
        let guarded: Vec<bool> = self.adds.iter().map(|add| self.is_guarded(*add, &ends)).collect();
        let is_kept = |key: ExprId| {
            let adds = self.adds.iter().zip(&guarded);
            let mut same = adds.filter(|((_, other), _)| self.is_same_key(*other, key)).peekable();
            same.peek().is_some() && same.all(|(_, guarded)| *guarded)
        };
        let empty = self.empty();
        let is_capped = |call: ExprId, key: ExprId| {
            exits.iter().any(|exit| self.ends_before(exit, call, key))
                || empty.iter().any(|exit| exit.guard < call && self.ends_before(exit, call, key))
                || is_kept(key)
                || self.is_small(call, key)
                || trimmed.iter().any(|trim| {
                    trim.call < call
                        && trim.options.iter().all(|guard| self.guards(call).contains(guard))
                        && self.is_same_key(trim.key, key)
                })
                || kept.iter().any(|other| self.is_same_key(*other, key))
        };
        let capped = self
            .calls
            .iter()
            .filter(|(id, _)| self.analysis.calls.key(*id).is_some_and(|key| is_capped(*id, key)));
        let built = built::reads(self.analysis, |one, other| self.is_same_key(one, other));
        let capped = capped.map(|(id, _)| *id).chain(built).collect();
        let limited = self.cut(&trimmed).into_iter().chain(kept.iter().copied());
        let added = self.adds.iter().take(MAX_CALLS).map(|(_, key)| *key);
        let limited = limited.chain(added.filter(|key| is_kept(*key))).collect();
        let is_ltrim = |trim: &&Trim| self.analysis.calls.command(trim.call) == "LTRIM";
        let trimmed_lists = trimmed.iter().filter(|trim| trim.is_certain).filter(is_ltrim);
        let trimmed_lists = trimmed_lists.map(|trim| trim.key).collect();
        let checked = checked.into_iter().collect();
        Capacities { capped, checked, limited, trimmed_lists, ..Capacities::default() }
    }

    /// Exits that are taken if a collection is not empty: `if LLEN > 0 then return end`. Only collections to which the script does not
    /// add count.
    fn empty(&self) -> Vec<Exit> {
        let script = self.script();
        let in_loops: HashSet<ExprId> =
            script.loops.iter().flat_map(|(_, around)| around.exits.iter().copied().flatten()).collect();
        let is_certain =
            |guard: &ExprId| !script.outer_guards.contains_key(guard) && !in_loops.contains(guard);
        let guards = script.functions.iter().flat_map(|(id, function)| {
            function.exits.iter().copied().flatten().map(move |guard| (id, guard))
        });
        let mut exits = Vec::new();
        for (id, guard) in guards.filter(|(_, guard)| is_certain(guard)).take(MAX_CALLS) {
            let mut larger = Compared::default();
            for part in self.analysis.parts(guard, Binary::Or) {
                self.add_comparison(&mut larger, part, Binary::Or, 0.0);
            }
            let counts = |call: ExprId| commands::contains(COUNTS, self.analysis.calls.command(call));
            let sizes = larger.sizes.into_iter().filter(|(call, key)| counts(*call) && !self.may_grow(*key));
            exits.extend(sizes.map(|size| Exit { function: Some(id), guard, size }));
        }
        exits
    }

    /// True if a command adds to a collection, or may write to it as its destination.
    fn may_grow(&self, key: ExprId) -> bool {
        let is_destination = |call: &RedisCall| {
            !is_one_of(CLEARS, call) && call.args.iter().skip(1).any(|arg| self.is_same_key(*arg, key))
        };
        self.is_added(key)
            || self.calls.iter().any(|(_, call)| {
                is_destination(call)
                    || call.command.as_deref().is_some_and(|command| command.ends_with("STORE"))
                        && call.args.first().is_some_and(|first| self.is_same_key(*first, key))
            })
    }

    fn is_added(&self, key: ExprId) -> bool {
        self.adds.iter().any(|(_, other)| self.is_same_key(*other, key))
    }

    /// True if an element is added only if the collection is smaller than a limit, or only after a check that exits the function or a
    /// loop around the addition if it is larger. A check in one function says nothing about other functions, which may be called
    /// without it.
    fn is_guarded(&self, (add, key): (ExprId, ExprId), exits: &[&Exit]) -> bool {
        let script = self.script();
        let is_of_key =
            |sizes: &[(ExprId, ExprId)]| sizes.iter().any(|(_, other)| self.is_same_key(*other, key));
        let is_below = |exit: &&Exit| {
            exit.guard < add
                && exit.function == self.functions.get(&add).copied()
                && self.is_same_key(exit.size.1, key)
        };
        let around = || script.loops.iter().filter(|(_, around)| around.calls.contains(&add));
        self.guards(add).iter().any(|guard| is_of_key(&self.compared(*guard, Binary::And).sizes))
            || exits.iter().any(is_below)
            || around().any(|(_, around)| {
                let mut before = around.exits.iter().flatten().filter(|exit| **exit < add);
                before.any(|exit| is_of_key(&self.compared(*exit, Binary::Or).sizes))
            })
    }

    /// True if the function that contains a call ends if the collection is larger than a limit. Calls that it makes in that case before
    /// it ends are not bounded.
    fn ends_before(&self, exit: &Exit, call: ExprId, key: ExprId) -> bool {
        let is_beyond = || {
            self.guards(call).iter().any(|guard| {
                self.compared(*guard, Binary::Or).sizes.iter().any(|(size, _)| *size == exit.size.0)
            })
        };
        exit.function == self.functions.get(&call).copied()
            && self.is_same_key(exit.size.1, key)
            && !is_beyond()
    }

    /// True if a call is made only if the collection has a certain size, or is smaller.
    fn is_small(&self, call: ExprId, key: ExprId) -> bool {
        self.guards(call).iter().any(|guard| {
            self.compared(*guard, Binary::And).sizes.iter().any(|(size, other)| {
                commands::is_size(self.analysis.calls.command(*size)) && self.is_same_key(*other, key)
            })
        })
    }

    /// Sizes that the parts of a condition compare with a limit. The condition means that one of them is larger (`Or`), or that all are
    /// smaller (`And`).
    fn compared(&self, condition: ExprId, operator: Binary) -> Compared {
        let mut compared = Compared::default();
        let other = if operator == Binary::Or { Binary::And } else { Binary::Or };
        for (part, is_negated) in self.analysis.parts(condition, operator) {
            if !is_negated && matches!(self.script().expr(part), Expr::Binary(inner, ..) if *inner == other) {
                // An element that is already in the collection does not increase its size: `size >= limit and ZSCORE == false`.
                let parts = self.analysis.parts(part, other);
                let (tests, others): (Vec<_>, Vec<_>) =
                    parts.into_iter().partition(|(part, _)| self.tested(*part).is_some());
                let [(size, is_negated)] = others[..] else { continue };
                let mut inner = Compared::default();
                self.add_comparison(&mut inner, (size, is_negated), operator, MIN_LIMIT);
                inner.sizes.retain(|(_, key)| {
                    let mut keys = tests.iter().filter_map(|(test, _)| self.tested(*test));
                    keys.all(|tested| self.is_same_key(tested, *key))
                });
                compared.sizes.extend(inner.sizes);
            } else {
                self.add_comparison(&mut compared, (part, is_negated), operator, MIN_LIMIT);
            }
        }
        compared
    }

    /// Key of a collection, if a condition tests whether an element is in it.
    fn tested(&self, condition: ExprId) -> Option<ExprId> {
        let is_test = |call: ExprId| commands::contains(TESTS, self.analysis.calls.command(call));
        self.key(self.analysis.values.reply_of(condition, false, is_test)?)
    }

    /// Adds a size that a condition, or its negation, compares with a limit of at least `least`.
    fn add_comparison(
        &self,
        compared: &mut Compared,
        (condition, is_negated): (ExprId, bool),
        operator: Binary,
        least: f64,
    ) {
        let Expr::Binary(Binary::Compare(comparison), left, right) = *self.script().expr(condition) else {
            return;
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
            self.add_size(compared, (value(self.script(), size), limit), operator, least);
        }
    }

    /// Sizes of collections from which loops remove the elements above a limit: `while LLEN > 100 do RPOP`,
    /// `for i = 1, LLEN - 100 do RPOP`.
    fn removed_by_loops(&self, is_limit: impl Fn(&Loop, ExprId) -> bool) -> Compared {
        let script = self.script();
        let mut sizes = Compared::default();
        for (_, around) in script.loops.iter() {
            let mut add = |size: ExprId, limit: ExprId| {
                if is_limit(around, limit) {
                    self.add_size(&mut sizes, (size, limit), Binary::Or, MIN_LIMIT);
                }
            };
            match around.kind {
                LoopKind::While(condition) => {
                    for (part, is_negated) in self.analysis.parts(condition, Binary::And) {
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

    fn add_size(
        &self,
        compared: &mut Compared,
        (size, limit): (ExprId, ExprId),
        operator: Binary,
        least: f64,
    ) {
        // A string of digits is also a number.
        let is_number = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit());
        match self.script().expr(limit) {
            Expr::Nil | Expr::Bool(_) => return,
            Expr::String(text) if !is_number(text) => return,
            _ => {}
        }
        let number = Sum::of(self.script(), limit).number();
        if !self.is_limit(limit) || number.is_some_and(|number| number < least) {
            return;
        }
        let values = self.analysis.values;
        if let Some(list) = values.measured(size) {
            compared.reads.extend(values.collections(list));
        }
        // A total over the elements is also a size.
        let is_size =
            |call: ExprId| self.is_size(call) || operator == Binary::And && values.extent(call).is_some();
        if let Some(call) = values.reply_of(size, operator == Binary::And, is_size)
            && let Some(key) = self.key(call)
        {
            compared.sizes.push((call, key));
        }
    }

    /// True for a command that replies with the size of its collection.
    fn is_size(&self, call: ExprId) -> bool {
        let command = self.analysis.calls.command(call);
        commands::is_size(command) || commands::contains(PUSHES, command)
    }

    /// True for a number that may be a limit.
    fn is_limit(&self, number: ExprId) -> bool {
        let is_data = |call: ExprId| !commands::contains(STORED, self.analysis.calls.command(call));
        match self.limit {
            Limit::Given => !self.analysis.values.may_be_a_reply(number),
            Limit::Stored => self.analysis.values.reply_of(number, true, is_data).is_none(),
        }
    }

    fn key(&self, call: ExprId) -> Option<ExprId> {
        self.analysis.calls.redis(call)?.args.first().copied()
    }

    /// Keys of collections to which an element is added, and from which a command removes an element if they have reached a limit:
    /// `if LLEN >= limit then LPOP end RPUSH`.
    fn with_room(&self) -> Vec<ExprId> {
        let script = self.script();
        let is_repeated = |call: ExprId| script.loops.iter().any(|(_, around)| around.calls.contains(&call));
        let makes_room = |(id, call): &(ExprId, &RedisCall)| {
            let key = *call.args.first()?;
            let clears = is_one_of(CLEARS, call);
            if !clears && !is_one_of(REMOVES, call) {
                return None;
            }
            let larger = self.compared(*script.guards.get(id)?, Binary::Or);
            let reads = larger.reads.iter().filter_map(|read| self.key(*read));
            let mut keys = larger.sizes.iter().map(|(_, key)| *key).chain(reads);
            let mut adds = self.adds.iter().filter(|(_, other)| self.is_same_key(*other, key)).peekable();
            let is_of_key = keys.any(|other| self.is_same_key(other, key));
            (is_of_key && adds.peek().is_some() && adds.all(|(add, _)| clears || !is_repeated(*add)))
                .then_some(key)
        };
        self.calls.iter().take(MAX_CALLS).filter_map(makes_room).collect()
    }

    /// Keys of collections that a command (`trimmed`) or a loop trims to a limit where an element is added. The limit may be lower than
    /// in an earlier run.
    fn cut(&self, trimmed: &[Trim]) -> Vec<ExprId> {
        let script = self.script();
        let is_counter = |around: &Loop, limit: ExprId| {
            let counter = script.variable(limit);
            around.assigned.iter().any(|(assigned, _)| Some(*assigned) == counter)
        };
        let removed = self.removed_by_loops(|around, limit| !is_counter(around, limit));
        let certain = trimmed.iter().filter(|trim| trim.is_certain).map(|trim| (trim.call, trim.key));
        let removed = removed.sizes.into_iter().filter(|(call, key)| self.is_certain(*call, *key));
        let cuts: Vec<(ExprId, ExprId)> = certain.chain(removed).take(MAX_CALLS).collect();
        let uncut = self.uncut(&cuts);
        let is_uncut = |key: ExprId| uncut.iter().any(|other| self.is_same_key(*other, key));
        let keys = cuts.into_iter().map(|(_, key)| key);
        keys.filter(|key| self.is_added(*key) && !is_uncut(*key)).collect()
    }

    /// Keys of lists to which a command pushes an element where none of some commands shortens the list. Conditions around the latter
    /// must also be around the former, or depend on the list or on chance.
    fn uncut(&self, cuts: &[(ExprId, ExprId)]) -> Vec<ExprId> {
        let conditions = |(cut, key): &(ExprId, ExprId)| {
            let guards = self.guards(*cut).iter().copied();
            (*key, guards.filter(|guard| !self.depends_on(*guard, *key)).collect::<Vec<_>>())
        };
        let cuts: Vec<(ExprId, Vec<ExprId>)> = cuts.iter().map(conditions).collect();
        let is_push = |call: ExprId| commands::contains(PUSHES, self.analysis.calls.command(call));
        let pushes = self.adds.iter().filter(|(push, _)| is_push(*push)).take(MAX_CALLS);
        let uncut = pushes.filter(|(push, key)| {
            let around = self.guards(*push);
            !cuts.iter().any(|(other, guards)| {
                self.is_same_key(*other, *key) && guards.iter().all(|guard| around.contains(guard))
            })
        });
        uncut.map(|(_, key)| *key).collect()
    }

    /// True if each condition around a command is also around an addition to the collection, or depends on the collection or on chance.
    /// Other conditions may be options of the caller.
    fn is_certain(&self, call: ExprId, key: ExprId) -> bool {
        self.guards(call).iter().all(|guard| self.is_met(*guard, key))
    }

    /// True if a condition is also around an addition to a collection, or depends on the collection or on chance.
    fn is_met(&self, guard: ExprId, key: ExprId) -> bool {
        self.is_around_addition(guard, key) || self.depends_on(guard, key)
    }

    /// True if a condition is also around an addition to a collection.
    fn is_around_addition(&self, guard: ExprId, key: ExprId) -> bool {
        let mut added = self.added_where.get(&guard).into_iter().flatten().take(MAX_CALLS);
        added.any(|other| self.is_same_key(*other, key))
    }

    /// True if a condition depends on a collection or on chance.
    fn depends_on(&self, guard: ExprId, key: ExprId) -> bool {
        let script = self.script();
        let is_of_key = |call: ExprId| self.key(call).is_some_and(|other| self.is_same_key(other, key));
        let is_random = |id: ExprId| matches!(script.expr(id), Expr::Call { callee, .. } if self.analysis.calls.is_global(*callee, "math.random"));
        self.analysis.values.reply_of(guard, true, is_of_key).is_some() || self.has_part(guard, is_random)
    }

    /// Command that trims a collection to a number of elements, with the conditions around it.
    fn trim(&self, call: ExprId, key: ExprId) -> Trim {
        let script = self.script();
        let args = self.analysis.calls.redis(call).map(|call| &call.args[..]).unwrap_or_default();
        let limits = args.iter().skip(1).flat_map(|arg| Sum::of(script, *arg).terms);
        let limits: Vec<ExprId> = limits.map(|(_, value)| value).collect();
        let is_limit = |id: ExprId| limits.iter().any(|limit| script.is_same(*limit, value(script, id)));
        let mut options: Vec<ExprId> = self.guards(call).to_vec();
        options.retain(|guard| !self.is_met(*guard, key));
        let is_certain = options.is_empty();
        options.retain(|guard| !self.has_part(*guard, is_limit));
        Trim { call, key, is_certain, options }
    }

    /// True if a part of a condition is accepted. Variables with one value are replaced with it.
    fn has_part(&self, condition: ExprId, accepts: impl Fn(ExprId) -> bool) -> bool {
        let script = self.script();
        let mut found = false;
        self.analysis.values.follow(condition, |id, next| {
            found |= accepts(id);
            match script.expr(id) {
                Expr::Binary(_, left, right) => next.extend([*left, *right]),
                Expr::Unary(_, operand) => next.push(*operand),
                Expr::Call { args, .. } => next.extend(args),
                Expr::Variable(_) => next.push(value(script, id)),
                _ => {}
            }
            !found
        });
        found
    }

    /// Commands that trim a collection to a number of elements: `LTRIM key 0 99`, `ZREMRANGEBYRANK key 0 -101`, `XTRIM key MAXLEN 100`,
    /// `SPOP key SCARD - 100`, `ZREM` of what `ZRANGE key 0 -101` reads.
    fn trimmed(&self) -> Vec<Trim> {
        let script = self.script();
        let number = |id: ExprId| Sum::of(script, id).number();
        // `-limit`, `-(limit + 1)`
        let is_negative = |id: ExprId| {
            let sum = Sum::of(script, id);
            if sum.terms.is_empty() {
                return sum.constant < -1.0;
            }
            sum.terms.iter().all(|(factor, value)| *factor < 0.0 && self.is_limit(*value))
        };
        // `limit`, `limit - 1`
        let is_limit = |id: ExprId| {
            let sum = Sum::of(script, id);
            if sum.terms.is_empty() {
                return sum.constant >= 0.0;
            }
            sum.terms.iter().all(|(factor, value)| *factor > 0.0 && self.is_limit(*value))
        };
        let is = |id: ExprId, wanted: f64| number(id) == Some(wanted);
        // Ranks of the elements above the limit.
        let is_beyond = |key: ExprId, from: ExprId, to: ExprId| {
            is(from, 0.0) && (is_negative(to) || self.is_excess(to, key))
                || is_limit(from) && !is(from, 0.0) && is(to, -1.0)
        };
        let is_read_beyond = |element: ExprId, key: ExprId| {
            let is_read = |read: ExprId| match self.analysis.calls.redis(read).map(|call| &call.args[..]) {
                Some([other, from, to]) => {
                    matches!(self.analysis.calls.command(read), "ZRANGE" | "ZREVRANGE")
                        && self.is_same_key(*other, key)
                        && is_beyond(key, *from, *to)
                }
                _ => false,
            };
            self.analysis.values.reply_of(element, false, is_read).is_some()
        };
        let trims = self.calls.iter().filter_map(|(id, call)| {
            let command = call.command.as_deref()?;
            if matches!(command, "XADD" | "XTRIM") {
                let is_option = |arg: &ExprId| {
                    self.analysis.calls.constant(*arg).is_some_and(|text| text.eq_ignore_ascii_case("MAXLEN"))
                };
                return call.args.iter().any(is_option).then_some((*id, *call.args.first()?));
            }
            let keeps = match (command, &call.args[..]) {
                ("LTRIM", [key, from, to]) => {
                    is(*from, 0.0) && is_limit(*to)
                        || is(*to, -1.0) && (is_negative(*from) || self.is_excess(*from, *key))
                }
                ("ZREMRANGEBYRANK", [key, from, to]) => is_beyond(*key, *from, *to),
                ("ZREM", [key, element]) => is_read_beyond(*element, *key),
                (_, [key, count]) => commands::contains(POPS, command) && self.is_excess(*count, *key),
                _ => false,
            };
            keeps.then_some((*id, *call.args.first()?))
        });
        trims.take(MAX_CALLS).map(|(call, key)| self.trim(call, key)).collect()
    }

    /// True for the number of elements above a limit: `SCARD - limit`.
    fn is_excess(&self, number: ExprId, key: ExprId) -> bool {
        let sum = Sum::of(self.script(), number);
        let (sizes, limits): (Vec<_>, Vec<_>) = sum.terms.iter().partition(|(factor, _)| *factor > 0.0);
        let [(_, size)] = sizes.as_slice() else { return false };
        let is_size_of_key = |call: ExprId| {
            self.is_size(call) && self.key(call).is_some_and(|other| self.is_same_key(other, key))
        };
        (!limits.is_empty() || sum.constant <= -MIN_LIMIT)
            && limits.iter().all(|(_, value)| self.is_limit(*value))
            && self.analysis.values.reply_of(*size, false, is_size_of_key).is_some()
    }
}

/// True if the command of a call is in `commands`.
fn is_one_of(commands: &str, call: &RedisCall) -> bool {
    call.command.as_deref().is_some_and(|command| commands::contains(commands, command))
}

/// True if two keys are the same expression, after variables with one value are replaced with it.
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

/// Value of a variable that has only one; otherwise the expression itself.
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
            "local all = redis.call('SMEMBERS', KEYS[1]) local n = #all if n >= tonumber(ARGV[1]) then return 0 end
             for _, m in ipairs(all) do if m == ARGV[2] then return 0 end end redis.call('SADD', KEYS[1], ARGV[2])",
            // Bindings, read by a function.
            "local function all() for _, b in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', b) end end
             if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[1]) then return all() end redis.call('SADD', KEYS[1], ARGV[2]) return all()",
            // The latest elements, where one makes room for the next.
            "local n = redis.call('LLEN', KEYS[1]) if n >= tonumber(ARGV[1]) then redis.call('LPOP', KEYS[1]) end redis.call('RPUSH', KEYS[1], ARGV[2]) return redis.call('LRANGE', KEYS[1], 0, -1)",
            "local function all(id) for _, b in ipairs(redis.call('SMEMBERS', 'a:' .. id)) do redis.call('DEL', b) end end
             local id = KEYS[1] local key = 'a:' .. id all(id) if redis.call('SCARD', key) >= 9 then return 0 end redis.call('SADD', key, ARGV[2])",
            // A leaky bucket.
            "local limit = tonumber(ARGV[1]) while redis.call('LLEN', KEYS[1]) > 0 do
             if redis.call('LINDEX', KEYS[1], -1) > ARGV[2] then break end redis.call('RPOP', KEYS[1]) end
             if redis.call('LLEN', KEYS[1]) < limit then redis.call('LPUSH', KEYS[1], ARGV[2]) return 1 end return 0",
            // A log of the latest elements.
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
    fn other_comparisons_are_not_a_limit() {
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
                "redis.call('LTRIM', KEYS[1], 0, redis.call('LLEN', KEYS[2])) return redis.call('LRANGE', KEYS[1], 0, -1)",
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
            (
                "local all = redis.call('LRANGE', KEYS[1], 0, -1) local n, last = #all, -1 for i, m in ipairs(all) do redis.call('SET', last - n + i, m) end",
                "loop-over-collection",
            ),
            (
                "local all = redis.call('SMEMBERS', KEYS[1]) local n = #all if n < 1000 then return 0 end for _, m in ipairs(all) do redis.call('DEL', m) end redis.call('SADD', KEYS[1], 1)",
                "loop-over-collection",
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

    #[test]
    fn a_collection_is_empty_after_a_check_that_returns_if_it_is_not() {
        assert_clean(&[
            "local n = redis.call('LLEN', KEYS[1]) if n > 0 then return n end for _, m in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do redis.call('DEL', m) end",
        ]);
        for script in [
            "local all = redis.call('SMEMBERS', KEYS[1]) if redis.call('SCARD', KEYS[1]) > 0 then return all end",
            "if redis.call('SCARD', KEYS[1]) > 0 then return 0 end redis.call('SUNIONSTORE', KEYS[1], KEYS[2], KEYS[3]) return redis.call('SMEMBERS', KEYS[1])",
            "if redis.call('ZCOUNT', KEYS[1], 1, 2) > 0 then return 0 end return redis.call('ZRANGE', KEYS[1], 0, -1)",
            "local is_known = redis.call('EXISTS', KEYS[1]) == 1 if not is_known then return 0 end return redis.call('SMEMBERS', KEYS[1])",
            "if ARGV[1] == '1' then if redis.call('SCARD', KEYS[1]) > 0 then return 0 end end return redis.call('SMEMBERS', KEYS[1])",
            "if redis.call('SCARD', KEYS[1]) > 0 and ARGV[1] == '1' then return 0 end return redis.call('SMEMBERS', KEYS[1])",
            "for i = 1, #KEYS do if redis.call('SCARD', KEYS[1]) > 0 then return 0 end end return redis.call('SMEMBERS', KEYS[1])",
        ] {
            assert_eq!(severe(script), ["whole-collection-read"], "{script}");
        }
    }
}
