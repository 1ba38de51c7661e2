//! `/api/v1/incidents`: blockages and periods without access to a server in the last 24 hours.

use std::sync::Arc;

use serde::Serialize;

use super::query::IncidentsQuery;
use super::text::{duration_seconds, unix_seconds};
use crate::clock::Unix;
use crate::fleet::Fleet;
use crate::guard::{ActionRecord, GuardOutcome};
use crate::poll::TargetHandle;
use crate::script::{Catalogue, Identity, Sha1Digits};
use crate::watch::{Incident, IncidentEnd, IncidentKind, KEPT, Target};

/// Response body.
#[derive(Debug, Serialize)]
pub(crate) struct IncidentsResponse {
    /// Number of incidents that match the query.
    total: usize,
    offset: usize,
    limit: usize,
    /// Number of short incidents of the last 24 hours that were dropped to limit the memory.
    dropped: u64,
    incidents: Vec<IncidentRow>,
}

/// An incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct IncidentRow {
    target: Arc<str>,
    address: String,
    kind: IncidentKind,
    began: f64,
    /// `None` while the incident is in progress.
    ended: Option<f64>,
    seconds: f64,
    /// True if the server replied BUSY.
    busy: bool,
    /// Label of the script or function.
    script: Option<String>,
    name: Option<String>,
    sha1: Option<Sha1Digits>,
    client: Option<String>,
    client_name: Option<String>,
    end: Option<IncidentEnd>,
    /// Number of BUSY replies to other clients.
    refused_clients: Option<u64>,
    /// Reason for the lack of access.
    detail: Option<String>,
    /// Actions of the guard, oldest first.
    guard: Vec<GuardActionRow>,
}

/// Action of the guard during an incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct GuardActionRow {
    outcome: GuardOutcome,
    /// Sentence that describes the outcome.
    text: &'static str,
    at: f64,
    /// Minimum run time of the script at that time, in seconds.
    seconds: f64,
    /// Error, if any.
    detail: Option<String>,
}

impl GuardActionRow {
    fn new(action: &ActionRecord) -> Self {
        Self {
            outcome: action.outcome,
            text: action.outcome.sentence(),
            at: unix_seconds(Unix::from_epoch(action.at)),
            seconds: duration_seconds(action.ran_for),
            detail: action.detail.clone(),
        }
    }
}

impl IncidentsResponse {
    /// Selects the incidents that match `query`: those in progress, then the others, newest first.
    pub(crate) fn new(fleet: &Fleet, query: &IncidentsQuery) -> Self {
        let catalogue = fleet.catalogue();
        let mut matching = Vec::new();
        let mut dropped = 0_u64;
        for handle in fleet.targets().iter() {
            let name = &handle.config().name;
            if query.target.as_ref().is_none_or(|target| **target == **name) {
                let now = handle.now();
                let target = handle.numbers();
                let incidents = target.liveness().incidents();
                dropped = dropped.saturating_add(incidents.dropped(now.unix));
                let ended = incidents.ended().iter().filter(|one| now.unix.since(one.ended()) < KEPT);
                let rows =
                    ended.map(|incident| row(handle, &target, incident, Some(incident.ended()), &catalogue));
                let current = target.liveness().current_incident(now);
                let current = current.map(|incident| row(handle, &target, &incident, None, &catalogue));
                let waiting = target.liveness().waiting_incidents();
                let waiting = waiting.map(|one| row(handle, &target, &one, Some(one.ended()), &catalogue));
                matching.extend(rows.chain(waiting).chain(current).filter(|row| query.matches(row)));
            }
        }
        let order = |row: &IncidentRow| row.ended.map_or(f64::INFINITY, |_| row.began);
        matching.sort_by(|a, b| {
            let by_end = order(b).total_cmp(&order(a));
            by_end.then_with(|| b.began.total_cmp(&a.began)).then_with(|| a.target.cmp(&b.target))
        });
        Self {
            total: matching.len(),
            offset: query.page.offset,
            limit: query.page.limit,
            dropped,
            incidents: query.page.slice(matching),
        }
    }
}

impl IncidentsQuery {
    fn matches(&self, row: &IncidentRow) -> bool {
        self.kind.is_none_or(|kind| kind == row.kind)
            && row.ended.unwrap_or(f64::INFINITY) >= self.since.as_secs_f64()
            && self.script.as_ref().is_none_or(|script| {
                Some(script) == row.script.as_ref()
                    || Some(script) == row.name.as_ref()
                    || row.sha1.is_some_and(|sha1| script.eq_ignore_ascii_case(sha1.as_str()))
            })
    }
}

fn row(
    handle: &TargetHandle,
    target: &Target,
    incident: &Incident,
    ended: Option<Unix>,
    catalogue: &Catalogue,
) -> IncidentRow {
    let config = handle.config();
    let non_empty = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let label = |script: &Identity| target.scripts().label_of(script, catalogue).to_string();
    let named = incident.script.as_ref().map(|script| catalogue.named(script));
    IncidentRow {
        target: Arc::clone(&config.name),
        address: config.address.to_string(),
        kind: incident.kind,
        began: unix_seconds(incident.began()),
        ended: ended.map(unix_seconds),
        seconds: duration_seconds(incident.lasted),
        busy: incident.busy,
        script: incident.script.as_ref().map(label),
        name: named.as_ref().map(|named| named.name.to_string()),
        sha1: named.and_then(|named| named.sha1),
        client: non_empty(&incident.client),
        client_name: non_empty(&incident.client_name),
        end: incident.end,
        refused_clients: incident.refused,
        detail: incident.detail.clone(),
        guard: incident.guard.iter().map(GuardActionRow::new).collect(),
    }
}
