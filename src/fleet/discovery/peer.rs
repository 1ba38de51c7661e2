//! Asking one server about all: a connection of its own, and a limit on the time for everything.

use std::net::IpAddr;
use std::time::Duration;

use ::redis::Value;
use tokio::time::timeout;

use super::topology::Answer;
use crate::blocking::FILES;
use crate::client::{
    Connection, Failure, Peer as Socket, TlsSetup, TopologyCommand, connect_within, tls_key,
};
use crate::config::{Discovery, Endpoint, Method};
use crate::parse::{ClusterNodes, ErrorReply, HostPort, Malformed, sentinel_list, sentinel_master};

/// How long it may take to connect, TLS and login included.
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);

/// How long the password or the certificates may take to be read; less than the above, so that the error says what it was.
const FILES_LIMIT: Duration = Duration::from_secs(1);

/// How long an answer may take. A server that is blocked gives none; then another one is asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The most Sentinels that one may name.
const MAX_SENTINELS: usize = 100;

/// A server that is asked about all.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    /// The address that the connection leads to.
    ip: Option<IpAddr>,
    connection: Connection,
}

/// What a peer told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// For each topology, in order: what it knows, or why it tells nothing.
    pub(super) answers: Vec<Result<Answer, String>>,
    /// Who else could be asked.
    pub(super) others: Vec<Endpoint>,
}

impl Peer {
    /// Connects and logs in.
    ///
    /// # Errors
    /// Why that is not possible, for the log.
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
        let ip = match &link.peer {
            Socket::Tcp(address) => Some(address.ip()),
            Socket::Unix(_) => None,
        };
        if target.address.tls {
            let at = endpoint.clone();
            // It reads the certificates, as they are now.
            let key = tls_key(&target.tls).to_owned();
            let setup = FILES.run(key, FILES_LIMIT, move || TlsSetup::new(&target.tls, &at)).await;
            let setup = setup.map_err(|unfinished| format!("cannot read the certificates: {unfinished}"))?;
            let setup = setup.map_err(|error| error.to_string())?;
            link = setup.begin(link).await.map_err(|error| format!("the TLS handshake failed: {error}"))?;
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
                (Failure::ErrorReply(ErrorReply::Unauthorized { text }), Method::Sentinel { .. })
                    if !text.starts_with("WRONGPASS") =>
                {
                    format!(
                        "AUTH as user {user:?} was refused with {text}; if the Sentinel has no password, give \
                         sentinel: {{}}"
                    )
                }
                (Failure::ErrorReply(ErrorReply::Unauthorized { text }), _) => {
                    format!("AUTH as user {user:?} was refused with {text}; check the user and the password")
                }
                _ => failure.to_string(),
            })?;
        }
        Ok(Self { endpoint, ip, connection })
    }

    /// Asks what it knows. Without an answer in time it gives an error; the connection is of no use then.
    ///
    /// # Errors
    /// Why there is no answer, for the log.
    pub(super) async fn ask(&mut self, entry: &Discovery) -> Result<Told, String> {
        match &entry.method {
            Method::Cluster => self.ask_node(entry).await,
            Method::Sentinel { masters } => self.ask_sentinel(entry, masters).await,
        }
    }

    async fn ask_node(&mut self, entry: &Discovery) -> Result<Told, String> {
        let question = TopologyCommand::ClusterNodes;
        let value = self.answer(entry, question).await?;
        let cluster = ClusterNodes::parse(value).map_err(|problem| malformed(question, problem))?;
        let servers = cluster.nodes.into_iter().filter_map(|node| {
            let host = node.host.or_else(|| self.ip.map(|ip| ip.to_canonical().to_string()))?;
            Some((node.id, endpoint((host, node.port))))
        });
        let servers: Vec<_> = servers.collect();
        let others = servers.iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let answer = Answer { from: cluster.myself, servers, serves: cluster.has_slots, complete: true };
        Ok(Told { answers: vec![Ok(answer)], others })
    }

    async fn ask_sentinel(&mut self, entry: &Discovery, masters: &[String]) -> Result<Told, String> {
        let mut told = Told::default();
        for master in masters {
            let master_question = TopologyCommand::SentinelMaster(master);
            let value = match self.try_answer(master_question).await? {
                Ok(value) => value,
                // It may know the other masters.
                Err(refusal) => {
                    let problem = refused(entry, master_question, &refusal);
                    told.answers.push(Err(format!("{problem} (master {master:?})")));
                    continue;
                }
            };
            let found = sentinel_master(value).map_err(|problem| malformed(master_question, problem))?;
            let question = TopologyCommand::SentinelReplicas(master);
            let value = self.answer(entry, question).await?;
            let replicas = sentinel_list(value).map_err(|problem| malformed(question, problem))?;
            let servers = found.address.into_iter().chain(replicas).map(|at| {
                let endpoint = endpoint(at);
                (endpoint.to_string(), endpoint)
            });
            // It learns of replicas from the master alone: one that was reset knows none for up to 10 s.
            let complete = found.known;
            told.answers.push(Ok(Answer { from: None, servers: servers.collect(), serves: true, complete }));
            let question = TopologyCommand::SentinelSentinels(master);
            let value = self.answer(entry, question).await?;
            let sentinels = sentinel_list(value).map_err(|problem| malformed(question, problem))?;
            told.others.extend(sentinels.into_iter().take(MAX_SENTINELS).map(endpoint));
        }
        Ok(told)
    }

    /// The answer to a question that must be answered.
    async fn answer(&mut self, entry: &Discovery, question: TopologyCommand<'_>) -> Result<Value, String> {
        self.try_answer(question).await?.map_err(|refusal| refused(entry, question, &refusal))
    }

    /// The answer to a question, or how it is refused.
    async fn try_answer(
        &mut self,
        question: TopologyCommand<'_>,
    ) -> Result<Result<Value, ErrorReply>, String> {
        match timeout(ANSWER_LIMIT, self.connection.ask_topology(question)).await {
            Ok(Ok(value)) => Ok(Ok(value)),
            Ok(Err(Failure::ErrorReply(refusal))) => Ok(Err(refusal)),
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(_) => {
                Err(format!("{} was not answered within {} s", question.name(), ANSWER_LIMIT.as_secs()))
            }
        }
    }
}

fn endpoint((host, port): HostPort) -> Endpoint {
    Endpoint::Tcp(host, port).normal()
}

fn malformed(question: TopologyCommand<'_>, problem: Malformed) -> String {
    format!("{}: {problem}", question.name())
}

/// How a question was refused, and what to do about it.
fn refused(entry: &Discovery, question: TopologyCommand<'_>, refusal: &ErrorReply) -> String {
    let name = question.name();
    let user = entry.credentials.user_shown();
    match refusal {
        ErrorReply::NoPermission => {
            let grant = question.grant();
            format!("user {user:?} may not run {name}; grant it: ACL SETUSER {user} {grant}")
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
