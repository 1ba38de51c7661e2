local moved = 0
while true do -- expect: unbounded-loop
  local item = redis.call('RPOPLPUSH', KEYS[1], KEYS[2])
  if not item then break end
  moved = moved + 1
end
return moved
