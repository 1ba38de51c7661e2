//! Child processes that never outlive this one.
//!
//! `Drop` ends a child even if a test panics. With `setpriv --pdeathsig` (Linux), the kernel ends it when this process is
//! killed. Each child has its own process group, so Ctrl-C in the terminal does not end it before its owner.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// Interval between checks of whether a process has exited.
const PAUSE: Duration = Duration::from_millis(2);

static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| find_program("setpriv"));

type Job = (Command, Sender<io::Result<Child>>);

/// Thread that starts all children. The kernel sends the parent's death signal when the *thread* that started the child
/// ends, so it must not be the thread of a test, which may pass a server to another thread.
static SPAWNER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (jobs, inbox) = channel::<Job>();
    thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for (mut command, reply) in inbox {
                // If the requester has panicked in the meantime, the child has no owner and is dropped.
                if let Err(unwanted) = reply.send(command.spawn())
                    && let Ok(mut child) = unwanted.0
                {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        })
        .expect("a thread that starts the children");
    jobs
});

/// Finds a program on the `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    // Debian installs servers in directories that are not on the PATH of ordinary users.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Running child process; ended on drop.
pub struct Process {
    child: Child,
    /// Signal that ends the process: SIGKILL, or SIGTERM for a program that must end its own children.
    end: Signal,
}

impl Process {
    /// Starts `program`; `set_up` adds arguments, environment and streams.
    pub fn start(program: &Path, end: Signal, set_up: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let mut command = match SETPRIV.as_deref() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", end.as_str(), "--"]).arg(program).process_group(0);
                command
            }
            None => Command::new(program),
        };
        set_up(&mut command);
        let (reply, answer) = channel();
        SPAWNER.send((command, reply)).expect("the spawner runs as long as we do");
        let child = answer.recv().expect("the spawner answers every request")?;
        Ok(Self { child, end })
    }

    /// Returns the child, for access to its streams.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            let pid = i32::try_from(self.pid()).expect("a process id fits an i32");
            signal::kill(Pid::from_raw(pid), signal).expect("our own child can be signalled");
        }
    }

    /// Returns the exit status if the process has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child can be waited for")
    }

    /// Waits for at most `limit` until the process ends.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            let status = self.exit_status();
            if status.is_some() || start.elapsed() >= limit {
                return status;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Sends SIGKILL, which also ends a stopped process, and waits for the exit.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.end != Signal::SIGKILL {
            self.signal(Signal::SIGCONT);
            self.signal(self.end);
            self.wait(GRACE);
        }
        self.kill();
    }
}
