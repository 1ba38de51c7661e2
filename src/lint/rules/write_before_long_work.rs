//! Writes before a loop that may take a long time.

use std::collections::{HashMap, HashSet};

use crate::lint::analysis::commands::Effect;
use crate::lint::analysis::doubt::Doubt;
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;
use crate::lint::source::syntax::{Binary, Expr, ExprId, FnId, Loop, Script, Statement, Unary, Value, VarId};
use crate::lua::Position;

pub(super) static RULE: Rule = Rule {
    name: "write-before-long-work",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a write before a loop that may take a long time, which makes the loop unkillable",
    instead: "read and decide first, write last; or limit the loop",
    why: "After the first write, SCRIPT KILL and FUNCTION KILL reply UNKILLABLE, and only SHUTDOWN NOSAVE \
          ends the script.",
    example: Some(Example {
        bad: "\
            redis.call('SET', KEYS[1], 'busy')\n\
            for _, member in ipairs(redis.call('SMEMBERS', KEYS[2])) do\n\
            \x20\x20redis.call('GET', member)\n\
            end",
        good: "\
            for _, member in ipairs(redis.call('SRANDMEMBER', KEYS[2], 100)) do\n\
            \x20\x20redis.call('GET', member)\n\
            end\n\
            redis.call('SET', KEYS[1], 'busy')",
    }),
    check: Check::Script(check),
};

/// Maximum depth of calls of the script's functions that are followed.
const MAX_CALL_DEPTH: usize = 32;

/// Maximum number of conditions around a loop; only hostile scripts have more.
const MAX_GUARDS: usize = 100;

/// Outcome of a list of statements.
#[derive(Debug, Clone, Copy)]
enum Flow {
    /// They return.
    Returns,
    /// They run to their end; the command, if any, is a write that has happened by then.
    Continues(Option<Write>),
}

/// Write that has happened.
#[derive(Debug, Clone, Copy)]
struct Write {
    call: ExprId,
    /// Variable that is true if this write, or an earlier one, has happened.
    flag: Option<VarId>,
}

impl Write {
    /// The write to report after two, of which only one may have happened.
    fn or(self, other: Self) -> Self {
        if self.flag.is_none() || self.flag == other.flag { self } else { Self { flag: None, ..other } }
    }
}

/// The write to report after two, if there is any.
fn either(one: Option<Write>, other: Option<Write>) -> Option<Write> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.or(other)),
        _ => one.or(other),
    }
}

/// Execution of a script in the order of its statements.
struct Execution<'a> {
    facts: &'a ScriptFacts<'a>,
    /// Conditions around each call, innermost first.
    guards: HashMap<ExprId, Vec<ExprId>>,
    /// Flags that the script sets where it writes: their value `true`, and the condition around its assignment.
    flags: Vec<(VarId, ExprId, ExprId)>,
    /// Functions that were entered, each with true if a write preceded the call, and its flag.
    entered: HashSet<(FnId, bool, Option<VarId>)>,
    /// The first warning, or the first finding if there is no warning. The remedy for all others is the same.
    diagnostic: Option<Diagnostic>,
}

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let (guards, flags) = (facts.script.all_guards(), flags(facts.script));
    let mut execution = Execution { facts, guards, flags, entered: HashSet::new(), diagnostic: None };
    // Functions that the script does not call are treated as entry points.
    for function in facts.script.functions.ids() {
        if !execution.entered.iter().any(|(entered, ..)| *entered == function) {
            execution.function(function, None, 0);
        }
    }
    execution.diagnostic.into_iter().collect()
}

/// Variables of the script that are false until they are set to true, which happens at one place under a condition; with that value,
/// and the condition.
fn flags(script: &Script) -> Vec<(VarId, ExprId, ExprId)> {
    let is_reset = |flag: VarId| {
        let is_false = |value: &Value| matches!(script.expr(value.source()), Expr::Bool(false));
        let mut assigned = script.loops.iter().flat_map(|(_, around)| &around.assigned);
        assigned.any(|(variable, value)| *variable == flag && is_false(value))
    };
    let flags = script.variables.iter().filter_map(|(id, variable)| {
        let [Value::Of(first), Value::Of(last)] = variable.values[..] else { return None };
        let is_flag = !variable.is_global
            && matches!((script.expr(first), script.expr(last)), (Expr::Bool(false), Expr::Bool(true)))
            && !script.assignment_guards.contains_key(&first);
        let guard = *script.assignment_guards.get(&last).filter(|_| is_flag)?;
        Some((id, last, guard))
    });
    flags.filter(|(id, ..)| !is_reset(*id)).collect()
}

