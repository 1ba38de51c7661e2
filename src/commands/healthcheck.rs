//! `redis-script-exporter healthcheck`: requests `/-/healthy` from the exporter on this machine, for containers without a shell.
//!
//! The file of `--web.config.file` is not read because it may have become invalid while the exporter still uses its previous
//! content. If the flag is given, TLS is tried first.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, InvalidMessage, SignatureScheme};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::AnyCertificate;
use crate::config::{ListenAddress, WebConfig};

/// Maximum time to wait for the response.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum time to wait for a rejection by an exporter that requested a client certificate and received none.
const REJECTION_TIMEOUT: Duration = Duration::from_millis(300);

/// Requests `/-/healthy` from the first listen address.
///
/// # Errors
/// Description of the failure in one line.
pub(crate) async fn run(web: &WebConfig) -> Result<(), String> {
    let address = web.listen.first().map(ListenAddress::local_address).unwrap_or_default();
    let request = async {
        if web.config_file.is_none() {
            return request_plain(&address).await;
        }
        match request_tls(&address).await {
            Err(error) if is_plain_http(error.as_ref()) => request_plain(&address).await,
            status => status,
        }
    };
    let problem = match timeout(TIMEOUT, request).await {
        Ok(Ok(200)) => return Ok(()),
        Ok(Ok(status)) => format!("response has status {status}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no response within {} s", TIMEOUT.as_secs()),
    };
    Err(format!("http://{address}/-/healthy: {problem}"))
}

type BoxError = Box<dyn Error + Send + Sync>;

async fn request_plain(address: &str) -> Result<u16, BoxError> {
    status(TcpStream::connect(address).await?, address).await
}

/// Sends the request over TLS. Any certificate is accepted, because certificates are issued for the names by which clients reach
/// the exporter, not for the loopback address.
///
/// No client certificate is available here. An exporter that rejects the connection for that reason is considered healthy, because
/// it accepts connections and completes handshakes.
async fn request_tls(address: &str) -> Result<u16, BoxError> {
    let provider = Arc::new(ring::default_provider());
    let requests = Arc::new(CertificateRequests::default());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_client_cert_resolver(Arc::<CertificateRequests>::clone(&requests));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost")?;
    let stream = TcpStream::connect(address).await?;
    let mut stream = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Err(error) if requires_certificate(&error) => return Ok(200),
        connected => connected?,
    };
    if requests.0.load(Ordering::Relaxed) {
        // In TLS 1.3, the rejection arrives after the handshake.
        let rejection = timeout(REJECTION_TIMEOUT, stream.read_u8()).await;
        match rejection {
            Ok(Err(error)) if requires_certificate(&error) => return Ok(200),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(_)) => return Err("data before the request".into()),
            Err(_) => {}
        }
    }
    status(stream, address).await
}

/// Sends the request and returns the status code of the response.
async fn status(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: &str,
) -> Result<u16, BoxError> {
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/-/healthy").header(header::HOST, address).body(Body::empty())?;
    Ok(requests.send_request(request).await?.status().as_u16())
}

fn requires_certificate(error: &io::Error) -> bool {
    matches!(rustls_error(error), Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)))
}

/// Returns true if the peer does not use TLS, so it may serve plain HTTP.
fn is_plain_http(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>().and_then(rustls_error);
    matches!(error, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Resolver without a client certificate. The flag is true once the server has requested one.
#[derive(Debug, Default)]
struct CertificateRequests(AtomicBool);

impl ResolvesClientCert for CertificateRequests {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}
