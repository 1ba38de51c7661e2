//! All commands that the exporter sends, except AUTH and those of `rehearse`. None of them writes.

use std::collections::BTreeMap;

use ::redis::{Cmd, Pipeline, cmd};

use crate::script::Sha1Digits;

/// Commands for which a new name can be configured.
const RENAMEABLE: [&str; 3] = ["CONFIG", "INFO", "SLOWLOG"];

/// PING without arguments.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Maximum length of a new name, bytes.
const MAX_COMMAND: usize = 128;

/// New names of commands that a server has renamed (`rename-command`). They may be secret, so they are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct CommandNames(BTreeMap<&'static str, String>);

impl std::fmt::Debug for CommandNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl CommandNames {
    /// Adds a command and its new name.
    ///
    /// # Errors
    /// A description of the problem, without the new name.
    pub(crate) fn add(&mut self, command: &str, name: &str) -> Result<(), String> {
        let known = RENAMEABLE.into_iter().find(|known| known.eq_ignore_ascii_case(command));
        let known = known.ok_or_else(|| format!("the command must be one of {}", RENAMEABLE.join(", ")))?;
        if name.is_empty() || name.len() > MAX_COMMAND || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "the new name of {known} must be 1 to {MAX_COMMAND} printable ASCII characters"
            ));
        }
        if self.0.insert(known, name.to_owned()).is_some() {
            return Err(format!("the new name of {known} is given twice"));
        }
        Ok(())
    }

    /// True if the server has renamed this command.
    pub(crate) fn is_renamed(&self, command: &str) -> bool {
        self.0.contains_key(command)
    }

    fn of(&self, command: &'static str) -> Cmd {
        cmd(self.0.get(command).map_or(command, String::as_str))
    }
}

/// A command sent to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Heartbeat.
    Ping,
    /// MULTI and EXEC without commands: a heartbeat that a BUSY server does not count in `errorstat_BUSY`.
    Transaction,
    /// INFO with these sections; more than one requires 7.0.
    Info(&'static [&'static str]),
    /// SLOWLOG GET with the maximum number of entries, newest first.
    SlowlogGet(usize),
    /// SLOWLOG LEN, the number of entries in the slow log.
    SlowlogLen,
    /// CONFIG GET with these parameters or patterns; more than one requires 7.0.
    ConfigGet(&'static [&'static str]),
    /// FUNCTION STATS (7.0+).
    FunctionStats,
    /// FUNCTION LIST WITHCODE, the code of all libraries (7.0+; sent only by `catalogue --from-redis`).
    FunctionList,
    /// SCRIPT SHOW, the body of a script (Valkey 8.0+).
    ScriptShow(Sha1Digits),
    /// CLIENT SETNAME, so that an operator can identify the exporter in CLIENT LIST.
    SetName,
}

/// Maximum memory of a one-line reply, bytes.
pub(crate) const SMALL_REPLY: usize = 4 << 10;

/// Maximum memory of a long reply, bytes; enough for a few thousand slow log entries, or for FUNCTION STATS with all arguments of a
/// call.
pub(crate) const LARGE_REPLY: usize = 16 << 20;

/// Maximum memory of a slow log entry, bytes. 32 arguments, each truncated to 128 bytes plus a suffix, take 9 KiB; the rest is for
/// the client name and for additional elements of forks.
const SLOWLOG_ENTRY: usize = 16 << 10;

/// Name of the exporter's connections in CLIENT LIST.
const CLIENT_NAME: &str = "redis-script-exporter";

impl Command {
    /// Returns the name for messages.
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

    /// Returns the maximum memory of the reply, bytes.
    #[must_use]
    pub(crate) const fn reply_limit(self) -> usize {
        match self {
            Self::Ping => 1 << 10,
            Self::Transaction | Self::SlowlogLen | Self::SetName => SMALL_REPLY,
            Self::ConfigGet(_) => 64 << 10,
            Self::Info(_) => 1 << 20,
            Self::SlowlogGet(count) => {
                let entries = count.saturating_mul(SLOWLOG_ENTRY).saturating_add(64 << 10);
                if entries < LARGE_REPLY { entries } else { LARGE_REPLY }
            }
            Self::FunctionStats | Self::FunctionList | Self::ScriptShow(_) => LARGE_REPLY,
        }
    }

    /// Returns the ACL rules that allow the command.
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

    /// True if a BUSY server replies to the command normally, so that the reply does not prove that the server is free. A BUSY
    /// server accepts MULTI but rejects EXEC, so a transaction is not among these commands.
    #[must_use]
    pub(crate) const fn is_accepted_while_busy(self) -> bool {
        matches!(self, Self::FunctionStats)
    }

