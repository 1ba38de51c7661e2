local batch = redis.call('LPOP', KEYS[1], redis.call('LLEN', KEYS[1])) -- expect: loop-over-collection
for _, job in ipairs(batch or {}) do redis.call('DEL', job) end -- expect: write-before-long-work
local length = redis.call('LLEN', KEYS[2])
return redis.call('LRANGE', KEYS[2], 0, length - 1) -- expect: whole-collection-read
