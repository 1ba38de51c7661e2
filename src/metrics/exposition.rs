//! Response of `/metrics` in each format: one part is cached until something changes, the other is rendered at every scrape.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::background::{self, BackgroundError};
use super::format::Format;
use super::gather::Gatherer;
use super::gzip::{ChunkedText, Part};
use crate::clock::Mono;
use crate::fleet::Fleet;
use crate::fleet::reload::Reloader;
use crate::poll::TargetHandle;

/// Maximum age of the cached text, which includes the metrics of the process itself (memory, open files).
const MAX_AGE: Duration = Duration::from_secs(1);

/// Maximum number of targets that are rendered in place. If there are more, the text is rendered [in the background](background).
const MAX_INLINE_TARGETS: usize = 20;

/// Maximum number of attempts to render the text of a few targets without a change in the meantime.
const MAX_TRIES: u32 = 50;

/// Maximum length of a text that is compressed in place, in bytes. A longer text is compressed on a blocking thread.
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
    /// The text of many targets could not be rendered.
    #[error("the metrics were not rendered: {0}")]
    Background(#[from] BackgroundError),
}

/// Body of a response.
#[derive(Debug, Clone)]
pub(crate) enum ExpositionText {
    /// `live`, then `cached`, then `trailer`.
    Whole {
        /// Families that change with time alone.
        live: Bytes,
        /// All other families; shared by all responses until they are rendered again.
        cached: Bytes,
        /// End of a compressed text; empty otherwise.
        trailer: Bytes,
    },
    /// Text of many targets: `live`, then `cached`.
    Chunks {
        /// Families that change with time alone.
        live: Arc<ChunkedText>,
        /// All other families; shared by all responses until they are rendered again.
        cached: Arc<ChunkedText>,
    },
}

/// Text of `/metrics`.
#[derive(Debug)]
pub(crate) struct Exposition {
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    gatherer: Gatherer,
    /// One entry for each format requested so far.
    cache: Mutex<Cache>,
    /// Held while the text is rendered, so that concurrent scrapes wait for one rendering.
    rendering: Arc<tokio::sync::Mutex<()>>,
}

/// Cached texts, in the order of [`Format::ALL`].
type Cache = [Option<CacheEntry>; Format::ALL.len()];

/// Cached text and the state from which it was rendered.
#[derive(Debug)]
struct CacheEntry {
    /// [`Fleet::version`] at the start of rendering.
    version: u64,
    /// Time at which rendering ended.
    rendered_at: Mono,
    /// Duration of rendering. A text of many targets that is younger than this and than [`MAX_AGE`] is served even if something has
    /// changed, so that concurrent scrapes share one rendering.
    took: Duration,
    text: CachedText,
}

/// Cached text.
#[derive(Debug, Clone)]
enum CachedText {
    Whole(Arc<WholeText>),
    /// Text of many targets.
    Chunks(Arc<ChunkedText>),
}

/// Cached text of a few targets, plain and compressed.
#[derive(Debug)]
struct WholeText {
    plain: Bytes,
    /// Created when first requested.
    gzip: OnceCell<Part>,
}

