const HEAD: &str = "local key = KEYS[1]\n";

static HASHES: &str = r##"
return redis.call("ECHO", "#"#"")
"##;

const JOINED: &str = concat!(
    "local n = redis.call('INCR', KEYS[1])\n", // counts
    r#"return "n" .. n"#,
    '\n',
    1,
);

const CONTINUED: &str = "redis.call('SET', KEYS[1], ARGV[1]) \
    return 1 \u{1F_600}\x41\0\"\\

    -- end";

const BYTES: &[u8] = b"return redis.call('ECHO', '\xff\\')";
const RAW_BYTES: &[u8] = br#"return redis.call("ECHO", "\n")"#;
const INCLUDED: &str = include_str!("forms.lua");

fn trimmed() -> &'static str {
    "
    return redis.call('TTL', KEYS[1])
    "
    .trim()
}

fn lines() -> String {
    ["local n = redis.call('DECR', KEYS[1])", "return n"].join("\n")
}

fn owned() -> String {
    String::from("return redis.call('PTTL', KEYS[1])")
}

fn formatted(key: &str) -> String {
    format!("{HEAD}return redis.call('GET', '{key}:{}') -- {{}}", key.len())
}

fn main() {
    show("HEAD", HEAD);
    show("HASHES", HASHES);
    show("JOINED", JOINED);
    show("CONTINUED", CONTINUED);
    show("BYTES", BYTES);
    show("RAW_BYTES", RAW_BYTES);
    show("trimmed", trimmed());
    show("lines", lines());
    show("owned", owned());
    assert!(INCLUDED.contains("PING"));
    formatted("");
}

/// Prints the bytes, because the standard library has no SHA1.
fn show(name: &str, script: impl AsRef<[u8]>) {
    let hex: String = script.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{name} hex:{hex}");
}
