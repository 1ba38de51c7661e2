#!lua flags=no-writes
local values = redis.call('MGET', unpack(KEYS))
local sum = 0
for i = 1, #values do sum = sum + tonumber(values[i] or 0) end
return sum
