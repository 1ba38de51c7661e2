//! A Prometheus exporter that watches Redis and Valkey servers for slow Lua scripts and functions.
//!
//! ```text
//!            one task per target                                        on a scrape
//!  ┌─────────────────────────────────────────────────┐          ┌─────────────────────┐
//!  │ redis/          parse/            watch/        │          │ metrics/     web/   │
//!  │ one connection  replies → typed   what happened │  fleet   │ numbers   →  text   │
//!  │ heartbeat,      entries, INFO,    to this       │ numbers  │ families     HTTP   │
//!  │ SLOWLOG, INFO   errors            target        │ ───────▶ │                     │
//!  └─────────────────────────────────────────────────┘          └─────────────────────┘
//! ```
//!
//! `poll` asks a server through `client`; [`parse`] makes types of the replies; [`script`] says
//! which script a slow log entry is about; [`watch`] decides what it all means, on (observation, time) and without
//! I/O; [`fleet`] holds the numbers; [`metrics`] turns them into text and [`web`] serves it. A scrape never touches
//! a server.

mod blocking;
pub mod cli;
mod client;
pub mod clock;
pub mod commands;
pub mod config;
mod convert;
mod files;
pub mod fleet;
pub mod lint;
pub mod logging;
pub mod metrics;
pub mod parse;
mod poll;
pub mod script;
mod shell;
pub mod state;
mod text;
pub mod watch;
pub mod web;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::WebConfig;
use crate::fleet::Fleet;
use crate::fleet::reload::Reloader;
use crate::fleet::supervisor::{Supervisor, UnexpectedEnd};
use crate::metrics::PageError;
use crate::web::Door;

/// Why the exporter ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The metrics can't be shown.
    #[error(transparent)]
    Metrics(#[from] PageError),
    /// A task ended that never should.
    #[error(transparent)]
    Task(#[from] UnexpectedEnd),
}

/// Watches the fleet's targets and serves their metrics on `listeners` to whom `door` lets in, until `stop`.
///
/// # Errors
/// A task that ended unexpectedly.
pub async fn run(
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    web: &WebConfig,
    door: Door,
    listeners: Vec<TcpListener>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let probes = Arc::clone(reloader.probes());
    let router = web::router(web, Arc::clone(&fleet), reloader)?;
    let mut supervisor = Supervisor::new(stop.child_token());
    supervisor.start("the HTTP server", |stop| web::serve(listeners, router, Arc::new(door), stop));
    supervisor.start("the probes", |stop| probes.keep(stop));
    supervisor.start("the discovery", |stop| fleet::discovery::keep(Arc::clone(&fleet), stop));
    supervisor.start("the log", |stop| Arc::clone(&fleet).keep_log(stop));
    // Ends after all others, so that what they have read is saved.
    let mut keeper = Supervisor::new(CancellationToken::new());
    if let Some(store) = fleet.store() {
        keeper.start("the state file", |stop| Arc::clone(store).keep(Arc::clone(&fleet), stop));
    }
    let mut targets = fleet.subscribe();
    let result = loop {
        let now = Arc::clone(&targets.borrow_and_update());
        supervisor.watch(&now);
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            end = supervisor.unexpected_end() => break Err(end.into()),
            end = keeper.unexpected_end() => break Err(end.into()),
            // The fleet is held, so the sender lives.
            _ = targets.changed() => {}
        }
    };
    supervisor.stop().await;
    keeper.stop().await;
    fleet.log_omitted(true);
    result
}
