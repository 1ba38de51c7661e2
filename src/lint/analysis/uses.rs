//! Uses of KEYS and ARGV: the commands that each key is passed to, and the highest index of ARGV.

use crate::lint::analysis::calls::Calls;
use crate::lint::source::syntax::{Expr, ExprId, Script};

/// Maximum index; larger ones are ignored.
const MAX_INDEX: usize = 100;

/// Uses of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyUse {
    /// Commands that take the key as an argument, in upper case and source order. Those that take it as their first argument come
    /// first.
    pub(crate) commands: Vec<String>,
}

/// Uses of KEYS and ARGV in a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// Uses of each key, by index; `KEYS[1]` has the index 0.
    pub(crate) keys: Vec<KeyUse>,
    /// Highest constant index of ARGV.
    pub(crate) args: usize,
}

impl Uses {
    pub(crate) fn new(script: &Script) -> Self {
        let calls = Calls::new(script);
        let mut uses = Self::default();
        for id in script.exprs.ids() {
            uses.args = uses.args.max(index(script, id, "ARGV", "args").unwrap_or(0));
            if let Some(index) = index(script, id, "KEYS", "keys") {
                uses.key(index);
            }
        }
        let (mut first, mut others) = (Vec::new(), Vec::new());
        for (_, call) in calls.all_redis() {
            let Some(command) = &call.command else { continue };
            for (position, arg) in call.args.iter().enumerate() {
                let key = script.aliased(*arg).into_iter().find_map(|id| index(script, id, "KEYS", "keys"));
                if let Some(key) = key {
                    let found = if position == 0 { &mut first } else { &mut others };
                    found.push((key, command.clone()));
                }
            }
        }
        for (index, command) in first.into_iter().chain(others) {
            if let Some(key) = uses.key(index)
                && !key.commands.contains(&command)
            {
                key.commands.push(command);
            }
        }
        uses
    }

    /// Entry for an index of KEYS, which is at least 1.
    fn key(&mut self, index: usize) -> Option<&mut KeyUse> {
        if self.keys.len() < index {
            self.keys.resize(index, KeyUse::default());
        }
        self.keys.get_mut(index - 1)
    }
}

/// Constant index of an element of KEYS or ARGV: of the global, or, in a library, of the parameter with the lower-case name.
fn index(script: &Script, id: ExprId, global: &str, parameter: &str) -> Option<usize> {
    let Expr::Index { base, key } = script.expr(id) else { return None };
    let Expr::Variable(variable) = script.expr(*base) else { return None };
    let variable = script.variables.get(*variable)?;
    let is_table = (variable.is_global && variable.name == global)
        || (!variable.is_global && variable.name == parameter);
    let Expr::Number(number) = script.expr(*key) else { return None };
    number.parse().ok().filter(|index| is_table && (1..=MAX_INDEX).contains(index))
}

#[cfg(test)]
mod tests {
    use crate::lint::uses;

    #[test]
    fn keys_have_the_commands_that_use_them() {
        let source = "local k = KEYS[1]\nlocal rcall = redis.call\nrcall('LPUSH', KEYS[2], ARGV[3])\n\
                      redis.call('zadd', k, 1, 'x')\nredis.call('RPOPLPUSH', KEYS[2], KEYS[4])\nreturn KEYS[101]";
        let found = uses(source);
        let commands: Vec<_> = found.keys.iter().map(|key| key.commands.join(" ")).collect();
        assert_eq!(commands, ["ZADD", "LPUSH RPOPLPUSH", "", "RPOPLPUSH"]);
        assert_eq!(found.args, 3);
        let library = "#!lua name=l\nlocal function f(keys, args) return redis.call('HGETALL', keys[1]) end";
        assert_eq!(uses(library).keys[0].commands, ["HGETALL"]);
        assert_eq!(uses("this is no Lua"), super::Uses::default());
    }
}
