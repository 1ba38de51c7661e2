-- redis-script-exporter: rehearse KEYS[1]=list,bytes=60
local total = 0
for i = 0, redis.call('LLEN', KEYS[1]) - 1 do
  for j = 0, i, 20 do
    total = total + #redis.call('LINDEX', KEYS[1], j % 100)
  end
end
return total
