local members = redis.call('SRANDMEMBER', KEYS[1], 20000)
for from = 1, #members, 5000 do
  redis.call('SADD', KEYS[2], unpack(members, from, math.min(from + 4999, #members)))
end
