local function count(tree)
  local total = 1
  for _, child in ipairs(tree.children or {}) do
    total = total + count(child)
  end
  return total
end
return redis.call('SET', KEYS[1], count(cjson.decode(ARGV[1])))
