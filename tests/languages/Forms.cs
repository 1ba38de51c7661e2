using System;
using System.Linq;
using System.Reflection;
using System.Security.Cryptography;
using System.Text;

static class Forms
{
    public const string Head = "local key = KEYS[1]\n";
    public const string Shared = Head + "return redis.call('GET', key)";
    public const string Verbatim = @"local v = redis.call(""GET"", KEYS[1])
  return v -- \n {x}";
    public static readonly string Interpolated = $"{Head}return redis.call('DEL', key) -- {{x}}";
    public static readonly string Both = $@"{Head}return redis.call(""TTL"", key) -- {{\n}}";
    public const string Escapes = "return redis.call('ECHO', '\x41\x0042\u00e9\U0001F600\0\a')";
    public static readonly string Lines = string.Join("\n",
        "local n = redis.call('INCR', KEYS[1])",
        "return n");
    public static readonly string Chars = string.Join("" + '\n', "return redis.call('SREM',", "KEYS[1], 1" + ')');
    public static readonly string Concatenated = string.Concat("return redis.call('PTTL', ", "KEYS[1])");
    public static readonly string Trimmed = @"
        return redis.call('LLEN', KEYS[1])
    ".Trim();

    public static string Formatted(string key)
    {
        return string.Format("return redis.call('GET', '{0}') -- {{}}", key);
    }

    public static string Template(string key) => $"return redis.call('SET', '{key}:{key.Length,3:D}', 1)";

    static void Main()
    {
        foreach (var field in typeof(Forms).GetFields(BindingFlags.Public | BindingFlags.Static))
        {
            var script = (string)field.GetValue(null);
            if (!script.Contains("KEYS") && !script.Contains("redis")) continue;
            var hash = SHA1.Create().ComputeHash(Encoding.UTF8.GetBytes(script));
            Console.WriteLine(field.Name + " " + string.Concat(hash.Select(b => b.ToString("x2"))));
        }
    }
}
