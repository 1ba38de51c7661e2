//! HTTP endpoints. All respond from memory.

mod hosts;
mod lifecycle;
mod probe;
mod sd;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use tracing::error;

use self::hosts::Hosts;
use crate::config::WebConfig;
use crate::fleet::Fleet;
use crate::fleet::reload::Reloader;
use crate::metrics::{Exposition, Format};
use crate::notify::Scrape;
use crate::web::server::Peer;
use crate::web::server::body::{BodyId, SharedBody};
use crate::web::server::compress::{GZIP, accepts_gzip, compress};
use crate::web::status;

/// State shared by the handlers.
#[derive(Debug)]
struct AppState {
    fleet: Arc<Fleet>,
    exposition: Arc<Exposition>,
}

/// Creates the router of all endpoints.
pub(crate) fn router(config: &WebConfig, fleet: Arc<Fleet>, reloader: Arc<Reloader>) -> Router {
    let exposition = Arc::new(Exposition::new(Arc::clone(&fleet), Arc::clone(&reloader)));
    let probes = Arc::clone(reloader.probes());
    let hosts = Arc::new(Hosts::new(&config.allowed_hosts, config.external_url.as_deref()));
    let status = status::router(config, Arc::clone(&fleet));
    let lifecycle = lifecycle::routes(reloader, config.enable_lifecycle);
    let for_browsers =
        status.merge(lifecycle).route_layer(middleware::from_fn_with_state(hosts, hosts::check));
    let state = Arc::new(AppState { fleet: Arc::clone(&fleet), exposition: Arc::clone(&exposition) });
    Router::new()
        .route("/-/healthy", get(async || "OK\n"))
        .route("/-/ready", get(ready))
        .route(&config.telemetry_path, get(metrics))
        .with_state(state)
        .route("/scrape", get(scrape))
        .route("/discover-cluster-nodes", get(discover_cluster_nodes))
        .merge(for_browsers)
        .merge(probe::routes(exposition, probes, Arc::clone(&fleet)))
        .merge(sd::routes(fleet))
        .layer(middleware::from_fn(compress))
}

async fn metrics(
    State(state): State<Arc<AppState>>,
    peer: Option<Extension<Peer>>,
    request: HeaderMap,
) -> Response {
    record_scrape(&state.fleet, peer, &request, None);
    let (format, gzip) = (format(&request), accepts_gzip(&request));
    let text = if gzip { state.exposition.gzip(format).await } else { state.exposition.plain(format).await };
    match text {
        Ok(text) => {
            let id = BodyId { address: text.cached.as_ptr().addr(), length: text.cached.len(), gzip };
            let body = Body::new(SharedBody::new([text.live, text.cached, text.trailer]));
            let mut response = (of_format(format), Extension(id), body).into_response();
            if gzip {
                response.headers_mut().insert(header::CONTENT_ENCODING, GZIP);
            }
            response
        }
        Err(error) => {
            error!(%error, "cannot encode the metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

/// Header by which Prometheus and programs like it send their time limit. It distinguishes a scrape from other requests.
const SCRAPE_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// Records a scrape by Prometheus of all targets, or of one, for the alerts that the exporter sends itself.
fn record_scrape(fleet: &Fleet, peer: Option<Extension<Peer>>, request: &HeaderMap, target: Option<&str>) {
    if let (Some(notifier), Some(Extension(Peer(client)))) = (fleet.notifier(), peer)
        && request.contains_key(SCRAPE_HEADER)
    {
        let host = request.get(header::HOST).and_then(|host| host.to_str().ok());
        notifier.scraped(&Scrape { client, host, target });
    }
}

/// Answers requests of scrape configurations for `redis_exporter`, which has this path.
async fn scrape() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "/scrape is a path of redis_exporter; use /probe?target=HOST:PORT&module=NAME, with modules in --config.file\n",
    )
}

/// Answers requests of HTTP service discovery for `redis_exporter`, which has this path.
async fn discover_cluster_nodes() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "/discover-cluster-nodes is a path of redis_exporter; use /sd, with discover: cluster for an entry in --config.file\n",
    )
}

/// Returns the format that the client prefers.
fn format(request: &HeaderMap) -> Format {
    let accept = request.get_all(header::ACCEPT).iter();
    Format::accepted(accept.filter_map(|value| value.to_str().ok()))
}

/// Returns the headers of a response in this format.
fn of_format(format: Format) -> [(HeaderName, &'static str); 2] {
    [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")]
}

async fn ready(State(state): State<Arc<AppState>>) -> (StatusCode, &'static str) {
    if state.fleet.is_ready() {
        (StatusCode::OK, "OK\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the first connection attempt to some targets is still in progress\n",
        )
    }
}
