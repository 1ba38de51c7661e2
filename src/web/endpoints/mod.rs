//! The endpoints. All of them answer from memory.

mod lifecycle;
mod probe;
mod sd;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use tracing::error;

use crate::config::WebConfig;
use crate::fleet::Fleet;
use crate::fleet::reload::Reloader;
use crate::metrics::{CONTENT_TYPE, Page, PageError};
use crate::web::server::body::SharedBody;
use crate::web::server::compress::{self, GZIP, takes_gzip};
use crate::web::server::connections::Text;
use crate::web::status;

/// What the endpoints answer from.
#[derive(Debug)]
struct Site {
    fleet: Arc<Fleet>,
    page: Arc<Page>,
}

/// All endpoints.
///
/// # Errors
/// Metrics whose names or labels are not allowed.
pub(crate) fn router(
    config: &WebConfig,
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
) -> Result<Router, PageError> {
    let page = Arc::new(Page::new(Arc::clone(&fleet), Arc::clone(&reloader))?);
    let status = status::router(config, Arc::clone(&fleet));
    let site = Arc::new(Site { fleet: Arc::clone(&fleet), page });
    Ok(Router::new()
        .route("/-/healthy", get(async || "OK\n"))
        .route("/-/ready", get(ready))
        .route(&config.telemetry_path, get(metrics))
        .with_state(site)
        .merge(status)
        .merge(probe::routes(Arc::clone(&fleet), Arc::clone(reloader.probes())))
        .merge(sd::routes(fleet))
        .merge(lifecycle::routes(reloader, config.enable_lifecycle))
        .layer(middleware::from_fn(compress::answer)))
}

async fn metrics(State(site): State<Arc<Site>>, request: HeaderMap) -> Response {
    let gzip = takes_gzip(&request);
    let text = if gzip { site.page.gzip().await } else { site.page.text().await };
    match text {
        Ok(text) => {
            let kept = Text { address: text.kept.as_ptr().addr(), length: text.kept.len(), gzip };
            let body = Body::new(SharedBody::new([text.live, text.kept, text.end]));
            let mut response =
                ([(header::CONTENT_TYPE, CONTENT_TYPE)], Extension(kept), body).into_response();
            if gzip {
                response.headers_mut().insert(header::CONTENT_ENCODING, GZIP);
            }
            response
        }
        Err(problem) => {
            error!(%problem, "the metrics cannot be shown");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}\n")).into_response()
        }
    }
}

async fn ready(State(site): State<Arc<Site>>) -> (StatusCode, &'static str) {
    if site.fleet.is_ready() {
        (StatusCode::OK, "OK\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not every target has been tried yet\n")
    }
}
