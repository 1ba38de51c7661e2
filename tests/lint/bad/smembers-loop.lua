local total = 0
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do -- expect: loop-over-collection
  total = total + tonumber(redis.call('HGET', KEYS[2], member) or 0)
end
return total
