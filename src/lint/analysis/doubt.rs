//! Reasons to doubt that a loop or a read grows with the data. Findings with a doubt are information.

use crate::lint::analysis::capacity;
use crate::lint::analysis::commands::{self, Argument, Extent};
use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::analysis::loops::LongLoop;
use crate::lint::analysis::numbers::Sum;
use crate::lint::analysis::recursion::Recursion;
use crate::lint::source::syntax::{Binary, Expr, ExprId, Value, VarId};

/// Names of things that are usually few, in the singular.
const FEW: &str = "\
    attribute cart cfg column conf config configuration dimension flag holder layer locale meta metadata node option owner \
    param partition permission permit policy priority property reader recent region replica role rule schema scheme seat seg \
    segment semaphore server setting shard slot stage tier top window zone";

/// Names of things that are usually few, in the plural. Their singular at the beginning of a key names the owner of other things, as in
/// `tag:a`.
const FEW_IN_PLURAL: &str = "\
    breakers cards categories circuits colors conditions currencies experiments features fields grades grants hands langs languages phases \
    platforms plugins quotas requirements rounds scopes stages steps tags thresholds turns weekdays";

/// Names of things that may be many, in the singular.
const MANY: &str = "\
    active child children client connection delayed device entry event failed id inflight item jid job log member message order \
    pending processed processing queue record request running scheduled session stalled subscriber task ticket user waiting \
    worker";

/// Names of numbers that limit something.
const LIMITS: &str = "\
    batch capacity chunk degree depth level limit max maximum page replica shard slot width window";

/// Words at the end of a name that do not describe the contents of the collection.
const KINDS: &str = "\
    all arr array data hash id json key list map member name res result set table val value zset";

/// Words that turn a preceding singular into a plural.
const PLURALS: &str = "all arr array ids keys list map members names set table values";

/// Commands that set the time to live of a key.
const EXPIRES: &str = "EXPIRE EXPIREAT PEXPIRE PEXPIREAT PSETEX SETEX";

/// Options of SET that set the time to live of the key.
const LIFETIMES: &str = "EX EXAT PX PXAT";

/// Commands that remove the elements of a range, or trim to a length.
const TRIMS: &str = "XTRIM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE";

/// Commands that pop elements from a collection.
const POPS: &str = "LPOP RPOP SPOP ZPOPMAX ZPOPMIN";

/// Commands that test whether a name is taken.
const TESTS: &str = "EXISTS GET HEXISTS HGET HSETNX SADD SETNX SISMEMBER ZSCORE";

/// Maximum number of values that are searched for a name.
const MAX_VALUES: usize = 4;

/// Minimum length of a meaningful word.
const MIN_WORD: usize = 3;

/// Reason to doubt that something grows with the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// A name indicates that there are few elements, or that a number is a limit.
    Named(String),
    /// The script removes elements before it reads the others.
    Window,
    /// The hash expires.
    Expires,
    /// The loop runs once for each step since a stored number, whose key expires.
    Lifetime,
    /// The key of the hash is not constant, and no name indicates that the hash has many fields.
    Record,
    /// The collection belongs to one element of another collection that the script loops over, and no name indicates that it is large.
    Inner,
    /// Neither end of the range of scores is open.
    Range,
    /// The consumers of a group have read all other entries of the stream.
    Undelivered,
    /// A recursion takes elements, one at a time, until one is valid.
    Skipped,
    /// The number of iterations, or the limit of the collection, is a stored number.
    Stored,
    /// The file that contains the literal mentions LTRIM.
    Trimmed,
    /// This script limits the collection, but not necessarily before processing it, or a neighbouring script limits a collection with
    /// this name.
    Limited,
    /// The caller may pass a limit.
    Options,
    /// Random names are tried until one is not taken.
    Random,
    /// The conditions depend on no reply.
    Unclear,
}

impl Doubt {
    /// Text to append to a message.
    pub(crate) fn text(&self) -> String {
        let reason = match self {
            Self::Named(name) => {
                return format!(
                    "; fine while there are few, as the name `{name}` suggests: allow it, or rehearse it"
                );
            }
            Self::Window => "what remains after the earlier removal",
            Self::Expires => "the hash, whose key expires,",
            Self::Lifetime => "the time to live of the stored number",
            Self::Range => "the range that it is given",
            Self::Undelivered => "the part of the stream that no consumer has read",
            Self::Record => "the hash, which may be a record,",
            Self::Inner => "the collection of each element of the other one",
            Self::Skipped => "the number of elements that it skips",
            Self::Stored => "the stored number",
            Self::Options => "the reply, for which the arguments may have a limit,",
            Self::Random => "the share of random names already taken",
            Self::Trimmed => "the list, which this file may trim,",
            Self::Limited => "the collection, which a script of this directory limits,",
            Self::Unclear => return "; allow it if it ends quickly, or rehearse it".to_owned(),
        };
        format!("; fine while {reason} stays small: allow it, or rehearse it")
    }
}

