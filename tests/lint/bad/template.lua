return redis.call('GET', KEYS[1] .. ':<%= suffix %>') -- expect: template
