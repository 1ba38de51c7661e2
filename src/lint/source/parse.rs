//! From source to [`Script`]: `full_moon` parses, this makes of its tree what rules need.
//!
//! `full_moon` because it is the parser under Lua's own formatters and linters (`StyLua`, `selene`), reads exactly Lua 5.1
//! without features, and knows where everything is.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use full_moon::LuaVersion;
use full_moon::ast::{
    BinOp, Block, Call, Expression, Field, FunctionArgs, FunctionBody, FunctionCall, If, Index, LastStmt,
    Parameter, Prefix, Stmt, Suffix, TableConstructor, UnOp, Var,
};
use full_moon::tokenizer::{Symbol, TokenReference, TokenType};

use crate::lint::source::syntax::{
    Binary, Expr, ExprId, FnId, Function, Loop, LoopId, LoopKind, Position, SCRIPT, Script, Statement, Unary,
    Value, VarId, Variable,
};
use crate::lint::source::tokens::{Kind, Tokens};

/// Reads a script. Its nesting has been looked at before; what is on the stack grows with it.
///
/// # Errors
/// Where it is no Lua 5.1, and why.
pub(crate) fn parse(source: &str) -> Result<Script, (Position, String)> {
    let Some(result) = without_panic(|| full_moon::parse_fallible(source, LuaVersion::lua51())) else {
        return Err(not_lua(source));
    };
    if let Some(error) = result.errors().first() {
        let (begin, _) = error.range();
        let position = Position { line: begin.line(), column: begin.character() };
        return Err((position, message(error)));
    }
    let mut lowering = Lowering { scopes: vec![HashMap::new()], ..Lowering::default() };
    lowering.script.functions.push(Function::default());
    lowering.frames.push(Frame { function: SCRIPT, loops: Vec::new(), guard: None });
    let body = lowering.block(result.ast().nodes());
    lowering.set_body(SCRIPT, body);
    lowering.pass_arguments();
    match lowering.stray_break {
        Some(position) => Err((position, "no loop to break".to_owned())),
        None => Ok(lowering.script),
    }
}

thread_local! {
    /// Whether this thread is in the parser.
    static IN_PARSER: Cell<bool> = const { Cell::new(false) };
}

/// Runs the parser; `None` if it panics, which it does on some text that is no Lua (`full_moon` 3.0.0 on a string in
/// backticks).
/// Only a panic of the parser goes without a message.
fn without_panic<T>(parser: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread without its variables is at its end, and not in the parser.
            if !IN_PARSER.try_with(Cell::get).unwrap_or(false) {
                report(info);
            }
        }));
    });
    IN_PARSER.set(true);
    // Nothing of the parser outlives its panic.
    let result = panic::catch_unwind(AssertUnwindSafe(parser));
    IN_PARSER.set(false);
    result.ok()
}

/// The first character that is in no token of Lua 5.1; else the beginning.
fn not_lua(source: &str) -> (Position, String) {
    const MARKS: &str = "+-*/%^#=~<>(){}[];:,.";
    let stray = Tokens::new(source).find_map(|token| match token.kind {
        Kind::Mark(mark) if !mark.chars().all(|c| MARKS.contains(c)) => Some((token, mark)),
        _ => None,
    });
    match stray {
        Some((token, mark)) => {
            let position = Position { line: token.line, column: token.column + 1 };
            (position, format!("unexpected symbol near `{mark}`"))
        }
        None => (Position { line: 1, column: 1 }, "the parser cannot read this".to_owned()),
    }
}

/// Where a token begins. Only tokens are asked: what `full_moon` takes to tell where a tree begins grows exponentially with
/// its depth.
fn position(token: &TokenReference) -> Position {
    let position = token.token().start_position();
    Position { line: position.line(), column: position.character() }
}

/// What is wrong, in one line.
fn message(error: &full_moon::Error) -> String {
    match error {
        full_moon::Error::AstError(error) => {
            let found = error.token().to_string();
            match found.trim() {
                "" => format!("{} at the end", error.error_message()),
                found => format!("{} near `{found}`", error.error_message()),
            }
        }
        full_moon::Error::TokenizerError(error) => error.error().to_string(),
    }
}

