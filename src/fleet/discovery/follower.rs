//! Task of one entry, which applies the results of its rounds to the fleet and logs them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::newcomers::{MAX_UNREACHED, Newcomers};
use super::rounds::Rounds;
use super::topology::MAX_SERVERS;
use crate::blocking::FILES;
use crate::client::tls_key;
use crate::config::{Discovery, Endpoint};
use crate::fleet::Fleet;
use crate::fleet::update::{DiscoveryChanges, EndedTarget};
use crate::logging::event_log::{Limiter, Omitted, Priority};
use crate::watch::StateKind;

/// Pause between two rounds.
const PAUSE: Duration = Duration::from_secs(1);

/// Pause between two rounds with more than [`MANY`] servers, because the size of a reply grows with their number.
const LONG_PAUSE: Duration = Duration::from_secs(3);

/// Number of servers above which the pause is longer.
const MANY: usize = 100;

/// Time limit for reading the certificates of the servers.
const FILES_LIMIT: Duration = Duration::from_secs(5);

/// Maximum number of problems that are remembered so that each is logged only once.
const MAX_LOGGED: usize = 1000;

/// Keeps the fleet's targets of one entry in line with the discovered servers.
pub(super) struct Follower {
    fleet: Arc<Fleet>,
    rounds: Rounds,
    newcomers: Newcomers,
    /// True while new servers are left out because there are too many of them.
    is_limiting: bool,
    /// Current problem of the entry as a whole.
    problem: Option<String>,
    /// Problems of single servers that have been logged.
    logged: HashSet<String>,
    /// Limits the log lines about targets that start and end.
    log: Limiter,
}

impl Follower {
    pub(super) fn new(fleet: Arc<Fleet>, entry: Arc<Discovery>) -> Self {
        Self {
            fleet,
            rounds: Rounds::new(entry),
            newcomers: Newcomers::default(),
            is_limiting: false,
            problem: None,
            logged: HashSet::new(),
            log: Limiter::default(),
        }
    }

    /// Runs rounds forever.
    pub(super) async fn follow(&mut self) {
        let entry = Arc::clone(self.rounds.entry());
        loop {
            let unreachable = |endpoint: &Endpoint| {
                let handle = self.fleet.find(&entry.label(endpoint));
                handle.is_some_and(|handle| {
                    handle.numbers().liveness().state().kind() == StateKind::Unreachable
                })
            };
            if self.fleet.dials_refused(&entry.name) > 0 {
                self.rounds.request_lookup();
            }
            let mut problem = self.rounds.round(self.fleet.clock().now().mono, unreachable).await;
            let mut found = self.rounds.endpoints();
            self.limit_newcomers(&entry, &mut found);
            let pause = if found.len() > MANY { LONG_PAUSE } else { PAUSE };
            // If one of several masters fails, the servers of the others are still known.
            if problem.is_none() || !found.is_empty() {
                match self.set_discovered(&entry, found).await {
                    Ok(changes) => self.log_changes(&changes),
                    Err(error) => problem = problem.or(Some(error)),
                }
            }
            let refused: Vec<String> = self.rounds.refused().into_iter().map(Endpoint::to_string).collect();
            self.fleet.record_round(&entry, problem.is_none(), refused.len());
            self.log_refused(&refused);
            self.log_problem(problem);
            sleep(pause).await;
        }
    }

    /// Leaves out new servers above the limits, and logs when this begins.
    fn limit_newcomers(&mut self, entry: &Discovery, found: &mut BTreeSet<Endpoint>) {
        let now = self.fleet.clock().now().mono;
        let is_unreached = |endpoint: &&Endpoint| {
            self.fleet.find(&entry.label(endpoint)).is_some_and(|handle| handle.reached().is_none())
        };
        let unreached = self.newcomers.known().filter(is_unreached).count();
        let delayed = self.newcomers.limit(found, unreached, now);
        if delayed > 0 && !self.is_limiting && self.log.admit(Priority::Medium, now) {
            let discovery = &*entry.name;
            warn!(
                discovery,
                delayed,
                unreached,
                "too many new servers; they are added at 200 per minute, and none while there are {MAX_UNREACHED} servers \
                 to which there has been no connection"
            );
        }
        self.is_limiting = delayed > 0;
    }

