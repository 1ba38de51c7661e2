if redis.call('LLEN', KEYS[2]) >= 100 then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
local full = redis.call('SCARD', KEYS[3]) >= 100
redis.call('SADD', KEYS[3], ARGV[1])
for i = 1, #ARGV do redis.call('RPUSH', KEYS[4], ARGV[i]) end
if redis.call('LLEN', KEYS[4]) > 100 then redis.call('LPOP', KEYS[4]) end
local all = redis.call('LRANGE', KEYS[1], 0, -1) -- expect: whole-collection-read
local members = redis.call('SMEMBERS', KEYS[3]) -- expect: whole-collection-read
local last = redis.call('LRANGE', KEYS[4], 0, -1) -- expect: whole-collection-read
return { all, members, last, full }
