//! Linter: the labelled set in `tests/lint/`, output formats, exit codes.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use redis_script_exporter::lint::{self, Limits, RULES, Severity};
use serde_json::Value as Json;
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;

use crate::common::{assert_golden, repository};
use test_support::cache;
use test_support::exporter::{Finished, binary};

/// Directory of the labelled set.
const SET: &str = "tests/lint";

/// Line and rule of a finding.
type Label = (usize, String);

/// Script in the set, with its labels.
#[derive(Debug, Default)]
struct Script {
    /// Path below [`SET`]; for a script from a package, the path below `node_modules`, with the line if it is in a
    /// JavaScript file.
    name: String,
    source: String,
    /// Line of the file at which the script begins.
    first_line: usize,
    expected: BTreeSet<Label>,
    false_alarms: BTreeSet<Label>,
}

impl Script {
    /// Returns warnings and errors by line of the file.
    fn findings(&self) -> BTreeSet<Label> {
        let all: Vec<String> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
        let (findings, _) = lint::lint(&self.name, &self.source, &Limits::default(), &all);
        let severe = findings.into_iter().filter(|finding| finding.severity >= Severity::Warning);
        severe.map(|finding| (finding.line + self.first_line - 1, finding.rule.name.to_owned())).collect()
    }
}

/// Returns the scripts that were written for the set, with the labels in their comments.
fn written() -> Vec<Script> {
    let mut found: Vec<PathBuf> = ["bad", "good"]
        .iter()
        .flat_map(|folder| fs::read_dir(repository(SET).join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found.iter().map(|path| labelled(path)).collect()
}

/// Reads a script and the labels in its comments.
fn labelled(path: &Path) -> Script {
    let source = fs::read_to_string(path).unwrap();
    let mut expected = BTreeSet::new();
    for (index, line) in source.lines().enumerate() {
        let here = line.split_once("-- expect: ").map(|(_, rules)| (index + 1, rules));
        let elsewhere = line.split_once("-- expect-line-").map(|(_, rest)| {
            let (line, rules) = rest.split_once(": ").unwrap();
            (line.parse().unwrap(), rules)
        });
        for (line, rules) in here.into_iter().chain(elsewhere) {
            expected.extend(rules.split(", ").map(|rule| (line, rule.to_owned())));
        }
    }
    let name = path.strip_prefix(repository(SET)).unwrap().to_str().unwrap().to_owned();
    Script { name, source, first_line: 1, expected, ..Script::default() }
}

/// Returns the scripts from published packages, with the labels in `real.txt`. `None` if the packages are not in the cache.
fn real() -> Option<Vec<Script>> {
    let Some(folder) = cache::modules("lint", SET) else {
        cache::skip("the packages with real scripts are not in the cache; `make setup` fetches them");
        return None;
    };
    let mut scripts: Vec<Script> = Vec::new();
    let table = fs::read_to_string(repository(SET).join("real.txt")).unwrap();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, digest] if !line.starts_with(' ') => {
                let script = packaged(&folder.join("node_modules"), name);
                let actual: String = Sha1::digest(&script.source).into_iter().flat_map(hex).collect();
                assert_eq!(actual, digest, "{name} is another script");
                scripts.push(script);
            }
            [line, rule] => {
                scripts.last_mut().unwrap().expected.insert((line.parse().unwrap(), rule.to_owned()));
            }
            [line, rule, "false-alarm"] => {
                scripts.last_mut().unwrap().false_alarms.insert((line.parse().unwrap(), rule.to_owned()));
            }
            _ => panic!("{line}"),
        }
    }
    Some(scripts)
}

