//! Entry points of the fuzz targets in `fuzz/`. Each passes arbitrary bytes to parsers and checks the guarantees about their
//! results.
//!
//! Compiled only for fuzzing and for tests, which run the targets on the files in `fuzz/corpus/`.
#![expect(clippy::missing_panics_doc, reason = "a panic is a finding")]

#[cfg(test)]
mod tests;

use std::panic;
use std::thread;

use ::redis::Value;

use crate::commands::fuzz_rehearse;
use crate::config::fuzzing as config;
use crate::embedded;
use crate::lint::{self, Limits, THREAD};
use crate::parse::{
    ClusterNodes, EndpointType, ErrorReply, Info, LogParts, Privacy, Settings, SlowlogReply, bytes,
    function_list, function_stats, integer, mentioned_scripts, recorded_scripts, sentinel_list,
    sentinel_master,
};
use crate::script::{Call, Library};
use crate::state::fuzzing as state;

/// Maximum length of a stored string from a server, in bytes.
const MAX_TEXT: usize = 256;

/// Maximum length of an announced host, in bytes.
const MAX_HOST: usize = 253;

/// Number of time checks after which a parser of another language is stopped.
const MAX_CHECKS: u32 = 20_000;

/// Fuzz target: runs parsers on arbitrary bytes.
pub type Target = fn(&[u8]);

/// All fuzz targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("addresses", addresses),
    ("alertmanager_config", alertmanager_config),
    ("allow_list", allow_list),
    ("calls", calls),
    ("config_file", config_file),
    ("embedded", embedded),
    ("info", info),
    ("lint", lint),
    ("log_lines", log_lines),
    ("recordings", recordings),
    ("rehearse", rehearse),
    ("replies", replies),
    ("slowlog", slowlog),
    ("state_file", state_file),
    ("topology", topology),
    ("web_config", web_config),
];

/// Runs the target with this name. Returns `false` if there is none.
pub fn run(name: &str, data: &[u8]) -> bool {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    target.map(|(_, run)| run(data)).is_some()
}

/// Makes the fuzzer ignore panics of the Lua parser, which the linter catches.
pub fn ignore_caught_panics() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(THREAD) {
            default(info);
        }
    }));
}

fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}

/// Fuzzes replies to all commands except SLOWLOG GET, in the wire protocol.
pub fn replies(data: &[u8]) {
    let Ok(value) = ::redis::parse_redis_value(data) else { return };
    let _ = (Settings::parse(value.clone()), integer(&value), EndpointType::parse(value.clone()));
    let _ = function_stats(value.clone());
    for library in function_list(value.clone()).unwrap_or_default() {
        let _ = Library::parse(&library);
    }
    if let Value::ServerError(error) = &value {
        let _ = ErrorReply::parse(error.code(), error.details().unwrap_or_default());
    }
    let _ = bytes(value);
}

/// Fuzzes the text of INFO.
pub fn info(data: &[u8]) {
    let mut info = Info::parse(data);
    let texts = [&info.run_id, &info.server, &info.version, &info.mode, &info.role];
    assert!(texts.into_iter().flatten().all(|text| is_plain(text)), "{info:?}");
    info.merge(Info::parse(data));
}

/// Fuzzes the reply to SLOWLOG GET, in the wire protocol.
pub fn slowlog(data: &[u8]) {
    let Ok(value) = ::redis::parse_redis_value(data) else { return };
    for privacy in [Privacy::default(), Privacy { show_keys: true, hide_clients: true, show_source: true }] {
        let Ok(reply) = SlowlogReply::parse(value.clone(), privacy) else { continue };
        assert!(reply.entries.is_sorted_by(|one, next| one.id < next.id), "oldest first, none twice");
        assert!(reply.entries.len().saturating_add(reply.malformed) <= reply.received);
        for entry in &reply.entries {
            let names = [&entry.command, &entry.client, &entry.client_name];
            assert!(names.into_iter().chain(&entry.keys).all(|text| is_plain(text)), "{entry:?}");
            assert!(!privacy.hide_clients || entry.client.is_empty() && entry.client_name.is_empty());
        }
    }
}

/// Fuzzes the arguments of a call, separated by NUL.
pub fn calls(data: &[u8]) {
    let arguments: Vec<Vec<u8>> = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    if let Some(call) = Call::from_arguments(&arguments) {
        let label = call.script.label.as_str();
        assert!(!label.is_empty() && is_plain(label), "{label:?}");
    }
    let _ = Library::parse(data);
    let text = String::from_utf8_lossy(data);
    let (code, detail) = text.split_once(' ').unwrap_or((&text, ""));
    let _ = ErrorReply::parse(code, detail);
}

