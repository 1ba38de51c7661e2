//! Loops whose end depends on data.

use crate::lint::analysis::facts::Facts;
use crate::lint::analysis::loops::LongLoop;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "unbounded-loop",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a loop or a recursion whose number of iterations depends on data",
    instead: "limit the number of iterations, and call the script again while there is more",
    why: "The loop runs as long as there is data: after an outage of its consumers, a queue has millions \
          of entries. A counter that is one of the conditions bounds a loop, and so does `math.min`.",
    example: Some(Example {
        bad: "\
            while redis.call('LLEN', KEYS[1]) > 0 do\n\
            \x20\x20redis.call('LPOP', KEYS[1])\n\
            end",
        good: "\
            for i = 1, 100 do\n\
            \x20\x20if not redis.call('LPOP', KEYS[1]) then break end\n\
            end",
    }),
    check: Check::Script(check),
};

fn check(facts: &Facts<'_>, _: Header) -> Vec<Diagnostic> {
    let loops = facts.long_loops().filter_map(|(around, long)| {
        let keyword = around.kind.keyword();
        let (message, call) = match long {
            LongLoop::Count(call) => {
                let command = facts.calls.command(*call);
                let message =
                    format!("the number of iterations of this {keyword} loop is a reply of {command}");
                (message, Some(*call))
            }
            LongLoop::Until(call) => {
                let command = facts.calls.command(*call);
                (format!("this {keyword} loop ends only at a certain reply of {command}"), Some(*call))
            }
            LongLoop::Unbounded => {
                (format!("this {keyword} loop calls commands, and no counter limits it"), None)
            }
            // Loops over a collection are reported where it is read.
            LongLoop::Collection(_) | LongLoop::Endless | LongLoop::Scan(_) => return None,
        };
        Some(Diagnostic::of_loop(&RULE, facts, around, &message, call))
    });
    let recursions = facts.recursions.iter().filter_map(|recursion| match &recursion.long {
        LongLoop::Until(call) => {
            let command = facts.calls.command(*call);
            let message = format!("the depth of this recursion depends on the replies of {command}");
            Some(Diagnostic::of_recursion(&RULE, facts, recursion, &message, *call))
        }
        _ => None,
    });
    loops.chain(recursions).collect()
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{assert_clean, assert_reported};

    #[test]
    fn loops_whose_end_depends_on_data_are_reported() {
        assert_reported(
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
        assert_clean(&[
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
}
