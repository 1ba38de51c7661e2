-- redis-script-exporter: rehearse KEYS[1]=string
local length = redis.call('STRLEN', KEYS[1])
local steps = 0
for i = 1, 100 do
  local low, high, wanted = 0, length, length * i / 101
  while low < high do
    local middle = math.floor((low + high) / 2)
    redis.call('GETRANGE', KEYS[1], middle, middle)
    if middle < wanted then low = middle + 1 else high = middle end
    steps = steps + 1
  end
end
return steps
