#!lua flags=no-writes
local value = redis.call('GET', KEYS[1])
redis.call('EXPIRE', KEYS[1], 60) -- expect: write-despite-no-writes
return value
