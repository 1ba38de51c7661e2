//! Lua scripts in string literals of JavaScript and TypeScript files, the only form in which many queue and lock libraries
//! ship them.
//!
//! The source is tokenized, not run: scripts that are built at run time (`${…}`, `+`) are not found.

/// Maximum nesting depth of template literals.
const MAX_DEPTH: usize = 32;

/// Words of which a Lua script contains one.
const LUA_WORDS: [&str; 6] = ["redis.call", "redis.pcall", "server.call", "server.pcall", "KEYS[", "ARGV["];

/// Names that don't identify a script.
const GENERIC: [&str; 8] = ["lua", "content", "script", "source", "body", "code", "text", "string"];

/// Words before a value, after which `/` begins a regular expression.
const BEFORE_VALUES: [&str; 8] = ["return", "typeof", "case", "in", "of", "void", "delete", "throw"];

/// Script in a string literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// Variable or property to which it is assigned, or else the number of its first line.
    pub(super) name: String,
    /// Body of the script.
    pub(super) body: String,
}

/// Returns the scripts in this source, in its order.
pub(super) fn literals(source: &str) -> Vec<Literal> {
    let mut scanner = Scanner {
        source: source.as_bytes(),
        at: 0,
        after_value: false,
        word: None,
        receiver: None,
        typed: false,
        found: Vec::new(),
    };
    scanner.code(0);
    let mut found = scanner.found;
    found.retain(|(_, literal)| {
        literal.body.starts_with("#!lua") || LUA_WORDS.iter().any(|word| literal.body.contains(word))
    });
    let named = |line: usize, literal: Literal| {
        let generic = literal.name.is_empty() || GENERIC.contains(&literal.name.as_str());
        if generic { Literal { name: line.to_string(), ..literal } } else { literal }
    };
    let line_ends: Vec<usize> = memchr::memchr_iter(b'\n', source.as_bytes()).collect();
    found
        .into_iter()
        .map(|(at, literal)| named(1 + line_ends.partition_point(|end| *end < at), literal))
        .collect()
}

