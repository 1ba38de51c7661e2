local function items(key, from, to)
  return redis.call('LRANGE', key, from, to) -- expect: loop-over-collection
end
local function each(list, visit)
  for _, item in ipairs(list) do
    visit(item)
  end
end
each(items(KEYS[1], 0, -1), function(item)
  redis.call('DEL', item)
end)
