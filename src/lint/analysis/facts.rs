//! Facts about a script, for the rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::lint::analysis::calls::Calls;
use crate::lint::analysis::capacity::{self, Capacities};
use crate::lint::analysis::commands::{self, Extent};
use crate::lint::analysis::costs::huge_loops;
use crate::lint::analysis::limits::Limits;
use crate::lint::analysis::loops::{LongLoop, LoopAnalysis};
use crate::lint::analysis::numbers::Sum;
use crate::lint::analysis::recursion::{Recursions, recursions};
use crate::lint::analysis::summaries::Summaries;
use crate::lint::analysis::values::Values;
use crate::lint::source::arena::Arena;
use crate::lint::source::syntax::{
    Binary, Comparison, Expr, ExprId, Loop, LoopId, Script, Statement, Unary, Value, VarId,
};
use crate::lua::Position;

/// Number of repetitions of a command up to which it is not reported.
const FEW: f64 = 10.0;

/// Number of elements that Lua's stack holds.
const STACK: f64 = 8000.0;

/// Position in a collection up to which the time to reach it does not matter.
const MAX_NEAR: f64 = 100.0;

/// Loop, or recursion, which is identified by one of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repetition {
    Loop(LoopId),
    Recursion(ExprId),
}

/// Script and all facts derived from it.
#[derive(Debug)]
pub(crate) struct ScriptFacts<'a> {
    pub(crate) script: &'a Script,
    pub(crate) calls: Rc<Calls<'a>>,
    pub(crate) values: Values<'a>,
    pub(crate) summaries: Summaries<'a>,
    loops: Arena<LoopId, Option<LongLoop>>,
    pub(crate) recursions: Recursions,
    /// Loops with a constant number of iterations that take seconds, each with the number of empty iterations that take as long.
    pub(crate) huge: Vec<(LoopId, f64)>,
    /// Numbers of iterations of loops that run a constant number of times.
    iterations: Arena<LoopId, Option<f64>>,
    /// Constant upper bounds of the numbers of iterations of `for` loops.
    most: Arena<LoopId, Option<f64>>,
    /// Commands whose reply a loop iterates over, and the first such loop.
    iterated: BTreeMap<ExprId, LoopId>,
    /// True if the file that contains a literal mentions LTRIM.
    pub(crate) trims_lists: bool,
    /// Limits that neighbouring scripts set.
    limits: Limits,
    /// Keys of the collections that this script limits.
    limited: Vec<ExprId>,
}

impl<'a> ScriptFacts<'a> {
    pub(crate) fn new(script: &'a Script, trims_lists: bool, limits: Limits) -> Self {
        let calls = Rc::new(Calls::new(script));
        let mut values = Values::new(&calls);
        let summaries = Summaries::new(Rc::clone(&calls));
        let capacities =
            Capacities::new(LoopAnalysis { calls: &calls, values: &values, summaries: &summaries });
        let limited = capacities.limited.clone();
        values.limit(capacities);
        let analysis = LoopAnalysis { calls: &calls, values: &values, summaries: &summaries };
        let loops = script.loops.map(|(_, around)| analysis.analyse(around));
        let recursions = recursions(analysis);
        let iterations = script.loops.map(|(id, around)| {
            let is_endless = matches!(loops.get(id), Some(Some(LongLoop::Endless(_))));
            analysis.iterations(around).filter(|_| !is_endless)
        });
        let most = script.loops.map(|(_, around)| analysis.at_most(around));
        let huge = huge_loops(&calls, &iterations);
        let mut iterated = BTreeMap::new();
        for (id, long) in loops.iter() {
            if let Some(LongLoop::Collection(reads)) = long {
                for read in reads {
                    iterated.entry(*read).or_insert(id);
                }
            }
        }
        Self {
            script,
            calls,
            values,
            summaries,
            loops,
            recursions,
            huge,
            iterations,
            most,
            iterated,
            trims_lists,
            limits,
            limited,
        }
    }

    /// Reason why a loop may take a long time; `None` if it is bounded, or only processes the fields of a hash, which may be a record.
    pub(crate) fn long(&self, id: LoopId) -> Option<&LongLoop> {
        self.loops.get(id)?.as_ref().filter(|long| !matches!(long, LongLoop::Fields(_)))
    }

