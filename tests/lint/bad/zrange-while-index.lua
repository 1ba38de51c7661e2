local members = redis.call('ZRANGE', KEYS[1], 0, -1) -- expect: loop-over-collection
local i = 1
while i <= #members do
  redis.call('PUBLISH', ARGV[1], members[i])
  i = i + 1
end
