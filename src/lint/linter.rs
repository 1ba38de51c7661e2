//! Runs all stages on one source: tokens, syntax tree, facts, rules, suppressions.

use std::borrow::Cow;
use std::collections::HashSet;
use std::thread;

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::analysis::limits::Limits;
use crate::lint::rule::{Check, Diagnostic, Origin, Rule, Source, Suppressed};
use crate::lint::rules::{RULES, rule};
use crate::lint::source::dialect;
use crate::lint::source::header::{self, Header};
use crate::lint::source::parse::parse;
use crate::lint::source::placeholders;
use crate::lint::source::suppressions::{Scope, Suppressions};
use crate::lint::source::syntax::{Expr, ExprId, Script, Value, Variable};
use crate::lua::{Position, Token, tokens};

/// Stack size of the thread that checks a script. How much of it is used depends on the nesting of the script.
const STACK_SIZE: usize = 64 << 20;

/// Maximum number of tokens in a script without commands, KEYS and ARGV; a longer source may be for another program.
const MAX_BARE_TOKENS: usize = 40;

/// Doubt about a finding in a literal, which may be only a part of a script.
const JOINED: Option<&str> = Some("; fine if the program concatenates this literal with other strings");

/// Name of the thread that checks a script.
pub(crate) const THREAD: &str = "lint";

/// Runs `work` on a thread with a stack of [`STACK_SIZE`] bytes; returns `None` if it panicked.
pub(crate) fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(THREAD.to_owned()).stack_size(STACK_SIZE);
        let thread = thread.spawn_scoped(scope, work);
        thread.ok().and_then(|thread| thread.join().ok())
    })
}

/// Checks a source with the rules that are on by default or named in `enabled`, given the limits that neighbouring scripts set. Returns
/// the diagnostics in source order, and the number of suppressed ones. The stack usage grows with the nesting of the source.
pub(crate) fn check(
    text: &str,
    origin: Origin,
    limits: &Limits,
    enabled: &[String],
) -> (Vec<Diagnostic>, usize) {
    let text = with_escaped_line_ends(text);
    let is_enabled = |rule: &Rule| rule.on_by_default || enabled.iter().any(|name| name == rule.name);
    let (header, body) = Header::parse(&text);
    let parameters = parameters(body, origin);
    let body = placeholders::named(body, &parameters);
    let tokens: Vec<Token<'_>> = tokens(&body).collect();
    let script = parse(&body, &tokens);
    let trims_lists = origin == Origin::Literal { trims_lists: true };
    let facts = script.as_ref().ok().map(|script| ScriptFacts::new(script, trims_lists, limits.clone()));
    let undefined = facts.as_ref().map(|facts| facts.calls.undefined()).unwrap_or_default();
    let suppressions = Suppressions::parse(&tokens);
    let is_for_redis = origin.is_literal()
        || header::names_lua(&text)
        || !suppressions.parsed.is_empty()
        || dialect::uses_redis(&tokens)
        || facts.as_ref().is_some_and(|facts| !facts.calls.all_redis().is_empty());
    let foreign = if origin == Origin::File && text.contains(dialect::NUL) {
        Some((Position::START, dialect::NUL))
    } else if is_for_redis {
        dialect::assertion(&tokens)
    } else {
        let module = facts.as_ref().and_then(|facts| module(facts.script));
        let class = || script.is_err().then(|| dialect::method(&tokens)).flatten();
        let settings = || facts.as_ref().and_then(|facts| settings(facts.script));
        dialect::foreign_name(&tokens).or(module).or_else(class).or_else(settings)
    };
    let source = Source {
        text: &text,
        origin,
        tokens: &tokens,
        parameters: &parameters,
        undefined: &undefined,
        is_for_redis,
        foreign,
        error: script.as_ref().err(),
    };

    // No other rule applies to Lua for another program.
    let applies = |rule: &Rule| source.foreign.is_none() || rule.name == "other-lua";
    let rules = || RULES.iter().filter(|rule| is_enabled(rule) && applies(rule));
    let checks = || rules().map(|rule| rule.check);

    let mut diagnostics = Vec::new();
    for check in checks() {
        if let (Check::Script(check), Some(facts)) = (check, &facts) {
            diagnostics.extend(check(facts, header));
        }
    }
    diagnostics.sort_by_key(Diagnostic::key);
    diagnostics.dedup_by_key(|diagnostic| diagnostic.key());
    for check in checks() {
        if let Check::Source(check) = check {
            diagnostics.extend(check(&source));
        }
    }

    for diagnostic in &mut diagnostics {
        if let Some(doubt) = doubt(&source, diagnostic.rule) {
            *diagnostic = diagnostic.clone().lowered(doubt);
        }
    }

    let before = diagnostics.len();
    let suppressed = suppress(&mut diagnostics, &suppressions, is_enabled);
    let count = before - diagnostics.len();
    for check in checks() {
        if let Check::Suppressions(check) = check {
            diagnostics.extend(check(&suppressed));
        }
    }
    diagnostics.sort_by_key(Diagnostic::key);
    (diagnostics, count)
}

