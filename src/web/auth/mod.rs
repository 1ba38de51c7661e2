//! Who is let in, and how: TLS, passwords and headers by the file of `--web.config.file`. The file and the certificates
//! are read again when they have changed; what is wrong with them then is said once, and what was there before stays.

mod certificates;
mod passwords;
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

use self::passwords::{Gate, Users};
pub(crate) use self::tls::TlsFileError;
use crate::blocking::FILES;
use crate::config::{ConfigError, WebFile};

/// Files are looked at when somebody knocks, but not more often than this.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a request waits for the files; then it goes by what they said before.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// The path that needs no password, so that whoever restarts a container that has died needs none.
const OPEN_PATH: &str = "/-/healthy";

/// A file of `--web.config.file` that can't be used, or one that it names.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebAuthError {
    /// The file itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What it says about TLS.
    #[error("--web.config.file: {0}")]
    Tls(#[from] TlsFileError),
    /// There are no random numbers.
    #[error("--web.config.file: the system gives no random numbers, which passwords need")]
    Random,
    /// Clients that are told to use TLS, or not to, are told so for good.
    #[error(
        "--web.config.file: tls_server_config was added or taken away; restart the exporter for that, or undo it"
    )]
    TlsSwitched,
    /// Whoever may be let in is not let in by accident.
    #[error(
        "--web.config.file: basic_auth_users was taken away; restart the exporter to let everybody in, or undo it"
    )]
    UsersRemoved,
}

/// Who is let in, and how.
#[derive(Debug)]
pub(crate) struct WebAuth {
    rules: Arc<Mutex<Arc<Rules>>>,
    /// Outlives the rules: passwords that were found right stay so until their hashes change.
    gate: Arc<Gate>,
    /// Without a file there is nothing to look at.
    watch: Option<Arc<tokio::sync::Mutex<Watch>>>,
}

/// What the files say.
#[derive(Default)]
struct Rules {
    tls: Option<TlsAcceptor>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: Option<Arc<Users>>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// The files, as they were when they were last read.
#[derive(Debug)]
struct Watch {
    path: PathBuf,
    files: Vec<Seen>,
    looked: Instant,
}

/// One file, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    /// None: it can't be found.
    print: Option<Print>,
}

/// What is different when a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    fn now(path: &Path) -> Self {
        let print = |metadata: Metadata| Print {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        Self { path: path.to_owned(), print: std::fs::metadata(path).ok().map(print) }
    }

    fn has_changed(&self) -> bool {
        *self != Self::now(&self.path)
    }
}

impl WebAuth {
    /// Reads the file, and what it names. Without a file everybody is let in, over plain HTTP.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, WebAuthError> {
        let gate = Arc::new(Gate::new().map_err(|_| WebAuthError::Random)?);
        let Some(path) = file else {
            return Ok(Self { rules: Arc::default(), gate, watch: None });
        };
        let (files, rules) = read(path);
        let rules = rules?;
        if rules.users.is_some() && rules.tls.is_none() {
            warn!(
                file = %path.display(),
                "passwords cross the network unencrypted: add tls_server_config to the file, or leave TLS to a proxy"
            );
        }
        let watch = Watch { path: path.to_owned(), files, looked: Instant::now() };
        let (rules, watch) = (Mutex::new(Arc::new(rules)), tokio::sync::Mutex::new(watch));
        Ok(Self { rules: Arc::new(rules), gate, watch: Some(Arc::new(watch)) })
    }

    /// How to begin TLS with a client that has just come; `None`: it is not spoken.
    pub(crate) async fn tls(&self) -> Option<TlsAcceptor> {
        self.look().await;
        self.rules().tls.clone()
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// The response for who is not let in.
    pub(crate) async fn admit<B: Sync>(&self, request: &Request<B>, peer: IpAddr) -> Result<(), Response> {
        self.look().await;
        let users = self.rules().users.clone();
        match users {
            Some(users) if request.uri().path() != OPEN_PATH => {
                self.gate.admit(&users, request.headers(), peer).await
            }
            _ => Ok(()),
        }
    }

    /// Adds the headers that every response has.
    pub(crate) fn dress<B>(&self, response: &mut axum::http::Response<B>) {
        for (name, value) in &self.rules().headers {
            response.headers_mut().insert(name, value.clone());
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock())
    }

    /// Looks whether the files have changed, if that was not done a moment ago or is being done.
    async fn look(&self) {
        let Some(Ok(mut watch)) = self.watch.as_ref().map(|watch| Arc::clone(watch).try_lock_owned()) else {
            return;
        };
        if watch.looked.elapsed() < LOOK_INTERVAL {
            return;
        }
        watch.looked = Instant::now();
        let rules = Arc::clone(&self.rules);
        // Goes on if it takes longer, and nobody looks meanwhile.
        let _ = FILES.run("web configuration", LOOK_LIMIT, move || watch.look(&rules)).await;
    }
}

impl Watch {
    /// Reads the files again if one has changed, and has what they say hold from now on.
    fn look(&mut self, rules: &Mutex<Arc<Rules>>) {
        if !self.files.iter().any(Seen::has_changed) {
            return;
        }
        let (files, read) = read(&self.path);
        self.files = files;
        let before = Arc::clone(&rules.lock());
        match read {
            Ok(now) if now.tls.is_some() != before.tls.is_some() => tell(&WebAuthError::TlsSwitched),
            // A file that is being written is empty for a moment, or lacks its end: that must open no door.
            Ok(now) if now.users.is_none() && before.users.is_some() => tell(&WebAuthError::UsersRemoved),
            Ok(now) => {
                *rules.lock() = Arc::new(now);
                info!(file = %self.path.display(), "read the web configuration again");
            }
            Err(problem) => tell(&problem),
        }
    }
}

fn tell(problem: &WebAuthError) {
    warn!(%problem, "the web configuration has changed and cannot be used; what was there before stays");
}

/// The files as they were before they were read, and what they say.
fn read(path: &Path) -> (Vec<Seen>, Result<Rules, WebAuthError>) {
    let mut files = vec![Seen::now(path)];
    let file = match WebFile::read(path) {
        Ok(file) => file,
        Err(error) => return (files, Err(error.into())),
    };
    let tls = match &file.tls {
        None => None,
        Some(tls) => {
            let named = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()];
            files.extend(named.into_iter().flatten().map(|file| Seen::now(file)));
            match tls::acceptor(tls) {
                Ok(acceptor) => Some(acceptor),
                Err(error) => return (files, Err(error.into())),
            }
        }
    };
    let users = (!file.users.is_empty()).then(|| Arc::new(Users::new(file.users)));
    (files, Ok(Rules { tls, headers: file.headers, users }))
}
