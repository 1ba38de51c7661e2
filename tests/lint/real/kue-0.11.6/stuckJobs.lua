local msg = redis.call( "keys", "q:jobs:*:inactive" )
        local need_fix = 0
        for i,v in ipairs(msg) do
          local queue = redis.call( "zcard", v )
          local jt = string.match(v, "q:jobs:(.*):inactive")
          local pending = redis.call( "LLEN", "q:" .. jt .. ":jobs" )
          if queue > pending then
            need_fix = need_fix + 1
            for j=1,(queue-pending) do
              redis.call( "lpush", "q:"..jt..":jobs", 1 )
            end
          end
        end
        return need_fix
