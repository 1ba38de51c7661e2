//! A script as the rules see it: expressions with their variables resolved, statements in their order, loops and functions
//! with what is in them.
//!
//! Everything refers to expressions, variables, loops and functions by number, so that nothing here recurses with the
//! source's nesting.

/// The number of an expression.
pub(crate) type ExprId = usize;
/// The number of a variable.
pub(crate) type VarId = usize;
/// The number of a function; 0 is the script itself.
pub(crate) type FnId = usize;
/// The number of a loop.
pub(crate) type LoopId = usize;

/// The script itself.
pub(crate) const SCRIPT: FnId = 0;

/// Values of a variable that are looked at: hostile scripts have more.
const MAX_VALUES: usize = 100;

/// Values of a variable that are looked at for what it is a name of.
const MAX_ALIASED: usize = 8;

/// Where something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The character on its line, from 1.
    pub(crate) column: usize,
}

/// An operator of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    And,
    Or,
    Concat,
    /// Comparisons.
    Compare,
    Plus,
    Minus,
    /// Other arithmetic.
    Arithmetic,
}

/// An operator of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Minus,
    Not,
    Length,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Nil,
    Bool(bool),
    /// As it is written.
    Number(String),
    /// What a string literal stands for.
    Text(String),
    Variable(VarId),
    /// `base[key]`, `base.key`
    Index {
        base: ExprId,
        key: ExprId,
    },
    Call {
        callee: ExprId,
        args: Vec<ExprId>,
    },
    Function(FnId),
    /// Keys, where there are any, and values.
    Table(Vec<(Option<ExprId>, ExprId)>),
    Unary(Unary, ExprId),
    Binary(Binary, ExprId, ExprId),
    /// `...` and whatever is not known.
    Unknown,
}

/// What a variable is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// The value of an expression.
    Of(ExprId),
    /// An element of what a loop goes over, or one of several values of a call.
    PartOf(ExprId),
}

/// A local or global variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) is_global: bool,
    /// Whether it is a function's parameter.
    pub(crate) is_parameter: bool,
    /// All that it is ever given, parameters by the calls in this script.
    pub(crate) values: Vec<Value>,
}

/// A function.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Function {
    pub(crate) parameters: Vec<VarId>,
    pub(crate) body: Vec<Statement>,
    /// The first value of each `return`.
    pub(crate) returns: Vec<ExprId>,
    /// All calls in it, not those of functions in it.
    pub(crate) calls: Vec<ExprId>,
}

/// Kinds of loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopKind {
    /// `while`, with its condition.
    While(ExprId),
    /// `repeat`, with the condition that ends it.
    Repeat(ExprId),
    /// `for i = start, end`, with the end.
    Numeric(ExprId),
    /// `for … in iterator`, with the iterator.
    Generic(ExprId),
}

/// A loop.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loop {
    pub(crate) position: Position,
    pub(crate) kind: LoopKind,
    pub(crate) body: Vec<Statement>,
    /// What has to hold for a `break`, `return` or `error` in it: the condition of the innermost `if`, if there is one.
    pub(crate) exits: Vec<Option<ExprId>>,
    /// Variables that are given something in it.
    pub(crate) assigned: Vec<(VarId, Value)>,
    /// Variables whose tables get another element in it.
    pub(crate) grown: Vec<VarId>,
    /// The first variable that is declared in it.
    pub(crate) first_variable: VarId,
    /// All calls in it and in loops in it.
    pub(crate) calls: Vec<ExprId>,
    /// The calls that are in no `while` or `repeat` within it.
    pub(crate) own_calls: Vec<ExprId>,
    /// The condition of the innermost `if` around it, within the same loop.
    pub(crate) outer_guard: Option<ExprId>,
}

impl Loop {
    /// Whether it is a `while` or `repeat`.
    pub(crate) fn is_conditional(&self) -> bool {
        matches!(self.kind, LoopKind::While(_) | LoopKind::Repeat(_))
    }

    /// Whether it adds elements to the table of this variable, which was there before.
    pub(crate) fn grows(&self, variable: VarId) -> bool {
        variable < self.first_variable && self.grown.contains(&variable)
    }
}

/// A statement, as far as its order matters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Statement {
    /// A call is made.
    Call(ExprId),
    /// A loop begins here.
    Loop(LoopId),
    /// One of these is done.
    Either(Vec<Vec<Statement>>),
    /// The function ends here.
    Return,
}

/// A script.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Script {
    pub(crate) exprs: Vec<(Expr, Position)>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) functions: Vec<Function>,
    pub(crate) loops: Vec<Loop>,
}

impl Script {
    /// The expression of this number.
    pub(crate) fn expr(&self, id: ExprId) -> &Expr {
        self.exprs.get(id).map_or(&Expr::Unknown, |(expr, _)| expr)
    }

    /// Where it is.
    pub(crate) fn position(&self, id: ExprId) -> Position {
        self.exprs.get(id).map_or_else(Position::default, |(_, position)| *position)
    }

    /// What a variable is given, as far as it is looked at.
    pub(crate) fn values(&self, id: VarId) -> &[Value] {
        let values = self.variables.get(id).map_or(&[][..], |variable| &variable.values);
        values.get(..MAX_VALUES).unwrap_or(values)
    }

    /// The expressions whose values a variable is ever given.
    pub(crate) fn assigned(&self, id: VarId) -> impl Iterator<Item = ExprId> {
        self.values(id).iter().filter_map(|value| match value {
            Value::Of(value) => Some(*value),
            Value::PartOf(_) => None,
        })
    }

    /// The expressions that the values of a variable come from.
    pub(crate) fn sources(&self, id: VarId) -> impl Iterator<Item = ExprId> {
        self.values(id).iter().map(|(Value::Of(value) | Value::PartOf(value))| *value)
    }

    /// Whether this is the global, or the member of a global table, of this name.
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
                is_variable(*base, table) && matches!(self.expr(*key), Expr::Text(key) if key == member)
            }
            _ => false,
        }
    }

    /// What a name stands for, or the expression itself.
    pub(crate) fn aliased(&self, id: ExprId) -> impl Iterator<Item = ExprId> {
        let values = match self.expr(id) {
            Expr::Variable(variable) => Some(self.assigned(*variable).take(MAX_ALIASED)),
            _ => None,
        };
        std::iter::once(id).chain(values.into_iter().flatten())
    }

    /// The functions of this script that an expression may stand for.
    pub(crate) fn callees(&self, callee: ExprId) -> impl Iterator<Item = FnId> {
        self.aliased(callee).filter_map(|id| match self.expr(id) {
            Expr::Function(function) => Some(*function),
            _ => None,
        })
    }
}
