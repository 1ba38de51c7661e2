//! Script under construction: scopes, and the loops around the current statement with their contents.

use std::collections::HashMap;

use crate::lint::source::syntax::{
    Binary, Comparison, Expr, ExprId, FnId, Function, GlobalWrite, Loop, LoopId, LoopKind, Script, Statement,
    Value, VarId, Variable,
};
use crate::lua::Position;

/// Maximum number of named fields of a table that are analysed.
const MAX_FIELDS: usize = 200;

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
    /// Position and message of the first error that the parser does not detect.
    error: Option<(Position, &'static str)>,
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
            error: None,
        }
    }
}

impl Builder {
    /// Completes the script, given its body.
    ///
    /// # Errors
    /// Returns the position and message of the first error that the parser does not detect.
    pub(super) fn finish(mut self, body: Vec<Statement>) -> Result<Script, (Position, &'static str)> {
        if let Some(main) = self.script.functions.get_mut(self.script.main) {
            main.body = body;
        }
        self.pass_arguments();
        match self.error {
            Some(error) => Err(error),
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

    /// Variable with this name; a global one if none is declared.
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
        self.script.variables.push(Variable {
            name,
            is_global,
            values: Vec::new(),
            limits: Vec::new(),
            fields: HashMap::new(),
            field_variables: HashMap::new(),
        })
    }

    pub(super) fn assign(&mut self, variable: VarId, value: Value) {
        let limit = self.limit(variable, value);
        let fields = match value {
            Value::Of(table) => self.named_fields(table),
            Value::PartOf(_) | Value::ResultOf(_) => Vec::new(),
        };
        if let Some(variable) = self.script.variables.get_mut(variable) {
            variable.limits.extend(limit);
            for (key, value) in fields {
                variable.fields.entry(key).or_default().push(value);
            }
        }
        if let Some(variable) = self.script.variables.get_mut(variable) {
            variable.values.push(value);
        }
        self.record_assigned(variable, value);
    }

    fn record_assigned(&mut self, variable: VarId, value: Value) {
        if let Some(guard) = self.frame.guard {
            self.script.assignment_guards.insert(value.source(), guard);
        }
        for id in &self.frame.loops {
            if let Some(around) = self.script.loops.get_mut(*id) {
                around.assigned.push((variable, value));
            }
        }
    }

    /// Assigns values to variables; a target of `None` is an element of a table. If there are more targets than values, the last value
    /// is a call, whose later results are assigned to the remaining targets.
    pub(super) fn assign_all(&mut self, targets: &[Option<VarId>], values: &[ExprId]) {
        for (index, target) in targets.iter().enumerate() {
            let value = match (values.get(index), values.last()) {
                (Some(value), _) => Value::Of(*value),
                (None, Some(last)) => Value::ResultOf(*last),
                (None, None) => continue,
            };
            if let Some(target) = target {
                self.assign(*target, value);
            }
        }
    }

    /// Assigns values to variables and elements of tables.
    pub(super) fn assign_targets(&mut self, targets: &[ExprId], values: &[ExprId]) {
        let variables: Vec<Option<VarId>> = targets
            .iter()
            .map(|target| match self.script.expr(*target) {
                Expr::Variable(variable) => Some(*variable),
                _ => None,
            })
            .collect();
        self.assign_all(&variables, values);
        for (target, value) in targets.iter().zip(values) {
            if let Expr::Index { base, key } = *self.script.expr(*target) {
                self.assign_element(base, key, *value);
            }
        }
        for target in targets {
            self.record_global_write(*target, self.script.position(*target), false);
        }
    }

    /// Value, if its assignment clamps the variable to it: `if n > 100 then n = 100 end`.
    fn limit(&self, variable: VarId, value: Value) -> Option<ExprId> {
        let Value::Of(value) = value else { return None };
        let Expr::Binary(Binary::Compare(comparison), left, right) = *self.script.expr(self.frame.guard?)
        else {
            return None;
        };
        let is_variable = |id: ExprId| self.script.variable(id) == Some(variable);
        let is_past = match comparison {
            Comparison::Greater => is_variable(left) && self.script.is_same(right, value),
            Comparison::Less => is_variable(right) && self.script.is_same(left, value),
            Comparison::Equal | Comparison::Unequal => false,
        };
        is_past.then_some(value)
    }

    /// Named fields of a table, and its elements by number.
    fn named_fields(&self, table: ExprId) -> Vec<(String, ExprId)> {
        let Expr::Table(fields) = self.script.expr(table) else { return Vec::new() };
        let elements = fields.iter().filter(|(key, _)| key.is_none()).enumerate();
        let elements = elements.map(|(index, (_, value))| ((index + 1).to_string(), *value));
        let named = fields.iter().filter_map(|(key, value)| match self.script.expr((*key)?) {
            Expr::String(key) => Some((key.clone(), *value)),
            _ => None,
        });
        named.chain(elements).take(MAX_FIELDS).collect()
    }

    /// Assigns a value to an element of a table.
    pub(super) fn assign_element(&mut self, table: ExprId, key: ExprId, value: ExprId) {
        let (Expr::Variable(table), Expr::String(key)) = (self.script.expr(table), self.script.expr(key))
        else {
            return;
        };
        let (table, key) = (*table, key.clone());
        let Some(known) = self.script.variables.get_mut(table) else { return };
        if known.fields.len() >= MAX_FIELDS {
            return;
        }
        known.fields.entry(key.clone()).or_default().push(value);
        let field = match known.field_variables.get(&key) {
            Some(field) => *field,
            None => self.add_field(table, key),
        };
        let limit = self.limit(field, Value::Of(value));
        if let Some(field) = self.script.variables.get_mut(field) {
            field.values.push(Value::Of(value));
            field.limits.extend(limit);
        }
        self.record_assigned(field, Value::Of(value));
    }

    /// Adds the variable of a field, with the values of the field in constructors.
    fn add_field(&mut self, table: VarId, key: String) -> VarId {
        let known = self.script.variables.get(table);
        let name = known.map_or_else(String::new, |known| format!("{}.{key}", known.name));
        let values = known.and_then(|known| known.fields.get(&key)).map_or(&[][..], Vec::as_slice);
        // The last value is the one that is being assigned.
        let values = values.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let values: Vec<Value> = values.iter().copied().map(Value::Of).collect();
        let field = self.add_variable(&name, false);
        if let Some(field) = self.script.variables.get_mut(field) {
            field.values = values;
        }
        if let Some(table) = self.script.variables.get_mut(table) {
            table.field_variables.insert(key, field);
        }
        field
    }

    /// Records an assignment to a global or to a field of a global table.
    pub(super) fn record_global_write(&mut self, target: ExprId, position: Position, is_declaration: bool) {
        let mut base = target;
        let mut name = String::new();
        while let Expr::Index { base: inner, key } = self.script.expr(base) {
            name = match self.script.expr(*key) {
                Expr::String(key) => format!(".{key}{name}"),
                _ => format!("[…]{name}"),
            };
            base = *inner;
        }
        let Expr::Variable(variable) = self.script.expr(base) else { return };
        let Some(variable) = self.script.variables.get(*variable).filter(|variable| variable.is_global)
        else {
            return;
        };
        let name = format!("{}{name}", variable.name);
        self.script.global_writes.push(GlobalWrite { position, name, is_declaration });
    }

    /// Records that an element is added to a table.
    pub(super) fn grow(&mut self, table: ExprId) {
        let Expr::Variable(variable) = *self.script.expr(table) else { return };
        if let Some(function) = self.script.functions.get_mut(self.frame.function) {
            function.grown.push(variable);
        }
        for id in &self.frame.loops {
            if let Some(around) = self.script.loops.get_mut(*id) {
                around.grown.push(variable);
            }
        }
    }

    pub(super) fn expr(&self, id: ExprId) -> &Expr {
        self.script.expr(id)
    }

    pub(super) fn is_global(&self, id: ExprId, name: &str) -> bool {
        self.script.is_global(id, name)
    }

    pub(super) fn position(&self, id: ExprId) -> Position {
        self.script.position(id)
    }

    pub(super) fn add(&mut self, expr: Expr, position: Position) -> ExprId {
        self.script.exprs.push((expr, position))
    }

    /// Expression that stands for everything that is not analysed.
    pub(super) fn unknown(&self) -> ExprId {
        self.script.unknown
    }

    /// Adds a call. The second value returned is true if the call raises an error, which ends the function.
    pub(super) fn add_call(&mut self, callee: ExprId, args: Vec<ExprId>, at: Position) -> (ExprId, bool) {
        let raises = self.script.is_global(callee, "error");
        if let [table, _, ..] = args.as_slice()
            && self.script.is_global(callee, "table.insert")
        {
            self.grow(*table);
        }
        let call = self.add(Expr::Call { callee, args }, at);
        if let (Some(guard), Expr::Variable(_) | Expr::Index { .. }) =
            (self.frame.guard, self.script.expr(callee))
        {
            self.script.guards.insert(call, guard);
        }
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
            self.record_end();
        }
        (call, raises)
    }

