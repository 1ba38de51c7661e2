local function count(cursor, total)
  local page = redis.call('SCAN', cursor)
  total = total + #page[2]
  if page[1] == '0' then return total end
  return count(page[1], total) -- expect: scan-loop
end
return count('0', 0)
