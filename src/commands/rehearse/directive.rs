//! Comments in a script that configure its rehearsal: `-- redis-script-exporter: rehearse KEYS[1]=zset ARGV[1]=100`.

use super::spec::KeySpec;
use crate::cli::count;
use crate::lua::{Kind, tokens};

/// Marker of such a comment.
const MARK: &str = "redis-script-exporter: rehearse";

/// Maximum index of KEYS and ARGV.
const MAX_INDEX: usize = 100;

/// Settings from the comments of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    /// Keys by their index in KEYS, starting at 0.
    pub(crate) keys: Vec<Option<KeySpec>>,
    /// Arguments by their index in ARGV, starting at 0.
    pub(crate) args: Vec<Option<String>>,
    /// Keys that are not passed in KEYS.
    pub(crate) data: Vec<KeySpec>,
    pub(crate) expect_size: Option<u64>,
    pub(crate) max_size: Option<u64>,
    pub(crate) function: Option<String>,
}

impl Directives {
    /// Parses the comments of a script.
    ///
    /// # Errors
    /// A word in a marked comment is invalid. The error contains its line number.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let body = source.strip_prefix('\u{feff}').unwrap_or(source);
        // The first line of a library is not Lua.
        let body =
            if body.starts_with("#!") { body.find('\n').and_then(|at| body.get(at..)) } else { Some(body) };
        let mut directives = Self::default();
        for token in tokens(body.unwrap_or_default()) {
            if let Kind::Comment(comment) = token.kind
                && let Some((_, text)) = comment.split_once(MARK)
            {
                let line = token.position.line;
                for word in words(text.lines().next().unwrap_or_default()) {
                    directives.add(&word).map_err(|problem| format!("line {line}: {problem}"))?;
                }
            }
        }
        Ok(directives)
    }

    fn add(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} has no ="))?;
        match name {
            "expect-size" => self.expect_size = Some(count(value)?),
            "max-size" => self.max_size = Some(count(value)?),
            "function" => self.function = Some(value.to_owned()),
            _ => {
                if let Some(index) = index(name, "KEYS")? {
                    // KEYS[1]=zset, or KEYS[1]=name=zset.
                    let is_named = value.split(',').next().is_some_and(|first| first.contains('='));
                    let spec = if is_named {
                        KeySpec::parse(value)?
                    } else {
                        KeySpec::named(&format!("key:{}", index + 1), Some(value))?
                    };
                    set(&mut self.keys, index, spec);
                } else if let Some(index) = index(name, "ARGV")? {
                    set(&mut self.args, index, value.to_owned());
                } else {
                    self.data.push(KeySpec::parse(word)?);
                }
            }
        }
        Ok(())
    }
}

/// Sets an entry, and adds empty entries before it if needed.
fn set<T: Clone>(entries: &mut Vec<Option<T>>, index: usize, value: T) {
    if entries.len() <= index {
        entries.resize(index + 1, None);
    }
    if let Some(entry) = entries.get_mut(index) {
        *entry = Some(value);
    }
}

/// Parses the index in a name like `KEYS[1]` and returns it starting at 0; `None` if the name has a different form.
fn index(name: &str, table: &str) -> Result<Option<usize>, String> {
    let Some(index) = name.strip_prefix(table).and_then(|rest| rest.strip_prefix('[')?.strip_suffix(']'))
    else {
        return Ok(None);
    };
    let index = index.parse().ok().filter(|index| (1..=MAX_INDEX).contains(index));
    index.map(|index| Some(index - 1)).ok_or_else(|| format!("{name}: the index is 1 to {MAX_INDEX}"))
}

/// Splits text into words separated by whitespace. Quoted text may contain whitespace: `ARGV[1]="a b"`.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut is_open = false;
    for c in text.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                is_open = true;
            }
            None if c.is_whitespace() => {
                if is_open {
                    words.push(std::mem::take(&mut word));
                }
                is_open = false;
            }
            _ => {
                word.push(c);
                is_open = true;
            }
        }
    }
    if is_open {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_arguments_and_options_are_read_from_comments() {
        let source = "#!lua name=x\n-- redis-script-exporter: rehearse KEYS[2]=zset,size=5 ARGV[1]=100\n\
                      local a = '-- redis-script-exporter: rehearse KEYS[9]=set'\n\
                      -- redis-script-exporter: rehearse job:*=hash expect-size=50k ARGV[3]='a \"b' KEYS[3]=q:x=list\n";
        let directives = Directives::parse(source).unwrap();
        let keys: Vec<_> = directives
            .keys
            .iter()
            .map(|key| key.as_ref().map(|key| (key.name.as_str(), key.grows())))
            .collect();
        assert_eq!(keys, [None, Some(("key:2", false)), Some(("q:x", true))]);
        assert_eq!(directives.args, [Some("100".to_owned()), None, Some("a \"b".to_owned())]);
        assert_eq!(directives.data, [KeySpec::parse("job:*=hash").unwrap()]);
        assert_eq!((directives.expect_size, directives.max_size), (Some(50_000), None));
        assert_eq!(Directives::parse("return 1").unwrap(), Directives::default());
    }

    #[test]
    fn a_wrong_word_is_reported_with_its_line() {
        for (word, part) in [
            ("KEYS[0]=set", "KEYS[0]"),
            ("KEYS[1000]=set", "KEYS[1000]"),
            ("KEYS[1]=tree", "\"tree\""),
            ("zset", "\"zset\""),
            ("expect-size=many", "\"many\""),
        ] {
            let problem =
                Directives::parse(&format!("x = 1\n-- redis-script-exporter: rehearse {word}")).unwrap_err();
            assert!(problem.starts_with("line 2: ") && problem.contains(part), "{problem}");
        }
    }
}
