//! Script in the form that is analysed: expressions with resolved variables, statements in source order, and loops and functions with
//! their contents.
//!
//! Expressions, variables, loops and functions refer to each other by id. Only [`Statement`] is recursive, and its depth is limited.

use std::collections::HashMap;

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

/// Maximum number of conditions around a call that are analysed.
const MAX_GUARDS: usize = 16;

/// Maximum number of subexpressions of two expressions that are compared.
const MAX_COMPARED: usize = 50;

/// Binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    And,
    Or,
    Concat,
    Compare(Comparison),
    Plus,
    Minus,
    Times,
    Divide,
    Modulo,
    Power,
}

/// Comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// `<` or `<=`.
    Less,
    /// `>` or `>=`.
    Greater,
    Equal,
    Unequal,
}

impl Comparison {
    /// Comparison that is true where this one is false.
    pub(crate) const fn negated(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::Greater => Self::Less,
            Self::Equal => Self::Unequal,
            Self::Unequal => Self::Equal,
        }
    }

    /// The same comparison with its operands exchanged.
    pub(crate) const fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::Greater => Self::Less,
            Self::Equal | Self::Unequal => self,
        }
    }
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
    /// Number as written.
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
    /// `...`.
    Varargs,
    /// Everything else.
    Unknown,
}

/// Value that is assigned to a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// Value of an expression.
    Of(ExprId),
    /// Element of the collection that a loop iterates over.
    PartOf(ExprId),
    /// Result of a call after the first one.
    ResultOf(ExprId),
}

impl Value {
    /// Expression that the value comes from.
    pub(crate) const fn source(self) -> ExprId {
        let (Self::Of(source) | Self::PartOf(source) | Self::ResultOf(source)) = self;
        source
    }
}

/// Local or global variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) is_global: bool,
    /// All assigned values; for a parameter, also the arguments of the calls in this script.
    pub(crate) values: Vec<Value>,
    /// Limits that the script clamps it to: `if n > 100 then n = 100 end`.
    pub(crate) limits: Vec<ExprId>,
    /// Values of its fields, if it is a table: those in its constructor, and those assigned by name.
    pub(crate) fields: HashMap<String, Vec<ExprId>>,
    /// Variables for the fields that are assigned after the constructor.
    pub(crate) field_variables: HashMap<String, VarId>,
}

/// Function, or the script itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Function {
    pub(crate) parameters: Vec<VarId>,
    /// True if it takes `...`.
    pub(crate) is_variadic: bool,
    pub(crate) body: Vec<Statement>,
    /// First value of each `return`.
    pub(crate) returns: Vec<ExprId>,
    /// Other values of each `return`.
    pub(crate) later_returns: Vec<ExprId>,
    /// All calls in it, except those in nested functions.
    pub(crate) calls: Vec<ExprId>,
    /// Variables whose tables gain elements in it.
    pub(crate) grown: Vec<VarId>,
    /// Condition of each exit (`return`, `error` or a failed `assert`): that of the innermost `if`.
    pub(crate) exits: Vec<Option<ExprId>>,
}

/// Type of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopKind {
    /// `while` and its condition.
    While(ExprId),
    /// `repeat` and the condition that ends it.
    Repeat(ExprId),
    /// `for i = start, end, step`.
    Numeric { start: ExprId, end: ExprId, step: Option<ExprId> },
    /// `for … in iterator` and the iterator.
    Generic(ExprId),
}

impl LoopKind {
    /// Keyword that begins the loop.
    pub(crate) const fn keyword(self) -> &'static str {
        match self {
            Self::While(_) => "while",
            Self::Repeat(_) => "repeat",
            Self::Numeric { .. } | Self::Generic(_) => "for",
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
    /// Condition of each exit (`break`, `return`, `error` or a failed `assert`): that of the innermost `if`; `None` if it is
    /// unconditional.
    pub(crate) exits: Vec<Option<ExprId>>,
    /// Assignments in it.
    pub(crate) assigned: Vec<(VarId, Value)>,
    /// Variables whose tables gain elements in it.
    pub(crate) grown: Vec<VarId>,
    /// First variable declared in it. Variables with lower ids are declared before the loop.
    pub(crate) first_variable: VarId,
    /// All calls in it, including those in nested loops.
    pub(crate) calls: Vec<ExprId>,
    /// Calls in it, except those in nested `while` and `repeat` loops.
    pub(crate) own_calls: Vec<ExprId>,
    /// Condition of the innermost `if` around it, within the same loop.
    pub(crate) outer_guard: Option<ExprId>,
    /// Innermost loop around it in the same function.
    pub(crate) parent: Option<LoopId>,
}

impl Loop {
    /// True if it adds elements to the table of a variable that is declared before the loop.
    pub(crate) fn grows(&self, variable: VarId) -> bool {
        variable < self.first_variable && self.grown.contains(&variable)
    }
}

/// Assignment to a global or to a field of a global table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GlobalWrite {
    pub(crate) position: Position,
    /// Name of the variable, with the fields.
    pub(crate) name: String,
    /// True for `function name()`.
    pub(crate) is_declaration: bool,
}

