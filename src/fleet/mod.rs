//! The set of targets. Each target has its own lock and is changed only by observations.
//!
//! [`reload`], [`discovery`] and [`probes`] request changes to the set, [`compose`] computes them, and [`update`] applies
//! them. [`supervisor`] runs a task per target.
//!
//! # Order of locks
//!
//! A thread that holds one of these locks may only take locks further down the list:
//!
//! 1. `Fleet::composing`: held from the first read of the configured and discovered targets until they are replaced. Its
//!    guard, [`update::Composing`], is an argument of every function that replaces them or the entries of discovery.
//! 2. `Probes::modules`
//! 3. `Probes::probed_at`
//! 4. the table of [`discovery::Progress`]
//! 5. the watch channels `Fleet::discoveries` and `Fleet::targets`. Changing probed targets requires only the lock of the
//!    channel, so a probe never waits for a reload or for discovery, which may read files while they hold `composing`.
//! 6. the locks of one [`TargetHandle`]. Only `Fleet::hand_over` locks two handles, the numbers of the new one first.
//! 7. [`Shared`], `Probes::logged`, the certificates, and the lines of the state file
//!
//! No lock is held across an await.

mod compose;
pub(crate) mod discovery;
mod heartbeats;
pub(crate) mod persistence;
pub(crate) mod probes;
pub(crate) mod reload;
pub(crate) mod supervisor;
pub(crate) mod update;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::compose::Aliases;
use self::discovery::Progress;
use self::heartbeats::HeartbeatLimit;
pub(crate) use self::persistence::Persistence;
use crate::client::{TlsCache, TlsError, TlsSetup};
use crate::clock::Clock;
use crate::config::{Discovery, Endpoint, Modules, Shard, TargetConfig, TargetOrigin};
use crate::notify::Notifier;
use crate::poll::{Shared, TargetHandle};
use crate::script::{Catalogue, Identity};
use crate::watch::{SavedTarget, Target};

/// List of the targets in display order: configured, discovered, probed.
pub(crate) type Targets = Arc<[Arc<TargetHandle>]>;

/// Entries of the configuration that discover servers.
pub(crate) type Discoveries = Arc<[Arc<Discovery>]>;

/// Interval between checks for omitted log lines.
const OMITTED_INTERVAL: Duration = Duration::from_secs(1);

/// All targets.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// Watched targets. The supervisor subscribes to run their tasks.
    targets: watch::Sender<Targets>,
    /// The same targets by name.
    by_name: RwLock<HashMap<Arc<str>, Arc<TargetHandle>>>,
    /// Entries with `discover`. The discovery task subscribes to run theirs.
    discoveries: watch::Sender<Discoveries>,
    /// Results of discovery.
    progress: Progress,
    /// Held while configured or discovered targets are changed.
    composing: Mutex<Aliases>,
    /// State that the targets share.
    shared: Arc<Shared>,
    /// Sender of alerts, if there is an Alertmanager.
    notifier: Option<Arc<Notifier>>,
    /// The state file, if there is one.
    persistence: Option<Arc<Persistence>>,
    certificates: TlsCache,
    /// Shard of the targets, if there are several.
    shard: Option<Shard>,
    /// Limit on the heartbeats of all targets.
    heartbeat_limit: HeartbeatLimit,
}

impl Fleet {
    /// Creates a fleet of configured targets, whose accounts continue from the state file.
    ///
    /// # Errors
    /// A certificate or key can't be used.
    pub(crate) fn new(
        targets: Vec<TargetConfig>,
        persistence: Option<Persistence>,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let persistence = persistence.map(Arc::new);
        let writes = persistence.as_ref().map(|persistence| Arc::clone(persistence.requests()));
        let fleet = Self {
            targets: watch::Sender::new(Arc::new([])),
            by_name: RwLock::default(),
            discoveries: watch::Sender::new(Arc::new([])),
            progress: Progress::default(),
            composing: Mutex::default(),
            shared: Arc::new(Shared::new(clock, writes)),
            notifier: None,
            persistence,
            certificates: TlsCache::default(),
            shard: None,
            heartbeat_limit: HeartbeatLimit::default(),
        };
        let targets = targets.into_iter().map(|config| fleet.prepare(config));
        let targets = targets.collect::<Result<Targets, _>>()?;
        fleet.index(&targets);
        fleet.targets.send_replace(targets);
        Ok(fleet)
    }

    /// Creates the handle of a target, whose account continues from the state file.
    ///
    /// # Errors
    /// A certificate or key can't be used.
    pub(crate) fn prepare(&self, config: TargetConfig) -> Result<Arc<TargetHandle>, TlsError> {
        let tls = self.tls_of(&config)?;
        let saved = self.persistence.as_ref().and_then(|persistence| persistence.saved(&config.name));
        let target = self.target(&config, saved);
        Ok(Arc::new(TargetHandle::new(config, tls, target, Arc::clone(&self.shared))))
    }

