-- redis-script-exporter: rehearse ARGV[1]={n}
local sum = 0
for i = 1, tonumber(ARGV[1]) do
  sum = (sum + i * 7) % 1000003
end
return sum
