//! `POST /-/reload`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
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

async fn reload(State(reloader): State<Arc<Reloader>>) -> (StatusCode, String) {
    match reloader.reload().await {
        Ok(()) => (StatusCode::OK, "OK\n".to_owned()),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn forbidden() -> (StatusCode, &'static str) {
    (
        StatusCode::FORBIDDEN,
        "the lifecycle API is disabled; start the exporter with --web.enable-lifecycle, or send it SIGHUP\n",
    )
}
