//! Rounds of discovery, which select the peers to query and the peers to trust.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::peer::{Announcement, Peer};
use super::topology::{Answer, Topology};
use crate::client::addresses_of;
use crate::clock::Mono;
use crate::config::{Discovery, Endpoint, Method};

/// Number of peers that are queried in one round.
const MAX_PEERS: usize = 3;

/// Time before a failed peer is queried again while other peers answer.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Interval between lookups of the entry's own names while `allow` does not admit some servers.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);

/// Time limit for the lookup of one name.
const LOOKUP_LIMIT: Duration = Duration::from_secs(1);

/// State of an entry between rounds.
pub(super) struct Rounds {
    entry: Arc<Discovery>,
    /// One for a cluster or for host names; one per master for Sentinels.
    topologies: Vec<Topology>,
    /// Peers with a connection.
    peers: Vec<Peer>,
    /// Addresses of possible peers besides the seeds.
    others: BTreeSet<Endpoint>,
    /// Time of the last failure, by peer.
    failed: BTreeMap<Endpoint, Mono>,
    /// True if the entry's own names are to be looked up once [`LOOKUP_INTERVAL`] has passed.
    lookup_requested: bool,
    /// Time of the last lookup.
    looked_up_at: Option<Mono>,
}

impl Rounds {
    pub(super) fn new(entry: Arc<Discovery>) -> Self {
        let count = match &entry.method {
            Method::Cluster | Method::Dns => 1,
            Method::Sentinel { masters } => masters.len(),
        };
        let topologies = (0..count).map(|_| Topology::default()).collect();
        Self {
            entry,
            topologies,
            peers: Vec::new(),
            others: BTreeSet::new(),
            failed: BTreeMap::new(),
            lookup_requested: true,
            looked_up_at: None,
        }
    }

    /// Returns the entry.
    pub(super) fn entry(&self) -> &Arc<Discovery> {
        &self.entry
    }

    /// Returns the addresses of the servers that `allow` admits.
    pub(super) fn endpoints(&self) -> BTreeSet<Endpoint> {
        let all = self.topologies.iter().flat_map(Topology::endpoints);
        all.filter(|endpoint| self.entry.allow.may_admit(endpoint)).cloned().collect()
    }

    /// Returns the addresses of the servers and of possible peers that `allow` does not admit.
    pub(super) fn refused(&self) -> BTreeSet<&Endpoint> {
        let all = self.topologies.iter().flat_map(Topology::endpoints).chain(&self.others);
        all.filter(|endpoint| !self.entry.allow.may_admit(endpoint)).collect()
    }

    /// Returns the number of servers over the maximum.
    pub(super) fn left_out(&self) -> usize {
        self.topologies.iter().map(Topology::left_out).sum()
    }

    /// Requests another lookup of the entry's own names, because `allow` has refused an address.
    pub(super) fn request_lookup(&mut self) {
        self.lookup_requested = true;
    }

    /// Admits the networks of the current addresses of the entry's own names, if its `allow` learns networks.
    async fn learn(&mut self, now: Mono) {
        let waits = self.looked_up_at.is_some_and(|last| now.since(last) < LOOKUP_INTERVAL);
        if !self.lookup_requested || waits || !self.entry.allow.learns() {
            return;
        }
        (self.lookup_requested, self.looked_up_at) = (false, Some(now));
        let mut lookups = JoinSet::new();
        for seed in &self.entry.seeds {
            if let Endpoint::Tcp(host, port) = seed.clone() {
                lookups.spawn(async move { timeout(LOOKUP_LIMIT, addresses_of(&host, port)).await });
            }
        }
        for found in lookups.join_all().await {
            match found {
                Ok(Ok(found)) => self.entry.allow.learn(found.map(|address| address.ip())),
                Ok(Err(_)) | Err(_) => self.lookup_requested = true,
            }
        }
    }

    /// Queries up to [`MAX_PEERS`] peers. Returns a problem if a topology had no trusted answer.
    pub(super) async fn round(
        &mut self,
        now: Mono,
        unreachable: impl Fn(&Endpoint) -> bool + Send + Sync,
    ) -> Option<String> {
        self.learn(now).await;
        if self.entry.method == Method::Dns {
            return self.resolve(now, unreachable).await;
        }
        let mut problem = None;
        let mut heard = Vec::new();
        for (endpoint, result) in self.query_all(now).await {
            match result {
                Ok((peer, announcement)) => heard.push((peer, announcement)),
                Err(error) => {
                    debug!(discovery = &*self.entry.name, address = %endpoint, problem = error, "peer failed");
                    problem = Some(format!("{endpoint}: {error}"));
                    self.failed.insert(endpoint, now);
                }
            }
        }
        let mut complete = true;
        let mut trusted = vec![false; heard.len()];
        for (index, topology) in self.topologies.iter_mut().enumerate() {
            let (mut from, mut answers) = (Vec::new(), Vec::new());
            for (number, (peer, announcement)) in heard.iter().enumerate() {
                match announcement.answers.get(index) {
                    Some(Ok(answer)) => {
                        from.push(number);
                        answers.push(answer.clone());
                    }
                    Some(Err(error)) => problem = Some(format!("{}: {error}", peer.endpoint)),
                    None => {}
                }
            }
            let accepted = topology.take(&answers, now, &unreachable);
            complete &= accepted.contains(&true);
            for (number, accepted) in from.into_iter().zip(accepted) {
                if let (true, Some(trusted)) = (accepted, trusted.get_mut(number)) {
                    *trusted = true;
                }
            }
        }
        let any_distrusted = trusted.contains(&false);
        self.keep_peers(heard.into_iter().zip(trusted), now);
        self.lookup_requested |= !self.refused().is_empty();
        if complete {
            return None;
        }
        let without_error = if any_distrusted {
            "the replies describe a different cluster, or servers without slots"
        } else {
            "no peer could be queried"
        };
        Some(problem.unwrap_or_else(|| without_error.to_owned()))
    }

