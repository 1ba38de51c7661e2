//! Commands, and parsers of replies and server logs. Pure: no I/O, no clock, and no state except in [`LogParts`].
//!
//! All input is untrusted: a parser returns a value or [`Malformed`] for any input, and never panics.

mod announced;
mod cluster_nodes;
mod command;
mod config;
#[cfg(test)]
mod corpus;
mod error_reply;
mod function_list;
mod function_stats;
mod info;
mod log_line;
mod log_parts;
mod mentions;
mod recorded;
mod reply;
mod sentinel;
mod slowlog;

pub(crate) use self::cluster_nodes::{ClusterNodes, EndpointType};
pub(crate) use self::command::{
    Command, CommandNames, GuardCommand, LARGE_REPLY, Request, SMALL_REPLY, TopologyCommand,
};
pub(crate) use self::config::{Settings, SlowlogThreshold};
pub(crate) use self::error_reply::{BusyKind, ErrorReply};
pub(crate) use self::function_list::function_list;
pub(crate) use self::function_stats::{RunningFunction, function_stats};
pub(crate) use self::info::{CommandStats, ErrorStats, Info, InfoField, SECTIONS, SlowlogPast};
pub(crate) use self::log_line::SlowScriptLine;
pub(crate) use self::log_parts::LogParts;
pub(crate) use self::mentions::{Mention, mentioned_scripts};
pub(crate) use self::recorded::recorded_scripts;
pub(crate) use self::reply::{Malformed, bytes, integer};
pub(crate) use self::sentinel::{HostPort, sentinel_list, sentinel_master};
pub(crate) use self::slowlog::{Entry, Privacy, SlowlogReply};
