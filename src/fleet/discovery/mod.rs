//! Learning of servers: the nodes of a cluster from any of them, and masters with their replicas from Sentinels.
//!
//! One task per entry of the configuration that has `discover`, with connections of its own and a limit on the time of
//! everything: no poll waits for it, and it waits for no server that is blocked. Up to three servers are asked at the same
//! time, and what any of them lists is there; so a server that is cut off, or was removed and does not know it, makes
//! nothing disappear. While nobody answers, everything stays as it is.
//!
//! What is announced decides where the exporter connects to with the entry's credentials, within the entry's `allow`: what
//! that does not admit is neither asked nor watched. It is believed only if it comes from a server that was itself
//! configured or announced, and has accepted our login.

mod peer;
mod progress;
mod topology;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::peer::{Peer, Told};
pub(crate) use self::progress::Progress;
use self::topology::{Answer, MAX_SERVERS, Topology};
use crate::blocking::FILES;
use crate::client::{addresses_of, tls_key};
use crate::clock::Mono;
use crate::config::{Discovery, Endpoint, Method, TargetConfig};
use crate::fleet::Fleet;
use crate::fleet::update::DiscoveryChanges;
use crate::logging::event_log::{Limiter, Omitted, Priority};
use crate::watch::StateKind;

/// How many servers are asked in one round.
const PEERS: usize = 3;

/// The pause between two rounds.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause where there are many servers: the reply grows with their number.
const LONG_PAUSE: Duration = Duration::from_secs(3);

/// A server that failed is not asked again for so long, while others answer.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Interval between lookups of the entry's own names, while servers are refused because of their addresses.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);

/// Time for the lookup of one name.
const LOOKUP_LIMIT: Duration = Duration::from_secs(1);

/// How long the certificates of the servers may take to be read.
const FILES_LIMIT: Duration = Duration::from_secs(5);

/// How many servers are many.
const MANY: usize = 100;

/// Things that are told once are remembered up to this number.
const MAX_TOLD: usize = 1000;

/// Runs a task for each entry that the fleet has, until `stop`.
pub(crate) async fn keep(fleet: Arc<Fleet>, stop: CancellationToken) {
    let mut entries = fleet.discoveries();
    let mut tasks: JoinSet<bool> = JoinSet::new();
    let mut running: Vec<(Arc<Discovery>, CancellationToken)> = Vec::new();
    loop {
        let wanted = Arc::clone(&entries.borrow_and_update());
        running.retain(|(entry, stop)| {
            let stays = wanted.iter().any(|one| Arc::ptr_eq(one, entry));
            if !stays {
                stop.cancel();
            }
            stays
        });
        for entry in wanted.iter() {
            if !running.iter().any(|(one, _)| Arc::ptr_eq(one, entry)) {
                let stop = stop.child_token();
                running.push((Arc::clone(entry), stop.clone()));
                let mut follower = Follower::new(Arc::clone(&fleet), Arc::clone(entry));
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => true,
                        () = follower.follow() => false,
                    }
                });
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // The fleet is held, so the sender lives.
            _ = entries.changed() => {}
            // Whoever started this ends the program then.
            Some(end) = tasks.join_next() => if !matches!(end, Ok(true)) { return },
        }
    }
}

/// Targets for the servers that there are to discover now, but for those that are among `targets` already. `refused` is
/// called with the name of the entry and each server that its `allow` does not admit.
///
/// # Errors
/// What is not told: the entry, and why.
pub(crate) async fn find(
    entries: Vec<Discovery>,
    targets: &[TargetConfig],
    now: Mono,
    refused: impl Fn(&str, &Endpoint),
) -> Result<Vec<TargetConfig>, FindError> {
    let mut taken: HashSet<Endpoint> =
        targets.iter().map(|target| target.address.endpoint.identity()).collect();
    let mut found = Vec::new();
    for entry in entries {
        let mut rounds = Rounds::new(Arc::new(entry));
        if let Some(problem) = rounds.round(now, |_| false).await {
            return Err(FindError { entry: Arc::clone(&rounds.entry.name), problem });
        }
        for endpoint in rounds.refused() {
            refused(&rounds.entry.name, endpoint);
        }
        let endpoints = rounds.endpoints().into_iter().filter(|endpoint| taken.insert(endpoint.identity()));
        found.extend(endpoints.map(|endpoint| rounds.entry.target(endpoint)));
    }
    Ok(found)
}

