local fields = redis.call('HGETALL', KEYS[1]) -- expect: loop-over-collection
for i = 1, #fields, 2 do
  if tonumber(fields[i + 1]) < tonumber(ARGV[1]) then
    redis.call('DEL', 'session:' .. fields[i])
  end
end
