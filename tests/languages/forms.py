import hashlib
import textwrap

HEAD = "local key = KEYS[1]\n"
STEP = 3

PARTS = (
    "local n = redis.call('LLEN', KEYS[1])\n"  # a comment between the parts
    'return "n" .. n\n'
    r"-- \n stays"
)
BYTES = b"return redis.call('ECHO', '\xff\x41')"
RAW_BYTES = rb'''return redis.call("ECHO", "\n")'''
BRACES = f"return redis.call('ECHO', '{{}}')"
SHARED = HEAD + "return redis.call('GET', key)"
IN_F = f"{HEAD}return redis.call('DEL', key)"
STRIPPED = """
    return redis.call('TTL', KEYS[1])
""".strip()
DEDENTED = textwrap.dedent(
    """
    local v = redis.call('GET', KEYS[1])
\tif v then
        return v

    end
    """
).lstrip()
LINES = "\n".join([
    "local n = redis.call('INCR', KEYS[1])",
    "if n == 1 then",
    "  redis.call('EXPIRE', KEYS[1], ARGV[1])",
    "end",
])
OCTAL = "return redis.call('ECHO', '\101\x42\
')"
SINGLE: str = '''return redis.call('ECHO', "'''r'''\d")'''


field = "field"


class Queue:
    _pop = u"return redis.call('RPOP', KEYS[1])"

    def formatted(self):
        return f"return redis.call('HGET', KEYS[1], '{self.field}:{{}}')".format(1)

    def percent(self):
        return """redis.call('SET', KEYS[1], '%s')
return '100%%'""" % self.value


if __name__ == "__main__":
    for name, script in [*globals().items(), ("_pop", Queue._pop)]:
        body = script.encode() if isinstance(script, str) else script
        if name.strip("_").replace("_", "").isalpha() and isinstance(body, bytes) and (b"KEYS" in body or b"redis" in body):
            print(name, hashlib.sha1(body).hexdigest())
