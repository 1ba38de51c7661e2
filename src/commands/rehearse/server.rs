//! Private server of a rehearsal: a process that listens on a Unix socket in a temporary directory, without persistence.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::error::RehearseError;

/// Names of server programs to search for in PATH, in order of preference.
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];

/// Directories that may be missing from the PATH of an ordinary user.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Interval between checks for the socket.
const INTERVAL: Duration = Duration::from_millis(5);

/// Maximum number of checks. They take 60 s, because a dump may have to be loaded.
const MAX_LOOKS: usize = 12_000;

/// Run time of a script after which the server accepts a command to kill it.
pub(crate) const TIME_LIMIT: Duration = Duration::from_millis(1800);

/// Server process. On drop, it is killed and its directory is removed.
#[derive(Debug)]
pub(crate) struct PrivateServer {
    process: Child,
    folder: TempDir,
    program: PathBuf,
    max_memory: u64,
}

impl PrivateServer {
    /// Starts `program`, or a server program from PATH, and waits until its socket exists.
    ///
    /// # Errors
    /// No server program is found, or the server does not start. In the latter case, the error contains the last line of its log.
    pub(crate) async fn start(
        program: Option<&Path>,
        max_memory: u64,
        dump: Option<&Path>,
    ) -> Result<Self, RehearseError> {
        let program = match program {
            // The path must be absolute because the server runs in a different directory.
            Some(program) if program.components().count() > 1 => std::path::absolute(program)
                .map_err(|source| RehearseError::File { path: program.to_owned(), source })?,
            Some(program) => program.to_owned(),
            None => find().ok_or(RehearseError::NoServer)?,
        };
        let failed =
            |source: io::Error| RehearseError::Start { program: program.clone(), reason: source.to_string() };
        // Socket paths are limited to about 100 bytes, so a long TMPDIR can't be used.
        let folder = tempfile::Builder::new().prefix("rehearse").tempdir().map_err(failed)?;
        if let Some(dump) = dump {
            let dump = fs::canonicalize(dump)
                .map_err(|source| RehearseError::File { path: dump.to_owned(), source })?;
            std::os::unix::fs::symlink(dump, folder.path().join("dump.rdb")).map_err(failed)?;
        }
        let log = fs::File::create(folder.path().join("server.log")).map_err(failed)?;
        let mut command = program_that_ends_with_this_process(&program);
        command
            .args(["--port", "0", "--daemonize", "no", "--appendonly", "no", "--save", ""])
            .args(["--maxmemory-policy", "noeviction", "--slowlog-log-slower-than", "-1"])
            .args(["--unixsocketperm", "700", "--databases", "16", "--lua-time-limit"])
            .arg(TIME_LIMIT.as_millis().to_string())
            .args(["--maxmemory", &max_memory.to_string(), "--unixsocket", "server.sock", "--dir", "."])
            .current_dir(folder.path())
            // Not the process group of the terminal: Ctrl-C ends this process, which ends the server.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        let process = command.spawn().map_err(failed)?;
        let mut server = Self { process, folder, program: program.clone(), max_memory };
        for _ in 0..MAX_LOOKS {
            if server.socket().exists() {
                return Ok(server);
            }
            if server.process.try_wait().map_err(failed)?.is_some() {
                break;
            }
            tokio::time::sleep(INTERVAL).await;
        }
        Err(RehearseError::Start { program, reason: server.last_line() })
    }

    /// Starts another server like this one, without data.
    ///
    /// # Errors
    /// Same as [`Self::start`].
    pub(crate) async fn another(&self) -> Result<Self, RehearseError> {
        Self::start(Some(&self.program), self.max_memory, None).await
    }

    /// Returns the path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("server.sock")
    }

    /// Returns the CPU time used by the thread that runs commands; `None` if the system does not report it.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let id = self.process.id();
        let text = fs::read_to_string(format!("/proc/{id}/task/{id}/schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }

    /// Returns the last non-empty line of the log.
    fn last_line(&self) -> String {
        let log = fs::read(self.folder.path().join("server.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it wrote nothing").trim().to_owned()
    }

    /// Kills the process, which closes all connections to it.
    pub(crate) fn kill(&mut self) {
        // Fails only if the process has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Finds a server program in PATH.
fn find() -> Option<PathBuf> {
    NAMES.iter().find_map(|name| in_path(name))
}

/// Finds a program in PATH or in a system directory.
fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Returns a command that runs a program. On Linux with `setpriv`, the kernel kills the program when this process ends.
fn program_that_ends_with_this_process(program: &Path) -> Command {
    match in_path("setpriv") {
        Some(setpriv) if cfg!(target_os = "linux") => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        _ => Command::new(program),
    }
}
