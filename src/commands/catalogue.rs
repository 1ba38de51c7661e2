//! Writes a catalogue: scripts of a server or of a recording, as files for `--script.dir`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::redis::Value;
use tokio::time::timeout;

use crate::cli::{CatalogueArgs, Cli};
use crate::client::{Command, Connection, DialError, Failure, TlsError, TlsSetup, connect};
use crate::config::{Config, ConfigError, TargetConfig};
use crate::parse::{ErrorReply, Malformed, Privacy, SlowlogReply, bytes, function_list, recorded_scripts};
use crate::script::{Library, ScriptCommand, Sha1Digits};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Slow log entries to ask for.
const ENTRIES: usize = 10_000;

/// The longest recording that is read.
const MAX_RECORDING: u64 = 512 << 20;

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    /// Nowhere to look.
    #[error("catalogue: give --from-redis URL or --from-file FILE")]
    NoSource,
    /// What was given is no SHA1.
    #[error("--sha: {0:?} is no SHA1 of 40 hexadecimal digits")]
    NoSha1(String),
    /// The flags that say how to reach the server.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS files that can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No connection.
    #[error("the server can't be reached: {0}")]
    Dial(#[from] DialError),
    /// The password can't be read.
    #[error("{0}")]
    Password(String),
    /// The server did not answer.
    #[error("the server does not answer within 10 s: it may be blocked by a script; try again later")]
    Silent,
    /// The server did not answer as it should.
    #[error("{question}: {failure}")]
    Failed {
        /// What was asked.
        question: &'static str,
        /// What came of it.
        failure: Failure,
    },
    /// A reply of another form.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The files were written, but for some.
    #[error("{0} files are there already with another content, and were left as they are")]
    LeftAlone(usize),
    /// Nothing was found.
    #[error(
        "no script was found; the slow log names those that were slow, and MONITOR shows them as clients load them"
    )]
    Nothing,
    /// Where the report goes to.
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl CollectError {
    /// Whether the flags are wrong.
    #[must_use]
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::NoSource | Self::NoSha1(_) | Self::Config(_) | Self::Tls(_))
    }
}

/// What was found: scripts by the names of their files.
#[derive(Debug, Default)]
struct Found {
    bodies: BTreeMap<String, Vec<u8>>,
    /// What could not be had, and why.
    notes: BTreeSet<String>,
}

impl Found {
    fn add(&mut self, body: Vec<u8>) {
        // The names of libraries are letters, digits and _ (documentation of FUNCTION LOAD).
        let library = Library::read(&body).map(|library| library.name);
        let name = library.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        self.bodies.insert(name.unwrap_or_else(|| Sha1Digits::of(&body).to_string()), body);
    }
}

/// Looks for scripts where `args` say, and writes them. Says on `out` what it wrote, and on `notes` what it could not find.
///
/// # Errors
/// Wrong flags, a server that can't be asked, a file that can't be read or written.
pub(crate) async fn run(
    cli: &Cli,
    args: &CatalogueArgs,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> Result<(), CollectError> {
    if args.from_redis.is_none() && args.from_file.is_empty() {
        return Err(CollectError::NoSource);
    }
    let digits = |text: &String| Sha1Digits::parse(text).ok_or_else(|| CollectError::NoSha1(text.clone()));
    let wanted = args.sha.iter().map(digits).collect::<Result<BTreeSet<_>, _>>()?;
    let mut found = Found::default();
    for path in &args.from_file {
        let recording = read(path).map_err(|source| CollectError::File { path: path.clone(), source })?;
        for body in recorded_scripts(&recording) {
            found.add(body);
        }
    }
    if let Some(url) = &args.from_redis {
        let cli =
            Cli { redis_addr: vec![url.clone()], redis_log_file: None, config_file: None, ..cli.clone() };
        for target in Config::from_cli(&cli)?.targets {
            ask(&target, wanted.clone(), &mut found).await?;
        }
    }
    for note in &found.notes {
        writeln!(notes, "{note}")?;
    }
    if found.bodies.is_empty() {
        return Err(CollectError::Nothing);
    }
    write(&args.output, &found.bodies, out)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut recording = Vec::new();
    File::open(path)?.take(MAX_RECORDING + 1).read_to_end(&mut recording)?;
    if recording.len() > usize::try_from(MAX_RECORDING).unwrap_or(usize::MAX) {
        return Err(io::Error::other("larger than 512 MiB: give a part of it"));
    }
    Ok(recording)
}

/// Writes each body into a file of its own; what is there is never overwritten.
fn write(
    folder: &Path,
    bodies: &BTreeMap<String, Vec<u8>>,
    out: &mut impl Write,
) -> Result<(), CollectError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CollectError::File { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut left_alone = 0;
    for (name, body) in bodies {
        let path = folder.join(format!("{name}.lua"));
        let shown = path.display();
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(body).map_err(failed(&path))?;
                writeln!(out, "wrote {shown}")?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&path).map_err(failed(&path))? == *body {
                    writeln!(out, "has   {shown}")?;
                } else {
                    left_alone += 1;
                    writeln!(out, "KEPT  {shown}, which is another script")?;
                }
            }
            Err(error) => return Err(failed(&path)(error)),
        }
    }
    if left_alone > 0 { Err(CollectError::LeftAlone(left_alone)) } else { Ok(()) }
}

