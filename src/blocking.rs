//! Work that may hang: name resolution and files, on threads of its own.
//!
//! Neither the system's resolver nor a file on a network file system has a time limit, and a thread that waits for one
//! cannot be stopped. So this work has a few threads per kind (16 in all), and never those of the runtime's
//! pool, which pages, logins and the state file need. The caller waits with a limit of its own. Jobs with the same key run
//! one after the other: a file or a name that hangs holds one thread. Nobody waits for these threads when the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Threads of all pools together.
#[cfg(test)]
const MAX_THREADS: usize = 16;

/// Resolves the names of targets.
pub(crate) static NAMES: Pool = Pool::new("names", 7, 5);

/// Resolves the names that `/probe` is asked for: anybody may ask for many.
pub(crate) static PROBED_NAMES: Pool = Pool::new("probed-names", 2, 1);

/// Reads passwords, certificates and configuration.
pub(crate) static FILES: Pool = Pool::new("files", 5, 3);

/// Reads the log files of servers.
pub(crate) static LOG_FILES: Pool = Pool::new("log-files", 2, 1);

/// Time after which a thread without work ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of keys that are remembered as slow.
const MAX_SLOW_KEYS: usize = 10_000;

/// Reason why a job has no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfinished {
    /// The caller's limit has passed. The job may still run; its result is dropped.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The job panicked.
    #[error("it failed unexpectedly")]
    Panicked,
}

impl From<Unfinished> for io::Error {
    fn from(unfinished: Unfinished) -> Self {
        match unfinished {
            Unfinished::Late(_) => Self::new(io::ErrorKind::TimedOut, unfinished.to_string()),
            Unfinished::Panicked => Self::other(unfinished.to_string()),
        }
    }
}

/// Threads for one kind of work, started when they are needed.
#[derive(Debug)]
pub(crate) struct Pool {
    name: &'static str,
    max_threads: usize,
    /// Threads that keys may take whose last job was late: the others are left to keys that work.
    max_slow: usize,
    state: Mutex<State>,
    wake: Condvar,
}

/// A job; returns whether its caller still waited for the result.
type Job = Box<dyn FnOnce() -> bool + Send>;

#[derive(Debug)]
struct State {
    /// Jobs by key; a key without jobs is not in it.
    lanes: BTreeMap<OsString, Lane>,
    /// Keys of which no job runs and one waits, in the order of their tickets.
    ready: BTreeMap<u64, OsString>,
    /// The same of keys whose last job was late.
    ready_slow: BTreeMap<u64, OsString>,
    slow: BTreeSet<OsString>,
    running_slow: usize,
    threads: usize,
    idle: usize,
    last_ticket: u64,
}

/// The jobs of one key.
#[derive(Default)]
struct Lane {
    waiting: BTreeMap<u64, Job>,
    running: bool,
    /// The ticket under which the key is among those that are ready.
    ready: Option<u64>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl State {
    const fn new() -> Self {
        Self {
            lanes: BTreeMap::new(),
            ready: BTreeMap::new(),
            ready_slow: BTreeMap::new(),
            slow: BTreeSet::new(),
            running_slow: 0,
            threads: 0,
            idle: 0,
            last_ticket: 0,
        }
    }

    fn add(&mut self, key: &OsStr, job: Job) -> u64 {
        self.last_ticket += 1;
        self.lanes.entry(key.to_owned()).or_default().waiting.insert(self.last_ticket, job);
        self.settle(key);
        self.last_ticket
    }

    /// Removes a job that does not run yet.
    fn remove(&mut self, key: &OsStr, ticket: u64) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.waiting.remove(&ticket);
            self.settle(key);
        }
    }

    /// Puts a key among those that are ready, or takes it out, and drops its lane if nothing is left of it.
    fn settle(&mut self, key: &OsStr) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let first = lane.waiting.first_key_value().map(|(ticket, _)| *ticket);
        let ready = first.filter(|_| !lane.running);
        if let Some(before) = std::mem::replace(&mut lane.ready, ready) {
            self.ready.remove(&before);
            self.ready_slow.remove(&before);
        }
        if let Some(ticket) = ready {
            let ready = if self.slow.contains(key) { &mut self.ready_slow } else { &mut self.ready };
            ready.insert(ticket, key.to_owned());
        } else if !lane.running {
            self.lanes.remove(key);
        }
    }

    /// The next job, its key, and whether that is slow.
    fn take(&mut self, max_slow: usize) -> Option<(OsString, Job, bool)> {
        let slow = self.ready.is_empty();
        if slow && self.running_slow >= max_slow {
            return None;
        }
        let ready = if slow { &self.ready_slow } else { &self.ready };
        let (_, key) = ready.first_key_value()?;
        let key = key.clone();
        let lane = self.lanes.get_mut(&key)?;
        let (_, job) = lane.waiting.pop_first()?;
        lane.running = true;
        self.running_slow += usize::from(slow);
        self.settle(&key);
        Some((key, job, slow))
    }

    fn finish(&mut self, key: &OsStr, was_slow: bool, in_time: bool) {
        self.running_slow = self.running_slow.saturating_sub(usize::from(was_slow));
        if in_time {
            self.slow.remove(key);
        } else {
            if self.slow.len() >= MAX_SLOW_KEYS {
                self.slow.clear();
            }
            self.slow.insert(key.to_owned());
        }
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.running = false;
        }
        self.settle(key);
    }
}