impl ScriptFacts<'_> {
    /// Doubt about a command that reads without a limit.
    pub(crate) fn doubt_of_read(&self, read: ExprId) -> Option<Doubt> {
        let call = self.calls.redis(read)?;
        let command = call.command.as_deref()?;
        let key = self.calls.key(read).or(call.args.first().copied())?;
        let is_hash = self.values.extent(read) == Some(Extent::WholeHash);
        if self.trims_lists && command == "LRANGE" {
            return Some(Doubt::Trimmed);
        }
        if let Some(doubt) = self.doubt_of_size(read) {
            return Some(doubt);
        }
        if is_hash && self.expires(key) {
            return Some(Doubt::Expires);
        }
        // The removal of elements that the script has read before says nothing about the others.
        let is_read_before = |trim: ExprId| {
            self.unlimited_reads().any(|other| {
                let other_key = self.calls.redis(other.id).and_then(|call| call.args.first());
                other.id < trim
                    && other_key.is_some_and(|other| capacity::is_same_key(self.script, *other, key))
            })
        };
        if self.is_called_with(TRIMS, key, |trim| trim < read && !is_read_before(trim)) {
            return Some(Doubt::Window);
        }
        if self.is_called_with("ZREM", key, |call| call < read && self.removes_elsewhere(call, key)) {
            return Some(Doubt::Window);
        }
        if commands::has_radius(command) {
            return Some(Doubt::Range);
        }
        if self.belongs_to_an_element(key) && !self.adds(key) && self.telling_name(read, key, MANY).is_none()
        {
            return Some(Doubt::Inner);
        }
        if self.may_have_a_limit(command, &call.args) {
            return Some(Doubt::Options);
        }
        if self.is_closed_range(command, &call.args) {
            return Some(Doubt::Range);
        }
        if commands::reads_streams(command)
            && let Some(doubt) = self.doubt_of_ids(&call.args)
        {
            return Some(doubt);
        }
        // A hash always has fields, so a plural such as `fields` says nothing about their number.
        let few = |name: &String| is_about(name, FEW) || !is_hash && is_in_plural(name, FEW_IN_PLURAL);
        self.named(read, key, few).map(Doubt::Named)
    }

    /// Doubt about a loop over the reply of a command that reads without a limit.
    pub(crate) fn doubt_of_iteration(&self, read: ExprId) -> Option<Doubt> {
        self.doubt_of_read(read).or_else(|| self.is_record(read).then_some(Doubt::Record))
    }

    /// Doubt about `unpack` of the reply of a command that reads without a limit. With HGETALL it usually copies a record.
    pub(crate) fn doubt_of_unpack(&self, read: ExprId) -> Option<Doubt> {
        let key = self.calls.redis(read)?.args.first().copied()?;
        let is_copy =
            || self.calls.command(read) == "HGETALL" && self.telling_name(read, key, MANY).is_none();
        self.doubt_of_read(read).or_else(|| is_copy().then_some(Doubt::Record))
    }

    /// True for a hash whose key is not constant, if no name indicates that it has many fields.
    fn is_record(&self, read: ExprId) -> bool {
        let key = self.calls.redis(read).and_then(|call| call.args.first().copied());
        self.values.extent(read) == Some(Extent::WholeHash)
            && key.is_some_and(|key| {
                self.calls.constant(key).is_none() && self.telling_name(read, key, MANY).is_none()
            })
    }

    /// Doubt about a loop or a recursion that may take a long time.
    pub(crate) fn doubt_of_loop(&self, long: &LongLoop) -> Option<Doubt> {
        match long {
            LongLoop::Collection(reads) => {
                let mut doubts = reads.iter().map(|read| self.doubt_of_iteration(*read));
                let first = doubts.next()??;
                doubts.all(|doubt| doubt.is_some()).then_some(first)
            }
            LongLoop::Count(read) | LongLoop::Until(read) if self.doubt_of_size(*read).is_some() => {
                self.doubt_of_size(*read)
            }
            LongLoop::Count(read) => {
                let call = self.calls.redis(*read)?;
                match call.command.as_deref()? {
                    "HGET" | "HMGET" => Some(Doubt::Stored),
                    "GET" => self.telling_name(*read, *call.args.first()?, LIMITS).map(Doubt::Named),
                    _ => None,
                }
            }
            LongLoop::Elapsed(read) => {
                let call = self.calls.redis(*read)?;
                let key = *call.args.first()?;
                match call.command.as_deref()? {
                    "GET" | "HGET" | "HMGET" if self.expires(key) => Some(Doubt::Lifetime),
                    "GET" => self.telling_name(*read, key, LIMITS).map(Doubt::Named),
                    _ => None,
                }
            }
            LongLoop::Unbounded => Some(Doubt::Unclear),
            LongLoop::Until(test) => self.tries_random_names(*test).then_some(Doubt::Random),
            LongLoop::Endless(_) | LongLoop::Scan(_) | LongLoop::Fields(_) => None,
        }
    }

    /// Doubt about the size of the collection of a command.
    pub(crate) fn doubt_of_size(&self, call: ExprId) -> Option<Doubt> {
        if self.is_limited(call) {
            return Some(Doubt::Limited);
        }
        self.values.is_capped_by_stored(call).then_some(Doubt::Stored)
    }

    /// Doubt about a command whose duration grows with its collection. A list that another script trims is small as long as that script
    /// runs often enough.
    pub(crate) fn doubt_of_search(&self, call: ExprId) -> Option<Doubt> {
        self.doubt_of_size(call).or_else(|| self.is_trimmed(call).then_some(Doubt::Limited))
    }

    /// True for a test of a name in a loop or a function that chooses names at random.
    fn tries_random_names(&self, test: ExprId) -> bool {
        let is_random = |call: &ExprId| matches!(self.script.expr(*call), Expr::Call { callee, .. } if self.calls.is_global(*callee, "math.random"));
        let tries = |calls: &[ExprId]| calls.contains(&test) && calls.iter().any(is_random);
        let has_loop = || self.script.loops.iter().any(|(_, around)| around.calls.contains(&test));
        commands::contains(TESTS, self.calls.command(test))
            && (self.script.loops.iter().any(|(_, around)| tries(&around.calls))
                || !has_loop() && self.script.functions.iter().any(|(_, function)| tries(&function.calls)))
    }

    /// Doubt about a recursion that may take a long time. A recursion that pops elements until one of them is valid skips the others.
    pub(crate) fn doubt_of_recursion(&self, recursion: &Recursion) -> Option<Doubt> {
        match recursion.long {
            LongLoop::Until(reply)
                if commands::contains(POPS, self.calls.command(reply))
                    && self.passes(recursion.call, reply) =>
            {
                Some(Doubt::Skipped)
            }
            _ => self.doubt_of_loop(&recursion.long),
        }
    }

    /// True if an argument of a call depends on a reply.
    fn passes(&self, call: ExprId, reply: ExprId) -> bool {
        let Expr::Call { args, .. } = self.script.expr(call) else { return false };
        args.iter().any(|arg| self.values.reply_of(*arg, false, |call| call == reply).is_some())
    }

    /// True if a command in `list` is called with a key, and `accepts` returns true for the call.
    fn is_called_with(&self, list: &str, key: ExprId, accepts: impl Fn(ExprId) -> bool) -> bool {
        self.calls.all_redis().iter().any(|(id, call)| {
            call.command.as_deref().is_some_and(|command| commands::contains(list, command))
                && call.args.first().is_some_and(|other| capacity::is_same_key(self.script, *other, key))
                && accepts(*id)
        })
    }

    /// True if the script sets the time to live of a key.
    fn expires(&self, key: ExprId) -> bool {
        let has_lifetime = |call: ExprId| {
            let args = self.calls.redis(call).map(|call| &call.args[..]).unwrap_or_default();
            let mut options = args.iter().skip(2).filter_map(|arg| self.calls.constant(*arg));
            options.any(|option| commands::contains(LIFETIMES, &option.to_ascii_uppercase()))
        };
        self.is_called_with(EXPIRES, key, |_| true) || self.is_called_with("SET", key, has_lifetime)
    }

    /// True for a command that removes a list of elements that an undefined function has chosen from the collection. Such a function is
    /// in a part of the script that the program adds.
    fn removes_elsewhere(&self, call: ExprId, key: ExprId) -> bool {
        let args = self.calls.redis(call).map(|call| &call.args[..]).unwrap_or_default();
        let lists = args.iter().filter_map(|arg| self.calls.unpack_args(*arg)?.first());
        let is_chosen = |list: ExprId| match self.script.expr(list) {
            Expr::Call { callee, args } => {
                self.calls.is_undefined(*callee)
                    && args.iter().any(|arg| capacity::is_same_key(self.script, *arg, key))
            }
            _ => false,
        };
        lists.into_iter().any(|list| is_chosen(capacity::value(self.script, *list)))
    }

    /// True for a command that accepts a limit, if its last arguments come from the caller: `unpack(ARGV)`.
    fn may_have_a_limit(&self, command: &str, args: &[ExprId]) -> bool {
        let is_unpacked = |arg: &ExprId| {
            self.calls.unpack_args(*arg).is_some() || matches!(self.script.expr(*arg), Expr::Varargs)
        };
        let takes_limit = commands::is_range(command) || command.starts_with("SORT");
        takes_limit && args.last().is_some_and(is_unpacked)
    }

    /// True for a range of scores with both ends from the caller or the data, and for a lexicographic range from one number to another:
    /// `t`, `t + 1`.
    fn is_closed_range(&self, command: &str, args: &[ExprId]) -> bool {
        let [_, one, other, ..] = args else { return false };
        let by = |order: &str| {
            let is_order =
                |arg: &ExprId| self.calls.constant(*arg).is_some_and(|text| text.eq_ignore_ascii_case(order));
            command == "ZRANGE" && args.iter().any(is_order)
        };
        let is_closed = || {
            !self.may_be_open(*one) && !self.may_be_open(*other)
                || self.is_recent(*one, *other)
                || self.is_recent(*other, *one)
        };
        match command {
            "ZRANGEBYSCORE" | "ZREVRANGEBYSCORE" => is_closed(),
            "ZRANGEBYLEX" | "ZREVRANGEBYLEX" => self.is_interval(*one, *other),
            _ if by("BYSCORE") => is_closed(),
            _ => by("BYLEX") && self.is_interval(*one, *other),
        }
    }

    /// Doubt about a read of streams without a constant ID: what comes after an ID that the script is given, or what no consumer of the
    /// group has read.
    fn doubt_of_ids(&self, args: &[ExprId]) -> Option<Doubt> {
        let ids = args.get(commands::ids(self.calls.streams(args)?, args.len()))?;
        let ids: Vec<Argument> = ids.iter().map(|id| self.values.argument(*id)).collect();
        let begins_with_digit = |text: &String| text.starts_with(|first: char| first.is_ascii_digit());
        if ids.iter().any(|id| !id.is_open && id.constants.iter().any(begins_with_digit)) {
            return None;
        }
        Some(if ids.iter().any(|id| id.is_open) { Doubt::Range } else { Doubt::Undelivered })
    }

    /// True for a range of scores with an open end that begins a given amount before another time: `now - 60`, `+inf`.
    fn is_recent(&self, from: ExprId, to: ExprId) -> bool {
        let is_open = self.calls.constant(to).is_some_and(|text| matches!(text.as_str(), "+inf" | "inf"));
        let is_before = |number: &ExprId| {
            let sum = Sum::of(self.script, *number);
            let (later, before): (Vec<&(f64, ExprId)>, Vec<_>) =
                sum.terms.iter().partition(|(factor, _)| *factor > 0.0);
            let is_given = |(_, value): &&(f64, ExprId)| !self.values.may_be_a_reply(*value);
            !later.is_empty() && (!before.is_empty() || sum.constant < 0.0) && before.iter().all(is_given)
        };
        is_open && self.numbers(from).iter().any(is_before)
    }

    /// True if two strings contain numbers with a constant difference.
    fn is_interval(&self, one: ExprId, other: ExprId) -> bool {
        let (one, other) = (self.numbers(one), self.numbers(other));
        let difference = |(one, other): (&ExprId, &ExprId)| {
            Sum::of(self.script, *one).plus(self.script, -1.0, &Sum::of(self.script, *other)).number()
        };
        let differences: Option<Vec<f64>> = one.iter().zip(&other).map(difference).collect();
        one.len() == other.len()
            && differences.is_some_and(|all| all.iter().any(|number| number.abs() >= 1.0))
    }

    /// True for a key with constant text before an element of another collection, which the script reads whole: `'jobs:' .. queue`. The
    /// finding about that read concerns the number of elements; this one concerns the size of the collection of each element.
    fn belongs_to_an_element(&self, key: ExprId) -> bool {
        let mut has_text = false;
        for part in self.parts(key) {
            match self.calls.constant(part) {
                Some(text) => has_text |= text.contains(char::is_alphabetic),
                None if has_text && self.is_element(part) => return true,
                None => {}
            }
        }
        false
    }

    /// True if a value can only be an element of a collection that the script reads whole, or a part of such an element.
    fn is_element(&self, value: ExprId) -> bool {
        let (mut is_element, mut is_other) = (false, false);
        let is_collection = |source: ExprId| !self.values.collections(source).is_empty();
        let iterates = |iterator: ExprId| match self.script.expr(iterator) {
            Expr::Call { args, .. } => args.iter().any(|arg| is_collection(*arg)),
            _ => false,
        };
        self.values.follow(value, |id, next| {
            match self.script.expr(id) {
                Expr::Variable(variable) => {
                    let values = self.script.values(*variable);
                    is_other |= values.is_empty();
                    for value in values {
                        match value {
                            Value::Of(value) => next.push(*value),
                            Value::PartOf(iterator) if iterates(*iterator) => is_element = true,
                            Value::PartOf(_) | Value::ResultOf(_) => is_other = true,
                        }
                    }
                }
                Expr::Index { base, .. } if is_collection(*base) => is_element = true,
                Expr::Index { base, .. } => next.push(*base),
                _ => is_other = true,
            }
            !is_other
        });
        is_element && !is_other
    }

    /// True if the script adds elements to a collection.
    fn adds(&self, key: ExprId) -> bool {
        self.is_called_with(capacity::ADDS, key, |_| true)
    }

    /// Parts of a string that are not constant.
    fn numbers(&self, text: ExprId) -> Vec<ExprId> {
        let parts = self.parts(text).into_iter();
        parts.filter(|part| self.calls.constant(*part).is_none()).collect()
    }

    /// Concatenated parts of a string, from left to right.
    fn parts(&self, text: ExprId) -> Vec<ExprId> {
        let mut parts = Vec::new();
        self.values.follow(capacity::value(self.script, text), |id, next| {
            match self.script.expr(id) {
                Expr::Binary(Binary::Concat, left, right) => {
                    next.extend([right, left].map(|part| capacity::value(self.script, *part)));
                }
                _ => parts.push(id),
            }
            true
        });
        parts
    }

    /// True if an end of a range may be a constant: `-inf`, `0`.
    fn may_be_open(&self, end: ExprId) -> bool {
        let mut is_open = false;
        self.values.follow(end, |id, next| {
            match self.script.expr(id) {
                Expr::Binary(Binary::And | Binary::Or, left, right) => next.extend([*left, *right]),
                Expr::Variable(variable) => next.extend(self.script.assigned(*variable)),
                Expr::Call { callee, args }
                    if ["tonumber", "tostring"].iter().any(|name| self.calls.is_global(*callee, name)) =>
                {
                    next.extend(args);
                }
                Expr::String(_) => is_open = true,
                _ => is_open |= Sum::of(self.script, id).number().is_some(),
            }
            !is_open
        });
        is_open
    }

    /// Name of a variable that holds a reply, or name in its key, whose last word is in `words`.
    fn telling_name(&self, read: ExprId, key: ExprId, words: &str) -> Option<String> {
        self.named(read, key, |name| is_about(name, words))
    }

    /// First accepted name among those of the variables that hold a reply and those in its key.
    fn named(&self, read: ExprId, key: ExprId, accepts: impl Fn(&String) -> bool) -> Option<String> {
        let held = self
            .script
            .variables
            .iter()
            .filter(|(_, variable)| variable.values.iter().any(|value| self.holds(*value, read)));
        let held = held.map(|(_, variable)| variable.name.clone());
        held.chain(self.names(key)).find(accepts)
    }

    /// True if a value is a reply, possibly converted to a number or with a default.
    fn holds(&self, value: Value, read: ExprId) -> bool {
        let mut next = vec![value.source()];
        while let Some(id) = next.pop() {
            if id == read {
                return !matches!(value, Value::PartOf(_));
            }
            match self.script.expr(id) {
                Expr::Binary(Binary::Or | Binary::And, left, right) => next.extend([*left, *right]),
                Expr::Call { callee, args } if self.calls.is_global(*callee, "tonumber") => next.extend(args),
                _ => {}
            }
        }
        false
    }

    /// Names in a key: its variables and fields, and the last constant string in it.
    fn names(&self, key: ExprId) -> Vec<String> {
        let mut names = Vec::new();
        let (mut next, mut left) = (vec![key], MAX_VALUES);
        while let Some(id) = next.pop() {
            match self.script.expr(id) {
                Expr::String(text) => names.push(text.clone()),
                Expr::Variable(variable) => {
                    names.extend(self.name(*variable));
                    if let Some(rest) = left.checked_sub(1) {
                        left = rest;
                        next.extend(self.script.assigned(*variable).take(1));
                    }
                }
                Expr::Index { key, .. } => {
                    if let Expr::String(field) = self.script.expr(*key) {
                        names.push(field.clone());
                    }
                }
                // The last string describes the contents: `prefix .. ':slots'`, `'slots:' .. id`.
                Expr::Binary(Binary::Concat, left, right) => match self.script.expr(*right) {
                    Expr::String(text) if text.chars().any(char::is_alphabetic) => names.push(text.clone()),
                    Expr::Binary(Binary::Concat, ..) => next.push(*right),
                    _ => next.push(*left),
                },
                _ => {}
            }
        }
        names
    }

    fn name(&self, variable: VarId) -> Option<String> {
        self.script.variables.get(variable).map(|variable| variable.name.clone())
    }
}

