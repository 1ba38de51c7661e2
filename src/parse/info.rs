//! INFO: the fields that the exporter uses, with their names in each server version.
//!
//! To add a field, add a variant to [`InfoField`] and a row to [`INFO_FIELDS`].

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;
use std::time::Duration;

use super::reply::bounded;
use crate::clock::Unix;
use crate::script::ScriptCommand;

/// The sections of INFO that the exporter requests.
pub(crate) const SECTIONS: &[&str] =
    &["server", "commandstats", "errorstats", "memory", "stats", "replication"];

/// A numeric field of INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum InfoField {
    /// Scripts in the EVAL cache.
    CachedScripts,
    /// Registered functions.
    Functions,
    /// Function libraries.
    Libraries,
    /// Scripts evicted from the EVAL cache.
    EvictedScripts,
    /// Memory of the EVAL interpreter.
    VmEval,
    /// Memory of the FUNCTION interpreter.
    VmFunctions,
    /// Memory of cached scripts outside the interpreter.
    ScriptsEval,
    /// Memory of functions outside the interpreter.
    FunctionsMemory,
    /// Commands processed since the start or the last CONFIG RESETSTAT. A decrease means that the statistics were reset.
    CommandsProcessed,
}

/// Names of each field, newest first.
const INFO_FIELDS: &[(InfoField, &[&str])] = &[
    (InfoField::CachedScripts, &["number_of_cached_scripts"]),
    (InfoField::Functions, &["number_of_functions"]),
    (InfoField::Libraries, &["number_of_libraries"]),
    (InfoField::EvictedScripts, &["evicted_scripts"]),
    (InfoField::VmEval, &["used_memory_vm_eval", "used_memory_lua"]),
    (InfoField::VmFunctions, &["used_memory_vm_functions"]),
    (InfoField::ScriptsEval, &["used_memory_scripts_eval", "used_memory_scripts"]),
    (InfoField::FunctionsMemory, &["used_memory_functions"]),
    (InfoField::CommandsProcessed, &["total_commands_processed"]),
];

/// Statistics of a command, from `cmdstat_…`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CommandStats {
    /// Calls that were executed.
    pub(crate) calls: u64,
    /// Total execution time, µs.
    pub(crate) micros: u64,
    /// Calls rejected before execution, for example with BUSY.
    pub(crate) rejected: u64,
    /// Calls that failed during execution.
    pub(crate) failed: u64,
}

/// Counts of error replies related to scripts, from `errorstat_…`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ErrorStats {
    /// `-BUSY`.
    pub(crate) busy: u64,
    /// `-UNKILLABLE`.
    pub(crate) unkillable: u64,
    /// `-NOTBUSY`.
    pub(crate) notbusy: u64,
    /// `-NOSCRIPT`.
    pub(crate) noscript: u64,
}

/// Parsed sections of INFO. Fields that were not reported are `None` or absent. Strings are printable and at most 256 bytes long.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Info {
    /// `run_id`, a random id of each server process.
    pub(crate) run_id: Option<String>,
    /// `redis`, `valkey`, or the name of a fork.
    pub(crate) server: Option<String>,
    /// Version; for Valkey its own, not the compatible Redis version.
    pub(crate) version: Option<String>,
    /// Major part of the compatible Redis version.
    pub(crate) compatible_major: Option<u32>,
    /// `standalone`, `cluster` or `sentinel`.
    pub(crate) mode: Option<String>,
    /// `master` or `slave`.
    pub(crate) role: Option<String>,
    /// True for a service with its own user management (`os:Amazon ElastiCache`, `os:Amazon MemoryDB`), where ACL SETUSER is not
    /// available.
    pub(crate) manages_users: bool,
    /// Time since the server's start, in whole seconds.
    pub(crate) uptime: Option<Duration>,
    /// Current time according to the server's clock.
    pub(crate) server_time: Option<Unix>,
    /// Statistics of script commands; commands that were never called are absent. `None` if not reported.
    pub(crate) commands: Option<HashMap<ScriptCommand, CommandStats>>,
    /// Successful kills; `None` before 7.0, which has no subcommand statistics.
    pub(crate) kills: Option<Kills>,
    /// Evidence of commands after which slow log ids may have gaps. `None` if not reported.
    pub(crate) slowlog_past: Option<SlowlogPast>,
    /// Counts of error replies. `None` if not reported or no longer counted.
    pub(crate) errors: Option<ErrorStats>,
    /// True if the server no longer counts errors because it has sent too many different ones (`errorstat_ERRORSTATS_DISABLED`,
    /// Redis 7.4 and later). `None` if not reported.
    pub(crate) error_counts_off: Option<bool>,
    /// Sections that the server rejects with an error.
    pub(crate) rejected: BTreeSet<&'static str>,
    /// Values of numeric fields; fields that the server does not report are absent.
    pub(crate) numbers: HashMap<InfoField, u64>,
}

