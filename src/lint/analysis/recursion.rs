//! Functions that call themselves, directly or through others.

use std::collections::{HashMap, HashSet};

use crate::lint::analysis::calls::{is_given, protected};
use crate::lint::analysis::loops::{Endless, LongLoop, LoopAnalysis};
use crate::lint::source::arena::Arena;
use crate::lint::source::syntax::{
    Binary, Comparison, Expr, ExprId, FnId, Function, LoopKind, Script, Statement, Unary, Value, VarId,
};

/// Maximum number of statements that are visited; only hostile scripts have more.
const MAX_VISITS: usize = 2_000_000;

/// Maximum number of variables and index operations between an argument and a parameter.
const MAX_PARTS: usize = 8;

/// Recursion that may take a long time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recursion {
    /// One of the recursive calls.
    pub(crate) call: ExprId,
    /// Reason why it may take a long time.
    pub(crate) long: LongLoop,
}

/// Recursions of a script.
#[derive(Debug, Default)]
pub(crate) struct Recursions {
    /// Those that may take a long time, in source order.
    pub(crate) long: Vec<Recursion>,
    /// Those that may repeat more than once.
    pub(crate) repeating: Vec<Repeating>,
}

/// Recursion that is not endless.
#[derive(Debug)]
pub(crate) struct Repeating {
    /// One of the recursive calls.
    pub(crate) call: ExprId,
    /// All calls in its functions and in the functions that they call.
    pub(crate) calls: HashSet<ExprId>,
    /// Parameters of its functions.
    pub(crate) parameters: Vec<VarId>,
}

/// Finds the recursions of a script.
pub(crate) fn recursions(analysis: LoopAnalysis<'_>) -> Recursions {
    let search = Search::new(analysis);
    let endless = search.endless();
    let mut found = Recursions::default();
    for cycle in search.cycles() {
        let Some(call) = cycle.calls.first().copied() else { continue };
        if cycle.functions.iter().any(|id| endless.get(*id).copied().unwrap_or_default()) {
            found.long.push(Recursion { call, long: LongLoop::Endless(Endless::NoEnd) });
            continue;
        }
        if let Some(reason) = search.never_returns(&cycle) {
            found.long.push(Recursion { call, long: LongLoop::Endless(reason) });
            continue;
        }
        found.long.extend(search.long(&cycle).map(|long| Recursion { call, long }));
        let functions: Vec<&Function> =
            cycle.functions.iter().filter_map(|id| search.script().functions.get(*id)).collect();
        if !search.happens_once(&cycle, &functions) {
            let parameters =
                functions.iter().flat_map(|function| function.parameters.iter().copied()).collect();
            found.repeating.push(Repeating { call, calls: search.reachable(&cycle), parameters });
        }
    }
    found.long.sort_by_key(|recursion| recursion.call);
    found.repeating.sort_by_key(|repeating| repeating.call);
    found
}

/// Functions that call each other.
struct Cycle {
    functions: Vec<FnId>,
    /// Calls between them.
    calls: Vec<ExprId>,
}

/// Calls between the functions of a script.
struct Search<'a> {
    analysis: LoopAnalysis<'a>,
    /// Functions that each function calls, with the calls.
    edges: Arena<FnId, Vec<(ExprId, FnId)>>,
}

impl<'a> Search<'a> {
    fn new(analysis: LoopAnalysis<'a>) -> Self {
        let script = analysis.calls.script;
        let edges = script.functions.map(|(_, function)| {
            let calls = function.calls.iter();
            calls.flat_map(|call| callees(script, *call).into_iter().map(|callee| (*call, callee))).collect()
        });
        Self { analysis, edges }
    }

