local sum = 0
for i = 1, #KEYS do
  sum = sum + tonumber(redis.call('GET', KEYS[i]) or 0)
end
for i, value in ipairs(ARGV) do
  sum = sum + tonumber(value)
end
return sum
