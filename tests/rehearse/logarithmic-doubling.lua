-- redis-script-exporter: rehearse KEYS[1]=hash
local count = redis.call('HLEN', KEYS[1])
local found = 0
for _ = 1, 20 do
  local number = 1
  while number <= count do
    found = found + redis.call('HEXISTS', KEYS[1], string.format('%016d', number))
    number = number * 2
  end
end
return found
