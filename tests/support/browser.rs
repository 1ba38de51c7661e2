//! One Chromium for all page tests of this process, driven by `tests/page/check.mjs`.
//!
//! The first test that needs it starts it. When this process ends, the driver reads the end of its input or receives a
//! signal from the kernel, and then exits together with the browser.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cache;
use crate::process::{Process, find_program};

/// Additional time that the driver has to respond after the time limit of a request.
const GRACE: Duration = Duration::from_secs(60);

/// Programs and modules that `scripts/setup.sh` installs: Node, Chromium and the directory of the modules.
static INSTALLED: LazyLock<Option<[PathBuf; 3]>> = LazyLock::new(|| {
    // The headless build takes a quarter less CPU time.
    let browser = find_program("chromium-headless-shell").or_else(|| find_program("chromium"))?;
    Some([find_program("node")?, browser, cache::modules("page", "tests/page")?])
});

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// Senders for the results of pending requests; `None` after the driver has exited.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Option<String>>>>>>;

/// Running driver.
struct Driver {
    input: ChildStdin,
    waiting: Waiting,
    requests: u64,
    _process: Process,
}

/// Returns true if the browser and its driver are installed.
pub fn is_installed() -> bool {
    let is_installed = INSTALLED.is_some();
    if !is_installed {
        cache::skip("Chromium, Node or the page's test modules are missing; `make setup` installs them");
    }
    is_installed
}

/// Runs a scenario of `check.mjs` on the page at `url`; nothing if the browser is not installed.
///
/// # Errors
/// The driver's message.
pub fn check(url: &str, scenario: &str, limit: Duration) -> Result<(), String> {
    let Some(installed) = INSTALLED.as_ref().filter(|_| is_installed()) else { return Ok(()) };
    let answer = request(installed, &format!("{} {url} {scenario}", limit.as_millis()));
    match answer.recv_timeout(limit + GRACE) {
        Ok(None) => Ok(()),
        Ok(Some(error)) => Err(error),
        Err(error) => Err(format!("no answer from the browser's driver: {error}")),
    }
}

fn request(installed: &[PathBuf; 3], text: &str) -> Receiver<Option<String>> {
    let (sender, answer) = channel();
    // A panicking test leaves no inconsistent state behind the lock.
    let mut driver = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    let has_ended = |driver: &Driver| driver.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none();
    if driver.as_ref().is_none_or(has_ended) {
        *driver = Some(Driver::start(installed));
    }
    let driver = driver.as_mut().expect("it was started");
    driver.requests += 1;
    let id = driver.requests;
    if let Some(waiting) = &mut *driver.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
        waiting.insert(id, sender);
    }
    // If the driver has exited, the sender is dropped and the result is an error.
    let _ = writeln!(driver.input, "{id} {text}");
    answer
}

impl Driver {
    fn start([node, browser, modules]: &[PathBuf; 3]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../page/check.mjs");
        let mut process = Process::start(node, Signal::SIGTERM, |command| {
            command.arg(script).args([modules, browser]).args(std::env::var_os("PAGE_PICTURES"));
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        })
        .expect("Node starts");
        let input = process.child().stdin.take().expect("it is piped");
        let output = process.child().stdout.take().expect("it is piped");
        let waiting = Waiting::new(Mutex::new(Some(HashMap::new())));
        let answered = Arc::clone(&waiting);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let parsed = line.split_once(' ').and_then(|(id, error)| {
                    Some((id.parse::<u64>().ok()?, serde_json::from_str(error).ok()?))
                });
                let Some((id, error)) = parsed else { break };
                let mut waiting = answered.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(sender) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) {
                    let _ = sender.send(error);
                }
            }
            *answered.lock().unwrap_or_else(PoisonError::into_inner) = None;
        });
        Self { input, waiting, requests: 0, _process: process }
    }
}
