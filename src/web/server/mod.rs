//! The HTTP server. What a client can make it hold is limited in number, size and time, so that slow and broken
//! clients keep nobody from a scrape.

pub(crate) mod body;
pub(crate) mod compress;
pub(crate) mod connections;
mod progress;

use std::net::IpAddr;
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::connections::{ConnectionPermit, Connections, Text};
use self::progress::{ProgressBody, ProgressStream};
use crate::web::auth::WebAuth;

/// Time for a client to go through with TLS, to send a whole request head, and the longest pause between two requests: what idle clients hold
/// comes free soon. Prometheus opens a new connection where its old one was closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that a client may leave a response unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most bytes of a request head.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Most header lines of a request.
const MAX_HEADERS: usize = 64;

/// What TLS may hold of a response that a client does not read, in bytes.
const TLS_BUFFER_BYTES: usize = 32 << 10;

/// What the kernel may hold for a client that does not read, in bytes; it takes twice as much for its own bookkeeping.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Time for requests under way to end when the exporter stops.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause after an error of `accept` that is not the client's: out of file descriptors, most of all.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Errors of `accept` are told at most this often.
const TELL_ACCEPT_INTERVAL: Duration = Duration::from_secs(60);

/// Serves `router` on all `listeners` to whom `door` lets in, until `stop`. The limits hold for all of them together.
pub(crate) async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    door: Arc<WebAuth>,
    stop: CancellationToken,
) {
    let connections = Arc::new(Connections::default());
    let site = Site { router, door };
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(serve_one(listener, site.clone(), Arc::clone(&connections), stop.clone()));
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

/// What clients come for, and who is let in to it.
#[derive(Clone)]
struct Site {
    router: Router,
    door: Arc<WebAuth>,
}

async fn serve_one(
    listener: TcpListener,
    site: Site,
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
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
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
        let (site, watcher, stop) = (site.clone(), graceful.watcher(), stop.clone());
        tokio::spawn(async move {
            let place = Arc::new(place);
            tokio::select! {
                () = place.displaced() => debug!("an HTTP connection gave way to a new one"),
                () = connection(stream, peer, &place, site, watcher, stop) => {}
            }
        });
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        debug!("HTTP requests were still under way");
    }
}

/// One connection, until either side ends it.
async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    place: &Arc<ConnectionPermit>,
    site: Site,
    watcher: Watcher,
    stop: CancellationToken,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    // Below TLS: what a client has taken is what has left the socket.
    let stream = ProgressStream::new(Box::pin(stream), Arc::clone(place.slot()));
    let Some(tls) = site.door.tls().await else {
        return requests(stream, peer, place, site, watcher).await;
    };
    let handshake = tls.accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
    tokio::select! {
        () = stop.cancelled() => {}
        begun = timeout(HEAD_TIMEOUT, handshake) => match begun {
            Ok(Ok(stream)) => requests(stream, peer, place, site, watcher).await,
            Ok(Err(error)) => debug!(%peer, %error, "a client did not go through with TLS"),
            Err(_) => debug!(%peer, "a client took too long to begin TLS"),
        }
    }
}

/// The requests of one connection.
async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    place: &Arc<ConnectionPermit>,
    site: Site,
    watcher: Watcher,
) {
    let router = TowerToHyperService::new(site.router);
    let answer = service_fn(|request: Request<Incoming>| {
        let (place, router, door) = (Arc::clone(place), router.clone(), Arc::clone(&site.door));
        async move {
            let mut response = match door.admit(&request, peer).await {
                Ok(()) => {
                    // Who is not let in goes on owing a request: he gives way before those who are.
                    place.slot().asked();
                    router.call(request).await?
                }
                Err(response) => response,
            };
            door.dress(&mut response);
            if let Some(text) = response.extensions_mut().remove::<Text>() {
                place.hand_out(text);
            }
            Ok::<_, std::convert::Infallible>(
                response.map(|body| ProgressBody::new(body, Arc::clone(place.slot()))),
            )
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = watcher.watch(served).await {
        debug!(%error, "an HTTP connection ended early");
    }
}
