//! Data of a rehearsal. A script creates it on the server, in chunks that stay below the time limit for scripts.

use super::error::RehearseError;
use super::session::Session;
use super::spec::{INDEX, KeySpec, Kind, Shape};
use crate::client::CommandError;
use crate::parse::ErrorReply;

/// Maximum number of elements created by one call.
const CHUNK: u64 = 50_000;

/// Database in which the script runs.
const WORK: u32 = 0;

/// Database with the original data, which is copied for each run of a script that writes. The script sees only the database in
/// which it runs.
const MASTER: u32 = 1;

/// Script that creates elements. KEYS is empty because the private server is not a cluster. ARGV: type; prefix and suffix of the
/// key name; number of the first and last key (0 for a single key); number of the first and last element; size of an element; text
/// of an element before and after its number (both may be empty); value.
const LOADER: &str = "\
local kind, prefix, suffix = ARGV[1], ARGV[2], ARGV[3]
local first_key, last_key, first, last = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local bytes, before, after, value = tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11]
local format, rep, call = string.format, string.rep, redis.call
local template = before ~= '' or after ~= ''
local function element(i)
  local number = format('%d', i)
  if template then return before .. number .. after end
  return rep('0', bytes - #number) .. number
end
local commands = {list = 'RPUSH', set = 'SADD', zset = 'ZADD', hash = 'HSET'}
for k = first_key, last_key do
  local key = prefix
  if k > 0 then key = prefix .. format('%d', k) .. suffix end
  if kind == 'string' then
    if value ~= '' then call('SET', key, (value:gsub('{i}', k))) else call('SET', key, rep('x', last)) end
  elseif kind == 'stream' then
    for i = first, last do call('XADD', key, format('%d-1', i), 'f', element(i)) end
  else
    local words, count = {commands[kind], key}, 2
    for i = first, last do
      if kind == 'zset' then count = count + 1; words[count] = i end
      count = count + 1
      words[count] = element(i)
      if kind == 'hash' then
        count = count + 1
        words[count] = value ~= '' and value or words[count - 1]
      end
      if count > 2000 then
        call(unpack(words, 1, count))
        count = 2
      end
    end
    if count > 2 then call(unpack(words, 1, count)) end
  end
end";

/// Script that completes the incremental rehashing of a key. Each lookup performs one step. Without it, the server would rehash
/// over time, and scripts would be slower until then. ARGV: command that looks up several elements; name of the key; number of
/// lookups.
const SETTLER: &str = "\
local words = {ARGV[1], ARGV[2]}
for i = 1, 2000 do words[#words + 1] = '' end
for i = 1, tonumber(ARGV[3]), 2000 do redis.call(unpack(words)) end";

/// Script that copies keys to the database of the rehearsed script. ARGV: prefix and suffix of the key name; number of the first
/// and last key; database.
const COPIER: &str = "\
for k = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  local key = ARGV[1]
  if k > 0 then key = key .. string.format('%d', k) .. ARGV[2] end
  redis.call('COPY', key, key, 'DB', ARGV[5], 'REPLACE')
end";

/// Script that deletes keys. ARGV: prefix and suffix of the key name; number of the first and last key.
const REMOVER: &str = "\
for k = tonumber(ARGV[1 + 2]), tonumber(ARGV[4]) do
  local key = ARGV[1]
  if k > 0 then key = key .. string.format('%d', k) .. ARGV[2] end
  redis.call('DEL', key)
end";

/// Outcome of filling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    Complete,
    /// The server has reached its memory limit.
    OutOfMemory,
}

/// Data on the server.
#[derive(Debug)]
pub(crate) struct Data<'a> {
    specs: &'a [KeySpec],
    /// Size of the data in the filled database; 0 if there is none.
    size: u64,
    /// Largest size for which keys may exist.
    largest: u64,
    /// True if the original data is kept in a separate database and copied for each run.
    has_master: bool,
    /// True if the script may have changed the data in its database.
    is_used: bool,
}

impl<'a> Data<'a> {
    pub(crate) const fn new(specs: &'a [KeySpec]) -> Self {
        Self { specs, size: 0, largest: 0, has_master: false, is_used: false }
    }

