local x = redis.call('GET', KEYS[1])
if x then
  return x
-- expect-line-5: syntax-error
