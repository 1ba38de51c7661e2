for i = 1, 20000 do -- expect: long-loop
  for j = 1, 20000 do
    if i * j == tonumber(ARGV[1]) then redis.log(redis.LOG_NOTICE, i) end
  end
end
