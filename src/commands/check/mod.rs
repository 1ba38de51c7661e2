//! `redis-script-exporter check`: looks at servers once and reports what runs, what was slow, what is missing and what is
//! unsafe, with a remedy for each.
//!
//! `probe` sends the commands (the only part with I/O), `judge` and `slow` decide what the replies mean, `report` holds the
//! result, `text` prints it for people. Only the read-only commands of the exporter are sent.

mod judge;
mod probe;
mod report;
mod slow;
mod text;

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::task::JoinSet;

use self::report::Report;
use super::{CommandError, block_on, printed};
use crate::cli::{CheckFlags, CheckFormat};
use crate::client::{TlsError, TlsSetup};
use crate::clock::Clock;
use crate::config::{Config, Endpoint, TargetConfig};
use crate::fleet::discovery;

/// Checks the configured servers and prints the report. The exit code is its status.
pub(crate) fn run(config: Config, flags: CheckFlags) -> Result<ExitCode, CommandError> {
    let Config { mut targets, discoveries, .. } = config;
    if targets.is_empty() && discoveries.is_empty() {
        return Err(CommandError::usage("--config.file: it names no targets, so there is nothing to check"));
    }
    let report = block_on(async {
        let now = Clock::start().now().mono;
        let refused = |entry: &str, server: &Endpoint| {
            note(&format!("{entry}: {server} is not checked: allow of the entry does not admit it"));
        };
        let found =
            discovery::find(discoveries, &targets, now, refused).await.map_err(CommandError::other)?;
        targets.extend(found);
        let waiting = move |target: &str| {
            if io::stderr().is_terminal() {
                note(&waiting_line(target, flags.timeout));
            }
        };
        check(&targets, flags, waiting).await.map_err(CommandError::usage)
    })??;
    printed(print(&report, flags.format, &mut anstream::stdout().lock()))?;
    Ok(ExitCode::from(report.exit_code))
}

/// Writes a line to stderr, which may be closed.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a report. The stream removes colours where they are not wanted.
fn print(report: &Report, format: CheckFormat, out: &mut impl Write) -> io::Result<()> {
    match format {
        CheckFormat::Text => text::print(report, out)?,
        CheckFormat::Summary => text::print_summary(report, out)?,
        CheckFormat::Json => {
            serde_json::to_writer_pretty(&mut *out, report)?;
            writeln!(out)?;
        }
    }
    out.flush()
}

/// Checks all servers at the same time. `waiting` is called with the name of each server that takes long to answer.
///
/// # Errors
/// TLS that can't be set up.
async fn check(
    targets: &[TargetConfig],
    flags: CheckFlags,
    waiting: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<Report, TlsError> {
    let mut looks = JoinSet::new();
    for (index, config) in targets.iter().enumerate() {
        let wants_tls = config.address.tls;
        let tls = wants_tls.then(|| TlsSetup::new(&config.tls, &config.address.endpoint)).transpose()?;
        let (config, waiting) = (config.clone(), waiting.clone());
        looks.spawn(async move {
            let seen = probe::look(&config, tls.as_ref(), flags.timeout, &waiting).await;
            (index, judge::judge(&config, &seen, flags.since))
        });
    }
    let mut servers = looks.join_all().await;
    servers.sort_by_key(|(index, _)| *index);
    Ok(Report::new(servers.into_iter().map(|(_, server)| server).collect()))
}

/// Note for a person who waits at a terminal.
fn waiting_line(target: &str, timeout: Duration) -> String {
    let timeout = humantime::format_duration(timeout);
    format!(
        "{target} accepts connections and does not answer; waiting up to {timeout} to see what it is BUSY with"
    )
}
