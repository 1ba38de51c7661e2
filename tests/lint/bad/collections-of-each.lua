-- The number of rooms is one finding. How many topics each has is information; how many messages each has is not.
local all = {}
for _, room in ipairs(redis.call('SMEMBERS', KEYS[1])) do -- expect: loop-over-collection
  all[#all + 1] = redis.call('SMEMBERS', 'room:' .. room .. ':topics')
  all[#all + 1] = redis.call('LRANGE', 'room:' .. room .. ':messages', 0, -1) -- expect: whole-collection-read
end
return cjson.encode(all)
