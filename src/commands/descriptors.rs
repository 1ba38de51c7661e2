//! Limit on open files. Each target needs one or two.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::web::MAX_CONNECTIONS;

/// Descriptors for everything except targets and HTTP connections: files, listeners, the runtime.
const OTHERS: usize = 64;

/// Raises the soft limit to the hard limit, and logs a message if that is too low for this number of targets. Each target has one
/// connection, and a second one while its server is blocked.
pub(super) fn raise_limit(targets: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    if before != limit.maximum {
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit.current = before;
        }
    }
    let available = limit.current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let connected = targets.saturating_add(MAX_CONNECTIONS).saturating_add(OTHERS);
    let needed = connected.saturating_add(targets);
    if available < connected {
        warn!(
            limit = available,
            needed,
            targets,
            "the limit on open files is lower than the number of connections, so some targets can't be reached: raise it \
             (systemd: LimitNOFILE=, containers: --ulimit nofile=, shells: ulimit -Hn)"
        );
    } else if available < needed {
        info!(
            limit = available,
            needed,
            targets,
            "the limit on open files is too low for all servers to be blocked at the same time"
        );
    }
}
