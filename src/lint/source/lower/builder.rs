//! Script under construction: scopes, the loops around the current statement, and what they contain.

use std::collections::HashMap;

use crate::lint::source::syntax::{
    Expr, ExprId, FnId, Function, Loop, LoopId, LoopKind, Script, Statement, Value, VarId, Variable,
};
use crate::lua::Position;

/// Function under construction.
#[derive(Debug)]
struct Frame {
    function: FnId,
    /// Loops around the current statement, the innermost last.
    loops: Vec<LoopId>,
    /// Condition of the innermost `if` within the innermost loop.
    guard: Option<ExprId>,
}

impl Frame {
    fn new(function: FnId) -> Self {
        Self { function, loops: Vec::new(), guard: None }
    }
}

/// Script under construction.
#[derive(Debug)]
pub(super) struct Builder {
    script: Script,
    /// Local variables by name, the innermost scope last.
    scopes: Vec<HashMap<String, VarId>>,
    globals: HashMap<String, VarId>,
    /// Function that is being converted.
    frame: Frame,
    /// Functions around it, the innermost last.
    outer_frames: Vec<Frame>,
    /// First `break` outside of a loop.
    stray_break: Option<Position>,
}

impl Default for Builder {
    fn default() -> Self {
        let script = Script::default();
        Self {
            frame: Frame::new(script.main),
            script,
            scopes: vec![HashMap::new()],
            globals: HashMap::new(),
            outer_frames: Vec::new(),
            stray_break: None,
        }
    }
}

impl Builder {
    /// Completes the script, given its body.
    ///
    /// # Errors
    /// Position of a `break` outside of a loop.
    pub(super) fn finish(mut self, body: Vec<Statement>) -> Result<Script, Position> {
        if let Some(main) = self.script.functions.get_mut(self.script.main) {
            main.body = body;
        }
        self.pass_arguments();
        match self.stray_break {
            Some(position) => Err(position),
            None => Ok(self.script),
        }
    }

    /// Assigns the arguments of all calls to the parameters of the called functions.
    fn pass_arguments(&mut self) {
        let mut passed = Vec::new();
        for (_, (expr, _)) in self.script.exprs.iter() {
            let Expr::Call { callee, args } = expr else { continue };
            for function in self.script.callees(*callee) {
                let parameters = self.script.functions.get(function).map(|function| &function.parameters);
                passed.extend(parameters.into_iter().flatten().copied().zip(args.iter().copied()));
            }
        }
        for (parameter, argument) in passed {
            if let Some(parameter) = self.script.variables.get_mut(parameter) {
                parameter.values.push(Value::Of(argument));
            }
        }
    }

    pub(super) fn push_scope(&mut self) {
        self.scopes.push(HashMap::new());
    }

    pub(super) fn pop_scope(&mut self) {
        self.scopes.pop();
    }

