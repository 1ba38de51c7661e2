require "digest"

module Forms
  HEAD = "local key = KEYS[1]\n"

  SQUIGGLY = <<~LUA
    local v = redis.call("GET", KEYS[1])

      -- \t"tab" \#{x} \u{e9 1F600}
    return v \
      or nil
  LUA

  QUOTED = <<~'LUA'.strip
      return redis.call("ECHO", "\n #{x}")
  LUA

  DASH = <<-"LUA".freeze
    return redis.call("TTL", KEYS[1])
    LUA

  PLAIN = <<LUA
  return redis.call('PTTL', KEYS[1])
LUA

  PERCENT = %q{return redis.call('ECHO', '{a}\}\n')}
  BIG = %Q[return redis.call('ECHO', 'a[1]\x41\n')]
  BARE = %(return redis.call('ECHO', (1)))
  SHARED = HEAD + "return redis.call('GET', key)"
  INSIDE = "#{HEAD}return redis.call('DEL', key)"
  CHOMPED = <<~LUA.chomp
    redis.call("INCR", KEYS[1])
  LUA
  ADJACENT = "redis.call('INCR', KEYS[1])\n" \
             'return "\n"' "\n"
  LINES = [
    "local n = redis.call('INCR', KEYS[1])",
    "return n"
  ].join("\n")
  BYTES = "return redis.call('ECHO', '\xff\101\e')"

  def self.percent(value)
    "return redis.call('SET', KEYS[1], '%s')" % value
  end

  def self.formatted(value)
    format("return redis.call('SETNX', KEYS[1], '%{x}%%')", x: value)
  end

  def self.heredoc(prefix)
    <<~LUA
      local all = redis.call("KEYS", "#{prefix}*")
      return #all
    LUA
  end
end

if __FILE__ == $0
  Forms.constants.each do |name|
    script = Forms.const_get(name)
    puts "#{name} #{Digest::SHA1.hexdigest(script)}" if script.b.match?(/redis.call|KEYS/)
  end
end
