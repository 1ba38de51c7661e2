//! Tests of the program with real servers: Redis 6.2, Redis 7.0 and Valkey 9.1.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::print_stdout,
    clippy::string_slice,
    reason = "a test fails by panicking, compares whole numbers, and prints measurements"
)]
#![allow(clippy::disallowed_methods, reason = "tests wait for real time to pass")]

mod access;
mod account;
mod address;
mod architecture;
mod assets;
mod blockages;
mod chaos;
mod check;
mod cli;
mod clocks;
mod common;
mod config_file;
mod dashboards;
mod demo;
mod deploy;
mod discover;
mod dockerfile;
mod documents;
mod exactly_once;
mod faults;
mod formats;
mod golden;
mod guard;
mod hostile;
mod http_abuse;
mod incident_list;
mod incidents;
mod libraries;
mod lint;
mod names;
mod notify;
mod package;
mod paging;
mod partition;
mod printed_commands;
mod probe;
mod refusals;
mod rehearse;
mod reload;
mod servers;
mod services;
mod shards;
mod status_page;
mod timeouts;
mod tls;
mod web;
mod web_auth;
