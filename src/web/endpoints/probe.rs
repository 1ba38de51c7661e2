//! `/probe?target=…&module=…`: the series of one target, which is watched from then on.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use crate::fleet::Fleet;
use crate::fleet::probes::{ProbeError, Probes};
use crate::metrics::{CONTENT_TYPE, text_of};

/// The endpoint.
pub(crate) fn routes(fleet: Arc<Fleet>, probes: Arc<Probes>) -> Router {
    Router::new().route("/probe", get(probe)).with_state((fleet, probes))
}

#[derive(Debug, Deserialize)]
struct Asked {
    target: Option<String>,
    module: Option<String>,
}

async fn probe(
    State((fleet, probes)): State<(Arc<Fleet>, Arc<Probes>)>,
    Query(asked): Query<Asked>,
) -> Response {
    let module = asked.module.as_deref().filter(|module| !module.is_empty());
    let Some(target) = asked.target.filter(|target| !target.is_empty()) else {
        return (StatusCode::BAD_REQUEST, "the parameter target is missing: /probe?target=host:port\n")
            .into_response();
    };
    let text = match probes.target(&target, module).await {
        Ok(watched) => text_of(&watched, &fleet.catalogue()).map_err(|problem| problem.to_string()),
        Err(problem) => return (status(&problem), format!("{problem}\n")).into_response(),
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(problem) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{problem}\n")).into_response(),
    }
}

fn status(problem: &ProbeError) -> StatusCode {
    match problem {
        ProbeError::Target(_) | ProbeError::Module(_) => StatusCode::BAD_REQUEST,
        ProbeError::Forbidden => StatusCode::FORBIDDEN,
        ProbeError::Taken => StatusCode::CONFLICT,
        ProbeError::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
        ProbeError::Tls(_) | ProbeError::Interrupted(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
