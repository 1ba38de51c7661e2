//! Child processes that never outlive this one.
//!
//! Three nets, each for a case that the others miss: `Drop` ends a child in the ordinary course of things and while a
//! test panics; `setpriv --pdeathsig` (where it exists: Linux) has the kernel end it when this process is killed; and a
//! process group of its own keeps a Ctrl-C in the terminal from ending it before its owner is done with it.

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

/// How long a process that is asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(3);

/// How often a process that should end is looked at.
const PAUSE: Duration = Duration::from_millis(2);

static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| find_program("setpriv"));

type Job = (Command, Sender<io::Result<Child>>);

/// The thread that starts all children. The kernel sends the parent's death signal when the *thread* that started the
/// child ends, so a test's own thread is not good enough: a server may be handed on to another one.
static SPAWNER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (jobs, inbox) = channel::<Job>();
    thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for (mut command, reply) in inbox {
                // Who asked may have panicked in the meantime: then nobody is left to own the child.
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

/// A program on the `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    // Debian keeps servers in folders that an ordinary user's PATH does not have.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A running child process; ended on drop.
pub struct Process {
    child: Child,
    /// How it is ended: SIGKILL, or SIGTERM for a program that has children of its own to take along.
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

    /// The child itself, for its streams.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process id.
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

    /// The exit status, if the process has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child can be waited for")
    }

    /// Waits until the process ends, at most for `limit`.
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

    /// Kills the process and waits for its end. SIGKILL ends a stopped process too.
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
