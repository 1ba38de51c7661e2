//! The guard of a target, as the page and the API show it.

use serde::Serialize;

use super::text::{duration_seconds, unix_seconds};
use crate::guard::{Action, Guard};
use crate::script::Catalogue;
use crate::watch::Target;

/// Guard of a target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GuardRow {
    /// `dry-run` or `kill`.
    mode: &'static str,
    kill_after: f64,
    /// True if a connection is authenticated and no obstacle to a kill is known.
    ready: bool,
    /// Latest action with each outcome, newest first.
    pub(crate) actions: Vec<ActionRow>,
}

/// Action of the guard.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ActionRow {
    outcome: &'static str,
    /// Sentence that describes the outcome.
    pub(crate) text: &'static str,
    pub(crate) at: f64,
    kind: &'static str,
    /// Label of the script or function, if known.
    script: Option<String>,
    /// Name of the script or function, if known.
    pub(crate) name: Option<String>,
    /// Minimum run time of the script or function at that time, in seconds.
    pub(crate) seconds: f64,
    /// Error, if any.
    detail: Option<String>,
    /// Address of the caller, if known and not hidden.
    client: Option<String>,
    /// Name of the caller, if known and not hidden.
    client_name: Option<String>,
}

impl GuardRow {
    /// Returns the guard of a target, if it has one.
    pub(crate) fn new(target: &Target, catalogue: &Catalogue) -> Option<Self> {
        let guard: &Guard = target.guard()?;
        let policy = guard.policy();
        let mut actions: Vec<ActionRow> =
            guard.latest().map(|action| ActionRow::new(action, target, catalogue)).collect();
        actions.sort_by(|one, other| other.at.total_cmp(&one.at));
        Some(Self {
            mode: policy.mode.as_str(),
            kill_after: duration_seconds(policy.kill_after),
            ready: guard.is_ready(),
            actions,
        })
    }
}

impl ActionRow {
    fn new(action: &Action, target: &Target, catalogue: &Catalogue) -> Self {
        let script = action.script.as_ref();
        let known = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            outcome: action.outcome.as_str(),
            text: action.outcome.sentence(),
            at: unix_seconds(action.at),
            kind: action.kind.as_str(),
            script: script.map(|script| target.scripts().label_of(script, catalogue).to_string()),
            name: script.map(|script| catalogue.named(script).name.to_string()),
            seconds: duration_seconds(action.ran_for),
            detail: action.detail.clone(),
            client: action.caller.as_ref().and_then(|caller| known(&caller.client)),
            client_name: action.caller.as_ref().and_then(|caller| known(&caller.client_name)),
        }
    }
}
