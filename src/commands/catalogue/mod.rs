//! `redis-script-exporter catalogue`: writes the scripts of a server or of a recording to files for `--script.dir`. `lookup.rs`
//! implements `catalogue lookup`.

mod lookup;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ::redis::Value;
use tokio::time::timeout;

use crate::cli::{CatalogueArgs, CatalogueCommand, Cli};
use crate::client::{CommandError, Connection, DialError, TlsError, TlsFailure, TlsSetup, connect};
use crate::config::{Config, ConfigError, ScriptDirError, TargetConfig};
use crate::embedded;
use crate::files;
use crate::parse::{
    Command, ErrorReply, Malformed, Privacy, SlowlogReply, bytes, function_list, recorded_scripts,
};
use crate::script::{Call, Library, ScriptCommand, Sha1Digits};

/// Maximum time for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of requested slow log entries.
const MAX_ENTRIES: usize = 10_000;

/// Total size of the scripts, in bytes, at which no more are accepted. A server may have any number of scripts.
const MAX_BYTES: usize = 64 << 20;

/// Maximum size of a recording, in bytes.
const MAX_RECORDING: u64 = 512 << 20;

/// Failure of the subcommand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogueError {
    /// Neither a server nor a recording is given.
    #[error("catalogue: give --from-redis URL or --from-file FILE")]
    NoSource,
    /// A value of `--sha` is not a SHA1.
    #[error("--sha: {0:?} is not a SHA1 of 40 hexadecimal digits")]
    NoSha1(String),
    /// An argument of `lookup` is not a SHA1.
    #[error(
        "catalogue lookup: {0:?} is not a SHA1, at least 8 digits of one, or ~ and 12 digits; for a text use standard input"
    )]
    NoScript(String),
    /// Error of a directory given by `--script.dir`.
    #[error(transparent)]
    ScriptDir(#[from] ScriptDirError),
    /// Invalid connection flag.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Invalid certificate file.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TLS handshake fails.
    #[error(transparent)]
    Handshake(TlsFailure),
    /// The connection fails.
    #[error("the server is unreachable: {0}")]
    Dial(#[from] DialError),
    /// The password cannot be read.
    #[error("{0}")]
    Password(String),
    /// The server does not reply in time.
    #[error("the server did not reply within 10 s; it may be blocked by a script, so try again later")]
    Timeout,
    /// A command fails.
    #[error("{command}: {failure}")]
    Failed {
        /// Command that was sent.
        command: &'static str,
        /// Failure of the command.
        failure: CommandError,
    },
    /// A reply has an unknown format.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Some files exist with different content.
    #[error("{0} files exist with different content and were not overwritten")]
    Conflicts(usize),
    /// No script was found.
    #[error(
        "no script found; the slow log contains only slow scripts, and MONITOR shows scripts when clients load them"
    )]
    Empty,
    /// Error of standard input or output.
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl CatalogueError {
    /// Returns true if the flags are invalid.
    #[must_use]
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoSource
                | Self::NoSha1(_)
                | Self::NoScript(_)
                | Self::ScriptDir(_)
                | Self::Config(_)
                | Self::Tls(_)
        )
    }
}

/// Collected scripts.
#[derive(Debug, Default)]
struct Scripts {
    /// Bodies by file name without extension.
    bodies: BTreeMap<String, Vec<u8>>,
    /// Reasons why some scripts are missing.
    notes: BTreeSet<String>,
    /// Total size of the bodies, in bytes.
    bytes: usize,
}

impl Scripts {
    /// Returns true if no more scripts are accepted.
    fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    fn add(&mut self, body: Vec<u8>) {
        // Library names consist of letters, digits and _ (documentation of FUNCTION LOAD).
        let library = Library::parse(&body).map(|library| library.name);
        let name = library.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        if self.is_full() {
            return;
        }
        self.bytes = self.bytes.saturating_add(body.len());
        let replaced = self.bodies.insert(name.unwrap_or_else(|| Sha1Digits::of(&body).to_string()), body);
        self.bytes = self.bytes.saturating_sub(replaced.map_or(0, |body| body.len()));
        if self.is_full() {
            self.notes.insert(format!(
                "further scripts were skipped: the limit of {} MiB is reached",
                MAX_BYTES >> 20
            ));
        }
    }
}

