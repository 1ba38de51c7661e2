-- redis-script-lint: allow(smembers) typed from memory -- expect: unknown-rule
local all = redis.call('SMEMBERS', KEYS[1]) -- expect: whole-collection-read
-- redis-script-lint: ignore this -- expect: unknown-rule
return all
