//! `POST /-/reload`.
//!
//! A page on another site can make a browser send this request. Browsers mark such requests with `Origin` or
//! `Sec-Fetch-Site`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;

use crate::fleet::reload::Reloader;

/// Creates the route; it responds with 403 unless `enabled`.
pub(crate) fn routes(reloader: Arc<Reloader>, enabled: bool) -> Router {
    if enabled {
        Router::new().route("/-/reload", post(reload).put(reload)).with_state(reloader)
    } else {
        Router::new().route("/-/reload", post(forbidden).put(forbidden))
    }
}

async fn reload(State(reloader): State<Arc<Reloader>>, headers: HeaderMap) -> (StatusCode, String) {
    if is_foreign(&headers) {
        return (StatusCode::FORBIDDEN, "this request was sent by a page on another site\n".to_owned());
    }
    match reloader.reload().await {
        Ok(()) => (StatusCode::OK, "OK\n".to_owned()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// True if a browser sent the request on behalf of a page on another site.
fn is_foreign(headers: &HeaderMap) -> bool {
    let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (value("sec-fetch-site"), value(header::ORIGIN.as_str())) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let own = value(header::HOST.as_str());
            let site = origin.split_once("://").map(|(_, site)| site);
            !site.zip(own).is_some_and(|(site, own)| site.eq_ignore_ascii_case(own))
        }
        (None, None) => false,
    }
}

async fn forbidden() -> (StatusCode, &'static str) {
    (
        StatusCode::FORBIDDEN,
        "the lifecycle API is disabled; start the exporter with --web.enable-lifecycle, or send it SIGHUP\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_other_sites_are_foreign() {
        for (headers, foreign) in [
            (&[][..], false),
            (&[("origin", "http://a:1")], false),
            (&[("origin", "https://A:1")], false),
            (&[("origin", "http://b:1")], true),
            (&[("origin", "http://a:2")], true),
            (&[("origin", "null")], true),
            (&[("origin", "a:1")], true),
            (&[("origin", "http://b:1"), ("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
        ] {
            let mut all = HeaderMap::new();
            all.insert(header::HOST, "a:1".parse().unwrap());
            for (name, value) in headers {
                all.insert(*name, value.parse().unwrap());
            }
            assert_eq!(is_foreign(&all), foreign, "{headers:?}");
        }
    }
}
