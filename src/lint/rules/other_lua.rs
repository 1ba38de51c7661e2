//! Lua files that are not for Redis.

use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity, Source};
use crate::lint::source::dialect::NUL;

pub(super) static RULE: Rule = Rule {
    name: "other-lua",
    severity: Severity::Info,
    on_by_default: true,
    summary: "a file that is Lua for another program (a web server, an editor, a game, a test): no other rule is checked",
    instead: "lint only the folders with scripts for Redis",
    why: "The file uses a name that Redis does not have (`require`, `ngx`, `vim` …), and none of \
          `redis.call`, KEYS and ARGV. Other programs have other versions of Lua and other globals, and no \
          time limit. A file that uses members of `assert` is a test.",
    example: Some(Example {
        bad: "\
            local cjson = require 'cjson'\n\
            while true do\n\
            \x20\x20ngx.sleep(1)\n\
            end",
        good: "\
            return cjson.encode(redis.call('HGETALL', KEYS[1]))",
    }),
    check: Check::Source(check),
};

fn check(source: &Source<'_>) -> Vec<Diagnostic> {
    let diagnostic = source.foreign.map(|(position, name)| {
        let message = match name {
            "assert" => {
                "`assert` is used as a table, as in test frameworks: the file is not checked".to_owned()
            }
            NUL => "the file is not text and is not checked".to_owned(),
            name => format!("`{name}` does not exist in Redis, and nothing in the file is specific to Redis: the file is not checked"),
        };
        Diagnostic::new(&RULE, position, message)
    });
    diagnostic.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{findings, severe};

    #[test]
    fn lua_of_other_programs_is_not_checked() {
        for script in [
            "local socket = require 'socket' while true do socket.sleep(1) end",
            "steps = {} dofile('test.lua')",
            "ngx.say('{{ name }}') x = 1",
            "vim.keymap.set('n', 'x', function() goto_definition() end)",
            "for _, file in ipairs(files) do goto continue ::continue:: require(file) end",
            "#!/usr/bin/env resty\nlocal lapp = require 'pl.lapp' x = 5",
            "local redis = require 'resty.redis' function _M.run() while true do redis:new() end end",
            "local function f(t) for _, v in ipairs(t) do if v then goto continue end v.x = 1 ::continue:: end end return f",
            "local state = {} Global = Global or {} function state.get() return Global end return state",
            "return redis.call('GET', KEYS[1])\0\u{1}",
            "function join(t) return table.concat(t) end print(join({1, 2}))",
            "local port <const> = 8888 local function poll() return port end return poll",
            "local msg = {} return msg\nfunction msg.event(id) end",
            "local room = {} function room:join(id) return = id end",
            "application = { content = { width = 320 } } settings = { android = {} }",
            "PORT = 4000\nIP = '10.0.0.1' DEBUG = false",
            "require './harness' local all = redis.call('SMEMBERS', KEYS[1]) assert.are.same({}, all)",
            "counter = 0 function love.update(dt) counter = counter + dt end",
        ] {
            assert_eq!(
                findings(script).iter().map(|(_, rule)| *rule).collect::<Vec<_>>(),
                ["other-lua"],
                "{script}"
            );
        }
    }

    #[test]
    fn whatever_may_be_a_script_is_checked() {
        for (script, rules) in [
            ("x = 5 return x", &["global-write"][..]),
            ("while true do end", &["endless-loop"]),
            ("x = 5", &["global-write"]),
            ("x = 5 print(ARGV[1])", &["global-write"]),
            ("x = `abc`", &["syntax-error"]),
            ("while true do work(job) end", &["endless-loop"]),
            ("#!/usr/bin/env lua\nreturn 1", &["invalid-shebang"]),
            ("#!lua\nwhile true do require('x') end", &["endless-loop"]),
            ("local json = require 'json' return redis.call('KEYS', '*')", &["keys-command"]),
            ("while true do rcall('PING') end", &["endless-loop"]),
            ("local r = redis while true do f() r.call('PING') end", &["endless-loop"]),
            ("-- redis-script-lint: allow(scan-loop)\nwhile true do f() end", &["endless-loop"]),
            ("goto done ::done:: return KEYS[1]", &["syntax-error"]),
            ("local t = {} function t.f(x) return = x end return t.f(KEYS[1])", &["syntax-error"]),
            ("assert(ARGV[1]) x = 5", &["global-write"]),
            ("limits = { a = 1 } return limits.a", &["global-write"]),
        ] {
            assert_eq!(severe(script), rules, "{script}");
        }
    }
}
