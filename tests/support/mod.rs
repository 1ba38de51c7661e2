//! What the integration tests, the demo and the benchmark share: real servers, the real exporter, a client that can
//! wait for a blocked server, a reader of `/metrics`, and the real Prometheus and Alertmanager.
//!
//! Everything that is started here is ended by its own process id when its value is dropped, also while a test panics,
//! and by the kernel when this process is killed.

pub(crate) mod cache;
pub(crate) mod chaos;
pub(crate) mod client;
pub(crate) mod exporter;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod monitoring;
pub(crate) mod process;
pub(crate) mod scripts;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod wait;
