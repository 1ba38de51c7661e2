//! Responses as gzip, for clients that ask for it.

use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::Body as _;
use tokio::sync::Semaphore;

use crate::metrics::gzip;

/// The value of `Content-Encoding`.
pub(crate) const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Shorter texts fit into a packet or two as they are.
const LEAST_BYTES: u64 = 1 << 10;

/// A text that is longer is compressed on a thread of its own: polls would have to wait for it.
const SHORT_BYTES: usize = 64 << 10;

/// Long texts are compressed two at a time; who comes meanwhile gets his as it is, so that clients which ask for many
/// can't take all cores.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

/// Whether the client takes gzip: it names it, or anything, and not with a weight of 0.
pub(crate) fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = false;
    for coding in accepted.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|part| {
            let weight = part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
            weight.is_some_and(|(_, weight)| weight.trim().parse::<f64>().is_ok_and(|weight| weight <= 0.0))
        });
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return !refused;
        }
        any |= name == "*" && !refused;
    }
    any
}

/// Compresses what is worth it. `Vary` says that there is more than one form of everything.
pub(crate) async fn answer(request: Request, next: Next) -> Response {
    let wanted = takes_gzip(request.headers());
    let mut response = next.run(request).await;
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let long = response.body().size_hint().exact().is_some_and(|length| length >= LEAST_BYTES);
    let fine =
        response.status() == StatusCode::OK && !response.headers().contains_key(header::CONTENT_ENCODING);
    if wanted && long && fine { compressed(response).await } else { response }
}

async fn compressed(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let Ok(text) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::from_parts(head, Body::empty());
    };
    let Some(gzip) = gzip_of(text.clone()).await else { return Response::from_parts(head, text.into()) };
    head.headers.insert(header::CONTENT_ENCODING, GZIP);
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, gzip.into())
}

/// None where it has to do without.
async fn gzip_of(text: Bytes) -> Option<Bytes> {
    if text.len() <= SHORT_BYTES {
        return gzip::whole(&text).ok();
    }
    let turn = TURNS.try_acquire().ok()?;
    tokio::task::spawn_blocking(move || {
        let gzip = gzip::whole(&text).ok();
        drop(turn);
        gzip
    })
    .await
    .ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_clients_that_take_it() {
        for (accepted, takes) in [
            (&[][..], false),
            (&["gzip"], true),
            (&["GZIP;q=0.5"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, *"], false),
            (&["deflate, gzip;q=1.0, *;q=0.5"], true),
            (&["br", "gzip"], true),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["identity"], false),
            (&["identity;q=1, *;q=0"], false),
            (&["gzipped"], false),
            (&[""], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in accepted {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(takes_gzip(&headers), takes, "{accepted:?}");
        }
    }
}
