//! The text of `/metrics`, kept until something changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{IntGauge, Opts, Registry, TextEncoder};

use super::collector::Targets;
use crate::fleet::Fleet;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Numbers of the process itself (memory, open files) are at most this old.
const LONGEST_KEPT: Duration = Duration::from_secs(1);

/// Metrics that can't be shown.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the metrics' text: {0}")]
pub struct PageError(#[from] prometheus::Error);

/// The text of `/metrics`.
pub struct Page {
    fleet: Arc<Fleet>,
    /// What only changes when something happens.
    settled: Registry,
    /// What changes with the time.
    live: Registry,
    /// The text of `settled`, with what it was made from.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    /// The fleet's version when it was made.
    version: u64,
    /// When it was made (monotonic).
    made: Duration,
    text: String,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Page {
    /// The metrics of these targets and of this process.
    ///
    /// # Errors
    /// Metrics whose names or labels are not allowed.
    pub fn new(fleet: Arc<Fleet>) -> Result<Self, PageError> {
        let settled = Registry::new();
        settled.register(Box::new(Targets::new(Arc::clone(&fleet), false)?))?;
        settled.register(build_info()?)?;
        #[cfg(target_os = "linux")]
        settled.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let live = Registry::new();
        live.register(Box::new(Targets::new(Arc::clone(&fleet), true)?))?;
        Ok(Self { fleet, settled, live, kept: Mutex::new(None) })
    }

    /// The text as it is now.
    ///
    /// # Errors
    /// Metrics that can't be written as text.
    pub fn text(&self) -> Result<String, PageError> {
        let mut text = self.settled_text()?;
        TextEncoder::new().encode_utf8(&self.live.gather(), &mut text)?;
        Ok(text)
    }

    fn settled_text(&self) -> Result<String, PageError> {
        let now = self.fleet.clock().now().mono;
        let version = self.fleet.version();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*kept
            && kept.version == version
            && now.saturating_sub(kept.made) < LONGEST_KEPT
        {
            return Ok(kept.text.clone());
        }
        let text = TextEncoder::new().encode_to_string(&self.settled.gather())?;
        *kept = Some(Kept { version, made: now, text: text.clone() });
        Ok(text)
    }
}

/// Name and help of the metric about the exporter's build.
pub(super) const BUILD_INFO: (&str, &str) =
    ("redis_script_exporter_build_info", "1; version and source revision of the exporter.");

fn build_info() -> Result<Box<dyn Collector>, prometheus::Error> {
    let (name, help) = BUILD_INFO;
    let options = Opts::new(name, help)
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("revision", env!("BUILD_REVISION"));
    let gauge = IntGauge::with_opts(options)?;
    gauge.set(1);
    Ok(Box::new(gauge))
}
