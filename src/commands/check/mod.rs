//! `redis-script-exporter check`: looks at servers once, and says what runs, what was slow, what is missing, what is
//! unsafe, and what to do about each.
//!
//! `probe` asks (the only part that touches the world), `judge` and `slow` decide what it means, `report` is that as
//! data, `text` words it for people. Nothing but the read-only questions of the exporter is ever sent.

mod judge;
mod probe;
mod report;
mod slow;
mod text;

use std::time::Duration;

use tokio::task::JoinSet;

pub use self::report::{
    Blocked, Capability, CapabilityResult, Finding, Report, ServerFacts, ServerReport, SettingsReport,
    SlowScript, SlowlogReport, Status,
};
use crate::cli::CheckFlags;
use crate::client::{TlsError, TlsSetup};
use crate::config::TargetConfig;

/// Looks at all servers at the same time. `waiting` is called with the name of each server that takes long to answer.
///
/// # Errors
/// TLS that can't be set up.
pub async fn run(
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

/// What whoever waits at a terminal is told meanwhile.
#[must_use]
pub fn waiting_line(target: &str, timeout: Duration) -> String {
    let timeout = humantime::format_duration(timeout);
    format!(
        "{target} accepts connections and does not answer; waiting up to {timeout} to see what it is BUSY with"
    )
}
