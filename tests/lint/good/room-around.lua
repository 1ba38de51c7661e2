if redis.call('SCARD', KEYS[1]) < tonumber(ARGV[1]) then
  if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('SADD', KEYS[1], ARGV[2]) end
end
local known = redis.call('HEXISTS', KEYS[3], ARGV[2]) == 1
if known or redis.call('HLEN', KEYS[3]) < 32 then redis.call('HSET', KEYS[3], ARGV[2], 1) end
local size = redis.call('LLEN', KEYS[4])
for i = 2, #ARGV do
  if size >= 1000 then break end
  size = redis.call('RPUSH', KEYS[4], ARGV[i])
end
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('INCR', member) end
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do redis.call('INCR', field) end
return redis.call('LRANGE', KEYS[4], 0, -1)
