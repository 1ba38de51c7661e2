//! Handle of a target: its configuration, its last connection, its state behind a lock, and its log limits.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::Notify;

use crate::client::{DialError, ResolvedEndpoint, TlsSetup, Transport};
use crate::clock::{Clock, Mono, Timestamps};
use crate::config::{Endpoint, TargetConfig, TargetOrigin};
use crate::convert::micros;
use crate::logging::event_log::{self, Limiter, Priority};
use crate::script::{Catalogue, Identity, NamedScript, Sha1Digits, Sources};
use crate::shell::redis_cli;
use crate::watch::{Event, Next, Observation, PeerIdentity, Snapshot, Target};

/// Minimum delay of a late poll.
const LATE_AFTER: Duration = Duration::from_millis(20);

/// Time after a late poll during which polls are considered late.
const LATE_FOR: Duration = Duration::from_millis(5);

/// Requests to write the state file.
#[derive(Debug, Default)]
pub(crate) struct WriteRequests {
    /// Notified when there are changes to save.
    pub(crate) changed: Notify,
    /// Notified when a kill waits for the write, which must not wait for the pause after the previous one.
    pub(crate) urgent: Notify,
}

/// State shared by all targets.
#[derive(Debug)]
pub(crate) struct Shared {
    clock: Clock,
    /// Number of changes to the state of any target and to the list of targets.
    changes: AtomicU64,
    /// Requests to write the state file; `None` without a state file.
    writes: Option<Arc<WriteRequests>>,
    /// Notified when a blockage of any target has begun, changed or ended.
    blockages: Notify,
    /// Script names; replaced on reload.
    catalogue: RwLock<Arc<Catalogue>>,
    /// Script sources received from servers.
    sources: Mutex<Sources>,
    /// URL of the status page, if known; ends with `/`.
    external_url: OnceLock<String>,
    /// Shared limit on log lines about slow calls of all targets.
    slow_calls_log: Mutex<Limiter>,
    /// Multiplier of the configured heartbeat intervals, as the bits of an `f64`.
    stretch: AtomicU64,
    /// Time at which a poll last began late for lack of CPU time, in microseconds since [`Mono::EPOCH`].
    late_at: AtomicU64,
}

impl Shared {
    /// Creates the state with an empty catalogue. `writes` is notified when there are changes to save.
    pub(crate) fn new(clock: Clock, writes: Option<Arc<WriteRequests>>) -> Self {
        Self {
            clock,
            changes: AtomicU64::new(0),
            writes,
            blockages: Notify::new(),
            catalogue: RwLock::default(),
            sources: Mutex::default(),
            external_url: OnceLock::new(),
            slow_calls_log: Mutex::new(Limiter::of_slow_calls()),
            stretch: AtomicU64::new(1_f64.to_bits()),
            late_at: AtomicU64::new(0),
        }
    }

    /// Records that a poll of a target begins at `now`, with a delay of `late`.
    fn poll_begins(&self, late: Duration, now: Mono) {
        if late >= LATE_AFTER {
            self.late_at.store(micros(now.since(Mono::EPOCH)), Ordering::Relaxed);
        }
    }

    /// True if polls currently begin late because this process lacks CPU time.
    #[must_use]
    pub(crate) fn polls_are_late(&self, now: Mono) -> bool {
        let late_at = Mono::EPOCH + Duration::from_micros(self.late_at.load(Ordering::Relaxed));
        now.since(late_at) < LATE_FOR
    }

    /// Returns the multiplier of the configured heartbeat intervals; at least 1.
    #[must_use]
    pub(crate) fn stretch(&self) -> f64 {
        f64::from_bits(self.stretch.load(Ordering::Relaxed))
    }

    /// Sets the multiplier of the configured heartbeat intervals; at least 1.
    pub(crate) fn set_stretch(&self, stretch: f64) {
        self.stretch.store(stretch.to_bits(), Ordering::Relaxed);
    }