impl Pool {
    const fn new(name: &'static str, max_threads: usize, max_slow: usize) -> Self {
        Self { name, max_threads, max_slow, state: Mutex::new(State::new()), wake: Condvar::new() }
    }

    /// Runs a job when its turn has come, and waits for its result for at most `limit`. A job that has not begun by then
    /// never runs.
    ///
    /// # Errors
    /// The limit has passed, or the job panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &'static self,
        key: impl AsRef<OsStr>,
        limit: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || sender.send(job()).is_ok());
        let key = key.as_ref();
        let ticket = {
            let mut state = self.state();
            let ticket = state.add(key, job);
            self.call_threads(&mut state);
            ticket
        };
        let _waiting = Waiting { pool: self, key, ticket };
        match timeout(limit, receiver).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Unfinished::Panicked),
            Err(_) => Err(Unfinished::Late(limit)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Wakes a thread, and starts one if there are more keys ready than threads without work.
    fn call_threads(&'static self, state: &mut State) {
        let ready = state.ready.len() + state.ready_slow.len();
        if ready > 0 && state.idle > 0 {
            self.wake.notify_one();
        }
        if ready > state.idle && state.threads < self.max_threads {
            let started = thread::Builder::new().name(self.name.to_owned()).spawn(|| self.work());
            // Where the system has no thread for us the job waits for another one, or for the next call.
            state.threads += usize::from(started.is_ok());
        }
    }

    /// Runs jobs until there has been none for a while.
    fn work(&'static self) {
        let mut state = self.state();
        let mut rested = false;
        loop {
            if let Some((key, job, slow)) = state.take(self.max_slow) {
                rested = false;
                drop(state);
                let in_time = catch_unwind(AssertUnwindSafe(job)).unwrap_or(true);
                state = self.state();
                state.finish(&key, slow, in_time);
                self.call_threads(&mut state);
                continue;
            }
            if rested {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
            rested = self.wake.wait_for(&mut state, IDLE_TIMEOUT).timed_out();
            state.idle -= 1;
        }
    }
}

/// A caller that waits for its job. When it no longer does, the job is removed unless it runs.
struct Waiting<'a> {
    pool: &'static Pool,
    key: &'a OsStr,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.state().remove(self.key, self.ticket);
    }
}

/// Resolves a name as the system does (`/etc/hosts`, DNS, whatever `nsswitch.conf` says); at most one lookup of a name at
/// a time. An IP address takes no thread.
///
/// # Errors
/// The resolver's, or that it gave no answer within `limit`.
pub(crate) async fn resolve(
    pool: &'static Pool,
    host: &str,
    port: u16,
    limit: Duration,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = host.to_owned();
    pool.run(host, limit, move || (name, port).to_socket_addrs().map(Iterator::collect)).await?
}