    /// Loops that may take a long time, in source order.
    pub(crate) fn long_loops(&self) -> impl Iterator<Item = (&Loop, &LongLoop)> {
        self.script.loops.iter().filter_map(|(id, around)| Some((around, self.long(id)?)))
    }

    /// True if a loop writes, which makes it unkillable.
    pub(crate) fn writes(&self, around: &Loop) -> bool {
        around.calls.iter().any(|call| self.summaries.call(*call).write.is_some())
    }

    /// Commands that read without a limit, in source order, each with the loop over its reply. KEYS is left out because it reads keys,
    /// not a collection.
    pub(crate) fn unlimited_reads(&self) -> impl Iterator<Item = UnlimitedRead<'_>> {
        self.calls.all_redis().into_iter().filter_map(|(id, call)| {
            let command = call.command.as_deref().filter(|command| *command != "KEYS")?;
            let iterated_by = self.iterated.get(&id).and_then(|id| self.script.loops.get(*id));
            Some(UnlimitedRead { id, command, extent: self.values.extent(id)?, iterated_by })
        })
    }

    /// Commands whose duration grows with their collection and that a loop or a recursion repeats, in source order, each with the
    /// repetition. Commands that a loop calls with each key in KEYS or ARGV are left out, and so are commands that read a whole
    /// collection.
    pub(crate) fn linear_in_loops(&self) -> impl Iterator<Item = (ExprId, &str, Repetition)> {
        let repeated = self.repeated();
        self.calls.all_redis().into_iter().filter_map(move |(id, call)| {
            let command = call.command.as_deref()?;
            let repetition = *repeated.get(&id)?;
            let is_linear = commands::is_linear(command, call.args.len())
                && !self.is_short_search(command, &call.args)
                || self.is_far(command, &call.args, repetition);
            (is_linear
                && self.values.extent(id).is_none()
                && !self.values.is_capped(id)
                && !self.is_key_of_loop(&call.args)
                && !self.is_at_the_end(id, command, &call.args))
            .then_some((id, command, repetition))
        })
    }

    /// True for LPOS with MAXLEN, and for LREM of an element that the script has read from the end of the list where LREM begins.
    fn is_short_search(&self, command: &str, args: &[ExprId]) -> bool {
        let is_option =
            |arg: &ExprId| self.calls.constant(*arg).is_some_and(|text| text.eq_ignore_ascii_case("MAXLEN"));
        let ("LREM", [key, count, element]) = (command, args) else {
            return command == "LPOS" && args.iter().any(is_option);
        };
        let Some(count) = Sum::of(self.script, *count).number().filter(|count| *count != 0.0) else {
            return false;
        };
        let begins_there = |read: ExprId| {
            let Some(call) = self.calls.redis(read).filter(|_| self.values.extent(read).is_none()) else {
                return false;
            };
            let [other, first, ..] = call.args[..] else { return false };
            let first = Sum::of(self.script, first).number();
            matches!(call.command.as_deref(), Some("LINDEX" | "LRANGE"))
                && self.script.is_same(other, *key)
                && first.is_some_and(|first| if count > 0.0 { first == 0.0 } else { first < 0.0 })
        };
        let mut reads = Vec::new();
        self.values.follow(*element, |id, next| {
            match self.script.expr(id) {
                _ if self.calls.redis(id).is_some() => reads.push(id),
                Expr::Variable(variable) => next.extend(self.script.sources(*variable)),
                Expr::Index { base, .. } => next.push(*base),
                Expr::Call { callee, args }
                    if ["ipairs", "pairs"].iter().any(|name| self.calls.is_global(*callee, name)) =>
                {
                    next.extend(args);
                }
                _ => reads.push(id),
            }
            true
        });
        !reads.is_empty() && reads.into_iter().all(begins_there)
    }

    /// True for LREM of an element that the script has just pushed or moved to the end of the list where LREM begins.
    fn is_at_the_end(&self, lrem: ExprId, command: &str, args: &[ExprId]) -> bool {
        let ("LREM", [key, count, element]) = (command, args) else { return false };
        let push = match Sum::of(self.script, *count).number() {
            Some(count) if count > 0.0 => "LPUSH",
            Some(count) if count < 0.0 => "RPUSH",
            _ => return false,
        };
        let is_moved = |call: ExprId| match self.script.variable(*element) {
            Some(element) => self.script.values(element) == [Value::Of(call)],
            None => false,
        };
        let is_left =
            |side: ExprId| self.calls.constant(side).is_some_and(|side| side.eq_ignore_ascii_case("LEFT"));
        self.calls.all_redis().iter().any(|(id, call)| {
            let is_push = match (call.command.as_deref(), &call.args[..]) {
                (Some("RPOPLPUSH"), [_, other]) => {
                    push == "LPUSH" && self.script.is_same(*other, *key) && is_moved(*id)
                }
                (Some("LMOVE"), [_, other, _, side]) => {
                    is_left(*side) == (push == "LPUSH") && self.script.is_same(*other, *key) && is_moved(*id)
                }
                (Some(command), [other, pushed]) => {
                    command == push
                        && self.script.is_same(*other, *key)
                        && self.script.is_same(*pushed, *element)
                }
                _ => false,
            };
            is_push
                && self
                    .script
                    .functions
                    .iter()
                    .any(|(_, body)| self.comes_after(&body.body, *id, lrem) == Some(true))
        })
    }

    /// True if `call` comes after `first` on every path through the statements; `None` if they do not contain `call`.
    fn comes_after(&self, statements: &[Statement], first: ExprId, call: ExprId) -> Option<bool> {
        let mut is_first = false;
        for statement in statements {
            let found = match statement {
                Statement::Call(id) if *id == call => Some(false),
                Statement::Call(id) => {
                    is_first |= *id == first;
                    None
                }
                Statement::Loop(id) => {
                    let around = self.script.loops.get(*id);
                    around.and_then(|around| self.comes_after(&around.body, first, call))
                }
                Statement::Branches(branches) => {
                    branches.iter().find_map(|branch| self.comes_after(branch, first, call))
                }
                Statement::Return => None,
            };
            if let Some(found) = found {
                return Some(found || is_first);
            }
        }
        None
    }

    /// Position of a repetition.
    pub(crate) fn position_of(&self, repetition: Repetition) -> Position {
        match repetition {
            Repetition::Loop(id) => {
                self.script.loops.get(id).map(|around| around.position).unwrap_or_default()
            }
            Repetition::Recursion(call) => self.script.position(call),
        }
    }

    /// True if a command traverses its collection up to a position that differs between repetitions.
    fn is_far(&self, command: &str, args: &[ExprId], repetition: Repetition) -> bool {
        let is_limit =
            |arg: &ExprId| self.calls.constant(*arg).is_some_and(|text| text.eq_ignore_ascii_case("LIMIT"));
        let limit = args.iter().position(is_limit);
        let Some(position) = commands::position(command, limit).and_then(|index| args.get(index).copied())
        else {
            return false;
        };
        if self.calls.constant(position).is_some()
            || self.is_near(position, repetition)
            || self.is_near_the_end(position, args)
        {
            return false;
        }
        // Reading a page of many elements takes longer than reaching it.
        let is_page = match command {
            "LINDEX" | "LSET" | "LTRIM" => false,
            "LRANGE" => args.get(2).is_none_or(|last| {
                let span =
                    Sum::of(self.script, *last).plus(self.script, -1.0, &Sum::of(self.script, position));
                span.number().is_none_or(|span| span.abs() >= FEW)
            }),
            _ => limit
                .and_then(|limit| args.get(limit + 2))
                .is_none_or(|count| Sum::of(self.script, *count).number().is_none_or(|count| count >= FEW)),
        };
        // The ends of a list are found immediately; any other position is far.
        !is_page && (matches!(command, "LINDEX" | "LSET") || self.moves(position, repetition))
    }

    /// True if this script or a neighbouring one limits the collection of a command.
    pub(crate) fn is_limited(&self, call: ExprId) -> bool {
        let Some(key) = self.calls.key(call) else { return false };
        self.limits.has(self.script, key)
            || self.limited.iter().any(|other| capacity::is_same_key(self.script, *other, key))
    }

    /// True if a neighbouring script trims the list of a command.
    pub(crate) fn is_trimmed(&self, call: ExprId) -> bool {
        self.calls.key(call).is_some_and(|key| self.limits.trims(self.script, key))
    }

    /// True if a position is close to the length of the list: `LLEN - 1`.
    fn is_near_the_end(&self, position: ExprId, args: &[ExprId]) -> bool {
        let is_length = |id: ExprId| {
            self.calls.redis(id).is_some_and(|call| {
                call.command.as_deref() == Some("LLEN")
                    && matches!((&call.args[..], args), ([one], [other, ..]) if self.script.is_same(*one, *other))
            })
        };
        let holds_length = |value: Value| match (value, &Sum::of(self.script, value.source()).terms[..]) {
            (Value::Of(_), [(factor, call)]) => (*factor - 1.0).abs() < f64::EPSILON && is_length(*call),
            _ => false,
        };
        let sum = Sum::of(self.script, position);
        let [(factor, value)] = sum.terms[..] else { return false };
        let is_whole = (factor - 1.0).abs() < f64::EPSILON && sum.constant.abs() <= MAX_NEAR;
        let values =
            self.script.variable(value).map(|variable| self.script.values(variable)).unwrap_or_default();
        is_whole
            && (is_length(value) || !values.is_empty() && values.iter().all(|value| holds_length(*value)))
    }

    /// Constant upper bound of the number of iterations of a loop.
    fn most_iterations(&self, id: LoopId) -> Option<f64> {
        self.most.get(id).copied().flatten().or_else(|| self.iterations.get(id).copied().flatten())
    }

    /// True if a position depends only on the counter of a loop with few iterations.
    fn is_near(&self, position: ExprId, repetition: Repetition) -> bool {
        let Repetition::Loop(id) = repetition else { return false };
        let variable = self.script.loops.get(id).map(|around| around.first_variable);
        self.most_iterations(id).is_some_and(|iterations| iterations <= MAX_NEAR)
            && Sum::of(self.script, position).terms.iter().all(|(_, value)| match self.script.expr(*value) {
                Expr::Variable(counter) => Some(*counter) == variable,
                _ => false,
            })
    }

    /// True if a number depends on the variable of a loop, on a variable that the loop assigns, or on a parameter of a recursion.
    fn moves(&self, number: ExprId, repetition: Repetition) -> bool {
        let is_moved = |variable: VarId| match repetition {
            Repetition::Loop(id) => self.script.loops.get(id).is_some_and(|around| {
                variable == around.first_variable && !around.kind.is_conditional()
                    || variable < around.first_variable
                        && around.assigned.iter().any(|(assigned, _)| *assigned == variable)
            }),
            Repetition::Recursion(call) => {
                let mut recursions = self.recursions.repeating.iter();
                recursions.any(|recursion| recursion.call == call && recursion.parameters.contains(&variable))
            }
        };
        let mut moves = false;
        self.values.follow(number, |id, next| {
            match self.script.expr(id) {
                Expr::Variable(variable) => {
                    moves |= is_moved(*variable);
                    next.extend(self.script.assigned(*variable));
                }
                Expr::Binary(_, left, right) => next.extend([*left, *right]),
                Expr::Unary(_, operand) => next.push(*operand),
                Expr::Call { args, .. } if self.calls.redis(id).is_none() => next.extend(args),
                _ => {}
            }
            !moves
        });
        moves
    }

    /// Calls that a loop or a recursion repeats more than [`FEW`] times, including calls in functions that the loop calls.
    fn repeated(&self) -> HashMap<ExprId, Repetition> {
        let mut repeated = HashMap::new();
        let mut next = Vec::new();
        // `return f()` leaves the loop.
        let functions = self.script.functions.iter();
        let returned: HashSet<ExprId> =
            functions.flat_map(|(_, function)| function.returns.iter().copied()).collect();
        for (id, around) in self.script.loops.iter() {
            if self.most_iterations(id).is_none_or(|most| most > FEW) {
                for call in around.calls.iter().filter(|call| !returned.contains(*call)) {
                    repeated.insert(*call, Repetition::Loop(id));
                    next.extend(self.calls.runs(*call).into_iter().map(|function| (function, id)));
                }
            }
        }
        let mut visited = HashSet::new();
        while let Some((function, id)) = next.pop() {
            if let Some(function) = self.script.functions.get(function).filter(|_| visited.insert(function)) {
                for call in &function.calls {
                    repeated.entry(*call).or_insert(Repetition::Loop(id));
                    next.extend(self.calls.runs(*call).into_iter().map(|function| (function, id)));
                }
            }
        }
        for recursion in &self.recursions.repeating {
            for call in &recursion.calls {
                repeated.entry(*call).or_insert(Repetition::Recursion(recursion.call));
            }
        }
        repeated
    }

    /// True if the key of a command contains an element of KEYS or ARGV that a loop iterates over, so that each iteration uses a
    /// different key.
    fn is_key_of_loop(&self, args: &[ExprId]) -> bool {
        let Some(key) = args.first() else { return false };
        let is_given = |id: ExprId| {
            let aliases = self.script.aliased(id);
            aliases.into_iter().any(|id| ["KEYS", "ARGV"].iter().any(|name| self.calls.is_global(id, name)))
        };
        let mut is_element = false;
        self.values.follow(*key, |id, next| {
            match self.script.expr(id) {
                Expr::Index { base, key } => {
                    is_element |= is_given(*base) && self.calls.constant(*key).is_none();
                }
                Expr::Binary(Binary::Concat, left, right) => next.extend([*left, *right]),
                Expr::Variable(variable) => match self.script.values(*variable) {
                    [Value::PartOf(iterator)] => {
                        if let Expr::Call { args, .. } = self.script.expr(*iterator) {
                            is_element |= args.iter().any(|arg| is_given(*arg));
                        }
                    }
                    [Value::Of(value)] => next.push(*value),
                    _ => {}
                },
                _ => {}
            }
            !is_element
        });
        is_element
    }

    /// Commands whose replies are copied to a list: loops over the replies add elements to the list, and never replace it with a new
    /// one.
    pub(crate) fn copied_to(&self, list: ExprId) -> Vec<ExprId> {
        let Expr::Variable(list) = self.script.expr(list) else { return Vec::new() };
        let begins_anew = |around: &Loop| {
            around.assigned.iter().any(|(variable, value)| {
                variable == list && matches!(self.script.expr(value.source()), Expr::Table(_))
            })
        };
        let growing =
            self.script.loops.iter().filter(|(_, around)| around.grows(*list) && !begins_anew(around));
        let reads = growing.filter_map(|(id, _)| match self.loops.get(id)? {
            Some(LongLoop::Collection(reads) | LongLoop::Fields(reads)) => reads.first().copied(),
            _ => None,
        });
        reads.collect()
    }

    /// True if a call runs only if a list has fewer elements than Lua's stack holds. If the list is a parameter, this must be true of
    /// the arguments.
    pub(crate) fn is_short_list(&self, call: ExprId, list: ExprId) -> bool {
        let is_guarded = |call: ExprId, list: ExprId| {
            self.script.guards.get(&call).is_some_and(|guard| self.limits_length(*guard, list))
        };
        if is_guarded(call, list) {
            return true;
        }
        let Expr::Variable(parameter) = self.script.expr(list) else { return false };
        let function = self.script.functions.iter().find_map(|(id, function)| {
            Some((id, function.parameters.iter().position(|other| other == parameter)?))
        });
        let Some((function, index)) = function else { return false };
        self.script.exprs.iter().all(|(id, (expr, _))| {
            let Expr::Call { callee, args } = expr else { return true };
            let Some(arg) = args.get(index).filter(|_| self.script.callees(*callee).any(|id| id == function))
            else {
                return true;
            };
            is_guarded(id, *arg)
                || self.values.collections(*arg).is_empty() && self.copied_to(*arg).is_empty()
        })
    }

    /// True if a condition implies that a list has fewer elements than Lua's stack holds.
    fn limits_length(&self, condition: ExprId, list: ExprId) -> bool {
        let (small, large) = match self.script.expr(condition) {
            Expr::Binary(Binary::And, left, right) => {
                return self.limits_length(*left, list) || self.limits_length(*right, list);
            }
            Expr::Binary(Binary::Compare(Comparison::Less), left, right) => (*left, *right),
            Expr::Binary(Binary::Compare(Comparison::Greater), left, right) => (*right, *left),
            _ => return false,
        };
        let is_length = matches!(
            self.script.expr(small),
            Expr::Unary(Unary::Length, operand) if self.script.is_same(*operand, list)
        );
        let limit = self.calls.constant(large).and_then(|limit| limit.parse::<f64>().ok());
        is_length && limit.is_some_and(|limit| limit < STACK)
    }
}

/// Command that reads without a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnlimitedRead<'a> {
    pub(crate) id: ExprId,
    pub(crate) command: &'a str,
    pub(crate) extent: Extent,
    /// Loop that iterates over the reply, if there is one.
    pub(crate) iterated_by: Option<&'a Loop>,
}
