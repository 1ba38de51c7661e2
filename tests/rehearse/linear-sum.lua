-- redis-script-exporter: rehearse KEYS[1]=list
local total = 0
for _, element in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  total = total + tonumber(element)
end
return tostring(total)