    /// Logs the number of log lines about slow calls omitted because of the shared limit, if this is due or `at_end` is true.
    pub(crate) fn log_omitted_slow_calls(&self, at_end: bool) {
        let mut log = self.slow_calls_log.lock();
        let omitted = if at_end { log.rest() } else { log.due(self.clock.now().mono) };
        drop(log);
        if let Some(omitted) = omitted {
            event_log::write_omitted_slow_calls(omitted);
        }
    }

    /// Returns the clock used for all observations.
    #[must_use]
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Sets the URL of the status page (`--web.external-url`), which ends with `/`.
    pub(crate) fn set_external_url(&self, url: String) {
        // Set only once, at startup.
        let _ = self.external_url.set(url);
    }

    /// Returns the URL of the status page, if known; it ends with `/`.
    #[must_use]
    pub(crate) fn external_url(&self) -> Option<&str> {
        self.external_url.get().map(String::as_str)
    }

    /// Returns a version number that differs after any change.
    #[must_use]
    pub(crate) fn version(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Records a change.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Requests a write of the state file, if there is one.
    pub(crate) fn wake_writer(&self) {
        if let Some(writes) = &self.writes {
            writes.changed.notify_one();
        }
    }

    /// Waits until a blockage of any target has changed since the last call. [`TargetHandle::take_blockage_changed`] identifies the
    /// target.
    pub(crate) async fn blockage_changed(&self) {
        self.blockages.notified().await;
    }

    /// True if metrics are exposed only after they have been saved.
    #[must_use]
    pub(crate) fn is_saved_first(&self) -> bool {
        self.writes.is_some()
    }

    /// Returns the script names and sources from `--script.dir`.
    #[must_use]
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read())
    }

    /// Replaces the script names, including those of scripts counted before.
    pub(crate) fn set_catalogue(&self, catalogue: Catalogue) {
        *self.catalogue.write() = Arc::new(catalogue);
        self.changed();
    }

    /// Returns the source of a script or of a function's library: from its file if there is one, otherwise as received from a
    /// server. The caller must check whether it may be shown (`--web.show-source`).
    #[must_use]
    pub(crate) fn source(&self, script: &Identity) -> Option<Arc<[u8]>> {
        let catalogue = self.catalogue();
        if let Some(source) = catalogue.source(script) {
            return Some(Arc::clone(source));
        }
        self.lock_sources().get(script.sha1?).cloned()
    }

    fn lock_sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock()
    }
}

/// One target.
#[derive(Debug)]
pub(crate) struct TargetHandle {
    config: TargetConfig,
    /// Normalized address, equal for all forms of the same address.
    identity: Endpoint,
    shared: Arc<Shared>,
    /// Result of the last dial.
    dialled: Mutex<Dialled>,
    /// Replaced when the certificates are reloaded.
    tls: Mutex<Option<TlsSetup>>,
    /// Scripts whose source was requested from this server.
    requested_sources: Mutex<BTreeSet<Sha1Digits>>,
    /// True if a blockage has begun, changed or ended since the last [`TargetHandle::take_blockage_changed`].
    blockage_changed: AtomicBool,
    /// Limit on log lines; never locked across an await.
    log: Mutex<Limiter>,
    /// Notified on each observation and each write of the state file if the target has a guard.
    guard_wake: Notify,
    /// Target state; locked for one step or one read, never across an await.
    target: Mutex<Target>,
}

/// Result of dialling a target.
#[derive(Debug, Default)]
struct Dialled {
    /// Address of the last connection, and whether it is local.
    reached: Option<(SocketAddr, bool)>,
    /// Remote address of the last connection.
    endpoint: Option<ResolvedEndpoint>,
    /// True if `allow` does not permit the address of the last attempt.
    refused: bool,
}

