//! The HTTP server. What a client can make it hold is limited in number, size and time, so that slow and broken
//! clients keep nobody from a scrape.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connections::{Connections, Place, Text};
use super::watched::{WatchedBody, WatchedStream};

/// Time for a client to send a whole request head, and the longest pause between two requests: what idle clients hold
/// comes free soon. Prometheus opens a new connection where its old one was closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that a client may leave a response unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of a request head.
const MOST_HEAD_BYTES: usize = 16 << 10;

/// Most header lines of a request.
const MOST_HEADERS: usize = 64;

/// What the kernel may hold for a client that does not read, in bytes; it takes twice as much for its own bookkeeping.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Time for requests under way to end when the exporter stops.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause after an error of `accept` that is not the client's: out of file descriptors, most of all.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Errors of `accept` are told at most this often.
const TELL_ACCEPT_INTERVAL: Duration = Duration::from_secs(60);

/// Serves `router` on all `listeners` until `stop`. The limits hold for all of them together.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    let connections = Arc::new(Connections::default());
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(serve_one(listener, router.clone(), Arc::clone(&connections), stop.clone()));
    }
    // They end when all are told to stop; a panic in one is passed on.
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

async fn serve_one(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    stop: CancellationToken,
) {
    // Connections inherit it. Without it the kernel gives up to 4 MB to each client that does not read.
    if let Err(error) = SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER_BYTES) {
        debug!(%error, "the sockets keep the send buffers that the system gives them");
    }
    let graceful = GracefulShutdown::new();
    let mut told = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if told.is_none_or(|told: Instant| told.elapsed() >= TELL_ACCEPT_INTERVAL) {
                    warn!(%error, "cannot accept an HTTP connection");
                    told = Some(Instant::now());
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = tokio::select! {
            () = stop.cancelled() => break,
            place = connections.admit() => place,
        };
        // It fails where the client has gone already, which the connection will find out.
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream, place, router.clone(), graceful.watcher()));
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        debug!("HTTP requests were still under way");
    }
}

/// One connection, until either side ends it or it has to give way.
async fn connection(stream: TcpStream, place: Place, router: Router, watcher: Watcher) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let stream = WatchedStream::new(Box::pin(stream), Arc::clone(place.slot()));
    let router = TowerToHyperService::new(router);
    let place = Arc::new(place);
    let answer = service_fn(|request: Request<Incoming>| {
        let (place, router) = (Arc::clone(&place), router.clone());
        async move {
            place.slot().asked();
            let mut response = router.call(request).await?;
            if let Some(text) = response.extensions_mut().remove::<Text>() {
                place.hand_out(text);
            }
            Ok::<_, std::convert::Infallible>(
                response.map(|body| WatchedBody::new(body, Arc::clone(place.slot()))),
            )
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        () = place.displaced() => debug!("an HTTP connection gave way to a new one"),
        ended = watcher.watch(served) => {
            if let Err(error) = ended {
                debug!(%error, "an HTTP connection ended early");
            }
        }
    }
}