/// True if a name has a word that describes the contents of a collection.
pub(super) fn is_telling(name: &str) -> bool {
    telling(&parts(name)).is_some_and(|(word, _)| word.len() >= MIN_WORD)
}

/// True if the last meaningful word of a name, or its singular, is in `words`.
fn is_about(name: &str, words: &str) -> bool {
    telling(&parts(name)).is_some_and(|(word, _)| is_form_of_one(&word, words))
}

/// True if the last meaningful word of a name is one of some plurals, or the singular of one before a word that turns it into a plural:
/// `tags`, `tag_ids`.
fn is_in_plural(name: &str, words: &str) -> bool {
    telling(&parts(name)).is_some_and(|(word, next)| {
        let is_plural = next.is_some_and(|next| commands::contains(PLURALS, &next));
        commands::contains(words, &word)
            || is_plural && words.split(' ').any(|plural| forms(plural).contains(&word))
    })
}

/// Last meaningful word, and the word after it.
fn telling(parts: &[String]) -> Option<(String, Option<String>)> {
    let index = parts.iter().rposition(|word| !is_form_of_one(word, KINDS))?;
    let word = parts.get(index)?;
    // `fieldskey` consists of two words.
    let word = word.strip_suffix("key").filter(|rest| rest.len() > 2).unwrap_or(word);
    Some((word.to_owned(), parts.get(index + 1).cloned()))
}

