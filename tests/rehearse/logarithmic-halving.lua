-- redis-script-exporter: rehearse ARGV[1]={n}
local steps = 0
for _ = 1, 1000 do
  local rest = tonumber(ARGV[1])
  while rest > 1 do
    rest = rest / 2
    steps = steps + 1
  end
end
return steps
