local moved = 0
while moved < 100 do
  local item = redis.call('RPOPLPUSH', KEYS[1], KEYS[2])
  if not item then break end
  moved = moved + 1
end
return moved
