//! HTTP/1.1 client for one Alertmanager, with one persistent connection.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::blocking::FILES;
use crate::client::{TlsSetup, connect, tls_key};
use crate::config::{Alertmanager, Authorization, Secret};
use crate::files;
use crate::text::clean;

/// Maximum size of a response, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

/// Maximum size of a file with a secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// Maximum length of the response text included in an error, in bytes.
const MAX_DETAIL: usize = 200;

/// Replacement for a secret in the text of a response.
const REDACTED: &str = "***";

/// Value of the header User-Agent.
const USER_AGENT: &str = concat!("redis-script-exporter/", env!("CARGO_PKG_VERSION"));

/// Reason why a request failed. The text contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HttpError {
    /// The time limit has passed.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// There is no connection, or it was lost.
    #[error("{0}")]
    Unreachable(String),
    /// The status is not 2xx.
    #[error("status {0}{1}")]
    Rejected(StatusCode, String),
}

/// Client for one Alertmanager.
#[derive(Debug)]
pub(super) struct Client {
    alertmanager: Arc<Alertmanager>,
    connection: Option<Connection>,
}

/// Open connection.
#[derive(Debug)]
struct Connection {
    requests: SendRequest<Body>,
    /// Task that reads and writes; aborted when the connection is dropped.
    _task: AbortOnDropHandle<()>,
}

impl Client {
    pub(super) fn new(alertmanager: Arc<Alertmanager>) -> Self {
        Self { alertmanager, connection: None }
    }

    /// Sends a request to `path` below the URL, and returns the body of a response with status 2xx.
    ///
    /// # Errors
    /// No response arrived in time, or its status is not 2xx. In either case the connection is closed.
    pub(super) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, HttpError> {
        let limit = self.alertmanager.timeout;
        let result = timeout(limit, self.attempt(&method, path, &body)).await;
        let result = result.unwrap_or(Err(HttpError::Timeout(limit)));
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    async fn attempt(&mut self, method: &Method, path: &str, body: &Bytes) -> Result<Bytes, HttpError> {
        let kept = self.connection.take().filter(|kept| !kept.requests.is_closed());
        // If a request fails on a kept connection, Alertmanager may have closed the connection in the meantime.
        if let Some(kept) = kept
            && let Ok(response) = exchange(kept, self.prepare(method, path, body).await?).await
        {
            return self.accept(response);
        }
        let request = self.prepare(method, path, body).await?;
        let connection = self.connect().await?;
        let response = exchange(connection, request).await.map_err(HttpError::Unreachable)?;
        self.accept(response)
    }

    /// Keeps the connection and returns the body, if the status is 2xx.
    fn accept(&mut self, response: Response) -> Result<Bytes, HttpError> {
        let Response { connection, status, body, secrets } = response;
        if !status.is_success() {
            let text = without(&secrets, String::from_utf8_lossy(&body).into_owned());
            let text = clean(text.trim(), MAX_DETAIL);
            let hint = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " (see basic_auth and authorization)",
                StatusCode::NOT_FOUND => " (see the path prefix of the URL)",
                status if status.is_redirection() => " (redirects are not followed)",
                _ => "",
            };
            let separator = if text.is_empty() { "" } else { ": " };
            return Err(HttpError::Rejected(status, format!("{hint}{separator}{text}")));
        }
        self.connection = Some(connection);
        Ok(body)
    }

