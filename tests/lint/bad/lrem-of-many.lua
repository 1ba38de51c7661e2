for _, id in ipairs(ARGV) do
  redis.call('LREM', KEYS[1], 0, id) -- expect: linear-command-in-loop
end
