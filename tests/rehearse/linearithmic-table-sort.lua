-- redis-script-exporter: rehearse KEYS[1]=set
local members = redis.call('SMEMBERS', KEYS[1])
table.sort(members)
return #members
