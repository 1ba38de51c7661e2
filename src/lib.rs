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
//! `poll` asks a server through [`redis`](mod@redis); [`parse`] makes types of the replies; [`script`] says
//! which script a slow log entry is about; [`watch`] decides what it all means, on (observation, time) and without
//! I/O; [`fleet`] holds the numbers; [`metrics`] turns them into text and [`web`] serves it. A scrape never touches
//! a server.

pub mod cli;
pub mod clock;
pub mod config;
pub mod fleet;
pub mod healthcheck;
mod journal;
mod logfile;
pub mod logging;
pub mod metrics;
pub mod number;
pub mod parse;
mod poll;
pub mod redis;
pub mod script;
pub mod shipped;
pub mod watch;
pub mod web;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::WebConfig;
use crate::fleet::Fleet;
use crate::metrics::PageError;

/// Why the exporter ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The metrics can't be shown.
    #[error(transparent)]
    Metrics(#[from] PageError),
    /// A task ended that never should.
    #[error("the task of {name} ended unexpectedly")]
    Task {
        /// What it was for.
        name: String,
    },
}

/// Watches the fleet's targets and serves their metrics on `listeners`, until `stop`.
///
/// # Errors
/// A task that ended unexpectedly.
pub async fn run(
    fleet: Arc<Fleet>,
    web: &WebConfig,
    listeners: Vec<TcpListener>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let router = web::router(web, Arc::clone(&fleet))?;

    let mut tasks = JoinSet::new();
    for watched in fleet.targets() {
        let (watched, stop) = (Arc::clone(watched), stop.clone());
        tasks.spawn(async move {
            let name = watched.config().name.to_string();
            poll::watch(watched, stop).await;
            name
        });
    }
    for watched in fleet.targets() {
        if let Some(path) = watched.config().log_file.clone() {
            let (watched, stop) = (Arc::clone(watched), stop.clone());
            tasks.spawn(async move {
                logfile::follow(watched, &path, stop).await;
                "the log file".to_owned()
            });
        }
    }
    for listener in listeners {
        let (router, stop) = (router.clone(), stop.clone());
        tasks.spawn(async move {
            web::serve(listener, router, stop).await;
            "the HTTP server".to_owned()
        });
    }
    // A task ends when all are told to stop. One that ends before, or panics, must not go unnoticed.
    while let Some(ended) = tasks.join_next().await {
        if !stop.is_cancelled() {
            stop.cancel();
            return Err(RunError::Task { name: ended.unwrap_or_else(|error| error.to_string()) });
        }
    }
    Ok(())
}
