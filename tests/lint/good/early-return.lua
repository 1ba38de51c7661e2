-- What writes does not go on to the loop.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1])
  return 0
end
-- redis-script-lint: allow(loop-over-collection) read only, can be killed
local members = redis.call('SMEMBERS', KEYS[2])
local sum = 0
for _, member in ipairs(members) do sum = sum + #member end
return sum
