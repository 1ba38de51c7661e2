//! Loops whose end depends on data.

use crate::lint::analysis::facts::ScriptFacts;
use crate::lint::analysis::loops::LongLoop;
use crate::lint::rule::{Check, Diagnostic, Example, Rule, Severity};
use crate::lint::source::header::Header;

pub(super) static RULE: Rule = Rule {
    name: "unbounded-loop",
    severity: Severity::Warning,
    on_by_default: true,
    summary: "a loop or a recursion whose number of iterations depends on data",
    instead: "limit the number of iterations, and call the script again while there is more",
    why: "The loop runs as long as there is data: after an outage of its consumers, a queue may have \
          millions of entries. A counter in one of the conditions bounds a loop, and so does `math.min`.",
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

fn check(facts: &ScriptFacts<'_>, _: Header) -> Vec<Diagnostic> {
    let loops = facts.long_loops().filter_map(|(around, long)| {
        let keyword = around.kind.keyword();
        let (message, call) = match long {
            LongLoop::Count(call) => {
                let command = facts.calls.command(*call);
                let message =
                    format!("the number of iterations of this {keyword} loop is a reply to {command}");
                (message, Some(*call))
            }
            LongLoop::Elapsed(call) => {
                let command = facts.calls.command(*call);
                let message = format!(
                    "the number of iterations of this {keyword} loop grows with the distance to a reply of {command}"
                );
                (message, Some(*call))
            }
            LongLoop::Until(call) => {
                let command = facts.calls.command(*call);
                (format!("this {keyword} loop ends only at a certain reply of {command}"), Some(*call))
            }
            LongLoop::Unbounded => {
                (format!("this {keyword} loop calls commands, and no counter limits it"), None)
            }
            // Loops over a collection are reported at the command that reads it.
            LongLoop::Collection(_) | LongLoop::Fields(_) | LongLoop::Endless(_) | LongLoop::Scan(_) => {
                return None;
            }
        };
        let diagnostic = Diagnostic::of_loop(&RULE, facts, around, &message, call);
        Some(diagnostic.unless(facts.doubt_of_loop(long).as_ref()))
    });
    let recursions = facts.recursions.long.iter().filter_map(|recursion| match &recursion.long {
        LongLoop::Until(call) => {
            let command = facts.calls.command(*call);
            let message = format!("the depth of this recursion depends on the replies of {command}");
            let diagnostic = Diagnostic::of_recursion(&RULE, facts, recursion, &message, *call);
            Some(diagnostic.unless(facts.doubt_of_recursion(recursion).as_ref()))
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
                "local function move() local x = redis.call('RPOP', KEYS[1]) if not x then return end redis.call('LPUSH', KEYS[2], x) return true end while move() do end",
                "for i = 1, table.getn(redis.call('GET', KEYS[1])) do end while table.getn(redis.call('LRANGE', KEYS[1], 0, 9)) > 0 do redis.call('LPOP', KEYS[1]) end",
                "local n = tonumber(redis.call('GET', KEYS[1])) for i = 1, n do end",
                "local function size(k) return redis.call('SCARD', k) end for i = 1, size(KEYS[1]) do end",
                "local i, n = 0, redis.call('LLEN', KEYS[1]) while i < n do i = i + 1 end",
                "local n = redis.call('LLEN', KEYS[1]) while n > 0 do redis.call('LPOP', KEYS[1]) n = n - 1 end",
                "local n = redis.call('LLEN', KEYS[1]) while 0 < n do redis.call('LPOP', KEYS[1]) n = n - 1 end",
                "local n = redis.call('STRLEN', KEYS[1]) while n ~= 0 do n = n - 1 end",
                "local n = redis.call('ZCARD', KEYS[1]) repeat n = n - 1 until n <= 0",
                "local n = tonumber(redis.call('GET', KEYS[1])) repeat n = -1 + n until n == 0",
                "local n = redis.call('LLEN', KEYS[1]) - 1 while n >= 0 do n = n - 1 end",
                "local n = redis.call('LLEN', KEYS[1]) while true do n = n - 1 if n == 0 then break end end",
                "local i, n = 0, redis.call('LLEN', KEYS[1]) while n - i > 0 do i = i + 1 end",
                "local i, n = 0, redis.call('LLEN', KEYS[1]) local left = n while left > 0 do i = i + 1 left = n - i end",
                "for i = redis.call('LLEN', KEYS[1]), 1, -1 do end",
                "local n = tonumber(redis.call('GET', KEYS[1]) or 0) for i = n, 1, -1 do end",
                "local n = redis.call('ZCARD', KEYS[1]) for i = n - 1, 0, -10 do end",
                "local n = redis.call('LLEN', KEYS[1]) for i = 1, n, tonumber(ARGV[1]) do end",
                "local n = redis.call('LLEN', KEYS[1]) for i = n, 1, -ARGV[1] do end",
                "local function down(n) while n > 0 do n = n - 1 end end down(redis.call('LLEN', KEYS[1]))",
                "for i = 1, math.huge do local x = redis.call('RPOP', KEYS[1]) if not x then break end end",
                "for i = 1, 1e12 do if redis.call('LLEN', KEYS[1]) == 0 then break end redis.call('RPOP', KEYS[1]) end",
                "for i = 1, 2 * redis.call('LLEN', KEYS[1]) do end",
                "local n = redis.call('LLEN', KEYS[1]) if n < 100 then n = 100 end for i = 1, n do end",
                "local t = {redis.call('LLEN', KEYS[1]), 2} for i = t[1], 1, -1 do end",
                "local t = redis.call('LRANGE', KEYS[1], 0, -1) while #t > 0 do redis.call('DEL', table.remove(t)) end",
                "local function walk(at, path) if #path > 0 then walk(redis.call('HGET', at, table.remove(path)), path) end end walk(KEYS[1], redis.call('LRANGE', KEYS[2], 0, -1))",
                "local i, n = 0, redis.call('ZCARD', KEYS[1]) while i < n do local last = math.min(i + 99, n) redis.call('ZRANGE', KEYS[1], i, last) i = last + 1 end",
                "local left = redis.call('GET', KEYS[1]) local n = redis.call('LLEN', KEYS[1]) if left < n then n = left end for i = 1, n do end",
                "local n = redis.call('LLEN', KEYS[1]) if ARGV[1] then n = n - 1 end for i = 1, n do end",
                "local n = 5 if ARGV[1] then n = redis.call('LLEN', KEYS[1]) end for i = 1, n do end",
                "local last = redis.call('GET', KEYS[1]) for i = last, ARGV[1] do end",
                "local s = {n = redis.call('LLEN', KEYS[1])} while s.n > 0 do s.n = s.n - 1 end",
                "local s = {} s.n = redis.call('LLEN', KEYS[1]) while s.n > 0 do s.n = s.n - 1 end",
                "local s = {i = 0, n = redis.call('LLEN', KEYS[1])} while s.i < s.n do s.i = s.i + 1 end",
                "local s = {i = 0} while s.i < redis.call('LLEN', KEYS[1]) do s['i'] = s['i'] + 1 end",
                "local t = {} while #t < redis.call('LLEN', KEYS[1]) do local x = redis.call('RPOP', KEYS[1]) t[#t + 1] = x end",
                "local t = {} while #t >= 0 do local x = redis.call('RPOP', KEYS[1]) if not x then break end t[#t + 1] = x end",
                "local s = {n = 0} while s.n >= 0 do redis.call('LPOP', KEYS[1]) s.n = redis.call('LLEN', KEYS[1]) end",
            ],
        );
    }

    #[test]
    fn loops_with_a_bound_are_not_reported() {
        assert_clean(&[
            "local ids = redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1) for i = 1, table.getn(ids) do redis.call('HGET', ids[i], 'a') end",
            "local h = redis.call('HGETALL', KEYS[1]) local d, k, v = {} for i = 1, #h, 2 do k = h[i] v = tonumber(h[i + 1]) d[k] = v end",
            "local n = redis.call('GET', KEYS[1]) for i = 1, math.ceil(math.log(n) / 0.693) do redis.call('GETBIT', KEYS[2], i) end",
            "local n = math.log10(redis.call('SCARD', KEYS[1])) local i = 0 while i < n do i = i + 1 redis.call('PING') end",
            "while #ARGV > 0 do redis.call('RPUSH', KEYS[1], table.remove(ARGV)) end",
            "while table.getn(ARGV) > 0 do redis.call('RPUSH', KEYS[1], table.remove(ARGV, 1)) end",
            "while #ARGV > 0 do local a = table.remove(ARGV, 1) if a == 'x' then redis.call('DEL', KEYS[1]) end end",
            "while true do local x = redis.call('LINDEX', KEYS[1], 0) if x == false then break else redis.call('PING') break end end",
            "local member local function is(op, id) if op.query then return member(op.query, id) end return redis.call('SISMEMBER', op.key, id) == 1 end
             member = function(query, id) for _, op in ipairs(query.ops) do if not is(op, id) then return false end end return true end return member(cjson.decode(redis.call('GET', KEYS[1])), ARGV[1])",
            "local n = tonumber(ARGV[1]) local left = redis.call('GET', KEYS[1]) if left < n then n = left end for i = 1, n do redis.call('DEL', i) end",
            "local n = ARGV[1] local left = redis.call('GET', KEYS[1]) if left < n then n = left end n = n - left if n < 0 then n = 0 end for i = 1, n do redis.call('DEL', i) end",
            "local n = ARGV[1] local left = redis.call('GET', KEYS[1]) if n > left then n = left end local granted = n for i = 1, granted do redis.call('DEL', i) end",
            "local t = {} for i = 1, #ARGV do table.insert(t, ARGV[i]) end local room = ARGV[1] - redis.call('LLEN', KEYS[1]) for i = room + 1, #t do redis.call('DEL', t[i]) end",
            "for i = 1, #ARGV do repeat local x = redis.call('LPOP', ARGV[i]) if not x then break end redis.call('DEL', x) until true end",
            "local t = {} while #t < tonumber(ARGV[1]) do local x = redis.call('LPOP', KEYS[1]) if not x then break end t[#t + 1] = x end",
            "local t = {} while #t / 2 < 100 do local x = redis.call('ZPOPMIN', KEYS[1]) if not x[1] then break end table.insert(t, x[1]) table.insert(t, x[2]) end",
            "local t = {} repeat local x = redis.call('LPOP', KEYS[1]) if not x then break end t[#t + 1] = x until #t >= 10",
            "local s = {n = 0} while s.n < 100 do redis.call('LPOP', KEYS[1]) s.n = s.n + 1 end",
            "local s = {} s.n = 100 while s.n > 0 do redis.call('LPOP', KEYS[1]) s.n = s.n - 1 end",
            "local s = {n = 0} repeat local x = redis.call('LPOP', KEYS[1]) s.n = s.n + 1 until not x or s.n >= 100",
            "local s = {n = 0} while s.n < 0x1p8 do redis.call('LPOP', KEYS[1]) s.n = s.n + 1 end",
            "for i = 1, ARGV[1] do redis.call('SET', KEYS[1], i) end",
            "local i, n = 1, redis.call('LLEN', KEYS[1]) while i < n do redis.call('PING') i = 2 * i end",
            "local i, n = 1, redis.call('LLEN', KEYS[1]) while i < n do redis.call('PING') i = i * 2 end",
            "local i, n = 1, redis.call('GET', KEYS[1]) repeat redis.call('PING') i = i + i until i >= n",
            "local i = redis.call('ZCARD', KEYS[1]) while i > 0 do redis.call('PING') i = bit.rshift(i, 1) end",
            "local a, b = 1, #ARGV while a < b do redis.call('SET', ARGV[a], ARGV[b]) a = a + 1 b = b - 1 end",
            "local a, b = 0, 100 while a < b do if redis.call('GET', a) then a = a + 1 else b = b - 1 end end",
            "local a, b = 0, 10 while a ~= b do if redis.call('GET', a) then a = a + 1 else b = b - 1 end end",
            "local n = 0 while n < 100 do local x = redis.call('LPOP', KEYS[1]) if not x then break end if redis.call('GET', x) then n = n + 1 end end",
            "local m, i = redis.call('ZRANGE', KEYS[1], 0, 999), 1 while i <= #m do local last = math.min(i + 99, #m) redis.call('ZREM', KEYS[1], unpack(m, i, last)) i = last + 1 end",
            "for i = 1, math.min(redis.call('LLEN', KEYS[1]), 100) do redis.call('LPOP', KEYS[1]) end",
            "local i = 0 while i < 100 and redis.call('LPOP', KEYS[1]) do i = i + 1 end",
            "local i = 0 repeat i = i + 1 until redis.call('LPOP', KEYS[1]) == false or i == 10",
            "local n = 10 while n > 0 do n = n - 1 if not redis.call('LPOP', KEYS[1]) then break end end",
            "while true do redis.call('SET', KEYS[1], 1) break end",
            "local function less(b) redis.call('LPOP', KEYS[1]) return b - 1 end local b = 9 while b > 0 do b = less(b) end",
            "local t, p = redis.call('GET', KEYS[1]), 1 while string.find(t, 'a', p) do p = string.find(t, 'a', p) + 1 end",
            "local x = 10 while x > 1 do x = x / 2 end return redis.call('SET', KEYS[1], x)",
            "local n = redis.call('INCR', KEYS[1]) for i = n, n + 9 do redis.call('DEL', i) end",
            "local n = redis.call('INCR', KEYS[1]) local last = n + 9 for i = n, last do redis.call('DEL', i) end",
            "local n = redis.call('INCR', KEYS[1]) for i = n - 9, n do redis.call('DEL', i) end",
            "local n = redis.call('INCR', KEYS[1]) for i = n, n + ARGV[1] do redis.call('DEL', i) end",
            "local n = redis.call('INCR', KEYS[1]) for i = n + 9, n, -1 do redis.call('DEL', i) end",
            "local p = redis.call('BITPOS', KEYS[1], 1) for j = p + 7, p, -1 do redis.call('GETBIT', KEYS[1], j) end",
            "local n = redis.call('LLEN', KEYS[1]) for i = math.max(n - 10, 0), n do redis.call('DEL', i) end",
            "local n = redis.call('LLEN', KEYS[1]) for i = n, math.max(n - 10, 1), -1 do redis.call('DEL', i) end",
            "local a = tonumber(redis.call('GET', KEYS[1])) local e = math.min(ARGV[1], a + 9) for i = a, e - 1 do redis.call('DEL', i) end",
            "local n = redis.call('LLEN', KEYS[1]) for i = 1, 100 - n do redis.call('RPUSH', KEYS[1], i) end",
            "local n = redis.call('INCR', KEYS[1]) local i = n while i < n + 10 do redis.call('DEL', i) i = i + 1 end",
            "local n = redis.call('LLEN', KEYS[1]) if n > 100 then n = 100 end for i = 1, n do redis.call('LPOP', KEYS[1]) end",
            "local n = redis.call('LLEN', KEYS[1]) n = n > 100 and 100 or n for i = 1, n do redis.call('LPOP', KEYS[1]) end",
            "local n = redis.call('LLEN', KEYS[1]) n = math.min(n, ARGV[1]) for i = 1, n do redis.call('LPOP', KEYS[1]) end",
            "local n = math.min(redis.call('LLEN', KEYS[1]), 100) while n > 0 do redis.call('LPOP', KEYS[1]) n = n - 1 end",
            "local i = 0 while true do i = i + 1 if i > 100 then break end redis.call('LPOP', KEYS[1]) end",
            "local i = 0 while true do i = i + 1 if i > 100 or not redis.call('LPOP', KEYS[1]) then break end end",
            "local c, i = '0', 0 repeat c = redis.call('SCAN', c)[1] i = i + 1 until c == '0' or i >= 10",
            "local i = 1 while ARGV[i] do redis.call('LPUSH', KEYS[1], ARGV[i]) i = i + 1 end",
            "for i = 1, math.huge do local v = ARGV[i] if not v then break end redis.call('LPUSH', KEYS[1], v) end",
            "local lo, hi = 0, redis.call('ZCARD', KEYS[1]) while lo < hi do local mid = math.floor((lo + hi) / 2) if redis.call('ZRANGE', KEYS[1], mid, mid)[1] < ARGV[1] then lo = mid + 1 else hi = mid end end",
            "local i = redis.call('ZCARD', KEYS[1]) while i > 1 do i = math.floor(i / 2) redis.call('HGET', KEYS[1], i) end",
            "for _, m in ipairs(ARGV) do local x = redis.call('GET', m) or error('no ' .. m) end",
            "local function walk(node, path) if 0 == #path then return node else local child = redis.call('HGET', node, table.remove(path, 1)) return walk(child, path) end end return walk(KEYS[1], ARGV)",
            "local function walk(node, path) if #path == 0 then redis.call('DEL', node) else local child = redis.call('HGET', node, table.remove(path)) if child ~= false then if walk(child, path) then redis.call('HDEL', node, child) end end end return true end walk(KEYS[1], ARGV)",
            "local function walk(node, path) if #path > 0 then walk(redis.call('HGET', node, table.remove(path)), path) end end walk(KEYS[1], {ARGV[1], ARGV[2]})",
        ]);
    }
}
