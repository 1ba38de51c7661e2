//! What was seen of a server, and what it means: pure.

use std::time::Duration;

use super::probe::{Answer, ENTRIES, Seen, Standing, Unreachable};
use super::report::{
    Blocked, Capability, CapabilityResult, Finding, ServerFacts, ServerReport, SettingsReport, SlowlogReport,
    Status, clean,
};
use super::{slow, text};
use crate::client::Command;
use crate::config::TargetConfig;
use crate::parse::{BusyKind, SlowlogThreshold};

/// Everything that the exporter asks, in the order of the report, and what is lost without it.
const QUESTIONS: [(Command, &str); 8] = [
    (Command::Ping, "blockages are noticed later"),
    (Command::Info(&[]), "version, role and the counts of calls and errors are unknown"),
    (Command::SlowlogGet(0), "no slow script is seen at all"),
    (Command::SlowlogLen, "nobody sees how full the slow log is"),
    (Command::ConfigGet(&[]), "nobody is told that the slow log is off or the time limit unsafe"),
    (Command::FunctionStats, "a function is not named while it runs"),
    (Command::SetName, "the exporter has no name in CLIENT LIST"),
    (Command::Transaction, "watching a BUSY server adds to its count of BUSY errors"),
];

/// A slow log of fewer entries is soon overwritten; this is the servers' default.
const FEW_ENTRIES: u64 = 128;

/// The servers' default time limit; a longer one keeps runaway scripts from being killed in time.
const LONG_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Decides what it means.
pub(super) fn judge(config: &TargetConfig, seen: &Seen, since: Option<Duration>) -> ServerReport {
    let mut findings = Vec::new();
    standing(config, seen, &mut findings);
    let sentinel = seen.info.as_ref().and_then(|info| info.mode.as_deref()) == Some("sentinel");
    if sentinel {
        findings.push(Finding {
            advice: vec!["Give the addresses of the servers that it watches.".to_owned()],
            ..finding(Status::Critical, "sentinel", "this is a Sentinel: it runs no scripts")
        });
    } else {
        grants(config, seen, &mut findings);
        settings(config, seen, &mut findings);
    }
    unreadable(seen, &mut findings);
    let slowlog = slowlog(config, seen, since);
    if let Some(slowlog) = &slowlog {
        slow_scripts(slowlog, &mut findings);
    }
    if seen.standing == Standing::Answers && seen.slowest >= config.slow.warning {
        let took = text::short(seen.slowest);
        findings.push(Finding {
            advice: vec!["Something blocked it, and has ended; the slow log may name it.".to_owned()],
            ..finding(Status::Warning, "stalled", format!("left a request without an answer for {took}"))
        });
    }
    // Stable: among equals, what blocks comes before what is missing.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    ServerReport {
        target: clean(&config.name),
        status: findings.first().map_or(Status::Ok, |finding| finding.severity),
        state: state(&seen.standing),
        shell: crate::shell::redis_cli(config),
        logs_in: config.credentials.password.is_some(),
        server: facts(seen),
        blocked: blocked(&seen.standing),
        capabilities: QUESTIONS.map(|(question, _)| capability(config, seen, question)).to_vec(),
        settings: (!seen.settings.is_empty()).then(|| SettingsReport {
            slowlog_enabled: seen.settings.slowlog_threshold.map(|threshold| threshold.duration().is_some()),
            slowlog_threshold: seen.settings.slowlog_threshold.and_then(SlowlogThreshold::duration),
            slowlog_max_length: seen.settings.slowlog_max_len,
            time_limit: seen.settings.time_limit,
        }),
        slowlog,
        findings,
    }
}

