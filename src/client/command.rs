//! What the exporter asks servers. This is all of it: no write command is ever sent.

use ::redis::{Cmd, Pipeline, cmd};

use crate::script::Sha1Digits;
use crate::watch::Feature;

/// A question to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// PING.
    Ping,
    /// MULTI and EXEC, an empty transaction.
    Transaction,
    /// INFO of these sections.
    Info(&'static [&'static str]),
    /// SLOWLOG GET of so many entries.
    SlowlogGet(usize),
    /// SLOWLOG LEN.
    SlowlogLen,
    /// CONFIG GET of these parameters.
    ConfigGet(&'static [&'static str]),
    /// FUNCTION STATS.
    FunctionStats,
    /// FUNCTION LIST WITHCODE: all libraries (`catalogue --from-redis` only).
    FunctionList,
    /// SCRIPT SHOW: the body of a script (Valkey 8.0+).
    ScriptShow(Sha1Digits),
    /// CLIENT SETNAME: so that an operator sees in CLIENT LIST who we are.
    SetName,
}

/// Most memory that the reply to a short question may take: a line, or an error.
pub(super) const SMALL_REPLY: usize = 4 << 10;

/// Most memory that the reply to a long question may take: some thousand slow log entries with all their arguments, a
/// function that runs with all of its own.
const LARGE_REPLY: usize = 16 << 20;

/// The name that our connections have in CLIENT LIST.
const CLIENT_NAME: &str = "redis-script-exporter";

impl Command {
    /// The command as it is named in messages.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Transaction => "MULTI and EXEC",
            Self::Info(_) => "INFO",
            Self::SlowlogGet(_) => "SLOWLOG GET",
            Self::SlowlogLen => "SLOWLOG LEN",
            Self::ConfigGet(_) => "CONFIG GET",
            Self::FunctionStats => "FUNCTION STATS",
            Self::FunctionList => "FUNCTION LIST",
            Self::ScriptShow(_) => "SCRIPT SHOW",
            Self::SetName => "CLIENT SETNAME",
        }
    }

    /// Most memory that its reply may take.
    pub(super) const fn reply_limit(self) -> usize {
        match self {
            Self::Ping => 1 << 10,
            Self::Transaction | Self::SlowlogLen | Self::SetName => SMALL_REPLY,
            Self::ConfigGet(_) => 64 << 10,
            Self::Info(_) => 1 << 20,
            Self::SlowlogGet(_) | Self::FunctionStats | Self::FunctionList | Self::ScriptShow(_) => {
                LARGE_REPLY
            }
        }
    }

    /// What an ACL has to grant for it.
    #[must_use]
    pub(crate) const fn grant(self) -> &'static str {
        match self {
            Self::Ping => "+ping",
            Self::Transaction => "+multi +exec",
            Self::Info(_) => "+info",
            Self::SlowlogGet(_) => "+slowlog|get",
            Self::SlowlogLen => "+slowlog|len",
            Self::ConfigGet(_) => "+config|get",
            Self::FunctionStats => "+function|stats",
            Self::FunctionList => "+function|list",
            Self::ScriptShow(_) => "+script|show",
            Self::SetName => "+client|setname",
        }
    }

    /// The feature whose capability its answer shows; `None` where nothing depends on it.
    #[must_use]
    pub(crate) const fn feature(self) -> Option<Feature> {
        match self {
            Self::Ping => Some(Feature::Ping),
            Self::Transaction => Some(Feature::Transaction),
            Self::Info(_) => Some(Feature::Info),
            Self::SlowlogGet(_) => Some(Feature::Slowlog),
            Self::ConfigGet(_) => Some(Feature::Config),
            Self::FunctionStats => Some(Feature::FunctionStats),
            Self::SlowlogLen => Some(Feature::SlowlogLength),
            Self::ScriptShow(_) => Some(Feature::ScriptShow),
            Self::FunctionList | Self::SetName => None,
        }
    }

    /// Whether a server answers it while it is BUSY: then the answer does not prove that the server is free. EXEC, which is
    /// the answer to a transaction, is refused.
    #[must_use]
    pub(crate) const fn is_answered_while_busy(self) -> bool {
        matches!(self, Self::FunctionStats)
    }

    /// What to send.
    pub(super) fn request(self) -> Request {
        let one = |command: &mut Cmd| Request::One(std::mem::take(command));
        match self {
            Self::Ping => one(&mut cmd("PING")),
            Self::Transaction => {
                let mut pipeline = Pipeline::new();
                pipeline.cmd("MULTI").cmd("EXEC");
                Request::Several(pipeline)
            }
            Self::Info(sections) => one(cmd("INFO").arg(sections)),
            Self::SlowlogGet(count) => one(cmd("SLOWLOG").arg("GET").arg(count)),
            Self::SlowlogLen => one(cmd("SLOWLOG").arg("LEN")),
            Self::ConfigGet(parameters) => one(cmd("CONFIG").arg("GET").arg(parameters)),
            Self::FunctionStats => one(cmd("FUNCTION").arg("STATS")),
            Self::FunctionList => one(cmd("FUNCTION").arg("LIST").arg("WITHCODE")),
            Self::ScriptShow(sha1) => one(cmd("SCRIPT").arg("SHOW").arg(sha1.as_str())),
            Self::SetName => one(cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME)),
        }
    }
}

