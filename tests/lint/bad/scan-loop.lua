local cursor = '0'
local found = {}
repeat -- expect: scan-loop
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    found[#found + 1] = key
  end
until cursor == '0'
return found
