-- redis-script-exporter: rehearse KEYS[1]=hash
local fields = redis.call('HGETALL', KEYS[1])
local total = 0
for i = 1, #fields, 2 do
  total = total + #fields[i + 1]
end
return total
