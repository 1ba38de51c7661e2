local budget = tonumber(ARGV[1])
while budget > 0 do
  local item = redis.call('ZPOPMIN', KEYS[1])
  if #item == 0 then return budget end
  redis.call('DEL', KEYS[2] .. item[1])
  budget = budget - 1
end
return budget
