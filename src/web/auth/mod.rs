//! TLS, basic auth and response headers, configured in the file given by `--web.config.file`. The file and its certificates
//! are reloaded when they change. An invalid version is logged once, and the previous one stays in use.

mod certificates;
mod passwords;
mod rate_limit;
mod tls;

use std::fs::Metadata;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Request};
use axum::response::Response;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use self::passwords::{PasswordHashes, PasswordVerifier};
use self::rate_limit::RateLimiter;
pub(crate) use self::tls::TlsFileError;
use crate::blocking::FILES;
use crate::config::{ConfigError, Pem, WebFile};

/// Minimum interval between two checks of the files for changes. Checks are triggered by connections and requests.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Maximum time that a request waits for a check of the files; after that, the previous configuration applies.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Cost of a bcrypt hash above which a verification takes seconds.
const SLOW_COST: u32 = 16;

/// Path exempt from authentication and the rate limit, so that liveness probes need no credentials.
const UNAUTHENTICATED_PATH: &str = "/-/healthy";

/// Error in the file given by `--web.config.file` or in a file that it refers to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebAuthError {
    /// The file is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The TLS configuration is invalid.
    #[error("--web.config.file: {0}")]
    Tls(#[from] TlsFileError),
    /// The system's random number generator failed.
    #[error("--web.config.file: cannot obtain random numbers from the system, which basic auth needs")]
    Random,
    /// TLS cannot be enabled or disabled while clients are connected.
    #[error(
        "--web.config.file: tls_server_config was added or removed; restart the exporter to apply this, or undo it"
    )]
    TlsToggled,
    /// Basic auth cannot be disabled by a reload, because the change might be accidental.
    #[error(
        "--web.config.file: basic_auth_users was removed; restart the exporter to apply this, or undo it"
    )]
    UsersRemoved,
}

/// TLS, basic auth and response headers.
#[derive(Debug)]
pub(crate) struct WebAuth {
    settings: Arc<Mutex<Arc<Settings>>>,
    /// Kept across reloads: verified passwords stay cached until their hashes change.
    passwords: Arc<PasswordVerifier>,
    /// `None` without a configuration file.
    files: Option<Arc<tokio::sync::Mutex<WatchedFiles>>>,
}

/// Settings from the configuration file.
#[derive(Default)]
struct Settings {
    tls: Option<TlsAcceptor>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Option<Arc<PasswordHashes>>,
    limiter: Option<Arc<RateLimiter>>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// The configuration file and the files that it refers to, as of the last read.
#[derive(Debug)]
struct WatchedFiles {
    path: PathBuf,
    files: Vec<FileVersion>,
    checked_at: Instant,
}

/// Version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileVersion {
    path: PathBuf,
    /// `None` if the file does not exist.
    fingerprint: Option<Fingerprint>,
}

/// Metadata used to detect that a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileVersion {
    fn current(path: &Path) -> Self {
        let fingerprint = |metadata: Metadata| Fingerprint {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        Self { path: path.to_owned(), fingerprint: std::fs::metadata(path).ok().map(fingerprint) }
    }

    fn has_changed(&self) -> bool {
        *self != Self::current(&self.path)
    }
}

