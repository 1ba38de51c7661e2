local due = redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1], 'LIMIT', 0, 100)
while #due > 0 do redis.call('ZREM', KEYS[1], table.remove(due)) end
local jobs = {}
local function collect(job) table.insert(jobs, job) end
repeat
  local job = redis.call('LPOP', KEYS[2])
  if job then collect(job) end
until not job or #jobs == tonumber(ARGV[2])
local path, node = ARGV[3], KEYS[3]
while #path > 0 do
  local head, rest = path:match('^([^/]+)/?(.*)$')
  node = redis.call('HGET', node, head)
  if not node then return jobs end
  path = rest
end
local sample = redis.call('SRANDMEMBER', KEYS[4], 10)
local index, member = next(sample)
while index do
  redis.call('SMOVE', KEYS[4], KEYS[5], member)
  index, member = next(sample, index)
end
return jobs
