//! Queries of one peer about all servers, over a separate connection and with a time limit for each step.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use ::redis::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::topology::Answer;
use crate::blocking::FILES;
use crate::client::{
    CommandError, Connection, ResolvedEndpoint, TlsSetup, addresses_of, connect_within, tls_key,
};
use crate::clock::Mono;
use crate::config::{Discovery, Endpoint, Method, TargetConfig};
use crate::diagnosis::{not_available, not_granted};
use crate::parse::{
    ClusterNodes, Command, EndpointType, ErrorReply, HostPort, Info, Malformed, TopologyCommand,
    sentinel_list, sentinel_master,
};
use crate::shell::admin_cli;

/// Time limit for connecting, including TLS and login.
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);

/// Time limit for reading the password or the certificates; less than [`CONNECT_LIMIT`], so that the error names the cause.
const FILES_LIMIT: Duration = Duration::from_secs(1);

/// Time limit for a reply. A blocked server does not reply, and the next round queries another peer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Maximum number of node names that are looked up after one reply.
const MAX_LOOKUPS: usize = 20;

/// Time limit for the lookup of a node's name.
const LOOKUP_LIMIT: Duration = Duration::from_millis(500);

/// Time after which a node's name is looked up again.
const LOOKUP_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Maximum number of Sentinels that are taken from one reply.
const MAX_SENTINELS: usize = 100;

/// Connected peer: a node of a cluster, or a Sentinel.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    /// Remote IP address of the connection.
    ip: Option<IpAddr>,
    /// Type of the addresses that clients of the cluster use; `None` before the first query.
    preferred: Option<EndpointType>,
    /// Announced names; for each, true if it could be resolved, and the time of the lookup.
    resolved: HashMap<String, (bool, Mono)>,
    connection: Connection,
    /// `redis-cli` command line that connects as a user who may manage ACL users.
    admin_cli: String,
}

/// Servers and peers that one peer announces.
#[derive(Debug, Default)]
pub(super) struct Announcement {
    /// Answer about each topology, in order, or the reason why there is none.
    pub(super) answers: Vec<Result<Answer, String>>,
    /// Addresses of other possible peers.
    pub(super) others: Vec<Endpoint>,
}

impl Peer {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The reason, for the log.
    pub(super) async fn connect(entry: &Discovery, endpoint: Endpoint) -> Result<Self, String> {
        let connecting = Self::try_connect(entry, endpoint);
        timeout(CONNECT_LIMIT, connecting)
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {} ms", CONNECT_LIMIT.as_millis())))
    }

    async fn try_connect(entry: &Discovery, endpoint: Endpoint) -> Result<Self, String> {
        let target = entry.target(endpoint.clone());
        let address = target.address.clone();
        let admin_cli = admin_cli(&TargetConfig { credentials: entry.credentials.clone(), ..target.clone() });
        let link = connect_within(&endpoint, Some(&entry.allow)).await;
        let mut link = link.map_err(|error| error.to_string())?;
        let ip = match &link.endpoint {
            ResolvedEndpoint::Tcp(address) => Some(address.ip()),
            ResolvedEndpoint::Unix(_) => None,
        };
        if target.address.tls {
            let at = endpoint.clone();
            let key = tls_key(&target.tls).to_owned();
            let setup = FILES.run(key, FILES_LIMIT, move || TlsSetup::new(&target.tls, &at)).await;
            let setup = setup.map_err(|unfinished| format!("cannot read the certificates: {unfinished}"))?;
            let setup = setup.map_err(|error| error.to_string())?;
            link = setup.handshake(link).await.map_err(|failure| failure.to_string())?;
        }
        let mut connection = Connection::open(link, target.commands);
        let user = entry.credentials.user.as_deref();
        let password = match &entry.credentials.password {
            None => None,
            Some(password) => password.read_within(FILES_LIMIT).await?.of(user, &address)?,
        };
        if let Some(password) = password {
            let login = connection.authenticate(user, &password).await;
            let user = entry.credentials.user_shown();
            login.map_err(|failure| match (&failure, &entry.method) {
                (CommandError::ErrorReply(ErrorReply::Unauthorized { text }), Method::Sentinel { .. })
                    if !text.starts_with("WRONGPASS") =>
                {
                    format!(
                        "AUTH as user {user:?} was refused with {text}; if the Sentinel has no password, give \
                         sentinel: {{}}"
                    )
                }
                (CommandError::ErrorReply(ErrorReply::Unauthorized { text }), _) => {
                    format!("AUTH as user {user:?} was refused with {text}; check the user and the password")
                }
                _ => failure.to_string(),
            })?;
        }
        Ok(Self { endpoint, ip, preferred: None, resolved: HashMap::new(), connection, admin_cli })
    }