/// Servers that there are to discover are not told.
#[derive(Debug, thiserror::Error)]
#[error("cannot discover the servers of {entry}: {problem}")]
pub(crate) struct FindError {
    entry: Arc<str>,
    problem: String,
}

/// Keeps the fleet's targets of one entry as they are told.
struct Follower {
    fleet: Arc<Fleet>,
    rounds: Rounds,
    /// What does not work at present, as it was told.
    problem: Option<String>,
    /// What was told about single servers.
    told: HashSet<String>,
    /// Limits the log lines about targets that come and go.
    log: Limiter,
}

impl Follower {
    fn new(fleet: Arc<Fleet>, entry: Arc<Discovery>) -> Self {
        Self {
            fleet,
            rounds: Rounds::new(entry),
            problem: None,
            told: HashSet::new(),
            log: Limiter::default(),
        }
    }

    /// Round after round.
    async fn follow(&mut self) {
        let entry = Arc::clone(&self.rounds.entry);
        loop {
            let unreachable = |endpoint: &Endpoint| {
                let target = self.fleet.find(&entry.label(endpoint));
                target.is_some_and(|target| {
                    target.numbers().liveness().state().kind() == StateKind::Unreachable
                })
            };
            self.rounds.look_up |= self.fleet.dials_refused(&entry.name) > 0;
            let mut problem = self.rounds.round(self.fleet.clock().now().mono, unreachable).await;
            let found = self.rounds.endpoints();
            let pause = if found.len() > MANY { LONG_PAUSE } else { PAUSE };
            // Where one of several masters is not known, the servers of the others are.
            if problem.is_none() || !found.is_empty() {
                match self.set_discovered(&entry, found).await {
                    Ok(found) => self.tell(&found),
                    Err(why) => problem = problem.or(Some(why)),
                }
            }
            let refused: Vec<String> = self.rounds.refused().into_iter().map(Endpoint::to_string).collect();
            self.fleet.record_round(&entry, problem.is_none(), refused.len());
            self.tell_refused(&refused);
            self.tell_problem(problem);
            sleep(pause).await;
        }
    }

    /// Watches the servers that were found.
    ///
    /// # Errors
    /// Certificates that can't be read in time, or the end of the exporter.
    async fn set_discovered(
        &self,
        entry: &Arc<Discovery>,
        found: BTreeSet<Endpoint>,
    ) -> Result<DiscoveryChanges, String> {
        if let Some(tls) = entry.tls() {
            let (fleet, one) = (Arc::clone(&self.fleet), Arc::clone(entry));
            // One that can't be used is told with the servers that can't be watched for it.
            let _ = FILES
                .run(tls_key(tls), FILES_LIMIT, move || fleet.check_discovery(&one))
                .await
                .map_err(|unfinished| format!("cannot read the certificates: {unfinished}"))?;
        }
        let (fleet, entry) = (Arc::clone(&self.fleet), Arc::clone(entry));
        spawn_blocking(move || fleet.set_discovered(&entry, &found)).await.map_err(|error| error.to_string())
    }

    fn tell(&mut self, found: &DiscoveryChanges) {
        let discovery = &*self.rounds.entry.name;
        let now = self.fleet.clock().now().mono;
        if let Some(omitted) = self.log.due(now) {
            log_omitted(discovery, omitted);
        }
        for target in &found.started {
            if self.log.admit(Priority::High, now) {
                info!(discovery, target = &**target, "discovered, watched from now on");
            }
        }
        for target in &found.ended {
            if self.log.admit(Priority::High, now) {
                info!(discovery, target = &**target, "no longer listed, no longer watched");
            }
        }
        let left_out = self.rounds.topologies.iter().map(Topology::left_out).sum::<usize>() + found.left_out;
        if left_out > 0 && self.told.insert("left out".to_owned()) {
            warn!(
                discovery,
                left_out, "too many servers: an entry may have {MAX_SERVERS}; these are not watched"
            );
        }
        for (endpoint, problem) in &found.problems {
            let is_new = self.told.len() < MAX_TOLD && self.told.insert(format!("{endpoint} {problem}"));
            if is_new && self.log.admit(Priority::Medium, now) {
                warn!(discovery, address = %endpoint, problem, "a server that was discovered is not watched as such");
            }
        }
    }

    /// Logs each server that may not be connected to, once.
    fn tell_refused(&mut self, refused: &[String]) {
        let discovery = &*self.rounds.entry.name;
        let now = self.fleet.clock().now().mono;
        for address in refused {
            let is_new = self.told.len() < MAX_TOLD && self.told.insert(format!("{address} refused"));
            if is_new && self.log.admit(Priority::Medium, now) {
                warn!(
                    discovery,
                    address,
                    "a server that was announced is not connected to: allow of the entry does not admit it"
                );
            }
        }
    }