/// Position in the source, and context of what comes before it.
struct Scanner<'a> {
    source: &'a [u8],
    at: usize,
    /// True after a value: `/` is a division then, and begins no regular expression.
    after_value: bool,
    /// Last word or short literal.
    word: Option<String>,
    /// Variable or property to which the next value is assigned.
    receiver: Option<String>,
    /// True after a colon: a type may follow.
    typed: bool,
    /// Literals with their positions.
    found: Vec<(usize, Literal)>,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.source.get(self.at + ahead).copied()
    }

    /// Scans to the end, or to the brace that ends a `${`.
    fn code(&mut self, depth: usize) {
        let mut braces = 0_usize;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'/' if self.peek(1) == Some(b'/') => self.skip_to(b"\n"),
                b'/' if self.peek(1) == Some(b'*') => {
                    self.at += 2;
                    self.skip_to(b"*/");
                }
                b'/' if !self.after_value => self.regular_expression(),
                b'"' | b'\'' => self.quoted(byte),
                b'`' => {
                    if depth >= MAX_DEPTH {
                        self.at = self.source.len();
                        return;
                    }
                    self.template(depth);
                }
                byte if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii() => {
                    self.word();
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                b'}' if depth > 0 && braces == 0 => {
                    self.at += 1;
                    return;
                }
                symbol => {
                    match symbol {
                        b'{' => braces += 1,
                        b'}' => braces = braces.saturating_sub(1),
                        _ => {}
                    }
                    self.symbol(symbol);
                }
            }
        }
    }

    fn symbol(&mut self, symbol: u8) {
        match symbol {
            b':' => (self.receiver, self.typed) = (self.word.take(), true),
            b'=' if !matches!(self.peek(1), Some(b'=' | b'>')) => {
                // `const x: string = …` assigns to x.
                if !(self.typed && self.receiver.is_some()) {
                    self.receiver = self.word.take();
                }
                self.typed = false;
            }
            b'(' => {}
            _ => (self.receiver, self.typed) = (None, false),
        }
        self.after_value = matches!(symbol, b')' | b']' | b'}');
        self.at += 1;
    }

    fn word(&mut self) {
        let rest = self.source.get(self.at..).unwrap_or_default();
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii();
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let word = String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned();
        self.after_value = !BEFORE_VALUES.contains(&word.as_str());
        self.word = Some(word);
        self.at += length;
    }

    /// Skips to the end of the next `end`, or to the end of the source.
    fn skip_to(&mut self, end: &[u8]) {
        let rest = self.source.get(self.at..).unwrap_or_default();
        self.at += memchr::memmem::find(rest, end).map_or(rest.len(), |at| at + end.len());
    }

    fn regular_expression(&mut self) {
        let mut in_class = false;
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'[' => in_class = true,
                b']' => in_class = false,
                b'/' if !in_class => break,
                b'\n' => break,
                _ => {}
            }
        }
        self.after_value = true;
    }

    fn quoted(&mut self, quote: u8) {
        let began = self.at;
        self.at += 1;
        let mut body = Vec::new();
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\\' => self.escape(&mut body),
                b'\n' => break,
                byte if byte == quote => break,
                byte => body.push(byte),
            }
        }
        self.literal(began, body);
    }

    fn template(&mut self, depth: usize) {
        let began = self.at;
        let receiver = self.receiver.take();
        self.at += 1;
        let (mut body, mut whole) = (Vec::new(), true);
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'`' => break,
                b'\\' => self.escape(&mut body),
                b'$' if self.peek(0) == Some(b'{') => {
                    whole = false;
                    self.at += 1;
                    self.after_value = false;
                    self.code(depth + 1);
                }
                // Line ends in template literals are \n (ECMAScript, "Template Literal Lexical Components").
                b'\r' => {
                    if self.peek(0) == Some(b'\n') {
                        self.at += 1;
                    }
                    body.push(b'\n');
                }
                byte => body.push(byte),
            }
        }
        self.receiver = receiver;
        if whole {
            self.literal(began, body);
        } else {
            (self.after_value, self.receiver) = (true, None);
        }
    }

    /// Reads an escape sequence after its backslash.
    fn escape(&mut self, body: &mut Vec<u8>) {
        let Some(byte) = self.peek(0) else { return };
        self.at += 1;
        match byte {
            b'n' => body.push(b'\n'),
            b'r' => body.push(b'\r'),
            b't' => body.push(b'\t'),
            b'b' => body.push(8),
            b'f' => body.push(12),
            b'v' => body.push(11),
            b'0' => body.push(0),
            // A line continuation.
            b'\n' => {}
            b'\r' => self.at += usize::from(self.peek(0) == Some(b'\n')),
            b'x' => self.character(2, body),
            b'u' if self.peek(0) == Some(b'{') => {
                self.at += 1;
                let rest = self.source.get(self.at..).unwrap_or_default();
                let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                self.character(digits, body);
                self.at += usize::from(self.peek(0) == Some(b'}'));
            }
            b'u' => self.character(4, body),
            byte => body.push(byte),
        }
    }

    /// Reads a character of `digits` hexadecimal digits.
    fn character(&mut self, digits: usize, body: &mut Vec<u8>) {
        let text = self.source.get(self.at..self.at + digits).and_then(|text| std::str::from_utf8(text).ok());
        let Some(code) = text.and_then(|text| u32::from_str_radix(text, 16).ok()) else { return };
        self.at += digits;
        body.extend(char::from_u32(code).unwrap_or('\u{fffd}').to_string().bytes());
    }

    fn literal(&mut self, at: usize, body: Vec<u8>) {
        (self.after_value, self.typed) = (true, false);
        let Ok(body) = String::from_utf8(body) else { return };
        if !body.contains(char::is_whitespace) {
            // It may be the name of a property.
            self.word = Some(body.clone());
        }
        self.found.push((at, Literal { name: self.receiver.take().unwrap_or_default(), body }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(source: &str) -> Vec<(String, String)> {
        literals(source).into_iter().map(|literal| (literal.name, literal.body)).collect()
    }

    const LUA: &str = "return redis.call('GET', KEYS[1])";

    #[test]
    fn scripts_are_found_in_all_kinds_of_literals() {
        for (source, name) in [
            (format!("const lock = `{LUA}`;"), "lock"),
            (format!("exports.lock = \"{LUA}\""), "lock"),
            (format!("const lock: string = `{LUA}`;"), "lock"),
            (format!("const lock = new Script(`{LUA}`)"), "lock"),
            (format!("x({{ 'lock': `{LUA}` }})"), "lock"),
            (format!("\n\nconst content = `{LUA}`;"), "3"),
            (format!("run(`{LUA}`)"), "1"),
            (format!("const r = /[`/\"']/g, n = 4 / 2 / 1; // it's `\nconst lock = `{LUA}`"), "lock"),
            (format!("/* ` */ const t = `a ${{ f(`b ${{1}}`) }} c`; const lock = `{LUA}`"), "lock"),
        ] {
            assert_eq!(read(&source), [(name.to_owned(), LUA.to_owned())], "{source}");
        }
    }

    #[test]
    fn escape_sequences_are_decoded() {
        let found = read("a = `redis.call('X')\\n\\`\\${x}\\\\\\x41\\u00e9\\u{1F600}\\\n-`");
        assert_eq!(found[0].1, "redis.call('X')\n`${x}\\Aé😀-");
        assert_eq!(read("a = `redis.call('X')\r\n`")[0].1, "redis.call('X')\n");
    }

    #[test]
    fn other_literals_and_scripts_built_at_run_time_are_left_out() {
        assert_eq!(read("const a = `hello`; const b = `redis.call('X', ${key})`; const c = 'x' + y"), []);
    }

    proptest! {
        #[test]
        fn any_source_is_scanned(source in "[`$\\{}'\"/*\\\\a=:;\n\u{e9}ux0-9]{0,200}") {
            literals(&source);
        }
    }

    /// Far more scripts than a file of 1 MiB has room for. The time is proportional to the size.
    #[test]
    fn many_scripts_in_one_file_take_little_time() {
        let line = "const x = `return redis.call('get', KEYS[1])`; f(x, /re/g);\n";
        let now = || std::time::UNIX_EPOCH.elapsed().unwrap();
        let begun = now();
        let found = literals(&line.repeat(150_000));
        assert_eq!(found.len(), 150_000);
        assert!(now().saturating_sub(begun).as_secs() < 25);
    }
}