/// Runs `catalogue` or its subcommand.
///
/// # Errors
/// Same as [`export`] and [`lookup::run`].
pub(crate) async fn run(
    cli: &Cli,
    args: &CatalogueArgs,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<ExitCode, CatalogueError> {
    match &args.command {
        Some(CatalogueCommand::Lookup(args)) => lookup::run(cli, args, io::stdin().lock(), out),
        None => export(cli, args, out, notes).await.map(|()| ExitCode::SUCCESS),
    }
}

/// Collects scripts from the sources in `args` and writes them to files. Prints the file names to `out`, and the reasons why
/// scripts are missing to `notes`.
///
/// # Errors
/// A flag is invalid, a command fails, or a file cannot be read or written.
async fn export(
    cli: &Cli,
    args: &CatalogueArgs,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<(), CatalogueError> {
    if args.from_redis.is_none() && args.from_file.is_empty() {
        return Err(CatalogueError::NoSource);
    }
    let digits = |text: &String| Sha1Digits::parse(text).ok_or_else(|| CatalogueError::NoSha1(text.clone()));
    let wanted = args.sha.iter().map(digits).collect::<Result<BTreeSet<_>, _>>()?;
    let mut scripts = Scripts::default();
    for path in &args.from_file {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        let is_source = embedded::is_known(extension);
        let limit = if is_source { embedded::MAX_SIZE } else { MAX_RECORDING };
        // Blocks until the end of a pipe; the user can interrupt the program.
        let recording = File::open(path).and_then(|file| files::read(file, limit));
        let recording = recording.map_err(|source| CatalogueError::File { path: path.clone(), source })?;
        if !is_source {
            for body in recorded_scripts(&recording) {
                scripts.add(body);
            }
            continue;
        }
        let source = String::from_utf8_lossy(&recording);
        // No time limit, because the user can interrupt the program.
        let found = embedded::scripts(extension, &source, &mut || false).map_err(io::Error::other);
        for script in found.map_err(|source| CatalogueError::File { path: path.clone(), source })? {
            if script.is_template() {
                let (path, line) = (path.display(), script.position.line);
                scripts.notes.insert(format!(
                    "{path}:{line}: {} is a template, which the program completes at run time",
                    script.name
                ));
            } else {
                scripts.add(script.bytes().to_vec());
            }
        }
    }
    if let Some(url) = &args.from_redis {
        let cli =
            Cli { redis_addr: vec![url.clone()], redis_log_file: None, config_file: None, ..cli.clone() };
        for target in Config::from_cli(&cli)?.targets {
            collect(&target, wanted.clone(), &mut scripts).await?;
        }
    }
    for note in &scripts.notes {
        writeln!(notes, "{note}")?;
    }
    if scripts.bodies.is_empty() {
        return Err(CatalogueError::Empty);
    }
    write(&args.output, &scripts.bodies, out)
}

/// Writes each body to its own file. Existing files are never overwritten.
fn write(
    folder: &Path,
    bodies: &BTreeMap<String, Vec<u8>>,
    out: &mut impl Write,
) -> Result<(), CatalogueError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CatalogueError::File { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut conflicts = 0;
    for (name, body) in bodies {
        let path = folder.join(format!("{name}.lua"));
        let shown = path.display();
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(body).map_err(failed(&path))?;
                writeln!(out, "wrote     {shown}")?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if has_content(&path, body).map_err(failed(&path))? {
                    writeln!(out, "unchanged {shown}")?;
                } else {
                    conflicts += 1;
                    writeln!(out, "KEPT      {shown}, which has different content")?;
                }
            }
            Err(error) => return Err(failed(&path)(error)),
        }
    }
    if conflicts > 0 { Err(CatalogueError::Conflicts(conflicts)) } else { Ok(()) }
}