/// Fuzzes the servers announced by a cluster node or a Sentinel: the text of CLUSTER NODES, or a reply in the wire protocol.
pub fn topology(data: &[u8]) {
    let is_host = |host: &str| {
        !host.is_empty() && host.len() <= MAX_HOST && !host.contains(['/', '@', '\\', '"', '%', ' ', '\n'])
    };
    if let Ok(cluster) = ClusterNodes::parse(Value::BulkString(data.to_vec())) {
        for node in &cluster.nodes {
            assert!(node.port > 0 && node.hosts(EndpointType::Ip).all(is_host), "{node:?}");
            // The node that replied may not know its own address.
            let has_host = node.hosts(EndpointType::Hostname).next().is_some();
            assert!(has_host || cluster.myself.as_ref() == Some(&node.id), "{node:?}");
        }
    }
    let Ok(value) = ::redis::parse_redis_value(data) else { return };
    let _ = (ClusterNodes::parse(value.clone()), EndpointType::parse(value.clone()));
    let listed = sentinel_list(value.clone()).unwrap_or_default();
    let master = sentinel_master(value).ok().and_then(|server| server.address);
    for (host, port) in listed.into_iter().chain(master) {
        assert!(port > 0 && is_host(&host), "{host:?}");
    }
}

/// Fuzzes lines of a server's log.
pub fn log_lines(data: &[u8]) {
    let mut parts = LogParts::default();
    for line in String::from_utf8_lossy(data).lines() {
        if let Some(line) = parts.slow_script_line(line) {
            assert!(line.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line:?}");
        }
    }
}

/// Fuzzes recordings of client commands, and text that mentions scripts.
pub fn recordings(data: &[u8]) {
    let scripts = recorded_scripts(data);
    assert!(scripts.iter().map(Vec::len).sum::<usize>() <= data.len());
    let _ = mentioned_scripts(data);
}

/// Fuzzes the file of `--config.file`.
pub fn config_file(data: &[u8]) {
    config::file(&String::from_utf8_lossy(data));
}

/// Fuzzes the file of `--web.config.file`.
pub fn web_config(data: &[u8]) {
    config::web_file(&String::from_utf8_lossy(data));
}

/// Fuzzes the file of `--alertmanager.config.file`.
pub fn alertmanager_config(data: &[u8]) {
    config::alertmanager_file(&String::from_utf8_lossy(data));
}

/// Fuzzes an allow list: one entry per line, and on the last line an address to match against the entries.
pub fn allow_list(data: &[u8]) {
    config::allow_list(&String::from_utf8_lossy(data));
}

/// Fuzzes the address of a server.
pub fn addresses(data: &[u8]) {
    config::address(&String::from_utf8_lossy(data));
}

/// Fuzzes a state file, and the same lines in a file with a valid end.
pub fn state_file(data: &[u8]) {
    state::file(&String::from_utf8_lossy(data));
}

/// Fuzzes the source of a script.
pub fn lint(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let enabled: Vec<String> = lint::off_by_default().map(str::to_owned).collect();
    let (findings, _) = lint::lint("fuzz.lua", &source, &lint::limits(&source), &enabled);
    let lines = source.lines().count().max(1);
    assert!(findings.iter().all(|finding| finding.line <= lines.saturating_add(1)), "{findings:?}");
    let _ = (lint::fixed(&source), lint::uses(&source));
}

/// Fuzzes the comments and keys of a rehearsal, and the server's INFO.
pub fn rehearse(data: &[u8]) {
    fuzz_rehearse(&String::from_utf8_lossy(data));
}

/// Fuzzes a source file in another language. The first line of the input is the file extension.
pub fn embedded(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (extension, source) = text.split_once('\n').unwrap_or_default();
    let mut checks = 0_u32;
    let mut is_late = || {
        checks = checks.saturating_add(1);
        checks > MAX_CHECKS
    };
    for script in embedded::scripts(extension, source, &mut is_late).unwrap_or_default() {
        assert!(!script.body.is_empty() && !script.name.is_empty(), "{script:?}");
        let _ = lint::lint_embedded("fuzz", source, &script, &Limits::default(), &[]);
    }
}
