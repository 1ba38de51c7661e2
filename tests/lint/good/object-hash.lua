#!lua flags=no-writes
-- redis-script-lint: allow-file(whole-hash-read) a job has 12 fields
return redis.call('HGETALL', KEYS[1])