    fn script(&self) -> &'a Script {
        self.analysis.calls.script
    }

    /// Functions in postorder of a depth-first search.
    fn postorder(&self) -> Vec<FnId> {
        let mut order = Vec::new();
        let mut visited = HashSet::new();
        for start in self.edges.ids() {
            let mut stack = vec![(start, 0)];
            if !visited.insert(start) {
                continue;
            }
            while let Some((function, next)) = stack.pop() {
                match self.edges.get(function).and_then(|edges| edges.get(next)) {
                    Some((_, callee)) => {
                        stack.push((function, next + 1));
                        if visited.insert(*callee) {
                            stack.push((*callee, 0));
                        }
                    }
                    None => order.push(function),
                }
            }
        }
        order
    }

    /// Groups of functions that call each other (Kosaraju's algorithm).
    fn cycles(&self) -> Vec<Cycle> {
        let mut callers: Arena<FnId, Vec<FnId>> = self.edges.map(|_| Vec::new());
        for (caller, edges) in self.edges.iter() {
            for (_, callee) in edges {
                if let Some(callers) = callers.get_mut(*callee) {
                    callers.push(caller);
                }
            }
        }
        let mut group: HashMap<FnId, FnId> = HashMap::new();
        for root in self.postorder().into_iter().rev() {
            let mut next = vec![root];
            while let Some(function) = next.pop() {
                if let std::collections::hash_map::Entry::Vacant(entry) = group.entry(function) {
                    entry.insert(root);
                    next.extend(callers.get(function).into_iter().flatten());
                }
            }
        }
        let mut cycles: HashMap<FnId, Cycle> = HashMap::new();
        for (function, edges) in self.edges.iter() {
            let Some(root) = group.get(&function) else { continue };
            let inner = edges.iter().filter(|(_, callee)| group.get(callee) == Some(root));
            let calls: Vec<ExprId> = inner.map(|(call, _)| *call).collect();
            if !calls.is_empty() {
                let cycle =
                    cycles.entry(*root).or_insert_with(|| Cycle { functions: Vec::new(), calls: Vec::new() });
                cycle.functions.push(function);
                cycle.calls.extend(calls);
            }
        }
        cycles.into_values().collect()
    }

    /// Flags of all functions: true if no path through the function ends.
    fn endless(&self) -> Arena<FnId, bool> {
        let script = self.script();
        let mut endless = script.functions.map(|_| true);
        let mut visits = MAX_VISITS;
        loop {
            let mut changed = false;
            for (id, function) in script.functions.iter() {
                if !endless.get(id).copied().unwrap_or_default() {
                    continue;
                }
                let path = self.path(&function.body, &endless, &mut visits);
                if visits == 0 {
                    return script.functions.map(|_| false);
                }
                if (path.ends || path.returns)
                    && let Some(endless) = endless.get_mut(id)
                {
                    (*endless, changed) = (false, true);
                }
            }
            if !changed {
                return endless;
            }
        }
    }

    fn path(&self, statements: &[Statement], endless: &Arena<FnId, bool>, visits: &mut usize) -> Path {
        let mut returns = false;
        for statement in statements {
            *visits = visits.saturating_sub(1);
            match statement {
                Statement::Return => return Path { ends: false, returns: true },
                Statement::Call(call) => {
                    let certain = if runs_own(self.script(), *call) {
                        callees(self.script(), *call)
                    } else {
                        Vec::new()
                    };
                    let mut callees = certain.into_iter().peekable();
                    if callees.peek().is_some()
                        && callees.all(|callee| endless.get(callee).copied().unwrap_or_default())
                    {
                        return Path { ends: false, returns };
                    }
                }
                Statement::Branches(branches) => {
                    let mut ends = false;
                    for branch in branches {
                        let path = self.path(branch, endless, visits);
                        ends |= path.ends;
                        returns |= path.returns;
                    }
                    if !ends {
                        return Path { ends, returns };
                    }
                }
                Statement::Loop(id) => {
                    let Some(around) = self.script().loops.get(*id) else { continue };
                    let path = self.path(&around.body, endless, visits);
                    returns |= path.returns;
                    let is_entered = match around.kind {
                        LoopKind::Repeat(_) => true,
                        LoopKind::While(condition) => *self.script().expr(condition) == Expr::Bool(true),
                        LoopKind::Numeric { .. } | LoopKind::Generic(_) => false,
                    };
                    if is_entered && !path.ends && around.exits.is_empty() {
                        return Path { ends: false, returns };
                    }
                }
            }
        }
        Path { ends: true, returns }
    }

    /// Reason why the conditions in a recursive function never end the recursion.
    fn never_returns(&self, cycle: &Cycle) -> Option<Endless> {
        let [function] = cycle.functions.as_slice() else { return None };
        self.analysis.never_returns(self.script().functions.get(*function)?, &cycle.calls)
    }

    /// Reason why a recursion with an end may take a long time: the reply of a command in it determines its depth.
    fn long(&self, cycle: &Cycle) -> Option<LongLoop> {
        let script = self.script();
        let functions: Vec<&Function> =
            cycle.functions.iter().filter_map(|id| script.functions.get(*id)).collect();
        let guards = functions.iter().flat_map(|function| function.exits.iter().flatten()).copied();
        let guards: Vec<ExprId> =
            guards.chain(cycle.calls.iter().filter_map(|call| script.guards.get(call)).copied()).collect();
        match self.counted(cycle, &functions, &guards) {
            // Such a recursion only counts in memory, for example up to a number of retries.
            Some(Depth::Reply(reply)) if self.counts_in_memory(cycle, reply) => return None,
            Some(Depth::Reply(reply)) => return Some(LongLoop::Until(reply)),
            Some(Depth::Fixed) => return None,
            None => {}
        }
        if self.happens_once(cycle, &functions)
            || self.consumes_a_list(cycle, &functions)
            || self.descends(cycle, &functions)
        {
            return None;
        }
        let inner = self.reachable(cycle);
        let args = cycle.calls.iter().filter_map(|call| match script.expr(*call) {
            Expr::Call { args, .. } => Some(args.iter().copied()),
            _ => None,
        });
        let scan = cycle.functions.iter().find_map(|id| self.analysis.summaries.function(*id).scan);
        let depends: Vec<ExprId> = args.flatten().chain(guards).collect();
        let reply = |accepts: &dyn Fn(ExprId) -> bool| {
            depends.iter().find_map(|id| self.analysis.values.reply_of(*id, true, accepts))
        };
        let is_inner = |call: ExprId| inner.contains(&call);
        match scan {
            Some(scan) if reply(&|call| call == scan).is_some() => Some(LongLoop::Scan(scan)),
            _ => reply(&is_inner).map(LongLoop::Until),
        }
    }

    /// True if the script compares the length of a list that does not depend on replies, and the function removes an element from the
    /// list and passes it on.
    fn consumes_a_list(&self, cycle: &Cycle, functions: &[&Function]) -> bool {
        let script = self.script();
        let sides = script.exprs.iter().flat_map(|(_, (expr, _))| match expr {
            Expr::Binary(Binary::Compare(_), left, right) => vec![*left, *right],
            _ => Vec::new(),
        });
        let is = |id: ExprId, list: ExprId| script.expr(id) == script.expr(list);
        let removes = |call: &ExprId, list: ExprId| match script.expr(*call) {
            Expr::Call { callee, args } => {
                script.is_global(*callee, "table.remove") && args.first().is_some_and(|arg| is(*arg, list))
            }
            _ => false,
        };
        let passes_on = |call: &ExprId, list: ExprId| match script.expr(*call) {
            Expr::Call { args, .. } => args.iter().any(|arg| is(*arg, list)),
            _ => false,
        };
        let mut lists = sides.filter_map(|side| self.analysis.values.measured(side));
        lists.any(|list| {
            matches!(script.expr(list), Expr::Variable(variable)
                if functions.iter().any(|function| function.parameters.contains(variable)))
                && functions.iter().any(|function| function.calls.iter().any(|call| removes(call, list)))
                && cycle.calls.iter().all(|call| passes_on(call, list))
                && self.analysis.values.reply(list, true).is_none()
        })
    }

    /// True if each recursive call passes on a parameter or a part of one, and at least one passes a part. The depth is then that of a
    /// table in memory.
    fn descends(&self, cycle: &Cycle, functions: &[&Function]) -> bool {
        let passed = |call: &ExprId| match self.script().expr(*call) {
            Expr::Call { args, .. } => args.iter().filter_map(|arg| self.passed(*arg, functions)).max(),
            _ => None,
        };
        let passed: Option<Vec<Passed>> = cycle.calls.iter().map(passed).collect();
        passed.is_some_and(|passed| passed.contains(&Passed::Part))
    }

    /// Relation of an argument to a parameter; `None` if it does not come from one.
    fn passed(&self, arg: ExprId, functions: &[&Function]) -> Option<Passed> {
        let script = self.script();
        let (mut id, mut passed) = (arg, Passed::Whole);
        for _ in 0..MAX_PARTS {
            id = match script.expr(id) {
                Expr::Variable(variable)
                    if functions.iter().any(|function| function.parameters.contains(variable)) =>
                {
                    return Some(passed);
                }
                Expr::Variable(variable) => match script.values(*variable) {
                    [Value::Of(value)] => *value,
                    [Value::PartOf(iterator)] => {
                        passed = Passed::Part;
                        match script.expr(*iterator) {
                            Expr::Call { args, .. } if self.analysis.calls.redis(*iterator).is_none() => {
                                *args.first()?
                            }
                            _ => return None,
                        }
                    }
                    _ => return None,
                },
                Expr::Index { base, .. } => {
                    passed = Passed::Part;
                    *base
                }
                _ => return None,
            };
        }
        None
    }

    /// True if a recursion calls no command, and its depth is the value of a hash field.
    fn counts_in_memory(&self, cycle: &Cycle, reply: ExprId) -> bool {
        let calls = self.analysis.calls;
        matches!(calls.command(reply), "HGET" | "HMGET")
            && !cycle.functions.iter().any(|id| self.analysis.summaries.function(*id).calls)
    }

    /// All calls in the functions of a cycle and in the functions that they call.
    fn reachable(&self, cycle: &Cycle) -> HashSet<ExprId> {
        let mut next = cycle.functions.clone();
        let (mut visited, mut calls) = (HashSet::new(), HashSet::new());
        while let Some(id) = next.pop() {
            let Some(function) = self.script().functions.get(id).filter(|_| visited.insert(id)) else {
                continue;
            };
            calls.extend(function.calls.iter().copied());
            next.extend(self.edges.get(id).into_iter().flatten().map(|(_, callee)| *callee));
        }
        calls
    }

    /// True if each recursive call is made only if a parameter is missing, and passes a value for it: `if not name then … f(name) end`.
    fn happens_once(&self, cycle: &Cycle, functions: &[&Function]) -> bool {
        let script = self.script();
        cycle.calls.iter().all(|call| {
            let Expr::Call { args, .. } = script.expr(*call) else { return false };
            let missing = script
                .guards
                .get(call)
                .copied()
                .or_else(|| self.outer_guard(*call))
                .and_then(|guard| self.missing(guard));
            let index = missing.and_then(|missing| {
                functions.iter().find_map(|function| {
                    function
                        .parameters
                        .iter()
                        .position(|parameter| *script.expr(missing) == Expr::Variable(*parameter))
                })
            });
            index.and_then(|index| args.get(index)).is_some_and(|arg| {
                *script.expr(*arg) != Expr::Nil
                    && missing.is_some_and(|missing| !script.is_same(*arg, missing))
            })
        })
    }

    /// Condition of the innermost `if` around the loop that contains a call.
    fn outer_guard(&self, call: ExprId) -> Option<ExprId> {
        let loops = self.script().loops.iter().filter(|(_, around)| around.calls.contains(&call));
        loops.last().and_then(|(_, around)| around.outer_guard)
    }

    /// Value that is `nil` or `false` if a condition is true.
    fn missing(&self, condition: ExprId) -> Option<ExprId> {
        let script = self.script();
        match script.expr(condition) {
            Expr::Unary(Unary::Not, value) => match script.expr(*value) {
                Expr::Binary(Binary::Compare(Comparison::Unequal), value, nil) => {
                    (*script.expr(*nil) == Expr::Nil).then_some(*value)
                }
                _ => Some(*value),
            },
            Expr::Binary(Binary::Compare(Comparison::Equal), value, nil) => {
                (*script.expr(*nil) == Expr::Nil).then_some(*value)
            }
            _ => None,
        }
    }

    /// Bound of a recursion that counts: each recursive call increments or decrements a parameter that a condition compares with a
    /// number.
    fn counted(&self, cycle: &Cycle, functions: &[&Function], guards: &[ExprId]) -> Option<Depth> {
        let script = self.script();
        let parameters = functions.iter().map(|function| function.parameters.len()).max().unwrap_or_default();
        let mut parts = Vec::new();
        for guard in guards {
            for operator in [Binary::And, Binary::Or] {
                parts.extend(self.analysis.parts(*guard, operator).into_iter().map(|(part, _)| part));
            }
        }
        (0..parameters).find_map(|index| {
            let counters: Vec<_> =
                functions.iter().filter_map(|function| function.parameters.get(index)).copied().collect();
            let is_down = |call: &ExprId| {
                let Expr::Call { args, .. } = script.expr(*call) else { return None };
                let arg = *args.get(index)?;
                counters.iter().find_map(|counter| self.analysis.counts_down(arg, *counter))
            };
            let steps: Option<Vec<bool>> = cycle.calls.iter().map(is_down).collect();
            let counts_down = steps?.contains(&true);
            let is_counter = |id: ExprId| match script.expr(id) {
                Expr::Variable(variable) => counters.contains(variable),
                _ => false,
            };
            let limit = parts.iter().find_map(|part| match script.expr(*part) {
                Expr::Binary(Binary::Compare(_), left, right) if is_counter(*left) => Some(*right),
                Expr::Binary(Binary::Compare(_), left, right) if is_counter(*right) => Some(*left),
                _ => None,
            })?;
            let mut starts = counters.iter().flat_map(|counter| script.assigned(*counter));
            let reply = |id: ExprId| self.analysis.values.reply(id, false);
            let reply = if counts_down { starts.find_map(reply) } else { reply(limit) };
            Some(reply.map_or(Depth::Fixed, Depth::Reply))
        })
    }
}