/// Statement, reduced to what matters for the order of execution.
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
    /// Condition of the innermost `if` around each call, within the same loop.
    pub(crate) guards: HashMap<ExprId, ExprId>,
    /// Condition of the `if` around another one, within the same loop, by the condition of the inner one.
    pub(crate) outer_guards: HashMap<ExprId, ExprId>,
    /// Condition of the innermost `if` around an assignment, within the same loop, by the assigned value.
    pub(crate) assignment_guards: HashMap<ExprId, ExprId>,
    /// Assignments to globals and to fields of global tables.
    pub(crate) global_writes: Vec<GlobalWrite>,
    /// The script itself.
    pub(crate) main: FnId,
    /// Expression that stands for everything that is not analysed.
    pub(crate) unknown: ExprId,
}

impl Default for Script {
    fn default() -> Self {
        let (mut exprs, mut functions) = (Arena::default(), Arena::default());
        Self {
            main: functions.push(Function { is_variadic: true, ..Function::default() }),
            unknown: exprs.push((Expr::Unknown, Position::default())),
            exprs,
            functions,
            variables: Arena::default(),
            loops: Arena::default(),
            guards: HashMap::new(),
            outer_guards: HashMap::new(),
            assignment_guards: HashMap::new(),
            global_writes: Vec::new(),
        }
    }
}

impl Script {
    pub(crate) fn expr(&self, id: ExprId) -> &Expr {
        self.exprs.get(id).map_or(&Expr::Unknown, |(expr, _)| expr)
    }

