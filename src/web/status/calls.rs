//! `/api/v1/slow`: latest slow calls, newest first.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::Serialize;

use super::query::CallsQuery;
use super::text::duration_seconds;
use crate::fleet::Fleet;
use crate::script::{Catalogue, Sha1Digits};
use crate::watch::SlowCall;

/// Response body.
#[derive(Debug, Serialize)]
pub(crate) struct CallsResponse {
    offset: usize,
    limit: usize,
    /// True if more calls match the query.
    more: bool,
    calls: Vec<CallRow>,
}

/// A slow call.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct CallRow {
    target: Arc<str>,
    /// ID of the slow log entry.
    id: u64,
    ended_at: u64,
    duration_seconds: f64,
    severity: &'static str,
    command: &'static str,
    /// Label under which the call is counted.
    script: String,
    name: String,
    sha1: Option<Sha1Digits>,
    /// Number of keys that the caller declared.
    key_count: Option<u64>,
    /// First keys; only with `--web.show-keys`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    client: Option<String>,
    client_name: Option<String>,
    /// True if the call was already in the slow log when that was first read; such calls are not counted.
    before_start: bool,
}

impl CallsResponse {
    /// Selects the calls that match `query`.
    pub(crate) fn new(fleet: &Fleet, query: &CallsQuery) -> Self {
        let max = query.page.offset.saturating_add(query.page.limit).saturating_add(1);
        let mut matching: Vec<(Arc<str>, Arc<SlowCall>, bool)> = Vec::new();
        let catalogue = fleet.catalogue();
        for handle in fleet.targets().iter() {
            let name = &handle.config().name;
            if query.target.as_ref().is_none_or(|target| **target == **name) {
                let target = handle.numbers();
                let calls =
                    target.latest_calls().newest_first().filter(|(call, _)| query.matches(call, &catalogue));
                matching.extend(
                    calls.take(max).map(|(call, before)| (Arc::clone(name), Arc::clone(call), before)),
                );
            }
        }
        // The sort is stable: calls of one target that ended in the same second keep their order.
        matching.sort_by_key(|(_, call, _)| Reverse(call.ended_at));
        let more = matching.len() >= max;
        let calls = query
            .page
            .slice(matching)
            .into_iter()
            .map(|(target, call, before_start)| row(target, &call, before_start, &catalogue))
            .collect();
        Self { offset: query.page.offset, limit: query.page.limit, more, calls }
    }
}

impl CallsQuery {
    fn matches(&self, call: &SlowCall, catalogue: &Catalogue) -> bool {
        self.command.is_none_or(|command| command == call.call.command)
            && self.severity.is_none_or(|severity| call.severity >= severity)
            && call.ended_at >= self.since.as_secs().saturating_add(u64::from(self.since.subsec_nanos() > 0))
            && self.script.as_ref().is_none_or(|script| {
                *script == call.label.as_str()
                    || *script == catalogue.named(&call.call.script).name.as_str()
                    || call.call.script.sha1.is_some_and(|sha1| script.eq_ignore_ascii_case(sha1.as_str()))
            })
    }
}

fn row(target: Arc<str>, call: &SlowCall, before_start: bool, catalogue: &Catalogue) -> CallRow {
    let non_empty = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    CallRow {
        target,
        id: call.id,
        ended_at: call.ended_at,
        duration_seconds: duration_seconds(call.duration),
        severity: call.severity.as_str(),
        command: call.call.command.as_str(),
        script: call.label.to_string(),
        name: catalogue.named(&call.call.script).name.to_string(),
        sha1: call.call.script.sha1,
        key_count: call.call.keys,
        keys: call.keys.clone(),
        client: non_empty(&call.client),
        client_name: non_empty(&call.client_name),
        before_start,
    }
}
