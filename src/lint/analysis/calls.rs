//! Calls of Redis commands, and calls of functions of the script.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::lint::analysis::commands::{self, Effect, contains};
use crate::lint::analysis::constants::constant;
use crate::lint::analysis::wrappers;
use crate::lint::source::syntax::{Expr, ExprId, FnId, Script, VarId};
use crate::lua::Position;

/// Global functions of Lua and the server.
const GLOBALS: &str = "\
    assert collectgarbage dofile error gcinfo getfenv getmetatable ipairs load loadfile loadstring newproxy next pairs \
    pcall print rawequal rawget rawset select setfenv setmetatable tonumber tostring type unpack xpcall";

/// Global variables of Lua and the server that are not functions, and that scripts can't change.
pub(crate) const TABLES: &str = "\
    _G _VERSION bit cjson cmsgpack coroutine debug math os redis server string struct table";

/// Call of a Redis command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedisCall {
    /// Command in upper case; `None` if it is not constant.
    pub(crate) command: Option<String>,
    /// Arguments after the command.
    pub(crate) args: Vec<ExprId>,
}

/// Calls of Redis commands in a script.
#[derive(Debug)]
pub(crate) struct Calls<'a> {
    pub(crate) script: &'a Script,
    redis: HashMap<ExprId, RedisCall>,
}

impl<'a> Calls<'a> {
    pub(crate) fn new(script: &'a Script) -> Self {
        let functions = script.functions.iter();
        let parameters: HashSet<VarId> =
            functions.flat_map(|(_, function)| function.parameters.iter().copied()).collect();
        let direct = script.exprs.ids().filter_map(|id| Some((id, words(script, &parameters, id)?)));
        let words = wrappers::unwrapped(script, direct.collect());
        let redis = words.into_iter().map(|(id, words)| (id, RedisCall::new(script, &words))).collect();
        Self { script, redis }
    }

    /// Redis command that an expression calls.
    pub(crate) fn redis(&self, id: ExprId) -> Option<&RedisCall> {
        self.redis.get(&id)
    }

    /// All calls of Redis commands, in source order.
    pub(crate) fn all_redis(&self) -> Vec<(ExprId, &RedisCall)> {
        let mut calls: Vec<_> = self.redis.iter().map(|(id, call)| (*id, call)).collect();
        calls.sort_unstable_by_key(|(id, _)| *id);
        calls
    }

    /// Name of the command that an expression calls.
    pub(crate) fn command(&self, id: ExprId) -> &str {
        self.redis(id).and_then(|call| call.command.as_deref()).unwrap_or("a command")
    }

    /// Effect of the command that an expression calls.
    pub(crate) fn effect(&self, id: ExprId) -> Option<Effect> {
        let call = self.redis(id)?;
        Some(call.command.as_deref().map_or(Effect::Unknown, commands::effect))
    }

    /// Constant that an expression evaluates to.
    pub(crate) fn constant(&self, id: ExprId) -> Option<String> {
        constant(self.script, id)
    }

    /// True if an expression is the global, or the member of a global table, with this name.
    pub(crate) fn is_global(&self, id: ExprId, name: &str) -> bool {
        self.script.is_global(id, name)
    }

    /// True if a callee is a global function that neither Lua nor this script defines.
    pub(crate) fn is_undefined(&self, callee: ExprId) -> bool {
        is_undefined(self.script, callee)
    }

    /// Positions at which the script uses globals that neither Lua nor the server nor the script defines.
    pub(crate) fn undefined(&self) -> BTreeSet<Position> {
        let is_undefined = |variable: &VarId| {
            self.script.variables.get(*variable).is_some_and(|variable| {
                variable.is_global
                    && variable.values.is_empty()
                    && ![GLOBALS, TABLES, "KEYS ARGV"].iter().any(|names| contains(names, &variable.name))
            })
        };
        let uses = self.script.exprs.iter().filter_map(|(_, (expr, position))| match expr {
            Expr::Variable(variable) => is_undefined(variable).then_some(*position),
            _ => None,
        });
        uses.collect()
    }

    /// Functions of the script that a call may run: the callee, and functions among the arguments.
    pub(crate) fn runs(&self, call: ExprId) -> Vec<FnId> {
        let Expr::Call { callee, args } = self.script.expr(call) else { return Vec::new() };
        if self.registers(*callee) {
            return Vec::new();
        }
        let called = std::iter::once(callee).chain(args);
        called.flat_map(|id| self.script.callees(*id)).collect()
    }

    /// True if a callee is `redis.register_function`.
    pub(crate) fn registers(&self, callee: ExprId) -> bool {
        let names = ["redis.register_function", "server.register_function"];
        self.script.aliased(callee).iter().any(|id| names.iter().any(|name| self.is_global(*id, name)))
    }

    /// First key of a command, except of those with a number before their keys.
    pub(crate) fn key(&self, call: ExprId) -> Option<ExprId> {
        let call = self.redis(call)?;
        let command = call.command.as_deref()?;
        let index = if commands::reads_streams(command) {
            self.streams(&call.args)? + 1
        } else {
            Some(0).filter(|_| commands::begins_with_key(command))?
        };
        call.args.get(index).copied()
    }

