-- Walks a list that is kept in hashes; one that has become a ring is never left.
local node = redis.call('GET', KEYS[1])
local length = 0
while node do -- expect: unbounded-loop
  length = length + 1
  node = redis.call('HGET', KEYS[2], node)
end
return length
