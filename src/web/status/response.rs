//! Responses of the status page and the API: entity tags and security headers.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::text::unix_seconds;
use crate::clock::Unix;

/// Headers of every response: no content from or requests to other origins, no framing.
const SECURITY_HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    // The browser may store the response but must revalidate it before each use.
    ("cache-control", "no-cache"),
];

/// Content type of the API.
const JSON: &str = "application/json";

/// Creates a response of the API. Its entity tag does not depend on `now`.
pub(crate) fn json<T: Serialize>(request: &HeaderMap, now: Unix, value: &T) -> Response {
    let body = match serde_json::to_string(value) {
        Ok(body) => body,
        Err(cause) => return error(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string()),
    };
    let etag = etag(&body);
    let Some(fields) = body.strip_prefix('{') else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "the response is not a JSON object");
    };
    tagged(request, &etag, JSON, || format!("{{\"now\":{},{fields}", unix_seconds(now)))
}

/// Creates a text response, or 304 if the client already has it.
pub(crate) fn text(request: &HeaderMap, content_type: &'static str, body: String) -> Response {
    let etag = etag(&body);
    tagged(request, &etag, content_type, || body)
}

/// Creates an error response of the API.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "error": message }).to_string();
    let mut response = (status, [(header::CONTENT_TYPE, JSON)], body).into_response();
    add_security_headers(response.headers_mut());
    response
}

fn tagged(
    request: &HeaderMap,
    etag: &str,
    content_type: &'static str,
    body: impl FnOnce() -> String,
) -> Response {
    let mut response = if is_cached_by_client(request, etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type)], body()).into_response()
    };
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    add_security_headers(response.headers_mut());
    response
}

fn add_security_headers(headers: &mut HeaderMap) {
    for (name, value) in SECURITY_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// Computes an entity tag, which is weak because the body may be compressed afterwards.
fn etag(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// True if the request's `If-None-Match` contains this entity tag or `*`.
fn is_cached_by_client(request: &HeaderMap, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let values = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|candidate| candidate.trim() == "*" || opaque(candidate) == opaque(etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Rows {
        rows: u64,
    }

    fn get(cached: Option<&HeaderValue>, rows: u64, now: u64) -> Response {
        let mut request = HeaderMap::new();
        if let Some(etag) = cached {
            request.insert(header::IF_NONE_MATCH, etag.clone());
        }
        json(&request, Unix::from_epoch(std::time::Duration::from_secs(now)), &Rows { rows })
    }

    #[test]
    fn an_unchanged_response_is_not_sent_again_and_the_time_alone_is_no_change() {
        let first = get(None, 1, 10);
        let etag = first.headers()[header::ETAG].clone();
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(get(Some(&etag), 1, 11).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get(Some(&etag), 2, 11).status(), StatusCode::OK);
        let several = HeaderValue::from_str(&format!("\"x\", {}", etag.to_str().unwrap())).unwrap();
        assert_eq!(get(Some(&several), 1, 11).status(), StatusCode::NOT_MODIFIED);
        assert!(get(Some(&etag), 1, 11).headers().contains_key(header::CONTENT_SECURITY_POLICY));
    }
}