fn finding(severity: Status, code: &'static str, message: impl Into<String>) -> Finding {
    Finding { severity, code, message: message.into(), advice: Vec::new(), commands: Vec::new() }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// What the standing of the server says by itself.
fn standing(config: &TargetConfig, seen: &Seen, findings: &mut Vec<Finding>) {
    let critical = |code, message: String, advice: &[&str], commands: &[&str]| Finding {
        advice: strings(advice),
        commands: strings(commands),
        ..finding(Status::Critical, code, message)
    };
    findings.push(match &seen.standing {
        Standing::Answers => return,
        Standing::Blocked { waited, handshake: false } => critical(
            "blocked",
            format!("blocked: accepts connections but does not answer for {}", text::short(*waited)),
            &[
                "All clients wait. It is inside one long command: a script that is not BUSY yet (5s is the default time \
                 limit), another slow command, or the process is stopped, swaps or waits for a disk.",
                "Until it says BUSY nothing can be killed. Check again with a longer --timeout; on its machine, look \
                 whether the process runs (ps, top) and what its log says.",
            ],
            &[],
        ),
        Standing::Blocked { waited, handshake: true } => critical(
            "blocked",
            format!("accepts connections but does not answer the TLS handshake for {}", text::short(*waited)),
            &["Either it is blocked by a command or a stopped process, or this port does not speak TLS: try redis:// \
               instead of rediss://."],
            &[],
        ),
        Standing::Busy { kind, function, .. } => busy(*kind, function.as_ref()),
        Standing::Loading => Finding {
            advice: strings(&["It serves nobody until that is done; INFO persistence shows the progress. Check again \
                               then."]),
            ..finding(Status::Warning, "loading", "LOADING: it is loading its data set into memory")
        },
        Standing::Unauthorized(words) => {
            let user = config.credentials.user_shown();
            let advice = match words.split(' ').next().unwrap_or_default() {
                "NOAUTH" => {
                    "The server wants a password: give --redis.password-file, and --redis.user for an ACL user."
                }
                "WRONGPASS" => {
                    "The user or the password is wrong, or the user is off: check --redis.user and the password."
                }
                "DENIED" => {
                    "The server is in protected mode: it has no password and talks to its own machine only."
                }
                "ERR" => {
                    "A password is given, and the server may have none for this user: try without, or check the user."
                }
                _ => "Check --redis.user and --redis.password-file.",
            };
            let message = format!("refuses user {:?}: {}", clean(user), clean(words.trim_end_matches('.')));
            critical("unauthorized", message, &[advice], &[])
        }
        Standing::Unreachable(why) => {
            let (message, advice) = unreachable(why);
            critical(if matches!(why, Unreachable::Tls(_)) { "tls" } else { "unreachable" }, message, &[advice], &[])
        }
    });
}

fn busy(kind: BusyKind, function: Option<&crate::parse::RunningFunction>) -> Finding {
    let (what, kill) = (kind.as_str(), kill(kind));
    let named = function.map(|function| {
        let time = function.running_for.map(|time| format!(" has been running for {}", text::short(time)));
        let name = clean(&String::from_utf8_lossy(&function.name));
        format!("BUSY: the function {name}{}", time.unwrap_or_else(|| " runs".to_owned()))
    });
    let mut advice = vec!["All clients get BUSY errors until it ends.".to_owned()];
    if kind == BusyKind::Script {
        advice.push(
            "Its SHA1 is in the server's own log: grep 'still in execution'. Note it before you kill it."
                .to_owned(),
        );
    }
    advice.push(match kill {
        Some(kill) => format!(
            "{kill} ends it. The answer UNKILLABLE means that it has written: then wait for its end, or send SHUTDOWN \
             NOSAVE, which loses all data since the last save."
        ),
        None => "No command ends a module's command: see the module's documentation, wait, or send SHUTDOWN NOSAVE, \
                 which loses all data since the last save."
            .to_owned(),
    });
    Finding {
        advice,
        commands: kill.iter().map(|&kill| kill.to_owned()).collect(),
        ..finding(
            Status::Critical,
            "busy",
            named.unwrap_or_else(|| {
                let a = if kind == BusyKind::Module { "command of a module" } else { what };
                format!("BUSY: a {a} runs for longer than the time limit")
            }),
        )
    }
}

/// What ends it.
const fn kill(kind: BusyKind) -> Option<&'static str> {
    match kind {
        BusyKind::Script => Some("SCRIPT KILL"),
        BusyKind::Function => Some("FUNCTION KILL"),
        BusyKind::Module => None,
    }
}

fn unreachable(why: &Unreachable) -> (String, &'static str) {
    match why {
        Unreachable::Name(text) => {
            (clean(text), "Check the host name in --redis.addr, and the resolver here.")
        }
        Unreachable::ErrorReply(text) => (
            clean(text),
            "Nobody listens there: check the address and port, whether the server runs, and its setting bind.",
        ),
        Unreachable::Silence(text) => {
            (clean(text), "Check the address, and firewalls and routes between here and there.")
        }
        Unreachable::Tls(text) => (
            format!("the TLS handshake failed: {}", clean(text)),
            "UnknownIssuer: give --redis.tls-ca-file. NotValidForName: use a name of the certificate. An end of the \
             stream: the port may not speak TLS (redis://), or wants a client certificate (--redis.tls-cert-file).",
        ),
        Unreachable::NotRedis => (
            "what answers there does not speak the Redis protocol".to_owned(),
            "Something else listens at that port, or the port wants TLS: try rediss://.",
        ),
        Unreachable::Full => (
            "refuses new clients: it has as many as maxclients allows".to_owned(),
            "Find out who holds the connections (CLIENT LIST, on a connection that exists), or raise maxclients.",
        ),
        Unreachable::Lost(text) => (
            clean(text),
            "The server or something in between closed the connection: see its log. If it happens every time, the \
             port may want TLS: try rediss://.",
        ),
    }
}

