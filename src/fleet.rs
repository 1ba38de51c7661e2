//! The targets as the rest of the program sees them: each behind its own lock, changed only by observations.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tracing::warn;

use crate::clock::{Clock, Moment};
use crate::config::TargetConfig;
use crate::journal;
use crate::redis::{TlsError, TlsSetup};
use crate::state::Store;
use crate::watch::{Event, Next, Observation, Snapshot, Target};

/// The targets at one moment, in the order in which they are shown.
pub type Targets = Arc<[Arc<Watched>]>;

/// All targets.
#[derive(Debug)]
pub struct Fleet {
    /// The targets that are watched now; whoever runs their tasks waits for changes.
    targets: watch::Sender<Targets>,
    clock: Clock,
    /// Grows with every change of any target's numbers, and of the targets themselves.
    changes: Arc<AtomicU64>,
    /// Keeps the account over restarts, if there is a state file.
    store: Option<Arc<Store>>,
}

/// One target: what to watch, how to get there, and its numbers.
#[derive(Debug)]
pub struct Watched {
    config: TargetConfig,
    tls: Option<TlsSetup>,
    clock: Clock,
    changes: Arc<AtomicU64>,
    store: Option<Arc<Store>>,
    /// Held for a step or a read of the numbers, never over an await.
    target: Mutex<Target>,
}

impl Fleet {
    /// The configured targets, not tried yet. What a former process left in the state file goes on; a file that can't be
    /// used is told of, and no error.
    ///
    /// # Errors
    /// TLS files that can't be used.
    pub fn new(targets: Vec<TargetConfig>, state: Option<&Path>, clock: Clock) -> Result<Self, TlsError> {
        let fleet = Self {
            targets: watch::Sender::new(Arc::new([])),
            clock,
            changes: Arc::new(AtomicU64::new(0)),
            store: state.map(|path| Arc::new(Store::open(path, clock))),
        };
        fleet.install(targets.into_iter().map(|config| fleet.prepare(config)).collect::<Result<_, _>>()?);
        Ok(fleet)
    }

    /// A target that is ready to be watched, and is so once it is among those that are installed.
    ///
    /// # Errors
    /// TLS files that can't be used.
    pub fn prepare(&self, config: TargetConfig) -> Result<Arc<Watched>, TlsError> {
        let tls =
            config.address.tls.then(|| TlsSetup::new(&config.tls, &config.address.endpoint)).transpose()?;
        let mut target = Target::new(&config);
        if let Some(store) = &self.store {
            target.save_first();
            if let Some(saved) = store.saved(&config.name)
                && !target.restore(saved)
            {
                warn!(
                    target = &*config.name,
                    "the state file has other --slow.buckets: the histograms of run times start anew"
                );
            }
        }
        Ok(Arc::new(Watched {
            config,
            tls,
            clock: self.clock,
            changes: Arc::clone(&self.changes),
            store: self.store.clone(),
            target: Mutex::new(target),
        }))
    }

    /// The state file.
    pub(crate) fn store(&self) -> Option<&Arc<Store>> {
        self.store.as_ref()
    }

    /// Watches these targets from now on. Those that were watched before go on as they are; those that are no longer
    /// among them end, and their numbers go with them.
    pub fn install(&self, targets: Vec<Arc<Watched>>) {
        self.targets.send_replace(targets.into());
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The targets that are watched now.
    #[must_use]
    pub fn targets(&self) -> Targets {
        Arc::clone(&self.targets.borrow())
    }

    /// The targets that are watched, and every change of them.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Targets> {
        self.targets.subscribe()
    }

    /// The clock that all observations are timed by.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A number that is another one after any change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether every target has been tried once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.targets().iter().all(|watched| watched.numbers().liveness().tried())
    }
}

impl Watched {
    /// What to watch and how.
    #[must_use]
    pub fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// How to begin TLS; `None` if the address does not want it.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSetup> {
        self.tls.as_ref()
    }

    /// The time by the fleet's clock.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The clock itself.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// The numbers, to be read; keep it short.
    pub fn numbers(&self) -> MutexGuard<'_, Target> {
        // A step that panicked has ended its task, and with it the process; what it left is still readable.
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an observation: changes the numbers and writes the log lines of what it led to.
    pub(crate) fn observe(&self, observation: Observation) -> Next {
        let now = self.now();
        let (reaction, unsaved) = {
            let mut numbers = self.numbers();
            let reaction = numbers.step(observation, now);
            (reaction, numbers.is_unsaved())
        };
        if let Some(store) = self.store.as_ref().filter(|_| unsaved) {
            store.wake();
        }
        self.tell(&reaction.events);
        reaction.next
    }

    /// A snapshot is saved, or can't be: what it has may be shown and told now.
    pub(crate) fn saved(&self, snapshot: Snapshot) {
        let events = self.numbers().saved(snapshot);
        self.tell(&events);
    }

    fn tell(&self, events: &[Event]) {
        self.changes.fetch_add(1, Ordering::Release);
        for event in events {
            journal::write(&self.config.name, event);
        }
    }
}
