//! Flags of the exporter. The doc comment of a field is its help text.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser, TypedValueParser as _};
use clap::{ArgAction, Parser};
use secrecy::SecretString;

use super::Subcommand;
use super::guard::GuardFlags;
use crate::logging::{LogFormat, LogLevel};

/// Text after the flags in `--help`.
const EXAMPLES: &str = "\
Examples:
  redis-script-exporter --redis.addr redis://cache:6379
  redis-script-exporter --redis.addr rediss://cache:6380 --redis.user exporter --redis.password-file /run/secrets/redis
  redis-script-exporter --config.file targets.yml --state.file /var/lib/redis-script-exporter/state
  redis-script-exporter check cache:6379
  redis-script-exporter lint scripts/";

/// Flags of the exporter, and the subcommand if there is one. Flags marked `global` apply to subcommands too.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "redis-script-exporter",
    version = env!("BUILD_VERSION"),
    about,
    max_term_width = 110,
    after_help = EXAMPLES
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Cli {
    /// Subcommand; without one the exporter runs.
    #[command(subcommand)]
    pub(crate) command: Option<Subcommand>,

    /// Server to watch: redis://, rediss:// (TLS), valkey://, valkeys:// (TLS) or unix://; repeatable; empty for none
    #[arg(long = "redis.addr", value_name = "URL", default_value = "redis://127.0.0.1:6379", global = true)]
    pub(crate) redis_addr: Vec<String>,

    /// True if `redis_addr` is from the command line, not from the environment or the default.
    #[arg(skip)]
    pub(crate) redis_addr_is_flag: bool,

    /// ACL user, used for addresses that contain no user
    #[arg(long = "redis.user", value_name = "USER", global = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) redis_user: Option<String>,

    /// Password, used for addresses that contain no password; visible in the process list, so prefer --redis.password-file
    #[arg(long = "redis.password", value_name = "PASSWORD", value_parser = NonEmptyStringValueParser::new().map(SecretString::from),
          hide_default_value = true, allow_hyphen_values = true, global = true)]
    pub(crate) redis_password: Option<SecretString>,

    /// File with the password on its first line, or with a JSON map of addresses to passwords; read at every
    /// connect
    #[arg(long = "redis.password-file", value_name = "FILE", global = true)]
    pub(crate) redis_password_file: Option<PathBuf>,

    /// New name of CONFIG, INFO or SLOWLOG on servers that rename it (rename-command); repeatable
    #[arg(long = "redis.renamed-command", value_name = "COMMAND=NAME", global = true,
          value_parser = NonEmptyStringValueParser::new())]
    pub(crate) redis_renamed_command: Vec<String>,

    /// CA certificates (PEM) to trust instead of the system's
    #[arg(long = "redis.tls-ca-file", value_name = "FILE", global = true)]
    pub(crate) redis_tls_ca_file: Option<PathBuf>,

    /// Client certificate (PEM) to present to the server
    #[arg(long = "redis.tls-cert-file", value_name = "FILE", global = true)]
    pub(crate) redis_tls_cert_file: Option<PathBuf>,

    /// Private key (PEM) of the client certificate
    #[arg(long = "redis.tls-key-file", value_name = "FILE", global = true)]
    pub(crate) redis_tls_key_file: Option<PathBuf>,

    /// Accept any certificate; the connection is encrypted but not authenticated
    #[arg(long = "redis.tls-insecure", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new(), global = true)]
    pub(crate) redis_tls_insecure: bool,

    /// YAML file of targets, and of modules for /probe; reloaded on SIGHUP
    #[arg(long = "config.file", value_name = "FILE", global = true)]
    pub(crate) config_file: Option<PathBuf>,

    /// Stop watching a /probe target after this long without a probe
    #[arg(long = "probe.idle-timeout", value_name = "DURATION", default_value = "10m",
          value_parser = humantime::parse_duration)]
    pub(crate) probe_idle_timeout: Duration,

    /// Maximum number of concurrently monitored /probe targets
    #[arg(long = "probe.max-targets", value_name = "N", default_value = "1000")]
    pub(crate) probe_max_targets: usize,

    /// Maximum memory of the incomplete replies of all servers together, in MiB; above it the oldest are dropped
    #[arg(long = "redis.reply-memory", value_name = "MIB", default_value = "64", global = true)]
    pub(crate) redis_reply_memory: usize,

    /// Log of the server, which names a script while it runs: a file, a directory of *.log files, or a pattern (* ? [ ]); requires
    /// exactly one --redis.addr
    #[arg(long = "redis.log-file", value_name = "FILE")]
    pub(crate) redis_log_file: Option<PathBuf>,

    /// Address to listen on for HTTP; port 0 picks a free port; repeatable
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:10379",
        global = true
    )]
    pub(crate) web_listen_address: Vec<String>,

    /// Serve HTTP on the sockets that systemd passes, instead of --web.listen-address
    #[arg(long = "web.systemd-socket", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_systemd_socket: bool,

    /// File that enables TLS and basic auth, in the web configuration format of Prometheus exporters; reloaded when it
    /// changes
    #[arg(long = "web.config.file", value_name = "FILE", global = true)]
    pub(crate) web_config_file: Option<PathBuf>,

    /// Path under which metrics are served
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub(crate) web_telemetry_path: String,

    /// URL at which users reach the status page, for links in alerts and log lines
    #[arg(long = "web.external-url", value_name = "URL")]
    pub(crate) web_external_url: Option<String>,

    /// Public DNS name by which browsers reach the page and the API, or * for any; repeatable
    #[arg(long = "web.allowed-host", value_name = "HOST", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) web_allowed_host: Vec<String>,

    /// Enable POST /-/reload
    #[arg(long = "web.enable-lifecycle", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_enable_lifecycle: bool,

    /// Show the sources of scripts on the status page: from --script.dir, and from servers that return them (Valkey 8)
    #[arg(long = "web.show-source", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_show_source: bool,

    /// Show the first keys of slow calls on the status page and in the API; if off, keys are not stored
    #[arg(long = "web.show-keys", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_show_keys: bool,

    /// Omit client addresses and names from the status page, the API and the logs
    #[arg(long = "web.hide-clients", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new())]
    pub(crate) web_hide_clients: bool,

    /// Maximum interval between reads of the slow log
    #[arg(long = "poll.interval", value_name = "DURATION", default_value = "1s",
          value_parser = humantime::parse_duration)]
    pub(crate) poll_interval: Duration,

    /// Interval between reads of INFO and CONFIG
    #[arg(long = "poll.info-interval", value_name = "DURATION", default_value = "5s",
          value_parser = humantime::parse_duration)]
    pub(crate) poll_info_interval: Duration,

    /// Interval between heartbeats
    #[arg(long = "heartbeat.interval", value_name = "DURATION", default_value = "200ms",
          value_parser = humantime::parse_duration)]
    pub(crate) heartbeat_interval: Duration,

    /// Maximum number of heartbeats per second to all targets together; with more targets, all intervals between heartbeats
    /// grow by the same factor [default: 2500 while that makes intervals of at most 500ms, else 20000]
    #[arg(long = "heartbeat.max-rate", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) heartbeat_max_rate: Option<u32>,

    /// Time without a reply after which a server counts as blocked
    #[arg(long = "heartbeat.blocked-after", value_name = "DURATION", default_value = "250ms",
          value_parser = humantime::parse_duration)]
    pub(crate) heartbeat_blocked_after: Duration,

    /// Minimum duration of a slow call with severity "warning"
    #[arg(long = "slow.warning", value_name = "DURATION", default_value = "1s", global = true,
          value_parser = humantime::parse_duration)]
    pub(crate) slow_warning: Duration,

    /// Minimum duration of a slow call with severity "critical"
    #[arg(long = "slow.critical", value_name = "DURATION", default_value = "2s", global = true,
          value_parser = humantime::parse_duration)]
    pub(crate) slow_critical: Duration,

    /// Upper bounds of the duration histogram in seconds, separated by commas
    #[arg(
        long = "slow.buckets",
        value_name = "SECONDS",
        value_delimiter = ',',
        default_value = "0.01,0.025,0.05,0.1,0.25,0.5,1,2,5,10,20,30,60"
    )]
    pub(crate) slow_buckets: Vec<f64>,

    /// Maximum number of script labels per target; further scripts are counted under "other"
    #[arg(long = "script.max-series", value_name = "N", default_value = "100")]
    pub(crate) script_max_series: usize,

    /// File that keeps the counters of the slow log across restarts of the exporter; created if missing
    #[arg(long = "state.file", value_name = "FILE")]
    pub(crate) state_file: Option<PathBuf>,

    /// Watch only one part of the targets: NUMBER/COUNT, for example 2/5; several exporters with the same targets divide them
    /// by a hash of the target's name
    #[arg(long = "shard", value_name = "NUMBER/COUNT", global = true)]
    pub(crate) shard: Option<String>,

    /// Directory of Lua files, or of files in other languages with scripts in string literals; scripts are named after
    /// their files; repeatable
    #[arg(long = "script.dir", value_name = "DIR", global = true)]
    pub(crate) script_dir: Vec<PathBuf>,

    /// Name the scripts of public libraries from the bundled catalogue; names from --script.dir take precedence
    #[arg(long = "script.bundled", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "true", default_missing_value = "true", value_name = "BOOL",
          value_parser = BoolishValueParser::new(), global = true)]
    pub(crate) script_bundled: bool,

    /// Flags of the guard.
    #[command(flatten)]
    pub(crate) guard: GuardFlags,

    /// Alertmanager that is notified as soon as a server is blocked for --slow.warning: http(s)://host:port/prefix;
    /// repeatable, each is notified
    #[arg(long = "alertmanager.url", value_name = "URL", global = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) alertmanager_url: Vec<String>,

    /// File with addresses, credentials and TLS settings of Alertmanagers, in the format of Prometheus
    #[arg(long = "alertmanager.config.file", value_name = "FILE", global = true)]
    pub(crate) alertmanager_config_file: Option<PathBuf>,

    /// Label of each alert that is sent, such as job, instance or an external label of Prometheus; an empty value removes
    /// the default; repeatable
    #[arg(long = "alertmanager.label", value_name = "NAME=VALUE", global = true,
          value_parser = NonEmptyStringValueParser::new())]
    pub(crate) alertmanager_label: Vec<String>,

    /// Interval at which a firing alert is resent; it ends after four intervals if the exporter dies
    #[arg(long = "alertmanager.resend-delay", value_name = "DURATION", default_value = "10s",
          value_parser = humantime::parse_duration)]
    pub(crate) alertmanager_resend_delay: Duration,

    /// Minimum log level
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", ignore_case = true)]
    pub(crate) log_level: LogLevel,

    /// Log format
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", ignore_case = true)]
    pub(crate) log_format: LogFormat,
}
