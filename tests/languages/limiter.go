package limiter

import "github.com/redis/go-redis/v9"

var allow = redis.NewScript(`
local n = redis.call("INCR", KEYS[1])
if n == 1 then redis.call("EXPIRE", KEYS[1], ARGV[1]) end
return n`)

const (
	reset = "redis.call('DEL', KEYS[1])\n" +
		"return '\x41\u00e9\101'"
)

var scripts = map[string]string{
	"peek": `return redis.call("GET", KEYS[1])`,
}

func Forget(c *redis.Client, prefix string) {
	c.Eval(ctx, "return redis.call('UNLINK', KEYS[1])", nil)
	c.Eval(ctx, `return redis.call('DEL', '`+prefix+`:x')`, nil)
}
