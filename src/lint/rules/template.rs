//! Template placeholders.

use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, Source};
use crate::lint::source::parse::ParseError;
use crate::lint::source::placeholders;
use crate::lua::Position;

pub(super) static RULE: Rule = Rule {
    name: "template",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a file that is a template (`<%= … %>`, `{{ … }}`, `{% … %}`, `${…}`, `#{…}`, `%{…}`, `%(…)s`, `%s`, `$name`, \
              `<?= … ?>`) and not the script that the server gets",
    instead: "pass the values in KEYS or ARGV, or lint the output of the template",
    why: "The linter checks the file as it is, so it may miss code that the template adds. If a value \
          differs between calls, each value creates a new script: the server compiles every one of them, \
          and servers before Redis 7.4 keep them all. Values in literals of other languages are reported \
          as `client-value`.",
    example: Some(Example {
        bad: "\
            return redis.call('DEL', '<%= prefix %>:lock')",
        good: "\
            return redis.call('DEL', KEYS[1] .. ':lock')",
    }),
    check: Check::Source(check),
};

fn check(source: &Source<'_>) -> Vec<Diagnostic> {
    if source.origin.is_literal() {
        return Vec::new();
    }
    let mut found = found(source);
    found.sort_by_key(|(position, _)| *position);
    let Some((position, placeholder)) = found.first() else { return Vec::new() };
    let others = if found.len() > 1 { format!(", the first of {}", found.len()) } else { String::new() };
    let message = format!("`{placeholder}` is a placeholder of a template{others}");
    vec![Diagnostic::new(&RULE, *position, message)]
}

/// Placeholders of a source: those in strings, those that parse as tables, and the first one in code that is not Lua.
pub(super) fn found(source: &Source<'_>) -> Vec<(Position, String)> {
    // Strings in Lua that is not for Redis are templates for something else.
    let in_strings = placeholders::in_strings(source.tokens).filter(|_| source.is_for_redis);
    let mut found: Vec<(Position, String)> =
        in_strings.map(|(position, placeholder)| (position, placeholder.to_owned())).collect();
    if let Some(ParseError::Syntax(position, _)) = source.error {
        let in_code = placeholders::in_code(source.text, source.tokens, *position);
        found.extend(in_code.map(|(position, placeholder)| (position, placeholder.to_owned())));
    }
    found.extend(placeholders::in_tables(source.tokens, source.undefined));
    found
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
            ("local limit = %(limit)s\nreturn limit", 1),
            ("return redis.call('DEL', '%(key)s')", 1),
            ("local limit = $limit\nreturn limit", 1),
            ("local limit = <?= $limit ?>\nreturn limit", 1),
            ("{{- if .Values.big }}\nreturn 1\n{{- end }}", 1),
            ("{# a comment #}\nreturn 1", 1),
            ("<%# a comment %>\nreturn 1", 1),
            ("local limit = {{limit}}\nreturn limit", 1),
            ("local a = 1\nlocal ttl = {{ttl}}\nreturn ttl + a", 2),
            ("local ttl = {{ settings.ttl }} + 1\nreturn ttl", 1),
            ("return {{ json .config }}", 1),
            ("local limit = #{limit}\nreturn limit", 1),
            ("@include('a')\nreturn 1", 1),
            ("%arg size integer\nreturn 1", 1),
            ("--- @@include('lib')\nreturn redis.call('GET', KEYS[1])\n@@include('lib')", 3),
            ("#include \"lib.lua\"\nreturn 1", 1),
            ("local ttl = $1\nreturn ttl", 1),
            ("local ttl = %%TTL%%\nreturn ttl", 1),
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
            "local a = {} return {{a}}",
            "local function f(a) return {{a}} end return f(1)",
            "return {{ARGV}}",
            "return string.gsub(ARGV[1], '%${(%w+)}', 'x')",
            "return string.match(ARGV[1], '%{(%w+)%}')",
            "local function page() return [[<b>{{ name }}</b>]] end return page()",
            "-- {{ name }} <%= name %>\nreturn redis.call('SET', '{user}:' .. ARGV[1], 1)",
        ]);
    }
}
