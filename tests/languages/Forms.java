import java.security.MessageDigest;
import java.util.HexFormat;

class Forms {
    static final String HEAD = "local key = KEYS[1]\n";

    static final String SHARED = HEAD + "return redis.call('GET', key)";

    static final String BLOCK = """
        local v = redis.call("GET", KEYS[1])

          if v then   \s
            return v -- \""" \
        and more \u0041\101\\
          end
      """;

    static final String TIGHT = """
        return redis.call("TTL", KEYS[1])\t
          or nil""";

    static final String JOINED = String.join("\n",
        "local n = redis.call('INCR', KEYS[1])", // counts
        "return n");

    static final String STRIPPED = """
          return redis.call("PTTL", KEYS[1])
        """.strip();

    static final String OVER = "return redis.call('ECHO', '\477\u0042\0')";

    static final String NUMBERS = Forms.HEAD + "return redis.call('EXPIRE', key, " + 60 + ')';

    static final String LONG =
        "local n = redis.call('LLEN', KEYS[1]) "
            + "if n > 0 then "
            + ("redis.call('DEL', KEYS[1]) " + "end ")
            + "return n";

    static String formatted(String key) {
        return String.format("return redis.call('GET', '%s') -- 100%%", key);
    }

    static String late(String key) {
        return """
            return redis.call("DEL", "%s")
            """.formatted(key);
    }

    public static void main(String[] args) throws Exception {
        for (var field : Forms.class.getDeclaredFields()) {
            String script = (String) field.get(null);
            if (script.contains("KEYS") || script.contains("redis")) {
                byte[] hash = MessageDigest.getInstance("SHA-1").digest(script.getBytes("UTF-8"));
                System.out.println(field.getName() + " " + HexFormat.of().formatHex(hash));
            }
        }
    }
}
