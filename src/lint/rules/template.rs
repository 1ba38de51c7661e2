//! Placeholders of templates.

use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, Source};
use crate::lint::source::parse::ParseError;
use crate::lint::source::placeholders;
use crate::lua::Position;

pub(super) static RULE: Rule = Rule {
    name: "template",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a placeholder of a template (`<%= … %>`, `{{ … }}`, `{% … %}`, `${…}`, `#{…}`, `%{…}`, `%s`, `@key`): the \
              server gets another script for each value",
    instead: "pass the value in KEYS or ARGV, or lint the output of the template",
    why: "Each value makes a script of its own. The server compiles every one of them, and servers before \
          Redis 7.4 keep them all; statistics by script have one row for each value.",
    example: Some(Example {
        bad: "\
            return redis.call('DEL', '<%= prefix %>:lock')",
        good: "\
            return redis.call('DEL', KEYS[1] .. ':lock')",
    }),
    check: Check::Source(check),
};

fn check(source: &Source<'_>) -> Vec<Diagnostic> {
    let mut found: Vec<(Position, &str)> = placeholders::in_strings(source.tokens).collect();
    if let Some(ParseError::Syntax(position, _)) = source.error {
        found.extend(placeholders::in_code(source.text, source.tokens, *position));
    }
    let diagnostics = found.into_iter().map(|(position, placeholder)| {
        Diagnostic::new(&RULE, position, format!("`{placeholder}` is a placeholder of a template"))
    });
    diagnostics.collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, findings};

    #[test]
    fn placeholders_are_reported_in_place_of_syntax_errors() {
        for (script, line) in [
            ("redis.call('DEL', '<%= prefix %>')", 1),
            ("local a = 1\nredis.call('SET', \"{{ prefix }}:a\", 1)", 2),
            ("local a = 1\nlocal ttl = <%= ttl %>\nreturn a", 2),
            ("local a = 1\n{% if big %}\nreturn a\n{% end %}", 2),
            ("local a = 1\nlocal b = ${options.b}\nreturn a", 2),
            ("redis.call('DEL', '${prefix}:a')", 1),
            ("redis.call('DEL', \"#{prefix}:a\")", 1),
            ("redis.call('DEL', '%{prefix}:a')", 1),
            ("local a = '%{prefix}' local ttl = %{ttl}", 1),
            ("local a =\n\n<%= a %>\nreturn a", 3),
            ("if a then\n<% if b %>\nreturn 1\n", 2),
            ("if a then return 1 end\n%s\nreturn a", 2),
            ("local limit = %d\nreturn limit", 1),
            ("return redis.call('INCRBY', @key, 1)", 1),
        ] {
            let found = findings(script);
            assert!(found.contains(&(line, "template")), "{script}: {found:?}");
            assert!(!found.iter().any(|(_, rule)| *rule == "syntax-error"), "{script}: {found:?}");
        }
        assert_clean(&[
            "return string.match(ARGV[1], '<%w+>')",
            "return string.gsub(ARGV[1], '{{(.-)}}', 'x')",
            "return {{1, 2}, {3, 4}}",
            "local a = {} return {{a}, #{a}}",
            "return string.gsub(ARGV[1], '%${(%w+)}', 'x')",
            "return string.match(ARGV[1], '%{(%w+)%}')",
            "-- {{ name }} <%= name %>\nreturn redis.call('SET', '{user}:' .. ARGV[1], 1)",
        ]);
    }
}
