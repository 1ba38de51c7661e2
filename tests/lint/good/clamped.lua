local n = redis.call('LLEN', KEYS[1])
if n > 100 then n = 100 end
for i = 1, n do redis.call('LPOP', KEYS[1]) end
