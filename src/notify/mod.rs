//! Alerts that the exporter sends directly to Alertmanager, without waiting for a scrape and a rule evaluation.
//!
//! `text` creates the annotations of an alert, `tracker` decides when the alerts of a target are sent and ended, and `outbox`
//! holds those waiting for delivery; these are pure. `scrapes` records the clients that scrape, `sender` delivers to one
//! Alertmanager, and `http` is its client. Everything else only adds to a bounded queue, so a slow or dead Alertmanager delays
//! nothing.

pub(crate) mod alert;
mod guard;
mod http;
mod outbox;
mod scrapes;
mod sender;
mod text;
mod tracker;
pub(crate) mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use self::alert::{Alert, Labels};
use self::guard::{GuardAction, GuardAlerts, GuardNotice};
use self::outbox::Message;
pub(crate) use self::scrapes::Scrape;
use self::scrapes::Scrapes;
use self::sender::Sender;
pub(crate) use self::sender::{DeliveryOutcome, Status};
use self::text::{AlertFacts, AlertScript, Blockage};
use self::tracker::{Notice, Tracker};
use crate::clock::{Clock, Mono, Timestamps};
use crate::config::NotifyConfig;
use crate::guard::{Guard, Mode};
use crate::poll::{Shared, TargetHandle};
use crate::shell::redis_cli;
use crate::watch::{Severity, State};

/// Name of the alert, as in the shipped rules.
const ALERT_NAME: &str = "RedisScriptRunning";

/// Number of resend delays after which an alert that is not resent expires.
const RESENDS: u32 = 4;

/// Sender of alerts to all Alertmanagers.
#[derive(Debug)]
pub(crate) struct Notifier {
    config: NotifyConfig,
    /// Value of the label `instance` until it is known from a scrape.
    fallback_instance: String,
    clock: Clock,
    senders: Vec<Arc<Sender>>,
    scrapes: Mutex<Scrapes>,
}

impl Notifier {
    /// Creates a notifier, which sends nothing until it runs.
    pub(crate) fn new(config: NotifyConfig, fallback_instance: String, clock: Clock) -> Self {
        let senders = config.alertmanagers.iter();
        let senders = senders.map(|alertmanager| Arc::new(Sender::new(Arc::clone(alertmanager), clock)));
        Self { senders: senders.collect(), config, fallback_instance, clock, scrapes: Mutex::default() }
    }

    /// Returns the configuration.
    pub(crate) fn config(&self) -> &NotifyConfig {
        &self.config
    }

