//! Delivery to one Alertmanager: a task with a bounded queue, which retries a message until it expires or is replaced by a newer
//! state.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::alert::Alert;
use super::http::{Client, HttpError};
use super::outbox::{Message, Outbox};
use crate::clock::{Clock, Mono, Unix};
use crate::config::Alertmanager;
use crate::watch::Histogram;

/// Path of the API.
pub(super) const ALERTS_PATH: &str = "/api/v2/alerts";

/// Maximum number of alerts in one request, as in Prometheus.
const MAX_BATCH: usize = 64;

/// Interval at which an idle connection to Alertmanager is tested, so that a wrong URL or password is detected before an alert
/// has to be sent.
const TEST_INTERVAL: Duration = Duration::from_secs(60);

/// Pause after the first failure; doubled after each further failure.
const MIN_PAUSE: Duration = Duration::from_millis(250);

/// Maximum pause after a failure.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Upper bounds of the histogram of latencies, in seconds.
const LATENCY_BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Outcome of delivering an alert; value of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// Alertmanager accepted the alert.
    Sent,
    /// Alertmanager responded with an error.
    Rejected,
    /// No response arrived in time.
    Timeout,
    /// There was no connection.
    Unreachable,
    /// The alert expired before it was delivered.
    Expired,
    /// Too many alerts were waiting.
    Dropped,
}

impl DeliveryOutcome {
    /// All outcomes.
    pub(crate) const ALL: [Self; 6] =
        [Self::Sent, Self::Rejected, Self::Timeout, Self::Unreachable, Self::Expired, Self::Dropped];

    /// Value of the label `outcome`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}

/// State of an Alertmanager.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    /// Base URL.
    pub(crate) url: Arc<str>,
    /// True if the last request succeeded; `None` before the first one.
    pub(crate) up: Option<bool>,
    /// Time of the last change of `up`.
    pub(crate) since: Unix,
    /// Reason why the last request failed.
    pub(crate) problem: Option<String>,
    /// Number of waiting alerts.
    pub(crate) waiting: usize,
    /// Number of alerts per outcome, in the order of [`DeliveryOutcome::ALL`].
    pub(crate) counts: [u64; DeliveryOutcome::ALL.len()],
    /// Time from when an alert was due until it was accepted.
    pub(crate) latency: Histogram,
}

/// Queue and state of one Alertmanager.
#[derive(Debug)]
pub(super) struct Sender {
    alertmanager: Arc<Alertmanager>,
    clock: Clock,
    state: Mutex<State>,
    /// Notified when a message is added.
    added: Notify,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    status: Status,
}

impl State {
    fn count(&mut self, outcome: DeliveryOutcome, number: u64) {
        for (known, count) in DeliveryOutcome::ALL.into_iter().zip(&mut self.status.counts) {
            if known == outcome {
                *count = count.saturating_add(number);
            }
        }
    }
}

impl Sender {
    pub(super) fn new(alertmanager: Arc<Alertmanager>, clock: Clock) -> Self {
        let status = Status {
            url: Arc::clone(&alertmanager.url),
            up: None,
            since: clock.now().unix,
            problem: None,
            waiting: 0,
            counts: [0; DeliveryOutcome::ALL.len()],
            latency: Histogram::new(LATENCY_BUCKETS.into()),
        };
        let state = Mutex::new(State { outbox: Outbox::default(), status });
        Self { alertmanager, clock, state, added: Notify::new() }
    }

    /// Returns the state.
    pub(super) fn status(&self) -> Status {
        let state = self.state.lock();
        Status { waiting: state.outbox.len(), ..state.status.clone() }
    }

    /// Adds an alert without waiting.
    pub(super) fn push(&self, message: Message) {
        let mut state = self.state.lock();
        if state.outbox.push(message) {
            state.count(DeliveryOutcome::Dropped, 1);
        }
        drop(state);
        self.added.notify_one();
    }