/// Reads a script from a package: a file, or the string that begins on a line of a JavaScript file.
fn packaged(modules: &Path, name: &str) -> Script {
    let (file, line) = name.split_once(':').map_or((name, None), |(file, line)| (file, Some(line)));
    let text = fs::read_to_string(modules.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let first_line = line.map_or(1, |line| line.parse().unwrap());
    let source = if line.is_some() { javascript_string(&text, first_line) } else { text };
    Script { name: name.to_owned(), source, first_line, ..Script::default() }
}

/// Returns the value of the string that begins on a line of JavaScript. A variable between two literals becomes `q`.
fn javascript_string(source: &str, line: usize) -> String {
    let from = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let mut rest = &source[from..];
    let mut value = String::new();
    loop {
        let start = rest.find(['\'', '"', '`']).expect("a literal");
        let quote = rest[start..].chars().next().unwrap();
        let mut characters = rest[start + 1..].char_indices();
        let end = loop {
            match characters.next().expect("the literal's end") {
                (at, c) if c == quote => break start + 1 + at + 1,
                (_, '\\') => match characters.next().expect("an escaped character").1 {
                    '\n' => {}
                    'n' => value.push('\n'),
                    c @ ('\'' | '"' | '`' | '\\' | '$') => value.push(c),
                    c => panic!("\\{c} is not read"),
                },
                (_, c) => value.push(c),
            }
        };
        rest = &rest[end..];
        let between = rest.split(['\'', '"', '`']).next().unwrap().trim();
        let variable = between.strip_prefix('+').and_then(|between| between.strip_suffix('+'));
        if !variable.is_some_and(|name| name.trim().chars().all(|c| c.is_alphanumeric() || c == '_')) {
            return value;
        }
        value.push('q');
    }
}

/// Returns the hexadecimal digits of a byte.
fn hex(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap())
}

#[test]
fn every_labelled_case_is_found_and_false_alarms_are_counted() {
    let (written, real) = (written(), real());
    let (mut expected, mut missed, mut unlabelled, mut outdated) = (0, Vec::new(), Vec::new(), Vec::new());
    for script in written.iter().chain(real.iter().flatten()) {
        let found = script.findings();
        let cases = |labels: BTreeSet<Label>| {
            let cases =
                labels.into_iter().map(|(line, rule)| format!("{}, line {line}: {rule}", script.name));
            cases.collect::<Vec<_>>()
        };
        expected += script.expected.len();
        missed.extend(cases(&script.expected - &found));
        unlabelled.extend(cases(&(&found - &script.expected) - &script.false_alarms));
        outdated.extend(cases(&script.false_alarms - &found));
    }
    let known = real.iter().flatten().map(|script| script.false_alarms.len()).sum::<usize>();
    println!(
        "{} scripts and {} real ones: {} of {expected} cases found, {} false positives",
        written.len(),
        real.as_ref().map_or(0, Vec::len),
        expected - missed.len(),
        known + unlabelled.len(),
    );
    assert!(missed.is_empty(), "not found: {missed:#?}");
    assert!(unlabelled.is_empty(), "false positives: {unlabelled:#?}");
    assert!(outdated.is_empty(), "no longer reported: {outdated:#?}");
    assert_eq!(known, 0, "known false positives");
    if let Some(real) = real {
        let page = fs::read_to_string(repository("docs/lint.md")).unwrap().replace('\n', " ");
        let scripts = written.len() + real.len();
        let packages: BTreeSet<&str> = real.iter().filter_map(|script| package(&script.name)).collect();
        for sentence in [
            format!(
                "has {scripts} scripts, {} of them real ones from {} npm packages",
                real.len(),
                packages.len()
            ),
            format!("All {expected} labelled cases are found, with 0 false positives"),
        ] {
            assert!(page.contains(&sentence), "docs/lint.md: {sentence}");
        }
    }
}

/// Returns the name of a script's package without its version.
fn package(script: &str) -> Option<&str> {
    Some(script.split_once('/')?.0.rsplit_once('-')?.0)
}

#[test]
fn every_rule_of_warnings_and_errors_has_a_case() {
    let written = written();
    let labels = || written.iter().flat_map(|script| &script.expected);
    for rule in RULES.iter().filter(|rule| rule.severity >= Severity::Warning && rule.name != "too-complex") {
        assert!(labels().any(|(_, name)| name == rule.name), "{}", rule.name);
    }
}

#[test]
fn every_label_names_a_rule() {
    for script in written().iter().chain(real().iter().flatten()) {
        for (line, name) in &script.expected {
            assert!(lint::rule(name).is_some(), "{}, line {line}: {name}", script.name);
        }
    }
}

