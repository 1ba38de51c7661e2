//! Flags and environment variables of `redis_exporter`, and their counterparts here. The flags are not accepted, but the error
//! names the replacement. A command line written for `redis_exporter` therefore either works or fails with one line that says how
//! to change it.

use clap::error::ErrorKind;

use super::environment;

/// Prefix of the environment variables of `redis_exporter`.
const PREFIX: &str = "REDIS_EXPORTER_";

/// Counterpart of a flag.
#[derive(Debug, Clone, Copy)]
enum Counterpart {
    /// Flag with the same meaning, without dashes.
    Flag(&'static str),
    /// Another way to get the same effect.
    Setting(&'static str),
    /// Flag that is not needed here, with the reason.
    None(&'static str),
}

use Counterpart::{Flag, None as Nothing, Setting};

/// Reason why flags that concern keys have no counterpart.
const KEYS: &str = "this exporter reads no keys";

/// Reason why flags that select metrics have no counterpart.
const METRICS: &str = "all metrics of this exporter are always exported";

/// Advice for the TLS and password flags of the HTTP server.
const WEB_FILE: &str = "set tls_server_config and basic_auth_users in --web.config.file";

/// Flags of `redis_exporter` that have a different name or no counterpart here. Flags with the same name and meaning are omitted.
const FLAGS: &[(&str, Counterpart)] = &[
    ("append-instance-role-label", Nothing("redis_script_target_info has the role")),
    ("basic-auth-hash-password", Setting(WEB_FILE)),
    ("basic-auth-password", Setting(WEB_FILE)),
    ("basic-auth-username", Setting(WEB_FILE)),
    ("check-key-groups", Nothing(KEYS)),
    ("check-keys", Nothing(KEYS)),
    ("check-keys-batch-size", Nothing(KEYS)),
    ("check-search-indexes", Nothing(KEYS)),
    ("check-single-keys", Nothing(KEYS)),
    ("check-single-streams", Nothing(KEYS)),
    ("check-streams", Nothing(KEYS)),
    ("cluster-discover-hostnames", Setting("set discover: cluster for an entry in --config.file")),
    ("config-command", Nothing("without the grant +config|get, CONFIG is not used")),
    ("connection-timeout", Nothing("connections are kept, and unanswered heartbeats are measured")),
    ("count-keys", Nothing(KEYS)),
    ("debug", Setting("write --log.level=debug")),
    ("disable-exporting-key-values", Nothing(KEYS)),
    ("disable-scrape-endpoint", Nothing("/probe is disabled without modules in --config.file")),
    ("exclude-latency-histogram-metrics", Nothing(METRICS)),
    ("export-client-list", Nothing("the status page shows the callers of slow scripts")),
    ("export-client-port", Nothing("the status page shows the callers of slow scripts")),
    ("incl-config-metrics", Nothing(METRICS)),
    ("incl-metrics-for-empty-databases", Nothing(METRICS)),
    ("incl-modules-metrics", Nothing(METRICS)),
    ("incl-rdb-file-size-metric", Nothing(METRICS)),
    ("incl-search-indexes-metrics", Nothing(METRICS)),
    ("incl-sentinel-peer-info", Nothing(METRICS)),
    ("incl-system-metrics", Nothing(METRICS)),
    ("include-config-metrics", Nothing(METRICS)),
    ("include-go-runtime-metrics", Nothing(METRICS)),
    ("include-metrics-for-empty-databases", Nothing(METRICS)),
    ("include-modules-metrics", Nothing(METRICS)),
    ("include-rdb-file-size-metric", Nothing(METRICS)),
    ("include-search-indexes-metrics", Nothing(METRICS)),
    ("include-sentinel-peer-info", Nothing(METRICS)),
    ("include-system-metrics", Nothing(METRICS)),
    ("is-cluster", Setting("set discover: cluster for an entry in --config.file (docs/fleet.md)")),
    ("is-tile38", Nothing("Tile38 is not supported")),
    ("log-format", Flag("log.format")),
    ("log-level", Flag("log.level")),
    ("lua-script-read-only", Nothing("this exporter runs no scripts")),
    ("max-distinct-key-groups", Nothing(KEYS)),
    ("namespace", Nothing("names of metrics are fixed")),
    ("ping-on-connect", Nothing("a heartbeat is always sent")),
    ("redact-config-metrics", Nothing(METRICS)),
    ("redis-only-metrics", Nothing(METRICS)),
    ("script", Nothing("this exporter runs no scripts; --script.dir has the sources of your own")),
    ("set-client-name", Nothing("without the grant +client|setname, the connection has no name")),
    ("skip-checkkeys-for-role-master", Nothing(KEYS)),
    ("skip-tls-verification", Flag("redis.tls-insecure")),
    ("streams-exclude-consumer-metrics", Nothing(KEYS)),
    ("tls-ca-cert-file", Flag("redis.tls-ca-file")),
    ("tls-client-cert-file", Flag("redis.tls-cert-file")),
    ("tls-client-key-file", Flag("redis.tls-key-file")),
    ("tls-server-ca-cert-file", Setting(WEB_FILE)),
    ("tls-server-cert-file", Setting(WEB_FILE)),
    ("tls-server-key-file", Setting(WEB_FILE)),
    ("tls-server-min-version", Setting(WEB_FILE)),
    ("tls-server-name", Setting("set tls: { server_name: … } for a target in --config.file")),
];

/// Flags that have the same name, but an environment variable with a different prefix.
const SAME_FLAGS: &[&str] = &["web.listen-address", "web.telemetry-path"];

impl Counterpart {
    fn advice(self) -> String {
        match self {
            Self::Flag(flag) => format!("write --{flag}"),
            Self::Setting(advice) => advice.to_owned(),
            Self::None(reason) => format!("remove it: {reason}"),
        }
    }
}

fn counterpart(flag: &str) -> Option<Counterpart> {
    FLAGS.iter().find(|(theirs, _)| *theirs == flag).map(|(_, counterpart)| *counterpart)
}

/// Returns the error line for a command line written for `redis_exporter`, or `None` if the error has a different cause. `words`
/// contains all arguments; their values are not repeated.
pub(super) fn usage_line(error: &clap::Error, words: &[&str], known: &clap::Command) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let flags = words.iter().take_while(|word| **word != "--").filter_map(|word| {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
        Some((word.split('=').next().unwrap_or_default(), name.split('=').next().unwrap_or_default()))
    });
    for (word, name) in flags {
        if let Some(counterpart) = counterpart(name) {
            return Some(format!("{word} is a flag of redis_exporter; {}", counterpart.advice()));
        }
        let exists = name == "version" || known.get_arguments().any(|arg| arg.get_long() == Some(name));
        if exists && !word.starts_with("--") {
            return Some(format!("{word}: flags begin with two dashes; write --{name}"));
        }
    }
    None
}

/// Returns a warning for each environment variable of `redis_exporter` that is set but has no effect here.
pub(crate) fn ignored_variables(env: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let variable = |flag: &str| format!("{PREFIX}{}", flag.to_ascii_uppercase().replace(['.', '-'], "_"));
    let ours = |flag: &str| environment::names(flag).into_iter().next().unwrap_or_default();
    let flags = FLAGS.iter().map(|(theirs, counterpart)| (variable(theirs), *counterpart));
    let same = SAME_FLAGS.iter().map(|flag| (variable(flag), Flag(flag)));
    flags
        .chain(same)
        .filter(|(name, _)| env(name).is_some_and(|value| !value.is_empty()))
        .map(|(name, counterpart)| {
            let advice = match counterpart {
                Flag(flag) => format!("set {}", ours(flag)),
                other => other.advice(),
            };
            format!("{name} is a variable of redis_exporter and has no effect; {advice}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// Parses a command line. The error is the line that would be printed.
    fn line(words: &[&str]) -> Result<(), String> {
        let words: Vec<&str> =
            std::iter::once("redis-script-exporter").chain(words.iter().copied()).collect();
        let given: Vec<OsString> = words.iter().map(OsString::from).collect();
        Cli::parse_words(words, |_| None).map(|_| ()).map_err(|error| crate::cli::usage_line(&error, &given))
    }

    #[test]
    fn common_redis_exporter_command_lines_work_or_name_the_right_flag() {
        for (words, expected) in [
            (&["--redis.addr=redis://redis:6379"][..], None),
            (
                &["--redis.addr", "rediss://redis:6380", "--redis.user=exporter", "--redis.password=sesame"],
                None,
            ),
            (
                &["--redis.addr=redis:6379", "--redis.password-file=/dev/null", "--web.listen-address=:9121"],
                None,
            ),
            (&["-redis.addr=redis://redis:6379"], Some("write --redis.addr")),
            (
                &["-redis.addr", "redis://redis:6379", "-web.listen-address", ":9121"],
                Some("write --redis.addr"),
            ),
            (&["-version"], Some("write --version")),
            (&["--redis.addr="], None),
            (
                &["--redis.addr", "rediss://redis:6380", "--skip-tls-verification"],
                Some("write --redis.tls-insecure"),
            ),
            (&["--skip-tls-verification=true"], Some("write --redis.tls-insecure")),
            (&["-tls-ca-cert-file", "/ca.pem"], Some("write --redis.tls-ca-file")),
            (
                &["--tls-client-cert-file=/c.pem", "--tls-client-key-file=/k.pem"],
                Some("write --redis.tls-cert-file"),
            ),
            (&["--is-cluster"], Some("discover: cluster")),
            (&["--check-keys=user:*"], Some("reads no keys")),
            (&["--log-format=json", "--debug"], Some("write --log.format")),
            (&["--tls-server-cert-file=a", "--tls-server-key-file=b"], Some("--web.config.file")),
            (&["--include-system-metrics", "--redis-only-metrics"], Some("remove it")),
        ] {
            match (line(words), expected) {
                (Ok(()), None) => {}
                (Err(line), Some(part)) => {
                    assert!(line.contains(part) && !line.contains(".pem"), "{words:?}: {line}");
                }
                (result, _) => panic!("{words:?}: {result:?}"),
            }
        }
        // Other errors are not about redis_exporter.
        assert!(line(&["--no-such-flag"]).unwrap_err().contains("unexpected argument '--no-such-flag'"));
    }

    #[test]
    fn a_value_is_never_mistaken_for_a_flag() {
        assert_eq!(line(&["--redis.password", "--debug"]), Ok(()));
        assert!(line(&["--nope", "--", "--debug"]).unwrap_err().contains("--nope"));
    }

    #[test]
    fn variables_without_effect_are_named_with_their_counterpart() {
        let env = |name: &str| match name {
            "REDIS_EXPORTER_SKIP_TLS_VERIFICATION" | "REDIS_EXPORTER_INCL_SYSTEM_METRICS" => {
                Some("true".to_owned())
            }
            "REDIS_EXPORTER_WEB_LISTEN_ADDRESS" => Some(":9121".to_owned()),
            "REDIS_EXPORTER_DEBUG" => Some(String::new()),
            _ => None,
        };
        let warnings = ignored_variables(env);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        let all = warnings.join("\n");
        for part in [
            "REDIS_SCRIPT_EXPORTER_REDIS_TLS_INSECURE",
            "REDIS_SCRIPT_EXPORTER_WEB_LISTEN_ADDRESS",
            "REDIS_EXPORTER_INCL_SYSTEM_METRICS",
        ] {
            assert!(all.contains(part), "{all}");
        }
    }

    #[test]
    fn counterparts_are_flags_that_exist_and_no_flag_has_both_meanings() {
        let command = Cli::command();
        let exists = |name: &str| command.get_arguments().any(|arg| arg.get_long() == Some(name));
        for (theirs, counterpart) in FLAGS {
            assert!(!exists(theirs), "{theirs}");
            if let Flag(ours) = counterpart {
                assert!(exists(ours), "{ours}");
            }
        }
        assert!(SAME_FLAGS.iter().all(|flag| exists(flag)));
    }

    /// docs/switching.md has a row for each flag.
    #[test]
    fn the_document_lists_every_flag() {
        let text = include_str!("../../docs/switching.md");
        for (theirs, counterpart) in FLAGS {
            if theirs.starts_with("incl-") {
                continue;
            }
            let row =
                text.lines().find(|line| line.starts_with('|') && line.contains(&format!("`--{theirs}`")));
            let row = row.unwrap_or_else(|| panic!("docs/switching.md has no row for --{theirs}"));
            if let Flag(ours) = counterpart {
                assert!(row.contains(&format!("`--{ours}`")), "{row}");
            }
        }
    }
}
