#!lua flags=allow-stale
-- expect-line-1: missing-no-writes
return redis.call('MGET', KEYS[1], KEYS[2])