/// What can't be asked.
fn grants(config: &TargetConfig, seen: &Seen, findings: &mut Vec<Finding>) {
    for (question, effect) in QUESTIONS {
        let Some(answer) = answer_to(seen, question) else { continue };
        let name = question.name();
        let user = clean(config.credentials.user_shown());
        let (code, message, advice, commands) = match answer {
            Answer::Works | Answer::NotThere => continue,
            Answer::NotGranted => {
                let line = format!("ACL SETUSER {user} {}", question.grant());
                ("missing_grant", format!("user {user:?} may not run {name}: {effect}"), None, vec![line])
            }
            Answer::Unknown => (
                "unknown_command",
                format!("the server does not know {name}: {effect}"),
                Some("A managed service that has switched it off, or a renamed command."),
                Vec::new(),
            ),
            Answer::Odd(words) => (
                "unexpected_answer",
                format!("{name} is answered with: {}", clean(words.trim_end_matches('.'))),
                None,
                Vec::new(),
            ),
        };
        let severity =
            if matches!(question, Command::SlowlogGet(_)) { Status::Critical } else { Status::Warning };
        let advice = advice.iter().map(|&advice: &&str| advice.to_owned()).collect();
        findings.push(Finding { advice, commands, ..finding(severity, code, message) });
    }
}

/// Settings that hide slow scripts, or keep them from being killed.
fn settings(config: &TargetConfig, seen: &Seen, findings: &mut Vec<Finding>) {
    let settings = &seen.settings;
    let mut warn = |code, message: String, command: String| {
        findings.push(Finding { commands: vec![command], ..finding(Status::Warning, code, message) });
    };
    let threshold = || "CONFIG SET slowlog-log-slower-than 10000".to_owned();
    match settings.slowlog_threshold {
        Some(SlowlogThreshold::Off) => warn(
            "slowlog_off",
            "the slow log is off (slowlog-log-slower-than is negative): no slow script is seen".to_owned(),
            threshold(),
        ),
        Some(SlowlogThreshold::At(Duration::ZERO)) => warn(
            "slowlog_flooded",
            "slowlog-log-slower-than is 0: every command is logged and pushes slow scripts out".to_owned(),
            threshold(),
        ),
        Some(SlowlogThreshold::At(time)) if time >= config.slow.warning => warn(
            "slowlog_threshold_high",
            format!(
                "the slow log begins at {}, and --slow.warning is {}: it hides slow scripts",
                text::short(time),
                text::short(config.slow.warning)
            ),
            threshold(),
        ),
        _ => {}
    }
    let max_len = || "CONFIG SET slowlog-max-len 1024".to_owned();
    match settings.slowlog_max_len {
        Some(0) => {
            warn("slowlog_off", "the slow log keeps nothing: slowlog-max-len is 0".to_owned(), max_len());
        }
        Some(entries) if entries < FEW_ENTRIES => warn(
            "slowlog_small",
            format!(
                "the slow log keeps only {entries} entries (slowlog-max-len): slow scripts are soon lost"
            ),
            max_len(),
        ),
        _ => {}
    }
    let modern = seen.info.as_ref().and_then(|info| info.compatible_major).is_some_and(|major| major >= 7);
    let name = if modern { "busy-reply-threshold" } else { "lua-time-limit" };
    let time_limit = || format!("CONFIG SET {name} 5000");
    match settings.time_limit {
        Some(Duration::ZERO) => warn(
            "time_limit_off",
            format!("{name} is 0: the server never answers BUSY, and no script can be killed"),
            time_limit(),
        ),
        Some(limit) if limit > LONG_TIME_LIMIT => warn(
            "time_limit_long",
            format!("{name} is {}: no script can be killed before", text::short(limit)),
            time_limit(),
        ),
        _ => {}
    }
}

fn slowlog(config: &TargetConfig, seen: &Seen, since: Option<Duration>) -> Option<SlowlogReport> {
    let reply = seen.slowlog.as_ref()?;
    let from = since.map_or(0, |since| (seen.now - since).as_secs());
    let calls = reply.entries.iter().filter(|entry| entry.ended_at >= from);
    Some(SlowlogReport {
        length: seen
            .slowlog_length
            .or_else(|| u64::try_from(reply.received).ok().filter(|_| reply.received < ENTRIES)),
        read: reply.received,
        script_calls: calls.map(|entry| u64::from(entry.call.is_some())).sum(),
        scripts: slow::sum_up(&reply.entries, config.slow, from, seen.now),
    })
}

