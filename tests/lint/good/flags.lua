local done, count = false, 0
while not done do
  local job = redis.call('LPOP', KEYS[1])
  count = count + 1
  done = not job or count >= tonumber(ARGV[1])
end
local stop = false
while not stop do
  local job = redis.call('RPOP', KEYS[1])
  if not job then stop = true end
  count = count + 1
  if count > 1000 then stop = true end
end
local function exhausted() return count >= 2000 end
while not exhausted() do
  if not redis.call('SPOP', KEYS[2]) then break end
  count = count + 1
end
