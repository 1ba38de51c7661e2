local ping
local function pong()
  return ping() -- expect: endless-loop
end
ping = function()
  return pong()
end
return ping()
