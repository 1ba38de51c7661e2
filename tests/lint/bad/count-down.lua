local n = redis.call('LLEN', KEYS[1])
while n > 0 do -- expect: unbounded-loop
  redis.call('LPOP', KEYS[1])
  n = n - 1
end
