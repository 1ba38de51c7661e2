//! Statistics of the server before and after a run, from INFO.

use std::collections::BTreeMap;
use std::time::Duration;

/// Number of calls of a command, and their total time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CommandTime {
    pub(crate) calls: u64,
    pub(crate) time: Duration,
}

/// Statistics from INFO at one point in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Calls by command in lower case; subcommands have the form `config|get`.
    pub(crate) commands: BTreeMap<String, CommandTime>,
    /// CPU time of the thread that runs commands.
    pub(crate) cpu: Duration,
    /// Number of changes to the data since the start. A save would reset it, but the server does not save.
    changes: u64,
    /// Memory of the Lua virtual machines, in bytes.
    pub(crate) lua_memory: u64,
    pub(crate) version: String,
    /// Name of the server: redis or valkey.
    pub(crate) server: &'static str,
    /// Number of keys in all databases.
    pub(crate) keys: u64,
}

/// Difference between two snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Commands called between the snapshots.
    pub(crate) commands: BTreeMap<String, CommandTime>,
    pub(crate) cpu: Duration,
    pub(crate) changes: u64,
}

impl Snapshot {
    /// Parses the reply to `INFO all`.
    pub(crate) fn parse(info: &str) -> Self {
        let mut snapshot = Self { server: "redis", ..Self::default() };
        let mut threads = BTreeMap::new();
        let mut functions = 0;
        for line in info.lines() {
            let Some((name, value)) = line.trim_end().split_once(':') else { continue };
            match name {
                "redis_version" if snapshot.version.is_empty() => value.clone_into(&mut snapshot.version),
                "valkey_version" => {
                    value.clone_into(&mut snapshot.version);
                    snapshot.server = "valkey";
                }
                "used_cpu_sys"
                | "used_cpu_user"
                | "used_cpu_sys_main_thread"
                | "used_cpu_user_main_thread" => {
                    threads.insert(name, seconds(value));
                }
                "rdb_changes_since_last_save" => snapshot.changes = value.parse().unwrap_or_default(),
                "used_memory_lua" => snapshot.lua_memory = value.parse().unwrap_or_default(),
                "used_memory_vm_functions" => functions = value.parse().unwrap_or_default(),
                _ => {
                    if let Some(command) = name.strip_prefix("cmdstat_") {
                        snapshot.commands.insert(command.to_owned(), command_time(value));
                    } else if is_database(name) {
                        let keys =
                            value.strip_prefix("keys=").and_then(|rest| rest.split(',').next()?.parse().ok());
                        snapshot.keys = snapshot.keys.saturating_add(keys.unwrap_or(0));
                    }
                }
            }
        }
        snapshot.lua_memory = snapshot.lua_memory.saturating_add(functions);
        let sum = |names: [&str; 2]| {
            let [system, user] = names.map(|name| threads.get(name).copied());
            Some(system? + user?)
        };
        let cpu = sum(["used_cpu_sys_main_thread", "used_cpu_user_main_thread"]);
        snapshot.cpu = cpu.or_else(|| sum(["used_cpu_sys", "used_cpu_user"])).unwrap_or_default();
        snapshot
    }

    /// Returns the difference from an earlier snapshot.
    pub(crate) fn since(&self, earlier: &Self) -> Difference {
        let mut commands = BTreeMap::new();
        for (name, now) in &self.commands {
            let before = earlier.commands.get(name).copied().unwrap_or_default();
            let calls = now.calls.saturating_sub(before.calls);
            if calls > 0 {
                commands
                    .insert(name.clone(), CommandTime { calls, time: now.time.saturating_sub(before.time) });
            }
        }
        Difference {
            commands,
            cpu: self.cpu.saturating_sub(earlier.cpu),
            changes: self.changes.saturating_sub(earlier.changes),
        }
    }
}

fn is_database(name: &str) -> bool {
    name.strip_prefix("db")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn seconds(text: &str) -> Duration {
    text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

/// Parses `calls=3,usec=17,…`.
fn command_time(text: &str) -> CommandTime {
    let number = |name: &str| {
        let field = text.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    CommandTime { calls: number("calls"), time: Duration::from_micros(number("usec")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_contains_only_the_calls_between_two_snapshots() {
        let before = Snapshot::parse(
            "# Server\r\nredis_version:7.0.15\r\nused_memory_lua:33792\r\nused_memory_vm_functions:1000\r\n\
             rdb_changes_since_last_save:7\r\nused_cpu_sys:9\r\nused_cpu_user:9\r\n\
             used_cpu_sys_main_thread:0.5\r\nused_cpu_user_main_thread:0.25\r\n\
             cmdstat_get:calls=1,usec=5,usec_per_call=5.00\r\ndb0:keys=3,expires=0\r\ndb5:keys=4,expires=0\r\n",
        );
        assert_eq!((before.version.as_str(), before.server), ("7.0.15", "redis"));
        assert_eq!((before.lua_memory, before.keys), (34_792, 7));
        let after = Snapshot::parse(
            "redis_version:7.2.4\nvalkey_version:9.1.0\nrdb_changes_since_last_save:9\n\
             used_cpu_sys_main_thread:0.75\nused_cpu_user_main_thread:0.5\n\
             cmdstat_get:calls=1,usec=5\ncmdstat_evalsha:calls=2,usec=50\n",
        );
        assert_eq!((after.version.as_str(), after.server), ("9.1.0", "valkey"));
        let difference = after.since(&before);
        let evalsha = CommandTime { calls: 2, time: Duration::from_micros(50) };
        assert_eq!(difference.commands, BTreeMap::from([("evalsha".to_owned(), evalsha)]));
        assert_eq!((difference.cpu, difference.changes), (Duration::from_millis(500), 2));
    }
}