/// History of the slow log, according to the command statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlowlogPast {
    /// Never reset, and no setting was changed: if the slow log is empty, its next id is 0.
    Untouched,
    /// Possibly reset, or disabled for some time.
    Unclear,
    /// The slow log or the statistics were reset.
    Reset,
}

/// Counts of successful kills.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kills {
    /// SCRIPT KILL.
    pub(crate) script: u64,
    /// FUNCTION KILL.
    pub(crate) function: u64,
}

impl Info {
    /// Parses the text of one or more sections; ignores unknown lines.
    #[must_use]
    pub(crate) fn parse(text: &[u8]) -> Self {
        // For valid UTF-8, the lossy conversion is several times slower.
        let text = std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text), Cow::Borrowed);
        let mut sections = HashSet::new();
        let mut fields = HashMap::new();
        let mut has_subcommands = false;
        for line in lines(&text) {
            if let Some(section) = line.strip_prefix('#') {
                sections.insert(section.trim().to_ascii_lowercase());
            } else if let Some((name, value)) = field(line) {
                has_subcommands |= name.starts_with("cmdstat_") && name.contains('|');
                if is_used(name) {
                    fields.insert(name, value.trim());
                }
            }
        }
        Self::from_fields(&sections, has_subcommands, |name| fields.get(name).copied())
    }

    /// Converts parsed fields. `has_subcommands` is true if there are subcommand statistics; `field` returns the value of a field.
    fn from_fields<'a>(
        sections: &HashSet<String>,
        has_subcommands: bool,
        field: impl Fn(&str) -> Option<&'a str>,
    ) -> Self {
        let text = |name: &str| field(name).map(bounded);
        let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
        let compatible_major =
            field("redis_version").and_then(|version| version.split('.').next()?.parse().ok());
        let counts_subcommands = compatible_major.is_some_and(|major: u32| major >= 7) || has_subcommands;
        let stats = |name: &str| field(format!("cmdstat_{name}").as_str()).map(command_stats);
        let successes = |name: &str| stats(name).map_or(0, |stats| stats.calls.saturating_sub(stats.failed));
        let has_stats = sections.contains("commandstats");
        let executable = field("executable").unwrap_or_default();
        let is_keydb = sections.contains("keydb") || executable.rsplit('/').next() == Some("keydb-server");
        let counts_errors = field("errorstat_ERRORSTATS_DISABLED").is_none();
        Self {
            run_id: text("run_id").filter(|id| !id.is_empty()),
            server: text("server_name")
                .or_else(|| is_keydb.then(|| "keydb".to_owned()))
                .or_else(|| field("redis_version").map(|_| "redis".to_owned())),
            version: text("valkey_version").or_else(|| text("redis_version")),
            compatible_major,
            mode: text("redis_mode").or_else(|| text("server_mode")),
            role: text("role"),
            manages_users: field("os").is_some_and(|os| os.starts_with("Amazon ")),
            uptime: number("uptime_in_seconds").map(Duration::from_secs),
            server_time: number("server_time_usec")
                .map(|micros| Unix::from_epoch(Duration::from_micros(micros))),
            commands: has_stats.then(|| {
                ScriptCommand::ALL
                    .into_iter()
                    .filter_map(|command| Some((command, stats(command.as_str())?)))
                    .collect()
            }),
            kills: (has_stats && counts_subcommands)
                .then(|| Kills { script: successes("script|kill"), function: successes("function|kill") }),
            slowlog_past: has_stats.then(|| {
                let traces = |names: &[&str]| names.iter().any(|name| stats(name).is_some());
                if counts_subcommands && traces(&["slowlog|reset", "commandlog|reset", "config|resetstat"]) {
                    SlowlogPast::Reset
                } else if traces(&["config|set", "slowlog", "commandlog", "config"]) {
                    SlowlogPast::Unclear
                } else {
                    SlowlogPast::Untouched
                }
            }),
            error_counts_off: sections.contains("errorstats").then_some(!counts_errors),
            errors: (sections.contains("errorstats") && counts_errors).then(|| {
                let count = |name: &str| {
                    let line = field(format!("errorstat_{name}").as_str());
                    line.and_then(|line| line.strip_prefix("count=")?.parse().ok()).unwrap_or(0)
                };
                ErrorStats {
                    busy: count("BUSY"),
                    unkillable: count("UNKILLABLE"),
                    notbusy: count("NOTBUSY"),
                    noscript: count("NOSCRIPT"),
                }
            }),
            rejected: BTreeSet::new(),
            numbers: INFO_FIELDS
                .iter()
                .filter_map(|(which, names)| Some((*which, names.iter().find_map(|name| number(name))?)))
                .collect(),
        }
    }

    /// Overwrites the fields that are present in `other`.
    pub(crate) fn merge(&mut self, other: Self) {
        fn fill<T>(mine: &mut Option<T>, other: Option<T>) {
            if other.is_some() {
                *mine = other;
            }
        }
        fill(&mut self.run_id, other.run_id);
        fill(&mut self.server, other.server);
        fill(&mut self.version, other.version);
        fill(&mut self.compatible_major, other.compatible_major);
        fill(&mut self.mode, other.mode);
        fill(&mut self.role, other.role);
        fill(&mut self.uptime, other.uptime);
        fill(&mut self.server_time, other.server_time);
        fill(&mut self.commands, other.commands);
        fill(&mut self.kills, other.kills);
        fill(&mut self.slowlog_past, other.slowlog_past);
        if other.error_counts_off.is_some() {
            self.errors = other.errors;
        }
        fill(&mut self.error_counts_off, other.error_counts_off);
        self.manages_users |= other.manages_users;
        self.rejected.extend(other.rejected);
        self.numbers.extend(other.numbers);
    }
}

