local COMMAND = 'keys'
local pattern = ARGV[1] .. ':*'
return #redis.pcall(COMMAND, pattern) -- expect: keys-command
