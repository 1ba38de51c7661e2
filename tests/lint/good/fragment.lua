-- Part of a script that a build puts together: rcall is defined elsewhere.
local function moveOne(source, target)
  local id = rcall('LINDEX', source, 0)
  if id then
    rcall('LREM', source, 1, id)
    rcall('RPUSH', target, id)
  end
  return id
end
