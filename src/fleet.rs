//! The targets as the rest of the program sees them: each behind its own lock, changed only by observations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Moment};
use crate::config::TargetConfig;
use crate::journal;
use crate::redis::{TlsError, TlsSetup};
use crate::watch::{Next, Observation, Target};

/// All targets.
#[derive(Debug)]
pub struct Fleet {
    targets: Vec<Arc<Watched>>,
    clock: Clock,
    /// Grows with every change of any target's numbers.
    changes: Arc<AtomicU64>,
}

/// One target: what to watch, how to get there, and its numbers.
#[derive(Debug)]
pub struct Watched {
    config: TargetConfig,
    tls: Option<TlsSetup>,
    clock: Clock,
    changes: Arc<AtomicU64>,
    /// Held for a step or a read of the numbers, never over an await.
    target: Mutex<Target>,
}

impl Fleet {
    /// The configured targets, not tried yet.
    ///
    /// # Errors
    /// TLS files that can't be used.
    pub fn new(targets: Vec<TargetConfig>, clock: Clock) -> Result<Self, TlsError> {
        let changes = Arc::new(AtomicU64::new(0));
        let targets = targets
            .into_iter()
            .map(|config| {
                let wants_tls = config.address.tls;
                let tls =
                    wants_tls.then(|| TlsSetup::new(&config.tls, &config.address.endpoint)).transpose()?;
                let target = Mutex::new(Target::new(&config));
                Ok(Arc::new(Watched { config, tls, clock, changes: Arc::clone(&changes), target }))
            })
            .collect::<Result<_, TlsError>>()?;
        Ok(Self { targets, clock, changes })
    }

    /// The targets, in the order of the configuration.
    #[must_use]
    pub fn targets(&self) -> &[Arc<Watched>] {
        &self.targets
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
        self.targets.iter().all(|watched| watched.numbers().liveness().tried())
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
        let reaction = self.numbers().step(observation, now);
        self.changes.fetch_add(1, Ordering::Release);
        for event in &reaction.events {
            journal::write(&self.config.name, event);
        }
        reaction.next
    }
}
