//! `/probe?target=…&module=…`: metrics of one target. The first probe of a target starts its monitoring.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Deserialize;

use super::record_scrape;
use crate::fleet::Fleet;
use crate::fleet::probes::{ProbeError, Probes};
use crate::metrics::Exposition;
use crate::web::server::Peer;

/// Creates the route.
pub(crate) fn routes(exposition: Arc<Exposition>, probes: Arc<Probes>, fleet: Arc<Fleet>) -> Router {
    Router::new().route("/probe", get(probe)).with_state((exposition, probes, fleet))
}

#[derive(Debug, Deserialize)]
struct ProbeQuery {
    target: Option<String>,
    module: Option<String>,
}

async fn probe(
    State((exposition, probes, fleet)): State<(Arc<Exposition>, Arc<Probes>, Arc<Fleet>)>,
    peer: Option<Extension<Peer>>,
    request: HeaderMap,
    Query(query): Query<ProbeQuery>,
) -> Response {
    let module = query.module.as_deref().filter(|module| !module.is_empty());
    let Some(target) = query.target.filter(|target| !target.is_empty()) else {
        return (StatusCode::BAD_REQUEST, "missing parameter target; use /probe?target=HOST:PORT\n")
            .into_response();
    };
    let format = super::format(&request);
    match probes.target(&target, module).await {
        Ok(target) => {
            record_scrape(&fleet, peer, &request, Some(target.name()));
            (super::of_format(format), exposition.probe(format, &target)).into_response()
        }
        Err(error) => (status(&error), format!("{error}\n")).into_response(),
    }
}

fn status(error: &ProbeError) -> StatusCode {
    match error {
        ProbeError::Target(_) | ProbeError::Module(_) => StatusCode::BAD_REQUEST,
        ProbeError::Forbidden => StatusCode::FORBIDDEN,
        ProbeError::Taken => StatusCode::CONFLICT,
        ProbeError::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
        ProbeError::Tls(_) | ProbeError::Interrupted(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
