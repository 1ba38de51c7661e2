local fields = redis.call('HGETALL', KEYS[1]) -- expect: loop-over-collection
local expired = {}
for i = 1, #fields, 2 do
  if tonumber(fields[i + 1]) < tonumber(ARGV[1]) then
    expired[#expired + 1] = fields[i]
  end
end
return expired
