//! Thread pools for blocking work without a time limit: name resolution and files.
//!
//! Neither the system's resolver nor a network file system has a time limit, and a blocked thread cannot be cancelled.
//! Therefore, this work runs on a few threads per kind (16 in all), separate from the runtime's pool, which compression,
//! logins and the state file need. Each caller has its own time limit. Jobs with the same key run one after another, so
//! that a file or a name that hangs blocks only one thread. The threads are not joined when the process ends.

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

/// Maximum number of threads of all pools together.
#[cfg(test)]
const MAX_THREADS: usize = 16;

/// Pool that resolves names of targets.
pub(crate) static NAMES: Pool = Pool::new("names", 7, 5);

/// Pool that resolves names of `/probe`. It is separate because clients may request any number of names.
pub(crate) static PROBED_NAMES: Pool = Pool::new("probed-names", 2, 1);

/// Pool that reads passwords, certificates and configuration.
pub(crate) static FILES: Pool = Pool::new("files", 5, 3);

/// Pool that reads log files of servers.
pub(crate) static LOG_FILES: Pool = Pool::new("log-files", 2, 1);

/// Time without a job after which a thread ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of keys that are remembered as slow.
const MAX_SLOW_KEYS: usize = 10_000;

/// Reason why a job has no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JobError {
    /// The caller's time limit has passed. The job may still be running; its result is dropped.
    #[error("no result within {0:?}")]
    TimedOut(Duration),
    /// The job panicked.
    #[error("unexpected failure")]
    Panicked,
}

impl From<JobError> for io::Error {
    fn from(error: JobError) -> Self {
        match error {
            JobError::TimedOut(_) => Self::new(io::ErrorKind::TimedOut, error.to_string()),
            JobError::Panicked => Self::other(error.to_string()),
        }
    }
}

/// Threads for one kind of work, started on demand.
#[derive(Debug)]
pub(crate) struct Pool {
    name: &'static str,
    max_threads: usize,
    /// Maximum number of threads for keys whose last job was late. The other threads are reserved for the other keys.
    max_slow: usize,
    state: Mutex<State>,
    wake: Condvar,
}

/// A job; returns true if its caller was still waiting for the result.
type Job = Box<dyn FnOnce() -> bool + Send>;

#[derive(Debug)]
struct State {
    /// Queues of the keys that have jobs.
    queues: BTreeMap<OsString, Queue>,
    /// Keys with waiting jobs and no running one, by the ticket of the first job.
    ready: BTreeMap<u64, OsString>,
    /// Like `ready`, for keys whose last job was late.
    ready_slow: BTreeMap<u64, OsString>,
    /// Keys whose last job was late.
    slow: BTreeSet<OsString>,
    running_slow: usize,
    threads: usize,
    idle: usize,
    last_ticket: u64,
}

/// Jobs of one key.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<u64, Job>,
    running: bool,
    /// Ticket of the key in `ready` or `ready_slow`.
    ready: Option<u64>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl State {
    const fn new() -> Self {
        Self {
            queues: BTreeMap::new(),
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
        self.queues.entry(key.to_owned()).or_default().waiting.insert(self.last_ticket, job);
        self.update(key);
        self.last_ticket
    }

    /// Removes a job that has not begun.
    fn remove(&mut self, key: &OsStr, ticket: u64) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.waiting.remove(&ticket);
            self.update(key);
        }
    }

    /// Updates the ready sets for a key, and drops its queue if it has no job.
    fn update(&mut self, key: &OsStr) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let first = queue.waiting.first_key_value().map(|(ticket, _)| *ticket);
        let ready = first.filter(|_| !queue.running);
        if let Some(before) = std::mem::replace(&mut queue.ready, ready) {
            self.ready.remove(&before);
            self.ready_slow.remove(&before);
        }
        if let Some(ticket) = ready {
            let ready = if self.slow.contains(key) { &mut self.ready_slow } else { &mut self.ready };
            ready.insert(ticket, key.to_owned());
        } else if !queue.running {
            self.queues.remove(key);
        }
    }

    /// Takes the next job. Returns its key, the job, and true if the last job of the key was late.
    fn take(&mut self, max_slow: usize) -> Option<(OsString, Job, bool)> {
        let slow = self.ready.is_empty();
        if slow && self.running_slow >= max_slow {
            return None;
        }
        let ready = if slow { &self.ready_slow } else { &self.ready };
        let (_, key) = ready.first_key_value()?;
        let key = key.clone();
        let queue = self.queues.get_mut(&key)?;
        let (_, job) = queue.waiting.pop_first()?;
        queue.running = true;
        self.running_slow += usize::from(slow);
        self.update(&key);
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
        if let Some(queue) = self.queues.get_mut(key) {
            queue.running = false;
        }
        self.update(key);
    }
}

impl Pool {
    const fn new(name: &'static str, max_threads: usize, max_slow: usize) -> Self {
        Self { name, max_threads, max_slow, state: Mutex::new(State::new()), wake: Condvar::new() }
    }

