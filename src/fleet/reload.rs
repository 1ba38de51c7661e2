//! Reload of the configuration on SIGHUP and on `POST /-/reload`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::blocking::FILES;
use crate::cli::Cli;
use crate::client::TlsError;
use crate::config::{Config, ConfigError, ScriptDirError, load_scripts};
use crate::fleet::Fleet;
use crate::fleet::probes::Probes;
use crate::fleet::update::ReloadSummary;

/// Reason why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The file is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A directory of scripts can't be read.
    #[error(transparent)]
    Catalogue(#[from] ScriptDirError),
    /// A certificate or key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The task ended early.
    #[error("the reload did not finish: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// Reading the files did not finish.
    #[error("cannot read the files: {0}")]
    Unread(std::io::Error),
}

/// Reloads the configuration.
#[derive(Debug)]
pub(crate) struct Reloader {
    fleet: Arc<Fleet>,
    probes: Arc<Probes>,
    /// Flags, which name the files.
    cli: Cli,
    /// Held during a reload, so that only one runs at a time.
    running: Mutex<()>,
    /// True if the last reload succeeded.
    succeeded: AtomicBool,
    /// Time of the last success, or of the start (Unix seconds).
    succeeded_at: AtomicU64,
}

/// Result of the last reload, or of the start if there has been no reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastReload {
    /// True if it succeeded.
    pub(crate) succeeded: bool,
    /// Time of the last success (Unix seconds).
    pub(crate) succeeded_at: u64,
}

impl Reloader {
    /// Creates a reloader for a fleet and probes that have just been created from these flags.
    #[must_use]
    pub(crate) fn new(fleet: Arc<Fleet>, probes: Arc<Probes>, cli: Cli) -> Self {
        let succeeded_at = AtomicU64::new(fleet.clock().now().unix.as_secs());
        Self { fleet, probes, cli, running: Mutex::default(), succeeded: AtomicBool::new(true), succeeded_at }
    }

    /// Returns the probes.
    #[must_use]
    pub(crate) fn probes(&self) -> &Arc<Probes> {
        &self.probes
    }

    /// Returns the result of the last reload.
    #[must_use]
    pub(crate) fn last(&self) -> LastReload {
        LastReload {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            succeeded_at: self.succeeded_at.load(Ordering::Relaxed),
        }
    }

    /// Reads the configuration, passwords, certificates and names of scripts again, and applies them. If there is an error,
    /// it is logged and nothing changes.
    ///
    /// # Errors
    /// The first problem.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<(), ReloadError> {
        let this = Arc::clone(self);
        // Runs in its own task, so that a client that disconnects does not interrupt it.
        tokio::spawn(async move { this.run().await }).await?
    }

    async fn run(self: Arc<Self>) -> Result<(), ReloadError> {
        let _running = self.running.lock().await;
        let this = Arc::clone(&self);
        let read = FILES.run("configuration", Duration::MAX, move || this.read()).await;
        let result = read.unwrap_or_else(|unfinished| Err(ReloadError::Unread(unfinished.into())));
        match &result {
            Ok(ReloadSummary { kept, changed, started, ended }) => {
                info!(kept, changed, started, ended, "configuration reloaded");
            }
            Err(problem) => error!(%problem, "invalid configuration; keeping the previous one"),
        }
        self.succeeded.store(result.is_ok(), Ordering::Relaxed);
        if result.is_ok() {
            self.succeeded_at.store(self.fleet.clock().now().unix.as_secs(), Ordering::Relaxed);
        }
        self.fleet.changed();
        result.map(|_| ())
    }

    fn read(&self) -> Result<ReloadSummary, ReloadError> {
        let config = Config::from_cli(&self.cli)?;
        config.warn_of_writable_files();
        let names = load_scripts(&config.script_dirs, config.script_bundled)?;
        if self.fleet.notifier().map(|notifier| notifier.config()) != config.notify.as_ref() {
            warn!("the settings of Alertmanager have changed; they apply after a restart of the exporter");
        }
        let plan = self.fleet.plan(config.targets, config.discoveries, &config.modules)?;
        self.fleet.set_catalogue(names);
        Ok(self.probes.replace(config.modules, plan))
    }
}