    fn tell_problem(&mut self, problem: Option<String>) {
        let discovery = &*self.rounds.entry.name;
        match (&problem, &self.problem) {
            (Some(problem), None) => {
                warn!(discovery, problem, "discovery gets no answer; what is watched stays watched");
            }
            (None, Some(_)) => info!(discovery, "discovery gets answers again"),
            _ => {}
        }
        self.problem = problem;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(omitted) = self.log.rest() {
            log_omitted(&self.rounds.entry.name, omitted);
        }
    }
}

/// Logs how many log lines of an entry were omitted.
fn log_omitted(discovery: &str, omitted: Omitted) {
    warn!(discovery, lines = omitted.lines, "log lines were left out: too many targets come and go");
}

/// Asks round after round, whoever answers.
struct Rounds {
    entry: Arc<Discovery>,
    /// One for a cluster, one for each master of Sentinels.
    topologies: Vec<Topology>,
    /// Connections that work.
    peers: Vec<Peer>,
    /// Who could be asked besides the seeds.
    others: BTreeSet<Endpoint>,
    /// Who failed when.
    failed: BTreeMap<Endpoint, Mono>,
    /// Whether the entry's own names are to be looked up, once [`LOOKUP_INTERVAL`] has passed.
    look_up: bool,
    /// When they were last looked up.
    looked_up: Option<Mono>,
}

impl Rounds {
    fn new(entry: Arc<Discovery>) -> Self {
        let count = match &entry.method {
            Method::Cluster => 1,
            Method::Sentinel { masters } => masters.len(),
        };
        let topologies = (0..count).map(|_| Topology::default()).collect();
        Self {
            entry,
            topologies,
            peers: Vec::new(),
            others: BTreeSet::new(),
            failed: BTreeMap::new(),
            look_up: true,
            looked_up: None,
        }
    }

    /// Where the servers are that may be connected to.
    fn endpoints(&self) -> BTreeSet<Endpoint> {
        let all = self.topologies.iter().flat_map(Topology::endpoints);
        all.filter(|endpoint| self.entry.allow.may_admit(endpoint)).cloned().collect()
    }

    /// Where the servers, and those to ask about them, are that may not be connected to.
    fn refused(&self) -> BTreeSet<&Endpoint> {
        let all = self.topologies.iter().flat_map(Topology::endpoints).chain(&self.others);
        all.filter(|endpoint| !self.entry.allow.may_admit(endpoint)).collect()
    }

    /// Admits the networks that the entry's own names are in now, where these decide.
    async fn learn(&mut self, now: Mono) {
        let waits = self.looked_up.is_some_and(|last| now.since(last) < LOOKUP_INTERVAL);
        if !self.look_up || waits || !self.entry.allow.learns() {
            return;
        }
        (self.look_up, self.looked_up) = (false, Some(now));
        let mut lookups = JoinSet::new();
        for seed in &self.entry.seeds {
            if let Endpoint::Tcp(host, port) = seed.clone() {
                lookups.spawn(async move { timeout(LOOKUP_LIMIT, addresses_of(&host, port)).await });
            }
        }
        for found in lookups.join_all().await {
            match found {
                Ok(Ok(found)) => self.entry.allow.learn(found.map(|address| address.ip())),
                // Again, later.
                Ok(Err(_)) | Err(_) => self.look_up = true,
            }
        }
    }

