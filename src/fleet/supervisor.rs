//! Who runs: one task per target, one per log file that is followed, and whatever else the program needs. The targets
//! may change at any time; a task that ends before it was told to ends the program.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fleet::Targets;
use crate::poll::{self, TargetHandle, log_file};

/// A task ended that never should.
#[derive(Debug, thiserror::Error)]
#[error("the task of {name} ended unexpectedly")]
pub(crate) struct UnexpectedEnd {
    /// What it was for.
    name: String,
}

/// The tasks of the program.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// Ends all tasks.
    stop: CancellationToken,
    /// Each gives what it was for, and whether it was told to end.
    tasks: JoinSet<(String, bool)>,
    /// The targets whose tasks run, and what ends them.
    watched: Vec<(Arc<TargetHandle>, CancellationToken)>,
}

impl Supervisor {
    /// No tasks yet; `stop` ends those to come.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { stop, tasks: JoinSet::new(), watched: Vec::new() }
    }

    /// Runs a task until it is told to stop.
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
        // In the block itself it would take its size twice.
        let task = Box::pin(task);
        self.tasks.spawn(async move {
            task.await;
            (name, stop.is_cancelled())
        });
    }

    /// Starts the tasks of targets that are new and ends those of targets that are gone.
    pub(crate) fn watch(&mut self, targets: &Targets) {
        let wanted: HashSet<*const TargetHandle> = targets.iter().map(Arc::as_ptr).collect();
        self.watched.retain(|(watched, stop)| {
            let stays = wanted.contains(&Arc::as_ptr(watched));
            if !stays {
                stop.cancel();
            }
            stays
        });
        let running: HashSet<*const TargetHandle> =
            self.watched.iter().map(|(watched, _)| Arc::as_ptr(watched)).collect();
        for target in targets.iter().filter(|target| !running.contains(&Arc::as_ptr(target))) {
            let stop = self.stop.child_token();
            self.watched.push((Arc::clone(target), stop.clone()));
            let task = poll::watch(Arc::clone(target), stop.clone());
            self.start_until(target.config().name.to_string(), stop.clone(), task);
            if let Some(path) = target.config().log_file.clone() {
                let (watched, stopped) = (Arc::clone(target), stop.clone());
                let task = async move { log_file::follow(watched, &path, stopped).await };
                self.start_until("the log file".to_owned(), stop, task);
            }
        }
    }

    /// Waits for a task that ends without having been told to, or panics.
    ///
    /// # Errors
    /// Always: what the task was for.
    pub(crate) async fn unexpected_end(&mut self) -> UnexpectedEnd {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((_, true))) => {}
                Some(Ok((name, false))) => return UnexpectedEnd { name },
                Some(Err(error)) => return UnexpectedEnd { name: error.to_string() },
                // Nothing runs, so nothing can end.
                None => std::future::pending().await,
            }
        }
    }

    /// Ends all tasks and waits until they have.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_end_and_being_told_to_stop_is_none() {
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
}