/// Parameters of a script that a client replaces. In a literal they include the values that the program inserts, if the script is Lua
/// with names in place of them.
fn parameters(body: &str, origin: Origin) -> Vec<(Position, String)> {
    let parameters = placeholders::parameters(body);
    let values = if origin.is_literal() { placeholders::values(body) } else { Vec::new() };
    if values.is_empty() {
        return parameters;
    }
    let all = [parameters.as_slice(), &values].concat();
    let body = placeholders::named(body, &all);
    let is_lua = parse(&body, &tokens(&body).collect::<Vec<_>>()).is_ok();
    if is_lua { all } else { parameters }
}

/// Limits that a script sets; none if it can't be parsed.
pub(crate) fn limits(text: &str) -> Limits {
    let text = with_escaped_line_ends(text);
    let (_, body) = Header::parse(&text);
    let body = placeholders::named(body, &placeholders::parameters(body));
    let tokens: Vec<Token<'_>> = tokens(&body).collect();
    parse(&body, &tokens).map(|script| Limits::of(&script)).unwrap_or_default()
}

/// Reason why a finding in a source may not apply to the script that the server receives.
fn doubt(source: &Source<'_>, rule: &Rule) -> Option<&'static str> {
    match rule.name {
        "syntax-error" if source.origin.is_literal() => JOINED,
        // Another line of the script may declare the variable.
        "global-write" if source.origin.is_literal() && source.text.trim().lines().count() == 1 => JOINED,
        "global-write" | "invalid-shebang" | "syntax-error" | "template"
            if !source.is_for_redis && source.tokens.len() > MAX_BARE_TOKENS =>
        {
            Some("; fine if the file is for another program: nothing in it is specific to Redis")
        }
        _ => None,
    }
}

/// Table of functions that a source returns, as a module for `require` does, and its position.
fn module(script: &Script) -> Option<(Position, &str)> {
    let main = script.functions.get(script.main)?;
    main.returns.iter().find_map(|returned| {
        let Expr::Variable(variable) = script.expr(*returned) else { return None };
        let variable = script.variables.get(*variable)?;
        let is_function = |value: &ExprId| matches!(script.expr(*value), Expr::Function(_));
        let has_function = variable.fields.values().flatten().any(is_function);
        has_function.then(|| (script.position(*returned), variable.name.as_str()))
    })
}

/// First global, and its position, of a source that only assigns tables or several constants to globals. Such a source is the
/// configuration of another program.
fn settings(script: &Script) -> Option<(Position, &str)> {
    let main = script.functions.get(script.main)?;
    let is_table = |(_, variable): (_, &Variable)| {
        !variable.is_global
            || !variable.values.is_empty()
                && variable.values.iter().all(|value| {
                    matches!(value, Value::Of(table) if matches!(script.expr(*table), Expr::Table(fields) if !fields.is_empty()))
                })
    };
    let is_setting = |(_, variable): (_, &Variable)| {
        variable.values.iter().all(|value| {
            matches!(value, Value::Of(value) if matches!(
                script.expr(*value),
                Expr::Bool(_) | Expr::Number(_) | Expr::String(_) | Expr::Table(_) | Expr::Unary(..) | Expr::Binary(..)
            ))
        })
    };
    let only_tables = script.variables.iter().all(is_table);
    let only_settings = script.global_writes.len() > 1 && script.variables.iter().all(is_setting);
    let is_configuration = main.body.is_empty() && main.returns.is_empty() && (only_tables || only_settings);
    let first = script.global_writes.first().filter(|_| is_configuration)?;
    Some((first.position, first.name.as_str()))
}

/// Replaces two-character line endings after a backslash with `\n`. Lua treats each as one line ending, but the lexer accepts only `\n`
/// there.
fn with_escaped_line_ends(text: &str) -> Cow<'_, str> {
    let mut text = Cow::from(text);
    for end in ["\\\r\n", "\\\n\r"] {
        if text.contains(end) {
            text = text.replace(end, "\\\n").into();
        }
    }
    text
}

/// Removes suppressed diagnostics.
fn suppress<'a>(
    diagnostics: &mut Vec<Diagnostic>,
    suppressions: &'a Suppressions<'a>,
    is_enabled: impl Fn(&Rule) -> bool,
) -> Suppressed<'a> {
    let parsed = suppressions.parsed.iter();
    let suppressed: HashSet<(&str, Scope)> = parsed.map(|parsed| (parsed.rule, parsed.scope)).collect();
    let mut used = HashSet::new();
    diagnostics.retain(|diagnostic| {
        let scopes = [Scope::File, Scope::Line(diagnostic.position.line)];
        let keys = scopes.map(|scope| (diagnostic.rule.name, scope)).into_iter();
        let applied: Vec<_> = keys.filter(|key| suppressed.contains(key)).collect();
        let keep = applied.is_empty();
        used.extend(applied);
        keep
    });
    let (mut unused, mut unknown) = (Vec::new(), Vec::new());
    for suppression in &suppressions.parsed {
        match rule(suppression.rule) {
            None => unknown.push(*suppression),
            Some(rule) if is_enabled(rule) && !used.contains(&(rule.name, suppression.scope)) => {
                unused.push(*suppression);
            }
            Some(_) => {}
        }
    }
    Suppressed { suppressions, unused, unknown }
}