/// Entries of the slow log that are in a form that is not known.
fn unreadable(seen: &Seen, findings: &mut Vec<Finding>) {
    let Some(reply) = seen.slowlog.as_ref().filter(|reply| reply.malformed > 0) else { return };
    let (unreadable, received) = (reply.malformed, reply.received);
    let message = if reply.entries.is_empty() {
        format!(
            "no entry of the slow log can be read ({unreadable} were tried): no slow script is seen at all"
        )
    } else {
        format!("{unreadable} of {received} slow log entries can't be read: slow scripts may be among them")
    };
    findings.push(Finding {
        advice: strings(&["Their form is not known. Please report it, with the answer to SLOWLOG GET 1."]),
        ..finding(Status::Warning, "slowlog_unreadable", message)
    });
}

fn slow_scripts(slowlog: &SlowlogReport, findings: &mut Vec<Finding>) {
    let calls: u64 = slowlog.scripts.iter().map(|script| script.slow_calls).sum();
    let worst = slowlog.scripts.iter().max_by_key(|script| script.max);
    if let Some(worst) = worst.filter(|_| calls > 0) {
        let plural = if calls == 1 { "call is" } else { "calls are" };
        findings.push(Finding {
            advice: strings(&[
                "See the table. Calls stay in the slow log until newer ones push them out; --since leaves \
                               old ones out of account.",
            ]),
            ..finding(
                Status::Warning,
                "slow_scripts",
                format!(
                    "{calls} slow script {plural} in the slow log; the longest took {}: {} by {}",
                    text::short(worst.max),
                    worst.script,
                    worst.command
                ),
            )
        });
    }
}

fn answer_to(seen: &Seen, question: Command) -> Option<&Answer> {
    seen.answers.iter().find(|(asked, _)| asked.name() == question.name()).map(|(_, answer)| answer)
}

fn capability(config: &TargetConfig, seen: &Seen, question: Command) -> Capability {
    let unreadable = matches!(question, Command::SlowlogGet(_))
        && seen.slowlog.as_ref().is_some_and(|reply| reply.malformed > 0 && reply.entries.is_empty());
    let result = match answer_to(seen, question) {
        Some(Answer::Works) if unreadable => CapabilityResult::Error,
        None => CapabilityResult::NotTried,
        Some(Answer::Works) => CapabilityResult::Works,
        Some(Answer::NotGranted) => CapabilityResult::NotGranted,
        Some(Answer::Unknown) => CapabilityResult::Unknown,
        Some(Answer::NotThere) => CapabilityResult::NotThere,
        Some(Answer::Odd(_)) => CapabilityResult::Error,
    };
    let fix = (result == CapabilityResult::NotGranted)
        .then(|| format!("ACL SETUSER {} {}", clean(config.credentials.user_shown()), question.grant()));
    Capability { command: question.name(), result, fix }
}

fn state(standing: &Standing) -> &'static str {
    use crate::watch::StateKind;
    let state = match standing {
        Standing::Answers => StateKind::Ok,
        Standing::Blocked { .. } => StateKind::Blocked,
        Standing::Busy { kind, .. } => StateKind::Busy(*kind),
        Standing::Loading => StateKind::Loading,
        Standing::Unauthorized(_) => StateKind::Unauthorized,
        Standing::Unreachable(_) => StateKind::Unreachable,
    };
    state.as_str()
}

fn blocked(standing: &Standing) -> Option<Blocked> {
    match standing {
        Standing::Blocked { waited, .. } => {
            Some(Blocked { kind: None, kill: None, function: None, running: None, unanswered: *waited })
        }
        Standing::Busy { kind, waited, function } => Some(Blocked {
            kind: Some(kind.as_str()),
            kill: kill(*kind),
            function: function.as_ref().map(|function| clean(&String::from_utf8_lossy(&function.name))),
            running: function.as_ref().and_then(|function| function.running_for),
            unanswered: *waited,
        }),
        _ => None,
    }
}

fn facts(seen: &Seen) -> Option<ServerFacts> {
    let info = seen.info.as_ref()?;
    let text = |text: &Option<String>| text.as_deref().map(clean);
    Some(ServerFacts {
        name: text(&info.server),
        version: text(&info.version),
        role: text(&info.role),
        mode: text(&info.mode),
        uptime_seconds: info.uptime.map(|uptime| uptime.as_secs()),
        busy_errors: info.errors.map(|errors| errors.busy),
    })
}