impl TargetHandle {
    /// Creates the handle of a target that is not polled yet. `tls` is `None` if its address does not use TLS.
    pub(crate) fn new(
        config: TargetConfig,
        tls: Option<TlsSetup>,
        target: Target,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            identity: config.address.endpoint.identity(),
            config,
            shared,
            dialled: Mutex::default(),
            tls: Mutex::new(tls),
            requested_sources: Mutex::default(),
            blockage_changed: AtomicBool::new(false),
            log: Mutex::default(),
            guard_wake: Notify::new(),
            target: Mutex::new(target),
        }
    }

    /// Returns its configuration.
    #[must_use]
    pub(crate) fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// Returns the value of the label `target`.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// True if the target was created by a probe; its series are then exposed only by `/probe`.
    #[must_use]
    pub(crate) fn is_probed(&self) -> bool {
        matches!(self.config.origin, TargetOrigin::Probed { .. })
    }

    /// True if the target was created by a probe of this address, in any form.
    pub(crate) fn is_probed_at(&self, identity: &Endpoint) -> bool {
        self.is_probed() && self.identity == *identity
    }

    /// True if the target was discovered by this configuration entry.
    pub(crate) fn is_discovered_by(&self, entry: &str) -> bool {
        self.config.discovered_by().is_some_and(|name| **name == *entry)
    }

    /// Returns the normalized address, equal for all forms of the same address.
    pub(crate) fn identity(&self) -> &Endpoint {
        &self.identity
    }

    /// Records the result of a dial.
    pub(crate) fn dialled(&self, result: Result<&Transport, &DialError>) {
        let mut dialled = self.lock_dialled();
        dialled.refused = matches!(result, Err(DialError::NotAllowed));
        if let Ok(transport) = result {
            dialled.endpoint = Some(transport.endpoint.clone());
        }
        if let Ok(Transport { endpoint: ResolvedEndpoint::Tcp(socket), is_local, .. }) = result {
            let socket = SocketAddr::new(socket.ip().to_canonical(), socket.port());
            dialled.reached = Some((socket, *is_local));
        }
    }

    fn lock_dialled(&self) -> MutexGuard<'_, Dialled> {
        self.dialled.lock()
    }

    /// True if `allow` does not permit the address of the last dial.
    pub(crate) fn was_dial_refused(&self) -> bool {
        self.lock_dialled().refused
    }

    /// Returns the address of the last connection; `None` before the first one.
    pub(crate) fn socket(&self) -> Option<SocketAddr> {
        self.lock_dialled().reached.map(|(socket, _)| socket)
    }

    /// Returns the remote endpoint of the last connection; `None` before the first one.
    pub(crate) fn endpoint(&self) -> Option<ResolvedEndpoint> {
        self.lock_dialled().endpoint.clone()
    }

    /// Returns the server of the last connection, and whether it is up; `None` before the first connection.
    pub(crate) fn reached(&self) -> Option<(PeerIdentity, bool)> {
        let (socket, is_local) = self.lock_dialled().reached?;
        let numbers = self.numbers();
        let run_id = numbers.server().info().run_id.clone();
        let reached = PeerIdentity { socket, is_local, tls: self.config.address.tls, run_id };
        Some((reached, numbers.liveness().state().kind().is_up()))
    }

    /// Sets the address of the last connection.
    #[cfg(test)]
    pub(crate) fn set_reached(&self, socket: SocketAddr, is_local: bool) {
        self.lock_dialled().reached = Some((socket, is_local));
    }

    /// Returns the TLS setup for the next connection; `None` if the address does not use TLS.
    #[must_use]
    pub(crate) fn tls(&self) -> Option<TlsSetup> {
        self.tls.lock().clone()
    }

    /// Replaces the TLS setup for subsequent connections.
    pub(crate) fn set_tls(&self, tls: Option<TlsSetup>) {
        *self.tls.lock() = tls;
    }

    /// Returns the current time.
    #[must_use]
    pub(crate) fn now(&self) -> Timestamps {
        self.shared.clock.now()
    }

    /// Records that a poll begins at `now`, with a delay of `late`.
    pub(super) fn poll_begins(&self, late: Duration, now: Mono) {
        self.shared.poll_begins(late, now);
    }

    /// Returns the current time of the monotonic clock.
    #[must_use]
    pub(crate) fn mono(&self) -> Mono {
        self.shared.clock.mono()
    }

    /// Returns the clock.
    #[must_use]
    pub(crate) fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Returns the script names and sources from `--script.dir`.
    #[must_use]
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.shared.catalogue()
    }

    /// Returns true if a blockage has begun, changed or ended since the last call.
    pub(crate) fn take_blockage_changed(&self) -> bool {
        self.blockage_changed.swap(false, Ordering::AcqRel)
    }

    /// Locks the state. Steps wait while the returned lock is held.
    pub(crate) fn numbers(&self) -> MutexGuard<'_, Target> {
        // A panic in a step ends its task and therefore the process; until then, the state is still readable.
        self.target.lock()
    }

    /// Returns a script whose source is unknown and has not been requested from this server yet.
    pub(crate) fn wanted_source(&self, numbers: &Target) -> Option<Sha1Digits> {
        let sources = self.shared.lock_sources();
        let requested = self.requested_sources.lock();
        if sources.is_full() {
            return None;
        }
        let catalogue = self.shared.catalogue();
        let unknown = numbers.scripts().known().filter(|script| catalogue.source(script).is_none());
        unknown
            .filter_map(|script| script.sha1)
            .find(|sha1| sources.get(*sha1).is_none() && !requested.contains(sha1))
    }

    /// Records that a script's source was requested from this server; it is requested only once.
    pub(crate) fn mark_source_requested(&self, sha1: Sha1Digits) {
        self.requested_sources.lock().insert(sha1);
    }

    /// Stores a source received from the server.
    pub(crate) fn keep_source(&self, sha1: Sha1Digits, body: &[u8]) {
        self.shared.lock_sources().insert(sha1, body);
        self.shared.changed();
    }

    /// Applies an observation to the state and logs the resulting events.
    pub(crate) fn observe(&self, observation: Observation) -> Next {
        self.observe_at(self.now(), [observation])
    }

    /// Applies observations made at the same time and logs the resulting events. Returns the next step requested by the last one.
    pub(crate) fn observe_at<const N: usize>(&self, now: Timestamps, observations: [Observation; N]) -> Next {
        let (mut events, mut next) = (Vec::new(), Next::Continue);
        let unsaved = {
            let mut numbers = self.numbers();
            for observation in observations {
                let mut reaction = numbers.step(observation, now);
                events.append(&mut reaction.events);
                next = reaction.next;
            }
            // Before the lock is released, so that all reads of one version return the same state.
            self.shared.changed();
            numbers.is_unsaved()
        };
        if unsaved {
            self.shared.wake_writer();
        }
        if events.iter().any(Event::is_of_blockage) {
            self.blockage_changed.store(true, Ordering::Release);
            self.shared.blockages.notify_one();
        }
        self.report(&events);
        if self.config.guard.is_some() {
            self.guard_wake.notify_one();
        }
        next
    }

    /// Waits for an observation or a write of the state file. Only one task may wait.
    pub(crate) async fn observed(&self) {
        self.guard_wake.notified().await;
    }

    /// True if changes are saved before they take effect.
    pub(super) fn is_saved_first(&self) -> bool {
        self.shared.is_saved_first()
    }

    /// Requests a write of the state file without the pause after the previous write. Returns the revision to pass to
    /// [`Self::is_written`]; [`Self::observed`] wakes after a write.
    pub(super) fn request_write(&self) -> u64 {
        if let Some(writes) = &self.shared.writes {
            writes.urgent.notify_one();
        }
        self.numbers().revision()
    }

    /// True if this revision is in the state file, or could not be written.
    pub(super) fn is_written(&self, revision: u64) -> bool {
        self.numbers().is_written(revision)
    }

    /// Returns the script or function that is running according to the guard, with its name.
    pub(crate) fn guarded_script(&self) -> Option<NamedScript> {
        let script = self.numbers().guard()?.script()?.clone();
        Some(self.shared.catalogue().named(&script))
    }

    /// Publishes the counters of a snapshot and logs its events once the snapshot has been saved or can't be saved.
    pub(crate) fn saved(&self, snapshot: Snapshot) {
        let events = {
            let mut numbers = self.numbers();
            let events = numbers.saved(snapshot);
            self.shared.changed();
            events
        };
        if self.config.guard.is_some() {
            self.guard_wake.notify_one();
        }
        self.report(&events);
    }

    /// Returns the URL of this target on the status page, if known.
    pub(crate) fn page(&self) -> Option<String> {
        let url = self.shared.external_url()?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        Some(format!("{url}?{}", query.append_pair("target", &self.config.name).finish()))
    }

    fn report(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let now = self.now().mono;
        for event in events.iter().filter(|event| !event_log::is_silent(event)) {
            if self.admit_event(event, now) {
                let address = self.config.address.to_string();
                let address = Some(&*address).filter(|address| *address != self.name());
                let (page, names) = (self.page(), self.shared.catalogue());
                let redis_cli = || redis_cli(&self.config);
                let (name, user) = (&self.config.name, self.config.credentials.user_shown());
                event_log::write(name, address, user, event, &names, redis_cli, page.as_deref());
            }
        }
    }

    /// Counts the log line of an event. Returns false if a limit is reached and the line must be omitted.
    fn admit_event(&self, event: &Event, now: Mono) -> bool {
        self.log().admit_event(event, now)
            && (!event_log::is_slow_call(event) || self.shared.slow_calls_log.lock().admit_event(event, now))
    }

    /// Returns the usual heartbeat interval if many targets make it longer than configured.
    pub(crate) fn stretched_heartbeat(&self) -> Option<Duration> {
        let configured = self.config.intervals.heartbeat;
        Some(self.stretched(configured)).filter(|interval| *interval > configured)
    }

    /// Returns the interval multiplied by [`Shared::stretch`].
    pub(super) fn stretched(&self, interval: Duration) -> Duration {
        interval.mul_f64(self.shared.stretch())
    }

    /// Returns the current heartbeat interval.
    #[must_use]
    pub(crate) fn heartbeat_interval(&self, numbers: &Target) -> Duration {
        let configured = self.config.intervals.heartbeat;
        numbers.heartbeat_interval(configured, self.stretched_heartbeat().unwrap_or(configured))
    }

    fn log(&self) -> MutexGuard<'_, Limiter> {
        self.log.lock()
    }

    /// Counts a log line of this target. Returns false if the limit is reached and the line must be omitted.
    pub(crate) fn may_log(&self, priority: Priority) -> bool {
        self.log().admit(priority, self.now().mono)
    }

    /// Logs the number of omitted log lines if this is due, or if `at_end` is true because the target ends.
    pub(crate) fn log_omitted(&self, at_end: bool) {
        let now = self.now().mono;
        let omitted = if at_end { self.log().rest() } else { self.log().due(now) };
        if let Some(omitted) =
            omitted.and_then(|omitted| self.shared.slow_calls_log.lock().fold(omitted, now))
        {
            event_log::write_omitted(&self.config.name, omitted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_late_for_a_moment_after_one_that_began_late() {
        let shared = Shared::new(Clock::start(), None);
        let begin = shared.clock().mono();
        let at = |millis| begin + Duration::from_millis(millis);
        assert!(!shared.polls_are_late(begin));
        shared.poll_begins(Duration::from_millis(19), at(19));
        assert!(!shared.polls_are_late(at(19)));
        shared.poll_begins(Duration::from_millis(20), at(30));
        assert!(shared.polls_are_late(at(30)) && shared.polls_are_late(at(34)));
        assert!(!shared.polls_are_late(at(36)));
    }
}
