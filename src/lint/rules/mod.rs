//! The rules. Each is a row in [`RULES`], and a function that looks at the facts of a script.

use std::collections::{BTreeMap, HashSet};

use clap::ValueEnum;
use serde::Serialize;

use crate::lint::analysis::commands::{self, Effect, Extent};
use crate::lint::analysis::facts::{Facts, Long};
use crate::lint::source::header::{Flags, Header};
use crate::lint::source::syntax::{Expr, ExprId, FnId, LoopId, LoopKind, Position, SCRIPT, Statement, Value};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Blocks the server one day, when there is enough data.
    Warning,
    /// Blocks the server, or fails.
    Error,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name: what an allow comment says.
    pub name: &'static str,
    /// How bad its findings are.
    pub severity: Severity,
    /// What it finds.
    pub what: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

/// Rules that are checked only if `--enable` names them. `value-in-body` can't tell an identifier from a constant: all of its
/// 90 findings in 969 public scripts were constants.
pub const OFF_BY_DEFAULT: [&str; 1] = ["value-in-body"];

/// All rules, by name.
pub const RULES: &[Rule] = &[
    Rule {
        name: "collection-scan-loop",
        severity: Severity::Warning,
        what: "a loop over SSCAN, HSCAN or ZSCAN: it takes as long as the collection is large, in one go",
        instead: "scan from the client, and call the script for each page",
    },
    Rule {
        name: "could-be-read-only",
        severity: Severity::Info,
        what: "a script without a #! line that only reads",
        instead: "call it with EVAL_RO or EVALSHA_RO, or begin it with `#!lua flags=no-writes` (Redis 7.0): it may then run on \
                  replicas, and can always be killed",
    },
    Rule {
        name: "endless-loop",
        severity: Severity::Error,
        what: "a loop that nothing ends",
        instead: "give it a condition, or a break, and count its rounds",
    },
    Rule {
        name: "invalid-shebang",
        severity: Severity::Error,
        what: "a #! line that the server refuses: another engine than lua, or an unknown option or flag",
        instead: "for a script `#!lua flags=…` with no-writes, allow-oom, allow-stale, no-cluster or allow-cross-slot-keys; for a \
                  library `#!lua name=…`",
    },
    Rule {
        name: "keys-command",
        severity: Severity::Error,
        what: "KEYS looks at every key of the database",
        instead: "keep the names of the keys in a set or sorted set of their own, or use SCAN from the client",
    },
    Rule {
        name: "loop-over-collection",
        severity: Severity::Warning,
        what: "all of a collection is read, and a loop goes over it",
        instead: "read a part with a limit (LRANGE 0 99, ZRANGE … LIMIT, SPOP key 100) and call the script again while there \
                  is more",
    },
    Rule {
        name: "missing-no-writes",
        severity: Severity::Warning,
        what: "a script with a #! line, or a function, that only reads and is not flagged no-writes",
        instead: "add the flag no-writes: it may then run on replicas and by FCALL_RO or EVALSHA_RO, and can always be killed",
    },
    Rule {
        name: "scan-loop",
        severity: Severity::Error,
        what: "a loop over SCAN: it goes over every key of the database, in one go",
        instead: "scan from the client, and call the script for each page",
    },
    Rule {
        name: "syntax-error",
        severity: Severity::Error,
        what: "this is not Lua 5.1: the server refuses it",
        instead: "correct it; redis-cli EVAL or FUNCTION LOAD tell the same",
    },
    Rule {
        name: "template",
        severity: Severity::Warning,
        what: "a placeholder of a template (`<%= … %>`, `{{ … }}`, `{% … %}`): this is not the script that the server gets, and \
               each value makes another script",
        instead: "pass the value in KEYS or ARGV; or lint what the template makes",
    },
    Rule {
        name: "too-complex",
        severity: Severity::Warning,
        what: "the script is nested too deep to be read",
        instead: "take it apart into functions",
    },
    Rule {
        name: "unbounded-loop",
        severity: Severity::Warning,
        what: "a loop whose end depends on data",
        instead: "count its rounds and end it at a limit; call the script again while there is more",
    },
    Rule {
        name: "undeclared-key",
        severity: Severity::Info,
        what: "a key that is neither in KEYS nor made of it",
        instead: "pass it in KEYS: a cluster finds the node by it, and ACLs check it",
    },
    Rule {
        name: "unknown-rule",
        severity: Severity::Warning,
        what: "an allow comment that names no rule",
        instead: "see the table of rules in docs/lint.md",
    },
    Rule {
        name: "unpack-collection",
        severity: Severity::Warning,
        what: "unpack of all of a collection: it fails from 8,000 elements on (`too many results to unpack`)",
        instead: "unpack slices: unpack(list, from, to)",
    },
    Rule {
        name: "unused-allow",
        severity: Severity::Info,
        what: "an allow comment where there is nothing to allow",
        instead: "remove it",
    },
    Rule {
        name: "value-in-body",
        severity: Severity::Warning,
        what: "a value in the body that looks like data: each value makes another script, and the server keeps them all",
        instead: "pass it in KEYS or ARGV",
    },
    Rule {
        name: "whole-collection-read",
        severity: Severity::Warning,
        what: "all of a collection is read: it takes as long as the collection is large",
        instead: "read a part with a limit, or ask for what is needed (SISMEMBER, HMGET, ZSCORE)",
    },
    Rule {
        name: "whole-hash-read",
        severity: Severity::Info,
        what: "all fields of a hash are read: fine for an object, not for a hash that grows",
        instead: "HMGET the fields that are needed",
    },
    Rule {
        name: "write-before-long-work",
        severity: Severity::Warning,
        what: "something is written before a loop that may take long: SCRIPT KILL then answers UNKILLABLE",
        instead: "read and decide first, write last; or bound the loop",
    },
    Rule {
        name: "write-despite-no-writes",
        severity: Severity::Error,
        what: "the flag no-writes, and a command that writes: the server refuses the call",
        instead: "remove the flag, or the write",
    },
];

