local limit = tonumber(ARGV[1])
redis.call('SADD', KEYS[1], unpack(ARGV, 2))
local over = redis.call('SCARD', KEYS[1]) - limit
if over > 0 then redis.call('SPOP', KEYS[1], over) end
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('INCR', member) end

local function keep_newest(key, count)
  local size = redis.call('ZCARD', key)
  if size > count then redis.call('ZREMRANGEBYRANK', key, 0, size - count - 1) end
end
redis.call('ZADD', KEYS[2], 1, ARGV[2])
keep_newest(KEYS[2], 20)
return redis.call('ZRANGE', KEYS[2], 0, -1)
