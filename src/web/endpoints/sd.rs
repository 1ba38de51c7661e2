//! `/sd`: targets for `/probe`, in the format of Prometheus HTTP service discovery.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::config::TargetOrigin;
use crate::fleet::Fleet;
use crate::poll::TargetHandle;

/// Maximum length of the Host header, in bytes.
const MAX_HOST: usize = 260;

/// Creates the route.
pub(crate) fn routes(fleet: Arc<Fleet>) -> Router {
    Router::new().route("/sd", get(discover)).with_state(fleet)
}

/// Target group of Prometheus HTTP service discovery.
#[derive(Debug, Serialize)]
struct TargetGroup<'a> {
    targets: [&'a str; 1],
    labels: BTreeMap<&'static str, Cow<'a, str>>,
}

/// Lists each target as its own group. All groups have the Host of this request as the scrape address, because Prometheus
/// reaches this exporter under that name.
async fn discover(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_valid = |host: &&str| host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[]".contains(c));
    let Some(host) = host.filter(|host| !host.is_empty() && host.len() <= MAX_HOST).filter(is_valid) else {
        return (StatusCode::BAD_REQUEST, "missing or invalid Host header\n").into_response();
    };
    let targets = fleet.targets();
    let groups: Vec<TargetGroup<'_>> = targets.iter().map(|target| group(host, target)).collect();
    Json(groups).into_response()
}

fn group<'a>(host: &'a str, handle: &'a TargetHandle) -> TargetGroup<'a> {
    let (name, module) = (handle.name(), handle.config().module());
    // The name has no scheme, but without `tls` in the module only the scheme enables TLS.
    let needs_scheme = handle.config().address.tls && module.is_some_and(|module| module.tls.is_none());
    let target = if needs_scheme { format!("rediss://{name}").into() } else { name.into() };
    let origin = match handle.config().origin {
        TargetOrigin::Configured => "config",
        TargetOrigin::Discovered { .. } => "discovery",
        TargetOrigin::Probed { .. } => "probe",
    };
    let mut labels = BTreeMap::from([
        ("__metrics_path__", "/probe".into()),
        ("__param_target", target),
        ("instance", name.into()),
        ("__meta_redis_script_origin", origin.into()),
    ]);
    if let Some(entry) = handle.config().discovered_by() {
        labels.insert("__meta_redis_script_discovery", (&**entry).into());
    }
    if let Some(module) = module {
        labels.insert("__param_module", module.name.as_str().into());
    }
    TargetGroup { targets: [host], labels }
}
