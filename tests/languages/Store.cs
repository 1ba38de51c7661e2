class Store
{
    const string Take = @"local v = redis.call(""GET"", KEYS[1])
return v -- \n";

    static readonly string Put = """
        redis.call("SET", KEYS[1], ARGV[1])
          return 1 -- \n
        """;

    string Touch => "return redis.call('EXPIRE', KEYS[1], 60)\t-- \x41\u00e9" + "\n";

    object Drop(IDatabase db) => db.ScriptEvaluate("return redis.call('DEL', KEYS[1])"u8);

    void Prepare()
    {
        this.size = LuaScript.Prepare("return redis.call('DBSIZE')");
        var all = $"return redis.call('KEYS', '{prefix}{{x}}')";
        Run(script: """return redis.call("PING")""");
    }
}
