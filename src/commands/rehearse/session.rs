//! Connections of a rehearsal to its server, and the commands that it sends.

use std::path::Path;
use std::time::Duration;

use ::redis::{Cmd, Value, cmd};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::error::{RehearseError, Remains};
use super::server::PrivateServer;
use super::snapshot::Snapshot;
use crate::client::{CommandError, Connection, DialError, TlsSetup, Transport, connect};
use crate::config::{Endpoint, TargetConfig};
use crate::parse::{CommandNames, ErrorReply};

/// Maximum time for a reply to a command other than the script.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum time to remove all keys. It took more than 30 s on two cores with six runnable processes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(300);

/// Maximum CPU time of a run. A longer run is killed.
pub(crate) const RUN_LIMIT: Duration = Duration::from_secs(2);

/// Maximum number of times that a run's time limit is extended because the server was waiting for the processor.
const MAX_EXTENSIONS: u32 = 100;

/// Minimum duration of an extension.
const MIN_EXTENSION: Duration = Duration::from_millis(100);

/// Maximum time for a killed script to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between attempts to kill, and between attempts to connect.
const INTERVAL: Duration = Duration::from_millis(20);

/// Maximum number of attempts to connect to a private server.
const MAX_ATTEMPTS: u32 = 500;

/// Maximum memory of a reply to a command, in bytes.
const REPLY_LIMIT: usize = 16 << 20;

/// Maximum memory of the script's reply, in bytes.
const SCRIPT_REPLY_LIMIT: usize = 2 << 30;

/// Script or function to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Callable {
    Script { sha1: String },
    Function { name: String },
}

impl Callable {
    /// Returns the name of the command that calls it, in lower case.
    pub(crate) const fn command(&self) -> &'static str {
        match self {
            Self::Script { .. } => "evalsha",
            Self::Function { .. } => "fcall",
        }
    }

    const fn kill(&self) -> (&'static str, &'static str) {
        match self {
            Self::Script { .. } => ("SCRIPT", "SCRIPT KILL"),
            Self::Function { .. } => ("FUNCTION", "FUNCTION KILL"),
        }
    }

    fn call(&self, keys: &[String], args: &[String]) -> Cmd {
        let mut command = match self {
            Self::Script { sha1 } => cmd("EVALSHA").arg(sha1).take(),
            Self::Function { name } => cmd("FCALL").arg(name).take(),
        };
        command.arg(keys.len()).arg(keys).arg(args);
        command
    }
}

/// Outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run {
    /// The script replied, with this number of bytes on the wire. `number` is the reply if it is an integer.
    Ended { reply: u64, number: Option<i64> },
    /// The script returned an error.
    Failed(String),
    /// The script ran for [`RUN_LIMIT`] and was killed.
    Killed,
    /// The script ran for [`RUN_LIMIT`], had written, and was ended by killing its server.
    KilledWithServer,
    /// The script ran for [`RUN_LIMIT`] and cannot be killed, and the server belongs to the user.
    RunsOn,
}

/// Connections to the server of a rehearsal, and the server itself if it is private.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    /// Connection used to kill scripts that run on `connection`.
    killer: Connection,
    private: Option<PrivateServer>,
    /// Cancelled to end a rehearsal on the user's server. A private server is ended instead.
    interrupted: CancellationToken,
    /// Name of the loaded library.
    library: Option<String>,
}

impl Session {
    /// Connects to a private server, which ends with the session.
    pub(crate) async fn private(server: PrivateServer) -> Result<Self, RehearseError> {
        let endpoint = Endpoint::Unix(server.socket());
        let connection = open(first_connection(&endpoint).await?);
        let killer = open(connect(&endpoint).await?);
        let interrupted = CancellationToken::new();
        let mut session = Self { connection, killer, private: Some(server), interrupted, library: None };
        session.wait_until_loaded().await?;
        Ok(session)
    }

    /// Connects to the user's server.
    pub(crate) async fn existing(
        target: &TargetConfig,
        interrupted: CancellationToken,
    ) -> Result<Self, RehearseError> {
        let connection = dial(target).await?;
        let killer = dial(target).await?;
        Ok(Self { connection, killer, private: None, interrupted, library: None })
    }

    /// Returns true if the server is private, so that all data on it belongs to the rehearsal.
    pub(crate) const fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Returns an error if the rehearsal was interrupted.
    pub(crate) fn check(&self) -> Result<(), RehearseError> {
        if self.interrupted.is_cancelled() {
            return Err(RehearseError::Interrupted(Remains::Unknown));
        }
        Ok(())
    }

    /// Replaces a private server with a new one without data. Does nothing for the user's server.
    pub(crate) async fn restart(&mut self) -> Result<(), RehearseError> {
        if let Some(server) = &self.private {
            *self = Self::private(server.another().await?).await?;
        }
        Ok(())
    }