    /// Replaces the targets of the entry.
    ///
    /// # Errors
    /// The certificates were not read in time, or the exporter is stopping.
    async fn set_discovered(
        &self,
        entry: &Arc<Discovery>,
        found: BTreeSet<Endpoint>,
    ) -> Result<DiscoveryChanges, String> {
        if let Some(tls) = entry.tls() {
            let (fleet, one) = (Arc::clone(&self.fleet), Arc::clone(entry));
            // A certificate that can't be used is reported for each server that needs it.
            let _ = FILES
                .run(tls_key(tls), FILES_LIMIT, move || fleet.check_discovery(&one))
                .await
                .map_err(|unfinished| format!("cannot read the certificates: {unfinished}"))?;
        }
        let (fleet, entry) = (Arc::clone(&self.fleet), Arc::clone(entry));
        spawn_blocking(move || fleet.set_discovered(&entry, &found)).await.map_err(|error| error.to_string())
    }

    fn log_changes(&mut self, changes: &DiscoveryChanges) {
        let discovery = &*self.rounds.entry().name;
        let now = self.fleet.clock().now().mono;
        if let Some(omitted) = self.log.due(now) {
            log_omitted(discovery, omitted);
        }
        for target in &changes.started {
            if self.log.admit(Priority::High, now) {
                info!(discovery, target = &**target, "target discovered");
            }
        }
        for EndedTarget { name, entry, is_duplicate } in &changes.ended {
            let (discovery, target) = (&**entry, &**name);
            if self.log.admit(Priority::High, now) {
                if *is_duplicate {
                    info!(discovery, target, "target ended: its server is watched as another target");
                } else {
                    info!(discovery, target, "target ended: no longer listed");
                }
            }
        }
        let left_out = self.rounds.left_out() + changes.left_out;
        if left_out > 0 && self.logged.insert("left out".to_owned()) {
            warn!(
                discovery,
                left_out,
                "too many servers: an entry may have at most {MAX_SERVERS}; the others are not watched"
            );
        }
        for (endpoint, problem) in &changes.problems {
            let is_new =
                self.logged.len() < MAX_LOGGED && self.logged.insert(format!("{endpoint} {problem}"));
            if is_new && self.log.admit(Priority::Medium, now) {
                warn!(discovery, address = %endpoint, problem, "discovered server is not watched by this entry");
            }
        }
    }

    /// Logs once each server that `allow` does not admit.
    fn log_refused(&mut self, refused: &[String]) {
        let discovery = &*self.rounds.entry().name;
        let now = self.fleet.clock().now().mono;
        for address in refused {
            let is_new = self.logged.len() < MAX_LOGGED && self.logged.insert(format!("{address} refused"));
            if is_new && self.log.admit(Priority::Medium, now) {
                warn!(
                    discovery,
                    address, "discovered server is not watched: the entry's allow does not admit it"
                );
            }
        }
    }

    /// Logs the beginning and the end of a problem.
    fn log_problem(&mut self, problem: Option<String>) {
        let discovery = &*self.rounds.entry().name;
        match (&problem, &self.problem) {
            (Some(problem), None) => {
                warn!(discovery, problem, "discovery failed; keeping existing targets");
            }
            (None, Some(_)) => info!(discovery, "discovery works again"),
            _ => {}
        }
        self.problem = problem;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(omitted) = self.log.rest() {
            log_omitted(&self.rounds.entry().name, omitted);
        }
    }
}

/// Logs the number of omitted log lines of an entry.
fn log_omitted(discovery: &str, omitted: Omitted) {
    warn!(discovery, lines = omitted.lines, "log lines omitted: targets are added and removed too fast");
}
