defmodule Locker do
  @unlock """
  if redis.call("GET", KEYS[1]) == ARGV[1] then
    return redis.call("DEL", KEYS[1])\t-- \x41
  end
  """

  @raw ~S"""
    return redis.call('ECHO', "\n #{x}")
  """

  @touch "redis.call('EXPIRE', KEYS[1], 60)\n" <> "return 1" <> "\n"

  def size(conn, key) do
    Redix.command(conn, ["EVAL", "return redis.call('LLEN', KEYS[1])", "1", key])
  end

  def scripts, do: %{"pop" => "return redis.call('LPOP', KEYS[1])", peek: ~s(return redis.call('GET', KEYS[1]\))}

  def all(conn), do: Redix.command(conn, ["EVAL", "return redis.call('KEYS', '#{@prefix}*')", "0"])
end
