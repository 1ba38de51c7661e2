for i = 1, math.huge do -- expect: endless-loop
  redis.call('LPUSH', KEYS[1], i)
end
