//! Each rule on the smallest scripts that it tells, and does not tell.

use proptest::prelude::*;

use super::{OFF_BY_DEFAULT, RULES, Severity};

/// What [`super::lint`] finds with all rules.
fn lint(file: &str, source: &str) -> (Vec<super::Finding>, usize) {
    super::lint(file, source, &OFF_BY_DEFAULT.map(ToOwned::to_owned))
}

/// The rules that tell something, with their lines.
fn found(source: &str) -> Vec<(usize, &'static str)> {
    lint("a.lua", source).0.into_iter().map(|finding| (finding.line, finding.rule)).collect()
}

/// The rules that tell something that is at least a warning.
fn told(source: &str) -> Vec<&'static str> {
    let findings = lint("a.lua", source).0.into_iter();
    findings.filter(|finding| finding.severity >= Severity::Warning).map(|finding| finding.rule).collect()
}

#[track_caller]
fn assert_told(rule: &str, scripts: &[&str]) {
    for script in scripts {
        assert!(told(script).contains(&rule), "{rule}: {script}: {:?}", told(script));
    }
}

#[track_caller]
fn assert_fine(scripts: &[&str]) {
    for script in scripts {
        assert_eq!(told(script), [""; 0], "{script}");
    }
}

#[test]
fn rules_are_sorted_and_worded() {
    assert!(RULES.is_sorted_by_key(|rule| rule.name));
    assert!(OFF_BY_DEFAULT.iter().all(|name| super::rule(name).is_some()));
    for rule in RULES {
        assert!(!rule.what.contains('|') && !rule.instead.contains('|'), "{}", rule.name);
    }
}

#[test]
fn commands_are_known_by_every_way_to_call_them() {
    assert_told(
        "keys-command",
        &[
            "redis.call('KEYS', '*')",
            "redis.pcall 'keys'",
            "server.call(\"KEYS\", '*')",
            "local call = redis.call return call('KEYS', '*')",
            "local r = redis; local c = redis.pcall; c('Keys', '*')",
            "pcall(redis.call, 'KEYS', '*')",
            "local C = 'KEYS' redis.call(C, '*')",
            "redis.call(unpack({'KEYS', '*'}))",
            "redis['call']('KEYS', '*')",
            "rcall('KEYS', '*')",
        ],
    );
    assert_fine(&[
        "local redis = {} redis.call('KEYS', '*')",
        "print('KEYS', '*')",
        "log('keys of the set', 1)",
        "local function rcall() end rcall('KEYS', '*')",
    ]);
}

#[test]
fn loops_without_an_end() {
    assert_told(
        "endless-loop",
        &[
            "while true do end",
            "repeat until false",
            "repeat until nil",
            "while 1 do f() end",
            "while true do while a do break end end",
        ],
    );
    assert_fine(&[
        "while true do break end",
        "while false do end",
        "repeat until true",
        "while true do error('x') end",
    ]);
}

#[test]
fn loops_whose_end_is_in_the_data() {
    assert_told(
        "unbounded-loop",
        &[
            "while redis.call('LLEN', KEYS[1]) > 0 do redis.call('LPOP', KEYS[1]) end",
            "repeat local x = redis.call('RPOP', KEYS[1]) until not x",
            "while true do if not redis.call('RPOP', KEYS[1]) then break end end",
            "while true do local x = redis.call('RPOP', KEYS[1]) if x then f(x) else return 1 end end",
            "for i = 1, redis.call('LLEN', KEYS[1]) do end",
            "local n = tonumber(redis.call('GET', KEYS[1])) for i = 1, n do end",
            "local function size(k) return redis.call('SCARD', k) end for i = 1, size(KEYS[1]) do end",
            "local i, n = 0, redis.call('LLEN', KEYS[1]) while i < n do i = i + 1 end",
        ],
    );
    assert_fine(&[
        "for i = 1, ARGV[1] do redis.call('SET', KEYS[1], i) end",
        "for i = 1, math.min(redis.call('LLEN', KEYS[1]), 100) do redis.call('LPOP', KEYS[1]) end",
        "local i = 0 while i < 100 and redis.call('LPOP', KEYS[1]) do i = i + 1 end",
        "local i = 0 repeat i = i + 1 until redis.call('LPOP', KEYS[1]) == false or i == 10",
        "local n = 10 while n > 0 do n = n - 1 if not redis.call('LPOP', KEYS[1]) then break end end",
        "while true do redis.call('SET', KEYS[1], 1) break end",
        "local function less(b) redis.call('LPOP', KEYS[1]) return b - 1 end local b = 9 while b > 0 do b = less(b) end",
        "local t, p = redis.call('GET', KEYS[1]), 1 while string.find(t, 'a', p) do p = string.find(t, 'a', p) + 1 end",
        "local x = 10 while x > 1 do x = x / 2 end return redis.call('SET', KEYS[1], x)",
    ]);
}

