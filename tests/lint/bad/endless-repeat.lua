local n = 0
repeat -- expect: endless-loop
  n = n + 1
until false
