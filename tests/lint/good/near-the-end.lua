for i, id in ipairs(ARGV) do redis.call('LPOS', KEYS[1], id, 'MAXLEN', 100) end
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)) do
  if redis.call('EXISTS', 'job:' .. id) == 0 then redis.call('LREM', KEYS[1], 1, id) end
end
for _, id in ipairs(redis.call('LRANGE', KEYS[2], -10, -1)) do redis.call('LREM', KEYS[2], -1, id) end
for i = 0, math.min(redis.call('LLEN', KEYS[1]), 50) - 1 do redis.call('LINDEX', KEYS[1], i) end
