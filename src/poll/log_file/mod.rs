//! Tails the server's log, which names a script when it exceeds the time limit. For EVAL and EVALSHA, this is the only source of
//! the name while the script is running.

mod follower;

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::follower::{Batch, Follower, MAX_FILES};
use crate::blocking::{JobError, LOG_FILES, folder_of};
use crate::clock::Mono;
use crate::logging::event_log::Priority;
use crate::poll::TargetHandle;
use crate::watch::Observation;

/// Interval between reads.
const INTERVAL: Duration = Duration::from_millis(100);

/// Time after which a read is reported as late.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// Tails the files denoted by `path` until `stop` is cancelled, and reports the scripts named in them.
pub(crate) async fn follow(handle: Arc<TargetHandle>, path: &Path, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow_on(&handle, path) => {}
    }
}

async fn follow_on(handle: &TargetHandle, path: &Path) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower::new(path);
    let mut reports = Reports { handle, path, readable: true, complete: true };
    // Start of the last read that reached the end of the files; lines found by the next read were written after it.
    let mut written_after = Mono::EPOCH;
    loop {
        ticks.tick().await;
        let begun = handle.mono();
        let mut reading = pin!(LOG_FILES.run(folder_of(path), Duration::MAX, move || {
            let batch = follower.next_batch();
            (follower, batch)
        }));
        let finished = if let Ok(finished) = timeout(READ_LIMIT, &mut reading).await {
            finished
        } else {
            reports.unreadable(&JobError::TimedOut(READ_LIMIT).into());
            reading.await
        };
        let batch;
        (follower, batch) = finished.unwrap_or_else(|error| {
            (Follower::new(path), Batch { error: Some(error.into()), ..Batch::default() })
        });
        reports.batch(&batch);
        if batch.is_new {
            written_after = Mono::EPOCH;
        }
        for line in batch.lines {
            handle.observe(Observation::Logged { line, written_after });
        }
        // A file that has just appeared may not be fully copied yet.
        if batch.is_at_end && !batch.is_new {
            written_after = begun;
        } else if batch.error.is_some() {
            written_after = Mono::EPOCH;
        }
    }
}

/// Logs the status of the files whenever it changes.
struct Reports<'a> {
    handle: &'a TargetHandle,
    path: &'a Path,
    /// False after a failed read.
    readable: bool,
    /// False if more than [`MAX_FILES`] files match.
    complete: bool,
}

impl Reports<'_> {
    fn batch(&mut self, batch: &Batch) {
        match &batch.error {
            Some(error) => self.unreadable(error),
            None if !self.readable => {
                self.readable = true;
                if self.handle.may_log(Priority::Medium) {
                    info!(
                        target = self.handle.name(),
                        file = %self.path.display(),
                        "reading the server's log file"
                    );
                }
            }
            None => {}
        }
        if batch.skipped > 0 && self.handle.may_log(Priority::Medium) {
            warn!(
                target = self.handle.name(),
                file = %self.path.display(),
                skipped_bytes = batch.skipped,
                "--redis.log-file grows faster than it can be read; skipping to near its end"
            );
        }
        if let Some(matches) = batch.matches {
            let was_complete = std::mem::replace(&mut self.complete, matches <= MAX_FILES);
            if was_complete && !self.complete && self.handle.may_log(Priority::Medium) {
                warn!(
                    target = self.handle.name(),
                    file = %self.path.display(),
                    matches,
                    "--redis.log-file matches more than {MAX_FILES} files; only the newest are read"
                );
            }
        }
    }

    fn unreadable(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.readable, false) && self.handle.may_log(Priority::Medium) {
            warn!(
                target = self.handle.name(),
                file = %self.path.display(),
                %error,
                "--redis.log-file cannot be read: scripts are not named while they run"
            );
        }
    }
}
