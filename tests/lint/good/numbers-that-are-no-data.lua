local epoch = 1704067200000
local max = 9007199254740991
local version = redis.call('GET', KEYS[1] .. ':v2:shard-12')
if tonumber(version) > max - epoch then
  redis.call('EXPIRE', KEYS[1], 2592000)
  redis.call('SET', 'config:v2', 'rate-limit-2.19.5')
end
