while true do -- expect: endless-loop
  redis.call('INCR', KEYS[1])
end