impl Exposition {
    /// Creates the exposition of these targets and of this process.
    pub(crate) fn new(fleet: Arc<Fleet>, reloader: Arc<Reloader>) -> Self {
        Self {
            gatherer: Gatherer::new(Arc::clone(&fleet)),
            fleet,
            reloader,
            cache: Mutex::default(),
            rendering: Arc::default(),
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
        if self.fleet.targets().len() > MAX_INLINE_TARGETS {
            let exposition = Arc::clone(self);
            let rendering = Arc::clone(&self.rendering).lock_owned().await;
            let job = move || {
                // Held until the end of the job, even if the requesting client disconnects.
                let _rendering = rendering;
                exposition.chunks(format)
            };
            return background::run(job).await?;
        }
        let mut tries = 0;
        loop {
            let (version, text) = self.whole(format).await;
            let text = self.with_live(format, gzip, &text).await?;
            tries += 1;
            // Both parts are of the same version, unless the targets change continuously: rendering takes less than a
            // millisecond.
            if version == self.fleet.version() || tries == MAX_TRIES {
                return Ok(text);
            }
        }
    }

    /// Returns the text of a few targets, and renders the part that changes with time alone.
    async fn with_live(
        &self,
        format: Format,
        gzip: bool,
        text: &Arc<WholeText>,
    ) -> Result<ExpositionText, ExpositionError> {
        if !gzip {
            let live = self.gatherer.live(format).into();
            return Ok(ExpositionText::Whole { live, cached: text.plain.clone(), trailer: Bytes::new() });
        }
        if !text.gzip.initialized() {
            // Spawned as a task, so that compression finishes even if the requesting client disconnects.
            tokio::spawn(compress(Arc::clone(text))).await??;
        }
        let last = text.gzip.get_or_try_init(async || Part::last(&text.plain)).await?;
        let first = Part::first(&self.gatherer.live(format))?;
        let trailer = first.trailer(last);
        Ok(ExpositionText::Whole { live: first.bytes, cached: last.bytes.clone(), trailer })
    }

    /// Returns the text of one target in a format, for `/probe`.
    pub(crate) fn probe(&self, format: Format, handle: &Arc<TargetHandle>) -> Vec<u8> {
        self.gatherer.probe(format, handle, self.reloader.last())
    }

    /// Returns the text of many targets. The cacheable part is rendered only if there is no valid cached text.
    fn chunks(&self, format: Format) -> Result<ExpositionText, ExpositionError> {
        let cached = if let Some((_, CachedText::Chunks(cached))) = self.cached(format) {
            cached
        } else {
            let rendering = self.begin();
            let cached = Arc::new(self.gatherer.cached_chunks(format, self.reloader.last())?);
            self.keep(format, rendering, CachedText::Chunks(Arc::clone(&cached)));
            cached
        };
        Ok(ExpositionText::Chunks { live: Arc::new(self.gatherer.live_chunks(format)?), cached })
    }

    /// Returns the cacheable part of the text of a few targets, and its [`Fleet::version`].
    async fn whole(&self, format: Format) -> (u64, Arc<WholeText>) {
        if let Some((version, CachedText::Whole(text))) = self.cached(format) {
            return (version, text);
        }
        let _rendering = self.rendering.lock().await;
        if let Some((version, CachedText::Whole(text))) = self.cached(format) {
            return (version, text);
        }
        let rendering = self.begin();
        let length = self.expected_length(format);
        let mut plain = self.gatherer.cached(format, self.reloader.last(), length);
        // A slow client may keep the buffer alive for a long time.
        plain.shrink_to_fit();
        let text = Arc::new(WholeText { plain: plain.into(), gzip: OnceCell::new() });
        self.keep(format, rendering, CachedText::Whole(Arc::clone(&text)));
        (rendering.0, text)
    }

    /// Returns the version and the time at the start of rendering.
    fn begin(&self) -> (u64, Mono) {
        (self.fleet.version(), self.fleet.clock().now().mono)
    }

    /// Caches a text that has just been rendered.
    fn keep(&self, format: Format, (version, began): (u64, Mono), text: CachedText) {
        let rendered_at = self.fleet.clock().now().mono;
        let took = rendered_at.since(began);
        if let Some(cached) = self.cache.lock().get_mut(format.index()) {
            *cached = Some(CacheEntry { version, rendered_at, took, text });
        }
    }

    /// Returns the cached text with its version, if it is valid.
    fn cached(&self, format: Format) -> Option<(u64, CachedText)> {
        let now = self.fleet.clock().now().mono;
        let cache = self.cache.lock();
        let entry = cache.get(format.index())?.as_ref()?;
        let age = now.since(entry.rendered_at);
        let is_shared = matches!(entry.text, CachedText::Chunks(_)) && age < entry.took;
        let is_valid = age < MAX_AGE && (is_shared || entry.version == self.fleet.version());
        is_valid.then(|| (entry.version, entry.text.clone()))
    }

    /// Returns slightly more than the length of the previous text, because a growing buffer temporarily takes twice its memory.
    fn expected_length(&self, format: Format) -> usize {
        let cache = self.cache.lock();
        let entry = cache.get(format.index()).and_then(Option::as_ref);
        let length = entry.map_or(0, |entry| match &entry.text {
            CachedText::Whole(text) => text.plain.len(),
            CachedText::Chunks(_) => 0,
        });
        length + length / 16
    }
}

/// Compresses a text, on a blocking thread if it is long.
async fn compress(text: Arc<WholeText>) -> Result<(), ExpositionError> {
    let plain = text.plain.clone();
    let compressed = text.gzip.get_or_try_init(async || {
        if plain.len() <= MAX_INLINE_GZIP {
            return Ok(Part::last(&plain)?);
        }
        Ok::<_, ExpositionError>(tokio::task::spawn_blocking(move || Part::last(&plain)).await??)
    });
    compressed.await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::cli::Cli;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::fleet::probes::Probes;
    use crate::watch::Observation;

    /// Creates an exposition of this number of targets.
    fn exposition(targets: usize) -> (Arc<Fleet>, Arc<Exposition>) {
        let words = (0..targets).map(|number| format!("--redis.addr=host-{number}:1"));
        let words = std::iter::once("redis-script-exporter".to_owned()).chain(words);
        let cli = Cli::parse_words(words, |_| None).unwrap();
        let config = Config::from_cli(&cli).unwrap();
        let fleet = Arc::new(Fleet::new(config.targets, None, Clock::start()).unwrap());
        let probes = Probes::new(Arc::clone(&fleet), config.modules, config.probes).unwrap();
        let reloader = Reloader::new(Arc::clone(&fleet), Arc::new(probes), cli);
        let exposition = Exposition::new(Arc::clone(&fleet), Arc::new(reloader));
        (fleet, Arc::new(exposition))
    }

    /// Returns the lines of a body, except for the process metrics, which change with time.
    fn lines(text: &ExpositionText, gzip: bool) -> BTreeSet<String> {
        let body = match text {
            ExpositionText::Whole { live, cached, trailer } => [&live[..], cached, trailer].concat(),
            ExpositionText::Chunks { live, cached } => {
                let parts = [Arc::clone(live), Arc::clone(cached)];
                let around = |bytes: Bytes| if gzip { bytes } else { Bytes::new() };
                let chunks =
                    parts.iter().flat_map(|part| (0..part.count()).map(|at| part.chunk(at, gzip).unwrap()));
                let header = std::iter::once(around(ChunkedText::header()));
                let trailer = std::iter::once(around(ChunkedText::trailer(&parts)));
                header.chain(chunks).chain(trailer).collect::<Vec<_>>().concat()
            }
        };
        let mut plain = String::new();
        if gzip {
            GzDecoder::new(&body[..]).read_to_string(&mut plain).unwrap();
        } else {
            plain = String::from_utf8(body).unwrap();
        }
        plain.lines().filter(|line| !line.starts_with("process_")).map(str::to_owned).collect()
    }

    /// Covers few and many targets, each text format, and both compressed and plain text.
    #[tokio::test]
    async fn a_change_in_one_target_changes_only_its_line_in_the_next_text() {
        for targets in [3, MAX_INLINE_TARGETS + 10] {
            let (fleet, exposition) = exposition(targets);
            let handle = Arc::clone(&fleet.targets()[1]);
            handle.observe(Observation::SlowlogLength(0));
            let mut length = 0_u64;
            for (format, decimals) in [(Format::Text, ""), (Format::OpenMetrics, ".0")] {
                for gzip in [false, true] {
                    let line = |length: u64| {
                        let name = handle.name();
                        format!("redis_script_slowlog_length{{target=\"{name}\"}} {length}{decimals}")
                    };
                    // A cached text is served again for as long as it took to render.
                    let mut before = BTreeSet::new();
                    while !before.contains(&line(length)) {
                        before = lines(&exposition.text(format, gzip).await.unwrap(), gzip);
                    }
                    handle.observe(Observation::SlowlogLength(length + 1));
                    let mut after = before.clone();
                    while after == before {
                        after = lines(&exposition.text(format, gzip).await.unwrap(), gzip);
                    }
                    let gone: Vec<_> = before.difference(&after).collect();
                    let new: Vec<_> = after.difference(&before).collect();
                    assert_eq!((gone, new), (vec![&line(length)], vec![&line(length + 1)]));
                    length += 1;
                }
            }
        }
    }

    /// The target alternates between blocked and answering, at intervals longer than a busy machine takes to render the text.
    #[tokio::test]
    async fn the_state_and_duration_of_a_blockage_are_from_the_same_moment() {
        let (fleet, exposition) = exposition(1);
        let handle = Arc::clone(&fleet.targets()[0]);
        let (over, since) = (Arc::new(()), fleet.clock().now().mono);
        let watched = Arc::downgrade(&over);
        let changes = std::thread::spawn(move || {
            while watched.strong_count() > 0 {
                handle.observe(Observation::Silent { since });
                std::thread::park_timeout(Duration::from_millis(20));
                handle.observe(Observation::Answered { since });
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        let mut seen = BTreeSet::new();
        for _ in 0..2000 {
            let all = lines(&exposition.text(Format::Text, false).await.unwrap(), false);
            let value = |name: &str| {
                let line = all.iter().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim_start().parse::<f64>().unwrap() > 0.0
            };
            let blocked = value("redis_script_target_state{target=\"host-0:1\",state=\"blocked\"}");
            assert_eq!(blocked, value("redis_script_blocked_seconds{target=\"host-0:1\"}"), "{all:#?}");
            seen.insert(blocked);
        }
        assert_eq!(seen.len(), 2, "both states were seen");
        drop(over);
        changes.join().unwrap();
    }
}
