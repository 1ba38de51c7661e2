local ids = redis.call('ZRANGE', KEYS[1], 0, 9)
for i = 1, #ids do
  redis.call('HINCRBY', KEYS[2], ids[i], 1)
end
for i = 1, math.min(redis.call('LLEN', KEYS[3]), 50) do
  redis.call('LPOP', KEYS[3])
end