#[test]
fn scans_that_go_all_the_way() {
    assert_told("scan-loop", &["repeat local r = redis.call('SCAN', c) c = r[1] until c == '0'"]);
    assert_told("collection-scan-loop", &["while c ~= '0' do c = redis.call('HSCAN', KEYS[1], c)[1] end"]);
    assert_fine(&[
        "local r = redis.call('SCAN', ARGV[1]) for i = 1, #r[2] do redis.call('DEL', r[2][i]) end",
        "for i = 1, 10 do c = redis.call('SSCAN', KEYS[1], c)[1] end",
    ]);
}

#[test]
fn collections_that_are_read_whole() {
    for (script, rule) in [
        ("return redis.call('SMEMBERS', KEYS[1])", "whole-collection-read"),
        ("for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do f(m) end", "loop-over-collection"),
        ("local t = redis.call('HGETALL', KEYS[1]) for i = 1, #t, 2 do f(t[i]) end", "loop-over-collection"),
        (
            "local t = redis.call('LRANGE', KEYS[1], 0, -1) or {} for k in pairs(t) do f(k) end",
            "loop-over-collection",
        ),
        (
            "local i, t = 1, redis.call('ZRANGE', KEYS[1], 0, -1) while i <= #t do i = i + 1 end",
            "loop-over-collection",
        ),
        (
            "local f = 0 local function g(t) for i = 1, #t do f = i end end g(redis.call('SMEMBERS', KEYS[1]))",
            "loop-over-collection",
        ),
    ] {
        assert_eq!(told(script), [rule], "{script}");
    }
    assert_fine(&[
        "for _, m in ipairs(redis.call('LRANGE', KEYS[1], 0, 9)) do f(m) end",
        "for _, m in ipairs(redis.call('MGET', unpack(KEYS))) do f(m) end",
        "local t = redis.call('HGETALL', KEYS[1]) return t[1]",
    ]);
    assert_told("unpack-collection", &["redis.call('DEL', unpack(redis.call('SMEMBERS', KEYS[1])))"]);
    assert_told(
        "unpack-collection",
        &[
            "local t = {} for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do t[#t + 1] = m end redis.call('DEL', unpack(t))",
        ],
    );
}

#[test]
fn what_is_written_before_long_work() {
    let long = "for _, m in ipairs(redis.call('SMEMBERS', KEYS[1])) do f(m) end";
    let written = |before: &str| told(&format!("{before} {long}")).contains(&"write-before-long-work");
    for before in [
        "redis.call('SET', KEYS[1], 1)",
        "if a then redis.call('DEL', KEYS[1]) end",
        "local function w() redis.call('INCR', KEYS[1]) end w()",
        "for i = 1, 3 do redis.call('INCR', KEYS[1]) end",
        "pcall(function() redis.call('INCR', KEYS[1]) end)",
    ] {
        assert!(written(before), "{before}");
    }
    for before in [
        "redis.call('GET', KEYS[1])",
        "redis.call('PUBLISH', 'a', 'b')",
        "if a then redis.call('SET', KEYS[1], 1) return 1 end",
        "local function w() redis.call('INCR', KEYS[1]) end",
    ] {
        assert!(!written(before), "{before}");
    }
}

