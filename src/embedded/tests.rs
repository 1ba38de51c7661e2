use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sha1::{Digest as _, Sha1};

use super::*;

/// Extensions of all languages.
const EXTENSIONS: [&str; 12] = ["py", "rb", "php", "go", "java", "kt", "cs", "rs", "js", "ts", "ex", "jsx"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/languages")
}

fn sha1(body: &[u8]) -> String {
    Sha1::digest(body).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Compares the scripts in the files of `tests/languages` with the lines of `expected.txt`.
#[test]
fn scripts_of_every_language_have_name_position_and_sha1() {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut lines, mut extensions) = (String::new(), BTreeSet::new());
    for path in paths {
        let extension = path.extension().unwrap().to_str().unwrap().to_owned();
        if !is_known(&extension) {
            continue;
        }
        let file = path.file_name().unwrap().to_str().unwrap();
        for script in scripts(&extension, &fs::read_to_string(&path).unwrap(), &mut || false).unwrap() {
            let Position { line, column } = script.position;
            let what = if script.is_template() { script.body.clone() } else { sha1(script.bytes()) };
            writeln!(lines, "{file}:{line}:{column} {} {what}", script.name).unwrap();
        }
        extensions.insert(extension);
    }
    assert_eq!(extensions.len(), 12, "{extensions:?}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(folder().join("expected.txt"), &lines).unwrap();
    }
    let expected = fs::read_to_string(folder().join("expected.txt")).unwrap();
    assert_eq!(lines, expected);
}

/// Every `redis.call` in a script is at its reported position in the file.
#[test]
fn positions_in_a_script_are_those_of_the_file() {
    let mut words = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let source = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = source.lines().collect();
        for script in scripts(path.extension().unwrap().to_str().unwrap(), &source, &mut || false).unwrap() {
            let position = script.positions(&source);
            for (row, line) in script.body.lines().enumerate() {
                for (at, word) in line.match_indices("redis.call") {
                    let column = line.get(..at).unwrap().chars().count() + 1;
                    let Position { line, column } = position(Position { line: row + 1, column });
                    let rest: String = lines[line - 1].chars().skip(column - 1).collect();
                    assert!(rest.starts_with(word), "{}:{line}:{column}", path.display());
                    words += 1;
                }
            }
            let last = script.body.lines().count();
            assert!(position(Position { line: last + 9, column: 9 }).line <= lines.len());
        }
    }
    assert!(words > 50, "{words}");
}

fn read(extension: &str, source: &str) -> Vec<(String, String)> {
    let scripts = scripts(extension, source, &mut || false).unwrap();
    scripts.into_iter().map(|script| (script.name, script.body)).collect()
}

const LUA: &str = "return redis.call('GET', KEYS[1])";

#[test]
fn literals_are_named_by_what_has_them() {
    for (extension, source, name) in [
        ("js", format!("const lock = `{LUA}`;"), "lock"),
        ("js", format!("exports.lock = \"{LUA}\""), "lock"),
        ("ts", format!("const lock: string = `{LUA}`;"), "lock"),
        ("js", format!("const lock = new Script(`{LUA}`)"), "lock"),
        ("js", format!("x({{ 'lock': `{LUA}` }})"), "lock"),
        ("js", format!("\n\nconst content = `{LUA}`;"), "3"),
        ("js", format!("run(`{LUA}`)"), "1"),
        ("js", format!("r.defineCommand('lock', {{ lua: `{LUA}` }})"), "lock"),
        ("js", format!("const r = /[`/\"']/g, n = 4 / 2 / 1; // it's `\nconst lock = `{LUA}`"), "lock"),
        ("js", format!("/* ` */ const t = `a ${{ f(`b ${{1}}`) }} c`; const lock = `{LUA}`"), "lock"),
        ("php", format!("<?php define('LOCK', \"{LUA}\");"), "LOCK"),
        ("php", format!("<?php $this->scripts['lock'] = \"{LUA}\";"), "lock"),
        ("py", format!("def lock(r):\n  r.eval(script=\"{LUA}\")"), "lock"),
        ("rb", format!("def lock\n  @redis.eval(\"{LUA}\")\nend"), "lock"),
        ("cs", format!("class A {{ string Lock {{ get; }} = \"{LUA}\"; }}"), "Lock"),
        ("kt", format!("fun lock() {{\n  run(script = \"{LUA}\")\n}}"), "lock"),
        ("ex", format!("defmodule A do\n def lock(c), do: run(c, \"{LUA}\")\nend"), "lock"),
    ] {
        assert_eq!(read(extension, &source), [(name.to_owned(), LUA.to_owned())], "{source}");
    }
    let twice = format!("function lock() {{ a(`{LUA}`);\nb(`{LUA}`) }}");
    let names: Vec<String> = read("js", &twice).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["lock", "lock:2"]);
}

