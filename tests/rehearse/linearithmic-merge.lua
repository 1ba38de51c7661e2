-- redis-script-exporter: rehearse KEYS[1]=list
local function sorted(values, first, last)
  if first == last then return { values[first] } end
  local middle = math.floor((first + last) / 2)
  local left, right = sorted(values, first, middle), sorted(values, middle + 1, last)
  local merged, i, j = {}, 1, 1
  for k = 1, last - first + 1 do
    if j > #right or (i <= #left and left[i] <= right[j]) then
      merged[k] = left[i]
      i = i + 1
    else
      merged[k] = right[j]
      j = j + 1
    end
  end
  return merged
end
local values = redis.call('LRANGE', KEYS[1], 0, -1)
return #sorted(values, 1, #values)