    /// Declares a variable in the innermost scope.
    pub(super) fn declare(&mut self, name: &str) -> VarId {
        let id = self.add_variable(name, false);
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), id);
        }
        id
    }

    /// Variable of this name; a global one if none is declared.
    pub(super) fn resolve(&mut self, name: &str) -> VarId {
        let local = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        if let Some(id) = local.or_else(|| self.globals.get(name)) {
            return *id;
        }
        let id = self.add_variable(name, true);
        self.globals.insert(name.to_owned(), id);
        id
    }

    fn add_variable(&mut self, name: &str, is_global: bool) -> VarId {
        let name = name.to_owned();
        self.script.variables.push(Variable { name, is_global, values: Vec::new() })
    }

    pub(super) fn assign(&mut self, variable: VarId, value: Value) {
        if let Some(variable) = self.script.variables.get_mut(variable) {
            variable.values.push(value);
        }
        for id in &self.frame.loops {
            if let Some(around) = self.script.loops.get_mut(*id) {
                around.assigned.push((variable, value));
            }
        }
    }

    /// Assigns values to variables; a target of `None` is an element of a table. The last value, a call, supplies all targets
    /// that are left.
    pub(super) fn assign_all(&mut self, targets: &[Option<VarId>], values: &[ExprId]) {
        for (index, target) in targets.iter().enumerate() {
            let value = match (values.get(index), values.last()) {
                (Some(value), _) => Value::Of(*value),
                (None, Some(last)) => Value::PartOf(*last),
                (None, None) => continue,
            };
            if let Some(target) = target {
                self.assign(*target, value);
            }
        }
    }

    /// Records that a table gets another element.
    pub(super) fn grow(&mut self, table: ExprId) {
        let Expr::Variable(variable) = *self.script.expr(table) else { return };
        for id in &self.frame.loops {
            if let Some(around) = self.script.loops.get_mut(*id) {
                around.grown.push(variable);
            }
        }
    }

    pub(super) fn expr(&self, id: ExprId) -> &Expr {
        self.script.expr(id)
    }

    pub(super) fn position(&self, id: ExprId) -> Position {
        self.script.position(id)
    }

    pub(super) fn add(&mut self, expr: Expr, position: Position) -> ExprId {
        self.script.exprs.push((expr, position))
    }

    /// Expression that stands for all that is not analysed.
    pub(super) fn unknown(&self) -> ExprId {
        self.script.unknown
    }

    /// Adds a call. Returns true as its second value if the call raises an error, which ends the function.
    pub(super) fn add_call(&mut self, callee: ExprId, args: Vec<ExprId>, at: Position) -> (ExprId, bool) {
        let raises = self.script.is_global(callee, "error");
        if let [table, _, ..] = args.as_slice()
            && self.script.is_global(callee, "table.insert")
        {
            self.grow(*table);
        }
        let call = self.add(Expr::Call { callee, args }, at);
        if let Some(function) = self.script.functions.get_mut(self.frame.function) {
            function.calls.push(call);
        }
        let mut is_own = true;
        for id in self.frame.loops.iter().rev() {
            let Some(around) = self.script.loops.get_mut(*id) else { continue };
            around.calls.push(call);
            if is_own {
                around.own_calls.push(call);
            }
            is_own &= !around.kind.is_conditional();
        }
        if raises {
            self.record_exit(self.frame.loops.len());
        }
        (call, raises)
    }

    /// Begins a function.
    pub(super) fn begin_function(&mut self) -> FnId {
        let id = self.script.functions.push(Function::default());
        self.outer_frames.push(std::mem::replace(&mut self.frame, Frame::new(id)));
        self.push_scope();
        id
    }

    pub(super) fn end_function(&mut self, id: FnId, parameters: Vec<VarId>, body: Vec<Statement>) {
        self.pop_scope();
        if let Some(outer) = self.outer_frames.pop() {
            self.frame = outer;
        }
        if let Some(function) = self.script.functions.get_mut(id) {
            (function.parameters, function.body) = (parameters, body);
        }
    }

    /// Begins a loop whose condition or iterator is not converted yet.
    pub(super) fn begin_loop(&mut self, position: Position, kind: fn(ExprId) -> LoopKind) -> LoopId {
        let id = self.script.loops.push(Loop {
            position,
            kind: kind(self.script.unknown),
            body: Vec::new(),
            exits: Vec::new(),
            assigned: Vec::new(),
            grown: Vec::new(),
            first_variable: self.script.variables.next_id(),
            calls: Vec::new(),
            own_calls: Vec::new(),
            outer_guard: self.frame.guard.take(),
        });
        self.frame.loops.push(id);
        id
    }

    pub(super) fn end_loop(&mut self, id: LoopId, kind: LoopKind, body: Vec<Statement>) {
        self.frame.loops.pop();
        if let Some(ended) = self.script.loops.get_mut(id) {
            (ended.kind, ended.body) = (kind, body);
            self.frame.guard = ended.outer_guard;
        }
    }

    /// Condition of the innermost `if` within the innermost loop.
    pub(super) fn guard(&self) -> Option<ExprId> {
        self.frame.guard
    }

    pub(super) fn set_guard(&mut self, guard: Option<ExprId>) {
        self.frame.guard = guard;
    }

    pub(super) fn record_break(&mut self, position: Position) {
        if self.frame.loops.is_empty() {
            self.stray_break = self.stray_break.or(Some(position));
        }
        self.record_exit(1);
    }

    pub(super) fn record_return(&mut self, value: Option<ExprId>) {
        if let (Some(value), Some(function)) = (value, self.script.functions.get_mut(self.frame.function)) {
            function.returns.push(value);
        }
        self.record_exit(self.frame.loops.len());
    }

    /// Records that the current statement leaves this number of loops.
    fn record_exit(&mut self, count: usize) {
        let mut guard = self.frame.guard;
        for id in self.frame.loops.iter().rev().take(count) {
            if let Some(left) = self.script.loops.get_mut(*id) {
                left.exits.push(guard);
            }
            // The inner loop may end before it gets to the statement.
            guard = guard.or(Some(self.script.unknown));
        }
    }
}
