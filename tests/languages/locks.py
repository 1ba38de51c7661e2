"""Locks of jobs."""
import textwrap

RELEASE = """
if redis.call("GET", KEYS[1]) == ARGV[1] then
    return redis.call("DEL", KEYS[1])
end
return 0
"""

EXTEND = r'''local ttl = redis.call('PTTL', KEYS[1])
return ttl .. "\n"'''

TOUCH = (
    "redis.call('EXPIRE', KEYS[1], 60)\n"
    'return "\x41\u00e9\q"\
'
)

COUNT = "local n = redis.call('LLEN', KEYS[1])\n" + "return n"

PEEK = textwrap.dedent("""\
    local first = redis.call('LINDEX', KEYS[1], 0)
      return first
""")


class Queue:
    def __init__(self, redis, prefix):
        self.pop = redis.register_script("return redis.call('LPOP', KEYS[1])")
        self.scripts = {"push": "return redis.call('RPUSH', KEYS[1], ARGV[1])"}

    def size(self, redis):
        # "redis.call" in a comment is no script.
        return redis.eval("return redis.call('LLEN', KEYS[1])", 1, "é" + self.prefix)

    def scan(self, redis):
        return redis.eval(f"return redis.call('KEYS', '{self.prefix}:{{x}}*')", 0)
