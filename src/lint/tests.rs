//! Helpers for the tests of rules, and tests of the linter as a whole.

use proptest::prelude::*;

use super::rule::Origin;
use super::{Finding, Limits, RULES, Severity, off_by_default};

/// Findings with all rules enabled, and the number of suppressed ones.
pub(crate) fn lint(source: &str) -> (Vec<Finding>, usize) {
    let all: Vec<String> = off_by_default().map(ToOwned::to_owned).collect();
    super::lint("a.lua", source, &Limits::default(), &all)
}

/// Lines and rules of the findings.
pub(crate) fn findings(source: &str) -> Vec<(usize, &'static str)> {
    lint(source).0.into_iter().map(|finding| (finding.line, finding.rule.name)).collect()
}

/// Lines and rules of the findings in a literal of another language.
pub(crate) fn findings_in_literal(source: &str) -> Vec<(usize, &'static str)> {
    let (diagnostics, _) =
        super::checked(source, Origin::Literal { trims_lists: false }, &Limits::default(), &[]);
    diagnostics.into_iter().map(|diagnostic| (diagnostic.position.line, diagnostic.rule.name)).collect()
}

/// Rules of the findings that are at least warnings.
pub(crate) fn severe(source: &str) -> Vec<&'static str> {
    let findings = lint(source).0.into_iter();
    findings
        .filter(|finding| finding.severity >= Severity::Warning)
        .map(|finding| finding.rule.name)
        .collect()
}

/// Asserts that a rule reports each script.
#[track_caller]
pub(crate) fn assert_reported(rule: &str, scripts: &[&str]) {
    for script in scripts {
        assert!(severe(script).contains(&rule), "{rule}: {script}: {:?}", severe(script));
    }
}

/// Asserts that no rule reports a warning or error.
#[track_caller]
pub(crate) fn assert_clean(scripts: &[&str]) {
    for script in scripts {
        assert_eq!(severe(script), [""; 0], "{script}");
    }
}

#[test]
fn examples_are_what_the_documentation_says() {
    for rule in RULES {
        let Some(example) = rule.example else {
            assert_eq!(rule.name, "too-complex", "has no example");
            continue;
        };
        let reported = |script: &str| findings(script).iter().any(|(_, name)| *name == rule.name);
        assert!(reported(example.bad), "{}: {}", rule.name, example.bad);
        assert!(!reported(example.good), "{}: {}", rule.name, example.good);
        assert!(!severe(example.good).contains(&"syntax-error"), "{}: {}", rule.name, example.good);
    }
}

#[test]
fn rules_that_are_off_by_default_report_nothing() {
    let script = "redis.call('SET', 'user:9f86d081884c7d65', '3f2504e0-4f89-11d3-9a0c-0305e82c3301')";
    let found = |script: &str, enabled: &[String]| {
        let (findings, suppressed) = super::lint("a.lua", script, &Limits::default(), enabled);
        let values = findings.iter().filter(|finding| finding.rule.name == "value-in-body").count();
        let comments = findings.iter().filter(|finding| finding.rule.name == "unused-allow").count();
        (values, comments, suppressed)
    };
    let enabled = ["value-in-body".to_owned()];
    assert_eq!(found(script, &[]), (0, 0, 0));
    assert_eq!(found(script, &enabled), (2, 0, 0));
    let suppressed = format!("-- redis-script-lint: allow(value-in-body)\n{script}");
    assert_eq!(found(&suppressed, &[]), (0, 0, 0), "the comment is for those who enable the rule");
    assert_eq!(found(&suppressed, &enabled), (0, 0, 2));
    let unused = "-- redis-script-lint: allow(value-in-body)\nreturn 1";
    assert_eq!(found(unused, &[]), (0, 0, 0));
    assert_eq!(found(unused, &enabled), (0, 1, 0));
}

#[test]
fn comments_suppress_findings() {
    let read = "redis.call('KEYS', '*')";
    for suppressed in [
        format!("{read} -- redis-script-lint: allow(keys-command) once a day"),
        format!("-- redis-script-lint: allow(keys-command)\n{read}"),
        format!("--[[ redis-script-lint: allow(scan-loop, keys-command, could-be-read-only) ]]\n\n{read}"),
        format!("-- redis-script-lint: allow-file(keys-command)\nlocal a = 1\n{read}"),
        "-- redis-script-lint: allow-file(syntax-error)\nx = `a`".to_owned(),
        "x = `a` -- redis-script-lint: allow(syntax-error)".to_owned(),
    ] {
        assert_clean(&[&suppressed]);
        assert!(lint(&suppressed).1 > 0, "{suppressed}");
    }
    for reported in [
        format!("local s = '-- redis-script-lint: allow(keys-command)'\n{read}"),
        format!("-- redis-script-lint: allow(scan-loop)\n{read}"),
        format!("-- redis-script-lint: allow(keys-command)\nlocal a = 1\n{read}"),
    ] {
        assert_reported("keys-command", &[&reported]);
    }
}

/// Fragments that random scripts are made of.
const PIECES: &[&str] = &[
    "redis.call",
    "(",
    ")",
    "'KEYS'",
    "'LRANGE'",
    ",",
    "0",
    "-1",
    "KEYS[1]",
    "while",
    "true",
    "do",
    "end",
    "repeat",
    "until",
    "for",
    "i",
    "=",
    "in",
    "ipairs",
    "if",
    "then",
    "else",
    "elseif",
    "break",
    "return",
    "local",
    "function",
    "x",
    "x",
    "#",
    "..",
    "{",
    "}",
    "and",
    "or",
    "not",
    "==",
    "<",
    "unpack",
    "math.min",
    "\n",
    "--",
    "[[",
    "]]",
    "'",
    "#!lua",
    ";",
    ":",
    ".",
    "...",
    "redis.register_function",
    "-- redis-script-lint: allow(",
    "é",
    "`",
    "\r\n",
    "\r",
    "{{ a }}",
    "<%= a %>",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_checked(source in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = lint(&String::from_utf8_lossy(&source));
    }

    #[test]
    fn any_pieces_are_checked(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..80)) {
        let _ = lint(&pieces.join(" "));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_nesting_is_checked(
        layers in prop::collection::vec(prop::sample::select(&[
            ("x = (", ")"), ("x = {", "}"), ("do ", " end "), ("if a then ", " end "), ("f(function() ", " end) "),
            ("while a do ", " end "), ("repeat ", " until a "), ("x = a .. ", ""), ("x = - ", ""), ("x = a[", "]"), ("f(", ")"),
        ][..]), 1..4),
        depth in 1_usize..400,
    ) {
        let (mut begin, mut end) = (String::new(), String::new());
        for (opens, closes) in layers.iter().cycle().take(depth) {
            begin.push_str(opens);
            end.insert_str(0, closes);
        }
        let _ = lint(&format!("{begin} a {end}"));
        let _ = lint(&begin);
    }
}
