local half = tonumber(ARGV[1]) // 2 -- expect: syntax-error
return half
