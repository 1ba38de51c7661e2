-- redis-script-exporter: rehearse KEYS[1]=hash ARGV[1]=0000000000000042
return redis.call('HGET', KEYS[1], ARGV[1])