    /// Delivers until `stop` is cancelled. Calls `changed` whenever the status or the counts have changed.
    pub(super) async fn run(self: Arc<Self>, changed: impl Fn() + Send, stop: CancellationToken) {
        let mut client = Client::new(Arc::clone(&self.alertmanager));
        let mut failures = 0_u32;
        // The first request tests the connection.
        let mut test = true;
        loop {
            let (messages, expired) = self.state.lock().outbox.take(MAX_BATCH, self.now());
            if expired > 0 {
                self.state.lock().count(DeliveryOutcome::Expired, expired);
                changed();
            }
            let wait = if messages.is_empty() && !test {
                TEST_INTERVAL
            } else {
                test = false;
                let result = tokio::select! {
                    () = stop.cancelled() => return,
                    result = post(&mut client, messages.iter().map(|(_, message)| &*message.alert)) => result,
                };
                failures = if result.is_ok() { 0 } else { failures.saturating_add(1) };
                self.finish(messages, result);
                changed();
                match pause(failures) {
                    Duration::ZERO => continue,
                    // After a failure, a new message does not end the pause.
                    pause => {
                        tokio::select! {
                            () = stop.cancelled() => return,
                            () = sleep(pause) => {}
                        }
                        test = true;
                        continue;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.added.notified() => {}
                () = sleep(wait) => test = true,
            }
        }
    }

    fn now(&self) -> Mono {
        self.clock.now().mono
    }

    /// Records the result of a request, and puts back messages that were not delivered.
    fn finish(&self, messages: Vec<(u64, Message)>, result: Result<(), HttpError>) {
        let now = self.clock.now();
        let number = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        let mut state = self.state.lock();
        let (was_up, url) = (state.status.up, Arc::clone(&state.status.url));
        state.status.up = Some(result.is_ok());
        if was_up != state.status.up {
            state.status.since = now.unix;
        }
        let problem = match result {
            Ok(()) => {
                state.count(DeliveryOutcome::Sent, number);
                for (_, message) in &messages {
                    state.status.latency.observe(now.mono.since(message.due));
                }
                None
            }
            Err(error) => {
                let outcome = match &error {
                    HttpError::Timeout(_) => DeliveryOutcome::Timeout,
                    HttpError::Unreachable(_) => DeliveryOutcome::Unreachable,
                    HttpError::Rejected(..) => DeliveryOutcome::Rejected,
                };
                state.count(outcome, number);
                // Alertmanager has accepted the valid alerts, and a retry would get the same response.
                if !matches!(error, HttpError::Rejected(StatusCode::BAD_REQUEST, _)) {
                    let dropped = state.outbox.put_back(messages);
                    state.count(DeliveryOutcome::Dropped, dropped);
                }
                Some(error.to_string())
            }
        };
        state.status.problem.clone_from(&problem);
        drop(state);
        match (was_up, problem) {
            (Some(false), None) => info!(alertmanager = &*url, "Alertmanager accepts alerts again"),
            (None, None) => info!(alertmanager = &*url, "Alertmanager accepts alerts"),
            (Some(true) | None, Some(problem)) => {
                warn!(alertmanager = &*url, problem, "cannot send alerts to Alertmanager; trying again");
            }
            _ => {}
        }
    }
}

/// Posts alerts. An empty list tests the connection.
pub(super) async fn post(client: &mut Client, alerts: impl Iterator<Item = &Alert>) -> Result<(), HttpError> {
    let alerts: Vec<&Alert> = alerts.collect();
    let body = serde_json::to_vec(&alerts).map_err(|error| HttpError::Unreachable(error.to_string()))?;
    client.request(Method::POST, ALERTS_PATH, Bytes::from(body)).await.map(drop)
}

/// Pause after this number of failures: doubled each time, and shortened by a random amount of up to a quarter so that exporters
/// do not retry simultaneously.
fn pause(failures: u32) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let longest = MIN_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(MAX_PAUSE);
    longest.mul_f64(rand::random_range(0.75..=1.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::alert::Labels;
    use super::super::outbox::MAX_WAITING;
    use super::*;
    use crate::config::Endpoint;

    /// Returns a sender that does not run.
    fn sender() -> Sender {
        let alertmanager = Alertmanager {
            url: "http://a:9093".into(),
            endpoint: Endpoint::Tcp("a".to_owned(), 9093),
            host: "a:9093".to_owned(),
            prefix: String::new(),
            tls: None,
            authorization: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(1),
        };
        Sender::new(Arc::new(alertmanager), Clock::start())
    }

    fn message(target: usize) -> Message {
        let labels = Arc::new(Labels::from([("target".to_owned(), target.to_string())]));
        let at = Unix::from_epoch(Duration::ZERO);
        let alert = Alert { labels, annotations: BTreeMap::new(), starts_at: at, ends_at: at };
        Message { alert: Arc::new(alert), due: Mono::EPOCH, expires: Mono::EPOCH }
    }

    #[test]
    fn alerts_that_are_dropped_because_too_many_wait_are_counted() {
        let sender = sender();
        for target in 0..MAX_WAITING + 3 {
            sender.push(message(target));
        }
        let status = sender.status();
        let dropped = DeliveryOutcome::ALL.into_iter().zip(status.counts).filter(|(_, count)| *count > 0);
        assert_eq!(dropped.collect::<Vec<_>>(), [(DeliveryOutcome::Dropped, 3)]);
        assert_eq!(status.waiting, MAX_WAITING);
    }

    #[tokio::test]
    async fn alerts_that_expire_are_counted() {
        let (sender, stop) = (Arc::new(sender()), CancellationToken::new());
        sender.push(message(1));
        sender.push(message(2));
        let at_change = stop.clone();
        Arc::clone(&sender).run(move || at_change.cancel(), stop).await;
        let status = sender.status();
        let expired = DeliveryOutcome::ALL.into_iter().zip(status.counts).filter(|(_, count)| *count > 0);
        assert_eq!(expired.collect::<Vec<_>>(), [(DeliveryOutcome::Expired, 2)]);
        assert_eq!(status.waiting, 0);
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        assert_eq!(pause(0), Duration::ZERO);
        for (failures, longest) in [(1, MIN_PAUSE), (2, MIN_PAUSE * 2), (6, MAX_PAUSE), (u32::MAX, MAX_PAUSE)]
        {
            let pause = pause(failures);
            assert!(pause <= longest && pause >= longest * 3 / 4, "{failures}: {pause:?}");
        }
    }
}
