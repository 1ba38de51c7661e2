//! Entries with `discover`: servers found through the nodes of a cluster, or through Sentinels.

use std::sync::Arc;

use super::{Address, Allow, Credentials, Endpoint, TargetConfig, TargetOrigin, TlsFiles};

/// Entry that discovers servers, and the settings with which they are watched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Discovery {
    /// Name in messages and metrics: the name of the entry, otherwise its first address.
    pub(crate) name: Arc<str>,
    /// Kind of peers that are queried.
    pub(crate) method: Method,
    /// Peers that are queried first; at least one, all TCP.
    pub(crate) seeds: Vec<Endpoint>,
    /// Permitted addresses of peers and of servers.
    pub(crate) allow: Arc<Allow>,
    /// Credentials for the peers.
    pub(crate) credentials: Credentials,
    /// True if the labels of the servers begin with the name.
    pub(super) named: bool,
    /// Template of the targets, with the name and the address of the first seed.
    pub(super) server: TargetConfig,
}

/// Kind of peers that are queried for servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    /// Nodes of a cluster, queried with CLUSTER NODES.
    Cluster,
    /// Addresses of host names; no peers are queried.
    Dns,
    /// Sentinels, queried with SENTINEL MASTER and REPLICAS.
    Sentinel {
        /// Names of the masters; at least one.
        masters: Vec<String>,
    },
}

impl Discovery {
    /// Returns the label `target` of the server at an address.
    #[must_use]
    pub(crate) fn label(&self, endpoint: &Endpoint) -> String {
        if self.named { format!("{}/{endpoint}", self.name) } else { endpoint.to_string() }
    }

    /// Returns the certificate files, if TLS is used.
    pub(crate) fn tls(&self) -> Option<&TlsFiles> {
        self.server.address.tls.then_some(&self.server.tls)
    }

    /// Returns the server at an address as a target. It uses TLS if the seeds do.
    #[must_use]
    pub(crate) fn target(&self, endpoint: Endpoint) -> TargetConfig {
        TargetConfig {
            name: self.label(&endpoint).into(),
            address: Address { endpoint, ..self.server.address.clone() },
            origin: TargetOrigin::Discovered {
                entry: Arc::clone(&self.name),
                allow: Arc::clone(&self.allow),
            },
            ..self.server.clone()
        }
    }

    /// Takes over the networks that a former entry with the same name and addresses has learned.
    pub(crate) fn replace(&mut self, former: &Self) {
        if self.name == former.name && self.seeds == former.seeds {
            let mut allow = Allow::clone(&self.allow);
            allow.learn_from(&former.allow);
            self.allow = Arc::new(allow);
        }
    }
}
