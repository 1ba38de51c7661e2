//! Conversion of the tree of `full_moon` to a [`Script`].
//!
//! [`Builder`] tracks scopes, loops and the order of statements. This file converts statements, and `expressions` converts expressions.

mod builder;
mod expressions;

use std::mem;

use full_moon::ast::{Block, If, LastStmt, Stmt, Var};
use full_moon::tokenizer::TokenReference;

use self::builder::Builder;
use crate::lint::source::syntax::{Expr, ExprId, LoopKind, Script, Statement, Value, VarId};
use crate::lua::Position;

/// Converts the tree of a source.
///
/// # Errors
/// Returns the position and message of the first error that the parser does not detect.
pub(crate) fn lower(block: &Block, source: &str) -> Result<Script, (Position, &'static str)> {
    let mut lowering = Lowering { source, builder: Builder::default(), statements: Vec::new() };
    let body = lowering.block(block);
    lowering.builder.finish(body)
}

/// Position of a token. `full_moon` takes time exponential in the depth of a tree to find the position of the tree.
fn position(token: &TokenReference) -> Position {
    token.token().start_position().into()
}

/// Text of a name, number or string literal.
fn word(token: &TokenReference) -> String {
    token.token().to_string()
}

/// Conversion in progress.
#[derive(Debug)]
struct Lowering<'s> {
    /// Original source; numbers in the tree may differ from it.
    source: &'s str,
    builder: Builder,
    /// Statements of the current block so far.
    statements: Vec<Statement>,
}

