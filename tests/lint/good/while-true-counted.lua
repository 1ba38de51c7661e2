local tries = 0
while true do
  tries = tries + 1
  local id = redis.call('INCR', KEYS[1])
  if redis.call('SETNX', KEYS[2] .. id, ARGV[1]) == 1 then
    return id
  end
  if tries > 10 then
    return redis.error_reply('TRYAGAIN no free id')
  end
end
