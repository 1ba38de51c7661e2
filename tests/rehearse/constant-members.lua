-- redis-script-exporter: rehearse KEYS[1]=set
local found = 0
for i = 1, 300 do
  found = found + redis.call('SISMEMBER', KEYS[1], string.format('%016d', i % 90 + 1))
end
return found
