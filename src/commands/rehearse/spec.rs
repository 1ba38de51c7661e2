//! Keys of a rehearsal: their types and sizes, as `--key` and `--data` describe them.

use std::fmt;

use crate::cli::count as number;

/// Default size of an element in bytes, unless the specification or a sample gives one.
pub(crate) const DEFAULT_BYTES: u64 = 16;

/// Maximum size of an element, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Default number of elements of each key of a pattern.
const PATTERN_ELEMENTS: u64 = 1;

/// Placeholder for the number of an element or a key.
pub(crate) const INDEX: &str = "{i}";

/// Type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The key does not exist.
    Absent,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Stream,
}

impl Kind {
    /// Types and their names in replies to TYPE.
    const NAMES: [(&'static str, Self); 7] = [
        ("none", Self::Absent),
        ("string", Self::String),
        ("list", Self::List),
        ("set", Self::Set),
        ("zset", Self::SortedSet),
        ("hash", Self::Hash),
        ("stream", Self::Stream),
    ];

    /// Returns the name used in replies to TYPE.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("none", |(name, _)| *name)
    }

    /// Parses the name of a type in a reply to TYPE.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

/// Number that is fixed or grows with the size of the rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Fixed(u64),
    Growing,
}

impl Count {
    /// Returns the number at a size.
    pub(crate) const fn at(self, size: u64) -> u64 {
        match self {
            Self::Fixed(count) => count,
            Self::Growing => size,
        }
    }
}

/// Data of a key, or of each key of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    /// Number of elements, or number of bytes of a string.
    pub(crate) elements: Count,
    /// Minimum size of an element in bytes. If `element` is `None`, the number of the element is padded to this size with zeros.
    pub(crate) bytes: u64,
    /// Text of an element, with [`INDEX`] in place of its number; `None` for the number padded with zeros.
    pub(crate) element: Option<String>,
    /// Value of each field of a hash, or of a string.
    pub(crate) value: Option<String>,
}

impl Shape {
    /// Creates a shape with a growing number of elements.
    pub(crate) const fn growing(kind: Kind) -> Self {
        Self { kind, elements: Count::Growing, bytes: DEFAULT_BYTES, element: None, value: None }
    }
}

/// One key, or the keys of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySpec {
    /// Name; a pattern contains one `*`, which stands for the number of the key.
    pub(crate) name: String,
    /// Number of keys of a pattern; 1 for a single key.
    pub(crate) keys: Count,
    /// `None` if no type is given.
    pub(crate) shape: Option<Shape>,
}