    /// Provides data of this size, without the changes of previous runs.
    pub(crate) async fn provide(
        &mut self,
        session: &mut Session,
        size: u64,
    ) -> Result<Filled, RehearseError> {
        let result = self.fill_and_copy(session, size).await;
        match result {
            Err(RehearseError::Failed { failure: CommandError::ErrorReply(error), .. })
                if is_out_of_memory(&error) =>
            {
                Ok(Filled::OutOfMemory)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Filled::Complete),
        }
    }

    async fn fill_and_copy(&mut self, session: &mut Session, size: u64) -> Result<(), RehearseError> {
        if self.is_used && !self.has_master {
            // After the first run that wrote, all data is created again in a separate database.
            self.clear(session).await?;
            self.has_master = true;
            self.size = 0;
        }
        if size != self.size {
            session.select(if self.has_master { MASTER } else { WORK }).await?;
            if size < self.size {
                self.clear_database(session).await?;
                self.size = 0;
            }
            self.largest = self.largest.max(size);
            for spec in self.specs {
                fill(session, spec, self.size, size).await?;
                settle(session, spec, size).await?;
            }
            self.size = size;
            self.is_used |= self.has_master;
        }
        if self.has_master && self.is_used {
            self.clear(session).await?;
            session.select(MASTER).await?;
            for spec in self.specs {
                let (prefix, suffix) = spec.affixes();
                for (first, last) in key_ranges(spec, 0, size) {
                    session.check()?;
                    let args = [prefix, suffix, &first.to_string(), &last.to_string(), &WORK.to_string()];
                    session.eval(COPIER, &[], &args.map(str::to_owned)).await?;
                }
            }
        }
        session.select(WORK).await?;
        self.is_used = false;
        Ok(())
    }

    /// Records that a run has changed the data.
    pub(crate) const fn set_used(&mut self) {
        self.is_used = true;
    }

    /// Returns true if runs have changed the data.
    pub(crate) const fn is_written(&self) -> bool {
        self.has_master || self.is_used
    }

    /// Removes the data from the database of the script.
    async fn clear(&self, session: &mut Session) -> Result<(), RehearseError> {
        session.select(WORK).await?;
        self.clear_database(session).await
    }

    /// Removes the data from the current database: all of it on a private server, otherwise only the keys of the rehearsal.
    async fn clear_database(&self, session: &mut Session) -> Result<(), RehearseError> {
        if session.is_private() {
            return session.flush().await;
        }
        for spec in self.specs {
            let (prefix, suffix) = spec.affixes();
            for (first, last) in key_ranges(spec, 0, self.largest) {
                let args = [prefix, suffix, &first.to_string(), &last.to_string()];
                session.eval(REMOVER, &[], &args.map(str::to_owned)).await?;
            }
        }
        Ok(())
    }

    /// Removes all keys of the rehearsal. Does nothing on a private server.
    pub(crate) async fn remove(&self, session: &mut Session) -> Result<(), RehearseError> {
        if session.is_private() {
            return Ok(());
        }
        self.clear(session).await?;
        if self.has_master {
            session.select(MASTER).await?;
            self.clear_database(session).await?;
            session.select(WORK).await?;
        }
        Ok(())
    }
}

fn is_out_of_memory(error: &ErrorReply) -> bool {
    let text = error.to_string();
    text.contains("OOM") || text.contains("maxmemory")
}

/// Returns the ranges of key numbers that are new when the size grows from `from` to `to`, one range per call. The range of a
/// single key is (0, 0).
fn key_ranges(spec: &KeySpec, from: u64, to: u64) -> Vec<(u64, u64)> {
    if !spec.is_pattern() {
        return vec![(0, 0)];
    }
    let each = spec.shape.as_ref().map_or(1, |shape| shape.elements.at(to)).clamp(1, CHUNK);
    chunks(if from == 0 { 0 } else { spec.keys.at(from) }, spec.keys.at(to), CHUNK / each)
}

/// Splits the numbers from `after + 1` to `last` into ranges of at most `length` numbers.
fn chunks(after: u64, last: u64, length: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut next = after + 1;
    while next <= last {
        let end = last.min(next.saturating_add(length.max(1) - 1));
        ranges.push((next, end));
        next = end + 1;
    }
    ranges
}

