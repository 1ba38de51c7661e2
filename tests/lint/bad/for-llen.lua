local length = redis.call('LLEN', KEYS[1])
for i = 1, length do -- expect: unbounded-loop
  local item = redis.call('LINDEX', KEYS[1], i - 1) -- expect: linear-command-in-loop
  redis.call('SADD', KEYS[2], item)
end