    /// Records that the function ends here.
    fn record_end(&mut self) {
        let guard = match self.frame.loops.first().and_then(|id| self.script.loops.get(*id)) {
            Some(_) => Some(self.frame.guard.unwrap_or(self.script.unknown)),
            None => self.frame.guard,
        };
        if let Some(function) = self.script.functions.get_mut(self.frame.function) {
            function.exits.push(guard);
        }
        self.record_exit(self.frame.loops.len());
    }

    /// Records that the function ends if a condition is false: `assert(condition)`.
    pub(super) fn record_assertion(&mut self, negated: ExprId) {
        let outer = self.frame.guard;
        self.enter_guard(negated, outer);
        self.record_end();
        self.frame.guard = outer;
    }

    /// Records a use of `...`, which is an error in a function that does not take it.
    pub(super) fn record_varargs(&mut self, position: Position) {
        let function = self.script.functions.get(self.frame.function);
        if !function.is_some_and(|function| function.is_variadic) {
            let message = "cannot use `...` outside of a function that takes it";
            self.error = self.error.or(Some((position, message)));
        }
    }

    /// Begins a function.
    pub(super) fn begin_function(&mut self, is_variadic: bool) -> FnId {
        let id = self.script.functions.push(Function { is_variadic, ..Function::default() });
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

    /// Begins a loop; its condition may not be converted yet.
    pub(super) fn begin_loop(&mut self, position: Position, kind: LoopKind) -> LoopId {
        let id = self.script.loops.push(Loop {
            position,
            kind,
            body: Vec::new(),
            exits: Vec::new(),
            assigned: Vec::new(),
            grown: Vec::new(),
            first_variable: self.script.variables.next_id(),
            calls: Vec::new(),
            own_calls: Vec::new(),
            outer_guard: self.frame.guard.take(),
            parent: self.frame.loops.last().copied(),
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

    /// Begins a block that runs if a condition is true, within a block with the condition `outer`.
    pub(super) fn enter_guard(&mut self, guard: ExprId, outer: Option<ExprId>) {
        if let Some(outer) = outer {
            self.script.outer_guards.insert(guard, outer);
        }
        self.frame.guard = Some(guard);
    }

    pub(super) fn record_break(&mut self, position: Position) {
        if self.frame.loops.is_empty() {
            self.error = self.error.or(Some((position, "no loop to break")));
        }
        self.record_exit(1);
    }

    pub(super) fn record_return(&mut self, values: &[ExprId]) {
        if let (Some((first, later)), Some(function)) =
            (values.split_first(), self.script.functions.get_mut(self.frame.function))
        {
            function.returns.push(*first);
            function.later_returns.extend(later);
        }
        self.record_end();
    }

    /// Records that the current statement exits this number of loops.
    fn record_exit(&mut self, count: usize) {
        let mut guard = self.frame.guard;
        for id in self.frame.loops.iter().rev().take(count) {
            if let Some(left) = self.script.loops.get_mut(*id) {
                left.exits.push(guard);
            }
            // The inner loop may end before it reaches the statement.
            guard = guard.or(Some(self.script.unknown));
        }
    }
}