    async fn prepare(&self, method: &Method, path: &str, body: &Bytes) -> Result<Request<Body>, HttpError> {
        let Alertmanager { host, prefix, authorization, headers, .. } = &*self.alertmanager;
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("{prefix}{path}"))
            .header(header::HOST, host)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "application/json");
        if *method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization_value(authorization).await?);
        }
        for (name, value) in headers {
            request = request.header(name, header_value(&read(value).await?)?);
        }
        request
            .body(Body::from(body.clone()))
            .map_err(|error| HttpError::Unreachable(format!("invalid request: {error}")))
    }

    async fn connect(&self) -> Result<Connection, HttpError> {
        let unreachable = |error: &dyn std::fmt::Display| HttpError::Unreachable(error.to_string());
        let Alertmanager { endpoint, tls, .. } = &*self.alertmanager;
        let mut transport = connect(endpoint).await.map_err(|error| unreachable(&error))?;
        if let Some(tls) = tls {
            let (files, endpoint) = (tls.clone(), endpoint.clone());
            let setup =
                FILES.run(tls_key(tls), Duration::MAX, move || TlsSetup::new(&files, &endpoint)).await;
            let setup = setup.map_err(|error| unreachable(&error))?.map_err(|error| unreachable(&error))?;
            transport = setup.handshake(transport).await.map_err(|error| unreachable(&error))?;
        }
        let stream = TokioIo::new(transport.into_stream());
        let (requests, connection) = http1::handshake(stream).await.map_err(|error| unreachable(&error))?;
        let task = tokio::spawn(async move {
            // Requests report the same errors.
            let _ = connection.await;
        });
        Ok(Connection { requests, _task: AbortOnDropHandle::new(task) })
    }
}

/// Response, and the connection on which it arrived.
struct Response {
    connection: Connection,
    status: StatusCode,
    body: Bytes,
    /// Secret headers of the request.
    secrets: Vec<HeaderValue>,
}

async fn exchange(mut connection: Connection, request: Request<Body>) -> Result<Response, String> {
    let error = |error: hyper::Error| format!("the connection broke: {error}");
    let secrets = request.headers().values().filter(|value| value.is_sensitive()).cloned().collect();
    connection.requests.ready().await.map_err(error)?;
    let response = connection.requests.send_request(request).await.map_err(error)?;
    let status = response.status();
    let body = to_bytes(Body::new(response.into_body()), MAX_RESPONSE).await;
    let body = body.map_err(|error| format!("cannot read the response: {error}"))?;
    Ok(Response { connection, status, body, secrets })
}

/// Replaces the secrets of a request in the text of its response, which may repeat them: whole header values, and the
/// credentials or the password in them.
fn without(secrets: &[HeaderValue], mut text: String) -> String {
    for secret in secrets {
        let value = String::from_utf8_lossy(secret.as_bytes());
        let credentials = value.split_once(' ').map(|(_, credentials)| credentials);
        let pair = credentials.and_then(|credentials| STANDARD.decode(credentials).ok());
        let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
        let password = pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password);
        for part in [Some(&*value), credentials, password].into_iter().flatten() {
            if !part.is_empty() {
                text = text.replace(part, REDACTED);
            }
        }
    }
    text
}

async fn authorization_value(authorization: &Authorization) -> Result<HeaderValue, HttpError> {
    let text = match authorization {
        Authorization::Basic(user, password) => {
            let (user, password) = (read(user).await?, read(password).await?);
            let pair = SecretString::from(format!("{}:{}", user.expose_secret(), password.expose_secret()));
            format!("Basic {}", STANDARD.encode(pair.expose_secret()))
        }
        Authorization::Scheme(scheme, credentials) => {
            format!("{scheme} {}", read(credentials).await?.expose_secret())
        }
    };
    header_value(&text.into())
}

fn header_value(secret: &SecretString) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(|_| {
        HttpError::Unreachable("a secret has characters that are invalid in a header".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a secret. Whitespace around the content of a file is removed.
async fn read(secret: &Secret) -> Result<SecretString, HttpError> {
    match secret {
        Secret::Given(secret) => Ok(secret.clone()),
        Secret::File(path) => match files::read_text_async(path, MAX_SECRET).await {
            Ok(text) => Ok(SecretString::from(text.trim())),
            Err(error) => {
                Err(HttpError::Unreachable(format!("cannot read the secret in {}: {error}", path.display())))
            }
        },
    }
}