#[test]
fn flags_are_held_to_what_is_called() {
    for (script, rule) in [
        ("#!lua\nreturn redis.call('GET', KEYS[1])", "missing-no-writes"),
        ("#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], 1)", "write-despite-no-writes"),
        ("#!lua flags=no-writes\nreturn redis.call('PUBLISH', 'a', 'b')", "write-despite-no-writes"),
        (
            "#!lua name=l\nredis.register_function('f', function(k) return redis.call('GET', k[1]) end)",
            "missing-no-writes",
        ),
        (
            "#!lua name=l\nredis.register_function{function_name='f', callback=function(k) return redis.call('DEL', k[1]) end, flags={'no-writes'}}",
            "write-despite-no-writes",
        ),
    ] {
        assert_eq!(told(script), [rule], "{script}");
    }
    assert_fine(&[
        "#!lua\nreturn redis.call(ARGV[1], KEYS[1])",
        "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])",
        "#!lua name=l\nlocal function f(k) return redis.call('SET', k[1], 1) end\nredis.register_function('f', f)",
    ]);
    assert_eq!(found("return redis.call('GET', KEYS[1])"), [(1, "could-be-read-only")]);
}

#[test]
fn values_and_keys_in_the_body() {
    assert_told(
        "value-in-body",
        &[
            "redis.call('SET', 'user:1234', ARGV[1])",
            "redis.call('SET', KEYS[1], 1718035261734)",
            "redis.call('SET', KEYS[1], '3f2504e0-4f89-11d3-9a0c-0305e82c3301')",
        ],
    );
    assert_fine(&[
        "redis.call('SET', 'config:v2', ARGV[1])",
        "redis.call('EXPIRE', KEYS[1], 2592000)",
        "redis.call('SET', KEYS[1], 2147483647)",
        "redis.call('SET', KEYS[1], 1704067200000)",
    ]);
    let undeclared = |script: &str| found(script).iter().any(|(_, rule)| *rule == "undeclared-key");
    assert!(undeclared("redis.call('SET', 'config', 1)"));
    assert!(undeclared("redis.call('SET', ARGV[1] .. ':x', 1)"));
    assert!(!undeclared("redis.call('SET', KEYS[1] .. ':x', 1)"));
    assert!(!undeclared("redis.call('PUBLISH', 'channel', 1)"));
}

#[test]
fn what_is_not_lua_is_told_where() {
    assert_eq!(found("local x = 1\nlocal y = = 2"), [(2, "syntax-error")]);
    assert_eq!(found("#!lua flags=no-writes\nreturn +"), [(2, "syntax-error")]);
    assert_eq!(found("if a then\n  break\nend"), [(2, "syntax-error")]);
    assert_eq!(found("x = 'abc"), [(1, "syntax-error")]);
    assert_eq!(found("\u{feff}return 1"), [(1, "syntax-error")]);
    assert_eq!(found(&format!("x = {}", "(".repeat(100_000))), [(1, "too-complex")]);
}

/// The parser panics on these; that is a message for nobody.
#[test]
fn what_the_parser_cannot_read_is_a_syntax_error() {
    assert_eq!(found("local a = 1\n\nlocal x = `abc"), [(3, "syntax-error")]);
    assert_eq!(found("x = `abc`"), [(1, "syntax-error")]);
    assert_eq!(found("#!lua flags=no-writes\r\n-- `a`\r\nx = '`' .. `abc\r\n"), [(3, "syntax-error")]);
    let (findings, _) = lint("a.lua", "return `abc`");
    assert_eq!((findings[0].column, findings[0].message.as_str()), (8, "unexpected symbol near ```"));
}

#[test]
fn line_ends_of_windows_are_line_ends() {
    assert_eq!(found("local s = \"abc\\\r\ndef\"\r\nreturn s\r\n"), []);
    assert_eq!(found("local s = 'a\\\r\n\\\r\n'\r\nlocal y = = 2\r\n"), [(4, "syntax-error")]);
    assert!(found("-- a\r\nreturn redis.call('KEYS', '*')\r\n").contains(&(2, "keys-command")));
}

#[test]
fn a_first_line_that_the_server_refuses() {
    assert_told(
        "invalid-shebang",
        &[
            "#!lua flags=nowrites\nreturn 1",
            "#!/usr/bin/env lua\nreturn 1",
            "#!lua",
            "#!lua flags=no-write\r\nreturn 1\r\n",
        ],
    );
    assert_fine(&[
        "#!lua flags=allow-oom,no-writes\nreturn 1",
        "#!lua name=l\nlocal a = 1",
        "#!lua\r\nreturn 1\r\n",
    ]);
}

