//! Conversion of expressions.

use std::mem;

use full_moon::ast::{
    BinOp, Call, Expression, Field, FunctionArgs, FunctionBody, FunctionCall, Index, Parameter, Prefix,
    Suffix, TableConstructor, UnOp, Var,
};
use full_moon::tokenizer::{Symbol, TokenReference, TokenType};

use super::{Lowering, position, word};
use crate::lint::source::syntax::{Binary, Comparison, Expr, ExprId, Statement, Unary, VarId};
use crate::lua::{Position, string_value};

impl Lowering<'_> {
    pub(super) fn expr(&mut self, expression: &Expression) -> ExprId {
        let (expr, position) = match expression {
            Expression::BinaryOperator { lhs, binop, rhs } => {
                let left = self.expr(lhs);
                let right = match binop {
                    BinOp::And(_) | BinOp::Or(_) => {
                        self.conditional(left, rhs, matches!(binop, BinOp::Or(_)))
                    }
                    _ => self.expr(rhs),
                };
                (Expr::Binary(binary(binop), left, right), self.builder.position(left))
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
            Expression::Number(token) => (Expr::Number(self.number(token)), position(token)),
            Expression::String(token) => (Expr::String(string_value(&word(token))), position(token)),
            Expression::Symbol(token) => {
                let expr = match token.token_type() {
                    TokenType::Symbol { symbol: Symbol::True } => Expr::Bool(true),
                    TokenType::Symbol { symbol: Symbol::False } => Expr::Bool(false),
                    TokenType::Symbol { symbol: Symbol::Nil } => Expr::Nil,
                    TokenType::Symbol { symbol: Symbol::Ellipsis } => {
                        self.builder.record_varargs(position(token));
                        Expr::Varargs
                    }
                    _ => Expr::Unknown,
                };
                (expr, position(token))
            }
            Expression::Var(var) => return self.var(var),
            _ => (Expr::Unknown, Position::default()),
        };
        self.builder.add(expr, position)
    }

    /// Text of a number in the source.
    fn number(&self, token: &TokenReference) -> String {
        let (start, end) = (token.token().start_position(), token.token().end_position());
        self.source.get(start.bytes()..end.bytes()).unwrap_or_default().to_owned()
    }

    /// Converts the right operand of `and` or `or`, which is evaluated only for some values of the left one.
    fn conditional(&mut self, left: ExprId, right: &Expression, is_or: bool) -> ExprId {
        let outer = mem::take(&mut self.statements);
        let guard = self.builder.guard();
        let condition = if is_or { self.negated(left) } else { left };
        self.builder.set_guard(Some(condition));
        let right = self.expr(right);
        self.builder.set_guard(guard);
        let branch = mem::replace(&mut self.statements, outer);
        if !branch.is_empty() {
            self.statements.push(Statement::Branches(vec![branch, Vec::new()]));
        }
        right
    }

    /// Negation of a condition.
    pub(super) fn negated(&mut self, condition: ExprId) -> ExprId {
        let position = self.builder.position(condition);
        self.builder.add(Expr::Unary(Unary::Not, condition), position)
    }

    fn table(&mut self, table: &TableConstructor) -> ExprId {
        let fields = table.fields().iter().filter_map(|field| self.field(field)).collect();
        let (brace, _) = table.braces().tokens();
        self.builder.add(Expr::Table(fields), position(brace))
    }

    fn field(&mut self, field: &Field) -> Option<(Option<ExprId>, ExprId)> {
        Some(match field {
            Field::ExpressionKey { key, value, .. } => (Some(self.expr(key)), self.expr(value)),
            Field::NameKey { key, value, .. } => (Some(self.key(key)), self.expr(value)),
            Field::NoKey(value) => (None, self.expr(value)),
            _ => return None,
        })
    }

    /// Converts a name that stands for a string: `{name = …}`, `a.name`, `a:name()`.
    pub(super) fn key(&mut self, name: &TokenReference) -> ExprId {
        self.builder.add(Expr::String(word(name)), position(name))
    }

    pub(super) fn var(&mut self, var: &Var) -> ExprId {
        match var {
            Var::Name(name) => self.name(name),
            Var::Expression(chain) => self.chain(chain.prefix(), chain.suffixes()),
            _ => self.builder.unknown(),
        }
    }

    pub(super) fn name(&mut self, name: &TokenReference) -> ExprId {
        let variable = self.builder.resolve(&word(name));
        self.builder.add(Expr::Variable(variable), position(name))
    }

    pub(super) fn call(&mut self, call: &FunctionCall) -> ExprId {
        self.chain(call.prefix(), call.suffixes())
    }

    /// Converts `a.b[c](d):e(f)`.
    fn chain<'a>(&mut self, prefix: &Prefix, suffixes: impl Iterator<Item = &'a Suffix>) -> ExprId {
        let mut base = match prefix {
            Prefix::Expression(expression) => self.expr(expression),
            Prefix::Name(name) => self.name(name),
            _ => self.builder.unknown(),
        };
        let at = self.builder.position(base);
        for suffix in suffixes {
            base = match suffix {
                Suffix::Index(Index::Brackets { expression, .. }) => {
                    let key = self.expr(expression);
                    self.builder.add(Expr::Index { base, key }, at)
                }
                Suffix::Index(Index::Dot { name, .. }) => {
                    let key = self.key(name);
                    self.builder.add(Expr::Index { base, key }, at)
                }
                Suffix::Call(Call::AnonymousCall(args)) => {
                    let args = self.args(args);
                    self.add_call(base, args, at)
                }
                Suffix::Call(Call::MethodCall(method)) => {
                    let key = self.key(method.name());
                    let callee = self.builder.add(Expr::Index { base, key }, at);
                    let mut args = self.args(method.args());
                    args.insert(0, base);
                    self.add_call(callee, args, at)
                }
                _ => self.builder.unknown(),
            };
        }
        base
    }

    fn args(&mut self, args: &FunctionArgs) -> Vec<ExprId> {
        match args {
            FunctionArgs::Parentheses { arguments, .. } => {
                arguments.iter().map(|argument| self.expr(argument)).collect()
            }
            FunctionArgs::String(token) => {
                vec![self.builder.add(Expr::String(string_value(&word(token))), position(token))]
            }
            FunctionArgs::TableConstructor(table) => vec![self.table(table)],
            _ => Vec::new(),
        }
    }

    fn add_call(&mut self, callee: ExprId, args: Vec<ExprId>, at: Position) -> ExprId {
        let condition = args.first().copied();
        let (call, raises) = self.builder.add_call(callee, args, at);
        if let Some(condition) = condition.filter(|_| self.builder.is_global(callee, "assert")) {
            let negated = self.negated(condition);
            self.builder.record_assertion(negated);
        }
        self.statements.push(Statement::Call(call));
        if raises {
            self.statements.push(Statement::Return);
        }
        call
    }

    pub(super) fn function(&mut self, body: &FunctionBody, keyword: &TokenReference) -> ExprId {
        self.method(body, keyword, false)
    }

    /// Converts a function, which has the parameter `self` if it is a method.
    pub(super) fn method(
        &mut self,
        body: &FunctionBody,
        keyword: &TokenReference,
        is_method: bool,
    ) -> ExprId {
        let takes = body.parameters();
        let is_variadic = takes.iter().any(|parameter| matches!(parameter, Parameter::Ellipsis(_)));
        let id = self.builder.begin_function(is_variadic);
        let mut parameters: Vec<VarId> =
            is_method.then(|| self.builder.declare("self")).into_iter().collect();
        parameters.extend(takes.iter().filter_map(|parameter| match parameter {
            Parameter::Name(name) => Some(self.builder.declare(&word(name))),
            _ => None,
        }));
        let statements = self.block(body.block());
        self.builder.end_function(id, parameters, statements);
        self.builder.add(Expr::Function(id), position(keyword))
    }
}

fn binary(operator: &BinOp) -> Binary {
    match operator {
        BinOp::And(_) => Binary::And,
        BinOp::Or(_) => Binary::Or,
        BinOp::TwoDots(_) => Binary::Concat,
        BinOp::Plus(_) => Binary::Plus,
        BinOp::Minus(_) => Binary::Minus,
        BinOp::GreaterThan(_) | BinOp::GreaterThanEqual(_) => Binary::Compare(Comparison::Greater),
        BinOp::LessThan(_) | BinOp::LessThanEqual(_) => Binary::Compare(Comparison::Less),
        BinOp::Star(_) => Binary::Times,
        BinOp::Slash(_) => Binary::Divide,
        BinOp::Percent(_) => Binary::Modulo,
        BinOp::Caret(_) => Binary::Power,
        BinOp::TildeEqual(_) => Binary::Compare(Comparison::Unequal),
        _ => Binary::Compare(Comparison::Equal),
    }
}
