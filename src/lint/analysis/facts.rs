//! What a script does: the commands that it calls, where values come from, and which loops are long.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use crate::lint::analysis::commands::{self, Argument, Effect, Extent, contains};
use crate::lint::source::syntax::{
    Binary, Expr, ExprId, FnId, Loop, LoopId, LoopKind, Script, Unary, Value, VarId,
};

/// Steps that a value is followed back at most: hostile scripts have more.
const FARTHEST: usize = 300;

/// Steps in all. Beyond them nothing more is found: a script of 1 MiB that was made to take long takes seconds.
const MAX_STEPS: usize = 5_000_000;

/// Constants behind constants.
const MAX_CONSTANT_DEPTH: usize = 8;

/// Global functions of Lua and of the server.
const KNOWN_GLOBALS: &str = "\
    assert collectgarbage error getmetatable ipairs loadstring next pairs pcall rawequal rawget rawset select \
    setmetatable tonumber tostring type unpack xpcall";

/// A command that the script calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedisCall {
    /// In capitals; `None` if it is not constant.
    pub(crate) command: Option<String>,
    /// What follows the command.
    pub(crate) args: Vec<ExprId>,
}

/// What a function does, with all that it calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// It calls some command.
    pub(crate) calls: bool,
    /// A command that writes.
    pub(crate) write: Option<ExprId>,
    /// A command that is refused without writing anything.
    pub(crate) replicates: Option<ExprId>,
    /// A SCAN command.
    pub(crate) scan: Option<ExprId>,
    /// It calls what is not known.
    pub(crate) opaque: bool,
}

impl Summary {
    fn merge(&mut self, other: Self) {
        self.calls |= other.calls;
        self.write = self.write.or(other.write);
        self.replicates = self.replicates.or(other.replicates);
        self.scan = self.scan.or(other.scan);
        self.opaque |= other.opaque;
    }
}

/// Why a loop may take long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Long {
    /// Nothing ends it.
    Endless,
    /// It goes on until a SCAN command has come around.
    Scan(ExprId),
    /// It goes over all of a collection: the commands that read it.
    Collection(Vec<ExprId>),
    /// It runs as often as a reply says.
    Count(ExprId),
    /// It ends when a reply says so.
    Until(ExprId),
    /// It calls commands, and nothing that it counts bounds it.
    Unbounded,
}

