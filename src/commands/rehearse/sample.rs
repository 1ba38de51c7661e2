//! Shape of real keys: types, numbers of elements and sizes, never values.

use std::collections::BTreeMap;
use std::time::Duration;

use ::redis::{Cmd, Value, cmd};
use tokio::time::timeout;

use super::error::RehearseError;
use super::session::{self, Session};
use super::spec::{Count, DEFAULT_BYTES, KeySpec, Kind, Shape};
use crate::cli::{Cli, RehearseFlags};
use crate::client::Connection;
use crate::config::Config;
use crate::convert::float;
use crate::parse::integer;

/// Maximum time for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum memory of a reply, in bytes.
const REPLY_LIMIT: usize = 1 << 20;

/// Maximum number of keys examined per pattern.
const MAX_KEYS: usize = 200;

/// Maximum number of SCAN commands per pattern.
const MAX_SCANS: usize = 1000;

/// Number of elements sampled by MEMORY USAGE.
const MEMORY_SAMPLES: u32 = 50;

/// Approximate memory overhead of an element, in bytes.
const ENTRY: u64 = 40;

/// Shape of the keys that match a name or pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyShape {
    pub(crate) shape: Shape,
    /// Number of elements of the key, or number of keys of a pattern: the size in production.
    pub(crate) size: u64,
    /// Description for the report.
    pub(crate) words: String,
}

/// Samples by name or pattern.
pub(crate) type Samples = BTreeMap<String, KeyShape>;

/// Server from which keys are read.
enum Source {
    Server(Connection),
    /// Private server that has loaded a dump.
    Dump(Box<Session>),
}

impl Source {
    async fn send(&mut self, command: Cmd, name: &'static str) -> Result<Value, RehearseError> {
        match self {
            Self::Dump(session) => session.send(command, name).await,
            Self::Server(connection) => {
                timeout(REPLY_TIMEOUT, connection.send_any(command, name, REPLY_LIMIT))
                    .await
                    .map_err(|_| RehearseError::Timeout(name))?
                    .map_err(|failure| RehearseError::Failed { command: name, failure })
            }
        }
    }
}

/// Samples the keys named by the flags, from the server or the dump given by the flags.
///
/// # Errors
/// The server or the dump cannot be read.
pub(crate) async fn read(cli: &Cli, flags: &RehearseFlags) -> Result<Samples, RehearseError> {
    let mut samples = Samples::new();
    let mut source = if let Some(url) = &flags.sample_from {
        let cli =
            Cli { redis_addr: vec![url.clone()], redis_log_file: None, config_file: None, ..cli.clone() };
        let Some(target) = Config::from_cli(&cli)?.targets.pop() else { return Ok(samples) };
        Source::Server(session::dial(&target).await?)
    } else if let Some(dump) = &flags.from_rdb {
        Source::Dump(Box::new(session::start(flags.server.as_deref(), 0, Some(dump)).await?))
    } else {
        return Ok(samples);
    };
    for text in flags.key.iter().chain(&flags.data) {
        let name = KeySpec::parse(text).map_err(RehearseError::Usage)?.name;
        let sample = if name.contains('*') {
            sample_pattern(&mut source, &name).await?
        } else {
            sample_key(&mut source, &name).await?.map(|(shape, size)| {
                let words = format!("{name} has {size} elements of {} bytes in the sample", shape.bytes);
                KeyShape { shape, size, words }
            })
        };
        if let Some(sample) = sample {
            samples.insert(name, sample);
        }
    }
    Ok(samples)
}

/// Returns the shape of a key and its number of elements; `None` if the key does not exist.
async fn sample_key(source: &mut Source, name: &str) -> Result<Option<(Shape, u64)>, RehearseError> {
    let key = |command: &str| {
        let mut command = cmd(command);
        command.arg(name);
        command
    };
    let kind = match source.send(key("TYPE"), "TYPE").await? {
        Value::SimpleString(name) => Kind::parse(&name),
        _ => None,
    };
    let (length, text) = match kind {
        None | Some(Kind::Absent) => return Ok(None),
        Some(Kind::String) => ("STRLEN", "STRLEN"),
        Some(Kind::List) => ("LLEN", "LLEN"),
        Some(Kind::Set) => ("SCARD", "SCARD"),
        Some(Kind::SortedSet) => ("ZCARD", "ZCARD"),
        Some(Kind::Hash) => ("HLEN", "HLEN"),
        Some(Kind::Stream) => ("XLEN", "XLEN"),
    };
    let unsigned =
        |value: Value| integer(&value).ok().and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let size = unsigned(source.send(key(length), text).await?);
    let mut usage = cmd("MEMORY");
    usage.arg("USAGE").arg(name).arg("SAMPLES").arg(MEMORY_SAMPLES);
    let memory = unsigned(source.send(usage, "MEMORY USAGE").await?);
    let mut shape = Shape::growing(kind.unwrap_or(Kind::Absent));
    let is_pair = shape.kind == Kind::Hash;
    let bytes = (memory / size.max(1)).saturating_sub(ENTRY) / if is_pair { 2 } else { 1 };
    shape.bytes = bytes.clamp(DEFAULT_BYTES, 1 << 20);
    Ok(Some((shape, size)))
}

/// Returns the shape of the keys that match a pattern: the most common type, and the mean size of the keys of that type. Returns
/// `None` if no key exists.
async fn sample_pattern(source: &mut Source, pattern: &str) -> Result<Option<KeyShape>, RehearseError> {
    let (mut names, mut cursor, mut scanned) = (Vec::new(), "0".to_owned(), 0_u64);
    let mut is_complete = false;
    for _ in 0..MAX_SCANS {
        let mut scan = cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
        let Value::Array(reply) = source.send(scan, "SCAN").await? else { break };
        scanned += 1000;
        let mut reply = reply.into_iter();
        if let Some(Value::BulkString(next)) = reply.next() {
            cursor = String::from_utf8_lossy(&next).into_owned();
        }
        if let Some(Value::Array(found)) = reply.next() {
            names.extend(found.into_iter().filter_map(|name| match name {
                Value::BulkString(name) => String::from_utf8(name).ok(),
                _ => None,
            }));
        }
        is_complete = cursor == "0";
        if is_complete {
            break;
        }
    }
    let found = u64::try_from(names.len()).unwrap_or(u64::MAX);
    let total = match source.send(cmd("DBSIZE"), "DBSIZE").await {
        Ok(reply) if !is_complete => {
            let keys = integer(&reply).ok().and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
            found.saturating_mul(keys) / scanned.max(1)
        }
        _ => found,
    };
    let mut shapes: BTreeMap<&str, (Shape, u64, u64)> = BTreeMap::new();
    for name in names.iter().take(MAX_KEYS) {
        if let Some((shape, size)) = sample_key(source, name).await? {
            let entry = shapes.entry(shape.kind.name()).or_insert_with(|| (shape, 0, 0));
            entry.1 += size;
            entry.2 += 1;
        }
    }
    let Some((mut shape, elements, keys)) = shapes.into_values().max_by_key(|(_, _, keys)| *keys) else {
        return Ok(None);
    };
    shape.elements = Count::Fixed((elements / keys.max(1)).max(1));
    let words = format!(
        "{pattern} has about {total} keys of {:.0} elements in the sample",
        float(elements) / float(keys)
    );
    Ok(Some(KeyShape { shape, size: total, words }))
}
