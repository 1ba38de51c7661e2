class Limiter {
    private static final String ACQUIRE = """
        local n = redis.call('INCR', KEYS[1])
          if n > tonumber(ARGV[1]) then return 0 end   \
        -- \t"quoted" \"""
        return 1
        """;

    static final String RELEASE =
        "redis.call('DECR', KEYS[1])\n" +
        "return \"\u00e9\101\"";

    enum Script {
        SIZE("return redis.call('SCARD', KEYS[1])");

        Script(String lua) {}
    }

    Object take(Jedis jedis, String key) {
        return jedis.eval("return redis.call('SPOP', KEYS[1])", 1, key);
    }

    Object all(Jedis jedis, String prefix) {
        return jedis.eval("return redis.call('KEYS', '" + prefix + "*')", 0);
    }
}