/// True if a word, or a form that may be its singular, is in `words`.
fn is_form_of_one(word: &str, words: &str) -> bool {
    forms(word).iter().any(|form| commands::contains(words, form))
}

/// A word and the forms that may be its singular.
fn forms(word: &str) -> Vec<String> {
    let ies = word.strip_suffix("ies").map(|stem| format!("{stem}y"));
    let singulars = [word.strip_suffix('s'), word.strip_suffix("es")].into_iter().flatten();
    singulars.map(ToOwned::to_owned).chain(ies).chain([word.to_owned()]).collect()
}

/// Words of a name in lower case: `segmentIds`, `segment_ids` and `segment:ids` have two.
fn parts(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut last = ' ';
    for character in name.chars() {
        let begins = !last.is_alphabetic() || last.is_lowercase() && character.is_uppercase();
        if character.is_alphabetic() {
            match parts.last_mut() {
                Some(part) if !begins => part.extend(character.to_lowercase()),
                _ => parts.push(character.to_lowercase().collect()),
            }
        }
        last = character;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::tests::{assert_clean, findings, severe};

    #[test]
    fn the_last_meaningful_word_of_a_name_decides() {
        for name in [
            "segmentIds",
            "node_keys",
            "lock:holders",
            "stock:seg:",
            "active_slots",
            "policies",
            "rk.config",
            "seats",
        ] {
            assert!(is_about(name, FEW), "{name}");
        }
        for name in ["tags", "card_ids", "entry:tags", "fieldList", "fieldskey"] {
            assert!(is_in_plural(name, FEW_IN_PLURAL), "{name}");
        }
        for name in ["tag:", "tag_key", "ids", "tagged"] {
            assert!(!is_in_plural(name, FEW_IN_PLURAL), "{name}");
        }
        for name in ["ids", "jobs", "node_jobs", "config:jobs", "slotted", "", "serverJobs", "keys"] {
            assert!(!is_about(name, FEW), "{name}");
        }
    }

    #[test]
    fn findings_about_possibly_small_collections_are_informational() {
        let doubtful = [
            ("redis.call('HMSET', KEYS[2], unpack(redis.call('HGETALL', 'game')))", "unpack-collection"),
            (
                "for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[2])) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "local pos = redis.call('HGETALL', 'pos:' .. KEYS[1]) for i = 2, #pos, 2 do redis.call('GET', pos[i]) end",
                "loop-over-collection",
            ),
            (
                "local rk = {turns = KEYS[1]} local function next(t) if not t then return 0 end if redis.call('EXISTS', t) == 0 then return next(redis.call('LPOP', rk.turns)) end return t end return next(redis.call('LPOP', rk.turns))",
                "unbounded-loop",
            ),
            ("return redis.call('ZRANGEBYLEX', KEYS[1], unpack(ARGV))", "whole-collection-read"),
            ("return redis.call('GEORADIUS', KEYS[1], ARGV[1], ARGV[2], 15, 'm')", "whole-collection-read"),
            ("return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1] - 60, '+inf')", "whole-collection-read"),
            (
                "local max = tonumber(redis.call('GET', KEYS[2]) or 8) if redis.call('SCARD', KEYS[1]) >= max then return 0 end redis.call('SADD', KEYS[1], 1) return redis.call('SMEMBERS', KEYS[1])",
                "whole-collection-read",
            ),
            (
                "local old = expired(KEYS[1], ARGV[1]) redis.call('ZREM', KEYS[1], unpack(old)) return redis.call('ZRANGE', KEYS[1], 0, -1)",
                "whole-collection-read",
            ),
            (
                "local t = tonumber(ARGV[1]) local first, last = '[' .. tostring(t) .. '|', '(' .. tostring(t + 1) .. '|' return redis.call('ZRANGEBYLEX', KEYS[1], first, last)",
                "whole-collection-read",
            ),
            // The script limits the collection where it adds to it, which is later.
            (
                "redis.call('LPUSH', KEYS[1], ARGV[1]) while redis.call('LLEN', KEYS[1]) > tonumber(ARGV[2]) do redis.call('RPOP', KEYS[1]) end",
                "unbounded-loop",
            ),
            (
                "local cap, n, i = tonumber(ARGV[1]), redis.call('LLEN', KEYS[1]), 0 while i < n do redis.call('LINDEX', KEYS[1], i) i = i + 1 end
                 n = redis.call('RPUSH', KEYS[1], ARGV[2]) while n > cap do redis.call('LPOP', KEYS[1]) n = n - 1 end",
                "linear-command-in-loop",
            ),
            (
                "local log = KEYS[1] local all = redis.call('LRANGE', log, 0, -1) redis.call('RPUSH', log, ARGV[1]) redis.call('LTRIM', log, -100, -1) return all",
                "whole-collection-read",
            ),
            ("return redis.call('SMEMBERS', KEYS[1] .. ':tags')", "whole-collection-read"),
            ("return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', KEYS[1], '>')", "whole-collection-read"),
            ("return redis.call('XREAD', 'STREAMS', KEYS[1], ARGV[1])", "whole-collection-read"),
            ("return redis.call('XREAD', 'STREAMS', KEYS[1], ARGV[1] or '0')", "whole-collection-read"),
            (
                "local all = redis.call('XREAD', 'STREAMS', KEYS[1], 0) redis.call('XADD', KEYS[1], 'MAXLEN', 100, '*', 'a', 1) return all",
                "whole-collection-read",
            ),
            (
                "local name repeat name = 'tmp:' .. math.random(1, 1e9) until redis.call('EXISTS', name) == 0 redis.call('SET', name, 1)",
                "unbounded-loop",
            ),
            (
                "local segmentIds = redis.call('LRANGE', KEYS[1], 0, -1) for _, s in ipairs(segmentIds) do redis.call('GET', s) end",
                "loop-over-collection",
            ),
            (
                "for _, s in ipairs(redis.call('SMEMBERS', 'slots:' .. KEYS[1])) do redis.call('GET', s) end",
                "loop-over-collection",
            ),
            ("return redis.call('SMEMBERS', KEYS[1] .. ':config')", "whole-collection-read"),
            (
                "redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1]) return redis.call('ZRANGE', KEYS[1], 0, -1)",
                "whole-collection-read",
            ),
            (
                "redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1]) local n = 0 for _, e in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do n = n + e end return n",
                "loop-over-collection",
            ),
            (
                "local now = tonumber(ARGV[1]) for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[2], now)) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "local seats = redis.call('ZRANGEBYLEX', KEYS[1], '[seat:', '[seat:\\255') for _, m in ipairs(seats) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "for _, f in ipairs(redis.call('HKEYS', KEYS[1])) do redis.call('PTTL', f) end redis.call('PEXPIRE', KEYS[1], 100)",
                "loop-over-collection",
            ),
            (
                "for i = 1, tonumber(redis.call('HGET', KEYS[1], 'n')) do redis.call('DEL', i) end",
                "unbounded-loop",
            ),
            (
                "local old_limit = tonumber(redis.call('GET', KEYS[1]) or 0) for i = old_limit, ARGV[1] do redis.call('DEL', i) end",
                "unbounded-loop",
            ),
            (
                "local shards = redis.call('SMEMBERS', KEYS[1]) redis.call('DEL', unpack(shards))",
                "unpack-collection",
            ),
        ];
        assert_clean(&doubtful.map(|(script, _)| script));
        for (script, rule) in doubtful {
            assert!(findings(script).contains(&(1, rule)), "{script}: {:?}", findings(script));
        }
    }

    #[test]
    fn findings_about_growing_collections_are_warnings() {
        for (script, rule) in [
            ("return redis.call('SMEMBERS', 'tag:' .. ARGV[1])", "whole-collection-read"),
            ("return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1] - 60)", "whole-collection-read"),
            (
                "local timeout = redis.call('HGET', KEYS[2], 't') return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1] - timeout, 'inf')",
                "whole-collection-read",
            ),
            (
                "redis.call('ZREM', KEYS[1], unpack(ARGV)) return redis.call('ZRANGE', KEYS[1], 0, -1)",
                "whole-collection-read",
            ),
            ("local i = 0 repeat i = i + 1 until redis.call('EXISTS', 'tmp:' .. i) == 0", "unbounded-loop"),
            (
                "local n, i = redis.call('LLEN', KEYS[1]), 0 while i < n do redis.call('GET', i) i = i + 1 end redis.call('RPUSH', KEYS[1], ARGV[1])",
                "unbounded-loop",
            ),
            (
                "local prefix = ARGV[1] return redis.call('ZRANGEBYLEX', KEYS[1], '[' .. prefix, '[' .. prefix .. '\\255')",
                "whole-collection-read",
            ),
            ("return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2])", "whole-collection-read"),
            (
                "redis.call('ZADD', KEYS[1], 1, ARGV[1]) local max = ARGV[2] if max ~= '' then for _, m in ipairs(redis.call('ZREVRANGE', KEYS[1], max, -1)) do redis.call('DEL', m) end
                 redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -(max + 1)) end",
                "loop-over-collection",
            ),
            (
                "for _, m in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], '[a:', '[a:\\255')) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "local node = redis.call('GET', KEYS[1]) while node do node = redis.call('HGET', KEYS[2], node) end",
                "unbounded-loop",
            ),
            (
                "for _, f in ipairs(redis.call('HKEYS', 'running')) do redis.call('DEL', f) end",
                "loop-over-collection",
            ),
            (
                "local jobs_json = redis.call('HVALS', KEYS[1]) for _, f in ipairs(jobs_json) do redis.call('DEL', f) end",
                "loop-over-collection",
            ),
            (
                "for _, f in ipairs(redis.call('HGETALL', KEYS[1] .. ':children')) do redis.call('DEL', f) end",
                "loop-over-collection",
            ),
            ("local f = redis.call('HKEYS', KEYS[1]) redis.call('DEL', unpack(f))", "unpack-collection"),
            (
                "redis.call('HMSET', KEYS[2], unpack(redis.call('HGETALL', KEYS[1] .. ':sessions')))",
                "unpack-collection",
            ),
            // Elements that are due are removed afterwards.
            (
                "for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1])) do redis.call('DEL', m) end redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1]) return redis.call('ZRANGE', KEYS[1], 0, -1)",
                "whole-collection-read",
            ),
            (
                "local job_fields = redis.call('HKEYS', KEYS[1] .. ':jobs') for _, f in ipairs(job_fields) do redis.call('DEL', f) end",
                "loop-over-collection",
            ),
            (
                "for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1])) do redis.call('DEL', m) end redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[1])",
                "loop-over-collection",
            ),
            (
                "redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, ARGV[1]) return redis.call('ZRANGE', KEYS[1], 0, -1)",
                "whole-collection-read",
            ),
            (
                "local first = '-inf' for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], first, ARGV[2])) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "local last = ARGV[2] or '+inf' for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], last)) do redis.call('DEL', m) end",
                "loop-over-collection",
            ),
            (
                "for _, s in ipairs(redis.call('SMEMBERS', 'slots:' .. KEYS[1] .. ':jobs')) do redis.call('GET', s) end",
                "loop-over-collection",
            ),
            (
                "for _, s in ipairs(redis.call('SMEMBERS', KEYS[1])) do local slot = redis.call('GET', s) end redis.call('PEXPIRE', KEYS[1], 100)",
                "loop-over-collection",
            ),
            (
                "local count = redis.call('LLEN', KEYS[1]) local limit = count for i = 1, limit do redis.call('LPOP', KEYS[1]) end",
                "unbounded-loop",
            ),
            (
                "local since = tonumber(redis.call('HGET', KEYS[1], 'at')) for i = 1, ARGV[1] - since do redis.call('LPUSH', KEYS[2], 0) end",
                "unbounded-loop",
            ),
            (
                "redis.call('SET', KEYS[3], 1) for _, t in ipairs({1}) do for _, n in ipairs(redis.call('SMEMBERS', 'nodes')) do redis.call('DEL', n) end end while redis.call('LPOP', KEYS[1]) do end",
                "write-before-long-work",
            ),
        ] {
            assert!(severe(script).contains(&rule), "{script}: {:?}", severe(script));
        }
    }

    #[test]
    fn the_time_since_a_number_whose_key_expires_is_informational() {
        for script in [
            "local last = tonumber(redis.call('HGET', KEYS[1], 'last')) or ARGV[1] for t = last, ARGV[1] do redis.call('HDEL', KEYS[1], t) end
             redis.call('HSET', KEYS[1], 'last', ARGV[1]) redis.call('EXPIRE', KEYS[1], 60)",
            "for t = redis.call('GET', KEYS[1]) or 0, ARGV[1] do redis.call('HDEL', KEYS[2], t) end redis.call('SET', KEYS[1], ARGV[1], 'ex', 60)",
        ] {
            assert_clean(&[script]);
            assert!(findings(script).contains(&(1, "unbounded-loop")), "{script}");
        }
        for script in [
            "for t = redis.call('GET', KEYS[1]) or 0, ARGV[1] do redis.call('HDEL', KEYS[2], t) end redis.call('SET', KEYS[1], ARGV[1], 'NX') redis.call('EXPIRE', KEYS[2], 60)",
            "for i = 1, redis.call('LLEN', KEYS[1]) do redis.call('LPOP', KEYS[1]) end redis.call('EXPIRE', KEYS[1], 60)",
        ] {
            assert!(severe(script).contains(&"unbounded-loop"), "{script}");
        }
    }

    #[test]
    fn findings_about_collections_per_element_are_informational() {
        let near = "for _, node in pairs(redis.call('GEORADIUS', 'nodes', ARGV[1], ARGV[2], 15, 'm')) do for _, w in pairs(redis.call('LRANGE', 'node:' .. node[1] .. ':ways', 0, -1)) do redis.call('GET', w) end end";
        assert_clean(&[near]);
        assert_eq!(findings(near).iter().filter(|(_, rule)| *rule == "loop-over-collection").count(), 2);
        for (script, rule) in [
            // The elements themselves.
            (
                "local all = {} for _, n in ipairs(redis.call('SMEMBERS', 'names')) do all[n] = redis.call('LRANGE', 'at:' .. n, 0, -1) end",
                "loop-over-collection",
            ),
            // An id from the caller, or from a reply with a limit; elements that the script adds; a key that is the element; a name.
            (
                "local function all(n) return redis.call('LRANGE', 'at:' .. n, 0, -1) end all(ARGV[1]) for _, n in ipairs(redis.call('SMEMBERS', KEYS[1])) do all(n) end",
                "whole-collection-read",
            ),
            (
                "for _, n in ipairs(redis.call('SRANDMEMBER', KEYS[1], 10)) do redis.call('DEL', unpack(redis.call('LRANGE', 'at:' .. n, 0, -1))) end",
                "unpack-collection",
            ),
            (
                "for _, n in ipairs(redis.call('SMEMBERS', 'slots')) do local key = 'at:' .. n redis.call('RPUSH', key, ARGV[1]) redis.call('DEL', unpack(redis.call('LRANGE', key, 0, -1))) end",
                "unpack-collection",
            ),
            (
                "for _, n in ipairs(redis.call('SMEMBERS', 'slots')) do redis.call('DEL', unpack(redis.call('LRANGE', n, 0, -1))) end",
                "unpack-collection",
            ),
            (
                "for _, n in ipairs(redis.call('SMEMBERS', 'slots')) do redis.call('DEL', unpack(redis.call('LRANGE', n .. ':jobs:' .. n, 0, -1))) end",
                "unpack-collection",
            ),
        ] {
            assert!(severe(script).contains(&rule), "{script}: {:?}", severe(script));
        }
    }
}