    /// Asks once. Gives what does not work, if anything that is to be known was not told by anybody.
    async fn round(
        &mut self,
        now: Mono,
        unreachable: impl Fn(&Endpoint) -> bool + Send + Sync,
    ) -> Option<String> {
        self.learn(now).await;
        let mut problem = None;
        let mut heard = Vec::new();
        for (endpoint, result) in self.ask_all(now).await {
            match result {
                Ok((peer, told)) => heard.push((peer, told)),
                Err(why) => {
                    debug!(discovery = &*self.entry.name, address = %endpoint, problem = why, "not asked");
                    problem = Some(format!("{endpoint}: {why}"));
                    self.failed.insert(endpoint, now);
                }
            }
        }
        let mut lacking = None;
        let mut trusted = vec![false; heard.len()];
        for (index, topology) in self.topologies.iter_mut().enumerate() {
            let (mut from, mut answers) = (Vec::new(), Vec::new());
            for (number, (peer, told)) in heard.iter().enumerate() {
                match told.answers.get(index) {
                    Some(Ok(answer)) => {
                        from.push(number);
                        answers.push(answer.clone());
                    }
                    Some(Err(why)) => problem = Some(format!("{}: {why}", peer.endpoint)),
                    None => {}
                }
            }
            let believed = topology.take(&answers, now, &unreachable);
            if !believed.contains(&true) {
                lacking.get_or_insert(index);
            }
            for (number, believed) in from.into_iter().zip(believed) {
                if let (true, Some(trusted)) = (believed, trusted.get_mut(number)) {
                    *trusted = true;
                }
            }
        }
        let not_believed = trusted.contains(&false);
        self.keep_peers(heard.into_iter().zip(trusted), now);
        self.look_up |= !self.refused().is_empty();
        lacking.map(|_| {
            problem.unwrap_or_else(|| {
                if not_believed {
                    "what is told is not about the servers that are known, or about none that serve anything"
                } else {
                    "nobody could be asked"
                }
                .to_owned()
            })
        })
    }

    /// Goes on with those that can be believed and belong to the servers.
    fn keep_peers(&mut self, heard: impl Iterator<Item = ((Peer, Told), bool)>, now: Mono) {
        let mut others = BTreeSet::new();
        let mut seen = HashSet::new();
        for ((peer, told), trusted) in heard {
            // A node has one id, by whatever name it was reached.
            let from = told.answers.iter().flatten().find_map(|answer: &Answer| answer.from.clone());
            let known = from.as_deref().is_none_or(|id| self.topologies.iter().any(|one| one.has(id)));
            let again = from.is_some_and(|id| !seen.insert(id));
            if trusted {
                others.extend(told.others);
            }
            if trusted && known && !again {
                self.failed.remove(&peer.endpoint);
                self.peers.push(peer);
            } else {
                self.failed.insert(peer.endpoint, now);
            }
        }
        if !others.is_empty() {
            self.others = match self.entry.method {
                // What is no longer believed to be a node is not asked.
                Method::Cluster => self.endpoints(),
                Method::Sentinel { .. } => others,
            };
        }
        let (seeds, others) = (&self.entry.seeds, &self.others);
        self.failed.retain(|endpoint, _| others.contains(endpoint) || seeds.contains(endpoint));
    }

    /// Asks all peers, and as many others as are lacking.
    async fn ask_all(&mut self, now: Mono) -> Vec<(Endpoint, Result<(Peer, Told), String>)> {
        let mut asked = JoinSet::new();
        let candidates = self.candidates(now);
        for mut peer in std::mem::take(&mut self.peers) {
            let entry = Arc::clone(&self.entry);
            asked.spawn(async move {
                let told = peer.ask(&entry).await;
                (peer.endpoint.clone(), told.map(|told| (peer, told)))
            });
        }
        for endpoint in candidates {
            let entry = Arc::clone(&self.entry);
            asked.spawn(async move {
                let asking = async {
                    let mut peer = Peer::connect(&entry, endpoint.clone()).await?;
                    let told = peer.ask(&entry).await?;
                    Ok((peer, told))
                };
                let result = asking.await;
                (endpoint, result)
            });
        }
        asked.join_all().await
    }

    /// Whom to connect to: who has not failed, or else whose failure is longest ago; the servers before the seeds, which
    /// may be servers by another name.
    fn candidates(&self, now: Mono) -> Vec<Endpoint> {
        let open: HashSet<&Endpoint> = self.peers.iter().map(|peer| &peer.endpoint).collect();
        let others = self.others.iter().filter(|endpoint| self.entry.allow.may_admit(endpoint));
        let others = others.map(|endpoint| (false, endpoint));
        let seeds = self.entry.seeds.iter().filter(|seed| !self.others.contains(seed));
        let mut candidates: Vec<(bool, &Endpoint)> = others.chain(seeds.map(|seed| (true, seed))).collect();
        let waits = |endpoint| {
            let failed = self.failed.get(endpoint);
            !open.is_empty() && failed.is_some_and(|failed| now.since(*failed) < RETRY_AFTER)
        };
        candidates.retain(|(_, endpoint)| !open.contains(endpoint) && !waits(endpoint));
        candidates.sort_by_key(|(seed, endpoint)| (self.failed.get(endpoint), *seed));
        let lacking = PEERS.saturating_sub(self.peers.len());
        candidates.into_iter().take(lacking).map(|(_, endpoint)| endpoint.clone()).collect()
    }
}
