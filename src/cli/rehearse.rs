//! Flags of `rehearse`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

/// Text after the flags in `rehearse --help`.
pub(super) const REHEARSE_EXIT_CODES: &str = "\
Exit codes: 0 success; 1 a run at --expect-size takes longer than --slow.warning, or a run at a smaller size had to be killed; 2 a \
script or the server fails; 64 invalid flags\n\
Types: string, list, set, zset, hash, stream, none; comma-separated options after the type: size=N (number of elements, or n to grow), \
bytes=N, element=TEXT with {i} for the number, value=TEXT, keys=N for a pattern\n\
A comment in the script: -- redis-script-exporter: rehearse KEYS[1]=zset ARGV[1]=100 expect-size=1M job:*=hash";

/// Flags of `rehearse`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct RehearseFlags {
    /// Lua script, or library that contains the function
    #[arg(value_name = "FILE", required_unless_present = "all")]
    pub(crate) file: Option<PathBuf>,

    /// Rehearse all scripts in a directory, with the settings in their comments
    #[arg(long, value_name = "DIR", conflicts_with_all = ["file", "key", "data", "arg", "function"])]
    pub(crate) all: Option<PathBuf>,

    /// Key and its type, in the order of KEYS: NAME=TYPE; a name with * is a pattern, which is not passed in KEYS;
    /// repeatable
    #[arg(long, value_name = "NAME=TYPE")]
    pub(crate) key: Vec<String>,

    /// Further key or pattern that the script uses, not passed in KEYS: NAME=TYPE; repeatable
    #[arg(long, value_name = "NAME=TYPE")]
    pub(crate) data: Vec<String>,

    /// Argument, in the order of ARGV; the letter n in braces stands for the size; repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) arg: Vec<String>,

    /// Function to call; the file is its library
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) function: Option<String>,

    /// Size of the data in production; exit code 1 if a run takes longer than --slow.warning there
    #[arg(long, value_name = "N", value_parser = size)]
    pub(crate) expect_size: Option<u64>,

    /// Maximum size [default: 10M]
    #[arg(long, value_name = "N", value_parser = size)]
    pub(crate) max_size: Option<u64>,

    /// Maximum CPU time per script for creating data and measuring; the wall-clock time is at most three times as long
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = budget)]
    pub(crate) time_budget: Duration,

    /// Maximum memory of the private server, MiB
    #[arg(long, value_name = "MIB", default_value = "4096", value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    pub(crate) max_memory: u64,

    /// Server program; by default redis-server or valkey-server in PATH
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,

    /// Read types, numbers of elements and sizes of the keys from this server, never values
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "from_rdb")]
    pub(crate) sample_from: Option<String>,

    /// Read types, numbers of elements and sizes of the keys from a dump, which a private server loads
    #[arg(long, value_name = "FILE")]
    pub(crate) from_rdb: Option<PathBuf>,

    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text", ignore_case = true)]
    pub(crate) format: RehearseFormat,

    /// Write a chart as SVG
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    pub(crate) output: Option<PathBuf>,
}

/// Values of `--format` of `rehearse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RehearseFormat {
    /// Table and chart.
    Text,
    /// One JSON object.
    Json,
    /// Table for a pull request.
    Markdown,
}

/// Minimum and maximum `--time-budget`.
const BUDGETS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

/// Maximum size.
const MAX_SIZE: u64 = 1_000_000_000;

/// Parses a number, which may contain `_` as a separator and end with the suffix `k` or `M`.
///
/// # Errors
/// The text is not a number, or the number exceeds [`MAX_SIZE`].
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let (digits, factor) = match (digits.strip_suffix('k'), digits.strip_suffix('M')) {
        (Some(digits), _) => (digits, 1000),
        (_, Some(digits)) => (digits, 1_000_000),
        _ => (digits.as_str(), 1),
    };
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(factor));
    value
        .filter(|value| *value <= MAX_SIZE)
        .ok_or_else(|| format!("{text:?} is not a number up to {MAX_SIZE}"))
}

fn size(text: &str) -> Result<u64, String> {
    count(text).and_then(|size| if size == 0 { Err("must be at least 1".to_owned()) } else { Ok(size) })
}

fn budget(text: &str) -> Result<Duration, String> {
    let budget = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if budget < BUDGETS.0 || budget > BUDGETS.1 {
        return Err("must be between 1s and 24h".to_owned());
    }
    Ok(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_suffixes() {
        for (text, value) in [("10", 10), ("1_000", 1000), ("50k", 50_000), ("10M", 10_000_000), ("0", 0)] {
            assert_eq!(count(text), Ok(value), "{text}");
        }
        for text in ["", "k", "1e6", "-1", "2000M", "18446744073709551615M"] {
            assert!(count(text).is_err(), "{text}");
        }
        assert!(size("0").is_err() && size("1").is_ok());
    }
}
