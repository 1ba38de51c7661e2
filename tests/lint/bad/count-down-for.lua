local size = redis.call('STRLEN', KEYS[1])
for i = size - 1, 0, -1 do -- expect: unbounded-loop
  redis.call('GETBIT', KEYS[1], i)
end
