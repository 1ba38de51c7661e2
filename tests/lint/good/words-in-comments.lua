--[[ KEYS and SMEMBERS are called nowhere here:
     redis.call('KEYS', '*')
     while true do end ]]
-- redis.call('SMEMBERS', KEYS[1])
local note = "redis.call('KEYS', '*') while true do end"
local long = [==[ repeat until false ]] ]==]
return redis.call('SET', KEYS[1], note .. long)
