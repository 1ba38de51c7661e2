local function clamp(number, low, high) return math.max(low, math.min(high, number)) end
for i = 1, clamp(redis.call('LLEN', KEYS[1]), 0, 20) do redis.call('RPOPLPUSH', KEYS[1], KEYS[2]) end
local function smaller(one, other)
  if one < other then return one end
  return other
end
for i = 1, smaller(tonumber(ARGV[1]), redis.call('LLEN', KEYS[3])) do redis.call('RPOPLPUSH', KEYS[3], KEYS[2]) end
local function take(key, count) return redis.call('LRANGE', key, 0, count - 1), count end
local batch, size = take(KEYS[4], 100)
for i = 1, size do redis.call('SADD', KEYS[5], batch[i]) end