/// The function that is being read.
#[derive(Debug)]
struct Frame {
    function: FnId,
    /// The loops around, the innermost last.
    loops: Vec<LoopId>,
    /// The condition of the innermost `if` within the innermost loop.
    guard: Option<ExprId>,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Lowering {
    script: Script,
    scopes: Vec<HashMap<String, VarId>>,
    globals: HashMap<String, VarId>,
    frames: Vec<Frame>,
    /// The statements of the block that is being read.
    statements: Vec<Statement>,
    /// The first `break` that is in no loop.
    stray_break: Option<Position>,
}

impl Lowering {
    fn add(&mut self, expr: Expr, position: Position) -> ExprId {
        self.script.exprs.push((expr, position));
        self.script.exprs.len() - 1
    }

    fn declare(&mut self, name: &str, is_parameter: bool) -> VarId {
        let id = self.script.variables.len();
        self.script.variables.push(Variable {
            name: name.to_owned(),
            is_global: false,
            is_parameter,
            values: Vec::new(),
        });
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), id);
        }
        id
    }

    fn resolve(&mut self, name: &str) -> VarId {
        if let Some(id) = self.scopes.iter().rev().find_map(|scope| scope.get(name)) {
            return *id;
        }
        if let Some(id) = self.globals.get(name) {
            return *id;
        }
        let id = self.script.variables.len();
        self.script.variables.push(Variable {
            name: name.to_owned(),
            is_global: true,
            is_parameter: false,
            values: Vec::new(),
        });
        self.globals.insert(name.to_owned(), id);
        id
    }

    fn assign(&mut self, variable: VarId, value: Value) {
        if let Some(variable) = self.script.variables.get_mut(variable) {
            variable.values.push(value);
        }
        for id in self.frames.last().map(|frame| frame.loops.as_slice()).unwrap_or_default() {
            if let Some(around) = self.script.loops.get_mut(*id) {
                around.assigned.push((variable, value));
            }
        }
    }

    fn set_body(&mut self, function: FnId, body: Vec<Statement>) {
        if let Some(function) = self.script.functions.get_mut(function) {
            function.body = body;
        }
    }

    /// The loops around, up to the function's end.
    fn loops(&self) -> Vec<LoopId> {
        self.frames.last().map(|frame| frame.loops.clone()).unwrap_or_default()
    }

    /// Notes a way out of these loops, the innermost of which is the last.
    fn exit(&mut self, loops: &[LoopId]) {
        let mut guard = self.frames.last().and_then(|frame| frame.guard);
        for id in loops.iter().rev() {
            if let Some(left) = self.script.loops.get_mut(*id) {
                left.exits.push(guard);
            }
            // The inner loop may not get there.
            guard = guard.or(Some(usize::MAX));
        }
    }

    /// The statements of a block with a scope of its own.
    fn block(&mut self, block: &Block) -> Vec<Statement> {
        self.scopes.push(HashMap::new());
        let outer = std::mem::take(&mut self.statements);
        self.statements_of(block);
        self.scopes.pop();
        std::mem::replace(&mut self.statements, outer)
    }

    fn statements_of(&mut self, block: &Block) {
        for statement in block.stmts() {
            self.statement(statement);
        }
        match block.last_stmt() {
            Some(LastStmt::Break(token)) => match self.loops().last() {
                Some(innermost) => self.exit(&[*innermost]),
                None => self.stray_break = self.stray_break.or_else(|| Some(position(token))),
            },
            Some(LastStmt::Return(values)) => {
                let values: Vec<ExprId> = values.returns().iter().map(|value| self.expr(value)).collect();
                if let (Some(first), Some(frame)) = (values.first(), self.frames.last())
                    && let Some(function) = self.script.functions.get_mut(frame.function)
                {
                    function.returns.push(*first);
                }
                self.exit(&self.loops());
                self.statements.push(Statement::Return);
            }
            _ => {}
        }
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Assignment(assignment) => {
                let values: Vec<ExprId> =
                    assignment.expressions().iter().map(|value| self.expr(value)).collect();
                let targets: Vec<Option<VarId>> =
                    assignment.variables().iter().map(|target| self.target(target)).collect();
                self.give(&targets, &values);
            }
            Stmt::LocalAssignment(local) => {
                let values: Vec<ExprId> = local.expressions().iter().map(|value| self.expr(value)).collect();
                let targets: Vec<Option<VarId>> =
                    local.names().iter().map(|name| Some(self.declare(&word(name), false))).collect();
                self.give(&targets, &values);
            }
            Stmt::Do(block) => {
                let inner = self.block(block.block());
                self.statements.extend(inner);
            }
            Stmt::FunctionCall(call) => {
                self.call(call);
            }
            Stmt::FunctionDeclaration(declaration) => {
                let name = declaration.name().to_string();
                let variable = self.resolve(name.trim());
                let function = self.function(declaration.body(), declaration.function_token());
                self.assign(variable, Value::Of(function));
            }
            Stmt::LocalFunction(local) => {
                let variable = self.declare(&word(local.name()), false);
                let function = self.function(local.body(), local.local_token());
                self.assign(variable, Value::Of(function));
            }
            Stmt::If(branches) => self.branches(branches),
            Stmt::While(while_loop) => {
                let id = self.begin_loop(while_loop.while_token());
                let outer = std::mem::take(&mut self.statements);
                let condition = self.expr(while_loop.condition());
                let mut body = std::mem::replace(&mut self.statements, outer);
                body.extend(self.block(while_loop.block()));
                self.end_loop(id, LoopKind::While(condition), body);
            }
            Stmt::Repeat(repeat) => {
                let id = self.begin_loop(repeat.repeat_token());
                // The condition sees the variables of the body.
                self.scopes.push(HashMap::new());
                let outer = std::mem::take(&mut self.statements);
                self.statements_of(repeat.block());
                let condition = self.expr(repeat.until());
                self.scopes.pop();
                let body = std::mem::replace(&mut self.statements, outer);
                self.end_loop(id, LoopKind::Repeat(condition), body);
            }
            Stmt::NumericFor(numeric) => {
                let start = self.expr(numeric.start());
                let end = self.expr(numeric.end());
                if let Some(step) = numeric.step() {
                    self.expr(step);
                }
                let id = self.begin_loop(numeric.for_token());
                self.scopes.push(HashMap::new());
                let counter = self.declare(&word(numeric.index_variable()), false);
                self.assign(counter, Value::PartOf(start));
                let body = self.block(numeric.block());
                self.scopes.pop();
                self.end_loop(id, LoopKind::Numeric(end), body);
            }
            Stmt::GenericFor(generic) => {
                let iterators: Vec<ExprId> =
                    generic.expressions().iter().map(|value| self.expr(value)).collect();
                let iterator = iterators.first().copied().unwrap_or(usize::MAX);
                let id = self.begin_loop(generic.for_token());
                self.scopes.push(HashMap::new());
                for name in generic.names() {
                    let variable = self.declare(&word(name), false);
                    self.assign(variable, Value::PartOf(iterator));
                }
                let body = self.block(generic.block());
                self.scopes.pop();
                self.end_loop(id, LoopKind::Generic(iterator), body);
            }
            _ => {}
        }
    }

    fn branches(&mut self, branches: &If) {
        let outer_guard = self.frames.last().and_then(|frame| frame.guard);
        let mut ways = Vec::new();
        let condition = self.expr(branches.condition());
        self.guard(Some(condition));
        ways.push(self.block(branches.block()));
        for else_if in branches.else_if().into_iter().flatten() {
            let condition = self.expr(else_if.condition());
            self.guard(Some(condition));
            ways.push(self.block(else_if.block()));
        }
        ways.push(branches.else_block().map(|block| self.block(block)).unwrap_or_default());
        self.guard(outer_guard);
        self.statements.push(Statement::Either(ways));
    }

    fn guard(&mut self, guard: Option<ExprId>) {
        if let Some(frame) = self.frames.last_mut() {
            frame.guard = guard;
        }
    }

    fn begin_loop(&mut self, keyword: &TokenReference) -> LoopId {
        let position = position(keyword);
        let id = self.script.loops.len();
        self.script.loops.push(Loop {
            position,
            kind: LoopKind::Numeric(usize::MAX),
            body: Vec::new(),
            exits: Vec::new(),
            assigned: Vec::new(),
            grown: Vec::new(),
            first_variable: self.script.variables.len(),
            calls: Vec::new(),
            own_calls: Vec::new(),
            outer_guard: self.frames.last().and_then(|frame| frame.guard),
        });
        if let Some(frame) = self.frames.last_mut() {
            frame.loops.push(id);
            frame.guard = None;
        }
        id
    }

    fn end_loop(&mut self, id: LoopId, kind: LoopKind, body: Vec<Statement>) {
        let mut guard = None;
        if let Some(ended) = self.script.loops.get_mut(id) {
            (ended.kind, ended.body, guard) = (kind, body, ended.outer_guard);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.loops.pop();
            frame.guard = guard;
        }
        self.statements.push(Statement::Loop(id));
    }

    /// Gives values to variables, `None` for the element of a table. The last call gives to all that are left.
    fn give(&mut self, targets: &[Option<VarId>], values: &[ExprId]) {
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

    fn target(&mut self, target: &Var) -> Option<VarId> {
        match target {
            Var::Name(name) => Some(self.resolve(&word(name))),
            Var::Expression(_) => {
                let element = self.var(target);
                if let Expr::Index { base, .. } = *self.script.expr(element) {
                    self.grow(base);
                }
                None
            }
            _ => None,
        }
    }

    /// Notes that a table gets another element.
    fn grow(&mut self, table: ExprId) {
        let Expr::Variable(variable) = *self.script.expr(table) else { return };
        for id in self.loops() {
            if let Some(around) = self.script.loops.get_mut(id) {
                around.grown.push(variable);
            }
        }
    }

    fn expr(&mut self, expression: &Expression) -> ExprId {
        let (expr, position) = match expression {
            Expression::BinaryOperator { lhs, binop, rhs } => {
                let (left, right) = (self.expr(lhs), self.expr(rhs));
                (Expr::Binary(binary(binop), left, right), self.script.position(left))
            }
            Expression::Parentheses { expression, .. } => return self.expr(expression),
            Expression::UnaryOperator { unop, expression } => {
                let operand = self.expr(expression);
                let operator = match unop {
                    UnOp::Minus(_) => Unary::Minus,
                    UnOp::Not(_) => Unary::Not,
                    _ => Unary::Length,
                };
                (Expr::Unary(operator, operand), position(unop.token()))
            }
            Expression::Function(function) => {
                return self.function(function.body(), function.function_token());
            }
            Expression::FunctionCall(call) => return self.call(call),
            Expression::TableConstructor(table) => return self.table(table),
            Expression::Number(token) => (Expr::Number(word(token)), position(token)),
            Expression::String(token) => (Expr::Text(text(token)), position(token)),
            Expression::Symbol(token) => {
                let expr = match token.token_type() {
                    TokenType::Symbol { symbol: Symbol::True } => Expr::Bool(true),
                    TokenType::Symbol { symbol: Symbol::False } => Expr::Bool(false),
                    TokenType::Symbol { symbol: Symbol::Nil } => Expr::Nil,
                    _ => Expr::Unknown,
                };
                (expr, position(token))
            }
            Expression::Var(var) => return self.var(var),
            _ => (Expr::Unknown, Position::default()),
        };
        self.add(expr, position)
    }

    fn table(&mut self, table: &TableConstructor) -> ExprId {
        let fields = table.fields().iter().filter_map(|field| self.field(field)).collect();
        let (brace, _) = table.braces().tokens();
        self.add(Expr::Table(fields), position(brace))
    }

    fn field(&mut self, field: &Field) -> Option<(Option<ExprId>, ExprId)> {
        Some(match field {
            Field::ExpressionKey { key, value, .. } => (Some(self.expr(key)), self.expr(value)),
            Field::NameKey { key, value, .. } => {
                let name = self.add(Expr::Text(word(key)), position(key));
                (Some(name), self.expr(value))
            }
            Field::NoKey(value) => (None, self.expr(value)),
            _ => return None,
        })
    }

    fn var(&mut self, var: &Var) -> ExprId {
        match var {
            Var::Name(name) => self.name(name),
            Var::Expression(chain) => self.chain(chain.prefix(), chain.suffixes()),
            _ => self.add(Expr::Unknown, Position::default()),
        }
    }

    fn name(&mut self, name: &TokenReference) -> ExprId {
        let variable = self.resolve(&word(name));
        self.add(Expr::Variable(variable), position(name))
    }

    fn call(&mut self, call: &FunctionCall) -> ExprId {
        self.chain(call.prefix(), call.suffixes())
    }

    /// `a.b[c](d):e(f)`
    fn chain<'a>(&mut self, prefix: &Prefix, suffixes: impl Iterator<Item = &'a Suffix>) -> ExprId {
        let mut base = match prefix {
            Prefix::Expression(expression) => self.expr(expression),
            Prefix::Name(name) => self.name(name),
            _ => self.add(Expr::Unknown, Position::default()),
        };
        let at = self.script.position(base);
        for suffix in suffixes {
            base = match suffix {
                Suffix::Index(Index::Brackets { expression, .. }) => {
                    let key = self.expr(expression);
                    self.add(Expr::Index { base, key }, at)
                }
                Suffix::Index(Index::Dot { name, .. }) => {
                    let key = self.add(Expr::Text(word(name)), position(name));
                    self.add(Expr::Index { base, key }, at)
                }
                Suffix::Call(Call::AnonymousCall(args)) => {
                    let args = self.args(args);
                    self.made_call(base, args, at)
                }
                Suffix::Call(Call::MethodCall(method)) => {
                    let key = self.add(Expr::Text(word(method.name())), position(method.name()));
                    let callee = self.add(Expr::Index { base, key }, at);
                    let mut args = self.args(method.args());
                    args.insert(0, base);
                    self.made_call(callee, args, at)
                }
                _ => self.add(Expr::Unknown, at),
            };
        }
        base
    }

    fn args(&mut self, args: &FunctionArgs) -> Vec<ExprId> {
        match args {
            FunctionArgs::Parentheses { arguments, .. } => {
                arguments.iter().map(|argument| self.expr(argument)).collect()
            }
            FunctionArgs::String(token) => vec![self.add(Expr::Text(text(token)), position(token))],
            FunctionArgs::TableConstructor(table) => vec![self.table(table)],
            _ => Vec::new(),
        }
    }

    fn made_call(&mut self, callee: ExprId, args: Vec<ExprId>, at: Position) -> ExprId {
        let raises = self.script.is_global(callee, "error");
        if let [table, _, ..] = args.as_slice()
            && self.script.is_global(callee, "table.insert")
        {
            self.grow(*table);
        }
        let call = self.add(Expr::Call { callee, args }, at);
        self.statements.push(Statement::Call(call));
        let Some(frame) = self.frames.last() else { return call };
        if let Some(function) = self.script.functions.get_mut(frame.function) {
            function.calls.push(call);
        }
        let mut is_own = true;
        for id in frame.loops.iter().rev() {
            let Some(around) = self.script.loops.get_mut(*id) else { continue };
            around.calls.push(call);
            if is_own {
                around.own_calls.push(call);
            }
            is_own &= !around.is_conditional();
        }
        if raises {
            self.exit(&self.loops());
            self.statements.push(Statement::Return);
        }
        call
    }

    fn function(&mut self, body: &FunctionBody, keyword: &TokenReference) -> ExprId {
        let id = self.script.functions.len();
        self.script.functions.push(Function::default());
        self.frames.push(Frame { function: id, loops: Vec::new(), guard: None });
        self.scopes.push(HashMap::new());
        let parameters = body
            .parameters()
            .iter()
            .filter_map(|parameter| match parameter {
                Parameter::Name(name) => Some(self.declare(&word(name), true)),
                _ => None,
            })
            .collect();
        let statements = self.block(body.block());
        self.scopes.pop();
        self.frames.pop();
        if let Some(function) = self.script.functions.get_mut(id) {
            (function.parameters, function.body) = (parameters, statements);
        }
        self.add(Expr::Function(id), position(keyword))
    }

    /// Gives the parameters of functions what they are called with.
    fn pass_arguments(&mut self) {
        let mut passed = Vec::new();
        for (expr, _) in &self.script.exprs {
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
}

fn binary(operator: &BinOp) -> Binary {
    match operator {
        BinOp::And(_) => Binary::And,
        BinOp::Or(_) => Binary::Or,
        BinOp::TwoDots(_) => Binary::Concat,
        BinOp::Plus(_) => Binary::Plus,
        BinOp::Minus(_) => Binary::Minus,
        BinOp::GreaterThan(_)
        | BinOp::GreaterThanEqual(_)
        | BinOp::LessThan(_)
        | BinOp::LessThanEqual(_)
        | BinOp::TildeEqual(_)
        | BinOp::TwoEqual(_) => Binary::Compare,
        _ => Binary::Arithmetic,
    }
}

/// A name or a number.
fn word(token: &TokenReference) -> String {
    token.token().to_string()
}

/// What a string literal stands for.
fn text(token: &TokenReference) -> String {
    let TokenType::StringLiteral { literal, quote_type, .. } = token.token_type() else {
        return String::new();
    };
    if *quote_type == full_moon::tokenizer::StringLiteralQuoteType::Brackets {
        return literal.strip_prefix('\n').unwrap_or(literal).to_owned();
    }
    unescaped(literal)
}

fn unescaped(literal: &str) -> String {
    let mut text = String::new();
    let mut characters = literal.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some(digit) if digit.is_ascii_digit() => {
                let mut code = digit.to_digit(10).unwrap_or_default();
                for _ in 0..2 {
                    let Some(next) = characters.peek().and_then(|next| next.to_digit(10)) else { break };
                    code = code * 10 + next;
                    characters.next();
                }
                text.extend(char::from_u32(code));
            }
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}
