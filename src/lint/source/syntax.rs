//! Script as the rules see it: expressions with resolved variables, statements in their order, loops and functions with their
//! contents.
//!
//! Expressions, variables, loops and functions refer to each other by id, so that nothing recurses with the nesting of the
//! source except [`Statement`], whose depth is limited.

use crate::lint::source::arena::{Arena, Id, ids};
use crate::lua::Position;

ids! {
    /// Id of an expression.
    ExprId;
    /// Id of a variable.
    VarId;
    /// Id of a function.
    FnId;
    /// Id of a loop.
    LoopId;
}

/// Maximum number of values of a variable that are analysed.
const MAX_VALUES: usize = 100;

/// Maximum number of values of a variable that are analysed as aliases.
const MAX_ALIASES: usize = 8;

/// Binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    And,
    Or,
    Concat,
    /// Any comparison.
    Compare,
    Plus,
    Minus,
    /// Any other arithmetic.
    Arithmetic,
}

/// Unary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Minus,
    Not,
    Length,
}

/// Expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Nil,
    Bool(bool),
    /// Number as it is written.
    Number(String),
    /// Value of a string literal.
    String(String),
    Variable(VarId),
    /// `base[key]`, `base.key`.
    Index {
        base: ExprId,
        key: ExprId,
    },
    Call {
        callee: ExprId,
        args: Vec<ExprId>,
    },
    Function(FnId),
    /// Keys, if given, and values.
    Table(Vec<(Option<ExprId>, ExprId)>),
    Unary(Unary, ExprId),
    Binary(Binary, ExprId, ExprId),
    /// `...` and everything else.
    Unknown,
}

/// Value that is assigned to a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// Value of an expression.
    Of(ExprId),
    /// Element of the collection that a loop iterates over, or one of several results of a call.
    PartOf(ExprId),
}

/// Local or global variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) is_global: bool,
    /// All assignments; for parameters also the arguments of the calls in this script.
    pub(crate) values: Vec<Value>,
}

/// Function, or the script itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Function {
    pub(crate) parameters: Vec<VarId>,
    pub(crate) body: Vec<Statement>,
    /// First value of each `return`.
    pub(crate) returns: Vec<ExprId>,
    /// All calls in it, without those in nested functions.
    pub(crate) calls: Vec<ExprId>,
}

/// Kind of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopKind {
    /// `while` and its condition.
    While(ExprId),
    /// `repeat` and the condition that ends it.
    Repeat(ExprId),
    /// `for i = start, end` and the end.
    Numeric(ExprId),
    /// `for … in iterator` and the iterator.
    Generic(ExprId),
}

impl LoopKind {
    /// Keyword that begins the loop.
    pub(crate) const fn keyword(self) -> &'static str {
        match self {
            Self::While(_) => "while",
            Self::Repeat(_) => "repeat",
            Self::Numeric(_) | Self::Generic(_) => "for",
        }
    }

    /// True for `while` and `repeat`.
    pub(crate) const fn is_conditional(self) -> bool {
        matches!(self, Self::While(_) | Self::Repeat(_))
    }
}

/// Loop.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loop {
    pub(crate) position: Position,
    pub(crate) kind: LoopKind,
    pub(crate) body: Vec<Statement>,
    /// For each `break`, `return` and `error` in it: the condition of the innermost `if`; `None` if it is unconditional.
    pub(crate) exits: Vec<Option<ExprId>>,
    /// Assignments in it.
    pub(crate) assigned: Vec<(VarId, Value)>,
    /// Variables whose tables get more elements in it.
    pub(crate) grown: Vec<VarId>,
    /// First variable that is declared in it; all earlier ones are older than the loop.
    pub(crate) first_variable: VarId,
    /// All calls in it, also those in nested loops.
    pub(crate) calls: Vec<ExprId>,
    /// Calls that are in no nested `while` or `repeat`.
    pub(crate) own_calls: Vec<ExprId>,
    /// Condition of the innermost `if` around it, within the same loop.
    pub(crate) outer_guard: Option<ExprId>,
}

