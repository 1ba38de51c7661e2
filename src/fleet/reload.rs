//! Reading the configuration again while the exporter runs: at SIGHUP, and at `POST /-/reload`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::{error, info};

use crate::blocking::FILES;
use crate::cli::Cli;
use crate::client::TlsError;
use crate::config::{Config, ConfigError, ScriptDirError, load_scripts};
use crate::fleet::probes::Probes;
use crate::fleet::{Change, Fleet};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A folder of scripts can't be read.
    #[error(transparent)]
    Catalogue(#[from] ScriptDirError),
    /// Certificates that can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The reload ended before its time.
    #[error("it was not read to its end: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
    /// The files were not read to their end.
    #[error("the files were not read to their end: {0}")]
    Unread(std::io::Error),
}

/// Reads the configuration again.
#[derive(Debug)]
pub(crate) struct Reloader {
    fleet: Arc<Fleet>,
    probes: Arc<Probes>,
    /// The flags, which name the files.
    cli: Cli,
    /// One reload at a time.
    running: Mutex<()>,
}

impl Reloader {
    /// For a fleet and probes that were made from these flags.
    #[must_use]
    pub(crate) fn new(fleet: Arc<Fleet>, probes: Arc<Probes>, cli: Cli) -> Self {
        Self { fleet, probes, cli, running: Mutex::default() }
    }

    /// What can be probed.
    #[must_use]
    pub(crate) fn probes(&self) -> &Arc<Probes> {
        &self.probes
    }

    /// Reads the file, the passwords, the certificates and the names of scripts again, and does what they say now. What is
    /// wrong is told in the log, and then nothing changes.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<(), ReloadError> {
        let this = Arc::clone(self);
        // On a task of its own: whoever asked may go away before it is done.
        tokio::spawn(async move { this.run().await }).await?
    }

    async fn run(self: Arc<Self>) -> Result<(), ReloadError> {
        let _running = self.running.lock().await;
        let this = Arc::clone(&self);
        // Whoever asked waits for as long as the files take.
        let read = FILES.run("configuration", Duration::MAX, move || this.read()).await;
        let result = read.unwrap_or_else(|unfinished| Err(ReloadError::Unread(unfinished.into())));
        match &result {
            Ok(Change { kept, changed, started, ended }) => {
                info!(kept, changed, started, ended, "configuration read again");
            }
            Err(problem) => error!(%problem, "the configuration is wrong; all goes on as before"),
        }
        self.fleet.config_was_read(result.is_ok());
        result.map(|_| ())
    }

    fn read(&self) -> Result<Change, ReloadError> {
        let config = Config::from_cli(&self.cli)?;
        let names = load_scripts(&config.script_dirs)?;
        let plan = self.fleet.plan(config.targets, config.discoveries, &config.modules)?;
        self.fleet.set_catalogue(names);
        Ok(self.probes.replace(config.modules, plan))
    }
}
