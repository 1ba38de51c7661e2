//! Metrics of the exporter's own process (Linux only).

use prometheus::proto::MetricFamily;

/// Families of the collector that are not exposed, because they are meaningless for this program.
#[cfg(target_os = "linux")]
const UNUSED: [&str; 2] = ["process_threads", "process_virtual_memory_bytes"];

/// Family of the start time, which never changes.
#[cfg(target_os = "linux")]
const START: &str = "process_start_time_seconds";

/// Collector of the families `process_*`.
#[derive(Debug)]
pub(super) struct Process {
    #[cfg(target_os = "linux")]
    collector: prometheus::process_collector::ProcessCollector,
    /// Start time of the process.
    #[cfg(target_os = "linux")]
    started: Vec<MetricFamily>,
}

#[cfg(target_os = "linux")]
impl Process {
    pub(super) fn new() -> Self {
        let collector = prometheus::process_collector::ProcessCollector::for_self();
        let mut started = prometheus::core::Collector::collect(&collector);
        started.retain(|family| family.name() == START);
        Self { collector, started }
    }

    /// Returns the families with their current values.
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let mut families = prometheus::core::Collector::collect(&self.collector);
        families.retain(|family| !UNUSED.contains(&family.name()));
        families
    }

    /// Returns the families that never change: the start time.
    pub(super) fn started(&self) -> Vec<MetricFamily> {
        self.started.clone()
    }
}

#[cfg(not(target_os = "linux"))]
impl Process {
    pub(super) fn new() -> Self {
        Self {}
    }

    /// Returns nothing: the numbers are not available on this system.
    #[expect(clippy::unused_self, reason = "same signature as on Linux")]
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        Vec::new()
    }

    /// Returns nothing: the numbers are not available on this system.
    #[expect(clippy::unused_self, reason = "same signature as on Linux")]
    pub(super) fn started(&self) -> Vec<MetricFamily> {
        Vec::new()
    }
}
