-- The break ends the inner loop only.
while 1 do -- expect: endless-loop
  for i = 1, 10 do
    if redis.call('GET', KEYS[i]) then break end
  end
end