    /// Conditions of all `if`s around each call, innermost first.
    pub(crate) fn all_guards(&self) -> HashMap<ExprId, Vec<ExprId>> {
        let outer = |guard: &ExprId| self.outer_guards.get(guard).copied();
        let chain = |guard: ExprId| std::iter::successors(Some(guard), outer).take(MAX_GUARDS);
        let mut all: HashMap<ExprId, Vec<ExprId>> =
            self.guards.iter().map(|(call, guard)| (*call, chain(*guard).collect())).collect();
        for (_, around) in self.loops.iter() {
            for (guard, call) in around
                .outer_guard
                .iter()
                .flat_map(|guard| around.calls.iter().map(move |call| (*guard, call)))
            {
                let guards = all.entry(*call).or_default();
                if guards.len() < MAX_GUARDS {
                    guards.extend(chain(guard));
                }
            }
        }
        all
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
            Value::PartOf(_) | Value::ResultOf(_) => None,
        })
    }

    /// Expressions whose values, or parts of them, are assigned to a variable.
    pub(crate) fn sources(&self, id: VarId) -> impl Iterator<Item = ExprId> {
        self.values(id).iter().map(|value| value.source())
    }

    /// True if an expression is the global, or the member of a global table, with this name.
    pub(crate) fn is_global(&self, id: ExprId, name: &str) -> bool {
        match (name.split_once('.'), self.expr(id)) {
            (None, _) => self.is_global_variable(id, name),
            (Some((table, member)), Expr::Index { base, key }) => {
                self.is_name(*key, member)
                    && self.aliased(*base).iter().any(|base| self.is_global_variable(*base, table))
            }
            _ => false,
        }
    }

    /// True if an expression is the global with this name, including as a field of `_G`.
    fn is_global_variable(&self, id: ExprId, name: &str) -> bool {
        match self.expr(id) {
            Expr::Variable(variable) => {
                let variable = self.variables.get(*variable);
                variable.is_some_and(|variable| variable.is_global && variable.name == name)
            }
            Expr::Index { base, key } if self.is_name(*key, name) => match self.expr(*base) {
                Expr::Variable(table) => {
                    let table = self.variables.get(*table);
                    table.is_some_and(|table| table.is_global && table.name == "_G")
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// True if an expression is this string, or a variable that may have it as its value.
    fn is_name(&self, id: ExprId, name: &str) -> bool {
        self.aliased_values(id, |id| matches!(self.expr(id), Expr::String(text) if text == name))
    }

    /// True if an expression passes a check, or if it is a variable and one of its assigned values does.
    fn aliased_values(&self, id: ExprId, passes: impl Fn(ExprId) -> bool) -> bool {
        passes(id)
            || match self.expr(id) {
                Expr::Variable(variable) => self.assigned(*variable).take(MAX_ALIASES).any(passes),
                _ => false,
            }
    }

    /// An expression and the expressions that it may be an alias of: those assigned to it if it is a variable or a field of a table,
    /// and the operands of `and` and `or`.
    pub(crate) fn aliased(&self, id: ExprId) -> Vec<ExprId> {
        let mut aliases = vec![id];
        let mut next = 0;
        while let Some(id) = aliases.get(next).copied().filter(|_| aliases.len() <= MAX_ALIASES) {
            next += 1;
            let before = aliases.len();
            match self.expr(id) {
                Expr::Variable(variable) => aliases.extend(self.assigned(*variable).take(MAX_ALIASES)),
                Expr::Index { base, key } => aliases.extend(self.field(*base, *key).iter().take(MAX_ALIASES)),
                Expr::Binary(Binary::And | Binary::Or, left, right) => aliases.extend([*left, *right]),
                _ => {}
            }
            // A variable may be assigned to itself.
            if let Some((older, newer)) = aliases.split_at_checked(before) {
                let newer: Vec<ExprId> = newer.iter().copied().filter(|id| !older.contains(id)).collect();
                aliases.truncate(before);
                aliases.extend(newer);
            }
        }
        aliases
    }

    /// True if two expressions are written identically. They have the same value unless there is an assignment between them.
    pub(crate) fn is_same(&self, one: ExprId, other: ExprId) -> bool {
        let mut pairs = vec![(one, other)];
        let mut compared = 0;
        while let Some((one, other)) = pairs.pop() {
            compared += 1;
            if compared > MAX_COMPARED {
                return false;
            }
            match (self.expr(one), self.expr(other)) {
                (Expr::Binary(operator, a, b), Expr::Binary(same, c, d)) if operator == same => {
                    pairs.extend([(*a, *c), (*b, *d)]);
                }
                (Expr::Unary(operator, a), Expr::Unary(same, b)) if operator == same => pairs.push((*a, *b)),
                (Expr::Index { base: a, key: b }, Expr::Index { base: c, key: d }) => {
                    pairs.extend([(*a, *c), (*b, *d)]);
                }
                (Expr::Call { callee: a, args: left }, Expr::Call { callee: b, args: right })
                    if left.len() == right.len() =>
                {
                    pairs.push((*a, *b));
                    pairs.extend(left.iter().copied().zip(right.iter().copied()));
                }
                (Expr::Number(_) | Expr::String(_) | Expr::Variable(_), _)
                    if self.expr(one) == self.expr(other) => {}
                _ => return false,
            }
        }
        true
    }

    /// Values of a field or an element of the table in a variable.
    pub(crate) fn field(&self, base: ExprId, key: ExprId) -> &[ExprId] {
        let (Expr::Variable(table), Expr::String(key) | Expr::Number(key)) =
            (self.expr(base), self.expr(key))
        else {
            return &[];
        };
        let fields = |table: VarId| self.variables.get(table).and_then(|table| table.fields.get(key));
        fields(*table).or_else(|| fields(self.same_table(*table)?)).map_or(&[], Vec::as_slice)
    }

    /// Variable that always has the same value as `table`: the table that is `self` in its methods.
    fn same_table(&self, table: VarId) -> Option<VarId> {
        let mut tables = self.values(table).iter().map(|value| match self.expr(value.source()) {
            Expr::Variable(other) if matches!(value, Value::Of(_)) => Some(*other),
            _ => None,
        });
        let other = tables.find(|other| *other != Some(table))??;
        tables.all(|next| next == Some(other) || next == Some(table)).then_some(other)
    }

    /// Last value of a field of the table in a variable.
    pub(crate) fn named_field(&self, base: ExprId, key: &str) -> Option<ExprId> {
        let Expr::Variable(table) = self.expr(base) else { return None };
        self.variables.get(*table)?.fields.get(key)?.last().copied()
    }

    /// Variable that an expression refers to. A named field of a table is a variable, too, if it is assigned after the constructor.
    pub(crate) fn variable(&self, id: ExprId) -> Option<VarId> {
        match self.expr(id) {
            Expr::Variable(variable) => Some(*variable),
            Expr::Index { base, key } => match (self.expr(*base), self.expr(*key)) {
                (Expr::Variable(table), Expr::String(key)) => {
                    self.variables.get(*table)?.field_variables.get(key).copied()
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Functions of this script that a callee may be.
    pub(crate) fn callees(&self, callee: ExprId) -> impl Iterator<Item = FnId> {
        self.aliased(callee).into_iter().filter_map(|id| match self.expr(id) {
            Expr::Function(function) => Some(*function),
            _ => None,
        })
    }

    /// First values returned by the functions that a callee may be.
    pub(crate) fn returned(&self, callee: ExprId) -> impl Iterator<Item = ExprId> {
        let functions = self.callees(callee).filter_map(|id| self.functions.get(id));
        functions.flat_map(|function| function.returns.iter().copied())
    }
}