    /// Returns the TLS setup of a target; `None` if its address has no TLS.
    fn tls_of(&self, config: &TargetConfig) -> Result<Option<TlsSetup>, TlsError> {
        if !config.address.tls {
            return Ok(None);
        }
        self.certificates.setup(&config.tls, &config.address.endpoint).map(Some)
    }

    /// Reads the certificates of modules.
    ///
    /// # Errors
    /// A certificate or key can't be used.
    pub(crate) fn check_modules(&self, modules: &Modules) -> Result<(), TlsError> {
        check_modules(&self.certificates, modules)
    }

    /// Reads the certificates of an entry's servers.
    ///
    /// # Errors
    /// A certificate or key can't be used.
    pub(crate) fn check_discovery(&self, entry: &Discovery) -> Result<(), TlsError> {
        entry.tls().map_or(Ok(()), |tls| self.certificates.check(tls))
    }

    /// Creates the numbers of a target, which continue from saved ones if there are any.
    fn target(&self, config: &TargetConfig, saved: Option<SavedTarget>) -> Target {
        let buckets = Arc::clone(&config.buckets);
        let mut target = Target::new(config.slow, buckets, config.max_scripts, self.clock().now().unix);
        if self.shared.is_saved_first() {
            target.enable_durability();
        }
        if let Some(guard) = &config.guard {
            target.enable_guard(guard.policy.clone(), config.intervals.heartbeat);
        }
        if let Some(saved) = saved
            && !target.restore(saved)
        {
            warn!(target = &*config.name, "buckets have changed: the histograms of run times start at 0");
        }
        target
    }

    /// Returns the current targets.
    #[must_use]
    pub(crate) fn targets(&self) -> Targets {
        Arc::clone(&self.targets.borrow())
    }

    /// Subscribes to the list of targets.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Targets> {
        self.targets.subscribe()
    }

    /// Subscribes to the list of entries with `discover`.
    pub(crate) fn discoveries(&self) -> watch::Receiver<Discoveries> {
        self.discoveries.subscribe()
    }

    /// Returns the target of this name.
    #[must_use]
    pub(crate) fn find(&self, name: &str) -> Option<Arc<TargetHandle>> {
        self.by_name.read().get(name).cloned()
    }

    /// Rebuilds the index of [`Self::find`] from these targets.
    fn index(&self, targets: &Targets) {
        let by_name = targets.iter().map(|handle| (Arc::clone(&handle.config().name), Arc::clone(handle)));
        *self.by_name.write() = by_name.collect();
    }

    /// Returns the probed target that meets a condition. Probed targets are at the end of the list.
    fn find_of_probed(&self, is_wanted: impl Fn(&TargetHandle) -> bool) -> Option<Arc<TargetHandle>> {
        let targets = self.targets();
        let mut probed = targets.iter().rev().take_while(|handle| handle.is_probed());
        probed.find(|handle| is_wanted(handle)).cloned()
    }

    /// Returns the probed target at this address in any form.
    #[must_use]
    pub(crate) fn find_probed(&self, endpoint: &Endpoint) -> Option<Arc<TargetHandle>> {
        let identity = endpoint.identity();
        self.find_of_probed(|handle| handle.is_probed_at(&identity))
    }

    /// Returns the probed target without TLS whose last connection was to this socket.
    #[must_use]
    pub(crate) fn find_probed_by_socket(&self, socket: SocketAddr) -> Option<Arc<TargetHandle>> {
        self.find_of_probed(|handle| !handle.config().address.tls && handle.socket() == Some(socket))
    }

    /// Sets the URL of the status page (`--web.external-url`), which ends with `/`.
    pub(crate) fn set_external_url(&self, url: String) {
        self.shared.set_external_url(url);
    }

    /// Returns the URL of the status page, if it is known; it ends with `/`.
    pub(crate) fn external_url(&self) -> Option<&str> {
        self.shared.external_url()
    }

    /// Sets the shard of the targets. The configured targets already belong to it.
    pub(crate) fn set_shard(&mut self, shard: Option<Shard>) {
        self.shard = shard;
    }

    /// Returns the shard of the targets, if there are several.
    #[must_use]
    pub(crate) fn shard(&self) -> Option<Shard> {
        self.shard
    }

    /// Sets the maximum number of heartbeats per second of all targets (`--heartbeat.max-rate`), or the default limit.
    pub(crate) fn set_max_heartbeat_rate(&mut self, max_rate: Option<u32>) {
        self.heartbeat_limit = HeartbeatLimit::new(max_rate);
        self.limit_heartbeats(&self.targets());
    }

    /// Adapts the intervals between heartbeats to these targets.
    fn limit_heartbeats(&self, targets: &Targets) {
        self.shared.set_stretch(self.heartbeat_limit.stretch(targets));
    }

    /// Sets the sender of alerts.
    pub(crate) fn set_notifier(&mut self, notifier: Notifier) {
        self.notifier = Some(Arc::new(notifier));
    }

    /// Returns the sender of alerts.
    pub(crate) fn notifier(&self) -> Option<&Arc<Notifier>> {
        self.notifier.as_ref()
    }

    /// Returns the state that the targets share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Describes the failure of the last write of the state file, if it failed.
    pub(crate) fn state_file_problem(&self) -> Option<String> {
        self.persistence.as_ref()?.problem()
    }

    /// Returns the state file, if there is one.
    pub(crate) fn persistence(&self) -> Option<&Arc<Persistence>> {
        self.persistence.as_ref()
    }

    /// Returns the names and sources of `--script.dir`.
    #[must_use]
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.shared.catalogue()
    }

    /// Replaces the names of scripts, including those of scripts that have already been counted.
    pub(crate) fn set_catalogue(&self, catalogue: Catalogue) {
        self.shared.set_catalogue(catalogue);
    }

    /// Returns the source of a script or of a function's library, from its file or otherwise as received from a server. The
    /// caller decides whether it may be shown (`--web.show-source`).
    #[must_use]
    pub(crate) fn source(&self, script: &Identity) -> Option<Arc<[u8]>> {
        self.shared.source(script)
    }

    /// Returns the clock of all observations.
    #[must_use]
    pub(crate) fn clock(&self) -> Clock {
        self.shared.clock()
    }

    /// Returns a number that differs after any change.
    #[must_use]
    pub(crate) fn version(&self) -> u64 {
        self.shared.version()
    }

    /// Records a change of something that `/metrics` shows.
    fn changed(&self) {
        self.shared.changed();
    }

    /// Logs the number of omitted log lines of each target until `stop` is cancelled.
    pub(crate) async fn keep_log(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(OMITTED_INTERVAL) => {}
            }
            self.log_omitted(false);
        }
    }

    /// Logs the number of omitted log lines of each target if it is due, or immediately if `at_end` is true.
    pub(crate) fn log_omitted(&self, at_end: bool) {
        self.targets().iter().for_each(|handle| handle.log_omitted(at_end));
        self.shared.log_omitted_slow_calls(at_end);
    }

    /// True if every configured target has been tried, and every target from the first round of each entry with `discover`.
    /// Servers that are discovered later have no effect.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        let tried = |handle: &Arc<TargetHandle>| handle.numbers().is_settled();
        // Read under the lock of the table, because a round changes the targets before the table.
        let settled = self.progress.settle(|entry| {
            let targets = self.targets();
            let mut of_entry = targets.iter().filter(|handle| handle.is_discovered_by(entry));
            of_entry.all(tried)
        });
        let targets = self.targets();
        let mut configured =
            targets.iter().filter(|handle| handle.config().origin == TargetOrigin::Configured);
        settled && configured.all(tried)
    }
}

