package main

import (
	"crypto/sha1"
	"fmt"
	"strings"
)

const head = "local key = KEYS[1]\n"

const (
	shared = head + `return redis.call("GET", key)`
	ticks  = `return redis.call("ECHO", "` + "`" + `")`
	bytes  = "return redis.call('ECHO', '\xff\xc3\xa9\u00e9\U0001F600\101\\')"
)

var trimmed = strings.TrimSpace(`
	return redis.call("TTL", KEYS[1])
`)

var lines = strings.Join([]string{
	"local n = redis.call('INCR', KEYS[1])",
	"return n",
}, "\n")

var slice = []byte("return redis.call('PTTL', KEYS[1])\t")

type script struct {
	name string
	body string
}

var all = []script{
	{name: "lpop", body: `return redis.call("LPOP", KEYS[1])`},
	{"rpop", `return redis.call("RPOP", KEYS[1])`},
}

func formatted(key string) string {
	return fmt.Sprintf("return redis.call('GET', '%s') -- 100%%", key)
}

func indexed(key string) string {
	return fmt.Sprintf(`redis.call("SET", "%[1]s", %[2]d)
return redis.call("EXPIRE", "%[1]s", ARGV[1])`, key, 1)
}

func show(name, body string) {
	fmt.Printf("%s %x\n", name, sha1.Sum([]byte(body)))
}

func main() {
	show("head", head)
	show("shared", shared)
	show("ticks", ticks)
	show("bytes", bytes)
	show("trimmed", trimmed)
	show("lines", lines)
	show("slice", string(slice))
	for _, script := range all {
		show("all", script.body)
	}
}
