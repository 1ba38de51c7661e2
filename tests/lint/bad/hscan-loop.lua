local cursor, sum = '0', 0
repeat -- expect: collection-scan-loop
  local reply = redis.call('HSCAN', KEYS[1], cursor)
  for i = 2, #reply[2], 2 do
    sum = sum + tonumber(reply[2][i])
  end
  cursor = reply[1]
until cursor == '0'
return sum
