redis.call('SET', KEYS[1], ARGV[1])
local members = redis.call('SMEMBERS', KEYS[2]) -- expect: loop-over-collection
local sum = 0
for _, member in ipairs(members) do -- expect: write-before-long-work
  sum = sum + tonumber(member)
end
return sum
