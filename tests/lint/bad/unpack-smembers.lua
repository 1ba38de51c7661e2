local members = redis.call('SMEMBERS', KEYS[1]) -- expect: whole-collection-read
if #members > 0 then
  redis.call('DEL', unpack(members)) -- expect: unpack-collection
end