    /// Returns the state of each Alertmanager.
    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.senders.iter().map(|sender| sender.status()).collect()
    }

    /// Records a scrape by Prometheus.
    pub(crate) fn scraped(&self, scrape: &Scrape<'_>) {
        self.scrapes.lock().record(scrape, self.clock.now().mono);
    }

    /// Queues an alert for every Alertmanager, without waiting. Its labels come from [`Self::labels`].
    pub(crate) fn send(&self, alert: Alert) {
        let now = self.clock.now().mono;
        let alert = Arc::new(alert);
        let expires = now + self.validity();
        for sender in &self.senders {
            sender.push(Message { alert: Arc::clone(&alert), due: now, expires });
        }
    }

    /// Time after which an alert that is not resent expires.
    fn validity(&self) -> Duration {
        self.config.resend_delay.saturating_mul(RESENDS)
    }

    /// Returns the labels of an alert about a target.
    pub(crate) fn labels(&self, target: &str, is_probed: bool, name: &str, severity: Severity) -> Labels {
        let scrapes = self.scrapes.lock();
        let instance = scrapes.instance(target, is_probed).unwrap_or(&self.fallback_instance);
        let own = [("alertname", name), ("severity", severity.as_str()), ("target", target)];
        alert::labels(&self.config.labels, instance, own)
    }

    /// Sends the alerts of all targets until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut targets: watch::Receiver<Arc<[Arc<TargetHandle>]>>,
        shared: Arc<Shared>,
        stop: CancellationToken,
    ) {
        let mut tasks = JoinSet::new();
        for sender in &self.senders {
            let (sender, shared, stop) = (Arc::clone(sender), Arc::clone(&shared), stop.clone());
            tasks.spawn(async move { sender.run(|| shared.changed(), stop).await });
        }
        let mut planner = Planner { notifier: &self, tracked: BTreeMap::new() };
        loop {
            let now = Arc::clone(&targets.borrow_and_update());
            let due = planner.step(&now);
            let wait = async {
                match due {
                    Some(due) => sleep_until(self.clock.instant(due)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = shared.blockage_changed() => {}
                () = wait => {}
                // The `watch` sender belongs to the fleet, so this can't fail.
                _ = targets.changed() => planner.follow(&targets.borrow()),
                Some(Err(error)) = tasks.join_next() => {
                    if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Name of a target, and true if it was created by `/probe`.
type Key = (Arc<str>, bool);

/// Tracked targets: those with a blockage or an open alert.
struct Planner<'a> {
    notifier: &'a Notifier,
    tracked: BTreeMap<Key, Tracked>,
}

/// Target with a blockage or an open alert.
struct Tracked {
    /// `None` if the target is no longer watched.
    handle: Option<Arc<TargetHandle>>,
    tracker: Tracker,
    /// Alerts about the guard's actions.
    guard: GuardAlerts,
    /// Time of the next step.
    due: Mono,
    /// Labels of the open alerts; they don't change while an alert is open.
    labels: Vec<(Severity, Arc<Labels>)>,
    /// Facts of the last step.
    facts: AlertFacts,
}

fn key_of(handle: &TargetHandle) -> Key {
    (Arc::clone(&handle.config().name), handle.is_probed())
}

impl Planner<'_> {
    /// Applies a change to the list of targets.
    fn follow(&mut self, targets: &[Arc<TargetHandle>]) {
        let now = self.notifier.clock.now().mono;
        for (key, tracked) in &mut self.tracked {
            let handle = targets.iter().find(|handle| key_of(handle) == *key).cloned();
            (tracked.handle, tracked.due) = (handle, now);
        }
    }

    /// Sends the alerts that are due, and returns the time of the next step.
    fn step(&mut self, targets: &[Arc<TargetHandle>]) -> Option<Mono> {
        let now = self.notifier.clock.now();
        for handle in targets.iter().filter(|handle| handle.take_blockage_changed()) {
            let new = || Tracked {
                handle: Some(Arc::clone(handle)),
                tracker: Tracker::default(),
                guard: GuardAlerts::default(),
                due: now.mono,
                labels: Vec::new(),
                facts: facts_of(handle),
            };
            self.tracked.entry(key_of(handle)).or_insert_with(new).due = now.mono;
        }
        let notifier = self.notifier;
        self.tracked.retain(|key, tracked| tracked.due > now.mono || tracked.step(notifier, key, now));
        self.tracked.values().map(|tracked| tracked.due).min()
    }
}

impl Tracked {
    /// Sends the alerts that are due. Returns false if there is nothing left to do.
    fn step(&mut self, notifier: &Notifier, (target, is_probed): &Key, now: Timestamps) -> bool {
        let scrapes = if let Some(handle) = &self.handle {
            self.facts = facts_of(handle);
            notifier.scrapes.lock().of(target, *is_probed)
        } else {
            self.facts.blockage = None;
            self.facts.actions.clear();
            Vec::new()
        };
        let step = self.tracker.step(&self.facts, &scrapes, now, notifier.config.resend_delay);
        for notice in step.notices {
            let severity = notice.severity;
            let known = self.labels.iter().find(|(known, _)| *known == severity);
            let labels = if let Some((_, labels)) = known {
                Arc::clone(labels)
            } else {
                let labels = Arc::new(notifier.labels(target, *is_probed, ALERT_NAME, severity));
                self.labels.push((severity, Arc::clone(&labels)));
                labels
            };
            if notice.over.is_some() {
                self.labels.retain(|(known, _)| *known != severity);
            }
            notifier.send(self.alert(&notice, labels, now, notifier.validity()));
        }
        let (notices, guard_due) = self.guard.step(&self.facts.actions, now, notifier.config.resend_delay);
        for notice in notices {
            let mut labels = notifier.labels(target, *is_probed, notice.name, Severity::Warning);
            labels.insert("outcome".to_owned(), notice.action.outcome.as_str().to_owned());
            notifier.send(self.guard_alert(&notice, labels));
        }
        match step.due.into_iter().chain(guard_due).min() {
            Some(due) => self.due = due,
            None if self.tracker.is_idle() => return false,
            None => self.due = now.mono,
        }
        true
    }

    fn guard_alert(&self, notice: &GuardNotice, labels: Labels) -> Alert {
        let annotations = self.facts.of_guard(&labels, &notice.action);
        Alert { labels: Arc::new(labels), annotations, starts_at: notice.since, ends_at: notice.until }
    }

    fn alert(&self, notice: &Notice, labels: Arc<Labels>, now: Timestamps, validity: Duration) -> Alert {
        let starts_at = notice.since.unix;
        // The wall clock may have been set back, and Alertmanager rejects an end before the start.
        let not_before = |at| if at > starts_at { at } else { starts_at + Duration::from_millis(1) };
        match notice.over {
            None => {
                let annotations = self.facts.while_blocked(&labels, notice.blocked);
                Alert { labels, annotations, starts_at, ends_at: not_before(now.unix) + validity }
            }
            Some(over) => {
                let state = self.facts.state.filter(|_| self.handle.is_some());
                let facts = AlertFacts { state, ..self.facts.clone() };
                let annotations = facts.after_end(&labels, notice.blocked, over.unix);
                Alert { labels, annotations, starts_at, ends_at: not_before(over.unix) }
            }
        }
    }
}

/// Returns the facts that alerts depend on.
fn facts_of(handle: &TargetHandle) -> AlertFacts {
    let names = handle.catalogue();
    let address = handle.config().address.to_string();
    let target = handle.numbers();
    let liveness = target.liveness();
    let running = liveness.running_script().map(|running| AlertScript {
        kind: running.kind.as_str(),
        script: target.scripts().label_of(&running.script, &names).to_string(),
        name: names.named(&running.script).name.to_string(),
    });
    let kills = target.guard().map(Guard::policy).filter(|policy| policy.mode == Mode::Kill);
    let actions = target.guard().into_iter().flat_map(Guard::latest).map(|action| GuardAction {
        outcome: action.outcome,
        at: action.at,
        ran_for: action.ran_for,
        kind: action.kind.as_str(),
        script: action.script.as_ref().map(|script| {
            let label = target.scripts().label_of(script, &names).to_string();
            (label, names.named(script).name.to_string())
        }),
    });
    AlertFacts {
        target: Arc::clone(&handle.config().name),
        address: Some(address).filter(|address| *address != handle.name()),
        redis_cli: redis_cli(handle.config()),
        state: liveness.state().is_tried().then(|| State::kind(liveness.state())),
        slow: target.scripts().slow(),
        time_limit: target.server().settings().time_limit,
        page: handle.page(),
        kill_after: kills.map(|policy| policy.kill_after),
        actions: actions.collect(),
        guard_grant: target.guard().and_then(|guard| Some(guard.trouble()?.fix.as_ref()?.shell.clone())),
        blockage: liveness.blockage().map(|(noticed, began)| {
            let began_at = handle.now().unix_of(began);
            Blockage { noticed, began, began_at, running }
        }),
    }
}