#[test]
fn values_that_are_not_constant_are_placeholders() {
    for (extension, source, script) in [
        ("js", "a = [`x = ${n}`, \"redis.call('X')\"].join('\\n')", "x = ${n}\nredis.call('X')"),
        ("py", "a = '\\n'.join([f'x = {n}', m, \"redis.call('X')\"])", "x = ${n}\n${m}\nredis.call('X')"),
        ("go", "package a\nvar a = \"x = \" + n + \"\\nredis.call('X')\"", "x = ${n}\nredis.call('X')"),
    ] {
        assert_eq!(read(extension, source)[0].1, script, "{source}");
    }
}

#[test]
fn other_literals_and_other_files_have_no_scripts() {
    assert_eq!(read("js", "const a = `hello`; // redis.call\nconst c = 'x' + y"), []);
    assert_eq!(read("py", "# redis.call('GET', KEYS[1])\nx = 1"), []);
    assert_eq!(read("txt", "redis.call('GET', KEYS[1])"), []);
    assert!(!is_known("lua") && !is_known("md"));
}

#[test]
fn windows_line_ends_are_line_ends() {
    for (extension, source) in [
        ("js", "a = `redis.call('X')\r\n`"),
        ("go", "package a\r\nvar a = `redis.call('X')\r\n`"),
        ("py", "a = \"\"\"redis.call('X')\r\n\"\"\""),
        ("rb", "A = <<~LUA\r\n  redis.call('X')\r\nLUA\r\n"),
        ("java", "class A { String a = \"\"\"\r\n  redis.call('X')\r\n  \"\"\"; }"),
    ] {
        assert_eq!(read(extension, source)[0].1, "redis.call('X')\n", "{extension}");
    }
}

/// Sources of the maximum size that repeat a construct that is expensive to parse or to search.
fn hostile() -> impl Iterator<Item = String> {
    let size = usize::try_from(MAX_SIZE).unwrap();
    let units = [
        "(",
        "`${",
        "{\"redis.call\":",
        "f(\"redis.call\",",
        "\"redis.call\" + ",
        "<!--",
        "%q{",
        "<<~A\n",
        "?:",
        "\"#{",
    ];
    units.into_iter().map(move |unit| format!("x = \"redis.call\" {}", unit.repeat(size / unit.len())))
}

/// Tests constants that refer to other constants, and to themselves.
#[test]
fn nested_constants_do_not_grow_exponentially() {
    let mut source =
        "A0 = \"redis.call('X')\"\nB = B + \"redis.call\" + C\nC = B + \"redis.call\" + B\n".to_owned();
    for number in 1..100 {
        let before = number - 1;
        writeln!(source, "A{number} = A{before} + \"redis.call\" + A{before} + A{before}").unwrap();
    }
    let all = read("py", &source);
    assert_eq!(all.len(), 102);
    let length: usize = all.iter().map(|(_, body)| body.len()).sum();
    assert!(length < 6 << 20, "{length}");
}

/// The parser calls `is_late` often enough, and the work after parsing takes little time.
#[test]
#[expect(clippy::disallowed_methods, reason = "the time is what is measured")]
fn hostile_files_end_in_time() {
    let limit = Duration::from_millis(50);
    for extension in EXTENSIONS {
        for source in hostile() {
            let begun = Instant::now();
            let found = scripts(extension, &source, &mut || begun.elapsed() > limit);
            let end: String = source.chars().skip(17).take(12).collect();
            let elapsed = begun.elapsed();
            assert!(
                elapsed < Duration::from_secs(20),
                "{extension}: {end}: {elapsed:?}, {:?}",
                found.map(|all| all.len())
            );
        }
    }
}

proptest! {
    #[test]
    fn any_source_is_parsed(
        extension in prop::sample::select(&EXTENSIONS[..]),
        source in "(redis\\.call|KEYS\\[|\"\"\"|'''|<<~A\n|<<<'A'\n|A\n|\\$\"|@\"|r#\"|\"#|~s|~S\"|\\$\\{|#\\{|[`$\\{}'\"/*\\\\a=:;\n\u{e9}ux0-9+.<>() ]){0,60}",
    ) {
        for script in scripts(extension, &source, &mut || false).unwrap() {
            prop_assert_eq!(script.body.len(), script.origins.len());
            let position = script.positions(&source);
            for line in 0..4 {
                position(Position { line, column: 3 });
            }
        }
    }
}
