//! Discovery of servers: nodes of a cluster through any of its nodes, masters and their replicas through Sentinels, and
//! addresses of host names.
//!
//! Each entry of the configuration with `discover` has a task with its own connections, and each of its steps has a time
//! limit: no poll waits for discovery, and discovery does not wait for blocked servers. A round queries up to three peers
//! concurrently; a server exists if any of them lists it. Therefore no target disappears because of a peer that is cut
//! off, or that has not noticed its removal from the cluster. While no peer answers, nothing changes.
//!
//! Announced addresses determine where the exporter connects with the entry's credentials, so the entry's `allow` limits
//! them: other addresses are neither queried nor watched. An announcement is only trusted if it comes from a configured or
//! announced server that has accepted the login.

mod follower;
mod newcomers;
mod peer;
mod progress;
mod rounds;
mod topology;

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::follower::Follower;
pub(crate) use self::progress::Progress;
use self::rounds::Rounds;
use crate::clock::Mono;
use crate::config::{Discovery, Endpoint, TargetConfig};
use crate::fleet::Fleet;

/// Runs a task for each of the fleet's entries until `stop` is cancelled. Returns early if one of the tasks panics.
pub(crate) async fn run(fleet: Arc<Fleet>, stop: CancellationToken) {
    let mut entries = fleet.discoveries();
    let mut tasks: JoinSet<bool> = JoinSet::new();
    let mut running: Vec<(Arc<Discovery>, CancellationToken)> = Vec::new();
    loop {
        let wanted = Arc::clone(&entries.borrow_and_update());
        running.retain(|(entry, stop)| {
            let stays = wanted.iter().any(|one| Arc::ptr_eq(one, entry));
            if !stays {
                stop.cancel();
            }
            stays
        });
        for entry in wanted.iter() {
            if !running.iter().any(|(one, _)| Arc::ptr_eq(one, entry)) {
                let stop = stop.child_token();
                running.push((Arc::clone(entry), stop.clone()));
                let mut follower = Follower::new(Arc::clone(&fleet), Arc::clone(entry));
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => true,
                        () = follower.follow() => false,
                    }
                });
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // The sender exists, because this task holds the fleet.
            _ = entries.changed() => {}
            // The supervisor ends the process when this task ends.
            Some(end) = tasks.join_next() => if !matches!(end, Ok(true)) { return },
        }
    }
}

/// Discovers the servers of each entry once. Returns targets for the servers that are not among `targets`. Calls `refused`
/// with the name of the entry and the address for each server that the entry's `allow` does not admit.
///
/// # Errors
/// The servers of an entry cannot be discovered.
pub(crate) async fn find(
    entries: Vec<Discovery>,
    targets: &[TargetConfig],
    now: Mono,
    refused: impl Fn(&str, &Endpoint),
) -> Result<Vec<TargetConfig>, FindError> {
    let mut taken: HashSet<Endpoint> =
        targets.iter().map(|target| target.address.endpoint.identity()).collect();
    let mut found = Vec::new();
    for entry in entries {
        let mut rounds = Rounds::new(Arc::new(entry));
        if let Some(problem) = rounds.round(now, |_| false).await {
            return Err(FindError { entry: Arc::clone(&rounds.entry().name), problem });
        }
        for endpoint in rounds.refused() {
            refused(&rounds.entry().name, endpoint);
        }
        let endpoints = rounds.endpoints().into_iter().filter(|endpoint| taken.insert(endpoint.identity()));
        found.extend(endpoints.map(|endpoint| rounds.entry().target(endpoint)));
    }
    Ok(found)
}

/// Failure to discover the servers of an entry.
#[derive(Debug, thiserror::Error)]
#[error("cannot discover the servers of {entry}: {problem}")]
pub(crate) struct FindError {
    entry: Arc<str>,
    problem: String,
}
