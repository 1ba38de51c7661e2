-- redis-script-exporter: rehearse KEYS[1]=list
local count = 0
while redis.call('RPOP', KEYS[1]) do
  count = count + 1
end
return count
