local function follow(key, depth)
  if depth == 0 then return key end
  local next = redis.call('GET', key)
  return next and follow(next, depth - 1) or key
end
return follow(KEYS[1], 10)