    async fn wait_until_loaded(&mut self) -> Result<(), RehearseError> {
        loop {
            match self.send(cmd("PING"), "PING").await {
                Err(RehearseError::Failed {
                    failure: CommandError::ErrorReply(ErrorReply::Loading), ..
                }) => {
                    sleep(INTERVAL).await;
                }
                other => return other.map(drop),
            }
        }
    }

    /// Sends a command and waits for its reply.
    pub(crate) async fn send(&mut self, command: Cmd, name: &'static str) -> Result<Value, RehearseError> {
        self.send_within(command, name, REPLY_TIMEOUT).await
    }

    /// Removes all keys from the current database.
    pub(crate) async fn flush(&mut self) -> Result<(), RehearseError> {
        self.send_within(cmd("FLUSHDB"), "FLUSHDB", FLUSH_TIMEOUT).await.map(drop)
    }

    async fn send_within(
        &mut self,
        command: Cmd,
        name: &'static str,
        limit: Duration,
    ) -> Result<Value, RehearseError> {
        timeout(limit, self.connection.send_any(command, name, REPLY_LIMIT))
            .await
            .map_err(|_| RehearseError::Timeout(name))?
            .map_err(|failure| RehearseError::Failed { command: name, failure })
    }

    /// Runs a script of the rehearsal itself with EVAL.
    pub(crate) async fn eval(
        &mut self,
        body: &str,
        keys: &[&str],
        args: &[String],
    ) -> Result<Value, RehearseError> {
        self.send(cmd("EVAL").arg(body).arg(keys.len()).arg(keys).arg(args).take(), "EVAL").await
    }

    pub(crate) async fn select(&mut self, database: u32) -> Result<(), RehearseError> {
        self.send(cmd("SELECT").arg(database).take(), "SELECT").await.map(drop)
    }

    /// Reads the statistics of the server.
    pub(crate) async fn snapshot(&mut self) -> Result<Snapshot, RehearseError> {
        let info = match self.send(cmd("INFO").arg("all").take(), "INFO").await? {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
            _ => String::new(),
        };
        Ok(Snapshot::parse(&info))
    }

    /// Loads a script, or the library of a function. Replaces no library.
    pub(crate) async fn load(
        &mut self,
        source: &[u8],
        function: Option<&str>,
    ) -> Result<Callable, RehearseError> {
        let rejected = |error| match error {
            RehearseError::Failed { failure: CommandError::ErrorReply(reply), .. } => {
                match reply.to_string() {
                    // A library that registers a function twice: `Function already exists in the library`.
                    text if text.contains("already exists") && !text.contains("in the library") => {
                        RehearseError::Exists(text)
                    }
                    text => RehearseError::Rejected(text),
                }
            }
            other => other,
        };
        if let Some(name) = function {
            let load = cmd("FUNCTION").arg("LOAD").arg(source).take();
            if let Value::BulkString(library) = self.send(load, "FUNCTION LOAD").await.map_err(rejected)? {
                self.library = Some(String::from_utf8_lossy(&library).into_owned());
            }
            return Ok(Callable::Function { name: name.to_owned() });
        }
        let load = cmd("SCRIPT").arg("LOAD").arg(source).take();
        match self.send(load, "SCRIPT LOAD").await.map_err(rejected)? {
            Value::BulkString(sha1) => {
                Ok(Callable::Script { sha1: String::from_utf8_lossy(&sha1).into_owned() })
            }
            other => Err(RehearseError::Rejected(format!("unexpected reply {other:?}"))),
        }
    }

    /// Deletes the library that [`Self::load`] loaded.
    pub(crate) async fn delete_library(&mut self) -> Result<(), RehearseError> {
        let Some(library) = self.library.take() else { return Ok(()) };
        let delete = cmd("FUNCTION").arg("DELETE").arg(library).take();
        self.send(delete, "FUNCTION DELETE").await.map(drop)
    }

    /// Runs a script, and kills it if it takes longer than [`RUN_LIMIT`] or the rehearsal is interrupted.
    pub(crate) async fn run(
        &mut self,
        callable: &Callable,
        keys: &[String],
        args: &[String],
    ) -> Result<Run, RehearseError> {
        self.check()?;
        let end = self.run_or_kill(callable, keys, args).await?;
        self.check()?;
        Ok(end)
    }

