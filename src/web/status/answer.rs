//! Responses of the status page and the API: what they have in common.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::text::seconds;
use crate::clock::Unix;

/// What a browser may do with a response: nothing comes from elsewhere, nothing goes elsewhere, nobody may frame it.
const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    // To be kept, but never used without asking whether it is still the same.
    ("cache-control", "no-cache"),
];

/// The content type of the API.
const JSON: &str = "application/json";

/// An answer of the API. `now` is not part of what tells whether anything has changed.
pub(crate) fn json<T: Serialize>(request: &HeaderMap, now: Unix, answer: &T) -> Response {
    let body = match serde_json::to_string(answer) {
        Ok(body) => body,
        Err(problem) => return error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
    };
    let tag = tag(&body);
    let Some(rest) = body.strip_prefix('{') else {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "the answer is no object");
    };
    tagged(request, &tag, JSON, || format!("{{\"now\":{},{rest}", seconds(now.since_epoch())))
}

/// Text that may be known already.
pub(crate) fn text(request: &HeaderMap, content_type: &'static str, body: String) -> Response {
    let tag = tag(&body);
    tagged(request, &tag, content_type, || body)
}

/// An error of the API: what is wrong, and what would be right.
pub(crate) fn error(status: StatusCode, problem: &str) -> Response {
    let body = serde_json::json!({ "error": problem }).to_string();
    let mut response = (status, [(header::CONTENT_TYPE, JSON)], body).into_response();
    harden(response.headers_mut());
    response
}

fn tagged(
    request: &HeaderMap,
    tag: &str,
    content_type: &'static str,
    body: impl FnOnce() -> String,
) -> Response {
    let mut response = if is_known(request, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type)], body()).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    harden(response.headers_mut());
    response
}

fn harden(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

/// A weak tag: what is on the wire may be compressed.
fn tag(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// Whether the client says that it has this.
fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Rows {
        rows: u64,
    }

    fn ask(known: Option<&HeaderValue>, rows: u64, now: u64) -> Response {
        let mut request = HeaderMap::new();
        if let Some(known) = known {
            request.insert(header::IF_NONE_MATCH, known.clone());
        }
        json(&request, Unix::from_epoch(std::time::Duration::from_secs(now)), &Rows { rows })
    }

    #[test]
    fn what_is_known_is_not_sent_again_and_the_time_alone_is_no_change() {
        let first = ask(None, 1, 10);
        let tag = first.headers()[header::ETAG].clone();
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(ask(Some(&tag), 1, 11).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(ask(Some(&tag), 2, 11).status(), StatusCode::OK);
        let several = HeaderValue::from_str(&format!("\"x\", {}", tag.to_str().unwrap())).unwrap();
        assert_eq!(ask(Some(&several), 1, 11).status(), StatusCode::NOT_MODIFIED);
        assert!(ask(Some(&tag), 1, 11).headers().contains_key(header::CONTENT_SECURITY_POLICY));
    }
}