    /// Queries all servers. After an error the connection must not be used again.
    ///
    /// # Errors
    /// The reason, for the log.
    pub(super) async fn query(&mut self, entry: &Discovery, now: Mono) -> Result<Announcement, String> {
        match &entry.method {
            Method::Cluster | Method::Dns => self.query_node(entry, now).await,
            Method::Sentinel { masters } => self.query_sentinel(entry, masters).await,
        }
    }

    /// Returns the type of the addresses that clients of the cluster use, which is read once per connection.
    async fn preferred_endpoint(&mut self) -> EndpointType {
        if let Some(preferred) = self.preferred {
            return preferred;
        }
        let command = Command::ConfigGet(&[EndpointType::PARAMETER]);
        let preferred = match timeout(ANSWER_LIMIT, self.connection.send(command)).await {
            Ok(Ok(value)) => EndpointType::parse(value),
            // Not permitted, not available, or too late.
            Ok(Err(_)) | Err(_) => EndpointType::default(),
        };
        self.preferred = Some(preferred);
        preferred
    }

    /// Looks up the announced names of nodes that also have an address, up to [`MAX_LOOKUPS`] at a time.
    async fn resolve_names(&mut self, cluster: &ClusterNodes, preferred: EndpointType, now: Mono) {
        let names: HashSet<(String, u16)> = cluster
            .nodes
            .iter()
            .filter(|node| preferred == EndpointType::Hostname && node.ip.is_some())
            .filter_map(|node| Some((node.name.clone()?, node.port)))
            .collect();
        self.resolved.retain(|name, _| names.iter().any(|(host, _)| host == name));
        let due = names.into_iter().filter(|(name, _)| {
            self.resolved.get(name).is_none_or(|(_, at)| now.since(*at) >= LOOKUP_AGAIN_AFTER)
        });
        let mut lookups = JoinSet::new();
        for (name, port) in due.take(MAX_LOOKUPS) {
            lookups.spawn(async move {
                let found = timeout(LOOKUP_LIMIT, addresses_of(&name, port)).await;
                (name, matches!(found, Ok(Ok(_))))
            });
        }
        for (name, resolved) in lookups.join_all().await {
            self.resolved.insert(name, (resolved, now));
        }
    }

    async fn query_node(&mut self, entry: &Discovery, now: Mono) -> Result<Announcement, String> {
        let command = TopologyCommand::ClusterNodes;
        let value = self.answer(entry, command).await?;
        let cluster = ClusterNodes::parse(value).map_err(|problem| malformed(command, problem))?;
        let preferred = self.preferred_endpoint().await;
        self.resolve_names(&cluster, preferred, now).await;
        let servers = cluster.nodes.iter().filter_map(|node| {
            let usable = |host: &&str| self.resolved.get(*host).is_none_or(|(resolved, _)| *resolved);
            let host = node.hosts(preferred).find(usable).or_else(|| node.hosts(preferred).next());
            let host = host.map(str::to_owned).or_else(|| self.ip.map(|ip| ip.to_canonical().to_string()))?;
            Some((node.id.clone(), endpoint((host, node.port))))
        });
        let servers: Vec<_> = servers.collect();
        let others = servers.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let answer = Answer { from: cluster.myself, servers, serves: cluster.has_slots, complete: true };
        Ok(Announcement { answers: vec![Ok(answer)], others })
    }

