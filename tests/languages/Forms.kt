import java.security.MessageDigest

const val HEAD = "local key = KEYS[1]\n"
const val SHARED = HEAD + "return redis.call('GET', key)"
const val INSIDE = "${HEAD}return redis.call('DEL', key) -- $HEAD"

val indented = """
        local v = redis.call("GET", KEYS[1])

          return v -- \n ${'$'}x

    """.trimIndent()

val margin = """
    >return redis.call("TTL", KEYS[1])
     >  or "|"
      no margin
""".trimMargin(">")

val trimmed = """
    return redis.call("PTTL", KEYS[1])
""".trim()

val both = """
    |return redis.call("LLEN", KEYS[1])
    |
    """
    .trimMargin()
    .trim()

val lines = listOf(
    "local n = redis.call('INCR', KEYS[1])",
    "return n",
).joinToString("\n")

val escaped = "return redis.call('ECHO', '\u00e9\t\\\'\"\$HEAD ${"$"}')"

val oneLine = """return redis.call("ECHO", "a\n")"""

class Scripts(private val prefix: String) {
    val template = "return redis.call('GET', '$prefix:${prefix.length}')"

    fun formatted(key: String) = "return redis.call('DEL', '%s')".format(key)
}

fun show(name: String, script: String) {
    val hash = MessageDigest.getInstance("SHA-1").digest(script.toByteArray())
    println(name + " " + hash.joinToString("") { "%02x".format(it) })
}

fun main() {
    show("HEAD", HEAD)
    show("SHARED", SHARED)
    show("INSIDE", INSIDE)
    show("indented", indented)
    show("margin", margin)
    show("trimmed", trimmed)
    show("both", both)
    show("lines", lines)
    show("escaped", escaped)
    show("oneLine", oneLine)
}
