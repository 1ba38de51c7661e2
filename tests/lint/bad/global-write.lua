local function add(n)
  total = (total or 0) + n -- expect: global-write
end
add(1)
return total