/// Runs `lint` in the directory of the set, so that paths in the output do not depend on the machine.
fn run(args: &[&str], stdin: &str) -> Finished {
    let mut child = Command::new(binary())
        .arg("lint")
        .args(args)
        .current_dir(repository(SET))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Finished {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Scripts with findings of several rules and severities.
const SAMPLE: [&str; 5] = [
    "bad/write-then-loop.lua",
    "bad/scan-loop.lua",
    "good/object-hash.lua",
    "bad/keys-lower-case-alias.lua",
    "bad/for-llen.lua",
];

#[test]
fn the_output_is_that_of_the_golden_files() {
    for (format, file) in [("text", "lint.txt"), ("json", "lint.json"), ("sarif", "lint.sarif")] {
        let finished = run(&[&SAMPLE[..], &["--format", format, "--level", "info"]].concat(), "");
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let version = format!("\"semanticVersion\": \"{}\"", env!("CARGO_PKG_VERSION"));
        let text = finished.stdout.replace(&version, "\"semanticVersion\": \"<x>\"");
        assert_golden(&format!("tests/golden/{file}"), &text);
    }
}

#[test]
fn sarif_has_the_fields_that_code_scanning_requires() {
    let finished = run(&["bad", "good", "no such file", "--format", "sarif", "--level", "info"], "");
    let log: Json = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for rule in rules {
        for text in [&rule["id"], &rule["shortDescription"]["text"], &rule["help"]["text"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        }
    }
    assert!(run["tool"]["driver"]["name"].is_string());
    let results = run["results"].as_array().unwrap();
    assert!(results.len() > 50);
    for result in results {
        let index: usize = result["ruleIndex"].as_u64().unwrap().try_into().unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"], "{result}");
        assert!(["note", "warning", "error"].contains(&result["level"].as_str().unwrap()), "{result}");
        assert!(!result["message"]["text"].as_str().unwrap().is_empty(), "{result}");
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(uri.starts_with("bad/") || uri.starts_with("good/"), "{uri}");
        for number in ["startLine", "startColumn"] {
            assert!(place["region"][number].as_u64().unwrap() >= 1, "{result}");
        }
    }
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let unread = &invocation["toolExecutionNotifications"][0];
    assert_eq!(unread["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "no%20such%20file");
}

#[test]
fn the_exit_code_depends_on_the_findings() {
    for (args, code) in [
        (&["good"][..], 0),
        (&["bad"], 1),
        (&["bad/smembers-loop.lua"], 1),
        (&["bad/smembers-loop.lua", "--fail-on", "error"], 0),
        (&["bad/keys-by-constant.lua", "--fail-on=error"], 1),
        (&["good/unlock.lua", "--fail-on=info"], 0),
        (&["good/no-writes-script.lua", "good/words-in-comments.lua", "--fail-on=info"], 0),
        (&["good/text-loop.lua", "nowhere.lua"], 2),
        (&["bad", "nowhere"], 2),
        (&["bad/pasted-values.lua"], 0),
        (&["bad/pasted-values.lua", "--enable=value-in-body"], 0),
        (&["bad/pasted-values.lua", "--enable=value-in-body", "--fail-on=info"], 1),
        (&["bad/pasted-values.lua", "--enable=keys-command"], 64),
        (&[], 64),
        (&["good", "--fail-on=fatal"], 64),
    ] {
        let finished = run(args, "");
        assert_eq!(finished.status.code(), Some(code), "{args:?}: {finished:?}");
    }
}

#[test]
fn text_at_which_the_parser_panics_is_a_syntax_error() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.lua"), "local a = 1\nx = `abc`").unwrap();
    fs::write(folder.path().join("b.lua"), "return redis.call('KEYS', '*')").unwrap();
    for backtrace in ["0", "full"] {
        let output = Command::new(binary())
            .args(["lint", "--fail-on=error"])
            .arg(folder.path())
            .env_clear()
            .env("RUST_BACKTRACE", backtrace)
            .output()
            .unwrap();
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!((output.status.code(), err.as_str()), (Some(1), ""), "{out}");
        assert!(out.contains("a.lua:2:5: error[syntax-error]: unexpected symbol near ```"), "{out}");
        assert!(out.contains("b.lua:1:8: error[keys-command]"), "{out}");
        assert!(!out.contains("too-complex"), "{out}");
    }
}

#[test]
fn standard_input_is_checked() {
    let finished = run(&["-"], "return redis.call('KEYS', '*')");
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stdout.starts_with("<stdin>:1:8: error[keys-command]"), "{finished:?}");
    // A pipe given by path can be read only once.
    let finished = run(&["/dev/stdin"], "redis.call('LLEN', 'a') return redis.call('KEYS', '*')");
    assert!(finished.stdout.starts_with("/dev/stdin:1:32: error[keys-command]"), "{finished:?}");
}

#[test]
fn a_limit_counts_for_the_scripts_of_its_directory() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let add =
        "local log = 'log:' .. KEYS[1] redis.call('LPUSH', log, ARGV[1]) redis.call('LTRIM', log, 0, 99)";
    fs::write(path("add.lua"), add).unwrap();
    fs::write(path("read.lua"), "return redis.call('LRANGE', 'log:' .. KEYS[1], 0, -1)").unwrap();
    let finished = run(&[&path(""), "--level", "info"], "");
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(finished.stdout.contains("fine while the collection, which a script of this directory limits"));
    assert_eq!(run(&[&path("read.lua"), &path("add.lua")], "").status.code(), Some(0));
    assert_eq!(run(&[&path("read.lua")], "").status.code(), Some(1));
}

#[test]
fn unreadable_files_are_reported_and_the_others_checked() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("large.lua"), vec![b' '; (1 << 20) + 1]).unwrap();
    fs::write(path("latin.lua"), b"-- caf\xe9\nreturn redis.call('KEYS', '\xff*')").unwrap();
    fs::write(path("other.txt"), "while true do end").unwrap();
    fs::create_dir_all(path("node_modules/dependency")).unwrap();
    fs::write(path("node_modules/dependency/a.lua"), "while true do end").unwrap();
    std::os::unix::fs::symlink(folder.path(), path("loop")).unwrap();
    let finished = run(&[folder.path().to_str().unwrap()], "");
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert!(finished.stdout.contains("large.lua: cannot read: larger than 1 MiB"), "{finished:?}");
    assert!(finished.stdout.contains("latin.lua:2:8: error[keys-command]"), "{finished:?}");
    assert!(finished.stdout.ends_with("1 script: 1 error, 1 unreadable\n"), "{finished:?}");
    assert_eq!(finished.stderr, "");
}

