//! Alerts as Alertmanager receives them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::clock::Unix;

/// Labels of an alert. Alertmanager treats alerts with equal labels as the same alert.
pub(crate) type Labels = BTreeMap<String, String>;

/// State of an alert at one point in time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Alert {
    /// Identity of the alert.
    pub(crate) labels: Arc<Labels>,
    pub(crate) annotations: BTreeMap<&'static str, String>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) starts_at: Unix,
    /// In the future while the alert fires.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) ends_at: Unix,
}

fn rfc3339<S: Serializer>(at: &Unix, serializer: S) -> Result<S::Ok, S::Error> {
    // 9999 is the last year that the format can represent.
    let at = at.since_epoch().min(Duration::from_secs(253_402_300_799));
    let at = UNIX_EPOCH.checked_add(at).unwrap_or(UNIX_EPOCH);
    serializer.collect_str(&humantime::format_rfc3339_millis(at))
}

/// Returns the labels of an alert: the defaults `job` and `instance`, overridden by the operator's labels, and the alert's own.
/// As in Prometheus, an empty value means that the label is absent.
pub(super) fn labels(given: &Labels, instance: &str, own: [(&str, &str); 3]) -> Labels {
    let mut labels = Labels::from([
        ("job".to_owned(), DEFAULT_JOB.to_owned()),
        ("instance".to_owned(), instance.to_owned()),
    ]);
    labels.extend(given.clone());
    labels.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    labels.retain(|_, value| !value.is_empty());
    labels
}

/// Value of the label `job` unless the operator sets it; the job name used in the documentation.
const DEFAULT_JOB: &str = "redis-script-exporter";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_the_json_of_the_api() {
        let given =
            Labels::from([("cluster".to_owned(), "eu".to_owned()), ("empty".to_owned(), String::new())]);
        let own = [("alertname", "A"), ("severity", "critical"), ("target", "t:1")];
        let alert = Alert {
            labels: Arc::new(labels(&given, "i:1", own)),
            annotations: BTreeMap::from([("summary", "It \"is\".".to_owned())]),
            starts_at: Unix::from_epoch(Duration::from_millis(1_700_000_000_123)),
            ends_at: Unix::from_epoch(Duration::MAX),
        };
        assert_eq!(
            serde_json::to_string(&alert).unwrap(),
            r#"{"labels":{"alertname":"A","cluster":"eu","instance":"i:1","job":"redis-script-exporter","severity":"critical","target":"t:1"},"annotations":{"summary":"It \"is\"."},"startsAt":"2023-11-14T22:13:20.123Z","endsAt":"9999-12-31T23:59:59.000Z"}"#
        );
    }

    #[test]
    fn an_operators_label_replaces_a_default_and_an_empty_one_removes_it() {
        let given =
            Labels::from([("job".to_owned(), "cache".to_owned()), ("instance".to_owned(), String::new())]);
        let labels = labels(&given, "i:1", [("alertname", "A"), ("severity", "warning"), ("target", "t")]);
        assert_eq!(labels.get("job").map(String::as_str), Some("cache"));
        assert!(!labels.contains_key("instance"), "{labels:?}");
        let given = Labels::from([("instance".to_owned(), "own:1".to_owned())]);
        let labels = super::labels(
            &given,
            "of-a-host-header:1",
            [("alertname", "A"), ("severity", "warning"), ("target", "t")],
        );
        assert_eq!(labels.get("instance").map(String::as_str), Some("own:1"));
    }
}