#[test]
fn templates_are_named_as_such() {
    for (script, line) in [
        ("redis.call('DEL', '<%= prefix %>')", 1),
        ("local a = 1\nredis.call('SET', \"{{ prefix }}:a\", 1)", 2),
        ("local a = 1\nlocal ttl = <%= ttl %>\nreturn a", 2),
        ("local a = 1\n{% if big %}\nreturn a\n{% end %}", 2),
    ] {
        let found = found(script);
        assert!(found.contains(&(line, "template")), "{script}: {found:?}");
        assert!(!found.iter().any(|(_, rule)| *rule == "syntax-error"), "{script}: {found:?}");
    }
    assert_fine(&[
        "return string.match(ARGV[1], '<%w+>')",
        "return string.gsub(ARGV[1], '{{(.-)}}', 'x')",
        "return {{1, 2}, {3, 4}}",
        "-- {{ name }} <%= name %>\nreturn redis.call('SET', '{user}:' .. ARGV[1], 1)",
    ]);
    assert_eq!(found("-- <%= name %>\nx = = 1"), [(2, "syntax-error")]);
}

#[test]
fn rules_that_are_off_by_default_say_nothing() {
    let script = "redis.call('SET', 'user:1234', 1718035261734)";
    let found = |script: &str, enabled: &[String]| {
        let (findings, allowed) = super::lint("a.lua", script, enabled);
        let values = findings.iter().filter(|finding| finding.rule == "value-in-body").count();
        let comments = findings.iter().filter(|finding| finding.rule == "unused-allow").count();
        (values, comments, allowed)
    };
    let enabled = ["value-in-body".to_owned()];
    assert_eq!(found(script, &[]), (0, 0, 0));
    assert_eq!(found(script, &enabled), (2, 0, 0));
    let allowed = format!("-- redis-script-lint: allow(value-in-body)\n{script}");
    assert_eq!(found(&allowed, &[]), (0, 0, 0), "the comment is for those who switch the rule on");
    assert_eq!(found(&allowed, &enabled), (0, 0, 2));
    let unused = "-- redis-script-lint: allow(value-in-body)\nreturn 1";
    assert_eq!(found(unused, &[]), (0, 0, 0));
    assert_eq!(found(unused, &enabled), (0, 1, 0));
}

#[test]
fn what_is_nested_is_read_in_time() {
    for (begin, end) in [
        ("a[", "]"),
        ("f(", ")"),
        ("{", "}"),
        ("(a .. ", ")"),
        ("a[f({", "})]"),
        ("f(function() return ", " end)"),
    ] {
        let depth = 190 / begin.matches(['[', '(', '{']).count().max(2);
        let source = format!("x = {}1{}", begin.repeat(depth), end.repeat(depth));
        assert_eq!(found(&source), [], "{begin}");
    }
}

#[test]
fn comments_allow() {
    let read = "redis.call('KEYS', '*')";
    for allowed in [
        format!("{read} -- redis-script-lint: allow(keys-command) once a day"),
        format!("-- redis-script-lint: allow(keys-command)\n{read}"),
        format!("--[[ redis-script-lint: allow(scan-loop, keys-command, could-be-read-only) ]]\n\n{read}"),
        format!("-- redis-script-lint: allow-file(keys-command)\nlocal a = 1\n{read}"),
    ] {
        assert_fine(&[&allowed]);
        assert!(lint("a.lua", &allowed).1 > 0, "{allowed}");
    }
    for told in [
        format!("local s = '-- redis-script-lint: allow(keys-command)'\n{read}"),
        format!("-- redis-script-lint: allow(scan-loop)\n{read}"),
        format!("-- redis-script-lint: allow(keys-command)\nlocal a = 1\n{read}"),
    ] {
        assert_told("keys-command", &[&told]);
    }
    assert_eq!(found("-- redis-script-lint: allow(keys-command)\nreturn 1"), [(1, "unused-allow")]);
    assert_eq!(told("-- redis-script-lint: allow(keys)\nreturn 1"), ["unknown-rule"]);
    assert_eq!(told("-- redis-script-lint: allow keys-command\nreturn 1"), ["unknown-rule"]);
}

/// Pieces that scripts are made of.
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
    "{{ a }}",
    "<%= a %>",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read(source in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = lint("a.lua", &String::from_utf8_lossy(&source));
    }

    #[test]
    fn any_pieces_are_read(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..80)) {
        let _ = lint("a.lua", &pieces.join(" "));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_nesting_is_read(
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
        let _ = lint("a.lua", &format!("{begin} a {end}"));
        let _ = lint("a.lua", &begin);
    }
}