/// The rule of this name.
#[must_use]
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.binary_search_by_key(&name, |rule| rule.name).ok().and_then(|index| RULES.get(index))
}

/// What a rule found in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) rule: &'static str,
    pub(crate) position: Position,
    /// Why.
    pub(crate) message: String,
    /// Another place that has to do with it, and what it is.
    pub(crate) related: Option<(Position, String)>,
}

impl Found {
    pub(crate) fn new(rule: &'static str, position: Position, message: impl Into<String>) -> Self {
        Self { rule, position, message: message.into(), related: None }
    }

    fn beside(mut self, position: Position, what: impl Into<String>) -> Self {
        self.related = Some((position, what.into()));
        self
    }
}

/// Every rule's function.
const CHECKS: &[fn(&Facts<'_>, Header) -> Vec<Found>] =
    &[keys_command, loops, reads, unpacked, write_before_long_work, flags, undeclared_key, value_in_body];

/// What the rules find in a script, in the order of the source.
pub(crate) fn check(facts: &Facts<'_>, header: Header) -> Vec<Found> {
    let mut found: Vec<Found> = CHECKS.iter().flat_map(|check| check(facts, header)).collect();
    found.sort_by_key(|found| (found.position, found.rule));
    found.dedup_by_key(|found| (found.position, found.rule));
    found
}

fn keys_command(facts: &Facts<'_>, _: Header) -> Vec<Found> {
    let calls = facts.redis_calls().into_iter();
    let keys = calls.filter(|(_, call)| call.command.as_deref() == Some("KEYS"));
    keys.map(|(id, _)| {
        let message = "KEYS looks at every key of the database while nothing else runs";
        Found::new("keys-command", facts.script.position(id), message)
    })
    .collect()
}

/// `while` and `repeat` loops, and `for` loops that run as often as a reply says.
fn loops(facts: &Facts<'_>, _: Header) -> Vec<Found> {
    let loops = facts.script.loops.iter().enumerate();
    loops
        .filter_map(|(id, around)| {
            let word = match around.kind {
                LoopKind::While(_) => "while",
                LoopKind::Repeat(_) => "repeat",
                LoopKind::Numeric(_) | LoopKind::Generic(_) => "for",
            };
            let (rule, message, source) = match facts.long(id)? {
                Long::Endless => (
                    "endless-loop",
                    format!("nothing ends this {word} loop: no break, return or error"),
                    None,
                ),
                Long::Scan(call) if facts.command(*call) == "SCAN" => (
                    "scan-loop",
                    "this loop scans every key of the database in one go".to_owned(),
                    Some(*call),
                ),
                Long::Scan(call) => (
                    "collection-scan-loop",
                    format!("this loop reads all of a collection by {} in one go", facts.command(*call)),
                    Some(*call),
                ),
                // Told where the collection is read.
                Long::Collection(_) => return None,
                Long::Count(call) => (
                    "unbounded-loop",
                    format!("this {word} loop runs as often as {} says", facts.command(*call)),
                    Some(*call),
                ),
                Long::Until(call) => (
                    "unbounded-loop",
                    format!("this {word} loop ends when {} says so", facts.command(*call)),
                    Some(*call),
                ),
                Long::Unbounded => (
                    "unbounded-loop",
                    format!("this {word} loop calls commands, and no counter bounds it"),
                    None,
                ),
            };
            let found = Found::new(
                rule,
                around.position,
                format!("{message}{}", unkillable(facts, id).unwrap_or("")),
            );
            Some(match source {
                Some(call) => found.beside(facts.script.position(call), "the reply that it depends on"),
                None => found,
            })
        })
        .collect()
}

/// What it means that a loop writes.
fn unkillable(facts: &Facts<'_>, id: LoopId) -> Option<&'static str> {
    let around = facts.script.loops.get(id)?;
    let writes = around.calls.iter().any(|call| facts.does_in_all(*call).write.is_some());
    writes.then_some("; it writes, so SCRIPT KILL can't end it")
}

/// Commands that read all of a collection.
fn reads(facts: &Facts<'_>, _: Header) -> Vec<Found> {
    let mut looped: BTreeMap<ExprId, LoopId> = BTreeMap::new();
    for id in 0..facts.script.loops.len() {
        if let Some(Long::Collection(reads)) = facts.long(id) {
            for read in reads {
                looped.entry(*read).or_insert(id);
            }
        }
    }
    let calls = facts.redis_calls().into_iter();
    calls
        .filter_map(|(id, call)| {
            // KEYS has its own rule.
            let command = call.command.as_deref().filter(|command| *command != "KEYS")?;
            let extent = facts.extent(id)?;
            let position = facts.script.position(id);
            if let Some(id) = looped.get(&id) {
                let around = facts.script.loops.get(*id)?;
                let unkillable = unkillable(facts, *id).unwrap_or("");
                let line = around.position.line;
                let message = format!(
                    "{command} reads without a limit, and the loop in line {line} goes over all of it{unkillable}"
                );
                return Some(
                    Found::new("loop-over-collection", position, message).beside(around.position, "the loop"),
                );
            }
            Some(match extent {
                Extent::Whole => Found::new(
                    "whole-collection-read",
                    position,
                    format!("{command} reads without a limit: as much as there is one day"),
                ),
                Extent::WholeHash => Found::new(
                    "whole-hash-read",
                    position,
                    format!("{command} reads all fields: fine for an object, not for a hash that grows"),
                ),
            })
        })
        .collect()
}

/// Lists that are unpacked whole, each told once.
fn unpacked(facts: &Facts<'_>, _: Header) -> Vec<Found> {
    let calls = (0..facts.script.exprs.len()).filter_map(|id| Some((id, facts.unpack_args(id)?)));
    let mut told = HashSet::new();
    calls
        .filter_map(|(id, args)| {
            let [list] = args else { return None };
            let (whole, grown) = (facts.collections(*list), facts.grown(*list));
            let (read, what) = match (whole.first(), grown.first()) {
                (Some(read), _) => (*read, "all that"),
                (None, Some(read)) => (*read, "a list made of all that"),
                (None, None) => return None,
            };
            let is_new = match facts.script.expr(*list) {
                Expr::Variable(list) => told.insert(*list),
                _ => true,
            };
            let message = format!(
                "unpack of {what} {} reads fails from 8,000 elements on (too many results to unpack)",
                facts.command(read)
            );
            let found = Found::new("unpack-collection", facts.script.position(id), message);
            is_new.then(|| found.beside(facts.script.position(read), "the read"))
        })
        .collect()
}

/// Functions within functions that the order of statements is followed into.
const MAX_CALL_DEPTH: usize = 32;

/// Follows a script in its order.
struct Walk<'a> {
    facts: &'a Facts<'a>,
    seen: HashSet<(FnId, bool)>,
    found: Vec<Found>,
}

fn write_before_long_work(facts: &Facts<'_>, _: Header) -> Vec<Found> {
    let mut walk = Walk { facts, seen: HashSet::new(), found: Vec::new() };
    // Functions that nothing here calls are called by others.
    for function in 0..facts.script.functions.len() {
        if function == SCRIPT || !walk.seen.iter().any(|(seen, _)| *seen == function) {
            walk.function(function, None, 0);
        }
    }
    walk.found
}

/// How statements end.
#[derive(Debug, Clone, Copy)]
enum Flow {
    /// By a return.
    Returns,
    /// At their end; this command has written by then.
    GoesOn(Option<ExprId>),
}

impl Walk<'_> {
    /// Goes through a function; `written` is the command that has written before. Gives the one that has written after.
    fn function(&mut self, id: FnId, written: Option<ExprId>, depth: usize) -> Option<ExprId> {
        if depth < MAX_CALL_DEPTH
            && self.seen.insert((id, written.is_some()))
            && let Some(function) = self.facts.script.functions.get(id)
        {
            self.statements(&function.body, written, depth);
        }
        written.or(self.facts.summary(id).write)
    }

    fn statements(&mut self, statements: &[Statement], mut written: Option<ExprId>, depth: usize) -> Flow {
        for statement in statements {
            match statement {
                Statement::Return => return Flow::Returns,
                Statement::Call(call) => {
                    for function in self.facts.runs(*call) {
                        written = self.function(function, written, depth + 1);
                    }
                    if self.facts.effect(*call) == Some(Effect::Writes) {
                        written = written.or(Some(*call));
                    }
                }
                Statement::Either(ways) => {
                    let ends: Vec<Flow> =
                        ways.iter().map(|way| self.statements(way, written, depth)).collect();
                    let mut goes_on = ends.into_iter().filter_map(|end| match end {
                        Flow::Returns => None,
                        Flow::GoesOn(written) => Some(written),
                    });
                    let Some(first) = goes_on.next() else { return Flow::Returns };
                    written = goes_on.fold(first, Option::or);
                }
                Statement::Loop(id) => {
                    let Some(around) = self.facts.script.loops.get(*id) else { continue };
                    if let (Some(write), Some(_)) = (written, self.facts.long(*id)) {
                        self.tell(write, around.position);
                    }
                    if let Flow::GoesOn(after) = self.statements(&around.body, written, depth) {
                        written = after;
                    }
                }
            }
        }
        Flow::GoesOn(written)
    }

    /// Tells of the first one: the remedy is the same for all.
    fn tell(&mut self, write: ExprId, at: Position) {
        if self.found.is_empty() {
            let position = self.facts.script.position(write);
            let message = format!(
                "{} in line {} has written when this loop begins: SCRIPT KILL can't end it",
                self.facts.command(write),
                position.line
            );
            let found = Found::new("write-before-long-work", at, message).beside(position, "the write");
            self.found.push(found);
        }
    }
}

/// What the flags of a script or function promise, and what it does.
fn flags(facts: &Facts<'_>, header: Header) -> Vec<Found> {
    match header {
        Header::None => {
            let does = facts.summary(SCRIPT);
            let only_reads = does.calls && does.write.is_none() && does.replicates.is_none() && !does.opaque;
            let first = facts.redis_calls().first().map(|(id, _)| facts.script.position(*id));
            let message = "this script only reads, and does not say so";
            let found = first.filter(|_| only_reads).map(|at| Found::new("could-be-read-only", at, message));
            found.into_iter().collect()
        }
        Header::Script(flags) => {
            let at = Position { line: 1, column: 1 };
            held_to(facts, flags, SCRIPT, at, "this script").into_iter().collect()
        }
        Header::Library => {
            let registrations = (0..facts.script.exprs.len()).filter_map(|id| match facts.script.expr(id) {
                Expr::Call { callee, args } if facts.registers(*callee) => Some((id, args.as_slice())),
                _ => None,
            });
            registrations
                .filter_map(|(id, args)| {
                    let (name, callback, flags) = registration(facts, args)?;
                    let function = facts.script.callees(callback).next()?;
                    let what = name.map_or("this function".to_owned(), |name| format!("the function {name}"));
                    held_to(facts, flags, function, facts.script.position(id), &what)
                })
                .collect()
        }
    }
}

/// What does not fit to the flags.
fn held_to(facts: &Facts<'_>, flags: Flags, function: FnId, at: Position, what: &str) -> Option<Found> {
    let does = facts.summary(function);
    let refused = does.write.or(does.replicates);
    match (flags, refused) {
        (Flags::NoWrites, Some(write)) => {
            let message = format!("{what} is flagged no-writes, and calls {}", facts.command(write));
            Some(Found::new("write-despite-no-writes", facts.script.position(write), message))
        }
        (Flags::Others, None) if does.calls && !does.opaque => Some(Found::new(
            "missing-no-writes",
            at,
            format!("{what} only reads, and is not flagged no-writes"),
        )),
        _ => None,
    }
}

/// Name, callback and flags of a call of `register_function`.
fn registration(facts: &Facts<'_>, args: &[ExprId]) -> Option<(Option<String>, ExprId, Flags)> {
    let fields = match args {
        [table] => match facts.script.expr(*table) {
            Expr::Table(fields) => fields,
            _ => return None,
        },
        [name, callback, ..] => return Some((facts.constant(*name), *callback, Flags::Others)),
        [] => return None,
    };
    let field = |wanted: &str| {
        fields.iter().find_map(|(key, value)| {
            let is_it = key.and_then(|key| facts.constant(key)).as_deref() == Some(wanted);
            is_it.then_some(*value)
        })
    };
    let flags = match field("flags").map(|flags| facts.script.expr(flags)) {
        None => Flags::Others,
        Some(Expr::Table(flags)) => {
            let mut flags = flags.iter().filter_map(|(_, flag)| facts.constant(*flag));
            if flags.any(|flag| flag == "no-writes") { Flags::NoWrites } else { Flags::Others }
        }
        // Not known.
        Some(_) => return None,
    };
    Some((field("function_name").and_then(|name| facts.constant(name)), field("callback")?, flags))
}

fn undeclared_key(facts: &Facts<'_>, _: Header) -> Vec<Found> {
    let calls = facts.redis_calls().into_iter();
    calls
        .filter_map(|(_, call)| {
            let key = *call.args.first()?;
            let command = call.command.as_deref().filter(|command| commands::begins_with_key(command))?;
            let message = format!("the key of {command} is neither in KEYS nor made of it");
            is_undeclared(facts, key)
                .then(|| Found::new("undeclared-key", facts.script.position(key), message))
        })
        .collect()
}

/// Whether a key is made of constants and ARGV alone.
fn is_undeclared(facts: &Facts<'_>, key: ExprId) -> bool {
    let mut is_known = true;
    facts.follow(key, |facts, id, next| {
        match facts.script.expr(id) {
            Expr::Text(_) | Expr::Number(_) => {}
            Expr::Binary(_, left, right) => next.extend([*left, *right]),
            Expr::Index { base, .. } => is_known &= facts.is_global(*base, "ARGV"),
            Expr::Variable(variable) => {
                let values = facts.script.values(*variable);
                is_known &= !values.is_empty();
                for value in values {
                    match value {
                        Value::Of(value) => next.push(*value),
                        Value::PartOf(_) => is_known = false,
                    }
                }
            }
            Expr::Call { callee, args } if facts.is_global(*callee, "tostring") => next.extend(args),
            _ => is_known = false,
        }
        is_known
    });
    is_known
}

fn value_in_body(facts: &Facts<'_>, _: Header) -> Vec<Found> {
    let mut found = Vec::new();
    for (id, call) in facts.redis_calls() {
        let key =
            call.args.first().filter(|_| call.command.as_deref().is_some_and(commands::begins_with_key));
        if let Some(key) = key
            && let Expr::Text(text) = facts.script.expr(*key)
            && let Some(what) = data_in_key(text)
        {
            let message = format!("the key holds {what}: for each one there is another script");
            found.push(Found::new("value-in-body", facts.script.position(id), message));
        }
    }
    for (expr, position) in &facts.script.exprs {
        let what = match expr {
            Expr::Text(text) => data_in_text(text),
            Expr::Number(number) => data_in_number(number),
            _ => None,
        };
        if let Some(what) = what {
            let message = format!("this is {what}: for each one there is another script");
            found.push(Found::new("value-in-body", *position, message));
        }
    }
    found
}

/// Digits that an identifier in a key has at least: fewer are versions and shards.
const MIN_ID: usize = 3;

/// What in a key looks like data.
fn data_in_key(key: &str) -> Option<&'static str> {
    let mut parts = key.split(|c: char| !c.is_ascii_alphanumeric());
    let is_id = |part: &str| part.len() >= MIN_ID && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.any(is_id).then_some("a number")
}

/// What a text looks like, if it is data.
fn data_in_text(text: &str) -> Option<&'static str> {
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_uuid = |parts: &[&str]| {
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| is_hex(part))
    };
    if parts.windows(5).any(is_uuid) {
        return Some("a UUID");
    }
    let has_digit = |part: &str| part.bytes().any(|byte| byte.is_ascii_digit());
    if parts.iter().any(|part| part.len() >= 24 && is_hex(part) && has_digit(part)) {
        return Some("a hash or an identifier");
    }
    if parts.iter().any(|part| part.len() >= 9 && part.bytes().all(|byte| byte.is_ascii_digit())) {
        return Some("a long number");
    }
    None
}

/// Numbers that are written so large for other reasons.
const LIMITS: &[&str] = &[
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "1000000007",
    "1103515245",
    "2654435761",
    "123456789",
];

/// What a number looks like, if it is data.
fn data_in_number(number: &str) -> Option<&'static str> {
    let is_long = number.len() >= 9 && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_limit = LIMITS.contains(&number) || number.bytes().all(|byte| byte == b'9');
    // Round ones are units and epochs.
    (is_long && !is_limit && !number.ends_with("0000")).then_some("a long number")
}
