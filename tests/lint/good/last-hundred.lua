local recent = redis.call('LRANGE', KEYS[1], -100, -1)
for i = #recent, 1, -1 do
  redis.call('LPUSH', KEYS[2], recent[i])
end
redis.call('LTRIM', KEYS[1], 0, 9999)
