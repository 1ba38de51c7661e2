while redis.call('LLEN', KEYS[1]) > tonumber(ARGV[1]) do -- expect: unbounded-loop
  redis.call('LPOP', KEYS[1])
end
