local reply = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 100)
for _, key in ipairs(reply[2]) do
  redis.call('UNLINK', key)
end
return reply[1]
