//! Servers of a cluster or a master, derived from the answers of several peers over time. Pure: takes the time as an
//! argument.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::clock::Mono;
use crate::config::Endpoint;

/// Time after which a server that no other server lists any more is dropped.
const DROP_UNLISTED_AFTER: Duration = Duration::from_secs(3);

/// Time without an accepted answer after which an answer with only unknown servers is accepted, on the assumption that
/// another cluster has replaced the former one.
const ACCEPT_UNKNOWN_AFTER: Duration = Duration::from_secs(30);

/// Maximum number of servers of one topology. Each value of the label `target` costs memory here and in Prometheus.
pub(super) const MAX_SERVERS: usize = 2000;

/// Answer of one peer about all servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Id of the peer; `None` if it is not one of the servers.
    pub(super) from: Option<String>,
    /// Id and address of each server.
    pub(super) servers: Vec<(String, Endpoint)>,
    /// True if the peer's cluster has slots. A node that was reset forms its own cluster without slots.
    pub(super) serves: bool,
    /// True if all existing servers are listed.
    pub(super) complete: bool,
}

/// Servers according to the accepted answers.
#[derive(Debug, Default)]
pub(super) struct Topology {
    /// Servers by id.
    servers: BTreeMap<String, Server>,
    /// Time of the last accepted answer.
    accepted_at: Option<Mono>,
    /// Number of servers over [`MAX_SERVERS`].
    left_out: usize,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    /// Time at which other servers stopped listing it.
    missing_since: Option<Mono>,
}

impl Topology {
    /// Applies the answers of one round. Returns true for each answer that was accepted.
    ///
    /// - A server's entry about itself is ignored, because a server that was removed still lists itself.
    /// - An answer must list more than half of the known servers, or more than half of its servers must be known. Otherwise,
    ///   it describes another cluster, which a former node has joined. An answer without `from` always describes these servers.
    /// - A server that is `unreachable` and not listed is dropped even if no answer is complete.
    pub(super) fn take(
        &mut self,
        answers: &[Answer],
        now: Mono,
        unreachable: impl Fn(&Endpoint) -> bool,
    ) -> Vec<bool> {
        let first = self.servers.is_empty()
            || self.accepted_at.is_none_or(|last| now.since(last) >= ACCEPT_UNKNOWN_AFTER);
        let mut listed: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
        let mut witnesses: Vec<Option<&str>> = Vec::new();
        let mut any = false;
        let accepted = answers.iter().map(|answer| {
            let alone = first && !any;
            let accepted = answer.serves
                && !answer.servers.is_empty()
                && (alone || answer.from.is_none() || self.is_about_these(answer, &listed));
            if accepted {
                any = true;
                let from = answer.from.as_deref();
                if answer.complete {
                    witnesses.push(from);
                }
                for (id, endpoint) in &answer.servers {
                    if alone || from != Some(id) {
                        listed.entry(id).or_default().push(endpoint);
                    }
                }
            }
            accepted
        });
        let accepted: Vec<bool> = accepted.collect();
        if !any {
            return accepted;
        }
        self.accepted_at = Some(now);
        self.servers.retain(|id, known| {
            if listed.contains_key(id.as_str()) {
                known.missing_since = None;
            } else if witnesses.iter().any(|from| *from != Some(id)) || unreachable(&known.endpoint) {
                let since = *known.missing_since.get_or_insert(now);
                return now.since(since) < DROP_UNLISTED_AFTER;
            }
            true
        });
        self.left_out = 0;
        for (id, endpoints) in listed {
            let Some(&endpoint) = endpoints.first() else { continue };
            if let Some(known) = self.servers.get_mut(id) {
                // The server has moved if no answer has its former address.
                if !endpoints.contains(&&known.endpoint) {
                    known.endpoint = endpoint.clone();
                }
            } else if self.servers.len() < MAX_SERVERS {
                self.servers
                    .insert(id.to_owned(), Server { endpoint: endpoint.clone(), missing_since: None });
            } else {
                self.left_out += 1;
            }
        }
        accepted
    }

