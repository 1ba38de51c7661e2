local function page(cursor)
  return redis.call('SCAN', cursor, 'COUNT', 500)
end

local cursor, total = '0', 0
repeat -- expect: scan-loop
  local reply = page(cursor)
  cursor = reply[1]
  total = total + #reply[2]
until cursor == '0'
return total