/// Asks a server for what it has.
async fn ask(
    target: &TargetConfig,
    mut wanted: BTreeSet<Sha1Digits>,
    found: &mut Found,
) -> Result<(), CollectError> {
    let tls = target.address.tls.then(|| TlsSetup::new(&target.tls, &target.address.endpoint)).transpose()?;
    let link = connect(&target.address.endpoint).await?;
    let failed = |question, failure| CollectError::Failed { question, failure };
    let link = match &tls {
        None => link,
        Some(tls) => timeout(PATIENCE, tls.begin(link))
            .await
            .map_err(|_| CollectError::Silent)?
            .map_err(|error| failed("the TLS handshake", Failure::Lost(error.to_string())))?,
    };
    let mut connection = Connection::open(link).await.map_err(|failure| failed("the connection", failure))?;
    if let Some(password) = &target.credentials.password {
        let user = target.credentials.user.as_deref();
        let passwords = password.read_within(PATIENCE).await;
        let password = passwords.and_then(|passwords| passwords.of(user, &target.address));
        if let Some(password) = password.map_err(CollectError::Password)? {
            timeout(PATIENCE, connection.authenticate(user, &password))
                .await
                .map_err(|_| CollectError::Silent)?
                .map_err(|failure| failed("AUTH", failure))?;
        }
    }
    if let Some(reply) = put(&mut connection, Command::SlowlogGet(ENTRIES), found).await? {
        for entry in SlowlogReply::parse(reply, Privacy::default())?.entries {
            let mut words = entry.arguments.into_iter();
            let (Some(command), Some(script)) =
                (words.next().and_then(|name| ScriptCommand::from_name(&name)), words.next())
            else {
                continue;
            };
            match command {
                ScriptCommand::Evalsha | ScriptCommand::EvalshaRo => {
                    wanted.extend(Sha1Digits::parse(&script));
                }
                // The slow log keeps short bodies whole.
                ScriptCommand::Eval | ScriptCommand::EvalRo if script.len() <= 128 => found.add(script),
                _ => {}
            }
        }
    }
    for sha1 in wanted {
        if let Some(body) = put(&mut connection, Command::ScriptShow(sha1), found).await? {
            found.add(bytes(body)?);
        }
    }
    if let Some(libraries) = put(&mut connection, Command::FunctionList, found).await? {
        for code in function_list(libraries)? {
            found.add(code);
        }
    }
    Ok(())
}

/// The answer to a question; `None`, and a note, where the server does not give it.
async fn put(
    connection: &mut Connection,
    question: Command,
    found: &mut Found,
) -> Result<Option<Value>, CollectError> {
    let name = question.name();
    let answer = timeout(PATIENCE, connection.ask(question)).await.map_err(|_| CollectError::Silent)?;
    let note = match answer {
        Ok(value) => return Ok(Some(value)),
        Err(Failure::ErrorReply(refusal)) => match (question, refusal) {
            (_, ErrorReply::NoPermission) => format!("{name} may not be run: grant it ({})", question.grant()),
            (Command::ScriptShow(_), ErrorReply::Unknown) => {
                "the server has no SCRIPT SHOW (Valkey 8.0 and later have it), so scripts that are called by EVALSHA \
                 can't be had from it; a recording of MONITOR has them: --from-file"
                    .to_owned()
            }
            (_, ErrorReply::Unknown) => format!("the server has no {name}"),
            (Command::ScriptShow(sha1), ErrorReply::Other { .. }) => {
                format!("the server has forgotten the script {}", sha1.as_str())
            }
            (_, refusal) => return Err(CollectError::Failed { question: name, failure: Failure::ErrorReply(refusal) }),
        },
        Err(failure) => return Err(CollectError::Failed { question: name, failure }),
    };
    found.notes.insert(note);
    Ok(None)
}