/// A script and what is known about it.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) script: &'a Script,
    /// The commands, by the expression that calls them.
    calls: HashMap<ExprId, RedisCall>,
    /// By function.
    summaries: Vec<Summary>,
    /// By loop.
    long: Vec<Option<Long>>,
    /// What is left of [`MAX_STEPS`].
    steps: Cell<usize>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(script: &'a Script) -> Self {
        let mut facts = Self {
            script,
            calls: HashMap::new(),
            summaries: Vec::new(),
            long: Vec::new(),
            steps: Cell::new(MAX_STEPS),
        };
        let made = (0..script.exprs.len()).filter_map(|id| Some((id, facts.read_call(id)?)));
        facts.calls = made.collect();
        facts.summaries = facts.summarise();
        facts.long = script.loops.iter().map(|around| facts.judge(around)).collect();
        facts
    }

    /// The command that this expression calls.
    pub(crate) fn redis_call(&self, id: ExprId) -> Option<&RedisCall> {
        self.calls.get(&id)
    }

    /// All commands, in the order of the source.
    pub(crate) fn redis_calls(&self) -> Vec<(ExprId, &RedisCall)> {
        let mut calls: Vec<_> = self.calls.iter().map(|(id, call)| (*id, call)).collect();
        calls.sort_unstable_by_key(|(id, _)| *id);
        calls
    }

    /// The name of the command that this expression calls.
    pub(crate) fn command(&self, id: ExprId) -> &str {
        self.redis_call(id).and_then(|call| call.command.as_deref()).unwrap_or("a command")
    }

    /// What a function does, with all that it calls.
    pub(crate) fn summary(&self, function: FnId) -> Summary {
        self.summaries.get(function).copied().unwrap_or_default()
    }

    /// Why a loop may take long; `None` if it does not.
    pub(crate) fn long(&self, id: LoopId) -> Option<&Long> {
        self.long.get(id).and_then(Option::as_ref)
    }

    /// What the command does to the data.
    pub(crate) fn effect(&self, id: ExprId) -> Option<Effect> {
        let call = self.redis_call(id)?;
        Some(call.command.as_deref().map_or(Effect::Unknown, commands::effect))
    }

    /// How much a command reads, if that has no bound.
    pub(crate) fn extent(&self, id: ExprId) -> Option<Extent> {
        let call = self.redis_call(id)?;
        let argument = |id: &ExprId| {
            let (constants, is_open) = self.constants(*id);
            Argument { constants, is_open, from_end: is_open && self.subtracts(*id) }
        };
        let args: Vec<Argument> = call.args.iter().map(argument).collect();
        commands::extent(call.command.as_deref()?, &args)
    }

    /// The constants that an expression may stand for, and whether it may stand for something else.
    fn constants(&self, id: ExprId) -> (Vec<String>, bool) {
        let (mut constants, mut is_open) = (Vec::new(), false);
        self.follow(id, |facts, id, next| {
            match (facts.constant(id), facts.script.expr(id)) {
                (Some(constant), _) => constants.push(constant),
                (None, Expr::Variable(variable)) => {
                    is_open |= facts.script.values(*variable).is_empty();
                    for value in facts.script.values(*variable) {
                        match value {
                            Value::Of(value) => next.push(*value),
                            Value::PartOf(_) => is_open = true,
                        }
                    }
                }
                _ => is_open = true,
            }
            true
        });
        (constants, is_open)
    }

    /// Whether a number may be negative.
    fn subtracts(&self, id: ExprId) -> bool {
        let mut subtracts = false;
        self.follow(id, |facts, id, next| {
            match facts.script.expr(id) {
                // One less than a position is one too.
                Expr::Binary(Binary::Minus, left, right) if facts.constant(*right).is_some() => {
                    next.push(*left);
                }
                Expr::Unary(Unary::Minus, _) | Expr::Binary(Binary::Minus, ..) | Expr::Unknown => {
                    subtracts = true;
                }
                Expr::Binary(_, left, right) => next.extend([*left, *right]),
                Expr::Call { args, .. } => next.extend(args),
                Expr::Text(text) => subtracts |= text.starts_with('-'),
                Expr::Variable(variable) => {
                    next.extend(facts.script.assigned(*variable));
                }
                _ => {}
            }
            !subtracts
        });
        subtracts
    }

    /// The constant that an expression stands for.
    pub(crate) fn constant(&self, id: ExprId) -> Option<String> {
        constant(self.script, id, MAX_CONSTANT_DEPTH)
    }

    /// Whether this is the global function, or member of a global table, of this name.
    pub(crate) fn is_global(&self, id: ExprId, name: &str) -> bool {
        self.script.is_global(id, name)
    }

    /// The functions that a call runs, also those that it hands to others.
    pub(crate) fn runs(&self, call: ExprId) -> Vec<FnId> {
        let Expr::Call { callee, args } = self.script.expr(call) else { return Vec::new() };
        if self.registers(*callee) {
            return Vec::new();
        }
        let called = std::iter::once(callee).chain(args);
        called.flat_map(|id| self.script.callees(*id)).collect()
    }

    /// Whether this is `redis.register_function`.
    pub(crate) fn registers(&self, callee: ExprId) -> bool {
        let names = ["redis.register_function", "server.register_function"];
        self.script.aliased(callee).any(|id| names.iter().any(|name| self.is_global(id, name)))
    }

    /// The command that a call calls.
    fn read_call(&self, id: ExprId) -> Option<RedisCall> {
        let Expr::Call { callee, args } = self.script.expr(id) else { return None };
        let calls_redis = |callee: ExprId| {
            let names = ["redis.call", "redis.pcall", "server.call", "server.pcall"];
            self.script.aliased(callee).any(|id| names.iter().any(|name| self.is_global(id, name)))
        };
        if calls_redis(*callee) {
            return Some(self.with_command(args));
        }
        if self.is_global(*callee, "pcall")
            && let [function, args @ ..] = args.as_slice()
            && calls_redis(*function)
        {
            return Some(self.with_command(args));
        }
        // A part of a script, put together by a build: `rcall` is defined elsewhere.
        let call = self.with_command(args);
        let is_fragment = self.is_undefined(*callee)
            && self.name(*callee).is_some_and(|name| name.to_ascii_lowercase().contains("call"))
            && call.command.as_deref().is_some_and(|name| commands::effect(name) != Effect::Unknown);
        is_fragment.then_some(call)
    }

    /// The name of a variable.
    fn name(&self, id: ExprId) -> Option<&'a str> {
        let Expr::Variable(variable) = self.script.expr(id) else { return None };
        self.script.variables.get(*variable).map(|variable| variable.name.as_str())
    }

    /// Whether this is a global that is neither Lua's nor given anything here.
    fn is_undefined(&self, callee: ExprId) -> bool {
        let Expr::Variable(variable) = self.script.expr(callee) else { return false };
        self.script.variables.get(*variable).is_some_and(|variable| {
            variable.is_global && variable.values.is_empty() && !contains(KNOWN_GLOBALS, &variable.name)
        })
    }

    fn with_command(&self, args: &[ExprId]) -> RedisCall {
        let unpacked = args.first().and_then(|first| self.unpacked(*first)).unwrap_or_default();
        let args: Vec<ExprId> = if unpacked.is_empty() { args.to_vec() } else { unpacked };
        let command = args.first().and_then(|first| self.constant(*first));
        RedisCall {
            command: command.map(|command| command.to_ascii_uppercase()),
            args: args.get(1..).unwrap_or_default().to_vec(),
        }
    }

    /// The elements of the table that `unpack` is called with.
    fn unpacked(&self, id: ExprId) -> Option<Vec<ExprId>> {
        let table = *self.unpack_args(id)?.first()?;
        let table = self.script.aliased(table).find_map(|id| match self.script.expr(id) {
            Expr::Table(fields) => Some(fields),
            _ => None,
        })?;
        Some(table.iter().filter(|(key, _)| key.is_none()).map(|(_, value)| *value).collect())
    }

    /// The arguments of `unpack`, if this calls it.
    pub(crate) fn unpack_args(&self, id: ExprId) -> Option<&'a [ExprId]> {
        let Expr::Call { callee, args } = self.script.expr(id) else { return None };
        let is_unpack = self
            .script
            .aliased(*callee)
            .any(|id| self.is_global(id, "unpack") || self.is_global(id, "table.unpack"));
        is_unpack.then_some(args.as_slice())
    }

    /// The commands whose replies a loop goes over while it adds to this list.
    pub(crate) fn grown(&self, list: ExprId) -> Vec<ExprId> {
        let Expr::Variable(list) = self.script.expr(list) else { return Vec::new() };
        let loops = self.script.loops.iter().enumerate().filter(|(_, around)| around.grows(*list));
        let reads = loops.filter_map(|(id, _)| match self.long(id) {
            Some(Long::Collection(reads)) => reads.first().copied(),
            _ => None,
        });
        reads.collect()
    }

    /// What each function does with all that it calls.
    fn summarise(&self) -> Vec<Summary> {
        let functions = &self.script.functions;
        let mut summaries = vec![Summary::default(); functions.len()];
        let mut callers: Vec<Vec<FnId>> = vec![Vec::new(); functions.len()];
        for (id, function) in functions.iter().enumerate() {
            let mut own = Summary::default();
            for call in &function.calls {
                own.merge(self.does(*call));
                for callee in self.runs(*call) {
                    if let Some(callers) = callers.get_mut(callee) {
                        callers.push(id);
                    }
                }
            }
            if let Some(summary) = summaries.get_mut(id) {
                *summary = own;
            }
        }
        let mut changed: Vec<FnId> = (0..functions.len()).collect();
        while let Some(callee) = changed.pop() {
            let does = summaries.get(callee).copied().unwrap_or_default();
            for caller in callers.get(callee).into_iter().flatten() {
                let Some(summary) = summaries.get_mut(*caller) else { continue };
                let before = *summary;
                summary.merge(does);
                if *summary != before {
                    changed.push(*caller);
                }
            }
        }
        summaries
    }

    /// What a call does by itself.
    fn does(&self, id: ExprId) -> Summary {
        let Some(call) = self.redis_call(id) else {
            let Expr::Call { callee, .. } = self.script.expr(id) else { return Summary::default() };
            return Summary { opaque: self.is_undefined(*callee), ..Summary::default() };
        };
        let effect = self.effect(id);
        let is = |wanted: Effect| (effect == Some(wanted)).then_some(id);
        Summary {
            calls: true,
            write: is(Effect::Writes),
            replicates: is(Effect::Replicates),
            scan: call.command.as_deref().is_some_and(is_scan).then_some(id),
            opaque: effect == Some(Effect::Unknown),
        }
    }

    /// What a call does with all that it runs.
    pub(crate) fn does_in_all(&self, id: ExprId) -> Summary {
        let mut does = self.does(id);
        for function in self.runs(id) {
            does.merge(self.summary(function));
        }
        does
    }

    /// The commands that read all of a collection, and whose reply this may be.
    pub(crate) fn collections(&self, id: ExprId) -> Vec<ExprId> {
        let mut found = Vec::new();
        self.follow(id, |facts, id, next| match facts.script.expr(id) {
            Expr::Call { .. } if facts.redis_call(id).is_some() => {
                if facts.extent(id).is_some() {
                    found.push(id);
                }
                true
            }
            Expr::Call { callee, .. } => {
                next.extend(facts.returned(*callee));
                true
            }
            Expr::Variable(variable) => {
                next.extend(facts.script.assigned(*variable));
                true
            }
            Expr::Binary(Binary::And | Binary::Or, left, right) => {
                next.extend([*left, *right]);
                true
            }
            _ => true,
        });
        found.sort_unstable();
        found
    }

    /// A command whose reply this depends on. The length of what is read with a bound depends on no reply, unless
    /// `lengths` are asked for too.
    fn reply(&self, id: ExprId, lengths: bool) -> Option<ExprId> {
        let mut found = None;
        self.follow(id, |facts, id, next| {
            let expr = facts.script.expr(id);
            match expr {
                Expr::Call { .. } if facts.redis_call(id).is_some() => found = Some(id),
                // The least of several numbers is bounded if one of them is.
                Expr::Call { callee, args } if facts.is_global(*callee, "math.min") => {
                    if args.iter().all(|arg| facts.may_be_a_reply(*arg)) {
                        next.extend(args);
                    }
                }
                Expr::Unary(Unary::Length, operand) if lengths || !facts.collections(*operand).is_empty() => {
                    next.push(*operand);
                }
                Expr::Unary(Unary::Length, _) => {}
                _ => facts.parts(expr, next),
            }
            found.is_none()
        });
        found
    }

    /// Whether a command's reply is anywhere in this.
    fn may_be_a_reply(&self, id: ExprId) -> bool {
        let mut found = false;
        self.follow(id, |facts, id, next| {
            found |= facts.redis_call(id).is_some();
            facts.parts(facts.script.expr(id), next);
            !found
        });
        found
    }

    /// What the value of an expression is made of.
    fn parts(&self, expr: &Expr, next: &mut Vec<ExprId>) {
        match expr {
            Expr::Call { callee, args } => {
                next.extend(args);
                next.extend(self.returned(*callee));
            }
            Expr::Variable(variable) => next.extend(self.script.sources(*variable)),
            Expr::Index { base, .. } => next.push(*base),
            Expr::Unary(_, operand) => next.push(*operand),
            Expr::Binary(_, left, right) => next.extend([*left, *right]),
            _ => {}
        }
    }

    /// What functions that are called so give back.
    fn returned(&self, callee: ExprId) -> Vec<ExprId> {
        let functions = self.script.callees(callee).filter_map(|id| self.script.functions.get(id));
        functions.flat_map(|function| function.returns.iter().copied()).collect()
    }

    /// Visits an expression and whatever `visit` adds to it, none twice, until it gives false.
    pub(crate) fn follow(
        &self,
        from: ExprId,
        mut visit: impl FnMut(&Self, ExprId, &mut Vec<ExprId>) -> bool,
    ) {
        let (mut next, mut seen) = (vec![from], HashSet::new());
        while let Some(id) = next.pop() {
            let Some(left) = self.steps.get().checked_sub(1).filter(|_| seen.len() < FARTHEST) else {
                return;
            };
            self.steps.set(left);
            if seen.insert(id) && !visit(self, id, &mut next) {
                return;
            }
        }
    }

    /// Why a loop may take long.
    fn judge(&self, around: &Loop) -> Option<Long> {
        match around.kind {
            LoopKind::Generic(iterator) => {
                let Expr::Call { args, .. } = self.script.expr(iterator) else { return None };
                let mut reads: Vec<ExprId> = args.iter().flat_map(|arg| self.gone_over(*arg)).collect();
                reads.dedup();
                (!reads.is_empty()).then_some(Long::Collection(reads))
            }
            LoopKind::Numeric(end) => {
                let reads = self.gone_over(end);
                if !reads.is_empty() {
                    return Some(Long::Collection(reads));
                }
                self.reply(end, false).map(Long::Count)
            }
            LoopKind::While(condition) | LoopKind::Repeat(condition) => {
                self.judge_conditional(around, condition)
            }
        }
    }

    /// The collections that an expression is, or is the length of.
    fn gone_over(&self, id: ExprId) -> Vec<ExprId> {
        let mut found = self.collections(id);
        let mut operands = Vec::new();
        self.follow(id, |facts, id, next| {
            match facts.script.expr(id) {
                Expr::Unary(Unary::Length, operand) => operands.push(*operand),
                Expr::Binary(_, left, right) => next.extend([*left, *right]),
                Expr::Call { callee, args } if facts.is_global(*callee, "table.getn") => {
                    operands.extend(args);
                }
                Expr::Call { callee, args }
                    if ["math.ceil", "math.floor", "math.max", "tonumber"]
                        .iter()
                        .any(|name| facts.is_global(*callee, name)) =>
                {
                    next.extend(args);
                }
                Expr::Variable(variable) => {
                    next.extend(facts.script.assigned(*variable));
                }
                _ => {}
            }
            true
        });
        found.extend(operands.iter().flat_map(|operand| self.collections(*operand)));
        found.sort_unstable();
        found.dedup();
        found
    }

    fn judge_conditional(&self, around: &Loop, condition: ExprId) -> Option<Long> {
        let scan = around.own_calls.iter().find_map(|call| {
            let own = self.does(*call).scan;
            own.or_else(|| self.does_in_all(*call).scan)
        });
        if let Some(scan) = scan {
            return Some(Long::Scan(scan));
        }
        let is_while = matches!(around.kind, LoopKind::While(_));
        let never_ends = match self.script.expr(condition) {
            Expr::Bool(value) => *value == is_while,
            Expr::Nil => !is_while,
            Expr::Number(_) | Expr::Text(_) | Expr::Table(_) => is_while,
            _ => false,
        };
        if never_ends && around.exits.is_empty() {
            return Some(Long::Endless);
        }
        // Each of these alone ends it.
        let mut ends = Vec::new();
        if !never_ends {
            self.split(condition, if is_while { Binary::And } else { Binary::Or }, &mut ends);
        }
        for guard in around.exits.iter().flatten() {
            self.split(*guard, Binary::Or, &mut ends);
        }
        if around.exits.contains(&None) {
            return None;
        }
        let mut bound = None;
        for end in &ends {
            match self.counted(around, *end) {
                Some(Counted::Bounded) => return None,
                Some(Counted::By(long)) => bound = bound.or(Some(long)),
                None => {}
            }
        }
        if bound.is_some() {
            return bound;
        }
        let calls = around.calls.iter().any(|call| self.does_in_all(*call).calls);
        // What calls nothing goes over what is in memory already.
        calls.then(|| ends.iter().find_map(|end| self.reply(*end, true)).map_or(Long::Unbounded, Long::Until))
    }

    /// The operands of an operator, and of the same operator in them.
    fn split(&self, id: ExprId, operator: Binary, parts: &mut Vec<ExprId>) {
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            match self.script.expr(id) {
                Expr::Binary(found, left, right) if *found == operator => next.extend([*left, *right]),
                _ => parts.push(id),
            }
        }
    }

    /// Whether this compares something that the loop counts with a bound.
    fn counted(&self, around: &Loop, end: ExprId) -> Option<Counted> {
        let Expr::Binary(Binary::Compare, left, right) = self.script.expr(end) else { return None };
        [(*left, *right), (*right, *left)].into_iter().find_map(|(counter, bound)| {
            if !self.counts(around, counter) {
                return None;
            }
            let reads = self.gone_over(bound);
            Some(if !reads.is_empty() {
                Counted::By(Long::Collection(reads))
            } else if let Some(reply) = self.reply(bound, false) {
                Counted::By(Long::Count(reply))
            } else {
                Counted::Bounded
            })
        })
    }

    /// Whether a loop adds something to this, or takes something from it, each time.
    fn counts(&self, around: &Loop, counter: ExprId) -> bool {
        let mut counts = false;
        self.follow(counter, |facts, id, next| {
            match facts.script.expr(id) {
                Expr::Variable(variable) => counts |= facts.steps(around, *variable),
                Expr::Binary(Binary::Plus | Binary::Minus, left, right) => next.extend([*left, *right]),
                _ => {}
            }
            !counts
        });
        counts
    }

    /// Whether all that a loop gives a variable is more or less than it was.
    fn steps(&self, around: &Loop, variable: VarId) -> bool {
        let mut given = around.assigned.iter().filter(|(assigned, _)| *assigned == variable).peekable();
        given.peek().is_some()
            && given.all(|(_, value)| match value {
                Value::Of(value) => self.moves(*value, variable) || self.returns_moved(*value, variable),
                Value::PartOf(_) => false,
            })
    }

    /// Whether this is more or less than a variable.
    fn moves(&self, id: ExprId, variable: VarId) -> bool {
        let is_it = |id: ExprId| *self.script.expr(id) == Expr::Variable(variable);
        let is_reply = |id: ExprId| self.redis_call(id).is_some();
        match self.script.expr(id) {
            Expr::Binary(Binary::Plus, left, right) => {
                (is_it(*left) && !is_reply(*right)) || (is_it(*right) && !is_reply(*left))
            }
            Expr::Binary(Binary::Minus, left, right) => is_it(*left) && !is_reply(*right),
            _ => false,
        }
    }

    /// Whether this calls a function that gives back more or less than a variable that it is handed.
    fn returns_moved(&self, id: ExprId, variable: VarId) -> bool {
        let Expr::Call { callee, args } = self.script.expr(id) else { return false };
        let is_it = |arg: &ExprId| *self.script.expr(*arg) == Expr::Variable(variable);
        let Some(index) = args.iter().position(is_it) else { return false };
        let mut functions =
            self.script.callees(*callee).filter_map(|id| self.script.functions.get(id)).peekable();
        functions.peek().is_some()
            && functions.all(|function| {
                let parameter = function.parameters.get(index);
                let moves =
                    |parameter: &VarId| function.returns.iter().all(|value| self.moves(*value, *parameter));
                !function.returns.is_empty() && parameter.is_some_and(moves)
            })
    }
}

/// What a counter is compared with.
#[derive(Debug)]
enum Counted {
    /// Something that does not grow with the data.
    Bounded,
    /// Something that does.
    By(Long),
}

/// Whether a command goes on with a cursor.
fn is_scan(command: &str) -> bool {
    matches!(command, "SCAN" | "SSCAN" | "HSCAN" | "ZSCAN")
}

fn constant(script: &Script, id: ExprId, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match script.expr(id) {
        Expr::Text(text) | Expr::Number(text) => Some(text.clone()),
        Expr::Unary(Unary::Minus, operand) => match script.expr(*operand) {
            Expr::Number(number) => Some(format!("-{number}")),
            _ => None,
        },
        Expr::Variable(variable) => match script.values(*variable) {
            [Value::Of(value)] => constant(script, *value, depth),
            _ => None,
        },
        _ => None,
    }
}
