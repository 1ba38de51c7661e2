-- redis-script-exporter: rehearse KEYS[1]=set
return redis.call('SMEMBERS', KEYS[1])
