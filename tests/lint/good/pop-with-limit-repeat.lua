local rounds, item = 0
repeat
  item = redis.call('LPOP', KEYS[1])
  if item then redis.call('SADD', KEYS[2], item) end
  rounds = rounds + 1
until not item or rounds >= tonumber(ARGV[1])
