//! The task of one target: sends commands, waits for replies, and reports observations to [`watch`](crate::watch).
//!
//! A task has one connection and at most one request in flight. A request without a reply is not cancelled, because the time until
//! the reply is what is measured.

pub(crate) mod guard;
mod handle;
pub(crate) mod log_file;
mod session;
mod waiter;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{Level, debug};

pub(crate) use self::handle::{Shared, TargetHandle, WriteRequests};
use self::session::Session;
use self::waiter::Waiter;
use crate::client::{Connection, TlsSetup, Transport, connect_within};
use crate::clock::Mono;
use crate::convert::micros;
use crate::logging::event_log::Priority;
use crate::watch::{Observation, Outage, OutageReason};

/// Delay before the second connection attempt; it doubles with each further attempt.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Maximum delay between connection attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Minimum lifetime of a connection whose loss resets the backoff, so that the next attempt follows immediately.
const HEALTHY_AFTER: Duration = Duration::from_secs(2);

/// Number of times per interval at which heartbeats are sent, the same for all targets. Each separate wake-up takes CPU time.
const SLOTS: u64 = 40;

/// Time limit of the TLS handshake with a server that has never replied.
const FIRST_HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Remedy if a server that has never replied does not reply to the handshake.
const NO_TLS: &str = "The port may not use TLS: try redis:// instead of rediss://. Otherwise, a command is blocking the server or its process is stopped.";

/// Reason for the end of a session.
#[derive(Debug)]
enum SessionEnd {
    /// The connection failed or is no longer usable, with the reason.
    Lost(String),
    /// The connection ended without a single reply, with the reason.
    NoReply(String),
}

/// Logs the number of omitted log lines of a target when its task is aborted. The fleet does not do this for removed targets.
struct LogAtEnd<'a>(&'a TargetHandle);

impl Drop for LogAtEnd<'_> {
    fn drop(&mut self) {
        self.0.log_omitted(true);
    }
}

/// Polls one target until the task is aborted. This is cheaper than a cancellation token, which would be polled with each reply.
pub(crate) async fn watch(handle: Arc<TargetHandle>) {
    let handle = &*handle;
    let _log_at_end = LogAtEnd(handle);
    let mut backoff = Backoff::default();
    // A port that accepts connections but never replies on any of them is not a blocked server.
    let mut never_replied = false;
    loop {
        let began = handle.mono();
        let end = session(handle, never_replied).await;
        never_replied = matches!(end, SessionEnd::NoReply(_));
        let (SessionEnd::Lost(detail) | SessionEnd::NoReply(detail)) = end;
        if tracing::enabled!(Level::DEBUG) && handle.may_log(Priority::Low) {
            debug!(target = &*handle.config().name, detail, "connection ended");
        }
        let lasted = handle.mono().since(began);
        if lasted >= HEALTHY_AFTER && handle.numbers().liveness().state().kind().is_up() {
            backoff = Backoff::default();
        }
        sleep(backoff.next()).await;
    }
}

/// Exponential backoff between connection attempts, with jitter so that many exporters do not connect at the same time.
#[derive(Debug, Default)]
struct Backoff {
    /// Previous delay, without jitter; `None` before the first attempt.
    last: Option<Duration>,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = self.last.map_or(Duration::ZERO, |last| (last * 2).clamp(FIRST_BACKOFF, MAX_BACKOFF));
        self.last = Some(pause);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// Connects and runs a session until it ends.
async fn session(handle: &TargetHandle, never_replied: bool) -> SessionEnd {
    let config = handle.config();
    let dialled = connect_within(&config.address.endpoint, config.allow()).await;
    handle.dialled(dialled.as_ref());
    let transport = match dialled {
        Ok(transport) => transport,
        Err(error) => return unreachable(handle, error.outage()),
    };
    handle.observe(Observation::Connected { addresses: transport.addresses });
    let mut waiter = Waiter::new(handle, transport.endpoint.clone(), never_replied);
    let transport = match handle.tls() {
        None => transport,
        Some(tls) => match tls_handshake(&mut waiter, &tls, transport).await {
            Ok(transport) => transport,
            Err(end) => return end,
        },
    };
    Session::new(Connection::open(transport, config.commands.clone()), waiter).run().await
}

/// Performs the TLS handshake. A blocked server does not reply to it, and neither does a port without TLS, where Redis treats the
/// first bytes as a command and waits for the rest. There is therefore a time limit if the server has never replied.
async fn tls_handshake(
    waiter: &mut Waiter<'_>,
    tls: &TlsSetup,
    transport: Transport,
) -> Result<Transport, SessionEnd> {
    let handle = waiter.handle;
    let has_replied = handle.numbers().liveness().has_answered();
    let handshake = tls.handshake(transport);
    let limited = async {
        if has_replied { Ok(handshake.await) } else { timeout(FIRST_HANDSHAKE_LIMIT, handshake).await }
    };
    match waiter.wait(pin!(limited)).await? {
        Ok(Ok(transport)) => Ok(transport),
        Ok(Err(failure)) => Err(unreachable(handle, failure.outage())),
        Err(_) => {
            let seconds = FIRST_HANDSHAKE_LIMIT.as_secs();
            let detail = format!("no reply to the TLS handshake within {seconds} s");
            let reason = OutageReason::Tls { remedy: NO_TLS };
            handle.observe(Observation::Unreachable(Outage::new(reason, detail.clone())));
            Err(SessionEnd::NoReply(detail))
        }
    }
}

fn unreachable(handle: &TargetHandle, outage: Outage) -> SessionEnd {
    let detail = outage.detail.clone();
    handle.observe(Observation::Unreachable(outage));
    SessionEnd::Lost(detail)
}

fn unauthorized(handle: &TargetHandle, detail: String) -> SessionEnd {
    handle.observe(Observation::Unauthorized { detail: detail.clone() });
    SessionEnd::Lost(detail)
}

/// Returns the time nearest to `due` at which heartbeats are sent.
fn slot(due: Mono, interval: Duration) -> Mono {
    let slot = (micros(interval) / SLOTS).max(1);
    let due = micros(due.since(Mono::EPOCH)).saturating_add(slot / 2);
    Mono::EPOCH + Duration::from_micros(due - due % slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_of_all_targets_share_their_times_and_keep_their_interval() {
        let at = |micros| Mono::from_epoch(Duration::from_micros(micros));
        let interval = Duration::from_millis(200);
        for (due, expected) in [(0, 0), (2_499, 0), (2_500, 5_000), (7_499, 5_000), (1_003_000, 1_005_000)] {
            assert_eq!(slot(at(due), interval), at(expected), "{due} µs");
        }
        // A heartbeat that is sent slightly late does not delay the next ones.
        let mut sent = at(0);
        for _ in 0..100 {
            sent = slot(sent + interval, interval) + Duration::from_micros(300);
        }
        assert_eq!(sent, at(20_000_300));
        assert_eq!(slot(at(7), Duration::from_micros(1)), at(7), "shorter than a slot");
    }
}
