//! The metrics about discovery.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::fleet::Fleet;

/// The label with the name of the entry.
pub(super) const LABEL: &str = "discovery";

/// Names and helps.
pub(super) const DISCOVERY: [(&str, &str); 2] = [
    (
        "redis_script_exporter_discovery_up",
        "1 if the servers to discover were told when they were last asked for; else 0, and those that are watched stay. \
         Only where the configuration has discover.",
    ),
    (
        "redis_script_exporter_discovered_targets",
        "Targets that are watched because they were discovered; only where the configuration has discover.",
    ),
];

/// Collects them.
pub(super) struct DiscoveryState {
    fleet: Arc<Fleet>,
    gauges: [IntGaugeVec; 2],
}

impl DiscoveryState {
    /// Of this fleet.
    ///
    /// # Errors
    /// Names that are not allowed.
    pub(super) fn new(fleet: Arc<Fleet>) -> Result<Self, prometheus::Error> {
        let [up, targets] = DISCOVERY.map(|(name, help)| IntGaugeVec::new(Opts::new(name, help), &[LABEL]));
        Ok(Self { fleet, gauges: [up?, targets?] })
    }
}

impl Collector for DiscoveryState {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let [up, targets] = &self.gauges;
        up.reset();
        targets.reset();
        for (name, works, count) in self.fleet.discovered() {
            up.with_label_values(&[&*name]).set(i64::from(works));
            targets.with_label_values(&[&*name]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.gauges.iter().flat_map(Collector::collect).collect()
    }
}
