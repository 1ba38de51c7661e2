local waiting = tonumber(redis.call('GET', KEYS[1]))
local i = 0
while i < waiting do -- expect: unbounded-loop
  redis.call('RPUSH', KEYS[2], i)
  i = i + 1
end
