//! Numbers of the exporter's own process (Linux only).

use prometheus::proto::MetricFamily;

/// Families of the collector that are not served: they carry nothing about this program.
#[cfg(target_os = "linux")]
const UNUSED: [&str; 2] = ["process_threads", "process_virtual_memory_bytes"];

/// Collector of the families `process_*`.
#[derive(Debug)]
pub(super) struct Process {
    #[cfg(target_os = "linux")]
    collector: prometheus::process_collector::ProcessCollector,
}

#[cfg(target_os = "linux")]
impl Process {
    pub(super) fn new() -> Self {
        Self { collector: prometheus::process_collector::ProcessCollector::for_self() }
    }

    /// Returns the families with their present values.
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let mut families = prometheus::core::Collector::collect(&self.collector);
        families.retain(|family| !UNUSED.contains(&family.name()));
        families
    }
}

#[cfg(not(target_os = "linux"))]
impl Process {
    pub(super) fn new() -> Self {
        Self {}
    }

    /// Returns nothing: the numbers are not available on this system.
    #[expect(clippy::unused_self, reason = "the signature is that of Linux")]
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        Vec::new()
    }
}