/// True if a condition, or its negation, implies that a variable is false. Only variables that are evaluated after an expression count.
fn implies_false(script: &Script, condition: ExprId, is_negated: bool, flag: VarId, after: ExprId) -> bool {
    let implies = |condition, is_negated| implies_false(script, condition, is_negated, flag, after);
    match script.expr(condition) {
        Expr::Variable(variable) => is_negated && *variable == flag && condition > after,
        Expr::Unary(Unary::Not, operand) => implies(*operand, !is_negated),
        Expr::Binary(Binary::And, left, right) if !is_negated => {
            implies(*left, is_negated) || implies(*right, is_negated)
        }
        Expr::Binary(Binary::Or, left, right) if is_negated => {
            implies(*left, is_negated) || implies(*right, is_negated)
        }
        _ => false,
    }
}

impl Execution<'_> {
    /// Executes a function. `written` is a write that has happened before the call.
    fn function(&mut self, id: FnId, written: Option<Write>, depth: usize) {
        if depth < MAX_CALL_DEPTH
            && self.entered.insert((id, written.is_some(), written.and_then(|write| write.flag)))
            && let Some(function) = self.facts.script.functions.get(id)
        {
            self.statements(&function.body, written, depth);
        }
    }

    /// A write by a call. Only flags of the script itself count: a function may run again, with new variables.
    fn write(&self, write: ExprId, by: ExprId) -> Write {
        let script = self.facts.script;
        let guards = self.guards.get(&by).map(Vec::as_slice).unwrap_or_default();
        let is_in_main = || script.functions.get(script.main).is_some_and(|main| main.calls.contains(&by));
        let flag = self.flags.iter().find(|(.., guard)| guards.contains(guard));
        Write { call: write, flag: flag.filter(|_| is_in_main()).map(|(flag, ..)| *flag) }
    }

    /// A write, unless the conditions exclude that it has happened.
    fn unless_excluded(&self, write: Option<Write>, guards: &[ExprId]) -> Option<Write> {
        write.filter(|write| {
            let flag = self.flags.iter().find(|(flag, ..)| write.flag == Some(*flag));
            !flag.is_some_and(|(flag, set, _)| {
                guards.iter().any(|guard| implies_false(self.facts.script, *guard, false, *flag, *set))
            })
        })
    }

    /// Conditions around a loop.
    fn guards_of(&self, around: &Loop) -> Vec<ExprId> {
        let script = self.facts.script;
        let parent = |around: &&Loop| script.loops.get(around.parent?);
        let outer = |guard: &ExprId| script.outer_guards.get(guard).copied();
        let around = std::iter::successors(Some(around), parent).take(MAX_GUARDS);
        around
            .flat_map(|around| std::iter::successors(around.outer_guard, outer).take(MAX_GUARDS))
            .take(MAX_GUARDS)
            .collect()
    }

    fn statements(&mut self, statements: &[Statement], mut written: Option<Write>, depth: usize) -> Flow {
        for statement in statements {
            match statement {
                Statement::Return => return Flow::Returns,
                Statement::Call(call) => {
                    for function in self.facts.calls.runs(*call) {
                        let guards = self.guards.get(call).map(Vec::as_slice).unwrap_or_default();
                        self.function(function, self.unless_excluded(written, guards), depth + 1);
                        let write = self.facts.summaries.function(function).write;
                        written = either(written, write.map(|write| self.write(write, *call)));
                    }
                    if self.facts.calls.effect(*call) == Some(Effect::Writes) {
                        written = either(written, Some(self.write(*call, *call)));
                    }
                }
                Statement::Branches(branches) => {
                    let ends: Vec<Flow> =
                        branches.iter().map(|branch| self.statements(branch, written, depth)).collect();
                    let mut continuing = ends.into_iter().filter_map(|end| match end {
                        Flow::Returns => None,
                        Flow::Continues(written) => Some(written),
                    });
                    let Some(first) = continuing.next() else { return Flow::Returns };
                    written = continuing.fold(first, either);
                }
                Statement::Loop(id) => {
                    let Some(around) = self.facts.script.loops.get(*id) else { continue };
                    if let Some(long) = self.facts.long(*id)
                        && let Some(write) = self.unless_excluded(written, &self.guards_of(around))
                    {
                        self.report(write.call, around.position, self.facts.doubt_of_loop(long).as_ref());
                    }
                    if let Flow::Continues(after) = self.statements(&around.body, written, depth) {
                        written = after;
                    }
                }
            }
        }
        Flow::Continues(written)
    }

    /// Reports a loop after a write. A finding without a doubt replaces one with a doubt.
    fn report(&mut self, write: ExprId, at: Position, doubt: Option<&Doubt>) {
        let is_new =
            self.diagnostic.as_ref().is_none_or(|known| known.severity < RULE.severity && doubt.is_none());
        if is_new {
            let position = self.facts.script.position(write);
            let message = format!(
                "{} on line {{line}} writes before this loop, so SCRIPT KILL can't end the loop",
                self.facts.calls.command(write)
            );
            let diagnostic = Diagnostic::new(&RULE, at, message);
            self.diagnostic = Some(diagnostic.with_related(position, "the write").unless(doubt));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::severe;

    #[test]
    fn a_write_before_a_long_loop_is_reported() {
        let long = "for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do f(m) end";
        let is_reported =
            |before: &str| severe(&format!("{before} {long}")).contains(&"write-before-long-work");
        for before in [
            "redis.call('SET', KEYS[1], 1)",
            "if a then redis.call('DEL', KEYS[1]) end",
            "local function w() redis.call('INCR', KEYS[1]) end w()",
            "for i = 1, 3 do redis.call('INCR', KEYS[1]) end",
            "pcall(function() redis.call('INCR', KEYS[1]) end)",
        ] {
            assert!(is_reported(before), "{before}");
        }
        for before in [
            "redis.call('GET', KEYS[1])",
            "redis.call('PUBLISH', 'a', 'b')",
            "if a then redis.call('SET', KEYS[1], 1) return 1 end",
            "local function w() redis.call('INCR', KEYS[1]) end",
        ] {
            assert!(!is_reported(before), "{before}");
        }
    }

    #[test]
    fn a_write_that_a_flag_excludes_is_not_reported() {
        let is_reported = |script: &str| {
            let script =
                script.replace("LONG", "for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do f(m) end");
            severe(&script).contains(&"write-before-long-work")
        };
        for script in [
            "local new = false if a then redis.call('SET', KEYS[2], 1) new = true end if new then return 1 else LONG end",
            "local new = false if a then new = true redis.call('SET', KEYS[2], 1) end if not new and b then LONG end",
            "local new = false if a then new = true redis.call('SET', KEYS[2], 1) redis.call('EXPIRE', KEYS[2], 9) end
             if new or b then return 1 elseif c then LONG end",
            "local function all() LONG end local function set() redis.call('SET', KEYS[2], 1) end local new = false
             if a then set() new = true end if not new then return all() end",
        ] {
            assert!(!is_reported(script), "{script}");
        }
        for script in [
            "local new = false if a then redis.call('SET', KEYS[2], 1) new = true end if new then LONG end",
            "local new = false if a then redis.call('SET', KEYS[2], 1) new = true end if not new or b then LONG end",
            "local new = false if a then redis.call('SET', KEYS[2], 1) new = true end redis.call('SET', KEYS[3], 1) if not new then LONG end",
            "local new = false redis.call('SET', KEYS[2], 1) if a then redis.call('SET', KEYS[3], 1) new = true end if not new then LONG end",
            "local new = false if a then redis.call('SET', KEYS[2], 1) if b then new = true end end if not new then LONG end",
            "local new = false if a then redis.call('SET', KEYS[2], 1) if not new then LONG end new = true end",
            "local new = false if a then redis.call('SET', KEYS[2], 1) new = true end new = false if not new then LONG end",
            "local new = true if a then redis.call('SET', KEYS[2], 1) new = false end if not new then LONG end",
            "local new, old = false, false if a then redis.call('SET', KEYS[2], 1) new = true end if b then redis.call('SET', KEYS[2], 1) old = true end if not new then LONG end",
            "for i = 1, 3 do local new = false if a then redis.call('SET', KEYS[2], 1) new = true end if not new then LONG end end",
            "local function f() local new = false if a then redis.call('SET', KEYS[2], 1) new = true end if not new then LONG end end f() f()",
            "local new = false if a then redis.call('SET', KEYS[2], 1) new = true else redis.call('DEL', KEYS[2]) end if not new then LONG end",
        ] {
            assert!(is_reported(script), "{script}");
        }
    }
}
