local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
end
local deadline = now() + tonumber(ARGV[1])
repeat until now() >= deadline -- expect: unbounded-loop
return 'slept'
