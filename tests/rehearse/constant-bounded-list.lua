-- redis-script-exporter: rehearse KEYS[1]=list ARGV[1]=job
for i = 1, 100 do
  redis.call('LPUSH', KEYS[1], ARGV[1] .. i)
  redis.call('RPOP', KEYS[1])
end
return redis.call('LLEN', KEYS[1])
