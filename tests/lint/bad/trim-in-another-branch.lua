redis.call('LPUSH', KEYS[1], ARGV[1])
if ARGV[2] == 'trim' then redis.call('LTRIM', KEYS[1], 0, 99) end
local entries = redis.call('LRANGE', KEYS[1], 0, -1) -- expect: loop-over-collection
for _, entry in ipairs(entries) do -- expect: write-before-long-work
  redis.call('PUBLISH', KEYS[2], entry)
end
