//! Plan of a rehearsal, from flags, comments in the script, and assumptions based on its commands, in this order of precedence.

use super::directive::Directives;
use super::sample::Samples;
use super::spec::{KeySpec, Kind, Shape};
use crate::cli::RehearseFlags;
use crate::lint::{self, KeyUse};
use crate::script::Library;

/// Placeholder for the size in an argument.
const SIZE: &str = "{n}";

/// Argument assumed if none is given.
const DEFAULT_ARGUMENT: &str = "1";

/// Source and data of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) source: String,
    /// Function to call, if the source is a library.
    pub(crate) function: Option<String>,
    /// KEYS.
    pub(crate) keys: Vec<String>,
    /// ARGV; `{n}` stands for the size.
    pub(crate) args: Vec<String>,
    /// Data, each with its shape.
    pub(crate) specs: Vec<KeySpec>,
    /// Assumptions, as sentences.
    pub(crate) assumptions: Vec<String>,
    pub(crate) expect_size: Option<u64>,
    pub(crate) max_size: Option<u64>,
}

impl Plan {
    /// Combines flags, comments, and the uses of KEYS and ARGV in the script.
    ///
    /// # Errors
    /// A flag or a comment is invalid.
    pub(crate) fn new(source: String, flags: &RehearseFlags, samples: &Samples) -> Result<Self, String> {
        let directives = Directives::parse(&source)?;
        let uses = lint::uses(&source);
        let library = Library::parse(source.as_bytes());
        let (mut named, mut data) = (Vec::new(), Vec::new());
        for text in &flags.key {
            let spec = KeySpec::parse(text)?;
            if let Some(other) =
                named.iter().find(|other: &&KeySpec| other.name == spec.name && **other != spec)
            {
                return Err(format!("--key {text}: the key is also given as {other}"));
            }
            if spec.is_pattern() { data.push(spec) } else { named.push(spec) }
        }
        for text in &flags.data {
            data.push(KeySpec::parse(text)?);
        }
        if data.is_empty() {
            data.extend(directives.data);
        }
        let count = named.len().max(directives.keys.len()).max(uses.keys.len());
        let (mut keys, mut specs, mut assumptions) = (Vec::new(), Vec::new(), Vec::new());
        let mut sampled_size = None;
        for spec in named.iter_mut().chain(&mut data).filter(|spec| spec.shape.is_none()) {
            if let Some(sample) = samples.get(&spec.name) {
                spec.shape = Some(sample.shape.clone());
                sampled_size = sampled_size.max(Some(sample.size));
                assumptions.push(sample.words.clone());
            }
        }
        if sampled_size.is_none() && (flags.sample_from.is_some() || flags.from_rdb.is_some()) {
            return Err("nothing to sample: name the keys or patterns of the data with --key or --data, without a type".to_owned());
        }
        for index in 0..count {
            let comment = directives.keys.get(index).cloned().flatten();
            let flag = named.get(index).cloned();
            let assumed_name = format!("key:{}", index + 1);
            let mut spec = match (flag, comment) {
                (Some(flag), Some(comment)) if flag.shape.is_none() => {
                    KeySpec { shape: comment.shape, ..flag }
                }
                (Some(spec), _) | (None, Some(spec)) => spec,
                (None, None) => KeySpec::named(&assumed_name, None)?,
            };
            if spec.shape.is_none() {
                let uses = uses.keys.get(index).cloned().unwrap_or_default();
                let (shape, reason) = assume(&uses);
                spec.shape = Some(shape);
                assumptions.push(format!("KEYS[{}] {reason}", index + 1));
            }
            keys.push(spec.name.clone());
            specs.push(spec);
        }
        for spec in data {
            if spec.shape.is_none() {
                return Err(format!("{}: give its type, for example {}=hash", spec.name, spec.name));
            }
            specs.push(spec);
        }
        let count = flags.arg.len().max(directives.args.len()).max(uses.args);
        let mut args = Vec::new();
        for index in 0..count {
            let given =
                flags.arg.get(index).cloned().or_else(|| directives.args.get(index).cloned().flatten());
            if given.is_none() {
                assumptions.push(format!("ARGV[{}] is {DEFAULT_ARGUMENT}", index + 1));
            }
            args.push(given.unwrap_or_else(|| DEFAULT_ARGUMENT.to_owned()));
        }
        let mut function = None;
        if let Some(library) = library {
            function = flags.function.clone().or(directives.function);
            if let ([only], None) = (library.functions.as_slice(), &function) {
                function = Some(only.clone());
            }
            if function.is_none() {
                let functions = library.functions.join(", ");
                return Err(format!(
                    "the file is a library: give --function with one of its functions ({functions})"
                ));
            }
        } else if flags.function.is_some() {
            return Err("--function: the first line of a library is `#!lua name=…`".to_owned());
        }
        Ok(Self {
            source,
            function,
            keys,
            args,
            specs,
            assumptions,
            expect_size: flags.expect_size.or(directives.expect_size).or(sampled_size),
            max_size: flags.max_size.or(directives.max_size),
        })
    }

