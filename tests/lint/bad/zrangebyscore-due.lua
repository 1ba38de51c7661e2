local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1]) -- expect: loop-over-collection
for i, id in ipairs(due) do
  redis.call('LPUSH', KEYS[2], id)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
