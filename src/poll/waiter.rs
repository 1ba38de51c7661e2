//! Waiting for an answer, and noticing that none comes.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::{SessionEnd, unreachable};
use crate::client::{BREAKS_UNACKNOWLEDGED, Peer, Reach, UNACKNOWLEDGED_LIMIT, reach};
use crate::clock::Mono;
use crate::poll::TargetHandle;
use crate::watch::Observation;

/// A timer that fires so late means that this process was not given the processor.
const STARVED_AFTER: Duration = Duration::from_millis(50);

/// Connections that only show whether one is accepted are at least this far apart.
const REACH_INTERVAL: Duration = Duration::from_secs(1);

/// Waits for answers, and notices when they don't come.
pub(super) struct Waiter<'a> {
    pub(super) watched: &'a TargetHandle,
    pub(super) stop: &'a CancellationToken,
    /// Where the connection leads.
    pub(super) peer: Peer,
    /// When it was last tried whether connections are accepted, and whether one was.
    pub(super) last_reach: Option<(Mono, bool)>,
    /// Nothing was ever answered on the connection before: until something is on this one, silence says nothing new.
    pub(super) doubtful: bool,
}

impl Waiter<'_> {
    /// Waits for what was sent just now. Without an answer for too long, a second connection, of which nothing
    /// but its being accepted is wanted, tells a server that is blocked from one that is gone.
    pub(super) async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, SessionEnd> {
        let clock = self.watched.clock();
        let since = clock.now().mono;
        let patience = self.watched.config().intervals.blocked_after;
        let mut blocked_at = since + patience;
        let mut answer = pin!(answer);
        for last in [false, true] {
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                () = self.stop.cancelled() => return Err(SessionEnd::Stopped),
                () = sleep_until(clock.instant(blocked_at)) => {}
            }
            // A timer that fires late means that we were not given the processor: the answer may lie there unread.
            let now = clock.now().mono;
            let late = now.since(blocked_at);
            if last || late < STARVED_AFTER {
                break;
            }
            blocked_at = now + late.min(patience);
        }
        let _held = loop {
            let earliest = self.last_reach.map_or(Mono::EPOCH, |(last, _)| last + REACH_INTERVAL);
            if matches!(self.last_reach, Some((_, true))) && clock.now().mono < earliest {
                // One was accepted a moment ago, in a blockage just before this one.
                break None;
            }
            let reaching = async {
                sleep_until(clock.instant(earliest)).await;
                (clock.now().mono, reach(&self.peer).await)
            };
            let (tried, reached) = tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                () = self.stop.cancelled() => return Err(SessionEnd::Stopped),
                reached = reaching => reached,
            };
            self.last_reach = Some((tried, matches!(reached, Reach::Accepted(_))));
            match reached {
                Reach::Accepted(link) => break Some(link),
                Reach::ErrorReply(error) => {
                    return Err(unreachable(
                        self.watched,
                        format!("it does not answer, and cannot be connected to: {error}"),
                    ));
                }
                Reach::Unclear => {}
            }
            // A full queue of new connections looks like a lost network. What tells them apart is whether the
            // peer's kernel still acknowledges what was sent: if not, our own connection breaks by itself.
            let unanswered = clock.now().mono.since(since);
            if matches!(self.peer, Peer::Unix(_))
                || (BREAKS_UNACKNOWLEDGED && unanswered > UNACKNOWLEDGED_LIMIT * 2)
            {
                break None;
            }
            if unanswered > UNACKNOWLEDGED_LIMIT * 2 {
                return Err(unreachable(self.watched, "nothing comes back".to_owned()));
            }
        };
        if !self.doubtful {
            self.watched.observe(Observation::Silent { since });
        }
        // The second connection is held until the answer comes, so that the server never has more of them.
        tokio::select! {
            biased;
            answer = &mut answer => Ok(answer),
            () = self.stop.cancelled() => Err(SessionEnd::Stopped),
        }
    }
}