    /// Returns ARGV for a size.
    pub(crate) fn args_at(&self, size: u64) -> Vec<String> {
        self.args.iter().map(|arg| arg.replace(SIZE, &size.to_string())).collect()
    }

    /// Returns true if data or arguments grow with the size.
    pub(crate) fn grows(&self) -> bool {
        self.specs.iter().any(KeySpec::grows) || self.args.iter().any(|arg| arg.contains(SIZE))
    }
}

/// Derives the shape of a key from the commands that use it. Also returns the assumption in words.
fn assume(uses: &KeyUse) -> (Shape, String) {
    let counters = ["INCR", "DECR", "INCRBY", "DECRBY", "INCRBYFLOAT"];
    let Some((command, kind)) = uses.commands.iter().find_map(|command| Some((command, kind(command)?)))
    else {
        return (
            Shape::growing(Kind::Absent),
            "is assumed to be missing: no command shows its type".to_owned(),
        );
    };
    let mut shape = Shape::growing(kind);
    if kind == Kind::String {
        let is_counter = uses.commands.iter().any(|command| counters.contains(&command.as_str()));
        if is_counter || !uses.commands.iter().any(|command| READS_BYTES.contains(&command.as_str())) {
            shape.value = Some(DEFAULT_ARGUMENT.to_owned());
        }
    }
    (shape, format!("is a {} ({command})", kind.name()))
}

/// Commands with a run time that depends on the length of a string.
const READS_BYTES: [&str; 8] =
    ["BITCOUNT", "BITPOS", "BITOP", "GETRANGE", "SETRANGE", "STRLEN", "APPEND", "GETBIT"];

/// Returns the type of key that a command requires; `None` if it accepts any type.
fn kind(command: &str) -> Option<Kind> {
    const STRINGS: &str = "APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY GET GETBIT GETDEL GETEX GETRANGE GETSET \
                           INCR INCRBY INCRBYFLOAT MGET MSET MSETNX PSETEX SET SETBIT SETEX SETNX SETRANGE STRLEN SUBSTR";
    const LISTS: &str = "BLMOVE BLPOP BRPOP BRPOPLPUSH LINDEX LINSERT LLEN LMOVE LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET \
                         LTRIM RPOP RPOPLPUSH RPUSH RPUSHX";
    const SETS: &str = "SADD SCARD SDIFF SDIFFSTORE SINTER SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE SPOP SRANDMEMBER \
                        SREM SSCAN SUNION SUNIONSTORE";
    let is_in = |commands: &str| commands.split_ascii_whitespace().any(|one| one == command);
    match command {
        _ if is_in(STRINGS) => Some(Kind::String),
        _ if is_in(LISTS) => Some(Kind::List),
        _ if is_in(SETS) => Some(Kind::Set),
        _ if command.starts_with("GEO") || command.starts_with('Z') || command.starts_with("BZ") => {
            Some(Kind::SortedSet)
        }
        "HELLO" => None,
        _ if command.starts_with('H') => Some(Kind::Hash),
        _ if command.starts_with('X') => Some(Kind::Stream),
        _ => None,
    }
}
