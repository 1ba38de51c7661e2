//! Support code for the integration tests, the demo and the benchmarks: servers, the exporter, a client that can wait for a
//! blocked server, a parser for `/metrics`, Prometheus and Alertmanager.
//!
//! Each process is ended by its process id when its value is dropped, even if a test panics, and by the kernel if this
//! process is killed.

#![allow(clippy::disallowed_methods, reason = "tests wait for real time to pass")]

pub mod browser;
pub mod cache;
pub mod chaos;
pub mod client;
pub mod exporter;
pub mod hostile;
pub mod http;
pub mod metrics;
pub mod monitoring;
pub mod process;
pub mod scripts;
pub mod server;
pub mod tls;
pub mod wait;
