//! `redis-script-exporter healthcheck`: asks the exporter that runs on this machine, for containers without a
//! shell.
//!
//! The file of `--web.config.file` is not read here: it may have been changed since, and be broken, while the exporter
//! goes on with what it has read before. That there is one only means that TLS is tried first.

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

/// How long the answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How long an exporter that has asked for a certificate may take to say that it insists on one.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(300);

/// Asks `/-/healthy` at the first listen address.
///
/// # Errors
/// What is wrong, in one line.
pub(crate) async fn ask(web: &WebConfig) -> Result<(), String> {
    let address = web.listen.first().map(ListenAddress::local_address).unwrap_or_default();
    let asked = async {
        if web.config_file.is_none() {
            return ask_plain(&address).await;
        }
        match ask_tls(&address).await {
            Err(problem) if speaks_no_tls(problem.as_ref()) => ask_plain(&address).await,
            answered => answered,
        }
    };
    let problem = match timeout(TIMEOUT, asked).await {
        Ok(Ok(200)) => return Ok(()),
        Ok(Ok(status)) => format!("it answered with status {status}"),
        Ok(Err(problem)) => problem.to_string(),
        Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
    };
    Err(format!("http://{address}/-/healthy: {problem}"))
}

type Problem = Box<dyn Error + Send + Sync>;

async fn ask_plain(address: &str) -> Result<u16, Problem> {
    status(TcpStream::connect(address).await?, address).await
}

/// Over TLS, whatever the certificate says: it is for the names by which others reach the exporter, and this is the
/// exporter itself, asking on its own machine whether it is alive.
///
/// An exporter that insists on a client's certificate gets none, as there is none for it here. That it refuses the
/// connection for just that reason shows that it accepts connections and speaks TLS: it counts as healthy. Any other
/// failure does not.
async fn ask_tls(address: &str) -> Result<u16, Problem> {
    let provider = Arc::new(ring::default_provider());
    let asked = Arc::new(AskedForCertificate::default());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_client_cert_resolver(Arc::<AskedForCertificate>::clone(&asked));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost")?;
    let stream = TcpStream::connect(address).await?;
    let mut stream = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Err(error) if insists_on_certificate(&error) => return Ok(200),
        connected => connected?,
    };
    if asked.0.load(Ordering::Relaxed) {
        // In TLS 1.3 the refusal comes after the handshake.
        let refusal = timeout(REFUSAL_TIMEOUT, stream.read_u8()).await;
        match refusal {
            Ok(Err(error)) if insists_on_certificate(&error) => return Ok(200),
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(_)) => return Err("it spoke before it was asked".into()),
            Err(_) => {}
        }
    }
    status(stream, address).await
}

/// The status of the answer.
async fn status(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: &str,
) -> Result<u16, Problem> {
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/-/healthy").header(header::HOST, address).body(Body::empty())?;
    Ok(requests.send_request(request).await?.status().as_u16())
}

fn insists_on_certificate(error: &io::Error) -> bool {
    matches!(rustls_error(error), Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)))
}

/// Whether what came back is no TLS at all: the exporter serves plain HTTP.
fn speaks_no_tls(problem: &(dyn Error + Send + Sync + 'static)) -> bool {
    let error = problem.downcast_ref::<io::Error>().and_then(rustls_error);
    matches!(error, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Has no certificate, and remembers that it was asked for one.
#[derive(Debug, Default)]
struct AskedForCertificate(AtomicBool);

impl ResolvesClientCert for AskedForCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}
