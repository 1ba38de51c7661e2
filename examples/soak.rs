//! Random faults against several real servers: `make soak`.
//!
//! The targets include hostile servers and all installed versions of well-behaved ones (`SERVERS=all`). Takes 5 minutes, or
//! `SOAK_SECONDS`. `SOAK_SEED` is the seed of all random choices; it is printed. The last line contains the numbers of
//! written, counted, lost (by cause) and repeated entries, and of faults. Fails if the numbers do not add up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "a command-line test that ends with the first error"
)]
#![allow(clippy::disallowed_methods, reason = "the duration is in real time")]

use std::process::ExitCode;
use std::time::Duration;

use test_support::chaos::{self, Plan};
use test_support::server::available;

/// Default duration in seconds.
const DEFAULT_SECONDS: u64 = 300;

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("SOAK_SEED").unwrap_or_else(rand::random);
    let time = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(DEFAULT_SECONDS));
    let kinds = available();
    if kinds.is_empty() {
        eprintln!("there is no server on this machine; `make setup` installs some");
        return ExitCode::FAILURE;
    }
    let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    println!("soak: {} for {} s, SOAK_SEED={seed}", names.join(", "), time.as_secs());
    let report = chaos::run(&Plan { kinds, time, seed, hostile: true });
    for failure in &report.failures {
        eprintln!("FAILED: {failure}");
    }
    println!("{report}");
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
