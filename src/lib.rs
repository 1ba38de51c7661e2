//! A Prometheus exporter that detects slow Lua scripts and functions on Redis and Valkey servers.
//!
//! `ARCHITECTURE.md` describes the modules and the data flow between them.
//!
//! The crate exists for its binary: [`run`] is the program, [`lint`] its linter, and [`metrics_document`] generates the page
//! of metrics in `docs/`. The module `fuzzing` exists only in builds for fuzzing and for tests.

mod blocking;
mod cli;
mod client;
mod clock;
mod commands;
mod config;
mod convert;
mod diagnosis;
mod embedded;
mod files;
mod fleet;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod guard;
pub mod lint;
mod logging;
mod lua;
mod metrics;
mod notify;
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