impl KeySpec {
    /// Parses `NAME`, `NAME=TYPE` or `NAME=TYPE,option=value,…`.
    ///
    /// # Errors
    /// Returns a description of the invalid part.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((name, shape)) = text.split_once('=') else {
            return Self::named(text, None);
        };
        Self::named(name, Some(shape))
    }

    /// Creates a specification from a name and the part after it: `TYPE,option=value,…`.
    ///
    /// # Errors
    /// Returns a description of the invalid part.
    pub(crate) fn named(name: &str, shape: Option<&str>) -> Result<Self, String> {
        if name.is_empty() {
            return Err("the name of the key is empty".to_owned());
        }
        if name.matches('*').count() > 1 {
            return Err(format!("{name}: a pattern has one `*`"));
        }
        let is_pattern = name.contains('*');
        let mut spec = Self {
            name: name.to_owned(),
            keys: if is_pattern { Count::Growing } else { Count::Fixed(1) },
            shape: None,
        };
        if let Some(text) = shape {
            spec.set_shape(text, is_pattern).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(spec)
    }

    fn set_shape(&mut self, text: &str, is_pattern: bool) -> Result<(), String> {
        let mut words = text.split(',');
        let kind = words.next().unwrap_or_default();
        let kind = Kind::parse(kind).ok_or_else(|| {
            format!(
                "{kind:?} is not a type; use string, list, set, zset, hash, stream, or none for a missing key"
            )
        })?;
        let mut shape = Shape::growing(kind);
        let (mut elements, mut keys) = (None, None);
        for word in words {
            let (option, value) = word.split_once('=').unwrap_or((word, ""));
            match option {
                "size" => elements = Some(count(value)?),
                "keys" if is_pattern => keys = Some(count(value)?),
                "bytes" => {
                    let bytes = number(value)?;
                    if bytes == 0 || bytes > MAX_BYTES {
                        return Err("bytes: 1 to 1048576".to_owned());
                    }
                    shape.bytes = bytes;
                }
                "element" => shape.element = Some(value.to_owned()),
                "value" if matches!(kind, Kind::String | Kind::Hash) => shape.value = Some(value.to_owned()),
                _ => return Err(format!("unknown option {word:?}: size=, bytes=, element=, value=, keys=")),
            }
        }
        if is_pattern {
            self.keys = keys.unwrap_or(Count::Growing);
            // Either the number of keys or their size grows.
            let default = match self.keys {
                Count::Growing => Count::Fixed(PATTERN_ELEMENTS),
                Count::Fixed(_) => Count::Growing,
            };
            shape.elements = elements.unwrap_or(default);
        } else {
            shape.elements = elements.unwrap_or(Count::Growing);
        }
        self.shape = Some(shape);
        Ok(())
    }

    /// Returns true if the name is a pattern. Keys of a pattern are not passed in KEYS.
    pub(crate) fn is_pattern(&self) -> bool {
        self.name.contains('*')
    }

    /// Returns the parts of the name before and after the number of the key.
    pub(crate) fn affixes(&self) -> (&str, &str) {
        self.name.split_once('*').unwrap_or((&self.name, ""))
    }

    /// Returns true if the data grows with the size of the rehearsal.
    pub(crate) fn grows(&self) -> bool {
        let Some(shape) = &self.shape else { return false };
        let is_fixed_text = shape.kind == Kind::String && shape.value.is_some();
        shape.kind != Kind::Absent
            && (self.keys == Count::Growing || (shape.elements == Count::Growing && !is_fixed_text))
    }

    /// Returns the number of elements of all keys at a size.
    pub(crate) fn elements(&self, size: u64) -> u64 {
        let Some(shape) = &self.shape else { return 0 };
        let each = match shape.kind {
            Kind::Absent => 0,
            // All bytes of a string are written by one command.
            Kind::String => 1,
            _ => shape.elements.at(size),
        };
        self.keys.at(size).saturating_mul(each)
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(shape) = &self.shape else { return f.write_str(&self.name) };
        if shape.kind == Kind::Absent {
            return write!(f, "{} (missing)", self.name);
        }
        write!(f, "{} ({}", self.name, shape.kind.name())?;
        match (self.is_pattern(), self.keys) {
            (true, Count::Growing) => write!(f, ", n keys")?,
            (true, Count::Fixed(1)) => write!(f, ", 1 key")?,
            (true, Count::Fixed(keys)) => write!(f, ", {keys} keys")?,
            (false, _) => {}
        }
        let unit = if shape.kind == Kind::String { "bytes" } else { "elements" };
        match (&shape.value, shape.kind, shape.elements) {
            (Some(_), Kind::String, _) => write!(f, ", fixed text")?,
            (_, _, Count::Growing) => write!(f, ", n {unit}")?,
            (_, _, Count::Fixed(1)) => write!(f, ", 1 {}", unit.trim_end_matches('s'))?,
            (_, _, Count::Fixed(count)) => write!(f, ", {count} {unit}")?,
        }
        if shape.kind != Kind::String {
            write!(f, " of {} bytes", shape.bytes)?;
        }
        f.write_str(")")
    }
}

/// Parses a count: a number, or `n` for one that grows.
fn count(text: &str) -> Result<Count, String> {
    if text == "n" { Ok(Count::Growing) } else { number(text).map(Count::Fixed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_has_a_name_a_type_and_options() {
        for (text, shown) in [
            ("src=zset", "src (zset, n elements of 16 bytes)"),
            ("dst=list,size=0", "dst (list, 0 elements of 16 bytes)"),
            ("h=hash,bytes=100,size=10k", "h (hash, 10000 elements of 100 bytes)"),
            ("s=string", "s (string, n bytes)"),
            ("s=string,value=7", "s (string, fixed text)"),
            ("gone=none", "gone (missing)"),
            ("user:*=hash", "user:* (hash, n keys, 1 element of 16 bytes)"),
            ("user:*=hash,keys=1", "user:* (hash, 1 key, n elements of 16 bytes)"),
            ("user:*=hash,size=20", "user:* (hash, n keys, 20 elements of 16 bytes)"),
            ("user:*=hash,keys=3", "user:* (hash, 3 keys, n elements of 16 bytes)"),
            ("untyped", "untyped"),
        ] {
            assert_eq!(KeySpec::parse(text).map(|spec| spec.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn a_wrong_part_is_named() {
        for (text, part) in [
            ("=zset", "empty"),
            ("a=tree", "\"tree\""),
            ("a=set,length=3", "\"length=3\""),
            ("a=set,keys=3", "\"keys=3\""),
            ("a=set,value=3", "\"value=3\""),
            ("a=set,size=-3", "\"-3\""),
            ("a=set,size=99999999999", "number up to"),
            ("a=set,bytes=0", "bytes"),
            ("a*b*=set", "one `*`"),
        ] {
            let problem = KeySpec::parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn data_that_does_not_grow_is_recognised() {
        for (text, grows) in [
            ("a=set", true),
            ("a=set,size=5", false),
            ("a=none", false),
            ("a=string", true),
            ("a=string,value=5", false),
            ("a:*=string,value=5", true),
            ("a:*=set,keys=5", true),
            ("a:*=set,keys=5,size=5", false),
        ] {
            assert_eq!(KeySpec::parse(text).unwrap().grows(), grows, "{text}");
        }
        assert_eq!(KeySpec::parse("u:*=hash,size=20").unwrap().elements(100), 2000);
        assert_eq!(KeySpec::parse("s=string").unwrap().elements(100), 1);
    }
}
