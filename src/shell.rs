//! Shell command lines.

use crate::config::{Endpoint, TargetConfig};

/// Returns the start of a `redis-cli` command line that connects as the exporter does, to be followed by a command. It
/// contains no password: if the exporter uses one, `redis-cli` prompts for it.
pub(crate) fn redis_cli(config: &TargetConfig) -> String {
    let mut line = "redis-cli".to_owned();
    let mut add = |option: &str, value: &[u8]| {
        line.push(' ');
        line.push_str(option);
        if !value.is_empty() {
            line.push(' ');
            line.push_str(&quoted(value));
        }
    };
    match &config.address.endpoint {
        Endpoint::Tcp(host, port) => {
            add("-h", host.as_bytes());
            add("-p", port.to_string().as_bytes());
        }
        Endpoint::Unix(path) => add("-s", path.as_os_str().as_encoded_bytes()),
    }
    if config.address.tls {
        let tls = &config.tls;
        add("--tls", b"");
        match &tls.ca {
            _ if tls.insecure => add("--insecure", b""),
            Some(ca) => add("--cacert", ca.as_os_str().as_encoded_bytes()),
            None => {}
        }
        if let Some((cert, key)) = &tls.client {
            add("--cert", cert.as_os_str().as_encoded_bytes());
            add("--key", key.as_os_str().as_encoded_bytes());
        }
        if let Some(name) = &tls.server_name {
            add("--sni", name.as_bytes());
        }
    }
    if config.credentials.password.is_some() {
        if let Some(user) = &config.credentials.user {
            add("--user", user.as_bytes());
        }
        add("--askpass", b"");
    }
    line
}

/// Quotes a text as one word of a shell command line, in printable ASCII. The form `$'…'`, which bash, zsh, ksh and busybox
/// support, is used only if other characters have to be escaped.
fn quoted(text: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,".contains(byte);
    if !text.is_empty() && text.iter().all(plain) {
        return text.iter().copied().map(char::from).collect();
    }
    if text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        let text: String = text.iter().copied().map(char::from).collect();
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let escaped = text.iter().map(|&byte| match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    });
    format!("$'{}'", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::config::Config;

    /// Returns the target of these flags.
    fn target(flags: &[&str]) -> TargetConfig {
        let words = std::iter::once("redis-script-exporter").chain(flags.iter().copied());
        Config::from_cli(&Cli::parse_words(words, |_| None).unwrap()).unwrap().targets.remove(0)
    }

    #[test]
    fn the_options_are_those_of_the_exporters_connection() {
        for (flags, expected) in [
            (&["--redis.addr=cache:7000"][..], "redis-cli -h cache -p 7000"),
            (&["--redis.addr=redis://u:sesame@cache"], "redis-cli -h cache -p 6379 --user u --askpass"),
            (&["--redis.addr=redis://:sesame@cache"], "redis-cli -h cache -p 6379 --askpass"),
            (
                &["--redis.addr=cache", "--redis.password=sesame", "--redis.user=it's me"],
                r"redis-cli -h cache -p 6379 --user 'it'\''s me' --askpass",
            ),
            (&["--redis.addr=rediss://[::1]:7000"], "redis-cli -h ::1 -p 7000 --tls"),
            (&["--redis.addr=rediss://[::1]:7000#insecure"], "redis-cli -h ::1 -p 7000 --tls --insecure"),
            (
                &[
                    "--redis.addr=rediss://:sesame@cache",
                    "--redis.tls-ca-file=/etc/my ca.pem",
                    "--redis.tls-cert-file=/etc/c.pem",
                    "--redis.tls-key-file=/etc/c.key",
                ],
                "redis-cli -h cache -p 6379 --tls --cacert '/etc/my ca.pem' --cert /etc/c.pem --key /etc/c.key --askpass",
            ),
            (&["--redis.addr=unix:///run/a%20b.sock?pass=sesame"], "redis-cli -s '/run/a b.sock' --askpass"),
            // Certificates apply to targets with TLS only.
            (&["--redis.addr=cache", "--redis.tls-ca-file=/etc/ca.pem"], "redis-cli -h cache -p 6379"),
        ] {
            let line = redis_cli(&target(flags));
            assert_eq!(line, expected);
            assert!(!line.contains("sesame"), "{line}");
        }
    }

    #[test]
    fn the_name_that_the_certificate_is_for_is_sent() {
        let mut config = target(&["--redis.addr=rediss://10.0.0.1"]);
        config.tls.server_name = Some("redis.internal".to_owned());
        assert_eq!(redis_cli(&config), "redis-cli -h 10.0.0.1 -p 6379 --tls --sni redis.internal");
    }

    #[test]
    fn words_of_a_command_line_stay_one_word() {
        for (text, word) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "::1"),
            ("/run/my redis.sock", "'/run/my redis.sock'"),
            ("a;rm -rf $HOME", "'a;rm -rf $HOME'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("\u{1b}[31m\n'\\", r"$'\033[31m\012\'\\'"),
            ("é\u{202e}", r"$'\303\251\342\200\256'"),
        ] {
            assert_eq!(quoted(text.as_bytes()), word);
        }
    }
}
