local cursor = 0
local deleted = 0
while true do -- expect: scan-loop
  local page = redis.call('SCAN', cursor, 'MATCH', KEYS[1] .. '*')
  for _, key in ipairs(page[2]) do
    deleted = deleted + redis.call('UNLINK', key)
  end
  cursor = tonumber(page[1])
  if cursor == 0 then break end
end
return deleted
