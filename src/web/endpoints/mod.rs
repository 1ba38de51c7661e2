//! HTTP endpoints. All respond from memory.

mod hosts;
mod lifecycle;
mod probe;
mod sd;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tracing::error;

use self::hosts::Hosts;
use crate::config::WebConfig;
use crate::fleet::Fleet;
use crate::fleet::reload::Reloader;
use crate::metrics::{Exposition, ExpositionText, Format};
use crate::notify::Scrape;
use crate::web::server::Peer;
use crate::web::server::body::{BodyId, ChunkedBody, SharedBody};
use crate::web::server::compress::{GZIP, VARIES, accepts_gzip, compress};
use crate::web::status;

/// State shared by the handlers.
#[derive(Debug)]
struct AppState {
    fleet: Arc<Fleet>,
    exposition: Arc<Exposition>,
}

/// All endpoints.
#[derive(Debug, Clone)]
pub(crate) struct Endpoints {
    router: TowerToHyperService<Router>,
    telemetry_path: Arc<str>,
    state: Arc<AppState>,
}

impl Endpoints {
    /// Responds to a request. `/metrics` bypasses the router and its layers, which would take as much time as the response
    /// itself.
    pub(crate) async fn respond(&self, mut request: Request<Incoming>, peer: Peer) -> Response {
        if request.method() == Method::GET && request.uri().path() == &*self.telemetry_path {
            return metrics(&self.state, Some(peer), request.headers()).await;
        }
        request.extensions_mut().insert(peer);
        let Ok(response) = self.router.call(request).await;
        response
    }
}

/// Creates all endpoints.
pub(crate) fn endpoints(config: &WebConfig, fleet: Arc<Fleet>, reloader: Arc<Reloader>) -> Endpoints {
    let exposition = Arc::new(Exposition::new(Arc::clone(&fleet), Arc::clone(&reloader)));
    let probes = Arc::clone(reloader.probes());
    let hosts = Arc::new(Hosts::new(&config.allowed_hosts, config.external_url.as_deref()));
    let status = status::router(config, Arc::clone(&fleet));
    let lifecycle = lifecycle::routes(reloader, config.enable_lifecycle);
    let for_browsers =
        status.merge(lifecycle).route_layer(middleware::from_fn_with_state(hosts, hosts::check));
    let state = Arc::new(AppState { fleet: Arc::clone(&fleet), exposition: Arc::clone(&exposition) });
    let router = Router::new()
        .route("/-/healthy", get(async || "OK\n"))
        .route("/-/ready", get(ready))
        // GET requests are handled in `respond`; this route handles HEAD and rejects other methods.
        .route(&config.telemetry_path, get(metrics_without_body))
        .with_state(Arc::clone(&state))
        .route("/scrape", get(scrape))
        .route("/discover-cluster-nodes", get(discover_cluster_nodes))
        .merge(for_browsers)
        .merge(probe::routes(exposition, probes, Arc::clone(&fleet)))
        .merge(sd::routes(fleet))
        .layer(middleware::from_fn(compress));
    let router = TowerToHyperService::new(router);
    Endpoints { router, telemetry_path: config.telemetry_path.as_str().into(), state }
}

async fn metrics_without_body(State(state): State<Arc<AppState>>, request: HeaderMap) -> Response {
    metrics(&state, None, &request).await
}

async fn metrics(state: &AppState, peer: Option<Peer>, request: &HeaderMap) -> Response {
    record_scrape(&state.fleet, peer.map(Extension), request, None);
    let (format, gzip) = (format(request), accepts_gzip(request));
    match state.exposition.text(format, gzip).await {
        Ok(text) => {
            let (id, body) = match text {
                ExpositionText::Whole { live, cached, trailer } => {
                    let id = BodyId { address: cached.as_ptr().addr(), length: cached.len(), gzip };
                    (id, Body::new(SharedBody::new([live, cached, trailer])))
                }
                ExpositionText::Chunks { live, cached } => {
                    // Both encodings share the compressed copy in memory.
                    let id = BodyId {
                        address: Arc::as_ptr(&cached).addr(),
                        length: cached.length(true),
                        gzip: true,
                    };
                    (id, Body::new(ChunkedBody::new([live, cached], gzip)))
                }
            };
            let mut response = Response::new(body);
            response.extensions_mut().insert(id);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
            headers.insert(header::VARY, HeaderValue::from_static(VARIES));
            if gzip {
                headers.insert(header::CONTENT_ENCODING, GZIP);
            }
            response
        }
        Err(error) => {
            error!(%error, "cannot encode the metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
    }
}

/// Header in which Prometheus and compatible scrapers send their scrape timeout. It distinguishes scrapes from other
/// requests.
const SCRAPE_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// Records a Prometheus scrape of all targets or of one target, for the alerts that the exporter itself sends.
fn record_scrape(fleet: &Fleet, peer: Option<Extension<Peer>>, request: &HeaderMap, target: Option<&str>) {
    if let (Some(notifier), Some(Extension(Peer(client)))) = (fleet.notifier(), peer)
        && request.contains_key(SCRAPE_HEADER)
    {
        let host = request.get(header::HOST).and_then(|host| host.to_str().ok());
        notifier.scraped(&Scrape { client, host, target });
    }
}

/// Responds to scrape configurations written for `redis_exporter`, which has this path.
async fn scrape() -> (StatusCode, &'static str) {
    (
        StatusCode::NOT_FOUND,
        "/scrape is a path of redis_exporter; use /probe?target=HOST:PORT&module=NAME, with modules in --config.file\n",
    )
}

/// Responds to HTTP service discovery configured for `redis_exporter`, which has this path.
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

/// Returns the headers for a response in this format.
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