    /// True if an answer describes the known servers, or those listed in this round.
    fn is_about_these(&self, answer: &Answer, listed: &BTreeMap<&str, Vec<&Endpoint>>) -> bool {
        let ids: HashSet<&str> = answer.servers.iter().map(|(id, _)| id.as_str()).collect();
        let about = |known: usize, common: usize| common * 2 > known.min(ids.len());
        let known = ids.iter().filter(|id| self.servers.contains_key(**id)).count();
        let just = ids.iter().filter(|id| listed.contains_key(**id)).count();
        about(self.servers.len(), known) || about(listed.len(), just)
    }

    /// True if a server has this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.servers.contains_key(id)
    }

    /// Returns the addresses of the servers.
    pub(super) fn endpoints(&self) -> BTreeSet<&Endpoint> {
        self.servers.values().map(|known| &known.endpoint).collect()
    }

    /// Returns the number of servers over [`MAX_SERVERS`].
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(port: u16) -> Endpoint {
        Endpoint::Tcp("h".to_owned(), port)
    }

    /// Returns the answer of one node, which lists the nodes at these ports.
    fn answer(from: u16, ports: &[u16]) -> Answer {
        Answer {
            from: Some(from.to_string()),
            servers: ports.iter().map(|port| (port.to_string(), at(*port))).collect(),
            serves: true,
            complete: true,
        }
    }

    fn ports(topology: &Topology) -> Vec<u16> {
        let port = |endpoint: &&Endpoint| match endpoint {
            Endpoint::Tcp(_, port) => *port,
            Endpoint::Unix(_) => 0,
        };
        topology.endpoints().iter().map(port).collect()
    }

    fn seconds(seconds: u64) -> Mono {
        Mono::from_epoch(Duration::from_secs(1000 + seconds))
    }

    /// Applies a round in which all servers are reachable.
    fn take(topology: &mut Topology, answers: &[Answer], now: Mono) -> Vec<bool> {
        topology.take(answers, now, |_| false)
    }

    fn known(ports: &[u16]) -> Topology {
        let mut topology = Topology::default();
        assert_eq!(take(&mut topology, &[answer(ports[0], ports)], seconds(0)), [true]);
        topology
    }

    #[test]
    fn a_node_that_no_other_node_lists_is_dropped_after_a_while() {
        let mut topology = known(&[1, 2, 3]);
        for second in 1..4 {
            take(&mut topology, &[answer(1, &[1, 2]), answer(3, &[1, 2, 3])], seconds(second));
            assert_eq!(ports(&topology), [1, 2, 3]);
        }
        take(&mut topology, &[answer(1, &[1, 2]), answer(3, &[1, 2, 3])], seconds(4));
        assert_eq!(ports(&topology), [1, 2]);
        take(&mut topology, &[answer(1, &[1, 2]), answer(3, &[1, 2, 3])], seconds(5));
        assert_eq!(ports(&topology), [1, 2], "and what it says about itself does not bring it back");
    }

    #[test]
    fn a_node_still_listed_by_one_of_several_nodes_stays() {
        let mut topology = known(&[1, 2, 3]);
        for second in 1..60 {
            take(&mut topology, &[answer(1, &[1, 2]), answer(2, &[1, 2, 3])], seconds(second));
        }
        assert_eq!(ports(&topology), [1, 2, 3]);
    }

    #[test]
    fn without_replies_nothing_changes() {
        let mut topology = known(&[1, 2]);
        assert!(take(&mut topology, &[], seconds(1000)).is_empty());
        assert_eq!(ports(&topology), [1, 2]);
        // The answer of a single node counts only for other nodes.
        take(&mut topology, &[answer(1, &[1, 2])], seconds(1001));
        take(&mut topology, &[answer(1, &[1, 2])], seconds(2000));
        assert_eq!(ports(&topology), [1, 2]);
    }

    #[test]
    fn an_incomplete_list_removes_no_server() {
        let mut topology = known(&[1, 2]);
        let some = Answer { complete: false, from: None, ..answer(1, &[1, 3]) };
        for second in 1..20 {
            assert_eq!(take(&mut topology, std::slice::from_ref(&some), seconds(second)), [true]);
        }
        assert_eq!(ports(&topology), [1, 2, 3]);
        for second in 20..24 {
            topology.take(std::slice::from_ref(&some), seconds(second), |endpoint| *endpoint == at(2));
        }
        assert_eq!(ports(&topology), [1, 3], "except one that is also unreachable");
    }

    #[test]
    fn a_cluster_of_one_grows_and_shrinks() {
        let mut topology = known(&[1]);
        assert_eq!(take(&mut topology, &[answer(1, &[1, 2, 3, 4])], seconds(1)), [true]);
        assert_eq!(ports(&topology), [1, 2, 3, 4]);
        for second in 2..10 {
            assert_eq!(take(&mut topology, &[answer(1, &[1])], seconds(second)), [true]);
        }
        assert_eq!(ports(&topology), [1]);
    }

    #[test]
    fn a_former_node_is_not_believed() {
        let mut topology = known(&[1, 2, 3]);
        let reset = Answer { serves: false, ..answer(3, &[3]) };
        let elsewhere = answer(3, &[3, 7, 8, 9]);
        let unknown = answer(7, &[7, 8, 9]);
        for second in 1..20 {
            let answers = [answer(1, &[1, 2, 3]), reset.clone(), elsewhere.clone(), unknown.clone()];
            assert_eq!(take(&mut topology, &answers, seconds(second)), [true, false, false, false]);
        }
        assert_eq!(ports(&topology), [1, 2, 3]);
    }

    #[test]
    fn another_cluster_takes_the_place_of_one_that_is_silent() {
        let mut topology = known(&[1, 2]);
        assert_eq!(take(&mut topology, &[answer(7, &[7, 8])], seconds(20)), [false]);
        assert_eq!(take(&mut topology, &[answer(7, &[7, 8])], seconds(31)), [true]);
        assert_eq!(ports(&topology), [1, 2, 7, 8]);
        take(&mut topology, &[answer(7, &[7, 8])], seconds(34));
        assert_eq!(ports(&topology), [7, 8]);
    }

    #[test]
    fn a_node_that_moves_is_kept_only_at_its_new_address() {
        let mut topology = known(&[1, 2]);
        let moved =
            Answer { servers: vec![("1".to_owned(), at(1)), ("2".to_owned(), at(20))], ..answer(1, &[]) };
        take(&mut topology, &[moved.clone(), answer(2, &[1, 2])], seconds(1));
        assert_eq!(ports(&topology), [1, 20], "what it says about itself does not count");
        take(&mut topology, &[moved, Answer { from: None, ..answer(1, &[1, 20]) }], seconds(2));
        assert_eq!(ports(&topology), [1, 20]);
    }

    #[test]
    fn servers_beyond_the_maximum_are_left_out() {
        let all: Vec<u16> = (1..=2100).collect();
        let topology = known(&all);
        assert_eq!((topology.endpoints().len(), topology.left_out()), (MAX_SERVERS, 100));
    }

    proptest! {
        /// For any answers, a server that is listed in an accepted answer of another server is known afterwards.
        #[test]
        fn every_node_listed_by_a_trusted_answer_is_known(rounds in prop::collection::vec(
            prop::collection::vec((1_u16..6, prop::collection::vec(1_u16..9, 0..6)), 0..4), 0..20)) {
            let mut topology = Topology::default();
            for (second, round) in (0..).zip(&rounds) {
                let answers: Vec<Answer> = round.iter().map(|(from, ports)| answer(*from, ports)).collect();
                let believed = take(&mut topology, &answers, seconds(second));
                for (answer, _) in answers.iter().zip(&believed).filter(|(_, believed)| **believed) {
                    for (id, _) in answer.servers.iter().filter(|(id, _)| Some(id) != answer.from.as_ref()) {
                        prop_assert!(topology.has(id));
                    }
                }
            }
        }
    }
}
