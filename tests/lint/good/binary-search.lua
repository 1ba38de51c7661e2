local low, high = 1, #ARGV
while low < high do
  local middle = math.floor((low + high) / 2)
  if ARGV[middle] < KEYS[1] then low = middle + 1 else high = middle end
end
return redis.call('SET', KEYS[1], low)
