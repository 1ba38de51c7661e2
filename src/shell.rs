//! Shell command lines.

use crate::config::{Endpoint, TargetConfig};
use crate::text::shell_word;

/// Returns the start of a `redis-cli` command line that connects as the exporter does, to be followed by a command. It
/// contains no password: if the exporter uses one, `redis-cli` prompts for it.
pub(crate) fn redis_cli(config: &TargetConfig) -> String {
    command_line(config, config.credentials.user.as_deref())
}

/// Returns the start of the same command line for the user `default`, who may manage ACL users, unlike the exporter's user.
pub(crate) fn admin_cli(config: &TargetConfig) -> String {
    command_line(config, None)
}

fn command_line(config: &TargetConfig, user: Option<&str>) -> String {
    let mut line = "redis-cli".to_owned();
    let mut add = |option: &str, value: &[u8]| {
        line.push(' ');
        line.push_str(option);
        if !value.is_empty() {
            line.push(' ');
            line.push_str(&shell_word(value));
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
        if let Some(user) = user {
            add("--user", user.as_bytes());
        }
        add("--askpass", b"");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::config::Config;

    /// Returns the target that these flags configure.
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
            // Certificates apply only to targets with TLS.
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
    fn an_administrator_logs_in_as_the_default_user() {
        let config = target(&["--redis.addr=rediss://exporter:sesame@cache"]);
        assert_eq!(admin_cli(&config), "redis-cli -h cache -p 6379 --tls --askpass");
        assert_eq!(admin_cli(&target(&["--redis.addr=cache"])), "redis-cli -h cache -p 6379");
    }
}
