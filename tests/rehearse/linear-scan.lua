-- redis-script-exporter: rehearse session:*=string,value=x
local cursor, found = '0', 0
repeat
  local reply = redis.call('SCAN', cursor, 'MATCH', 'session:*', 'COUNT', 1000)
  cursor = reply[1]
  found = found + #reply[2]
until cursor == '0'
return found