/// Findings contain lines of the file, so a link must not expose those of any other file.
#[test]
fn a_link_in_a_folder_is_read_only_if_it_leads_to_lua() {
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (secret, script) = (elsewhere.path().join("secret"), elsewhere.path().join("script.lua"));
    fs::write(&secret, "root:sesame:KEYS(\n").unwrap();
    fs::write(&script, "return redis.call('KEYS', '*')").unwrap();
    let directory = elsewhere.path().to_path_buf();
    for (file, link) in [(&secret, "x.lua"), (&script, "y.lua"), (&directory, "z"), (&directory, "z.lua")] {
        std::os::unix::fs::symlink(file, folder.path().join(link)).unwrap();
    }
    let finished = run(&[folder.path().to_str().unwrap()], "");
    assert!(finished.stdout.contains("y.lua:1:8: error[keys-command]"), "{finished:?}");
    assert_eq!(finished.stdout.matches("error[").count(), 1, "the directory is not entered: {finished:?}");
    assert!(!format!("{finished:?}").contains("sesame"), "{finished:?}");
}

#[test]
fn control_characters_of_scripts_and_names_are_escaped() {
    let folder = TempDir::new().unwrap();
    let hostile = "redis.call('KEYS', '\u{1b}[2J\u{202e}\u{9b}31m')";
    fs::write(folder.path().join("\u{1b}[31m\n::error::x.lua"), hostile).unwrap();
    for format in ["text", "json", "sarif"] {
        let finished = run(&[folder.path().to_str().unwrap(), "--format", format], "");
        assert_eq!(finished.status.code(), Some(1));
        let is_bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}');
        assert!(!finished.stdout.contains(is_bad), "{finished:?}");
        assert!(!finished.stdout.contains("\n::"), "{finished:?}");
    }
}

