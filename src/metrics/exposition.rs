//! The response of `/metrics` in each format: a part that is cached until something changes, and a part that is computed at every scrape.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::format::Format;
use super::gather::Gatherer;
use super::gzip::{ChunkedText, Part};
use crate::clock::Mono;
use crate::fleet::Fleet;
use crate::fleet::reload::Reloader;
use crate::poll::TargetHandle;

/// Maximum age of the cached text, because of the numbers of the process itself (memory, open files).
const MAX_AGE: Duration = Duration::from_secs(1);

/// Maximum number of targets whose text is rendered in place. That of more is rendered on a blocking thread.
const MAX_INLINE_TARGETS: usize = 20;

/// Maximum length in bytes of a text that is compressed in place. A longer one is compressed on a blocking thread.
const MAX_INLINE_GZIP: usize = 64 << 10;

/// Failure to provide the text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExpositionError {
    /// The text cannot be compressed.
    #[error("cannot compress the metrics: {0}")]
    Gzip(#[from] std::io::Error),
    /// The exporter is shutting down.
    #[error("the metrics were not rendered: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Body of a response.
#[derive(Debug, Clone)]
pub(crate) enum ExpositionText {
    /// `live`, then `cached`, then `trailer`.
    Whole {
        /// Families that change with time alone.
        live: Bytes,
        /// All other families; shared by all responses until it is rendered again.
        cached: Bytes,
        /// End of a compressed text; else empty.
        trailer: Bytes,
    },
    /// The same of many targets.
    Chunks {
        /// Families that change with time alone.
        live: Arc<ChunkedText>,
        /// All other families; shared by all responses until it is rendered again.
        cached: Arc<ChunkedText>,
    },
}

/// The text of `/metrics`.
#[derive(Debug)]
pub(crate) struct Exposition {
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    gatherer: Gatherer,
    /// One for each format that was requested.
    cache: Mutex<Cache>,
    /// Held while the text is rendered, so that concurrent scrapes wait for one rendering.
    rendering: tokio::sync::Mutex<()>,
}

/// Cached texts by [`Format::ALL`].
type Cache = [Option<CacheEntry>; Format::ALL.len()];

/// A cached text, with the state that it was rendered from.
#[derive(Debug)]
struct CacheEntry {
    /// [`Fleet::version`] when the rendering began.
    version: u64,
    /// End of the rendering.
    rendered_at: Mono,
    /// Duration of the rendering. A text that is not older than this is served although something has changed, so that
    /// frequent scrapes of many targets take at most half of the time.
    took: Duration,
    text: Arc<CachedText>,
}

/// A cached text, plain and compressed.
#[derive(Debug)]
enum CachedText {
    Whole {
        plain: Bytes,
        /// Compressed at the first request for it.
        gzip: OnceCell<Part>,
    },
    /// That of many targets.
    Chunks(Arc<ChunkedText>),
}

impl Exposition {
    /// Creates the text of these targets and of this process.
    pub(crate) fn new(fleet: Arc<Fleet>, reloader: Arc<Reloader>) -> Self {
        Self {
            gatherer: Gatherer::new(Arc::clone(&fleet)),
            fleet,
            reloader,
            cache: Mutex::default(),
            rendering: tokio::sync::Mutex::new(()),
        }
    }

    /// Returns the text in a format, compressed or not.
    ///
    /// # Errors
    /// The text cannot be compressed, or the exporter is shutting down.
    pub(crate) async fn text(
        self: &Arc<Self>,
        format: Format,
        gzip: bool,
    ) -> Result<ExpositionText, ExpositionError> {
        let text = self.cached_or_rendered(format).await?;
        match &*text {
            CachedText::Whole { plain, .. } if !gzip => {
                let live = self.gatherer.live(format).into();
                Ok(ExpositionText::Whole { live, cached: plain.clone(), trailer: Bytes::new() })
            }
            CachedText::Whole { plain, gzip } => {
                if !gzip.initialized() {
                    // A task, so that the work is finished even if the client that caused it disconnects.
                    tokio::spawn(compress(Arc::clone(&text))).await??;
                }
                let last = gzip.get_or_try_init(async || Part::last(plain)).await?;
                let first = Part::first(&self.gatherer.live(format))?;
                let trailer = first.trailer(last);
                Ok(ExpositionText::Whole { live: first.bytes, cached: last.bytes.clone(), trailer })
            }
            CachedText::Chunks(cached) => {
                let exposition = Arc::clone(self);
                let live = tokio::task::spawn_blocking(move || exposition.gatherer.live_chunks(format));
                Ok(ExpositionText::Chunks { live: Arc::new(live.await??), cached: Arc::clone(cached) })
            }
        }
    }

    /// Returns the text of one target in a format, for `/probe`.
    pub(crate) fn probe(&self, format: Format, handle: &Arc<TargetHandle>) -> Vec<u8> {
        self.gatherer.probe(format, handle, self.reloader.last())
    }

    async fn cached_or_rendered(
        self: &Arc<Self>,
        format: Format,
    ) -> Result<Arc<CachedText>, ExpositionError> {
        if let Some(text) = self.cached(format) {
            return Ok(text);
        }
        let _rendering = self.rendering.lock().await;
        if let Some(text) = self.cached(format) {
            return Ok(text);
        }
        if self.fleet.targets().len() <= MAX_INLINE_TARGETS {
            return self.render(format);
        }
        // Polls would have to wait for it on this thread.
        let exposition = Arc::clone(self);
        tokio::task::spawn_blocking(move || exposition.render(format)).await?
    }

    /// Returns the cached text, if it is valid.
    fn cached(&self, format: Format) -> Option<Arc<CachedText>> {
        let now = self.fleet.clock().now().mono;
        let cache = self.cache.lock();
        let entry = cache.get(format.index())?.as_ref()?;
        let age = now.since(entry.rendered_at);
        let is_valid = age < entry.took || entry.version == self.fleet.version() && age < MAX_AGE;
        is_valid.then(|| Arc::clone(&entry.text))
    }

    fn render(&self, format: Format) -> Result<Arc<CachedText>, ExpositionError> {
        let version = self.fleet.version();
        let began = self.fleet.clock().now().mono;
        let reload = self.reloader.last();
        let text = if self.fleet.targets().len() <= MAX_INLINE_TARGETS {
            let mut text = self.gatherer.cached(format, reload, self.expected_length(format));
            // A client that does not read may hold it for long.
            text.shrink_to_fit();
            CachedText::Whole { plain: text.into(), gzip: OnceCell::new() }
        } else {
            CachedText::Chunks(Arc::new(self.gatherer.cached_chunks(format, reload)?))
        };
        let text = Arc::new(text);
        let rendered_at = self.fleet.clock().now().mono;
        let took = rendered_at.since(began);
        let entry = CacheEntry { version, rendered_at, took, text: Arc::clone(&text) };
        if let Some(cached) = self.cache.lock().get_mut(format.index()) {
            *cached = Some(entry);
        }
        Ok(text)
    }

    /// Returns a little more than the length of the previous text. A string that grows takes twice its memory for a moment.
    fn expected_length(&self, format: Format) -> usize {
        let cache = self.cache.lock();
        let entry = cache.get(format.index()).and_then(Option::as_ref);
        let length = entry.map_or(0, |entry| match &*entry.text {
            CachedText::Whole { plain, .. } => plain.len(),
            CachedText::Chunks(_) => 0,
        });
        length + length / 16
    }
}

/// Compresses the text, on a blocking thread if it is long.
async fn compress(cached: Arc<CachedText>) -> Result<(), ExpositionError> {
    let CachedText::Whole { plain, gzip } = &*cached else { return Ok(()) };
    let text = plain.clone();
    let compressed = gzip.get_or_try_init(async || {
        if text.len() <= MAX_INLINE_GZIP {
            return Ok(Part::last(&text)?);
        }
        Ok::<_, ExpositionError>(tokio::task::spawn_blocking(move || Part::last(&text)).await??)
    });
    compressed.await.map(|_| ())
}
