//! The task of one target: asks, waits, and passes on what it saw.
//!
//! One connection, one request at a time. A request that stays unanswered is not cancelled and nothing more is
//! sent behind it: that it is unanswered is what we want to know. Deciding what it means is
//! [`watch`](crate::watch)'s.

mod handle;
pub(crate) mod log_file;
mod session;
mod waiter;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug};

pub(crate) use self::handle::{Shared, TargetHandle};
use self::session::Session;
use self::waiter::Waiter;
use crate::client::{Connection, Link, TlsSetup, connect_within};
use crate::logging::event_log::Priority;
use crate::watch::Observation;

/// The first pause before a connection that was lost at once is dialled again; it doubles from there.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The longest such pause.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A connection that worked for so long is dialled again at once.
const HEALTHY_AFTER: Duration = Duration::from_secs(2);

/// Time for the TLS handshake with an address that has never answered.
const FIRST_HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Why a session is over.
#[derive(Debug)]
enum SessionEnd {
    /// The exporter stops.
    Stopped,
    /// The connection is of no use any more.
    Broken(String),
    /// The connection was made, and nothing was ever answered on it.
    Mute(String),
}

/// Watches one target until `stop`.
pub(crate) async fn watch(watched: Arc<TargetHandle>, stop: CancellationToken) {
    poll(&watched, stop).await;
    // It may be no longer among the fleet's.
    watched.log_omitted(true);
}

async fn poll(watched: &TargetHandle, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    // A port that accepts and then says nothing, again and again, is no blocked server.
    let mut doubtful = false;
    loop {
        let began = watched.now().mono;
        let over = session(watched, &stop, doubtful).await;
        doubtful = matches!(over, SessionEnd::Mute(_));
        match over {
            SessionEnd::Stopped => return,
            SessionEnd::Broken(detail) | SessionEnd::Mute(detail) => {
                if tracing::enabled!(Level::DEBUG) && watched.may_log(Priority::Low) {
                    debug!(target = &*watched.config().name, detail, "connection ended");
                }
            }
        }
        let lasted = watched.now().mono.since(began);
        if lasted >= HEALTHY_AFTER && watched.numbers().liveness().state().kind().is_up() {
            backoff = Backoff::default();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(backoff.next()) => {}
        }
    }
}

/// Pauses between attempts: none, then doubling, with jitter so that many exporters don't come at once.
#[derive(Debug, Default)]
struct Backoff {
    /// The pause before this one, without jitter; `None` before the first attempt.
    last: Option<Duration>,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let pause = self.last.map_or(Duration::ZERO, |last| (last * 2).clamp(FIRST_BACKOFF, MAX_BACKOFF));
        self.last = Some(pause);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// One connection, from the first byte to the last.
async fn session(watched: &TargetHandle, stop: &CancellationToken, doubtful: bool) -> SessionEnd {
    let config = watched.config();
    let connecting = connect_within(&config.address.endpoint, config.allow());
    let link = tokio::select! {
        () = stop.cancelled() => return SessionEnd::Stopped,
        link = connecting => link,
    };
    watched.dialled(link.as_ref());
    let link = match link {
        Ok(link) => link,
        Err(error) => return unreachable(watched, error.to_string()),
    };
    watched.observe(Observation::Connected);
    let mut waiter = Waiter { watched, stop, peer: link.peer.clone(), last_reach: None, doubtful };
    let link = match watched.tls() {
        None => link,
        Some(tls) => match begin_tls(&mut waiter, &tls, link).await {
            Ok(link) => link,
            Err(over) => return over,
        },
    };
    match Connection::open(link).await {
        Ok(connection) => Session::new(connection, waiter).run().await,
        Err(failure) => unreachable(watched, failure.to_string()),
    }
}

/// The TLS handshake. A blocked server leaves it unanswered; but so does a port that does not speak TLS (Redis waits
/// for the rest of what it takes for a command), so an address that has never answered is not waited for without end.
async fn begin_tls(waiter: &mut Waiter<'_>, tls: &TlsSetup, link: Link) -> Result<Link, SessionEnd> {
    let watched = waiter.watched;
    let known = watched.numbers().liveness().has_answered();
    let handshake = tls.begin(link);
    let limited =
        async { if known { Ok(handshake.await) } else { timeout(FIRST_HANDSHAKE_LIMIT, handshake).await } };
    match waiter.wait(limited).await? {
        Ok(Ok(link)) => Ok(link),
        Ok(Err(error)) => Err(unreachable(watched, format!("the TLS handshake failed: {error}"))),
        Err(_) => {
            let seconds = FIRST_HANDSHAKE_LIMIT.as_secs();
            let detail =
                format!("the TLS handshake was not answered within {seconds} s; does this port speak TLS?");
            watched.observe(Observation::Unreachable { detail: detail.clone() });
            Err(SessionEnd::Mute(detail))
        }
    }
}

fn unreachable(watched: &TargetHandle, detail: String) -> SessionEnd {
    watched.observe(Observation::Unreachable { detail: detail.clone() });
    SessionEnd::Broken(detail)
}

fn unauthorized(watched: &TargetHandle, detail: String) -> SessionEnd {
    watched.observe(Observation::Unauthorized { detail: detail.clone() });
    SessionEnd::Broken(detail)
}
