//! `redis-script-exporter check`: examines servers once and reports blocked servers, slow scripts, missing permissions and unsafe
//! settings, each with a remedy.
//!
//! `probe` sends the commands and is the only part with I/O. `assess` and `slow` turn the replies into the `report`, and `text`
//! prints it. The problems come from [`diagnosis`](crate::diagnosis). Only the read-only commands of the exporter are sent. For a
//! guard, a kill is also queued with MULTI and dropped with DISCARD.

mod assess;
mod probe;
mod report;
mod slow;
mod text;

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use self::report::{AlertmanagerReport, Report, ServerReport};
use super::{CommandError, block_on, printed};
use crate::cli::{CheckFlags, CheckFormat};
use crate::client::{TlsError, TlsSetup, set_reply_budget};
use crate::clock::Clock;
use crate::config::{Config, Endpoint, TargetConfig, load_scripts};
use crate::fleet::discovery;
use crate::notify::trial;
use crate::script::Catalogue;

/// Checks the configured servers and prints the report. Returns the exit code of the report.
pub(crate) fn run(config: Config, flags: CheckFlags) -> Result<ExitCode, CommandError> {
    let Config { mut targets, discoveries, script_dirs, script_bundled, reply_memory, notify, .. } = config;
    let (shard, mut in_other_shards) = (config.shard, config.in_other_shards);
    set_reply_budget(reply_memory);
    let names = Arc::new(load_scripts(&script_dirs, script_bundled).map_err(CommandError::usage)?);
    if targets.is_empty() && discoveries.is_empty() && in_other_shards == 0 {
        return Err(CommandError::usage("--config.file: has no targets, so there is nothing to check"));
    }
    let notify = notify.filter(|_| flags.alertmanager);
    if flags.alertmanager && notify.is_none() {
        return Err(CommandError::usage(
            "--alertmanager: requires --alertmanager.url or --alertmanager.config.file",
        ));
    }
    let report = block_on(async {
        let clock = Clock::start();
        let now = clock.now().mono;
        let rejected = |entry: &str, server: &Endpoint| {
            note(&format!("{entry}: {server} is not checked: `allow` of the entry does not permit it"));
        };
        let discovered =
            discovery::find(discoveries, &targets, now, rejected).await.map_err(CommandError::other)?;
        let found = discovered.len();
        let own = discovered.into_iter().filter(|config| shard.is_none_or(|shard| shard.owns(&config.name)));
        let all = targets.len().saturating_add(found);
        targets.extend(own);
        in_other_shards = in_other_shards.saturating_add(all.saturating_sub(targets.len()));
        if let Some(shard) = shard {
            note(&format!(
                "shard {shard}: {} servers are checked, {in_other_shards} are in other shards",
                targets.len()
            ));
        }
        let on_wait = move |target: &str| {
            if io::stderr().is_terminal() {
                note(&waiting_line(target, flags.timeout));
            }
        };
        let servers = check(&targets, &names, flags, on_wait).await.map_err(CommandError::usage)?;
        let trials = match &notify {
            Some(notify) => trial::run(notify, clock).await,
            None => Vec::new(),
        };
        let alertmanagers = trials.into_iter().map(AlertmanagerReport::from).collect();
        Ok::<_, CommandError>(Report::new(servers, alertmanagers))
    })??;
    printed(print(&report, flags.format, &mut anstream::stdout().lock()))?;
    Ok(ExitCode::from(report.exit_code))
}

/// Writes a line to stderr. A closed stderr is not an error.
fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a report. The stream strips colours if necessary.
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

/// Checks all servers concurrently. `on_wait` is called with the name of each server that takes a long time to answer.
///
/// # Errors
/// TLS cannot be set up.
async fn check(
    targets: &[TargetConfig],
    names: &Arc<Catalogue>,
    flags: CheckFlags,
    on_wait: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<Vec<ServerReport>, TlsError> {
    let mut checks = JoinSet::new();
    for (index, config) in targets.iter().enumerate() {
        let wants_tls = config.address.tls;
        let tls = wants_tls.then(|| TlsSetup::new(&config.tls, &config.address.endpoint)).transpose()?;
        let (config, names, on_wait) = (config.clone(), Arc::clone(names), on_wait.clone());
        checks.spawn(async move {
            let result = probe::probe(&config, tls.as_ref(), flags.timeout, &on_wait).await;
            (index, assess::assess(&config, &names, &result, flags.since))
        });
    }
    let mut servers = checks.join_all().await;
    servers.sort_by_key(|(index, _)| *index);
    Ok(servers.into_iter().map(|(_, server)| server).collect())
}

/// Returns the note for a user who waits at a terminal.
fn waiting_line(target: &str, timeout: Duration) -> String {
    let timeout = crate::text::duration(timeout);
    format!("{target} accepts connections but does not answer; waiting up to {timeout} for it to become BUSY")
}
