const PUSH: &str = r#"
redis.call("RPUSH", KEYS[1], ARGV[1])
return '\n'
"#;

static POP: &str = "local job = redis.call('LPOP', KEYS[1])\n\
                    return job .. '\x41\u{e9}'";

fn size(connection: &mut Connection) -> u64 {
    let len = redis::Script::new("return redis.call('LLEN', KEYS[1])");
    let scripts = Scripts { peek: r"return redis.call('LINDEX', KEYS[1], 0)" };
    connection.query(redis::cmd("EVAL").arg("return redis.call('EXISTS', KEYS[1])"))
}
