//! `redis-script-exporter healthcheck`: asks the exporter that runs on this machine, for containers without a
//! shell.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{ListenAddress, WebConfig};

/// How long the answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks `/-/healthy` at the first listen address.
///
/// # Errors
/// What is wrong, in one line.
pub async fn ask(web: &WebConfig) -> Result<(), String> {
    let address = web.listen.first().map(ListenAddress::from_here).unwrap_or_default();
    let problem = match timeout(TIMEOUT, status(&address)).await {
        Ok(Ok(200)) => return Ok(()),
        Ok(Ok(status)) => format!("it answered with status {status}"),
        Ok(Err(problem)) => problem,
        Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
    };
    Err(format!("http://{address}/-/healthy: {problem}"))
}

async fn status(address: &str) -> Result<u16, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut requests, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let request = Request::get("/-/healthy").header(header::HOST, address).body(Body::empty());
    let request = request.map_err(|error| error.to_string())?;
    let response = requests.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(response.status().as_u16())
}