/// Extends the data of a specification from one size to another.
async fn fill(session: &mut Session, spec: &KeySpec, from: u64, to: u64) -> Result<(), RehearseError> {
    let Some(shape) = &spec.shape else { return Ok(()) };
    if shape.kind == Kind::Absent {
        return Ok(());
    }
    let elements = |size: u64| if size == 0 { 0 } else { shape.elements.at(size) };
    // First the new elements of existing keys, then all elements of new keys.
    let old_keys = if from == 0 || spec.is_pattern() && shape.kind == Kind::String && shape.value.is_some() {
        Vec::new()
    } else if spec.is_pattern() {
        chunks(0, spec.keys.at(from), CHUNK / elements(to).saturating_sub(elements(from)).clamp(1, CHUNK))
    } else {
        vec![(0, 0)]
    };
    for keys in old_keys {
        load(session, spec, shape, keys, elements(from), elements(to)).await?;
    }
    if spec.is_pattern() || from == 0 {
        for keys in key_ranges(spec, from, to) {
            load(session, spec, shape, keys, 0, elements(to)).await?;
        }
    }
    Ok(())
}

/// Completes the rehashing of a filled key, or of the database if the specification is a pattern.
async fn settle(session: &mut Session, spec: &KeySpec, size: u64) -> Result<(), RehearseError> {
    let command = match spec.shape.as_ref().map(|shape| shape.kind) {
        Some(_) if spec.is_pattern() => "EXISTS",
        Some(Kind::Set) => "SMISMEMBER",
        Some(Kind::SortedSet) => "ZMSCORE",
        Some(Kind::Hash) => "HMGET",
        _ => return Ok(()),
    };
    let lookups = if spec.is_pattern() { spec.keys.at(size) } else { spec.elements(size) };
    for (first, last) in chunks(0, lookups, CHUNK * 10) {
        let count = last + 1 - first;
        session.eval(SETTLER, &[], &[command.to_owned(), spec.name.clone(), count.to_string()]).await?;
    }
    Ok(())
}

/// Adds the elements from `after + 1` to `last` to the keys of a range.
async fn load(
    session: &mut Session,
    spec: &KeySpec,
    shape: &Shape,
    keys: (u64, u64),
    after: u64,
    last: u64,
) -> Result<(), RehearseError> {
    let (prefix, suffix) = spec.affixes();
    let template = shape.element.as_deref().unwrap_or_default();
    let (before, behind) = template.split_once(INDEX).unwrap_or((template, ""));
    let value = shape.value.as_deref().unwrap_or_default();
    let ranges = if shape.kind == Kind::String { vec![(1, last)] } else { chunks(after, last, CHUNK) };
    for (first, last) in ranges {
        let numbers = [keys.0, keys.1, first, last, shape.bytes].map(|number| number.to_string());
        let [first_key, last_key, first, last, bytes] = numbers.each_ref().map(String::as_str);
        let words = [
            shape.kind.name(),
            prefix,
            suffix,
            first_key,
            last_key,
            first,
            last,
            bytes,
            before,
            behind,
            value,
        ];
        session.check()?;
        session.eval(LOADER, &[], &words.map(str::to_owned)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_range_once() {
        assert_eq!(chunks(0, 10, 4), [(1, 4), (5, 8), (9, 10)]);
        assert_eq!(chunks(10, 12, 4), [(11, 12)]);
        assert_eq!(chunks(10, 10, 4), []);
        assert_eq!(chunks(0, 3, 0), [(1, 1), (2, 2), (3, 3)]);
    }

    #[test]
    fn keys_of_a_pattern_are_made_in_calls_of_bounded_size() {
        let spec = |text| KeySpec::parse(text).unwrap();
        assert_eq!(key_ranges(&spec("a=set"), 100, 300), [(0, 0)]);
        assert_eq!(key_ranges(&spec("a:*=set"), 100, 300), [(101, 300)]);
        assert_eq!(key_ranges(&spec("a:*=set,size=10k"), 0, 12), [(1, 5), (6, 10), (11, 12)]);
        assert_eq!(key_ranges(&spec("a:*=set,keys=3"), 100, 300), []);
        assert_eq!(key_ranges(&spec("a:*=set,keys=3"), 0, 300), [(1, 3)]);
    }
}
