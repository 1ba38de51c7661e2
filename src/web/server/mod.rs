//! HTTP server with limits on the number of connections, on sizes and on times, so that slow or broken clients do not
//! prevent scrapes.

pub(crate) mod body;
pub(crate) mod compress;
pub(crate) mod connections;
mod progress;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::body::BodyId;
use self::connections::{ConnectionPermit, Connections};
use self::progress::{ProgressBody, ProgressStream};
use crate::web::auth::WebAuth;
use crate::web::endpoints::Endpoints;

/// Timeout for the TLS handshake, for reading a request head, and for the pause between two requests. It is short so that
/// idle clients release memory soon; Prometheus reconnects.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without write progress after which a connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum size of a request head, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Maximum number of header lines of a request.
const MAX_HEADERS: usize = 64;

/// Size of the TLS write buffer of a connection, in bytes.
const TLS_BUFFER_BYTES: usize = 32 << 10;

/// Size of the kernel's send buffer of a connection, in bytes. Linux doubles it for its own bookkeeping.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Grace period at shutdown for requests in progress.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause after an error of `accept`, such as a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Minimum interval between two log lines about errors of `accept`.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Serves `endpoints` on all `listeners` until `stop` is cancelled, to clients that `auth` admits. The listeners share the
/// limits.
pub(crate) async fn serve(
    listeners: Vec<TcpListener>,
    endpoints: Endpoints,
    auth: Arc<WebAuth>,
    stop: CancellationToken,
) {
    let connections = Arc::new(Connections::default());
    let service = AuthenticatedEndpoints { endpoints, auth };
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(serve_listener(listener, service.clone(), Arc::clone(&connections), stop.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Address of the client that sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The endpoints and the authentication in front of them.
#[derive(Clone)]
struct AuthenticatedEndpoints {
    endpoints: Endpoints,
    auth: Arc<WebAuth>,
}

async fn serve_listener(
    listener: TcpListener,
    service: AuthenticatedEndpoints,
    connections: Arc<Connections>,
    stop: CancellationToken,
) {
    // Accepted sockets inherit this size. The default allows up to 4 MB for each client that does not read.
    if let Err(error) = SockRef::from(&listener).set_send_buffer_size(SEND_BUFFER_BYTES) {
        debug!(%error, "cannot set the size of the send buffers; using the system default");
    }
    let graceful = GracefulShutdown::new();
    let mut logged_at = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                if logged_at.is_none_or(|at: Instant| at.elapsed() >= ACCEPT_LOG_INTERVAL) {
                    warn!(%error, "cannot accept an HTTP connection");
                    logged_at = Some(Instant::now());
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = connections.acquire(peer) => permit,
        };
        // Fails only if the client has disconnected, which the first read reports too.
        let _ = stream.set_nodelay(true);
        let (service, watcher, stop) = (service.clone(), graceful.watcher(), stop.clone());
        tokio::spawn(async move {
            let permit = Arc::new(permit);
            tokio::select! {
                () = permit.evicted() => debug!("evicted an HTTP connection"),
                () = serve_connection(stream, peer, &permit, service, watcher, stop) => {}
            }
        });
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        debug!("closed HTTP connections with requests in progress");
    }
}

/// Limits the time without progress of a write.
fn limited(stream: TcpStream, limit: Duration) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limit));
    Box::pin(stream)
}

/// Serves one connection until either side closes it.
async fn serve_connection(
    stream: TcpStream,
    peer: IpAddr,
    permit: &Arc<ConnectionPermit>,
    service: AuthenticatedEndpoints,
    watcher: Watcher,
    stop: CancellationToken,
) {
    // Below TLS, so that it records writes to the socket itself.
    let stream = ProgressStream::new(limited(stream, WRITE_TIMEOUT), Arc::clone(permit.state()));
    let Some(tls) = service.auth.tls().await else {
        return serve_requests(stream, peer, permit, service, watcher).await;
    };
    let handshake = tls.accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER_BYTES)));
    tokio::select! {
        () = stop.cancelled() => {}
        result = timeout(HEAD_TIMEOUT, handshake) => match result {
            Ok(Ok(stream)) => serve_requests(stream, peer, permit, service, watcher).await,
            Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => debug!(%peer, "TLS handshake timed out"),
        }
    }
}

/// Serves the requests of one connection.
async fn serve_requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    permit: &Arc<ConnectionPermit>,
    service: AuthenticatedEndpoints,
    watcher: Watcher,
) {
    let respond = service_fn(|request: Request<Incoming>| {
        let (permit, service) = (Arc::clone(permit), service.clone());
        async move {
            let mut response = match service.auth.authorize(&request, peer).await {
                Ok(()) => {
                    // Not recorded for a rejected request: its connection stays among the first to be evicted.
                    permit.state().request_received();
                    service.endpoints.respond(request, Peer(peer)).await
                }
                Err(response) => response,
            };
            service.auth.add_headers(&mut response);
            if let Some(body) = response.extensions_mut().remove::<BodyId>() {
                permit.set_body(body);
            }
            Ok::<_, std::convert::Infallible>(
                response.map(|body| ProgressBody::new(body, Arc::clone(permit.state()))),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        // A client may close its side after the request; without this, a response that is not ready yet would be dropped.
        .half_close(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), respond);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "HTTP connection failed");
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_response_that_the_client_does_not_read_is_aborted() {
        const LIMIT: Duration = Duration::from_millis(50);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let mut stream = limited(accepted.unwrap().0, LIMIT);
        let begun = Instant::now();
        let write = async {
            loop {
                if let Err(error) = stream.write_all(&[0; 8 << 10]).await {
                    break error;
                }
            }
        };
        let error = timeout(Duration::from_secs(20), write).await.expect("an end of the response");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= LIMIT, "{:?}", begun.elapsed());
    }
}