/// True for the fields that [`Info::from_fields`] uses. INFO has hundreds of others, which need not be kept during parsing.
fn is_used(name: &str) -> bool {
    if let Some(command) = name.strip_prefix("cmdstat_") {
        return ScriptCommand::ALL.iter().any(|script| script.as_str() == command)
            || matches!(
                command,
                "script|kill"
                    | "function|kill"
                    | "slowlog"
                    | "slowlog|reset"
                    | "commandlog"
                    | "commandlog|reset"
            )
            || matches!(command, "config" | "config|set" | "config|resetstat");
    }
    if let Some(error) = name.strip_prefix("errorstat_") {
        return matches!(error, "BUSY" | "UNKILLABLE" | "NOTBUSY" | "NOSCRIPT" | "ERRORSTATS_DISABLED");
    }
    matches!(
        name,
        "executable"
            | "os"
            | "redis_mode"
            | "redis_version"
            | "role"
            | "run_id"
            | "server_mode"
            | "server_name"
    ) || matches!(name, "server_time_usec" | "uptime_in_seconds" | "valkey_version")
        || INFO_NAMES.contains(name)
}

/// All names in [`INFO_FIELDS`].
static INFO_NAMES: LazyLock<HashSet<&str>> =
    LazyLock::new(|| INFO_FIELDS.iter().flat_map(|(_, names)| *names).copied().collect());

/// Returns the lines of a text without their `\n`. INFO has hundreds of lines, and `str::lines`, which searches for characters, is
/// several times slower.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain(std::iter::once(text.len()));
    ends.scan(0, |start, end| text.get(std::mem::replace(start, end.saturating_add(1))..end))
}

/// Returns the name and the value of a line.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_at_checked(memchr::memchr(b':', line.as_bytes())?)?;
    Some((name, value.get(1..)?))
}

