//! Values that the program or its client inserts into a script.

use super::template::found;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, Source};

pub(super) static RULE: Rule = Rule {
    name: "client-value",
    severity: Severity::Info,
    on_by_default: true,
    summary: "a value that the program puts into a literal (`${ttl}`, `%s`), or its client into the script (`@key`, `_:key`)",
    instead: "pass values that differ from call to call in KEYS or ARGV",
    why: "A constant is fine. A value that differs between calls creates a new script each time: the \
          server compiles every one of them, and servers before Redis 7.4 keep them all. A client that \
          replaces `@key` or `_:key` passes the value in KEYS or ARGV, so the script stays the same.",
    example: Some(Example {
        bad: "\
            return redis.call('INCRBY', @key, @amount)",
        good: "\
            return redis.call('INCRBY', KEYS[1], ARGV[1])",
    }),
    check: Check::Source(check),
};

fn check(source: &Source<'_>) -> Vec<Diagnostic> {
    let mut values = source.parameters.to_vec();
    if source.origin.is_literal() {
        values.extend(found(source));
    }
    values.sort_by_key(|(position, _)| *position);
    let first = values.into_iter().next();
    let diagnostic = first.map(|(position, value)| {
        Diagnostic::new(&RULE, position, format!("`{value}` is replaced before the server gets the script"))
    });
    diagnostic.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{findings, findings_in_literal};

    #[test]
    fn values_in_literals_are_not_templates() {
        for (script, line) in [
            ("return redis.call('DEL', '${prefix}:lock')", 1),
            ("local a = 1\n${logic}\nreturn redis.call('DEL', KEYS[a])", 2),
            ("local ttl = %s\nreturn redis.call('EXPIRE', KEYS[1], ttl)", 1),
            ("return redis.call('GET', '{{.set}}')", 1),
        ] {
            let found = findings_in_literal(script);
            assert!(found.contains(&(line, "client-value")), "{script}: {found:?}");
            let others = ["template", "syntax-error"];
            assert!(!found.iter().any(|(_, rule)| others.contains(rule)), "{script}: {found:?}");
        }
    }

    #[test]
    fn a_script_with_values_in_its_code_is_checked() {
        for script in [
            "local n = ${n} return redis.call('KEYS', '*')",
            "local all = redis.call('KEYS', '*') return #all > %d",
            "return {$name, redis.call('KEYS', '*')}",
        ] {
            let found = findings_in_literal(script);
            for rule in ["client-value", "keys-command"] {
                assert!(found.contains(&(1, rule)), "{script}: {found:?}");
            }
            assert!(!findings(script).contains(&(1, "keys-command")), "{script}");
        }
        for script in ["${logic} local n = ${n} return redis.call('KEYS', '*')", "${name} = 1 return ${name}"]
        {
            assert_eq!(findings_in_literal(script), [(1, "client-value")], "{script}");
        }
    }

    #[test]
    fn parameters_of_a_client_are_values() {
        let script = "\u{feff}local a = redis.call('KEYS', @pattern)\nif a == @expected then return 1 end";
        let found = findings(script);
        assert!(found.contains(&(1, "client-value")) && found.contains(&(1, "keys-command")), "{found:?}");
        assert!(!found.iter().any(|(_, rule)| ["template", "syntax-error"].contains(rule)), "{found:?}");
        let script = "local n = redis.call('GET', _:key-name) if n == _:old-?value then redis.call('DEL', _:key-name) end";
        assert_eq!(findings(script), [(1, "client-value")]);
        for script in ["return _:key('a')", "return _:key{}", "return _: key"] {
            assert!(!findings(script).contains(&(1, "client-value")), "{script}");
        }
        assert_eq!(findings("return redis.call('GET', 'user@example')")[0].1, "could-be-read-only");
    }
}