impl Loop {
    /// True if it adds elements to the table of a variable that is older than the loop.
    pub(crate) fn grows(&self, variable: VarId) -> bool {
        variable < self.first_variable && self.grown.contains(&variable)
    }
}

/// Statement, as far as the order of statements matters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Statement {
    Call(ExprId),
    Loop(LoopId),
    /// Branches of an `if`; one of them runs.
    Branches(Vec<Vec<Statement>>),
    /// End of the function.
    Return,
}

/// Script.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Script {
    pub(crate) exprs: Arena<ExprId, (Expr, Position)>,
    pub(crate) variables: Arena<VarId, Variable>,
    pub(crate) functions: Arena<FnId, Function>,
    pub(crate) loops: Arena<LoopId, Loop>,
    /// The script itself.
    pub(crate) main: FnId,
    /// Expression that stands for all that is not analysed.
    pub(crate) unknown: ExprId,
}

impl Default for Script {
    fn default() -> Self {
        let (mut exprs, mut functions) = (Arena::default(), Arena::default());
        Self {
            main: functions.push(Function::default()),
            unknown: exprs.push((Expr::Unknown, Position::default())),
            exprs,
            functions,
            variables: Arena::default(),
            loops: Arena::default(),
        }
    }
}

impl Script {
    pub(crate) fn expr(&self, id: ExprId) -> &Expr {
        self.exprs.get(id).map_or(&Expr::Unknown, |(expr, _)| expr)
    }

    /// Position of an expression.
    pub(crate) fn position(&self, id: ExprId) -> Position {
        self.exprs.get(id).map_or_else(Position::default, |(_, position)| *position)
    }

    /// The first [`MAX_VALUES`] values of a variable.
    pub(crate) fn values(&self, id: VarId) -> &[Value] {
        let values = self.variables.get(id).map_or(&[][..], |variable| &variable.values);
        values.get(..MAX_VALUES).unwrap_or(values)
    }

    /// Expressions whose values are assigned to a variable.
    pub(crate) fn assigned(&self, id: VarId) -> impl Iterator<Item = ExprId> {
        self.values(id).iter().filter_map(|value| match value {
            Value::Of(value) => Some(*value),
            Value::PartOf(_) => None,
        })
    }

    /// Expressions whose values, or parts of them, are assigned to a variable.
    pub(crate) fn sources(&self, id: VarId) -> impl Iterator<Item = ExprId> {
        self.values(id).iter().map(|(Value::Of(value) | Value::PartOf(value))| *value)
    }

    /// True if an expression is the global, or the member of a global table, of this name.
    pub(crate) fn is_global(&self, id: ExprId, name: &str) -> bool {
        let is_variable = |id: ExprId, name: &str| match self.expr(id) {
            Expr::Variable(variable) => {
                let variable = self.variables.get(*variable);
                variable.is_some_and(|variable| variable.is_global && variable.name == name)
            }
            _ => false,
        };
        match (name.split_once('.'), self.expr(id)) {
            (None, _) => is_variable(id, name),
            (Some((table, member)), Expr::Index { base, key }) => {
                is_variable(*base, table) && matches!(self.expr(*key), Expr::String(key) if key == member)
            }
            _ => false,
        }
    }

    /// An expression and, if it is a variable, the expressions that are assigned to it.
    pub(crate) fn aliased(&self, id: ExprId) -> impl Iterator<Item = ExprId> {
        let values = match self.expr(id) {
            Expr::Variable(variable) => Some(self.assigned(*variable).take(MAX_ALIASES)),
            _ => None,
        };
        std::iter::once(id).chain(values.into_iter().flatten())
    }

    /// Functions of this script that a callee may be.
    pub(crate) fn callees(&self, callee: ExprId) -> impl Iterator<Item = FnId> {
        self.aliased(callee).filter_map(|id| match self.expr(id) {
            Expr::Function(function) => Some(*function),
            _ => None,
        })
    }

    /// First values of the functions that a callee may be.
    pub(crate) fn returned(&self, callee: ExprId) -> impl Iterator<Item = ExprId> {
        let functions = self.callees(callee).filter_map(|id| self.functions.get(id));
        functions.flat_map(|function| function.returns.iter().copied())
    }
}
