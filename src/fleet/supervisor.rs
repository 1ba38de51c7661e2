//! Tasks of the program: one per target, one per log file, and others. The tasks of a target start and end with it. The
//! program exits if a task panics or ends without having been stopped.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::fleet::Targets;
use crate::poll::{self, TargetHandle, guard, log_file};

/// Unexpected end of a task.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnexpectedEnd {
    /// The task with this name has returned.
    #[error("the task of {0} ended unexpectedly")]
    Returned(String),
    /// A task panicked.
    #[error(transparent)]
    Panicked(JoinError),
}

/// The tasks of the program.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// Parent of the tasks' tokens. Polling tasks have no token and are aborted instead.
    stop: CancellationToken,
    /// Running tasks; each returns its name, and true if it was stopped.
    tasks: JoinSet<(String, bool)>,
    /// Targets whose tasks run.
    running: Vec<Running>,
}

/// Tasks of a target.
#[derive(Debug)]
struct Running {
    handle: Arc<TargetHandle>,
    poll: AbortHandle,
    /// Stops the tasks of the guard and of the log file.
    stop: CancellationToken,
}

impl Running {
    fn stop(&self) {
        self.poll.abort();
        self.stop.cancel();
    }
}

impl Supervisor {
    /// Creates a supervisor without tasks. `stop` is the parent of the tokens of the tasks that it starts.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { stop, tasks: JoinSet::new(), running: Vec::new() }
    }

    /// Starts a task that ends when its token is cancelled.
    pub(crate) fn start<F>(&mut self, name: impl Into<String>, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.child_token();
        self.start_until(name.into(), stop.clone(), task(stop));
    }

    fn start_until(
        &mut self,
        name: String,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        // Boxed, because the block below would otherwise contain it twice.
        let task = Box::pin(task);
        self.tasks.spawn(async move {
            task.await;
            (name, stop.is_cancelled())
        });
    }

    /// Starts the tasks of new targets, and stops those of targets that are no longer in the list.
    pub(crate) fn watch(&mut self, targets: &Targets) {
        let wanted: HashSet<*const TargetHandle> = targets.iter().map(Arc::as_ptr).collect();
        self.running.retain(|running| {
            let stays = wanted.contains(&Arc::as_ptr(&running.handle));
            if !stays {
                running.stop();
            }
            stays
        });
        let running: HashSet<*const TargetHandle> =
            self.running.iter().map(|running| Arc::as_ptr(&running.handle)).collect();
        for target in targets.iter().filter(|target| !running.contains(&Arc::as_ptr(target))) {
            let stop = self.stop.child_token();
            let handle = Arc::clone(target);
            // Boxed, because the block would otherwise contain it twice.
            let task = Box::pin(poll::watch(Arc::clone(target)));
            let poll = self.tasks.spawn(async move {
                task.await;
                (handle.name().to_owned(), false)
            });
            self.running.push(Running { handle: Arc::clone(target), poll, stop: stop.clone() });
            if let Some(config) = target.config().guard.clone() {
                let (handle, stopped) = (Arc::clone(target), stop.clone());
                let task = async move { guard::watch(&handle, &config, &stopped).await };
                self.start_until(format!("the guard of {}", target.name()), stop.clone(), task);
            }
            if let Some(path) = target.config().log_file.clone() {
                let (handle, stopped) = (Arc::clone(target), stop.clone());
                let task = async move { log_file::follow(handle, &path, stopped).await };
                self.start_until("the log file".to_owned(), stop, task);
            }
        }
    }

    /// Waits until a task panics or ends without having been stopped.
    pub(crate) async fn unexpected_end(&mut self) -> UnexpectedEnd {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((_, true))) => {}
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Ok((name, false))) => return UnexpectedEnd::Returned(name),
                Some(Err(error)) => return UnexpectedEnd::Panicked(error),
                // No task is running.
                None => std::future::pending().await,
            }
        }
    }

    /// Stops all tasks and waits for their end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        self.running.iter().for_each(Running::stop);
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::cli::Cli;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::fleet::Fleet;
    use crate::watch::Target;

    /// With 10,000 targets, there are 10,000 such tasks.
    #[test]
    fn the_task_of_a_target_is_small() {
        let words = ["redis-script-exporter", "--redis.addr=a"];
        let cli = Cli::parse_words(words, |_| None).unwrap();
        let fleet = Fleet::new(Config::from_cli(&cli).unwrap().targets, None, Clock::start()).unwrap();
        let handle = Arc::clone(&fleet.targets()[0]);
        let sizes = (size_of::<Target>(), size_of_val(&poll::watch(handle)));
        assert!(sizes.0 <= 3584 && sizes.1 <= 4608, "{sizes:?}");
    }

    #[tokio::test]
    async fn a_panic_ends_the_process_and_a_cancelled_task_does_not() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.start("a quiet one", |stop| async move { stop.cancelled().await });
        supervisor.start("a broken one", |_| async { panic!("all is lost") });
        let told = supervisor.unexpected_end().await.to_string();
        assert!(told.contains("panicked") && told.contains("all is lost"), "{told}");
        supervisor.start("a lazy one", |_| async {});
        assert_eq!(
            supervisor.unexpected_end().await.to_string(),
            "the task of a lazy one ended unexpectedly"
        );
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn a_panic_under_a_lock_is_reported_and_releases_the_lock() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        let lock = Arc::new(Mutex::new(1));
        let held = Arc::clone(&lock);
        supervisor.start("a broken one", |_| async move {
            let _held = held.lock();
            panic!("under the lock");
        });
        let end = supervisor.unexpected_end().await.to_string();
        assert!(end.contains("under the lock"), "{end}");
        // The remaining code, such as the last write of the state file, can still read the numbers.
        assert_eq!(lock.try_lock().as_deref(), Some(&1));
    }
}
