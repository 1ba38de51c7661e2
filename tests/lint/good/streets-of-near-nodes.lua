-- The nodes near a point, and the streets that meet at each of them.
local names = {}
for _, node in ipairs(redis.call('GEOSEARCH', KEYS[1], 'FROMLONLAT', ARGV[1], ARGV[2], 'BYRADIUS', 15, 'm')) do
  local streets = redis.call('LRANGE', 'node:' .. node .. ':streets', 0, -1)
  for i = 1, #streets do
    names[i] = redis.call('HGET', 'street:' .. streets[i], 'name')
  end
end
return names