fn check_modules(certificates: &TlsCache, modules: &Modules) -> Result<(), TlsError> {
    modules.values().filter_map(|module| module.tls.as_ref()).try_for_each(|tls| certificates.check(tls))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::cli::Cli;
    use crate::config::Config;
    use crate::parse::{Entry, SlowlogReply};
    use crate::watch::Observation;

    /// Collects log lines.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_lines_about_slow_calls_are_limited_but_blockages_are_not() {
        const TARGETS: usize = 200;
        const CALLS: u64 = 12;
        let words = (0..TARGETS).map(|number| format!("--redis.addr=host-{number}:1"));
        let words = std::iter::once("redis-script-exporter".to_owned()).chain(words);
        let config = Config::from_cli(&Cli::parse_words(words, |_| None).unwrap()).unwrap();
        let fleet = Fleet::new(config.targets, None, Clock::start()).unwrap();
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for id in 0..=CALLS {
                for handle in fleet.targets().iter() {
                    let call = Entry::with_arguments(&["EVAL", "return 1", "0"]);
                    let entry = Entry { id, duration: Duration::from_secs(3), ..call };
                    let reply = SlowlogReply { received: 1, entries: vec![entry], ..SlowlogReply::default() };
                    handle.observe(Observation::Slowlog(reply));
                }
            }
            for handle in fleet.targets().iter() {
                handle.observe(Observation::Silent { since: handle.mono() });
            }
            fleet.log_omitted(true);
        });
        let log = String::from_utf8(std::mem::take(&mut *sink.0.lock())).unwrap();
        let count = |message: &str| log.lines().filter(|line| line.contains(message)).count();
        let written = count("slow script");
        // On a busy machine, the test may take several seconds.
        assert!((900..1700).contains(&written), "{written} lines");
        assert_eq!(count("blocked: the server does not answer"), TARGETS);
        assert_eq!(count("too many for one exporter"), 1);
        let omitted = log.split("slow_calls=").skip(1).map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().unwrap()
        });
        let calls = TARGETS * usize::try_from(CALLS).unwrap();
        assert_eq!(written + omitted.sum::<usize>(), calls, "each is written or counted");
    }
}
