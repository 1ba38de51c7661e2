//! Waiting for replies, and detection of servers that do not reply.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{SessionEnd, slot, unreachable};
use crate::client::{
    BREAKS_UNACKNOWLEDGED, Reachability, ResolvedEndpoint, UNACKNOWLEDGED_LIMIT, reachability,
};
use crate::clock::Mono;
use crate::poll::TargetHandle;
use crate::watch::{Observation, Outage, OutageReason};

/// Minimum delay of a timer at which this process is considered short of CPU time.
const STARVED_AFTER: Duration = Duration::from_millis(50);

/// Minimum interval between two reachability checks.
const REACHABILITY_INTERVAL: Duration = Duration::from_secs(1);

/// Result of the last reachability check.
#[derive(Debug, Clone, Copy)]
struct Check {
    at: Mono,
    /// True if the connection was accepted.
    accepted: bool,
}

/// Timer of a session, for the pauses between its commands and for the time limit of replies. It is registered with the runtime
/// only once per heartbeat, because each registration costs as much as a reply.
struct Timer(Pin<Box<Sleep>>);

impl Timer {
    /// Waits until `at`. Unless an earlier time is already registered, registers `first`, the time at which the next wait is
    /// expected to end, or `at` if that is earlier.
    async fn wait(&mut self, at: Instant, first: Instant) {
        if self.0.is_elapsed() || self.0.deadline() > at {
            self.0.as_mut().reset(first.min(at));
        }
        loop {
            self.0.as_mut().await;
            if self.0.deadline() >= at {
                return;
            }
            self.0.as_mut().reset(at);
        }
    }
}

/// Waits for replies, and reports a server that does not reply.
pub(super) struct Waiter<'a> {
    pub(super) handle: &'a TargetHandle,
    /// Remote address of the connection.
    endpoint: ResolvedEndpoint,
    last_check: Option<Check>,
    timer: Timer,
    /// True if there was no reply on the previous connection. A missing reply is then not reported as a blockage until there has
    /// been a reply on this connection.
    pub(super) never_replied: bool,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(handle: &'a TargetHandle, endpoint: ResolvedEndpoint, never_replied: bool) -> Self {
        let clock = handle.clock();
        let timer = Timer(Box::pin(sleep_until(clock.instant(clock.mono()))));
        Self { handle, endpoint, last_check: None, timer, never_replied }
    }

    /// Waits until `at`.
    pub(super) async fn sleep_until(&mut self, at: Mono) {
        let clock = self.handle.clock();
        let due = at.max(clock.mono());
        // Moving the timer to a later time costs nothing.
        self.timer.0.as_mut().reset(clock.instant(at));
        self.timer.0.as_mut().await;
        let now = clock.mono();
        self.handle.poll_begins(now.since(due), now);
    }

    /// Waits for the reply to a request that has just been sent. If there is none within `--heartbeat.blocked-after`, opens a
    /// second connection to distinguish a blocked server, which accepts it, from one that is down.
    pub(super) async fn wait<T>(
        &mut self,
        mut reply: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, SessionEnd> {
        let clock = self.handle.clock();
        let since = clock.mono();
        let intervals = self.handle.config().intervals;
        let interval = self.handle.stretched(intervals.heartbeat);
        let next_command = clock.instant(slot(since + interval, interval));
        let limit = intervals.blocked_after;
        let mut blocked_at = since + limit;
        for is_last in [false, true] {
            tokio::select! {
                biased;
                reply = &mut reply => return Ok(reply),
                () = self.timer.wait(clock.instant(blocked_at), next_command) => {}
            }
            // If the timer is late, this process lacked CPU time, and the reply may have arrived in the meantime.
            let now = clock.mono();
            let late = now.since(blocked_at);
            if is_last || late < STARVED_AFTER {
                break;
            }
            blocked_at = now + late.min(limit);
        }
        let _held = loop {
            let earliest = self.last_check.map_or(Mono::EPOCH, |check| check.at + REACHABILITY_INTERVAL);
            if self.last_check.is_some_and(|check| check.accepted) && clock.mono() < earliest {
                // The result from the previous blockage is less than an interval old and still valid.
                break None;
            }
            let checking = async {
                sleep_until(clock.instant(earliest)).await;
                (clock.mono(), reachability(&self.endpoint).await)
            };
            let (at, result) = tokio::select! {
                biased;
                reply = &mut reply => return Ok(reply),
                result = checking => result,
            };
            self.last_check = Some(Check { at, accepted: matches!(result, Reachability::Accepted(_)) });
            match result {
                Reachability::Accepted(transport) => break Some(transport),
                Reachability::Refused(error) => {
                    return Err(unreachable(
                        self.handle,
                        Outage::new(
                            OutageReason::Refused,
                            format!("the server does not reply, and a second connection failed: {error}"),
                        ),
                    ));
                }
                Reachability::Unknown => {}
            }
            // A full accept queue looks like a network failure. After a real network failure, the peer's kernel does not
            // acknowledge the request, and the local kernel closes the connection.
            let unanswered = clock.mono().since(since);
            if matches!(self.endpoint, ResolvedEndpoint::Unix(_))
                || (BREAKS_UNACKNOWLEDGED && unanswered > UNACKNOWLEDGED_LIMIT * 2)
            {
                break None;
            }
            if unanswered > UNACKNOWLEDGED_LIMIT * 2 {
                let outage = Outage::new(OutageReason::Silence, "no packets received from the server");
                return Err(unreachable(self.handle, outage));
            }
        };
        if !self.never_replied {
            self.handle.observe(Observation::Silent { since });
        }
        // Holding the second connection until the reply arrives limits the number of connections to two.
        Ok(reply.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timer_never_ends_before_its_time() {
        let clock = crate::clock::Clock::start();
        let after = |millis| clock.instant(clock.mono() + Duration::from_millis(millis));
        let mut timer = Timer(Box::pin(sleep_until(after(0))));
        for (millis, first) in [(30, 10), (10, 30), (20, 20)] {
            let (at, first) = (after(millis), after(first));
            timer.wait(at, first).await;
            assert!(clock.instant(clock.mono()) >= at, "{millis} ms");
        }
        // An abandoned wait leaves its time registered: earlier than the next one, or much later.
        for abandoned in [10, 3_600_000] {
            let first = after(abandoned);
            let given_up = tokio::time::timeout(Duration::ZERO, timer.wait(after(3_600_000), first)).await;
            assert!(given_up.is_err());
            let at = after(30);
            timer.wait(at, at).await;
            assert!(clock.instant(clock.mono()) >= at, "{abandoned} ms");
        }
    }
}