impl WebAuth {
    /// Loads the configuration file and the files that it refers to. Without a file, plain HTTP is served without
    /// authentication.
    ///
    /// # Errors
    /// Returns the first error found in the files.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, WebAuthError> {
        let passwords = Arc::new(PasswordVerifier::new().map_err(|_| WebAuthError::Random)?);
        let Some(path) = file else {
            return Ok(Self { settings: Arc::default(), passwords, files: None });
        };
        let (files, settings) = read(path);
        let settings = settings?;
        if settings.users.is_some() && settings.tls.is_none() {
            warn!(
                file = %path.display(),
                "basic auth without TLS sends passwords unencrypted: add tls_server_config to the file, or use a TLS proxy"
            );
        }
        if let Some(cost) = settings.users.as_ref().map(|users| users.cost()).filter(|cost| *cost > SLOW_COST)
        {
            warn!(
                file = %path.display(),
                cost,
                "a bcrypt hash takes seconds or longer to verify: replace it with one of cost 10"
            );
        }
        let files = WatchedFiles { path: path.to_owned(), files, checked_at: Instant::now() };
        let (settings, files) = (Mutex::new(Arc::new(settings)), tokio::sync::Mutex::new(files));
        Ok(Self { settings: Arc::new(settings), passwords, files: Some(Arc::new(files)) })
    }

    /// Returns the acceptor for a new connection; `None` if TLS is disabled.
    pub(crate) async fn tls(&self) -> Option<TlsAcceptor> {
        self.reload_if_changed().await;
        self.settings().tls.clone()
    }

    /// Checks the credentials of a request.
    ///
    /// # Errors
    /// Returns the response to send if the request is rejected.
    pub(crate) async fn authorize<B: Sync>(
        &self,
        request: &Request<B>,
        peer: IpAddr,
    ) -> Result<(), Response> {
        self.reload_if_changed().await;
        if request.uri().path() == UNAUTHENTICATED_PATH {
            return Ok(());
        }
        let settings = self.settings();
        if let Some(limiter) = &settings.limiter
            && !limiter.admit(Instant::now())
        {
            return Err(limiter.rejection());
        }
        match &settings.users {
            Some(users) => self.passwords.authorize(users, request.headers(), peer).await,
            None => Ok(()),
        }
    }

    /// Adds the configured headers to a response.
    pub(crate) fn add_headers<B>(&self, response: &mut axum::http::Response<B>) {
        for (name, value) in &self.settings().headers {
            response.headers_mut().insert(name, value.clone());
        }
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock())
    }

    /// Reloads the files if they have changed, unless the last check was less than [`CHECK_INTERVAL`] ago or a check is
    /// running.
    async fn reload_if_changed(&self) {
        let Some(Ok(mut files)) = self.files.as_ref().map(|files| Arc::clone(files).try_lock_owned()) else {
            return;
        };
        if files.checked_at.elapsed() < CHECK_INTERVAL {
            return;
        }
        files.checked_at = Instant::now();
        let settings = Arc::clone(&self.settings);
        // After the timeout, the job keeps running and holds the lock, so no second job can start.
        let _ =
            FILES.run("web configuration", CHECK_TIMEOUT, move || files.reload_if_changed(&settings)).await;
    }
}

impl WatchedFiles {
    /// Reads the files again if one has changed, and replaces `settings` if they are valid.
    fn reload_if_changed(&mut self, settings: &Mutex<Arc<Settings>>) {
        if !self.files.iter().any(FileVersion::has_changed) {
            return;
        }
        let (files, result) = read(&self.path);
        self.files = files;
        let previous = Arc::clone(&settings.lock());
        match result {
            Ok(new) if new.tls.is_some() != previous.tls.is_some() => {
                log_rejected(&WebAuthError::TlsToggled);
            }
            // A file that is being written can be briefly empty or incomplete, which must not disable basic auth.
            Ok(new) if new.users.is_none() && previous.users.is_some() => {
                log_rejected(&WebAuthError::UsersRemoved);
            }
            Ok(mut new) => {
                // A reload does not refill the bucket.
                let unchanged = previous
                    .limiter
                    .as_ref()
                    .filter(|limiter| new.limiter.as_ref().is_some_and(|new| new.limit() == limiter.limit()));
                if let Some(limiter) = unchanged {
                    new.limiter = Some(Arc::clone(limiter));
                }
                *settings.lock() = Arc::new(new);
                info!(file = %self.path.display(), "reloaded the web configuration");
            }
            Err(error) => log_rejected(&error),
        }
    }
}

fn log_rejected(error: &WebAuthError) {
    warn!(%error, "cannot reload the web configuration; the previous one stays in use");
}

/// Reads the configuration file and the files that it refers to. Also returns the version that each file had before the
/// read.
fn read(path: &Path) -> (Vec<FileVersion>, Result<Settings, WebAuthError>) {
    let mut files = vec![FileVersion::current(path)];
    let file = match WebFile::read(path) {
        Ok(file) => file,
        Err(error) => return (files, Err(error.into())),
    };
    let tls = match &file.tls {
        None => None,
        Some(tls) => {
            let named = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()];
            files.extend(named.into_iter().flatten().filter_map(Pem::file).map(FileVersion::current));
            match tls::acceptor(tls) {
                Ok(acceptor) => Some(acceptor),
                Err(error) => return (files, Err(error.into())),
            }
        }
    };
    let limiter = file.rate_limit.map(|limit| Arc::new(RateLimiter::new(limit)));
    let users = (!file.users.is_empty()).then(|| Arc::new(PasswordHashes::new(file.users)));
    (files, Ok(Settings { tls, headers: file.headers, users, limiter }))
}