/// The key of jobs that read a file: its folder, as what hangs is a file system.
pub(crate) fn folder_of(file: &Path) -> &OsStr {
    file.parent().unwrap_or(file).as_os_str()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use tokio::task::JoinSet;

    use super::*;

    /// Far more than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Time after which a job that hangs is given up.
    const SHORT: Duration = Duration::from_millis(50);

    fn pool(max_threads: usize, max_slow: usize) -> &'static Pool {
        Box::leak(Box::new(Pool::new("test", max_threads, max_slow)))
    }

    /// Jobs that hang until this is dropped.
    #[derive(Default)]
    struct Hang {
        over: Arc<(Mutex<bool>, Condvar)>,
        running: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl Hang {
        fn job(&self) -> impl FnOnce() + Send + 'static {
            let (over, running, most) =
                (Arc::clone(&self.over), Arc::clone(&self.running), Arc::clone(&self.most));
            move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                over.1.wait_while(&mut over.0.lock(), |over| !*over);
                running.fetch_sub(1, Ordering::SeqCst);
            }
        }

        fn end(&self) {
            *self.over.0.lock() = true;
            self.over.1.notify_all();
        }
    }

    impl Drop for Hang {
        fn drop(&mut self) {
            self.end();
        }
    }

    async fn until(what: impl Fn() -> bool) {
        let wait = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "it never happens");
    }

    /// Runs a job that hangs, and gives it up once it has begun.
    async fn begin(pool: &'static Pool, key: &str, hang: &Hang) {
        let before = hang.running.load(Ordering::SeqCst);
        tokio::select! {
            _ = pool.run(key, PATIENCE, hang.job()) => {}
            () = until(|| hang.running.load(Ordering::SeqCst) > before) => {}
        }
    }

    #[test]
    fn all_pools_together_have_few_threads() {
        let pools = [&NAMES, &PROBED_NAMES, &FILES, &LOG_FILES];
        assert_eq!(pools.iter().map(|pool| pool.max_threads).sum::<usize>(), MAX_THREADS);
        assert!(pools.iter().all(|pool| pool.max_slow < pool.max_threads));
    }

    #[tokio::test]
    async fn three_hundred_names_that_hang_take_few_threads_and_leave_nothing_behind() {
        let (pool, hang) = (pool(5, 3), Hang::default());
        let mut asked = JoinSet::new();
        for number in 0..300 {
            let job = hang.job();
            asked.spawn(async move { pool.run(format!("host{number}"), PATIENCE, job).await });
        }
        until(|| pool.state().last_ticket == 300 && hang.running.load(Ordering::SeqCst) == 5).await;
        asked.shutdown().await;
        let left = {
            let state = pool.state();
            (state.threads, state.lanes.len(), state.ready.len())
        };
        assert_eq!(left, (5, 5, 0));
        hang.end();
        until(|| pool.state().lanes.is_empty()).await;
        assert_eq!(hang.most.load(Ordering::SeqCst), 5);
        assert_eq!(pool.run("host0", PATIENCE, || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_key_that_hangs_takes_one_thread() {
        let (pool, hang) = (pool(2, 1), Hang::default());
        begin(pool, "a", &hang).await;
        for _ in 0..10 {
            assert_eq!(pool.run("a", SHORT, hang.job()).await, Err(Unfinished::Late(SHORT)));
            assert_eq!(pool.run("b", PATIENCE, || 7).await, Ok(7));
        }
        assert_eq!(hang.most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn names_that_hung_before_leave_threads_to_the_others() {
        let (pool, hang) = (pool(3, 2), Hang::default());
        let keys = ["a", "b", "c"];
        for key in keys {
            begin(pool, key, &hang).await;
        }
        hang.end();
        until(|| pool.state().lanes.is_empty()).await;
        let hang = Hang::default();
        begin(pool, "a", &hang).await;
        begin(pool, "b", &hang).await;
        assert_eq!(pool.run("c", SHORT, hang.job()).await, Err(Unfinished::Late(SHORT)));
        assert_eq!(hang.most.load(Ordering::SeqCst), 2);
        assert_eq!(pool.run("fine", PATIENCE, || 7).await, Ok(7));
        hang.end();
        // One that has answered in time is like any other again.
        for key in keys {
            assert_eq!(pool.run(key, PATIENCE, || 7).await, Ok(7));
        }
        until(|| pool.state().slow.is_empty() && pool.state().running_slow == 0).await;
    }

    #[tokio::test]
    async fn a_job_that_was_given_up_before_its_turn_never_runs() {
        let (pool, hang, ran) = (pool(1, 1), Hang::default(), Arc::new(AtomicBool::new(false)));
        begin(pool, "a", &hang).await;
        for key in ["a", "b"] {
            let flag = Arc::clone(&ran);
            let late = pool.run(key, SHORT, move || flag.store(true, Ordering::SeqCst)).await;
            assert_eq!(late, Err(Unfinished::Late(SHORT)));
        }
        hang.end();
        assert_eq!(pool.run("c", PATIENCE, || 7).await, Ok(7));
        assert!(!ran.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn jobs_of_one_key_run_in_their_order_and_a_panic_ends_nothing() {
        let pool = pool(4, 2);
        let (sender, receiver) = channel();
        let mut asked = JoinSet::new();
        for number in 0..100 {
            let sender = sender.clone();
            asked.spawn(async move { pool.run("a", PATIENCE, move || sender.send(number).unwrap()).await });
        }
        asked.join_all().await;
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        let failed = pool.run("a", PATIENCE, || assert!(std::hint::black_box(false))).await;
        assert_eq!(failed, Err(Unfinished::Panicked));
        assert_eq!(pool.run("a", PATIENCE, || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn addresses_take_no_thread() {
        for (host, text) in [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1")] {
            let pool = pool(1, 1);
            let found = resolve(pool, host, 1, PATIENCE).await.unwrap();
            assert_eq!(found, [text.parse().unwrap()]);
            assert_eq!(pool.state().last_ticket, 0);
        }
        assert!(!resolve(pool(1, 1), "localhost", 1, PATIENCE).await.unwrap().is_empty());
    }
}