    /// Looks up the entry's own names; each address is a server. Returns a problem if a lookup fails.
    async fn resolve(&mut self, now: Mono, unreachable: impl Fn(&Endpoint) -> bool) -> Option<String> {
        let mut lookups = JoinSet::new();
        for seed in self.entry.seeds.clone() {
            lookups.spawn(async move {
                let Endpoint::Tcp(host, port) = seed else { return Ok(Vec::new()) };
                match timeout(LOOKUP_LIMIT, addresses_of(&host, port)).await {
                    Ok(Ok(found)) => Ok(found.map(|address| (address.ip().to_canonical(), port)).collect()),
                    Ok(Err(error)) => Err(format!("cannot resolve {host}: {error}")),
                    Err(_) => Err(format!("cannot resolve {host} within {} s", LOOKUP_LIMIT.as_secs())),
                }
            });
        }
        let (mut found, mut problem) = (BTreeSet::new(), None);
        for result in lookups.join_all().await {
            match result {
                Ok(addresses) => found.extend(addresses),
                Err(error) => problem = Some(error),
            }
        }
        let servers = found.into_iter().map(|(ip, port)| {
            let endpoint = Endpoint::Tcp(ip.to_string(), port).normal();
            (endpoint.to_string(), endpoint)
        });
        // If the lookup of a name fails, its previous addresses are kept.
        let answer =
            Answer { from: None, servers: servers.collect(), serves: true, complete: problem.is_none() };
        if let Some(topology) = self.topologies.first_mut() {
            topology.take(&[answer], now, unreachable);
        }
        problem
    }

    /// Keeps the connections to trusted peers that belong to the servers, at most one per node.
    fn keep_peers(&mut self, heard: impl Iterator<Item = ((Peer, Announcement), bool)>, now: Mono) {
        let mut others = BTreeSet::new();
        let mut ids = HashSet::new();
        for ((peer, announcement), trusted) in heard {
            // A node has the same id at all of its addresses.
            let id = announcement.answers.iter().flatten().find_map(|answer: &Answer| answer.from.clone());
            let known = id.as_deref().is_none_or(|id| self.topologies.iter().any(|one| one.has(id)));
            let again = id.is_some_and(|id| !ids.insert(id));
            if trusted {
                others.extend(announcement.others);
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
                // The topology no longer contains former nodes.
                Method::Cluster | Method::Dns => self.endpoints(),
                Method::Sentinel { .. } => others,
            };
        }
        let (seeds, others) = (&self.entry.seeds, &self.others);
        self.failed.retain(|endpoint, _| others.contains(endpoint) || seeds.contains(endpoint));
    }

    /// Queries all connected peers and new ones, up to [`MAX_PEERS`] in total.
    async fn query_all(&mut self, now: Mono) -> Vec<(Endpoint, Result<(Peer, Announcement), String>)> {
        let mut queries = JoinSet::new();
        let candidates = self.candidates(now);
        for mut peer in std::mem::take(&mut self.peers) {
            let entry = Arc::clone(&self.entry);
            queries.spawn(async move {
                let announcement = peer.query(&entry, now).await;
                (peer.endpoint.clone(), announcement.map(|announcement| (peer, announcement)))
            });
        }
        for endpoint in candidates {
            let entry = Arc::clone(&self.entry);
            queries.spawn(async move {
                let query = async {
                    let mut peer = Peer::connect(&entry, endpoint.clone()).await?;
                    let announcement = peer.query(&entry, now).await?;
                    Ok((peer, announcement))
                };
                let result = query.await;
                (endpoint, result)
            });
        }
        queries.join_all().await
    }

    /// Returns the addresses to connect to: first those without a failure, then those with the oldest failure. Among equals,
    /// servers come before seeds, which may be other names of servers.
    fn candidates(&self, now: Mono) -> Vec<Endpoint> {
        let connected: HashSet<&Endpoint> = self.peers.iter().map(|peer| &peer.endpoint).collect();
        let others = self.others.iter().filter(|endpoint| self.entry.allow.may_admit(endpoint));
        let others = others.map(|endpoint| (false, endpoint));
        let seeds = self.entry.seeds.iter().filter(|seed| !self.others.contains(seed));
        let mut candidates: Vec<(bool, &Endpoint)> = others.chain(seeds.map(|seed| (true, seed))).collect();
        let waits = |endpoint| {
            let failed = self.failed.get(endpoint);
            !connected.is_empty() && failed.is_some_and(|failed| now.since(*failed) < RETRY_AFTER)
        };
        candidates.retain(|(_, endpoint)| !connected.contains(endpoint) && !waits(endpoint));
        candidates.sort_by_key(|(seed, endpoint)| (self.failed.get(endpoint), *seed));
        let free = MAX_PEERS.saturating_sub(self.peers.len());
        candidates.into_iter().take(free).map(|(_, endpoint)| endpoint.clone()).collect()
    }
}