/// Parses `calls=3,usec=10,usec_per_call=3.33,rejected_calls=0,failed_calls=0`. The last two are 0 for servers before 6.2, which do
/// not report them.
fn command_stats(line: &str) -> CommandStats {
    let mut stats = CommandStats::default();
    for (name, value) in line.split(',').filter_map(|field| field.split_once('=')) {
        let Ok(value) = value.parse() else { continue };
        match name {
            "calls" => stats.calls = value,
            "usec" => stats.micros = value,
            "rejected_calls" => stats.rejected = value,
            "failed_calls" => stats.failed = value,
            _ => {}
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    const REDIS_7: &[u8] = include_bytes!("captured/info-redis-7.0.15.txt");
    const REDIS_62: &[u8] = include_bytes!("captured/info-redis-6.2.14.txt");
    const VALKEY_9: &[u8] = include_bytes!("captured/info-valkey-9.1.2.txt");

    #[test]
    fn captured_replies_name_the_server() {
        for (text, server, version, major) in [
            (REDIS_7, "redis", "7.0.15", 7),
            (REDIS_62, "redis", "6.2.14", 6),
            (VALKEY_9, "valkey", "9.1.2", 7),
        ] {
            let info = Info::parse(text);
            assert_eq!(info.server.as_deref(), Some(server));
            assert_eq!(info.version.as_deref(), Some(version));
            assert_eq!(info.compatible_major, Some(major));
            assert_eq!(info.run_id.map(|id| id.len()), Some(40));
            assert_eq!((info.mode.as_deref(), info.role.as_deref()), (Some("standalone"), Some("master")));
            assert!(info.uptime.is_some() && info.server_time.is_some());
        }
    }

    #[test]
    fn every_field_that_is_looked_up_is_kept() {
        let sections = ["commandstats", "errorstats", "keydb"].map(str::to_owned).into();
        // With every field and without any, so that alternatives are looked up too.
        for value in [Some("1"), None] {
            let unused = RefCell::new(BTreeSet::new());
            Info::from_fields(&sections, true, |name| {
                if !is_used(name) {
                    unused.borrow_mut().insert(name.to_owned());
                }
                value.filter(|_| name != "errorstat_ERRORSTATS_DISABLED")
            });
            assert_eq!(unused.into_inner(), BTreeSet::new());
        }
    }

    #[test]
    fn captured_counts_are_parsed() {
        for text in [REDIS_7, REDIS_62, VALKEY_9] {
            let info = Info::parse(text);
            let commands = info.commands.unwrap();
            assert_eq!(commands.get(&ScriptCommand::Eval).unwrap().calls, 3);
            assert_eq!(commands.get(&ScriptCommand::Eval).unwrap().failed, 1);
            assert_eq!(commands.get(&ScriptCommand::Evalsha).unwrap().calls, 2);
            assert!(!commands.contains_key(&ScriptCommand::EvalshaRo));
            let errors = info.errors.unwrap();
            assert_eq!((errors.busy, errors.notbusy, errors.noscript), (2, 1, 1));
            assert_eq!(info.numbers[&InfoField::CachedScripts], 3);
            assert!(info.numbers[&InfoField::VmEval] > 0);
        }
    }

    #[test]
    fn counts_absent_in_redis_6_2_are_unknown_but_zero_in_7_0() {
        let old = Info::parse(REDIS_62);
        assert!(old.kills.is_none() && !old.numbers.contains_key(&InfoField::Functions));
        assert_eq!(Info::parse(REDIS_7).kills, Some(Kills { script: 1, function: 0 }));
        assert_eq!(Info::parse(b"# Commandstats\r\n").commands, Some(HashMap::new()));
        assert_eq!(Info::parse(b"# Server\r\nredis_version:7.0.0\r\n").commands, None);
        assert_eq!(Info::parse(b"").errors, None);
    }

    #[test]
    fn the_history_of_the_slow_log_is_derived_from_commandstats() {
        let head = "# Server\r\nredis_version:7.0.0\r\n# Commandstats\r\n";
        let past = |lines: &str| Info::parse(format!("{head}{lines}").as_bytes()).slowlog_past;
        assert_eq!(past("cmdstat_slowlog|get:calls=1,usec=1\r\n"), Some(SlowlogPast::Untouched));
        assert_eq!(past("cmdstat_slowlog|reset:calls=1,usec=1\r\n"), Some(SlowlogPast::Reset));
        assert_eq!(past("cmdstat_commandlog|reset:calls=1,usec=1\r\n"), Some(SlowlogPast::Reset));
        assert_eq!(past("cmdstat_config|resetstat:calls=1,usec=1\r\n"), Some(SlowlogPast::Reset));
        assert_eq!(past("cmdstat_config|set:calls=1,usec=1\r\n"), Some(SlowlogPast::Unclear));
        let old = Info::parse(b"# Commandstats\r\ncmdstat_slowlog:calls=1,usec=1\r\n");
        assert_eq!(old.slowlog_past, Some(SlowlogPast::Unclear));
        assert_eq!(Info::parse(b"# Server\r\n").slowlog_past, None);
    }

    #[test]
    fn texts_are_bounded_and_printable() {
        let hostile = format!("\u{1b}[2J\u{202e}\u{200b}x\u{9b}{}", "\u{e9}".repeat(1 << 20));
        for fields in [
            &["run_id", "server_name", "valkey_version", "redis_mode", "role"][..],
            &["redis_version", "server_mode"],
        ] {
            let lines: Vec<String> = fields.iter().map(|name| format!("{name}:{hostile}\r\n")).collect();
            let text = lines.concat();
            let Info { run_id, server, version, mode, role, .. } = Info::parse(text.as_bytes());
            let texts: Vec<String> = [run_id, server, version, mode, role].into_iter().flatten().collect();
            assert!(texts.len() >= 2, "{fields:?}");
            for text in texts.iter().filter(|text| *text != "redis") {
                assert!(
                    text.starts_with("\\u{1b}[2J\\u{202e}\\u{200b}x\\u{9b}\u{e9}")
                        && (250..=256).contains(&text.len()),
                    "{fields:?}: {text:?}"
                );
            }
        }
        assert_eq!(Info::parse(b"run_id: \r\n").run_id, None);
    }

    #[test]
    fn error_counts_become_unknown_once_the_server_disables_them() {
        let text = b"# Errorstats\r\nerrorstat_ERRORSTATS_DISABLED:count=1\r\n";
        let mut info = Info::parse(b"# Errorstats\r\nerrorstat_NOSCRIPT:count=5\r\n");
        assert_eq!((info.errors.unwrap().noscript, info.error_counts_off), (5, Some(false)));
        info.merge(Info::parse(text));
        assert_eq!((info.errors, info.error_counts_off), (None, Some(true)));
    }

    #[test]
    fn keydb_is_named() {
        for text in [
            "# Server\r\nredis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server\r\n",
            "redis_version:6.3.4\r\n# KeyDB\r\n",
        ] {
            assert_eq!(Info::parse(text.as_bytes()).server.as_deref(), Some("keydb"));
        }
    }

    #[test]
    fn sections_add_up() {
        let mut info = Info::parse(b"# Server\r\nredis_version:6.2.14\r\nrun_id:abc\r\n");
        info.merge(Info::parse(b"# Memory\r\nused_memory_lua:7\r\n"));
        info.merge(Info::parse(b"# Errorstats\r\nerrorstat_BUSY:count=4\r\n"));
        assert_eq!(info.run_id.as_deref(), Some("abc"));
        assert_eq!(info.numbers[&InfoField::VmEval], 7);
        assert_eq!(info.errors.unwrap().busy, 4);
        assert!(info.commands.is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(text in any::<Vec<u8>>()) {
            let _ = Info::parse(&text);
        }

        #[test]
        fn any_lines_are_parsed(lines in prop::collection::vec("(cmdstat_|errorstat_)?[a-z|]{0,8}:?[a-z=,0-9]{0,30}", 0..20)) {
            let _ = Info::parse(format!("# Commandstats\r\n# Errorstats\r\n{}", lines.join("\r\n")).as_bytes());
        }
    }
}
