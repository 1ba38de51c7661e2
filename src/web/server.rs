//! The HTTP server. What a client can make it hold is limited in number, size and time, so that slow and broken
//! clients keep nobody from a scrape.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at a time; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 512;

/// Time for a client to send a whole request head, and the longest pause between two requests: what idle clients hold
/// comes free soon. Prometheus opens a new connection where its old one was closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that a client may leave a response unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of a request head.
const MOST_HEAD_BYTES: usize = 16 << 10;

/// Time for requests under way to end when the exporter stops.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause after an error of `accept` that is not the client's: out of file descriptors, most of all.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Errors of `accept` are told at most this often.
const TELL_ACCEPT_INTERVAL: Duration = Duration::from_secs(60);

/// Serves `router` on `listener` until `stop`.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut told = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if told.is_none_or(|told: Instant| told.elapsed() >= TELL_ACCEPT_INTERVAL) {
                    warn!(%error, "cannot accept an HTTP connection");
                    told = Some(Instant::now());
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MOST_HEAD_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "an HTTP connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        debug!("HTTP requests were still under way");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}
