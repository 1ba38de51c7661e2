-- redis-script-exporter: rehearse KEYS[1]=list
local values = redis.call('LRANGE', KEYS[1], 0, -1)
local equal = 0
for i = 1, #values do
  for j = i + 1, #values do
    if values[i] == values[j] then equal = equal + 1 end
  end
end
return equal
