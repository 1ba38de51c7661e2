-- Goes over ARGV[1] alone.
local parts, from = {}, 1
while true do
  local at = string.find(ARGV[1], ',', from, true)
  if not at then
    parts[#parts + 1] = string.sub(ARGV[1], from)
    break
  end
  parts[#parts + 1] = string.sub(ARGV[1], from, at - 1)
  from = at + 1
end
return redis.call('RPUSH', KEYS[1], unpack(parts))
