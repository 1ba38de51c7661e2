local function touch(key)
  redis.call('EXPIRE', key, 60)
end
touch(KEYS[1])
local cursor = '0'
repeat -- expect: collection-scan-loop, write-before-long-work
  local reply = redis.call('ZSCAN', KEYS[1], cursor)
  cursor = reply[1]
until cursor == '0'
