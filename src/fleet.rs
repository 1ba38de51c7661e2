//! The targets as the rest of the program sees them: each behind its own lock, changed only by observations.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;
use tracing::warn;

use crate::clock::{Clock, Moment};
use crate::config::TargetConfig;
use crate::journal;
use crate::redis::{TlsError, TlsSetup};
use crate::script::{Catalogue, Identity, Sha1Digits, Sources};
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
    names: Names,
    sources: Arc<Mutex<Sources>>,
}

/// The names of scripts, which a reload may replace at any time.
#[derive(Debug, Clone, Default)]
struct Names(Arc<RwLock<Arc<Catalogue>>>);

impl Names {
    fn get(&self) -> Arc<Catalogue> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One target: what to watch, how to get there, and its numbers.
#[derive(Debug)]
pub struct Watched {
    config: TargetConfig,
    tls: Option<TlsSetup>,
    clock: Clock,
    changes: Arc<AtomicU64>,
    store: Option<Arc<Store>>,
    names: Names,
    sources: Arc<Mutex<Sources>>,
    /// Scripts whose source this server was asked for.
    asked: Mutex<BTreeSet<Sha1Digits>>,
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
            names: Names::default(),
            sources: Arc::default(),
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
            names: self.names.clone(),
            sources: Arc::clone(&self.sources),
            asked: Mutex::default(),
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

    /// The names of scripts and their sources, from `--script.dir`.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.names.get()
    }

    /// The source of a script, or of a function's library: from its file, else as a server told it. Whether it may be shown
    /// is for the caller to know (`--web.show-source`).
    #[must_use]
    pub fn source(&self, script: &Identity) -> Option<Arc<[u8]>> {
        let catalogue = self.catalogue();
        if let Some(source) = catalogue.source(script) {
            return Some(Arc::clone(source));
        }
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get(Sha1Digits::new(&script.sha1)?).cloned()
    }

    /// From now on scripts have these names, also those that were counted before.
    pub fn set_catalogue(&self, catalogue: Catalogue) {
        *self.names.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
        self.changes.fetch_add(1, Ordering::Release);
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

    /// A script whose source is not known, and that this server was not asked for yet.
    pub(crate) fn wanted_source(&self, numbers: &Target) -> Option<Sha1Digits> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.has_room() {
            return None;
        }
        let names = self.names.get();
        let unknown = numbers.scripts().known().filter(|script| names.source(script).is_none());
        unknown
            .filter_map(|script| Sha1Digits::new(&script.sha1))
            .find(|sha1| sources.get(*sha1).is_none() && !asked.contains(sha1))
    }

    /// This server is asked for a script's source now, and not again.
    pub(crate) fn asks_source(&self, sha1: Sha1Digits) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(sha1);
    }

    /// Keeps a source that the server told.
    pub(crate) fn keep_source(&self, sha1: Sha1Digits, body: &[u8]) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).keep(sha1, body);
        self.changes.fetch_add(1, Ordering::Release);
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
        if events.is_empty() {
            return;
        }
        let names = self.names.get();
        for event in events {
            journal::write(&self.config.name, event, &names);
        }
    }
}