    /// Returns the wire form.
    #[must_use]
    pub(crate) fn request(self, names: &CommandNames) -> Request {
        let one = |command: &mut Cmd| Request::One(std::mem::take(command));
        match self {
            Self::Ping => Request::Packed(PING),
            Self::Transaction => {
                let mut pipeline = Pipeline::new();
                pipeline.cmd("MULTI").cmd("EXEC");
                Request::Pipeline(pipeline)
            }
            Self::Info(sections) => one(names.of("INFO").arg(sections)),
            Self::SlowlogGet(count) => one(names.of("SLOWLOG").arg("GET").arg(count)),
            Self::SlowlogLen => one(names.of("SLOWLOG").arg("LEN")),
            Self::ConfigGet(parameters) => one(names.of("CONFIG").arg("GET").arg(parameters)),
            Self::FunctionStats => one(cmd("FUNCTION").arg("STATS")),
            Self::FunctionList => one(cmd("FUNCTION").arg("LIST").arg("WITHCODE")),
            Self::ScriptShow(sha1) => one(cmd("SCRIPT").arg("SHOW").arg(sha1.as_str())),
            Self::SetName => one(cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME)),
        }
    }
}

/// A command sent on the guard's own connection. MULTI and DISCARD enclose commands that are never executed, to check whether the
/// user may run them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuardCommand {
    /// PING.
    Ping,
    /// FUNCTION STATS (7.0+).
    FunctionStats,
    /// SCRIPT KILL.
    ScriptKill,
    /// FUNCTION KILL (7.0+).
    FunctionKill,
    /// MULTI.
    Multi,
    /// DISCARD.
    Discard,
}

impl GuardCommand {
    /// Returns the name for messages.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::FunctionStats => "FUNCTION STATS",
            Self::ScriptKill => "SCRIPT KILL",
            Self::FunctionKill => "FUNCTION KILL",
            Self::Multi => "MULTI",
            Self::Discard => "DISCARD",
        }
    }

    /// Returns the maximum memory of the reply, bytes.
    pub(crate) const fn reply_limit(self) -> usize {
        match self {
            Self::FunctionStats => LARGE_REPLY,
            _ => SMALL_REPLY,
        }
    }

    /// Returns the ACL rules that allow the command.
    #[must_use]
    pub(crate) const fn grant(self) -> &'static str {
        match self {
            Self::Ping => "+ping",
            Self::FunctionStats => "+function|stats",
            Self::ScriptKill => "+script|kill",
            Self::FunctionKill => "+function|kill",
            Self::Multi => "+multi",
            Self::Discard => "+discard",
        }
    }

    /// Returns the wire form.
    #[must_use]
    pub(crate) fn request(self) -> Request {
        let mut words = self.name().split(' ');
        let mut command = cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            command.arg(word);
        });
        Request::One(command)
    }
}

