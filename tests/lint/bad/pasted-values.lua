redis.call('SET', 'user:482913:session', 'x')
redis.call('HSET', KEYS[1], 'id', '3f2504e0-4f89-11d3-9a0c-0305e82c3301')
redis.call('ZADD', KEYS[2], 1718035261734, ARGV[1])
redis.call('SET', KEYS[3], '5f4dcc3b5aa765d61d8327deb882cf99')
