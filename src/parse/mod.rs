//! Replies become typed values. Pure: no I/O, no clock, no state.
//!
//! Everything here reads untrusted input: any reply gives a value or a [`Malformed`], never a panic.

mod announced;
mod cluster_nodes;
mod config;
#[cfg(test)]
mod corpus;
mod error_reply;
mod function_list;
mod function_stats;
mod info;
mod log_line;
mod recorded;
mod reply;
mod sentinel;
mod slowlog;

pub use self::cluster_nodes::{ClusterNode, ClusterNodes};
pub use self::config::Settings;
pub use self::error_reply::{BusyKind, Refusal};
pub use self::function_list::function_list;
pub use self::function_stats::{RunningFunction, function_stats};
pub use self::info::{CommandStats, ErrorStats, Info, Kills, Number, SECTIONS, SlowlogPast};
pub use self::log_line::{SlowScriptLine, slow_script_line};
pub use self::recorded::recorded_scripts;
pub use self::reply::{Malformed, bytes, integer};
pub(crate) use self::reply::{is_hidden, printable};
pub use self::sentinel::{HostPort, SentinelServer, sentinel_list, sentinel_master};
pub use self::slowlog::{Entry, SlowlogReply};
