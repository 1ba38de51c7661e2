local members = redis.call('SMEMBERS', KEYS[1]) -- expect: whole-collection-read
local list = redis.call('LRANGE', KEYS[2], 0, '-1') -- expect: whole-collection-read
local all = redis.call('ZREVRANGE', KEYS[3], '0', -1, 'WITHSCORES') -- expect: whole-collection-read
local events = redis.call('XRANGE', KEYS[4], '-', '+') -- expect: whole-collection-read
return { members, list, all, events }
