#!lua name=counters
local function read(keys)
  return redis.call('GET', keys[1])
end
local function raise(keys, args)
  return redis.call('INCRBY', keys[1], args[1]) -- expect: write-despite-no-writes
end
redis.register_function('read', read) -- expect: missing-no-writes
redis.register_function{ function_name = 'raise', callback = raise, flags = { 'no-writes' } }
redis.register_function{ function_name = 'raise_too', callback = raise }
redis.register_function{ function_name = 'peek', callback = read, flags = { 'no-writes' } }
