//! Gzip compression of responses for clients that accept it.

use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::Body as _;
use tokio::sync::Semaphore;

use crate::metrics::gzip;

/// Value of `Content-Encoding`.
pub(crate) const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Value of `Vary` for a response that also depends on the format.
pub(crate) const VARIES: &str = "accept, accept-encoding";

/// Minimum size of a response to compress, in bytes; a smaller one fits into one or two packets.
const MIN_BYTES: u64 = 1 << 10;

/// Maximum size of a response that is compressed on the async thread, in bytes. A larger one would delay the polls.
const MAX_INLINE_BYTES: usize = 64 << 10;

/// Limit on concurrent compressions of large responses, so that they cannot occupy all cores. Beyond it, responses are
/// sent uncompressed.
static LARGE_COMPRESSIONS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

/// True if the client accepts gzip: `Accept-Encoding` has `gzip` or `*` with a weight above 0.
pub(crate) fn accepts_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut wildcard = false;
    for coding in accepted.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let excluded = parts.any(|part| {
            let weight = part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
            weight.is_some_and(|(_, weight)| weight.trim().parse::<f64>().is_ok_and(|weight| weight <= 0.0))
        });
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return !excluded;
        }
        wildcard |= name == "*" && !excluded;
    }
    wildcard
}

/// Middleware that compresses responses of at least [`MIN_BYTES`] and sets `Vary` on all. Handlers set `Vary` only for
/// `Accept`.
pub(crate) async fn compress(request: Request, next: Next) -> Response {
    let accepted = accepts_gzip(request.headers());
    let mut response = next.run(request).await;
    let varies_by_format = response.headers().contains_key(header::VARY);
    let vary = if varies_by_format { VARIES } else { "accept-encoding" };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static(vary));
    let large_enough = response.body().size_hint().exact().is_some_and(|length| length >= MIN_BYTES);
    let compressible =
        response.status() == StatusCode::OK && !response.headers().contains_key(header::CONTENT_ENCODING);
    if accepted && large_enough && compressible { compressed(response).await } else { response }
}

async fn compressed(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::from_parts(head, Body::empty());
    };
    let Some(gzip) = gzip_of(bytes.clone()).await else { return Response::from_parts(head, bytes.into()) };
    head.headers.insert(header::CONTENT_ENCODING, GZIP);
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, gzip.into())
}

/// Compresses `bytes`. `None` if that fails, or if too many large responses are being compressed.
async fn gzip_of(bytes: Bytes) -> Option<Bytes> {
    if bytes.len() <= MAX_INLINE_BYTES {
        return gzip::whole(&bytes).ok();
    }
    let permit = LARGE_COMPRESSIONS.try_acquire().ok()?;
    tokio::task::spawn_blocking(move || {
        let gzip = gzip::whole(&bytes).ok();
        drop(permit);
        gzip
    })
    .await
    .ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_if_the_client_accepts_it() {
        for (accepted, expected) in [
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
            assert_eq!(accepts_gzip(&headers), expected, "{accepted:?}");
        }
    }
}