    /// Index of STREAMS in the arguments of a command that reads streams.
    pub(crate) fn streams(&self, args: &[ExprId]) -> Option<usize> {
        args.iter()
            .position(|arg| self.constant(*arg).is_some_and(|text| text.eq_ignore_ascii_case("STREAMS")))
    }

    /// Arguments of `unpack`, if an expression calls it.
    pub(crate) fn unpack_args(&self, id: ExprId) -> Option<&'a [ExprId]> {
        unpack_args(self.script, id)
    }
}

impl RedisCall {
    fn new(script: &Script, words: &[ExprId]) -> Self {
        let command = words.first().and_then(|first| constant(script, *first));
        Self {
            command: command.map(|command| command.to_ascii_uppercase()),
            args: words.get(1..).unwrap_or_default().to_vec(),
        }
    }
}

/// Command and arguments of the Redis command that an expression calls.
fn words(script: &Script, parameters: &HashSet<VarId>, id: ExprId) -> Option<Vec<ExprId>> {
    let Expr::Call { callee, args } = script.expr(id) else { return None };
    let calls_redis = |callee: ExprId| {
        let names = ["redis.call", "redis.pcall", "server.call", "server.pcall"];
        script.aliased(callee).iter().any(|id| names.iter().any(|name| script.is_global(*id, name)))
    };
    if calls_redis(*callee) {
        return Some(with_unpacked(script, parameters, args));
    }
    if let Some((function, args)) = protected(script, id)
        && calls_redis(function)
    {
        return Some(with_unpacked(script, parameters, args));
    }
    // In a part of a script that a build assembles, `rcall` is defined elsewhere.
    let words = with_unpacked(script, parameters, args);
    let is_fragment = is_undefined(script, *callee)
        && variable_name(script, *callee).is_some_and(|name| name.to_ascii_lowercase().contains("call"))
        && RedisCall::new(script, &words)
            .command
            .is_some_and(|name| commands::effect(&name) != Effect::Unknown);
    is_fragment.then_some(words)
}

/// Function and arguments of a call through `pcall` or `xpcall`.
pub(super) fn protected(script: &Script, id: ExprId) -> Option<(ExprId, &[ExprId])> {
    let Expr::Call { callee, args } = script.expr(id) else { return None };
    let is = |name: &str| script.aliased(*callee).iter().any(|id| script.is_global(*id, name));
    match args.as_slice() {
        [function, args @ ..] if is("pcall") => Some((*function, args)),
        [function, _, args @ ..] if is("xpcall") => Some((*function, args)),
        [function] if is("xpcall") => Some((*function, &[])),
        _ => None,
    }
}

/// Arguments of a call; if they are unpacked from a table, its elements. A table that is a parameter is not unpacked, because it
/// differs from call to call.
fn with_unpacked(script: &Script, parameters: &HashSet<VarId>, args: &[ExprId]) -> Vec<ExprId> {
    let is_parameter = |id: ExprId| match unpack_args(script, id) {
        Some([table, ..]) => match script.expr(*table) {
            Expr::Variable(variable) => parameters.contains(variable),
            _ => false,
        },
        _ => false,
    };
    let first = args.first().filter(|first| !is_parameter(**first));
    let unpacked = first.and_then(|first| unpacked(script, *first)).unwrap_or_default();
    if unpacked.is_empty() { args.to_vec() } else { unpacked }
}

/// Elements of the table that `unpack` is called with.
fn unpacked(script: &Script, id: ExprId) -> Option<Vec<ExprId>> {
    let table = *unpack_args(script, id)?.first()?;
    elements(script, table)
}

/// Elements of a table.
pub(super) fn elements(script: &Script, table: ExprId) -> Option<Vec<ExprId>> {
    let table = script.aliased(table).into_iter().find_map(|id| match script.expr(id) {
        Expr::Table(fields) => Some(fields),
        _ => None,
    })?;
    Some(table.iter().filter(|(key, _)| key.is_none()).map(|(_, value)| *value).collect())
}

pub(super) fn unpack_args(script: &Script, id: ExprId) -> Option<&[ExprId]> {
    let Expr::Call { callee, args } = script.expr(id) else { return None };
    let aliases = script.aliased(*callee);
    let is_unpack =
        aliases.iter().any(|id| script.is_global(*id, "unpack") || script.is_global(*id, "table.unpack"));
    is_unpack.then_some(args.as_slice())
}

/// True for a global function of Lua or the server.
pub(super) fn is_given(name: &str) -> bool {
    contains(GLOBALS, name)
}

fn variable_name(script: &Script, id: ExprId) -> Option<&str> {
    let Expr::Variable(variable) = script.expr(id) else { return None };
    script.variables.get(*variable).map(|variable| variable.name.as_str())
}

fn is_undefined(script: &Script, callee: ExprId) -> bool {
    let Expr::Variable(variable) = script.expr(callee) else { return false };
    script.variables.get(*variable).is_some_and(|variable| {
        variable.is_global && variable.values.is_empty() && !contains(GLOBALS, &variable.name)
    })
}