    async fn query_sentinel(
        &mut self,
        entry: &Discovery,
        masters: &[String],
    ) -> Result<Announcement, String> {
        let mut announcement = Announcement::default();
        for master in masters {
            let master_command = TopologyCommand::SentinelMaster(master);
            let value = match self.try_answer(master_command).await? {
                Ok(value) => value,
                // The Sentinel may monitor the other masters.
                Err(reply) => {
                    let problem = rejection(entry, &self.admin_cli, master_command, &reply);
                    announcement.answers.push(Err(format!("{problem} (master {master:?})")));
                    continue;
                }
            };
            let master_state =
                sentinel_master(value).map_err(|problem| malformed(master_command, problem))?;
            let command = TopologyCommand::SentinelReplicas(master);
            let value = self.answer(entry, command).await?;
            let replicas = sentinel_list(value).map_err(|problem| malformed(command, problem))?;
            let servers = master_state.address.into_iter().chain(replicas).map(|at| {
                let endpoint = endpoint(at);
                (endpoint.to_string(), endpoint)
            });
            // A Sentinel gets the replicas from the master: after a reset, it has none of them for up to 10 s.
            let complete = master_state.known;
            announcement.answers.push(Ok(Answer {
                from: None,
                servers: servers.collect(),
                serves: true,
                complete,
            }));
            let command = TopologyCommand::SentinelSentinels(master);
            let value = self.answer(entry, command).await?;
            let sentinels = sentinel_list(value).map_err(|problem| malformed(command, problem))?;
            announcement.others.extend(sentinels.into_iter().take(MAX_SENTINELS).map(endpoint));
        }
        Ok(announcement)
    }

    /// Sends a command. An error reply is an error.
    async fn answer(&mut self, entry: &Discovery, command: TopologyCommand<'_>) -> Result<Value, String> {
        let answer = self.try_answer(command).await?;
        answer.map_err(|reply| rejection(entry, &self.admin_cli, command, &reply))
    }

    /// Sends a command and returns its reply, which may be an error reply.
    async fn try_answer(
        &mut self,
        command: TopologyCommand<'_>,
    ) -> Result<Result<Value, ErrorReply>, String> {
        match timeout(ANSWER_LIMIT, self.connection.send_topology(command)).await {
            Ok(Ok(value)) => Ok(Ok(value)),
            Ok(Err(CommandError::ErrorReply(reply))) => Ok(Err(reply)),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(_) => Err(format!("{} was not answered within {} s", command.name(), ANSWER_LIMIT.as_secs())),
        }
    }
}

fn endpoint((host, port): HostPort) -> Endpoint {
    Endpoint::Tcp(host, port).normal()
}

fn malformed(command: TopologyCommand<'_>, problem: Malformed) -> String {
    format!("{}: {problem}", command.name())
}

/// Returns a message for an error reply, with the remedy where there is one.
fn rejection(entry: &Discovery, admin_cli: &str, command: TopologyCommand<'_>, reply: &ErrorReply) -> String {
    let name = command.name();
    let user = entry.credentials.user_shown();
    match reply {
        ErrorReply::NoPermission => {
            not_granted(&Info::default(), admin_cli, user, name, command.grant()).to_string()
        }
        ErrorReply::Unauthorized { text } => {
            format!("{name} was refused: {text}; give a user and a password that are accepted")
        }
        ErrorReply::Unknown if matches!(entry.method, Method::Sentinel { .. }) => {
            format!("{}: give the address of a Sentinel", not_available(name))
        }
        ErrorReply::Unknown => not_available(name),
        ErrorReply::Busy { .. } => format!("{name} was refused: the server is BUSY"),
        ErrorReply::Loading => format!("{name} was refused: the server is loading its data"),
        ErrorReply::MasterDown => format!("{name} was refused: the server has lost its master"),
        ErrorReply::Other { text } => format!("{name} was refused: {text}"),
    }
}
