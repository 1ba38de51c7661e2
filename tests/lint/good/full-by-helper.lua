local key, limit = KEYS[1], tonumber(ARGV[1])
local function is_full() return redis.call('SCARD', key) >= limit end
if is_full() then return 0 end
redis.call('SADD', key, ARGV[2])
for _, member in ipairs(redis.call('SMEMBERS', key)) do redis.call('PUBLISH', 'user:' .. member, ARGV[2]) end

local full = redis.call('LLEN', KEYS[2]) >= limit
if full then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[2])
assert(redis.call('HLEN', KEYS[3]) < 100, 'too many')
redis.call('HSET', KEYS[3], ARGV[2], 1)
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do redis.call('PUBLISH', field, 1) end
return redis.call('LRANGE', KEYS[2], 0, -1)
