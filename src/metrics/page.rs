//! The text of `/metrics`, kept until something changes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Opts, Registry, TextEncoder};
use tokio::sync::OnceCell;

use super::collector::{Targets, of_one};
use super::discovery::DiscoveryState;
use super::reload::ConfigState;
use crate::clock::Mono;
use crate::fleet::Fleet;
use crate::fleet::persistence::Persistence;
use crate::fleet::reload::Reloader;
use crate::metrics::gzip::Part;
use crate::poll::TargetHandle;
use crate::script::Catalogue;

/// The content type of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Numbers of the process itself (memory, open files) are at most this old.
const MAX_KEPT: Duration = Duration::from_secs(1);

/// How many targets' text is made in place; that of more is made on a thread of its own.
const FEW_TARGETS: usize = 20;

/// A text that is longer is compressed on a thread of its own.
const SHORT_BYTES: usize = 64 << 10;

/// Metrics that can't be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    /// A name, a label or a value is not allowed.
    #[error("cannot make the metrics' text: {0}")]
    Text(#[from] prometheus::Error),
    /// The text can't be compressed.
    #[error("cannot compress the metrics' text: {0}")]
    Gzip(#[from] std::io::Error),
    /// The exporter is about to stop.
    #[error("the metrics' text was not finished: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// The text of `/metrics` at one moment: `live`, then `kept`, then `end`.
#[derive(Debug, Clone)]
pub(crate) struct PageText {
    /// What changes with the time.
    pub(crate) live: Bytes,
    /// The rest, shared by all that ask for it while it is kept.
    pub(crate) kept: Bytes,
    /// What a compressed text ends with.
    pub(crate) end: Bytes,
}

/// The text of `/metrics`.
pub(crate) struct Page {
    fleet: Arc<Fleet>,
    /// What only changes when something happens, of the targets.
    targets: Targets,
    /// The same of the process.
    settled: Registry,
    /// What changes with the time.
    live: Registry,
    /// The text of `targets` and `settled`, with what it was made from.
    kept: Mutex<Option<Kept>>,
    /// Held while the text is made: one scrape makes it, others that come meanwhile wait for that.
    making: tokio::sync::Mutex<()>,
}

struct Kept {
    /// The fleet's version when it was made.
    version: u64,
    /// When it was made.
    made: Mono,
    /// How long that took: a text that is not older than this is served though something has changed, so that many
    /// scrapes of many targets can't take more than half of the time.
    took: Duration,
    text: Arc<KeptText>,
}

/// A kept text, in both of its forms.
struct KeptText {
    plain: Bytes,
    /// Made once, when a client asks for it first.
    gzip: OnceCell<Part>,
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
    pub(crate) fn new(fleet: Arc<Fleet>, reloader: Arc<Reloader>) -> Result<Self, PageError> {
        let settled = Registry::new();
        settled.register(build_info()?)?;
        settled.register(Box::new(ConfigState::new(Arc::clone(&fleet), reloader)?))?;
        settled.register(Box::new(DiscoveryState::new(Arc::clone(&fleet))?))?;
        if let Some(persistence) = fleet.persistence() {
            settled.register(Box::new(StateFile::new(Arc::clone(persistence))?))?;
        }
        #[cfg(target_os = "linux")]
        settled.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let live = Registry::new();
        live.register(Box::new(Targets::new(Arc::clone(&fleet), true)?))?;
        let targets = Targets::new(Arc::clone(&fleet), false)?;
        Ok(Self {
            fleet,
            targets,
            settled,
            live,
            kept: Mutex::new(None),
            making: tokio::sync::Mutex::new(()),
        })
    }

    /// The text as it is now.
    ///
    /// # Errors
    /// Metrics that can't be written as text, or the end of the exporter.
    pub(crate) async fn text(self: &Arc<Self>) -> Result<PageText, PageError> {
        let kept = self.newest().await?;
        let live = self.live_text()?;
        Ok(PageText { live: live.into(), kept: kept.plain.clone(), end: Bytes::new() })
    }

    /// The text as it is now, as gzip.
    ///
    /// # Errors
    /// Metrics that can't be written as text, or the end of the exporter.
    pub(crate) async fn gzip(self: &Arc<Self>) -> Result<PageText, PageError> {
        let kept = self.newest().await?;
        if !kept.gzip.initialized() {
            // A task of its own, so that the work is not begun again when the client that asked first hangs up.
            tokio::spawn(compress(Arc::clone(&kept))).await??;
        }
        let last = kept.gzip.get_or_try_init(async || Part::last(&kept.plain)).await?;
        let live = self.live_text()?;
        let first = if live.len() <= SHORT_BYTES {
            Part::first(live.as_bytes())?
        } else {
            tokio::task::spawn_blocking(move || Part::first(live.as_bytes())).await??
        };
        let end = first.end(last);
        Ok(PageText { live: first.bytes, kept: last.bytes.clone(), end })
    }

    fn live_text(&self) -> Result<String, PageError> {
        Ok(TextEncoder::new().encode_to_string(&self.live.gather())?)
    }

    async fn newest(self: &Arc<Self>) -> Result<Arc<KeptText>, PageError> {
        match self.kept_text() {
            Some(text) => Ok(text),
            None => self.new_text().await,
        }
    }

    /// The kept text, if nothing has changed since.
    fn kept_text(&self) -> Option<Arc<KeptText>> {
        let now = self.fleet.clock().now().mono;
        let kept = self.kept.lock();
        let kept = kept.as_ref()?;
        let age = now.since(kept.made);
        let fresh = age < kept.took || kept.version == self.fleet.version() && age < MAX_KEPT;
        fresh.then(|| Arc::clone(&kept.text))
    }

    async fn new_text(self: &Arc<Self>) -> Result<Arc<KeptText>, PageError> {
        let _making = self.making.lock().await;
        if let Some(text) = self.kept_text() {
            return Ok(text);
        }
        if self.fleet.targets().len() <= FEW_TARGETS {
            return self.make();
        }
        // So long that the polls would have to wait for it.
        let page = Arc::clone(self);
        tokio::task::spawn_blocking(move || page.make()).await?
    }

    fn make(&self) -> Result<Arc<KeptText>, PageError> {
        let version = self.fleet.version();
        let began = self.fleet.clock().now().mono;
        let before = self.kept.lock();
        // With room for a little more than last time: growing, it would take twice as much for a moment.
        let length = before.as_ref().map_or(0, |kept| kept.text.plain.len());
        drop(before);
        let mut text = String::with_capacity(length + length / 16);
        let mut of_targets = self.targets.texts()?.into_iter().peekable();
        for family in self.settled.gather() {
            while let Some((_, earlier)) = of_targets.next_if(|(name, _)| *name < family.name()) {
                text.push_str(&earlier);
            }
            TextEncoder::new().encode_utf8(&[family], &mut text)?;
        }
        of_targets.for_each(|(_, rest)| text.push_str(&rest));
        // It may be held for long by a client that does not read.
        text.shrink_to_fit();
        let text = Arc::new(KeptText { plain: text.into(), gzip: OnceCell::new() });
        let made = self.fleet.clock().now().mono;
        let kept = Kept { version, made, took: made.since(began), text: Arc::clone(&text) };
        *self.kept.lock() = Some(kept);
        Ok(text)
    }
}

/// The text of one target alone, as it is now.
///
/// # Errors
/// Metrics that can't be written as text.
pub(crate) fn text_of(watched: &Arc<TargetHandle>, names: &Catalogue) -> Result<String, PageError> {
    Ok(TextEncoder::new().encode_to_string(&of_one(watched, names))?)
}

/// Makes the compressed form, on a thread of its own if that takes long.
async fn compress(kept: Arc<KeptText>) -> Result<(), PageError> {
    let text = kept.plain.clone();
    let made = kept.gzip.get_or_try_init(async || {
        if text.len() <= SHORT_BYTES {
            return Ok(Part::last(&text)?);
        }
        Ok::<_, PageError>(tokio::task::spawn_blocking(move || Part::last(&text)).await??)
    });
    made.await.map(|_| ())
}

/// Name and help of the metric about the exporter's build.
pub(super) const BUILD_INFO: (&str, &str) =
    ("redis_script_exporter_build_info", "1; version and source revision of the exporter.");

/// Names and helps of the metrics about the state file.
pub(super) const STATE_FILE: [(&str, &str); 2] = [
    (
        "redis_script_exporter_state_writes_total",
        "Times that the state file was written; only with --state.file.",
    ),
    (
        "redis_script_exporter_state_write_failures_total",
        "Times that the state file could not be written; only with --state.file.",
    ),
];

/// The metrics about the state file.
struct StateFile {
    persistence: Arc<Persistence>,
    counters: [IntCounter; 2],
}

impl StateFile {
    fn new(persistence: Arc<Persistence>) -> Result<Self, prometheus::Error> {
        let [writes, failures] = STATE_FILE.map(|(name, help)| IntCounter::new(name, help));
        Ok(Self { persistence, counters: [writes?, failures?] })
    }
}

impl Collector for StateFile {
    fn desc(&self) -> Vec<&Desc> {
        self.counters.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (counter, count) in self.counters.iter().zip(self.persistence.counts()) {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.counters.iter().flat_map(Collector::collect).collect()
    }
}

fn build_info() -> Result<Box<dyn Collector>, prometheus::Error> {
    let (name, help) = BUILD_INFO;
    let options = Opts::new(name, help)
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("revision", env!("BUILD_REVISION"));
    let gauge = IntGauge::with_opts(options)?;
    gauge.set(1);
    Ok(Box::new(gauge))
}