/// A question about other servers: where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopologyCommand<'a> {
    /// CLUSTER NODES.
    ClusterNodes,
    /// SENTINEL MASTER of a master's name.
    SentinelMaster(&'a str),
    /// SENTINEL REPLICAS of a master's name.
    SentinelReplicas(&'a str),
    /// SENTINEL SENTINELS of a master's name.
    SentinelSentinels(&'a str),
}

impl TopologyCommand<'_> {
    /// The command as it is named in messages.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ClusterNodes => "CLUSTER NODES",
            Self::SentinelMaster(_) => "SENTINEL MASTER",
            Self::SentinelReplicas(_) => "SENTINEL REPLICAS",
            Self::SentinelSentinels(_) => "SENTINEL SENTINELS",
        }
    }

    /// Most memory that its reply may take: thousands of servers.
    pub(super) const fn reply_limit(self) -> usize {
        match self {
            Self::ClusterNodes | Self::SentinelReplicas(_) | Self::SentinelSentinels(_) => 8 << 20,
            Self::SentinelMaster(_) => 64 << 10,
        }
    }

    /// What an ACL has to grant for it. Redis 6.2 takes these too, although it knows no subcommands otherwise.
    #[must_use]
    pub(crate) const fn grant(self) -> &'static str {
        match self {
            Self::ClusterNodes => "+cluster|nodes",
            Self::SentinelMaster(_) => "+sentinel|master",
            Self::SentinelReplicas(_) => "+sentinel|replicas",
            Self::SentinelSentinels(_) => "+sentinel|sentinels",
        }
    }

    /// What to send.
    pub(super) fn request(self) -> Request {
        let sentinel = |subcommand: &str, master: &str| {
            let mut command = cmd("SENTINEL");
            command.arg(subcommand).arg(master);
            Request::One(command)
        };
        match self {
            Self::ClusterNodes => {
                let mut command = cmd("CLUSTER");
                command.arg("NODES");
                Request::One(command)
            }
            Self::SentinelMaster(master) => sentinel("MASTER", master),
            Self::SentinelReplicas(master) => sentinel("REPLICAS", master),
            Self::SentinelSentinels(master) => sentinel("SENTINELS", master),
        }
    }
}

/// What goes over the wire for one question.
#[derive(Debug)]
pub(super) enum Request {
    /// One command.
    One(Cmd),
    /// Commands that are sent together; the first error or the last reply is the answer.
    Several(Pipeline),
}