/// Findings in string literals have the positions in the files of other languages.
#[test]
fn scripts_in_literals_are_checked_in_their_files() {
    let folder = TempDir::new().unwrap();
    let python = "import redis\n\nDROP = \"\"\"\nlocal keys = redis.call('KEYS', 'é*')  return keys\n\"\"\"\n\n\ndef size(r):\n    return r.eval(\"return \\t redis.call('SMEMBERS', KEYS[1])\", 1)\n";
    let script = "// one\nconst a = `\nlocal all = redis.call('SMEMBERS', KEYS[1])\nfor _, m in ipairs(all) do redis.call('DEL', m) end`\n";
    let ruby = "A = <<~LUA\n  redis.call('DEL', 'jobs:#{name}')\nLUA\n";
    for (path, text) in [
        ("a/jobs.py", python),
        ("a/lib/b.rb", ruby),
        ("a/loop.js", script),
        ("a/vendor/c.py", python),
        ("a/none.go", "package a\n"),
    ] {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let finished = Command::new(binary())
        .args(["lint", "--format=json", "--level=info", "a"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let report: Json = serde_json::from_slice(&finished.stdout).unwrap();
    let findings: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let number = |key: &str| finding[key].as_u64().unwrap();
            (
                finding["file"].as_str().unwrap(),
                number("line"),
                number("column"),
                finding["rule"].as_str().unwrap(),
            )
        })
        .collect();
    for expected in [("a/jobs.py", 4, 14, "keys-command"), ("a/lib/b.rb", 2, 21, "client-value")] {
        assert!(findings.contains(&expected), "{findings:?}");
    }
    let message = |file: &str, rule: &str| {
        let found =
            report["findings"].as_array().unwrap().iter().find(|finding| {
                finding["file"].as_str() == Some(file) && finding["rule"].as_str() == Some(rule)
            });
        found.unwrap()["message"].as_str().unwrap().to_owned()
    };
    assert!(message("a/loop.js", "loop-over-collection").contains("the loop on line 4"), "lines of the file");
    let smembers = python.lines().position(|line| line.contains("SMEMBERS")).unwrap();
    let column = python.lines().nth(smembers).unwrap().find("redis.call").unwrap() + 1;
    let place = (u64::try_from(smembers + 1).unwrap(), u64::try_from(column).unwrap());
    assert!(
        findings.iter().any(|(file, line, column, _)| *file == "a/jobs.py" && (*line, *column) == place),
        "{findings:?}"
    );
    assert_eq!((report["files"].as_u64(), report["unreadable"].as_array().map(Vec::len)), (Some(4), Some(0)));
}

#[test]
fn a_folder_without_scripts_is_reported() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.txt"), "while true do end").unwrap();
    let path = folder.path().to_str().unwrap();
    for args in [&[path][..], &["good", path], &[path, "--format=json"], &[path, "--fail-on=error"]] {
        let finished = run(args, "");
        assert_eq!(finished.status.code(), Some(2), "{finished:?}");
        assert!(
            finished.stdout.contains("no file in this directory contains a Redis script"),
            "{finished:?}"
        );
    }
}

#[test]
fn rules_are_explained() {
    for rule in RULES {
        let finished = run(&["--explain", rule.name], "");
        assert_eq!((finished.status.code(), finished.stderr.as_str()), (Some(0), ""), "{}", rule.name);
        for text in [rule.name, rule.summary, rule.instead, &format!("docs/lint.md#{}", rule.name)] {
            assert!(finished.stdout.contains(text), "{}: {}", rule.name, finished.stdout);
        }
    }
    for args in [&["--explain", "no-such-rule"][..], &["--explain"], &["--explain", "template", "good"]] {
        assert_eq!(run(args, "").status.code(), Some(64), "{args:?}");
    }
}

#[test]
fn each_finding_links_to_its_rule() {
    let page = fs::read_to_string(repository("docs/lint.md")).unwrap();
    for format in ["text", "json", "sarif"] {
        let finished = run(&["bad", "--format", format, "--level=info"], "");
        let links: BTreeSet<&str> = finished
            .stdout
            .match_indices("docs/lint.md#")
            .map(|(at, _)| rule_name(&finished.stdout[at..]))
            .collect();
        assert!(links.len() > 15, "{format}: {links:?}");
        for rule in links {
            assert!(page.contains(&format!("\n### {rule}\n")), "{rule}");
        }
    }
}

/// Returns the name of a rule after `#`.
fn rule_name(link: &str) -> &str {
    let name = link.split_once('#').unwrap().1;
    name.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap()
}

#[test]
fn files_are_corrected_where_that_is_safe() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, before, after) in [
        (
            "reads.lua",
            "#!lua\nreturn redis.call('GET', KEYS[1])\n",
            "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])\n",
        ),
        (
            "marked.lua",
            "\u{feff}return redis.call('SET', KEYS[1], 1)\n",
            "return redis.call('SET', KEYS[1], 1)\n",
        ),
        (
            "writes.lua",
            "#!lua\nreturn redis.call('SET', KEYS[1], 1)\n",
            "#!lua\nreturn redis.call('SET', KEYS[1], 1)\n",
        ),
        ("global.lua", "x = 5\n", "x = 5\n"),
    ] {
        fs::write(path(name), before).unwrap();
        let unfixed = run(&[path(name).to_str().unwrap()], "");
        assert_eq!(fs::read_to_string(path(name)).unwrap(), before, "changed without --fix");
        let fixed = run(&[path(name).to_str().unwrap(), "--fix"], "");
        assert_eq!(fs::read_to_string(path(name)).unwrap(), after);
        if before == after {
            assert_eq!(unfixed.stdout, fixed.stdout);
        } else {
            assert_eq!((unfixed.status.code(), fixed.status.code()), (Some(1), Some(0)), "{name}");
            assert_eq!(fixed.stdout, "1 script: no findings, 1 corrected\n");
        }
    }
    assert_eq!(run(&["-", "--fix"], "#!lua\nreturn redis.call('GET', KEYS[1])").status.code(), Some(1));
}

