class Cache(private val redis: Redis) {
    companion object {
        private const val STORE = "redis.call('SET', KEYS[1], ARGV[1])\n" +
            "return '\u00e9\$'"
    }

    private val load = """
        local value = redis.call("GET", KEYS[1])
          return value or "\n"
    """.trimIndent()

    val margin = """
        |return redis.call("TTL", KEYS[1])
        |  -- ${'$'}{x}
    """.trimMargin()

    fun drop(key: String): Long {
        return redis.eval("return redis.call('DEL', KEYS[1])", listOf(key))
    }

    fun clear(prefix: String) = redis.eval("return redis.call('KEYS', '$prefix:*')", listOf())
}
