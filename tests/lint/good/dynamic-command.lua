local command = ARGV[1]
local args = { 'HSET', KEYS[1], 'a', 1 }
redis.call(command, KEYS[1])
redis.call(unpack(args))
return redis.status_reply('OK')
