//! Writes before a loop that may take a long time.

use std::collections::HashSet;

use crate::lint::analysis::commands::Effect;
use crate::lint::analysis::doubt::Doubt;
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;
use crate::lint::source::syntax::{ExprId, FnId, Statement};
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

/// Outcome of a list of statements.
#[derive(Debug, Clone, Copy)]
enum Flow {
    /// They return.
    Returns,
    /// They run to their end; the command, if any, is a write that has happened by then.
    Continues(Option<ExprId>),
}

/// Execution of a script in the order of its statements.
struct Execution<'a> {
    facts: &'a ScriptFacts<'a>,
    /// Functions that were entered, each with true if a write preceded the call.
    entered: HashSet<(FnId, bool)>,
    /// The first warning, or the first finding if there is no warning. The remedy for all others is the same.
    diagnostic: Option<Diagnostic>,
}

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let mut execution = Execution { facts, entered: HashSet::new(), diagnostic: None };
    // Functions that the script does not call are treated as entry points.
    for function in facts.script.functions.ids() {
        if !execution.entered.iter().any(|(entered, _)| *entered == function) {
            execution.function(function, None, 0);
        }
    }
    execution.diagnostic.into_iter().collect()
}

impl Execution<'_> {
    /// Executes a function. `written` is a write that has happened before the call; the result is one that has happened by the end.
    fn function(&mut self, id: FnId, written: Option<ExprId>, depth: usize) -> Option<ExprId> {
        if depth < MAX_CALL_DEPTH
            && self.entered.insert((id, written.is_some()))
            && let Some(function) = self.facts.script.functions.get(id)
        {
            self.statements(&function.body, written, depth);
        }
        written.or(self.facts.summaries.function(id).write)
    }

    fn statements(&mut self, statements: &[Statement], mut written: Option<ExprId>, depth: usize) -> Flow {
        for statement in statements {
            match statement {
                Statement::Return => return Flow::Returns,
                Statement::Call(call) => {
                    for function in self.facts.calls.runs(*call) {
                        written = self.function(function, written, depth + 1);
                    }
                    if self.facts.calls.effect(*call) == Some(Effect::Writes) {
                        written = written.or(Some(*call));
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
                    written = continuing.fold(first, Option::or);
                }
                Statement::Loop(id) => {
                    let Some(around) = self.facts.script.loops.get(*id) else { continue };
                    if let (Some(write), Some(long)) = (written, self.facts.long(*id)) {
                        self.report(write, around.position, self.facts.doubt_of_loop(long).as_ref());
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
}