    async fn run_or_kill(
        &mut self,
        callable: &Callable,
        keys: &[String],
        args: &[String],
    ) -> Result<Run, RehearseError> {
        let interrupted = self.interrupted.clone();
        let reply = self.connection.send_any(callable.call(keys, args), "the script", SCRIPT_REPLY_LIMIT);
        tokio::pin!(reply);
        let processor_time = || self.private.as_ref()?.processor_time();
        let start = processor_time();
        let mut limit = RUN_LIMIT;
        for _ in 0..MAX_EXTENSIONS {
            tokio::select! {
                reply = timeout(limit, &mut reply) => if let Ok(reply) = reply {
                    return ended(reply);
                },
                () = interrupted.cancelled() => break,
            }
            // On a busy machine, the server has received less CPU time than the time that has passed.
            let used = start.zip(processor_time()).map(|(start, now)| now.saturating_sub(start));
            let left = used.map_or(Duration::ZERO, |used| RUN_LIMIT.saturating_sub(used));
            if left < INTERVAL {
                break;
            }
            limit = left.max(MIN_EXTENSION);
        }
        let (command, name) = callable.kill();
        let mut remaining = KILL_TIMEOUT;
        let mut may_kill = true;
        while !remaining.is_zero() {
            if may_kill {
                let kill = self.killer.send_any(cmd(command).arg("KILL").take(), name, REPLY_LIMIT);
                let kill = timeout(remaining, kill).await;
                if let Ok(Err(CommandError::ErrorReply(error))) = &kill {
                    // The script has written. Other errors mean that it has just ended, or that the server is not BUSY yet.
                    may_kill = !error.to_string().contains("UNKILLABLE");
                }
            }
            if !may_kill {
                break;
            }
            if let Ok(reply) = timeout(INTERVAL, &mut reply).await {
                return Ok(match ended(reply)? {
                    Run::Failed(text) if !text.to_ascii_lowercase().contains("kill") => Run::Failed(text),
                    // The script exceeded the limit, even if it ended before it was killed.
                    _ => Run::Killed,
                });
            }
            remaining = remaining.saturating_sub(INTERVAL);
        }
        Ok(match &mut self.private {
            Some(server) => {
                server.kill();
                Run::KilledWithServer
            }
            None => Run::RunsOn,
        })
    }
}

/// Returns the outcome of a script that replied.
fn ended(reply: Result<Value, CommandError>) -> Result<Run, RehearseError> {
    match reply {
        Ok(value) => {
            let number = if let Value::Int(number) = value { Some(number) } else { None };
            Ok(Run::Ended { reply: wire_size(&value), number })
        }
        Err(CommandError::ErrorReply(ErrorReply::Unknown)) => {
            Ok(Run::Failed("it calls a command that this server does not have".to_owned()))
        }
        Err(CommandError::ErrorReply(error)) => Ok(Run::Failed(error.to_string())),
        Err(failure) => Err(RehearseError::Failed { command: "the script", failure }),
    }
}

/// Returns the size of a reply in RESP2, in bytes.
fn wire_size(value: &Value) -> u64 {
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let header = |length: usize| count(length.to_string().len() + 3);
    match value {
        Value::Nil | Value::Okay => 5,
        Value::Int(number) => count(number.to_string().len() + 3),
        Value::BulkString(bytes) => header(bytes.len()) + count(bytes.len() + 2),
        Value::SimpleString(text) => count(text.len() + 3),
        Value::Array(values) => header(values.len()) + values.iter().map(wire_size).sum::<u64>(),
        _ => 0,
    }
}

/// Connects to a server that has bound its socket but may not be listening yet.
async fn first_connection(endpoint: &Endpoint) -> Result<Transport, RehearseError> {
    for _ in 0..MAX_ATTEMPTS {
        match connect(endpoint).await {
            Err(DialError::Connect(_)) => sleep(INTERVAL).await,
            other => return Ok(other?),
        }
    }
    Ok(connect(endpoint).await?)
}

fn open(transport: Transport) -> Connection {
    Connection::open(transport, CommandNames::default())
}

/// Connects to the user's server, with TLS and credentials.
pub(crate) async fn dial(target: &TargetConfig) -> Result<Connection, RehearseError> {
    let tls = target.address.tls.then(|| TlsSetup::new(&target.tls, &target.address.endpoint)).transpose()?;
    let transport = connect(&target.address.endpoint).await?;
    let lost = |text: String| RehearseError::Failed {
        command: "the TLS handshake",
        failure: CommandError::ConnectionLost(text),
    };
    let transport = match &tls {
        None => transport,
        Some(tls) => timeout(REPLY_TIMEOUT, tls.handshake(transport))
            .await
            .map_err(|_| RehearseError::Timeout("the TLS handshake"))?
            .map_err(|error| lost(error.to_string()))?,
    };
    let mut connection = open(transport);
    if let Some(password) = &target.credentials.password {
        let user = target.credentials.user.as_deref();
        let passwords = password.read_within(REPLY_TIMEOUT).await;
        let password = passwords.and_then(|passwords| passwords.of(user, &target.address));
        if let Some(password) = password.map_err(RehearseError::Password)? {
            timeout(REPLY_TIMEOUT, connection.authenticate(user, &password))
                .await
                .map_err(|_| RehearseError::Timeout("AUTH"))?
                .map_err(|failure| RehearseError::Failed { command: "AUTH", failure })?;
        }
    }
    Ok(connection)
}

/// Starts a private server and connects to it.
pub(crate) async fn start(
    program: Option<&Path>,
    max_memory: u64,
    dump: Option<&Path>,
) -> Result<Session, RehearseError> {
    Session::private(PrivateServer::start(program, max_memory, dump).await?).await
}
