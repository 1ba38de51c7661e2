-- redis-script-exporter: rehearse ARGV[1]={n}
local heap, size, seed = {}, 0, 1
for _ = 1, tonumber(ARGV[1]) do
  seed = (seed * 16807) % 2147483647
  size = size + 1
  local position = size
  heap[position] = seed
  while position > 1 do
    local parent = math.floor(position / 2)
    if heap[parent] <= heap[position] then break end
    heap[parent], heap[position] = heap[position], heap[parent]
    position = parent
  end
end
local last = 0
while size > 0 do
  last = heap[1]
  heap[1] = heap[size]
  heap[size] = nil
  size = size - 1
  local position = 1
  while true do
    local child = position * 2
    if child > size then break end
    if child < size and heap[child + 1] < heap[child] then child = child + 1 end
    if heap[position] <= heap[child] then break end
    heap[position], heap[child] = heap[child], heap[position]
    position = child
  end
end
return last
