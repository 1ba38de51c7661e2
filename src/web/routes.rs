//! The endpoints. All of them answer from memory.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tracing::error;

use super::body::SharedBody;
use super::connections::Text;
use super::{lifecycle, probe, sd};
use crate::config::WebConfig;
use crate::fleet::Fleet;
use crate::metrics::{CONTENT_TYPE, Page, PageError};
use crate::reload::Reloader;

/// What the endpoints answer from.
#[derive(Debug)]
struct Site {
    fleet: Arc<Fleet>,
    page: Arc<Page>,
    telemetry_path: String,
}

/// All endpoints.
///
/// # Errors
/// Metrics whose names or labels are not allowed.
pub fn router(config: &WebConfig, fleet: Arc<Fleet>, reloader: Arc<Reloader>) -> Result<Router, PageError> {
    let page = Arc::new(Page::new(Arc::clone(&fleet))?);
    let telemetry_path = config.telemetry_path.clone();
    let site = Arc::new(Site { fleet: Arc::clone(&fleet), page, telemetry_path: telemetry_path.clone() });
    Ok(Router::new()
        .route("/", get(landing))
        .route("/-/healthy", get(async || "OK\n"))
        .route("/-/ready", get(ready))
        .route(&telemetry_path, get(metrics))
        .with_state(site)
        .merge(probe::routes(Arc::clone(&fleet), Arc::clone(reloader.probes())))
        .merge(sd::routes(fleet))
        .merge(lifecycle::routes(reloader, config.enable_lifecycle)))
}

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    match site.page.text().await {
        Ok(text) => {
            let kept = Text { address: text.kept.as_ptr().addr(), length: text.kept.len() };
            let body = Body::new(SharedBody::new(text.live, text.kept));
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], Extension(kept), body).into_response()
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

async fn landing(State(site): State<Arc<Site>>) -> Html<String> {
    let path = &site.telemetry_path;
    let version = env!("CARGO_PKG_VERSION");
    let count = site.fleet.targets().len();
    let targets = if count == 1 { "1 target".to_owned() } else { format!("{count} targets") };
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>redis-script-exporter</title>\n\
         <style>:root {{ color-scheme: light dark }} body {{ font: 1rem/1.5 system-ui, sans-serif; \
         max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>\n</head>\n<body>\n\
         <h1>redis-script-exporter</h1>\n\
         <p>Version {version}, {targets}.</p>\n\
         <ul>\n<li><a href=\"{path}\">Metrics</a></li>\n<li><a href=\"/-/healthy\">Health</a></li>\n\
         <li><a href=\"/-/ready\">Readiness</a></li>\n</ul>\n</body>\n</html>\n"
    ))
}
