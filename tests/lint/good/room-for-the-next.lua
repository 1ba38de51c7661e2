local limit = tonumber(ARGV[1])
if redis.call('ZCARD', KEYS[1]) >= limit then
  redis.call('ZREM', KEYS[1], redis.call('ZRANGE', KEYS[1], 0, 0)[1])
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
if redis.call('LPUSH', KEYS[2], ARGV[3]) > limit then redis.call('RPOPLPUSH', KEYS[2], KEYS[3]) end
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('INCR', member) end
for _, member in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do redis.call('INCR', member) end
redis.call('RPUSH', KEYS[4], ARGV[3])
if redis.call('LLEN', KEYS[4]) >= limit then
  local batch = redis.call('LRANGE', KEYS[4], 0, -1)
  redis.call('DEL', KEYS[4])
  return batch
end
