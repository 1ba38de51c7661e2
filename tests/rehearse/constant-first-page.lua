-- redis-script-exporter: rehearse KEYS[1]=list ARGV[1]=100
local total = 0
for _, element in ipairs(redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)) do
  total = total + #element
end
return total
