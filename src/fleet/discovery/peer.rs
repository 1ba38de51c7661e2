//! Queries of one peer about all servers: a connection of its own, and a time limit for everything.

use std::net::IpAddr;
use std::time::Duration;

use ::redis::Value;
use tokio::time::timeout;

use super::topology::Answer;
use crate::blocking::FILES;
use crate::client::{CommandError, Connection, ResolvedEndpoint, TlsSetup, connect_within, tls_key};
use crate::config::{Discovery, Endpoint, Method};
use crate::diagnosis::not_permitted;
use crate::parse::{
    ClusterNodes, ErrorReply, HostPort, Malformed, TopologyCommand, sentinel_list, sentinel_master,
};

/// Time limit for connecting, with TLS and login.
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);

/// Time limit for reading the password or the certificates; less than [`CONNECT_LIMIT`], so that the error names the cause.
const FILES_LIMIT: Duration = Duration::from_secs(1);

/// Time limit for a reply. A blocked server sends none; the next round then queries another peer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Maximum number of Sentinels that are taken from one reply.
const MAX_SENTINELS: usize = 100;

/// Peer with a connection: a node of a cluster, or a Sentinel.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    /// Address of the connection.
    ip: Option<IpAddr>,
    connection: Connection,
}

/// Servers and peers that one peer announces.
#[derive(Debug, Default)]
pub(super) struct Announcement {
    /// Answer about each topology, in their order, or the reason for which there is none.
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
            link =
                setup.handshake(link).await.map_err(|error| format!("the TLS handshake failed: {error}"))?;
        }
        let mut connection = Connection::open(link).await.map_err(|failure| failure.to_string())?;
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
        Ok(Self { endpoint, ip, connection })
    }

    /// Queries all servers. After an error the connection must not be used again.
    ///
    /// # Errors
    /// The reason, for the log.
    pub(super) async fn query(&mut self, entry: &Discovery) -> Result<Announcement, String> {
        match &entry.method {
            Method::Cluster => self.query_node(entry).await,
            Method::Sentinel { masters } => self.query_sentinel(entry, masters).await,
        }
    }

    async fn query_node(&mut self, entry: &Discovery) -> Result<Announcement, String> {
        let command = TopologyCommand::ClusterNodes;
        let value = self.answer(entry, command).await?;
        let cluster = ClusterNodes::parse(value).map_err(|problem| malformed(command, problem))?;
        let servers = cluster.nodes.into_iter().filter_map(|node| {
            let host = node.host.or_else(|| self.ip.map(|ip| ip.to_canonical().to_string()))?;
            Some((node.id, endpoint((host, node.port))))
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
                // It may monitor the other masters.
                Err(reply) => {
                    let problem = rejection(entry, master_command, &reply);
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
            // A Sentinel learns the replicas from the master: after a reset it knows none of them for up to 10 s.
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
        self.try_answer(command).await?.map_err(|reply| rejection(entry, command, &reply))
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
fn rejection(entry: &Discovery, command: TopologyCommand<'_>, reply: &ErrorReply) -> String {
    let name = command.name();
    let user = entry.credentials.user_shown();
    match reply {
        ErrorReply::NoPermission => {
            let (problem, grant) = not_permitted(user, name, command.grant());
            format!("{problem}; to fix it: {grant}")
        }
        ErrorReply::Unauthorized { text } => {
            format!("{name} was refused: {text}; give a user and a password that are accepted")
        }
        ErrorReply::Unknown if matches!(entry.method, Method::Sentinel { .. }) => {
            format!("the server does not know {name}: give the address of a Sentinel")
        }
        ErrorReply::Unknown => format!("the server does not know {name}"),
        ErrorReply::Busy { .. } => format!("{name} was refused: the server is BUSY"),
        ErrorReply::Loading => format!("{name} was refused: the server is loading its data"),
        ErrorReply::MasterDown => format!("{name} was refused: the server has lost its master"),
        ErrorReply::Other { text } => format!("{name} was refused: {text}"),
    }
}
