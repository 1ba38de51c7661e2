//! The metrics about the configuration and what it led to.

use std::sync::Arc;

use prometheus::IntGauge;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use crate::fleet::Fleet;
use crate::fleet::reload::{LastReload, Reloader};

/// Names and helps.
pub(super) const CONFIG: [(&str, &str); 3] = [
    (
        "redis_script_exporter_config_last_reload_successful",
        "1 if the configuration was understood when it was last read, at the start or at a reload; else 0, and the one \
         before is in use.",
    ),
    (
        "redis_script_exporter_config_last_reload_success_timestamp_seconds",
        "When the configuration was last read and understood, by the exporter's clock.",
    ),
    (
        "redis_script_exporter_probed_targets",
        "Targets that are watched because /probe was asked for them; their series are only there.",
    ),
];

/// Collects them.
pub(super) struct ConfigState {
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    gauges: [IntGauge; 3],
}

impl ConfigState {
    /// Of this fleet.
    ///
    /// # Errors
    /// Names that are not allowed.
    pub(super) fn new(fleet: Arc<Fleet>, reloader: Arc<Reloader>) -> Result<Self, prometheus::Error> {
        let [works, read, probed] = CONFIG.map(|(name, help)| IntGauge::new(name, help));
        Ok(Self { fleet, reloader, gauges: [works?, read?, probed?] })
    }
}

impl Collector for ConfigState {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let LastReload { succeeded, succeeded_at } = self.reloader.last();
        let [works_gauge, read_gauge, probed_gauge] = &self.gauges;
        let probed = self.fleet.targets().iter().filter(|watched| watched.is_probed()).count();
        probed_gauge.set(i64::try_from(probed).unwrap_or(i64::MAX));
        works_gauge.set(i64::from(succeeded));
        read_gauge.set(i64::try_from(succeeded_at).unwrap_or(i64::MAX));
        self.gauges.iter().flat_map(Collector::collect).collect()
    }
}
