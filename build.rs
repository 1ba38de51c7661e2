//! Hands the source revision and its date to the crate: from `REDIS_SCRIPT_EXPORTER_REVISION` (image builds have no `.git`) and
//! `SOURCE_DATE_EPOCH`, else from git. Without any of them the revision is `unknown`, and the date is empty.
//!
//! Compiles the parameters of glibc's allocator. musl, which the released programs use, needs none.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/allocator.c");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|library| library == "gnu") {
        // Nothing refers to the object, so that it is only linked as a whole archive.
        cc::Build::new().file("src/allocator.c").link_lib_modifier("+whole-archive").compile("allocator");
    }
    println!("cargo:rerun-if-env-changed=REDIS_SCRIPT_EXPORTER_REVISION");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/logs/HEAD");
    let given = std::env::var("REDIS_SCRIPT_EXPORTER_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    let version = env!("CARGO_PKG_VERSION");
    let version = match &revision {
        Some(revision) => format!("{version} ({revision})"),
        None => version.to_owned(),
    };
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let date = epoch.map(date).or_else(|| git(&["log", "-1", "--format=%cs"]));
    println!("cargo:rustc-env=BUILD_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    println!("cargo:rustc-env=BUILD_VERSION={version}");
    println!("cargo:rustc-env=BUILD_DATE={}", date.unwrap_or_default());
}

/// Returns the output of git; `None` without git or a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// Formats a time in seconds since the Unix epoch as a date of the proleptic Gregorian calendar.
fn date(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Counted from March.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + year)
}
