//! Entries of the file that name no server but where to learn of servers: a cluster's nodes, or Sentinels.

use std::sync::Arc;

use super::{Address, Allow, Credentials, Endpoint, TargetConfig, TlsFiles};

/// Servers to learn of, and how to watch them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Discovery {
    /// What messages and metrics call it: the name of the entry, else its first address.
    pub(crate) name: Arc<str>,
    /// Whom to ask.
    pub(crate) method: Method,
    /// Whom to ask first; at least one, all TCP.
    pub(crate) seeds: Vec<Endpoint>,
    /// Where to connect to and log in, both to ask and to watch.
    pub(crate) allow: Arc<Allow>,
    /// Who we are where we ask.
    pub(crate) credentials: Credentials,
    /// Whether the labels of the servers begin with the name.
    pub(super) named: bool,
    /// How each server is watched; it has the name and the address of the first seed.
    pub(super) server: TargetConfig,
}

/// How servers are learnt of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    /// By CLUSTER NODES, of any node.
    Cluster,
    /// By SENTINEL MASTER and REPLICAS.
    Sentinel {
        /// The names of the masters; at least one.
        masters: Vec<String>,
    },
}

impl Discovery {
    /// The label `target` of the server at an address.
    #[must_use]
    pub(crate) fn label(&self, endpoint: &Endpoint) -> String {
        if self.named { format!("{}/{endpoint}", self.name) } else { endpoint.to_string() }
    }

    /// The certificates of the servers, if they are asked with TLS.
    pub(crate) fn tls(&self) -> Option<&TlsFiles> {
        self.server.address.tls.then_some(&self.server.tls)
    }

    /// The server at an address as a target. With TLS if the seeds are asked with TLS.
    #[must_use]
    pub(crate) fn target(&self, endpoint: Endpoint) -> TargetConfig {
        TargetConfig {
            name: self.label(&endpoint).into(),
            address: Address { endpoint, ..self.server.address.clone() },
            discovered: Some(Arc::clone(&self.name)),
            within: Some(Arc::clone(&self.allow)),
            ..self.server.clone()
        }
    }

    /// Goes on with the networks that a former entry of the same name and addresses has learned.
    pub(crate) fn succeed(&mut self, former: &Self) {
        if self.name == former.name && self.seeds == former.seeds {
            let mut allow = Allow::clone(&self.allow);
            allow.learn_from(&former.allow);
            self.allow = Arc::new(allow);
        }
    }
}