/// A command that requests the addresses of other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopologyCommand<'a> {
    /// CLUSTER NODES.
    ClusterNodes,
    /// SENTINEL MASTER with the name of a master.
    SentinelMaster(&'a str),
    /// SENTINEL REPLICAS with the name of a master.
    SentinelReplicas(&'a str),
    /// SENTINEL SENTINELS with the name of a master.
    SentinelSentinels(&'a str),
}

impl TopologyCommand<'_> {
    /// Returns the name for messages.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ClusterNodes => "CLUSTER NODES",
            Self::SentinelMaster(_) => "SENTINEL MASTER",
            Self::SentinelReplicas(_) => "SENTINEL REPLICAS",
            Self::SentinelSentinels(_) => "SENTINEL SENTINELS",
        }
    }

    /// Returns the maximum memory of the reply, bytes; enough for thousands of servers.
    pub(crate) const fn reply_limit(self) -> usize {
        match self {
            Self::ClusterNodes | Self::SentinelReplicas(_) | Self::SentinelSentinels(_) => 8 << 20,
            Self::SentinelMaster(_) => 64 << 10,
        }
    }

    /// Returns the ACL rules that allow the command. Redis 6.2 accepts them as well.
    #[must_use]
    pub(crate) const fn grant(self) -> &'static str {
        match self {
            Self::ClusterNodes => "+cluster|nodes",
            Self::SentinelMaster(_) => "+sentinel|master",
            Self::SentinelReplicas(_) => "+sentinel|replicas",
            Self::SentinelSentinels(_) => "+sentinel|sentinels",
        }
    }

    /// Returns the wire form.
    #[must_use]
    pub(crate) fn request(self) -> Request {
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

/// Wire form of a command.
#[derive(Debug)]
pub(crate) enum Request {
    /// The bytes of one command; used for most heartbeats.
    Packed(&'static [u8]),
    /// One command.
    One(Cmd),
    /// A pipeline; its result is the first error or the last reply.
    Pipeline(Pipeline),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the ACL rules for the commands of a request; `with_subcommand` if they name subcommands.
    fn grant_of(request: &Request, with_subcommand: bool) -> String {
        let packed = match request {
            Request::Packed(bytes) => bytes.to_vec(),
            Request::One(command) => command.get_packed_command(),
            Request::Pipeline(pipeline) => pipeline.get_packed_pipeline(),
        };
        let mut commands: Vec<Vec<String>> = Vec::new();
        for line in String::from_utf8(packed).unwrap().lines() {
            match line.as_bytes().first() {
                Some(b'*') => commands.push(Vec::new()),
                Some(b'$') | None => {}
                Some(_) => commands.last_mut().unwrap().push(line.to_ascii_lowercase()),
            }
        }
        let words = if with_subcommand { 2 } else { 1 };
        let rules = commands.iter().map(|command| format!("+{}", command[..words].join("|")));
        rules.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_command_sends_what_its_grant_allows() {
        let sha1 = Sha1Digits::of(b"return 1");
        for command in [
            Command::Ping,
            Command::Transaction,
            Command::Info(&["server", "stats"]),
            Command::SlowlogGet(1),
            Command::SlowlogLen,
            Command::ConfigGet(&["slowlog-max-len"]),
            Command::FunctionStats,
            Command::FunctionList,
            Command::ScriptShow(sha1),
            Command::SetName,
        ] {
            let request = command.request(&CommandNames::default());
            assert_eq!(grant_of(&request, command.grant().contains('|')), command.grant());
        }
        for command in [
            GuardCommand::Ping,
            GuardCommand::FunctionStats,
            GuardCommand::ScriptKill,
            GuardCommand::FunctionKill,
            GuardCommand::Multi,
            GuardCommand::Discard,
        ] {
            assert_eq!(grant_of(&command.request(), command.grant().contains('|')), command.grant());
        }
        for command in [
            TopologyCommand::ClusterNodes,
            TopologyCommand::SentinelMaster("m"),
            TopologyCommand::SentinelReplicas("m"),
            TopologyCommand::SentinelSentinels("m"),
        ] {
            assert_eq!(grant_of(&command.request(), true), command.grant());
        }
    }

    /// `SECURITY.md` states these limits.
    #[test]
    fn each_reply_has_the_documented_limit() {
        const KIB: usize = 1 << 10;
        for (command, limit) in [
            (Command::Ping, KIB),
            (Command::Transaction, 4 * KIB),
            (Command::SlowlogLen, 4 * KIB),
            (Command::SetName, 4 * KIB),
            (Command::ConfigGet(&[]), 64 * KIB),
            (Command::Info(&[]), KIB * KIB),
            (Command::SlowlogGet(1), 80 * KIB),
            (Command::SlowlogGet(128), (64 + 128 * 16) * KIB),
            (Command::SlowlogGet(usize::MAX), 16 * KIB * KIB),
            (Command::FunctionStats, 16 * KIB * KIB),
            (Command::FunctionList, 16 * KIB * KIB),
            (Command::ScriptShow(Sha1Digits::of(b"return 1")), 16 * KIB * KIB),
        ] {
            assert_eq!(command.reply_limit(), limit, "{command:?}");
        }
        for (command, limit) in [
            (GuardCommand::Ping, 4 * KIB),
            (GuardCommand::Multi, 4 * KIB),
            (GuardCommand::Discard, 4 * KIB),
            (GuardCommand::ScriptKill, 4 * KIB),
            (GuardCommand::FunctionKill, 4 * KIB),
            (GuardCommand::FunctionStats, 16 * KIB * KIB),
        ] {
            assert_eq!(command.reply_limit(), limit, "{command:?}");
        }
        for (command, limit) in [
            (TopologyCommand::SentinelMaster("m"), 64 * KIB),
            (TopologyCommand::ClusterNodes, 8 * KIB * KIB),
            (TopologyCommand::SentinelReplicas("m"), 8 * KIB * KIB),
            (TopologyCommand::SentinelSentinels("m"), 8 * KIB * KIB),
        ] {
            assert_eq!(command.reply_limit(), limit, "{command:?}");
        }
    }
}
