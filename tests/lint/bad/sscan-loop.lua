local cursor = '0'
repeat -- expect: collection-scan-loop
  local reply = redis.call('SSCAN', KEYS[1], cursor, 'COUNT', 100)
  cursor = reply[1]
  for _, member in ipairs(reply[2]) do
    redis.call('SREM', KEYS[2], member)
  end
until cursor == '0'