    /// Queues a job and waits at most `limit` for its result. A job that has not begun by then never runs.
    ///
    /// # Errors
    /// The limit has passed, or the job panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &'static self,
        key: impl AsRef<OsStr>,
        limit: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobError> {
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
            Ok(Err(_)) => Err(JobError::Panicked),
            Err(_) => Err(JobError::TimedOut(limit)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Wakes a thread, and starts one if more keys are ready than threads are idle.
    fn call_threads(&'static self, state: &mut State) {
        let ready = state.ready.len() + state.ready_slow.len();
        if ready > 0 && state.idle > 0 {
            self.wake.notify_one();
        }
        if ready > state.idle && state.threads < self.max_threads {
            let started = thread::Builder::new().name(self.name.to_owned()).spawn(|| self.work());
            // If the system cannot start a thread, the job waits for another thread or for the next call.
            state.threads += usize::from(started.is_ok());
        }
    }

    /// Runs jobs until there has been none for [`IDLE_TIMEOUT`].
    fn work(&'static self) {
        let mut state = self.state();
        let mut timed_out = false;
        loop {
            if let Some((key, job, slow)) = state.take(self.max_slow) {
                timed_out = false;
                drop(state);
                let in_time = catch_unwind(AssertUnwindSafe(job)).unwrap_or(true);
                state = self.state();
                state.finish(&key, slow, in_time);
                self.call_threads(&mut state);
                continue;
            }
            if timed_out {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
            timed_out = self.wake.wait_for(&mut state, IDLE_TIMEOUT).timed_out();
            state.idle -= 1;
        }
    }
}

/// Removes a job that has not begun if its caller stops waiting.
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

/// Resolves a name with the system's resolver (`/etc/hosts`, DNS, other sources of `nsswitch.conf`), at most one lookup per
/// name at a time. An IP address needs no thread.
///
/// # Errors
/// Errors of the resolver, or no answer within `limit`.
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

/// Returns the key of jobs that read a file: its directory, because whole file systems hang rather than single files.
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

    /// Limit that is much longer than any job here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    /// Limit for jobs that hang.
    const SHORT: Duration = Duration::from_millis(50);

    fn pool(max_threads: usize, max_slow: usize) -> &'static Pool {
        Box::leak(Box::new(Pool::new("test", max_threads, max_slow)))
    }

    /// Source of jobs that block until it is dropped.
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
        assert!(timeout(LIMIT, wait).await.is_ok(), "it never happens");
    }

    /// Runs a job that hangs, and stops waiting once it has begun.
    async fn begin(pool: &'static Pool, key: &str, hang: &Hang) {
        let before = hang.running.load(Ordering::SeqCst);
        tokio::select! {
            _ = pool.run(key, LIMIT, hang.job()) => {}
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
            asked.spawn(async move { pool.run(format!("host{number}"), LIMIT, job).await });
        }
        until(|| pool.state().last_ticket == 300 && hang.running.load(Ordering::SeqCst) == 5).await;
        asked.shutdown().await;
        let left = {
            let state = pool.state();
            (state.threads, state.queues.len(), state.ready.len())
        };
        assert_eq!(left, (5, 5, 0));
        hang.end();
        until(|| pool.state().queues.is_empty()).await;
        assert_eq!(hang.most.load(Ordering::SeqCst), 5);
        assert_eq!(pool.run("host0", LIMIT, || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_key_that_hangs_takes_one_thread() {
        let (pool, hang) = (pool(2, 1), Hang::default());
        begin(pool, "a", &hang).await;
        for _ in 0..10 {
            assert_eq!(pool.run("a", SHORT, hang.job()).await, Err(JobError::TimedOut(SHORT)));
            assert_eq!(pool.run("b", LIMIT, || 7).await, Ok(7));
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
        until(|| pool.state().queues.is_empty()).await;
        let hang = Hang::default();
        begin(pool, "a", &hang).await;
        begin(pool, "b", &hang).await;
        assert_eq!(pool.run("c", SHORT, hang.job()).await, Err(JobError::TimedOut(SHORT)));
        assert_eq!(hang.most.load(Ordering::SeqCst), 2);
        assert_eq!(pool.run("fine", LIMIT, || 7).await, Ok(7));
        hang.end();
        // A key whose job was in time is no longer slow.
        for key in keys {
            assert_eq!(pool.run(key, LIMIT, || 7).await, Ok(7));
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
            assert_eq!(late, Err(JobError::TimedOut(SHORT)));
        }
        hang.end();
        assert_eq!(pool.run("c", LIMIT, || 7).await, Ok(7));
        assert!(!ran.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn jobs_of_one_key_run_in_their_order_and_a_panic_ends_nothing() {
        let pool = pool(4, 2);
        let (sender, receiver) = channel();
        let mut asked = JoinSet::new();
        for number in 0..100 {
            let sender = sender.clone();
            asked.spawn(async move { pool.run("a", LIMIT, move || sender.send(number).unwrap()).await });
        }
        asked.join_all().await;
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        let failed = pool.run("a", LIMIT, || assert!(std::hint::black_box(false))).await;
        assert_eq!(failed, Err(JobError::Panicked));
        assert_eq!(pool.run("a", LIMIT, || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn addresses_take_no_thread() {
        for (host, text) in [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1")] {
            let pool = pool(1, 1);
            let found = resolve(pool, host, 1, LIMIT).await.unwrap();
            assert_eq!(found, [text.parse().unwrap()]);
            assert_eq!(pool.state().last_ticket, 0);
        }
        assert!(!resolve(pool(1, 1), "localhost", 1, LIMIT).await.unwrap().is_empty());
    }
}
