//! `POST /-/reload`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;

use crate::fleet::reload::Reloader;

/// The endpoint; it refuses to do anything unless it is `enabled`.
pub(crate) fn routes(reloader: Arc<Reloader>, enabled: bool) -> Router {
    if enabled {
        Router::new().route("/-/reload", post(reload).put(reload)).with_state(reloader)
    } else {
        Router::new().route("/-/reload", post(refuse).put(refuse))
    }
}

async fn reload(State(reloader): State<Arc<Reloader>>) -> (StatusCode, String) {
    match reloader.reload().await {
        Ok(()) => (StatusCode::OK, "OK\n".to_owned()),
        Err(problem) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}\n")),
    }
}

async fn refuse() -> (StatusCode, &'static str) {
    (
        StatusCode::FORBIDDEN,
        "not enabled: start the exporter with --web.enable-lifecycle, or send it SIGHUP\n",
    )
}
