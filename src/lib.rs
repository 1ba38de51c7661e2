//! A Prometheus exporter that watches Redis and Valkey servers for slow Lua scripts and functions.
//!
//! ```text
//!            one task per target                                        on a scrape
//!  ┌─────────────────────────────────────────────────┐          ┌─────────────────────┐
//!  │ client/         parse/            watch/        │          │ metrics/     web/   │
//!  │ one connection  replies → typed   meaning for   │  fleet/  │ numbers   →  text   │
//!  │ heartbeat,      entries, INFO,    this target   │ numbers  │ families     HTTP   │
//!  │ SLOWLOG, INFO   errors                          │ ───────▶ │                     │
//!  └─────────────────────────────────────────────────┘          └─────────────────────┘
//! ```
//!
//! `poll` sends commands through `client`; `parse` turns replies into types; `script` identifies the script of a slow log
//! entry; `watch` updates target state from timestamped observations, without I/O; `fleet` holds the targets;
//! `metrics` turns their numbers into text and `web` serves it. A scrape never sends anything to a server.
//!
//! The crate exists for its binary: [`run`] is the program, [`lint`] its linter, [`metrics_document`] makes the page of
//! metrics in `docs/`.

mod blocking;
mod cli;
mod client;
mod clock;
mod commands;
mod config;
mod convert;
mod diagnosis;
mod files;
mod fleet;
pub mod lint;
mod logging;
mod lua;
mod metrics;
mod parse;
mod poll;
mod script;
mod shell;
mod state;
mod text;
mod watch;
mod web;

pub use crate::commands::run;
pub use crate::metrics::document as metrics_document;
