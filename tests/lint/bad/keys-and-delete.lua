local keys = redis.call('KEYS', ARGV[1]) -- expect: keys-command
for i = 1, #keys do
  redis.call('DEL', keys[i])
end
return #keys
