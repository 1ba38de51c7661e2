local function last(key)
  local next = redis.call('HGET', key, 'next')
  if not next then return key end
  return last(next) -- expect: unbounded-loop
end
return last(KEYS[1])
