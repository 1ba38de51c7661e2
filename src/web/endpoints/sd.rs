//! `/sd`: what can be asked of `/probe`, for Prometheus' HTTP service discovery.

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

/// The longest name of a host with its port.
const MAX_HOST: usize = 260;

/// The endpoint.
pub(crate) fn routes(fleet: Arc<Fleet>) -> Router {
    Router::new().route("/sd", get(discover)).with_state(fleet)
}

/// What Prometheus calls a target group.
#[derive(Debug, Serialize)]
struct Group<'a> {
    targets: [&'a str; 1],
    labels: BTreeMap<&'static str, Cow<'a, str>>,
}

/// Each target as a group of its own. It is scraped where this was asked, under whatever name that has for whoever asks.
async fn discover(State(fleet): State<Arc<Fleet>>, headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let plain = |host: &&str| host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[]".contains(c));
    let Some(host) = host.filter(|host| !host.is_empty() && host.len() <= MAX_HOST).filter(plain) else {
        let problem = "the header Host has to say where this exporter is\n";
        return (StatusCode::BAD_REQUEST, problem).into_response();
    };
    let targets = fleet.targets();
    let groups: Vec<Group<'_>> = targets.iter().map(|watched| group(host, watched)).collect();
    Json(groups).into_response()
}

fn group<'a>(host: &'a str, watched: &'a TargetHandle) -> Group<'a> {
    let (name, module) = (watched.name(), watched.config().module());
    // The name does not have the scheme, by which the address asked for TLS where the module leaves it open.
    let scheme = watched.config().address.tls && module.is_some_and(|module| module.tls.is_none());
    let target = if scheme { format!("rediss://{name}").into() } else { name.into() };
    let origin = match watched.config().origin {
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
    if let Some(entry) = watched.config().discovered_by() {
        labels.insert("__meta_redis_script_discovery", (&**entry).into());
    }
    if let Some(module) = module {
        labels.insert("__param_module", module.name.as_str().into());
    }
    Group { targets: [host], labels }
}
