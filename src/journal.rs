//! From events to log lines: the one place that words them.

use tracing::{debug, info, warn};

use crate::number::millis;
use crate::script::{Call, Catalogue, OTHER};
use crate::watch::{Event, State};

/// Writes the log line of an event; scripts have the names of the catalogue.
pub(crate) fn write(target: &str, event: &Event, names: &Catalogue) {
    match event {
        Event::StateChanged { from, to, detail } => state_changed(target, *from, *to, detail.as_deref()),
        Event::StateHolds { state, detail } => {
            warn!(target, state = state.as_str(), detail, "state holds");
        }
        Event::BlockageBegan => warn!(target, "blocked: the server does not answer"),
        Event::WentBusy { kind, blocked } => {
            warn!(target, kind = kind.as_str(), blocked_ms = millis(*blocked), "the server went BUSY");
        }
        Event::Named(runner) => {
            let script = names.identify(&runner.script);
            warn!(
                target,
                kind = runner.kind.as_str(),
                script = script.label.as_str(),
                sha1 = given(&script.sha1),
                "running now"
            );
        }
        Event::BlockageEnded { blocked, cause, culprit, runner } => {
            let call = culprit.as_ref().and_then(|culprit| Call::from_arguments(&culprit.arguments));
            let told = runner.as_ref().map(|runner| &runner.script);
            let script = told.or(call.as_ref().map(|call| &call.script)).map(|script| names.identify(script));
            let command = culprit.as_ref().and_then(|culprit| culprit.arguments.first());
            warn!(
                target,
                blocked_ms = millis(*blocked),
                cause = cause.as_str(),
                script = script.as_ref().map(|script| script.label.as_str()),
                sha1 = script.as_ref().and_then(|script| given(&script.sha1)),
                command = command.map(|name| String::from_utf8_lossy(name)
                    .escape_debug()
                    .to_string()
                    .to_ascii_lowercase()),
                duration_ms = culprit.as_ref().map(|culprit| millis(culprit.duration)),
                client = culprit.as_ref().and_then(|culprit| given(&culprit.client)),
                client_name = culprit.as_ref().and_then(|culprit| given(&culprit.client_name)),
                "blockage ended"
            );
        }
        Event::SlowScript(slow) => {
            let command = slow.call.command.as_str();
            let script = names.identify(&slow.call.script);
            // What came after the limit of labels is told as it is counted.
            let label = if slow.label.as_str() == OTHER { &slow.label } else { &script.label };
            warn!(
                target,
                id = slow.id,
                severity = slow.severity.as_str(),
                command,
                script = label.as_str(),
                sha1 = given(&script.sha1),
                duration_ms = millis(slow.duration),
                client = given(&slow.client),
                client_name = given(&slow.client_name),
                keys = slow.call.keys,
                "slow script"
            );
        }
        Event::EntriesLost { count } => warn!(
            target,
            count,
            "slow log entries were overwritten before they could be read; a larger slowlog-max-len keeps them longer"
        ),
        Event::Capability { feature, available: true, .. } => {
            info!(target, feature = feature.as_str(), "available again");
        }
        Event::Capability { feature, available: false, problem } => {
            warn!(target, feature = feature.as_str(), problem, "not available");
        }
        Event::Trouble { command, detail } => warn!(target, command, detail, "unexpected answer"),
    }
}

fn state_changed(target: &str, from: Option<State>, to: State, detail: Option<&str>) {
    let (from, to_text) = (from.map(State::as_str), to.as_str());
    match to {
        State::Ok => info!(target, from, state = to_text, "state changed"),
        // Blockages have lines of their own.
        State::Blocked | State::Busy(_) => debug!(target, from, state = to_text, "state changed"),
        State::Loading => info!(target, from, state = to_text, "state changed"),
        State::Unauthorized | State::Unreachable => {
            warn!(target, from, state = to_text, detail, "state changed");
        }
    }
}

/// A text that says something: empty ones are left out of the line.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
