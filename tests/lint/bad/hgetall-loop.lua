local sessions = redis.call('HGETALL', KEYS[1]) -- expect: loop-over-collection
for i = 1, #sessions, 2 do
  if tonumber(sessions[i + 1]) < tonumber(ARGV[1]) then
    redis.call('DEL', 'session:' .. sessions[i])
  end
end
