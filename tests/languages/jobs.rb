class Jobs
  TAKE = <<~LUA.freeze
    local id = redis.call('LPOP', KEYS[1])
      if id then redis.call('SADD', KEYS[2], id) end
    return id
  LUA

  RAW = <<-'LUA'
    return redis.call('ECHO', "\n #{x}")
  LUA

  DROP = 'return redis.call("DEL", KEYS[1]) -- it\'s \n'
  KEEP = "return redis.call('PERSIST', KEYS[1])\t-- \u00e9\n" \
    "-- end"
  PICK = %q{return redis.call('SPOP', KEYS[1])}

  def size(redis)
    redis.eval("return redis.call('LLEN', KEYS[1])", keys: [@key])
  end

  def both(redis)
    redis.multi(<<~ONE, <<~TWO)
      return redis.call('INCR', KEYS[1])
    ONE
      return redis.call('DECR', KEYS[1])
    TWO
  end

  def all(redis)
    redis.eval("return redis.call('KEYS', '#{@prefix}*')")
  end
end
