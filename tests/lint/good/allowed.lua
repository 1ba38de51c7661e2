-- redis-script-lint: allow(whole-collection-read) at most 16 shards
local shards = redis.call('SMEMBERS', KEYS[1])
redis.call('SET', KEYS[2], #shards)
local all = redis.call('LRANGE', KEYS[3], 0, -1) -- redis-script-lint: allow(loop-over-collection) trimmed to 50
for _, one in ipairs(all) do -- redis-script-lint: allow(write-before-long-work)
  redis.call('PUBLISH', ARGV[1], one)
end