/// Argument of a recursive call that comes from a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Passed {
    /// The parameter itself.
    Whole,
    /// An element of it, directly or nested.
    Part,
}

/// Bound of a recursion that counts.
#[derive(Debug, Clone, Copy)]
enum Depth {
    /// Independent of the data.
    Fixed,
    /// Dependent on this reply.
    Reply(ExprId),
}

/// Ends of the paths through a list of statements.
#[derive(Debug, Clone, Copy)]
struct Path {
    /// True if a path runs past the last statement.
    ends: bool,
    /// True if a path returns.
    returns: bool,
}

/// Functions that a call certainly runs: the callee, even if it is called through `pcall`.
fn callees(script: &Script, call: ExprId) -> Vec<FnId> {
    let Expr::Call { callee, .. } = script.expr(call) else { return Vec::new() };
    let callee = protected(script, call).map_or(*callee, |(function, _)| function);
    script.callees(callee).collect()
}

/// Maximum number of expressions that a callee is traced through.
const MAX_ALIASES: usize = 32;

/// True if the callee of a call can only be a function of this script. A wrapper that replaces a function of another table calls the
/// old one: `local old = t.f  t.f = function() return old() end`.
fn runs_own(script: &Script, call: ExprId) -> bool {
    let Expr::Call { callee, .. } = script.expr(call) else { return false };
    let mut next = vec![protected(script, call).map_or(*callee, |(function, _)| function)];
    let mut visited = HashSet::new();
    while let Some(id) = next.pop() {
        if !visited.insert(id) {
            continue;
        }
        if visited.len() > MAX_ALIASES {
            return false;
        }
        match script.expr(id) {
            Expr::Function(_) => {}
            Expr::Binary(Binary::And | Binary::Or, left, right) => next.extend([*left, *right]),
            Expr::Variable(variable) => {
                let is_given = script
                    .variables
                    .get(*variable)
                    .is_some_and(|variable| variable.is_global && is_given(&variable.name));
                let values = script.values(*variable);
                if is_given || values.is_empty() || values.iter().any(|value| !matches!(value, Value::Of(_)))
                {
                    return false;
                }
                next.extend(script.assigned(*variable));
            }
            Expr::Index { base, key } => {
                let fields = script.field(*base, *key);
                let is_own =
                    script.aliased(*base).iter().any(|id| matches!(script.expr(*id), Expr::Table(_)));
                if fields.is_empty() || !is_own {
                    return false;
                }
                next.extend(fields);
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, severe};

    #[test]
    fn recursions_are_judged_like_loops() {
        for (script, rule) in [
            ("local function f() return f() end return f()", "endless-loop"),
            ("local function f(n) redis.call('INCR', n) f(n + 1) end f(1)", "endless-loop"),
            (
                "local g local function f() return g() end g = function() return f() end return f()",
                "endless-loop",
            ),
            ("local M = {} function M.f() return M.f() end return M.f()", "endless-loop"),
            (
                "local function f(x) if x then return f(1) else return f(2) end end return f(1)",
                "endless-loop",
            ),
            (
                "local function f(c) local r = redis.call('SCAN', c) if r[1] ~= '0' then return f(r[1]) end end f('0')",
                "scan-loop",
            ),
            (
                "local function f(c) local r = redis.call('SSCAN', KEYS[1], c) if r[1] == '0' then return end f(r[1]) end f(0)",
                "collection-scan-loop",
            ),
            (
                "local function f(k) local n = redis.call('GET', k) if n then return f(n) end return k end return f(KEYS[1])",
                "unbounded-loop",
            ),
            (
                "local function f() local x = redis.call('LPOP', KEYS[1]) if not x then return 0 end return f() end return f()",
                "unbounded-loop",
            ),
            (
                "local function f() return redis.call('LPOP', KEYS[1]) and f() end return f()",
                "unbounded-loop",
            ),
            (
                "local function f(n) if n == 0 then return 0 end redis.call('LPOP', KEYS[1]) return f(n - 1) end return f(redis.call('LLEN', KEYS[1]))",
                "unbounded-loop",
            ),
            (
                "local n = redis.call('LLEN', KEYS[1]) local function f(i) if i < n then redis.call('LPOP', KEYS[1]) return f(i + 1) end end return f(0)",
                "unbounded-loop",
            ),
            (
                "local g local function f(k) return g(redis.call('GET', k)) end g = function(k) if k then return f(k) end end f(KEYS[1])",
                "unbounded-loop",
            ),
        ] {
            assert_eq!(severe(script), [rule], "{script}");
        }
    }

    #[test]
    fn a_wrapper_that_calls_the_original_function_is_not_recursive() {
        for (script, rules) in [
            ("local old = error error = function(x) return old(x) end return 1", &["global-write"][..]),
            (
                "local t = cjson local old = t.encode t.encode = function(x) return old(x) end return t.encode(1)",
                &[],
            ),
            (
                "local t = {f = cjson.encode} local old = t.f t.f = function(x) return old(x) end return t.f(1)",
                &[],
            ),
            ("local t = {} t.f = function(x) return t.f(x) end return t.f(1)", &["endless-loop"]),
        ] {
            assert_eq!(severe(script), rules, "{script}");
        }
    }

    #[test]
    fn bounded_recursions_are_not_reported() {
        assert_clean(&[
            "local function f(n) if n == 0 then return 1 end return n * f(n - 1) end return f(10)",
            "local function f(n) if n > 0 then redis.call('INCR', KEYS[1]) f(n - 1) end end f(10)",
            "local function f(k, depth) if depth > 10 then return k end local n = redis.call('GET', k) return n and f(n, depth + 1) end return f(KEYS[1], 0)",
            "local function f(t) for _, v in pairs(t) do if type(v) == 'table' then f(v) else redis.call('SADD', KEYS[1], v) end end end f(cjson.decode(ARGV[1]))",
            "local function f(t) for _, v in pairs(t) do if type(v) == 'table' then f(v) end end end f(cjson.decode(redis.call('GET', KEYS[1])))",
            "local function f() error('x') return f() end return 1",
            "local function fib(n, a, b) if n == 0 then return a end return fib(n - 1, b, a + b) end return fib(tonumber(redis.call('HGET', KEYS[1], 'retries')), 0, 1)",
            "local function f(q) if q then return redis.call('LLEN', q) else for _, n in ipairs(redis.call('ZRANGE', 'a', 0, 9)) do f(n) end end end f(ARGV[1])",
            "local function f(q) if not q then for _, n in ipairs(redis.call('ZRANGE', 'a', 0, 9)) do f(n) end end end f()",
            "local function f(q) if q == nil then return f(redis.call('GET', 'a')) end return q end return f()",
        ]);
    }
}