/// Returns true if a file has this content.
fn has_content(path: &Path, content: &[u8]) -> io::Result<bool> {
    let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
    match File::open(path).and_then(|file| files::read(file, size)) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(false),
        existing => Ok(existing? == content),
    }
}

/// Collects the scripts of a server.
async fn collect(
    target: &TargetConfig,
    mut wanted: BTreeSet<Sha1Digits>,
    scripts: &mut Scripts,
) -> Result<(), CatalogueError> {
    let tls = target.address.tls.then(|| TlsSetup::new(&target.tls, &target.address.endpoint)).transpose()?;
    let link = connect(&target.address.endpoint).await?;
    let failed = |command, failure| CatalogueError::Failed { command, failure };
    let link = match &tls {
        None => link,
        Some(tls) => timeout(REPLY_TIMEOUT, tls.handshake(link))
            .await
            .map_err(|_| CatalogueError::Timeout)?
            .map_err(CatalogueError::Handshake)?,
    };
    let mut connection = Connection::open(link, target.commands.clone());
    if let Some(password) = &target.credentials.password {
        let user = target.credentials.user.as_deref();
        let passwords = password.read_within(REPLY_TIMEOUT).await;
        let password = passwords.and_then(|passwords| passwords.of(user, &target.address));
        if let Some(password) = password.map_err(CatalogueError::Password)? {
            timeout(REPLY_TIMEOUT, connection.authenticate(user, &password))
                .await
                .map_err(|_| CatalogueError::Timeout)?
                .map_err(|failure| failed("AUTH", failure))?;
        }
    }
    if let Some(reply) = send(&mut connection, Command::SlowlogGet(MAX_ENTRIES), scripts).await? {
        for entry in SlowlogReply::parse(reply, Privacy::default())?.entries {
            match (entry.call, entry.body) {
                (_, Some(body)) => scripts.add(body),
                (
                    Some(Call { command: ScriptCommand::Evalsha | ScriptCommand::EvalshaRo, script, .. }),
                    _,
                ) => {
                    wanted.extend(script.sha1);
                }
                _ => {}
            }
        }
    }
    for sha1 in wanted {
        if scripts.is_full() {
            break;
        }
        if let Some(body) = send(&mut connection, Command::ScriptShow(sha1), scripts).await? {
            scripts.add(bytes(body)?);
        }
    }
    if let Some(libraries) = send(&mut connection, Command::FunctionList, scripts).await? {
        for code in function_list(libraries)? {
            scripts.add(code);
        }
    }
    Ok(())
}

/// Sends a command and returns its reply. If the server does not support or permit the command, adds a note and returns `None`.
async fn send(
    connection: &mut Connection,
    command: Command,
    scripts: &mut Scripts,
) -> Result<Option<Value>, CatalogueError> {
    let name = command.name();
    let reply =
        timeout(REPLY_TIMEOUT, connection.send(command)).await.map_err(|_| CatalogueError::Timeout)?;
    let note = match reply {
        Ok(value) => return Ok(Some(value)),
        Err(CommandError::ErrorReply(error)) => match (command, error) {
            (_, ErrorReply::NoPermission) => format!("{name} is not permitted; grant it ({})", command.grant()),
            (Command::ScriptShow(_), ErrorReply::Unknown) => {
                "the server does not support SCRIPT SHOW (Valkey 8.0 and later do), so scripts called by EVALSHA are \
                 missing; read them from a recording of MONITOR with --from-file"
                    .to_owned()
            }
            (_, ErrorReply::Unknown) => format!("the server does not support {name}"),
            (Command::ScriptShow(sha1), ErrorReply::Other { .. }) => {
                format!("the script {} is not in the script cache of the server", sha1.as_str())
            }
            (_, error) => return Err(CatalogueError::Failed { command: name, failure: CommandError::ErrorReply(error) }),
        },
        Err(failure) => return Err(CatalogueError::Failed { command: name, failure }),
    };
    scripts.notes.insert(note);
    Ok(None)
}
