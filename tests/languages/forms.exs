defmodule Forms do
  @head "local key = KEYS[1]\n"
  @shared @head <> "return redis.call('GET', key)"

  @heredoc """
    local v = redis.call("GET", KEYS[1])

  return v -- \x41\u00e9\u{1F600}\s\
  end
  """

  @raw ~S"""
  return redis.call("ECHO", "\n #{x}")
  """

  @sigil ~s{return redis.call("ECHO", "a\}b\n")}
  @pipes ~S|return redis.call("ECHO", "\n")|
  @inside "#{@head}return redis.call('DEL', key)"
  @trimmed String.trim("""
  return redis.call("TTL", KEYS[1])
  """)
  @piped "\n return redis.call('PTTL', KEYS[1]) " |> String.trim()
  @lines Enum.join(["local n = redis.call('INCR', KEYS[1])", "return n"], "\n")
  @charlist 'return redis.call("LLEN", KEYS[1])'

  def template(prefix), do: "return redis.call('GET', '#{prefix}:x')"

  def scripts do
    [
      head: @head,
      shared: @shared,
      heredoc: @heredoc,
      raw: @raw,
      sigil: @sigil,
      pipes: @pipes,
      inside: @inside,
      trimmed: @trimmed,
      piped: @piped,
      lines: @lines,
      charlist: @charlist
    ]
  end
end

for {name, script} <- Forms.scripts() do
  IO.puts("#{name} #{Base.encode16(:crypto.hash(:sha, to_string(script)), case: :lower)}")
end
