//! Long-running jobs, on a thread with a lower priority than the polls: rendering 10,000 targets takes a few tenths of a second
//! of CPU time, which could otherwise delay the polls. If a lower priority is not enough, the job pauses.

use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// Increase of the thread's nice value. On a busy core, the polls get three times as much CPU time as the thread: with 10,000
/// targets, they need two thirds of a core. On a busy machine, so do other programs: with an increase of 10, a scrape took seconds,
/// and at a nice value of 19 the thread could be starved for a long time while holding the lock of a target.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Maximum nice value.
#[cfg(target_os = "linux")]
const MAX_NICE: i32 = 19;

/// Duration of one pause of a job.
const PAUSE: Duration = Duration::from_millis(2);

/// Maximum number of pauses of a job. They delay a job by about 0.2 s on a machine that is always short of CPU time.
const MAX_PAUSES: u32 = 100;

/// Failure of a job.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackgroundError {
    /// The thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The job panicked.
    #[error("the thread ended without a result")]
    Ended,
}

/// Runs a job on its own thread, and waits for the result.
pub(super) async fn run<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackgroundError> {
    let (sender, result) = oneshot::channel();
    let run = move || {
        lower_priority();
        // The client may have disconnected.
        let _ = sender.send(job());
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(run)?;
    result.await.map_err(|_| BackgroundError::Ended)
}

/// Pauses of a job that let late polls run.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    taken: u32,
}

impl Pauses {
    /// Blocks the calling thread while polls are late, up to [`MAX_PAUSES`] times per job. The caller must not hold a lock.
    #[expect(clippy::disallowed_methods, reason = "a job's thread is not a worker of the runtime")]
    pub(super) fn while_late(&mut self, polls_are_late: impl Fn() -> bool) {
        while self.taken < MAX_PAUSES && polls_are_late() {
            thread::sleep(PAUSE);
            self.taken += 1;
        }
    }
}

/// Lowers the priority of the calling thread on Linux. Elsewhere it does nothing, because a priority applies to the whole
/// process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let nice = getpriority_process(None).unwrap_or_default();
        // Lowering the priority is always permitted. If it fails nevertheless, polls may be late during a scrape.
        let _ = setpriority_process(None, nice.saturating_add(NICE).min(MAX_NICE));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_job_has_a_lower_priority_than_its_caller() {
        use rustix::process::getpriority_process;
        let own = getpriority_process(None).unwrap();
        let of_job = run(|| getpriority_process(None).unwrap()).await.unwrap();
        assert_eq!(of_job, (own + NICE).min(MAX_NICE));
        assert_eq!(getpriority_process(None).unwrap(), own);
    }

    #[test]
    fn a_job_pauses_while_polls_are_late_but_not_for_ever() {
        let (mut pauses, asked) = (Pauses::default(), Cell::new(0));
        pauses.while_late(|| {
            asked.set(asked.get() + 1);
            asked.get() <= 3
        });
        assert_eq!((pauses.taken, asked.get()), (3, 4));
        pauses.while_late(|| true);
        assert_eq!(pauses.taken, MAX_PAUSES);
        pauses.while_late(|| unreachable!("it has paused enough"));
    }

    #[tokio::test]
    async fn a_job_that_panics_is_an_error() {
        let result = run(|| assert!(std::hint::black_box(false), "as intended")).await;
        assert!(matches!(result, Err(BackgroundError::Ended)), "{result:?}");
    }
}
