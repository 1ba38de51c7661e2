-- redis-script-exporter: rehearse KEYS[1]=set
local reversed = {}
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  table.insert(reversed, 1, member)
end
return #reversed
