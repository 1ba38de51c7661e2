local n = redis.call('INCR', KEYS[1])
for i = n, n + 9 do redis.call('HSET', KEYS[2], i, ARGV[1]) end
local position = redis.call('BITPOS', KEYS[3], 1)
for i = position + 7, position, -1 do redis.call('GETBIT', KEYS[3], i) end
