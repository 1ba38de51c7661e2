local rcall = redis.call
return rcall("keys", "session:*") -- expect: keys-command
