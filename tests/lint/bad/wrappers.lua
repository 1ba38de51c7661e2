local r = redis
local function call(command, ...)
  local ok, reply = pcall(r['call'], command, ...)
  if not ok then return nil end
  return reply
end
for _, key in ipairs(call('KEYS', '*')) do -- expect: keys-command
  call('DEL', key)
end
