//! The metrics about discovery.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::fleet::Fleet;

/// The label with the name of the entry.
pub(super) const LABEL: &str = "discovery";

/// Names and helps.
pub(super) const DISCOVERY: [(&str, &str); 3] = [
    (
        "redis_script_exporter_discovery_up",
        "1 if the servers to discover were told when they were last asked for; else 0, and those that are watched stay. \
         Only where the configuration has discover.",
    ),
    (
        "redis_script_exporter_discovered_targets",
        "Targets that are watched because they were discovered; only where the configuration has discover.",
    ),
    (
        "redis_script_exporter_discovery_refused_servers",
        "Servers that were announced and are not connected to, because allow of the entry does not admit them; only where \
         the configuration has discover.",
    ),
];

/// Collects them.
pub(super) struct DiscoveryState {
    fleet: Arc<Fleet>,
    gauges: [IntGaugeVec; 3],
}

impl DiscoveryState {
    /// Of this fleet.
    ///
    /// # Errors
    /// Names that are not allowed.
    pub(super) fn new(fleet: Arc<Fleet>) -> Result<Self, prometheus::Error> {
        let [up, targets, refused] =
            DISCOVERY.map(|(name, help)| IntGaugeVec::new(Opts::new(name, help), &[LABEL]));
        Ok(Self { fleet, gauges: [up?, targets?, refused?] })
    }
}

impl Collector for DiscoveryState {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let [up, targets, refused] = &self.gauges;
        for gauge in &self.gauges {
            gauge.reset();
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for entry in self.fleet.discovery_status() {
            let name = [&*entry.name];
            up.with_label_values(&name).set(i64::from(entry.up));
            targets.with_label_values(&name).set(number(entry.targets));
            refused.with_label_values(&name).set(number(entry.refused));
        }
        self.gauges.iter().flat_map(Collector::collect).collect()
    }
}