/// Sources of 1 MiB that used to take up to 957 MB.
#[test]
fn hostile_sources_take_little_memory() {
    let folder = TempDir::new().unwrap();
    for unit in [
        "a=a\n",
        "a=a;",
        "{",
        "f(",
        "-",
        "a.",
        "local a\n",
        "'a'..",
        "if a then end ",
        "x[1]=f(1,{a=2})\n",
        "r.call(a)\n",
    ] {
        for size in [1 << 20, 130_000] {
            let path = folder.path().join("hostile.lua");
            fs::write(&path, unit.repeat(size / unit.len())).unwrap();
            // The limit includes reserved memory: 64 MiB for the stack of the checking thread and 128 MiB for a thread's
            // heap.
            let limited = "ulimit -v 438272; exec \"$0\" lint --format json \"$1\"";
            let mut command = Command::new("bash");
            command.args(["-c", limited]).arg(binary()).arg(&path);
            let output = command.output().unwrap();
            let code = output.status.code();
            assert!(
                matches!(code, Some(0 | 1)),
                "{unit:?}: {code:?} {}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{unit:?}");
        }
    }
}

/// Returns the shell script of a step of the action. Asserts that the inputs that it reads exist.
fn action_step(name: &str) -> String {
    let action: Json =
        serde_saphyr::from_str(&fs::read_to_string(repository("action.yml")).unwrap()).unwrap();
    let steps = action["runs"]["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == name).unwrap();
    for value in step["env"].as_object().unwrap().values() {
        if let Some(input) = value.as_str().unwrap().strip_prefix("${{ inputs.") {
            let input = input.strip_suffix(" }}").unwrap();
            assert!(action["inputs"][input].is_object(), "{input}");
        }
    }
    let script = step["run"].as_str().unwrap();
    assert!(!script.contains("${{"), "values belong into the environment, not into the script: {script}");
    script.to_owned()
}

#[test]
fn the_action_fails_at_findings_and_writes_sarif() {
    let folder = TempDir::new().unwrap();
    let programs = folder.path().join("redis-script-exporter/bin");
    fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(binary(), programs.join("redis-script-exporter")).unwrap();
    let sarif = folder.path().join("lint.sarif");
    for (paths, fail_on, code) in [
        ("good/unlock.lua\nbad/smembers-loop.lua\n", "warning", 1),
        ("good/unlock.lua\n\nbad/smembers-loop.lua", "error", 0),
        ("good", "warning", 0),
        ("no folder", "warning", 2),
    ] {
        let output = Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", &action_step("Lint")])
            .current_dir(repository(SET))
            .env("RUNNER_TEMP", folder.path())
            .env("PATHS", paths)
            .env("FAIL_ON", fail_on)
            .env("SARIF", &sarif)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{paths}: {output:?}");
        let log: Json = serde_json::from_str(&fs::read_to_string(&sarif).unwrap()).unwrap();
        assert_eq!(log["version"], "2.1.0");
    }
    assert!(action_step("Install").contains("--locked"));
}

#[test]
fn the_hook_runs_the_linter_on_lua_files() {
    let hooks: Json =
        serde_saphyr::from_str(&fs::read_to_string(repository(".pre-commit-hooks.yaml")).unwrap()).unwrap();
    let hook = &hooks[0];
    assert_eq!((&hook["language"], &hook["types"][0]), (&"rust".into(), &"lua".into()));
    let mut words = hook["entry"].as_str().unwrap().split(' ');
    assert_eq!(words.next().map(Path::new), binary().file_name().map(Path::new));
    let arguments: Vec<&str> = words.skip(1).chain(["good/unlock.lua"]).collect();
    assert_eq!(run(&arguments, "").status.code(), Some(0));
    let page = fs::read_to_string(repository("docs/lint.md")).unwrap();
    assert!(page.contains(hook["id"].as_str().unwrap()));
}
