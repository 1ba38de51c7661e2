//! Trial for `check --alertmanager`: sends a test alert to each Alertmanager, queries it there and ends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::Method;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::alert::{self, Alert, Labels};
use super::http::{Client, HttpError};
use super::sender::{ALERTS_PATH, post};
use crate::clock::Clock;
use crate::config::{Alertmanager, NotifyConfig};
use crate::text::clean;

/// Name of the test alert.
pub(crate) const TEST_ALERT: &str = "RedisScriptExporterTest";

/// Value of the label `severity` of the test alert. No shipped rule and no route of the example uses it.
const SEVERITY: &str = "none";

/// Time after which the test alert expires if the trial is interrupted.
const VALIDITY: Duration = Duration::from_secs(60);

/// Maximum length of a receiver name from Alertmanager, in bytes.
const MAX_TEXT: usize = 200;

/// Result of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trial {
    /// Base URL of the Alertmanager.
    pub(crate) url: Arc<str>,
    /// Receivers to which Alertmanager routes the alert, or the reason why the trial failed.
    pub(crate) result: Result<Vec<String>, String>,
}

/// Alert as listed by the API.
#[derive(Debug, Deserialize)]
struct Listed {
    labels: Labels,
    #[serde(default)]
    receivers: Vec<Receiver>,
}

#[derive(Debug, Deserialize)]
struct Receiver {
    name: String,
}

/// Runs the trials of all Alertmanagers concurrently.
pub(crate) async fn run(config: &NotifyConfig, clock: Clock) -> Vec<Trial> {
    let own = [("alertname", TEST_ALERT), ("severity", SEVERITY), ("target", "")];
    let labels = Arc::new(alert::labels(&config.labels, "redis-script-exporter check", own));
    let mut trials = JoinSet::new();
    for (index, alertmanager) in config.alertmanagers.iter().enumerate() {
        let (alertmanager, labels) = (Arc::clone(alertmanager), Arc::clone(&labels));
        trials.spawn(async move { (index, one(alertmanager, labels, clock).await) });
    }
    let mut trials = trials.join_all().await;
    trials.sort_by_key(|(index, _)| *index);
    trials.into_iter().map(|(_, trial)| trial).collect()
}

async fn one(alertmanager: Arc<Alertmanager>, labels: Arc<Labels>, clock: Clock) -> Trial {
    let url = Arc::clone(&alertmanager.url);
    let mut client = Client::new(alertmanager);
    let starts_at = clock.now().unix;
    let mut test = Alert {
        labels,
        annotations: BTreeMap::from([
            ("summary", "Test of redis-script-exporter check --alertmanager.".to_owned()),
            ("description", "Nothing is wrong. The alert ends by itself.".to_owned()),
        ]),
        starts_at,
        ends_at: starts_at + VALIDITY,
    };
    let result = match post(&mut client, std::iter::once(&test)).await {
        Ok(()) => find(&mut client, &test).await,
        Err(error) => Err(error.to_string()),
    };
    if result.is_ok() {
        test.ends_at = clock.now().unix.max(starts_at + Duration::from_millis(1));
        if let Err(error) = post(&mut client, std::iter::once(&test)).await {
            return Trial { url, result: Err(format!("the test alert cannot be ended: {error}")) };
        }
    }
    Trial { url, result }
}

/// Finds the test alert in Alertmanager, and returns its receivers.
async fn find(client: &mut Client, test: &Alert) -> Result<Vec<String>, String> {
    let path = format!("{ALERTS_PATH}?filter=alertname%3D%22{TEST_ALERT}%22");
    let body = client.request(Method::GET, &path, Bytes::new()).await;
    let body = body.map_err(|error: HttpError| format!("accepts alerts, but does not list them: {error}"))?;
    let listed: Vec<Listed> = serde_json::from_slice(&body)
        .map_err(|_| "accepts alerts, but does not list them as API v2 does".to_owned())?;
    let found = listed.into_iter().find(|listed| listed.labels == *test.labels);
    let found = found.ok_or_else(|| {
        "accepts the test alert, but does not list it; compare the clocks of both machines".to_owned()
    })?;
    Ok(found.receivers.iter().map(|receiver| clean(&receiver.name, MAX_TEXT)).collect())
}
