-- redis-script-exporter: rehearse KEYS[1]=due=zset KEYS[2]=ready=list,size=0
local due = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, job in ipairs(due) do
  redis.call('LPUSH', KEYS[2], job)
end
redis.call('DEL', KEYS[1])
return #due
