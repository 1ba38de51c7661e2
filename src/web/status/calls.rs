//! `/api/v1/slow`: the latest slow calls, the newest first.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::Serialize;

use super::query::CallsQuery;
use super::text::precise;
use crate::fleet::Fleet;
use crate::script::{Catalogue, Label, OTHER, Sha1Digits};
use crate::watch::SlowCall;

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct CallsAnswer {
    offset: usize,
    limit: usize,
    /// Whether there are more that fit the query.
    more: bool,
    calls: Vec<CallRow>,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct CallRow {
    target: Arc<str>,
    /// Id of the slow log entry.
    id: u64,
    ended_at: u64,
    duration_seconds: f64,
    severity: &'static str,
    command: &'static str,
    script: String,
    sha1: Option<Sha1Digits>,
    /// The number of keys that the caller announced.
    key_count: Option<u64>,
    /// The first of them; only with `--web.show-keys`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    client: Option<String>,
    client_name: Option<String>,
}

impl CallsAnswer {
    /// The calls that were asked for.
    pub(crate) fn of(fleet: &Fleet, query: &CallsQuery) -> Self {
        let most = query.part.offset.saturating_add(query.part.limit).saturating_add(1);
        let mut found: Vec<(Arc<str>, Arc<SlowCall>)> = Vec::new();
        let catalogue = fleet.catalogue();
        for watched in fleet.targets().iter() {
            let name = &watched.config().name;
            if query.target.as_ref().is_none_or(|target| **target == **name) {
                let target = watched.numbers();
                let calls = target.latest_calls().newest_first().filter(|call| query.fits(call, &catalogue));
                found.extend(calls.take(most).map(|call| (Arc::clone(name), Arc::clone(call))));
            }
        }
        // Stable: calls of one target that ended in the same second stay in their order.
        found.sort_by_key(|(_, call)| Reverse(call.ended_at));
        let more = found.len() >= most;
        let calls =
            query.part.of(found).into_iter().map(|(target, call)| row(target, &call, &catalogue)).collect();
        Self { offset: query.part.offset, limit: query.part.limit, more, calls }
    }
}

impl CallsQuery {
    fn fits(&self, call: &SlowCall, catalogue: &Catalogue) -> bool {
        self.command.is_none_or(|command| command == call.call.command)
            && self.severity.is_none_or(|severity| call.severity >= severity)
            && call.ended_at >= self.since.as_secs().saturating_add(u64::from(self.since.subsec_nanos() > 0))
            && self.script.as_ref().is_none_or(|script| {
                *script == shown(call, catalogue).as_str()
                    || call.call.script.sha1.is_some_and(|sha1| script.eq_ignore_ascii_case(sha1.as_str()))
            })
    }
}

/// The label that a call is shown under: the name that the catalogue has for it, unless it went under `other`.
fn shown(call: &SlowCall, catalogue: &Catalogue) -> Label {
    if call.label.as_str() == OTHER { call.label.clone() } else { catalogue.label(&call.call.script) }
}

fn row(target: Arc<str>, call: &SlowCall, catalogue: &Catalogue) -> CallRow {
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    CallRow {
        target,
        id: call.id,
        ended_at: call.ended_at,
        duration_seconds: precise(call.duration),
        severity: call.severity.as_str(),
        command: call.call.command.as_str(),
        script: shown(call, catalogue).to_string(),
        sha1: call.call.script.sha1,
        key_count: call.call.keys,
        keys: call.keys.clone(),
        client: given(&call.client),
        client_name: given(&call.client_name),
    }
}