impl Lowering<'_> {
    /// Converts a block in its own scope.
    fn block(&mut self, block: &Block) -> Vec<Statement> {
        self.builder.push_scope();
        let outer = mem::take(&mut self.statements);
        self.statements_of(block);
        self.builder.pop_scope();
        mem::replace(&mut self.statements, outer)
    }

    fn statements_of(&mut self, block: &Block) {
        for statement in block.stmts() {
            self.statement(statement);
        }
        match block.last_stmt() {
            Some(LastStmt::Break(token)) => self.builder.record_break(position(token)),
            Some(LastStmt::Return(values)) => {
                let values: Vec<ExprId> = values.returns().iter().map(|value| self.expr(value)).collect();
                self.builder.record_return(&values);
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
                let targets: Vec<ExprId> =
                    assignment.variables().iter().map(|target| self.target(target)).collect();
                self.builder.assign_targets(&targets, &values);
            }
            Stmt::LocalAssignment(local) => {
                let values: Vec<ExprId> = local.expressions().iter().map(|value| self.expr(value)).collect();
                let targets: Vec<Option<VarId>> =
                    local.names().iter().map(|name| Some(self.builder.declare(&word(name)))).collect();
                self.builder.assign_all(&targets, &values);
            }
            Stmt::Do(block) => {
                let inner = self.block(block.block());
                self.statements.extend(inner);
            }
            Stmt::FunctionCall(call) => {
                self.call(call);
            }
            Stmt::FunctionDeclaration(declaration) => {
                let name = declaration.name();
                let mut names = name.names().iter().chain(name.method_name());
                let Some(first) = names.next() else { return };
                let mut target = self.name(first);
                let mut field = None;
                for name in names {
                    let key = self.key(name);
                    field = Some((target, key));
                    target = self.builder.add(Expr::Index { base: target, key }, position(first));
                }
                let function = self.method(
                    declaration.body(),
                    declaration.function_token(),
                    name.method_name().is_some(),
                );
                match (field, self.builder.expr(target)) {
                    (Some((table, key)), _) => self.builder.assign_element(table, key, function),
                    (None, Expr::Variable(variable)) => {
                        let variable = *variable;
                        self.builder.assign(variable, Value::Of(function));
                    }
                    (None, _) => {}
                }
                self.builder.record_global_write(target, position(declaration.function_token()), true);
            }
            Stmt::LocalFunction(local) => {
                let variable = self.builder.declare(&word(local.name()));
                let function = self.function(local.body(), local.local_token());
                self.builder.assign(variable, Value::Of(function));
            }
            Stmt::If(branches) => self.branches(branches),
            Stmt::While(while_loop) => {
                let id = self
                    .builder
                    .begin_loop(position(while_loop.while_token()), LoopKind::While(self.builder.unknown()));
                let outer = mem::take(&mut self.statements);
                let condition = self.expr(while_loop.condition());
                let mut body = mem::replace(&mut self.statements, outer);
                body.extend(self.block(while_loop.block()));
                self.builder.end_loop(id, LoopKind::While(condition), body);
                self.statements.push(Statement::Loop(id));
            }
            Stmt::Repeat(repeat) => {
                let id = self
                    .builder
                    .begin_loop(position(repeat.repeat_token()), LoopKind::Repeat(self.builder.unknown()));
                // The variables of the body are in scope in the condition.
                self.builder.push_scope();
                let outer = mem::take(&mut self.statements);
                self.statements_of(repeat.block());
                let condition = self.expr(repeat.until());
                self.builder.pop_scope();
                let body = mem::replace(&mut self.statements, outer);
                self.builder.end_loop(id, LoopKind::Repeat(condition), body);
                self.statements.push(Statement::Loop(id));
            }
            Stmt::NumericFor(numeric) => {
                let start = self.expr(numeric.start());
                let end = self.expr(numeric.end());
                let step = numeric.step().map(|step| self.expr(step));
                let names = std::iter::once(numeric.index_variable());
                let kind = LoopKind::Numeric { start, end, step };
                self.for_loop(numeric.for_token(), kind, names, start, numeric.block());
            }
            Stmt::GenericFor(generic) => {
                let iterators: Vec<ExprId> =
                    generic.expressions().iter().map(|value| self.expr(value)).collect();
                let iterator = self.iterator(&iterators);
                let (names, block) = (generic.names().iter(), generic.block());
                self.for_loop(generic.for_token(), LoopKind::Generic(iterator), names, iterator, block);
            }
            _ => {}
        }
    }

    /// Iterator of a `for` loop; `in next, table` is treated like `in next(table)`.
    fn iterator(&mut self, iterators: &[ExprId]) -> ExprId {
        match *iterators {
            [next, table, ..] => {
                let position = self.builder.position(next);
                self.builder.add(Expr::Call { callee: next, args: vec![table] }, position)
            }
            [iterator] => iterator,
            [] => self.builder.unknown(),
        }
    }

    /// Converts a `for` loop whose variables are set to parts of the value of `source`.
    fn for_loop<'a>(
        &mut self,
        keyword: &TokenReference,
        kind: LoopKind,
        names: impl Iterator<Item = &'a TokenReference>,
        source: ExprId,
        block: &Block,
    ) {
        let id = self.builder.begin_loop(position(keyword), kind);
        self.builder.push_scope();
        for name in names {
            let variable = self.builder.declare(&word(name));
            self.builder.assign(variable, Value::PartOf(source));
        }
        let body = self.block(block);
        self.builder.pop_scope();
        self.builder.end_loop(id, kind, body);
        self.statements.push(Statement::Loop(id));
    }

    fn branches(&mut self, branches: &If) {
        let outer_guard = self.builder.guard();
        let mut ways = Vec::new();
        let condition = self.expr(branches.condition());
        self.builder.enter_guard(condition, outer_guard);
        ways.push(self.block(branches.block()));
        let mut otherwise = self.negated(condition);
        self.builder.enter_guard(otherwise, outer_guard);
        for else_if in branches.else_if().into_iter().flatten() {
            let condition = self.expr(else_if.condition());
            self.builder.enter_guard(condition, Some(otherwise));
            ways.push(self.block(else_if.block()));
            let outer = otherwise;
            otherwise = self.negated(condition);
            self.builder.enter_guard(otherwise, Some(outer));
        }
        ways.push(branches.else_block().map(|block| self.block(block)).unwrap_or_default());
        self.builder.set_guard(outer_guard);
        self.statements.push(Statement::Branches(ways));
    }

    /// Converts the target of an assignment: a variable, or an element of a table.
    fn target(&mut self, target: &Var) -> ExprId {
        let target = self.var(target);
        if let Expr::Index { base, .. } = *self.builder.expr(target) {
            self.builder.grow(base);
        }
        target
    }
}
