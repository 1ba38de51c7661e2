//! The targets as the rest of the program sees them: each behind its own lock, changed only by observations.

pub(crate) mod discovery;
pub(crate) mod persistence;
pub(crate) mod probes;
pub(crate) mod reload;
pub(crate) mod supervisor;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::persistence::Persistence;
use crate::client::{TlsCache, TlsError, TlsSetup};
use crate::clock::Clock;
use crate::config::{Discovery, Endpoint, Modules, TargetConfig};
use crate::poll::{Reached, Shared, TargetHandle};
use crate::script::{Catalogue, Identity};
use crate::watch::{SavedTarget, Target};

/// The targets at one moment, in the order in which they are shown.
pub(crate) type Targets = Arc<[Arc<TargetHandle>]>;

/// What there is to discover.
pub(crate) type Discoveries = Arc<[Arc<Discovery>]>;

/// The most targets that may be watched because they were discovered, whatever there is to discover.
const MAX_DISCOVERED: usize = 10_000;

/// Interval at which it is looked for log lines that were omitted.
const OMITTED_LOOKED_AT: Duration = Duration::from_secs(1);

/// All targets.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The targets that are watched now; whoever runs their tasks waits for changes.
    targets: watch::Sender<Targets>,
    /// What there is to discover; whoever does it waits for changes.
    discoveries: watch::Sender<Discoveries>,
    /// How discovery goes, by the name of the entry.
    progress: Mutex<BTreeMap<Arc<str>, Progress>>,
    /// Held by whoever changes which targets there are besides the probed ones, from the first look to the last.
    composing: Mutex<()>,
    /// Servers that were found out to be watched under another address already, by the name of the entry.
    aliases: Mutex<HashMap<Arc<str>, Aliases>>,
    /// What the targets share.
    shared: Arc<Shared>,
    /// Keeps the account over restarts, if there is a state file.
    persistence: Option<Arc<Persistence>>,
    certificates: TlsCache,
    /// Whether the configuration was understood when it was last read.
    config_works: AtomicBool,
    /// When it last was, in seconds since the Unix epoch.
    config_read: AtomicU64,
}

/// Targets that could take the place of those that are watched. While there is one, no other is made and nothing is
/// discovered.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// In the order in which they are shown; with how to begin TLS from now on, for those that stay.
    targets: Vec<(Arc<TargetHandle>, Option<TlsSetup>)>,
    discoveries: Discoveries,
    _composing: MutexGuard<'a, ()>,
}

/// What was found out about servers of one entry that are watched under another address.
type Aliases = HashMap<Endpoint, Reached>;

/// The discovery of one entry, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovered {
    /// The name of the entry.
    pub(crate) name: Arc<str>,
    /// Whether all was told when it was last asked.
    pub(crate) works: bool,
    /// How many targets it has.
    pub(crate) targets: usize,
    /// How many servers are not connected to, because they are not where they may be.
    pub(crate) refused: usize,
}

/// How the discovery of one entry goes.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Whether all was told when it was last asked; `None` before the first time.
    works: Option<bool>,
    /// Whether all targets of the first time have been tried.
    settled: bool,
    /// Servers that are no targets, because they are not where they may be.
    refused: usize,
}

/// What came of servers that were found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Targets that are new.
    pub(crate) started: Vec<Arc<str>>,
    /// Targets that are no longer watched.
    pub(crate) ended: Vec<Arc<str>>,
    /// Servers that are not watched as discovered ones, and why.
    pub(crate) problems: Vec<(Endpoint, String)>,
    /// Servers for which there is no room.
    pub(crate) left_out: usize,
}

/// What came of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Targets that go on as they were.
    pub(crate) kept: usize,
    /// Targets that are asked in another way from now on.
    pub(crate) changed: usize,
    /// New targets.
    pub(crate) started: usize,
    /// Targets that are no longer watched.
    pub(crate) ended: usize,
}

impl Fleet {
    /// The configured targets, not tried yet. What a former process left in the state file goes on; a file that can't be
    /// used is told of, and no error.
    ///
    /// # Errors
    /// TLS files that can't be used.
    pub(crate) fn new(
        targets: Vec<TargetConfig>,
        state: Option<&Path>,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let persistence = state.map(|path| Arc::new(Persistence::open(path, clock)));
        let unsaved = persistence.as_ref().map(|persistence| Arc::clone(persistence.unsaved()));
        let fleet = Self {
            targets: watch::Sender::new(Arc::new([])),
            discoveries: watch::Sender::new(Arc::new([])),
            progress: Mutex::default(),
            composing: Mutex::default(),
            aliases: Mutex::default(),
            shared: Arc::new(Shared::new(clock, unsaved)),
            persistence,
            certificates: TlsCache::default(),
            config_works: AtomicBool::new(true),
            config_read: AtomicU64::new(clock.now().unix.as_secs()),
        };
        fleet.install(targets.into_iter().map(|config| fleet.prepare(config)).collect::<Result<_, _>>()?);
        Ok(fleet)
    }

    /// A target that is ready to be watched, and is so once it is among those that are installed.
    ///
    /// # Errors
    /// TLS files that can't be used.
    pub(crate) fn prepare(&self, config: TargetConfig) -> Result<Arc<TargetHandle>, TlsError> {
        let tls = self.tls_of(&config)?;
        let saved = self.persistence.as_ref().and_then(|persistence| persistence.saved(&config.name));
        let target = self.target(&config, saved);
        Ok(Arc::new(TargetHandle::new(config, tls, target, Arc::clone(&self.shared))))
    }

    /// How to begin TLS with a target; `None` if its address does not want it.
    fn tls_of(&self, config: &TargetConfig) -> Result<Option<TlsSetup>, TlsError> {
        if !config.address.tls {
            return Ok(None);
        }
        self.certificates.setup(&config.tls, &config.address.endpoint).map(Some)
    }

    /// Reads the certificates of modules.
    ///
    /// # Errors
    /// Files that can't be used.
    pub(crate) fn check_modules(&self, modules: &Modules) -> Result<(), TlsError> {
        check_modules(&self.certificates, modules)
    }

    /// Reads the certificates of an entry's servers.
    ///
    /// # Errors
    /// Files that can't be used.
    pub(crate) fn check_discovery(&self, entry: &Discovery) -> Result<(), TlsError> {
        entry.tls().map_or(Ok(()), |tls| self.certificates.check(tls))
    }

    /// The numbers of a target that was not tried yet, going on from what was saved.
    fn target(&self, config: &TargetConfig, saved: Option<SavedTarget>) -> Target {
        let (name, buckets) = (Arc::clone(&config.name), Arc::clone(&config.buckets));
        let mut target = Target::new(name, config.slow, buckets, config.max_scripts);
        if self.shared.is_saved_first() {
            target.save_first();
        }
        if let Some(saved) = saved
            && !target.restore(saved)
        {
            warn!(
                target = &*config.name,
                "it had other buckets before: the histograms of run times start anew"
            );
        }
        target
    }

    /// What it would take to watch these targets, and to discover these, in place of those that the configuration names
    /// now. Those whose configuration is the same stay. What was discovered stays if its entry does, as that says now.
    ///
    /// # Errors
    /// TLS files that can't be used.
    pub(crate) fn plan(
        &self,
        mut targets: Vec<TargetConfig>,
        discoveries: Vec<Discovery>,
        modules: &Modules,
    ) -> Result<Plan<'_>, TlsError> {
        // All files are read before anybody is kept waiting, and those of before are known until then: they may hang.
        let certificates = TlsCache::default();
        check_modules(&certificates, modules)?;
        for target in targets.iter().filter(|target| target.address.tls) {
            certificates.check(&target.tls)?;
        }
        for tls in discoveries.iter().filter_map(Discovery::tls) {
            // One that can't be used is told when the entry is asked.
            let _ = certificates.check(tls);
        }
        let composing = self.composing.lock();
        self.certificates.replace(certificates);
        let now = self.targets();
        let before = Arc::clone(&self.discoveries.borrow());
        let same = |mut new: Discovery| {
            before.iter().for_each(|old| new.succeed(old));
            before.iter().find(|old| ***old == new).cloned().unwrap_or_else(|| new.into())
        };
        let discoveries: Discoveries = discoveries.into_iter().map(same).collect();
        let mut taken = Taken::default();
        for config in &targets {
            taken.add(config, None);
        }
        for watched in now.iter() {
            let by = watched.config().discovered.as_ref();
            let entry = discoveries.iter().find(|entry| by == Some(&entry.name));
            let config = entry.map(|entry| entry.target(watched.config().address.endpoint.clone()));
            if let Some(config) = config.filter(|config| taken.by(config).is_none()) {
                taken.add(&config, None);
                targets.push(config);
            }
        }
        let now: HashMap<&str, &Arc<TargetHandle>> =
            now.iter().map(|watched| (watched.name(), watched)).collect();
        let planned = targets.into_iter().map(|config| match now.get(&*config.name) {
            Some(watched) if *watched.config() == config => Ok((Arc::clone(watched), self.tls_of(&config)?)),
            _ => Ok((self.prepare(config)?, None)),
        });
        Ok(Plan { targets: planned.collect::<Result<_, _>>()?, discoveries, _composing: composing })
    }

    /// Watches the targets of a plan from now on, and those that probes started, if their modules are still among
    /// `modules`. Those that stay keep their connections and numbers; one that is asked in another way, but at the same
    /// address, goes on with its account of the slow log.
    pub(crate) fn carry_out(&self, plan: Plan<'_>, modules: &Modules) -> Change {
        let mut change = Change { kept: 0, changed: 0, started: 0, ended: 0 };
        self.targets.send_modify(|targets| {
            let mut before: HashMap<&str, &Arc<TargetHandle>> =
                targets.iter().map(|watched| (watched.name(), watched)).collect();
            let mut after = Vec::with_capacity(targets.len().max(plan.targets.len()));
            for (watched, tls) in plan.targets {
                match before.remove(watched.name()) {
                    Some(old) if Arc::ptr_eq(old, &watched) => {
                        watched.set_tls(tls);
                        change.kept += 1;
                    }
                    Some(old) if old.config().address.endpoint == watched.config().address.endpoint => {
                        self.hand_over(old, &watched);
                        change.changed += 1;
                    }
                    Some(_) => {
                        change.started += 1;
                        change.ended += 1;
                    }
                    None => change.started += 1,
                }
                after.push(watched);
            }
            let stays = |watched: &&Arc<TargetHandle>| {
                let module = watched.config().module.as_ref();
                before.contains_key(watched.name())
                    && module
                        .is_some_and(|one| modules.get(&one.name).is_some_and(|now| Arc::ptr_eq(one, now)))
            };
            let probed: Vec<_> = targets.iter().filter(stays).cloned().collect();
            for watched in &probed {
                // Those of its module were read for the plan.
                if let Ok(tls) = self.tls_of(watched.config()) {
                    watched.set_tls(tls);
                }
            }
            change.kept += probed.len();
            change.ended += before.len().saturating_sub(probed.len());
            after.extend(probed);
            *targets = after.into();
        });
        self.put_discoveries(plan.discoveries);
        self.shared.changed();
        change
    }

    /// Discovers these from now on; nothing of them is watched before it is found.
    pub(crate) fn discover(&self, discoveries: Vec<Discovery>) {
        let _composing = self.composing.lock();
        self.put_discoveries(discoveries.into_iter().map(Arc::new).collect());
    }

    fn put_discoveries(&self, discoveries: Discoveries) {
        let mut progress = self.progress.lock();
        progress.retain(|name, _| discoveries.iter().any(|entry| entry.name == *name));
        for entry in discoveries.iter() {
            progress.entry(Arc::clone(&entry.name)).or_default();
        }
        let mut aliases = self.aliases.lock();
        aliases.retain(|name, _| discoveries.iter().any(|entry| entry.name == *name));
        self.discoveries.send_replace(discoveries);
    }

    /// Watches the servers that were found for an entry, and no others of it. A server that is watched already, under
    /// whatever name, is not watched twice: the first one stays.
    pub(crate) fn set_discovered(&self, entry: &Arc<Discovery>, found: &BTreeSet<Endpoint>) -> Found {
        let mut result = Found::default();
        let _composing = self.composing.lock();
        if !self.discoveries.borrow().iter().any(|one| Arc::ptr_eq(one, entry)) {
            return result;
        }
        let now = self.targets();
        let of_entry = |one: &TargetHandle| one.config().discovered.as_ref() == Some(&entry.name);
        let before: HashMap<&str, &Arc<TargetHandle>> =
            now.iter().filter(|one| of_entry(one)).map(|one| (one.name(), one)).collect();
        let mut taken = Taken::default();
        for one in now.iter().filter(|one| !one.is_probed() && !of_entry(one)) {
            taken.add(one.config(), one.reached());
        }
        let mut aliases = self.aliases.lock();
        let aliases = aliases.entry(Arc::clone(&entry.name)).or_default();
        aliases.retain(|endpoint, _| found.contains(endpoint));
        let others = now.iter().filter(|one| one.config().discovered.is_some() && !of_entry(one)).count();
        let room = MAX_DISCOVERED.saturating_sub(others);
        let mut after: Vec<Arc<TargetHandle>> = Vec::with_capacity(found.len());
        // What is watched goes on under the spelling that it has.
        let mut configs: Vec<(&Endpoint, TargetConfig)> =
            found.iter().map(|endpoint| (endpoint, entry.target(endpoint.clone()))).collect();
        configs.sort_by_key(|(_, config)| !before.contains_key(&*config.name));
        for (endpoint, config) in configs {
            let watched = before.get(&*config.name).filter(|one| *one.config() == config);
            let reached = watched.and_then(|one| one.reached());
            let same = reached.as_ref().and_then(|(reached, _)| taken.same(reached));
            if let Some(other) = same {
                aliases.insert(endpoint.clone(), other.reached.clone());
            }
            // Its name may lead elsewhere by now: that is looked at again when the other one has changed.
            let known =
                aliases.get(endpoint).and_then(|alias| taken.same(alias).filter(|one| one.reached == *alias));
            if known.is_none() {
                aliases.remove(endpoint);
            }
            let by = taken.by(&config).or_else(|| known.map(|one| &one.name));
            if let Some(by) = by {
                result.problems.push((endpoint.clone(), format!("it is watched already, as {by}")));
                continue;
            }
            taken.add(&config, reached);
            if let Some(same) = watched {
                after.push(Arc::clone(same));
            } else if after.len() >= room {
                result.left_out += 1;
            } else {
                match self.prepare(config) {
                    Ok(watched) => after.push(watched),
                    Err(error) => result.problems.push((endpoint.clone(), error.to_string())),
                }
            }
        }
        after.sort_by(|one, other| one.config().address.endpoint.cmp(&other.config().address.endpoint));
        let names: HashMap<&str, &Arc<TargetHandle>> = after.iter().map(|one| (one.name(), one)).collect();
        let name = |one: &Arc<TargetHandle>| Arc::clone(&one.config().name);
        result.started = after.iter().filter(|one| !before.contains_key(one.name())).map(&name).collect();
        result.ended =
            before.values().filter(|one| !names.contains_key(one.name())).map(|one| name(one)).collect();
        let same = before.len() == after.len()
            && after.iter().all(|one| before.get(one.name()).is_some_and(|old| Arc::ptr_eq(old, one)));
        if same {
            return result;
        }
        self.targets.send_modify(|targets| {
            for old in targets.iter() {
                // It may have been probed until now.
                let new = names.get(old.name()).filter(|new| !Arc::ptr_eq(old, new));
                if let Some(new) = new
                    && new.config().address.endpoint == old.config().address.endpoint
                {
                    self.hand_over(old, new);
                }
            }
            let others = targets.iter().filter(|one| !of_entry(one) && !names.contains_key(one.name()));
            let (probed, configured): (Vec<_>, Vec<_>) = others.cloned().partition(|one| one.is_probed());
            *targets = configured.into_iter().chain(after.iter().cloned()).chain(probed).collect();
        });
        self.shared.changed();
        result
    }

    /// What there is to discover, and every change of it.
    pub(crate) fn discoveries(&self) -> watch::Receiver<Discoveries> {
        self.discoveries.subscribe()
    }

    /// Discovery has asked for an entry, and was told all or not; `refused` servers may not be connected to.
    pub(crate) fn discovery_went(&self, entry: &Discovery, works: bool, refused: usize) {
        let mut progress = self.progress.lock();
        if let Some(progress) = progress.get_mut(&entry.name) {
            let before = (progress.works.replace(works), std::mem::replace(&mut progress.refused, refused));
            if before != (Some(works), refused) {
                self.shared.changed();
            }
        }
    }

    /// How many targets of an entry have turned out to be where they may not be connected to.
    pub(crate) fn dials_refused(&self, entry: &str) -> usize {
        let targets = self.targets();
        let its = targets.iter().filter(|one| one.config().discovered.as_deref() == Some(entry));
        its.filter(|one| one.was_dial_refused()).count()
    }

    /// How the discovery of each entry goes.
    #[must_use]
    pub(crate) fn discovered(&self) -> Vec<Discovered> {
        let progress = self.progress.lock().clone();
        let targets = self.targets();
        let count = |name: &Arc<str>| {
            targets.iter().filter(|one| one.config().discovered.as_ref() == Some(name)).count()
        };
        let rows = progress.into_iter().map(|(name, one)| {
            let refused = one.refused.saturating_add(self.dials_refused(&name));
            Discovered { works: one.works == Some(true), targets: count(&name), refused, name }
        });
        rows.collect()
    }

    /// What was read of the slow log until now is known to the target that takes the place of `old`.
    fn hand_over(&self, old: &TargetHandle, new: &TargetHandle) {
        let saved = {
            let numbers = old.numbers();
            let was_read = numbers.exporter().last_poll.is_some();
            was_read.then(|| numbers.snapshot(self.clock().now()).saved())
        };
        if saved.is_some() {
            let mut numbers = new.numbers();
            *numbers = self.target(new.config(), saved);
            numbers.succeed(&mut old.numbers());
        }
        self.shared.wake_writer();
    }

    /// Watches one more target, unless one of its name is watched already, or a probed one at its address in whatever
    /// spelling, or there are as many probed ones as there may be. Gives the one that is watched; `None` if there is none
    /// then either.
    pub(crate) fn add_probed(&self, watched: &Arc<TargetHandle>, most: usize) -> Option<Arc<TargetHandle>> {
        let mut found = None;
        self.targets.send_if_modified(|targets| {
            let same = |one: &&Arc<TargetHandle>| {
                one.name() == watched.name() || one.is_probed_at(watched.identity())
            };
            found = targets.iter().find(same).cloned();
            let probed = targets.iter().filter(|one| one.is_probed()).count();
            if found.is_some() || probed >= most {
                return false;
            }
            found = Some(Arc::clone(watched));
            *targets = targets.iter().chain(std::iter::once(watched)).cloned().collect();
            true
        });
        self.shared.changed();
        found
    }

    /// No longer watches the probed targets that are `over`.
    pub(crate) fn end_probed(&self, over: impl Fn(&TargetHandle) -> bool) {
        let ended = self.targets.send_if_modified(|targets| {
            let before = targets.len();
            let stays = |one: &&Arc<TargetHandle>| !(one.is_probed() && over(one));
            *targets = targets.iter().filter(stays).cloned().collect();
            targets.len() < before
        });
        if ended {
            self.shared.changed();
        }
    }

    /// The target of this name, if it is watched.
    #[must_use]
    pub(crate) fn find(&self, name: &str) -> Option<Arc<TargetHandle>> {
        self.targets().iter().find(|watched| watched.name() == name).cloned()
    }

    /// The probed target at an address in whatever spelling.
    #[must_use]
    pub(crate) fn find_probed(&self, endpoint: &Endpoint) -> Option<Arc<TargetHandle>> {
        let identity = endpoint.identity();
        self.targets().iter().find(|watched| watched.is_probed_at(&identity)).cloned()
    }

    /// The probed target without TLS whose last connection led to a socket.
    #[must_use]
    pub(crate) fn find_probed_by_socket(&self, socket: SocketAddr) -> Option<Arc<TargetHandle>> {
        let leads =
            |watched: &TargetHandle| !watched.config().address.tls && watched.socket() == Some(socket);
        self.targets().iter().find(|watched| watched.is_probed() && leads(watched)).cloned()
    }

    /// The configuration was read again, and understood or not.
    pub(crate) fn config_was_read(&self, works: bool) {
        self.config_works.store(works, Ordering::Relaxed);
        if works {
            self.config_read.store(self.clock().now().unix.as_secs(), Ordering::Relaxed);
        }
        self.shared.changed();
    }

    /// Whether the configuration was understood when it was last read, and when it last was (Unix time).
    #[must_use]
    pub(crate) fn config_state(&self) -> (bool, u64) {
        (self.config_works.load(Ordering::Relaxed), self.config_read.load(Ordering::Relaxed))
    }

    /// The state file.
    pub(crate) fn persistence(&self) -> Option<&Arc<Persistence>> {
        self.persistence.as_ref()
    }

    /// Watches these targets from now on. Those that were watched before go on as they are; those that are no longer
    /// among them end, and their numbers go with them.
    fn install(&self, targets: Vec<Arc<TargetHandle>>) {
        self.targets.send_replace(targets.into());
        self.shared.changed();
    }

    /// The targets that are watched now.
    #[must_use]
    pub(crate) fn targets(&self) -> Targets {
        Arc::clone(&self.targets.borrow())
    }

    /// The targets that are watched, and every change of them.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Targets> {
        self.targets.subscribe()
    }

    /// The names of scripts and their sources, from `--script.dir`.
    #[must_use]
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.shared.catalogue()
    }

    /// The source of a script, or of a function's library: from its file, else as a server told it. Whether it may be shown
    /// is for the caller to know (`--web.show-source`).
    #[must_use]
    pub(crate) fn source(&self, script: &Identity) -> Option<Arc<[u8]>> {
        self.shared.source(script)
    }

    /// From now on scripts have these names, also those that were counted before.
    pub(crate) fn set_catalogue(&self, catalogue: Catalogue) {
        self.shared.set_catalogue(catalogue);
    }

    /// The clock that all observations are timed by.
    #[must_use]
    pub(crate) fn clock(&self) -> Clock {
        self.shared.clock()
    }

    /// A number that is another one after any change.
    #[must_use]
    pub(crate) fn version(&self) -> u64 {
        self.shared.version()
    }

    /// Logs how many log lines of each target were omitted, until `stop`.
    pub(crate) async fn keep_log(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(OMITTED_LOOKED_AT) => {}
            }
            self.log_omitted(false);
        }
    }

    /// Logs how many log lines of each target were omitted, if it is time to; `at_end` if there will be no other time.
    pub(crate) fn log_omitted(&self, at_end: bool) {
        self.targets().iter().for_each(|watched| watched.log_omitted(at_end));
    }

    /// Whether every target that the configuration names has been tried once, and whatever was discovered first. Servers
    /// that are discovered later change nothing.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        let mut progress = self.progress.lock();
        let targets = self.targets();
        let tried = |watched: &Arc<TargetHandle>| watched.numbers().liveness().tried();
        for (name, one) in progress.iter_mut().filter(|(_, one)| !one.settled) {
            let mut its = targets.iter().filter(|watched| watched.config().discovered.as_ref() == Some(name));
            one.settled = one.works.is_some() && its.all(tried);
        }
        let mut named =
            targets.iter().filter(|watched| !watched.is_probed() && watched.config().discovered.is_none());
        progress.values().all(|one| one.settled) && named.all(tried)
    }
}

/// Names and addresses that targets have.
#[derive(Debug, Default)]
struct Taken {
    names: HashSet<Arc<str>>,
    /// By the identities of their addresses.
    endpoints: HashMap<Endpoint, Arc<str>>,
    /// Targets that were reached, by the socket.
    sockets: HashMap<SocketAddr, Vec<Occupant>>,
    /// Those of this machine whose `run_id` is known, by that.
    processes: HashMap<String, Vec<Occupant>>,
}

/// A target that was reached.
#[derive(Debug, Clone)]
struct Occupant {
    name: Arc<str>,
    reached: Reached,
    /// Whether the server answers, so that what is known of it is not of long ago.
    up: bool,
}

impl Taken {
    fn add(&mut self, config: &TargetConfig, reached: Option<(Reached, bool)>) {
        self.names.insert(Arc::clone(&config.name));
        let endpoint = config.address.endpoint.identity();
        self.endpoints.entry(endpoint).or_insert_with(|| Arc::clone(&config.name));
        if let Some((reached, up)) = reached {
            let occupant = Occupant { name: Arc::clone(&config.name), reached, up };
            if let Some(run_id) = occupant.reached.run_id.clone().filter(|_| occupant.reached.here) {
                self.processes.entry(run_id).or_default().push(occupant.clone());
            }
            self.sockets.entry(occupant.reached.socket).or_default().push(occupant);
        }
    }

    /// The target that has the address, in whatever spelling, or the name already.
    fn by(&self, config: &TargetConfig) -> Option<&Arc<str>> {
        let endpoint = config.address.endpoint.identity();
        let leads_to = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp(host, port) => Some(SocketAddr::new(host.parse().ok()?, *port)),
            Endpoint::Unix(_) => None,
        };
        let plain = |socket| {
            let occupants = self.sockets.get(&socket).into_iter().flatten();
            occupants.filter(|one| !one.reached.tls && !config.address.tls).map(|one| &one.name).next()
        };
        let by_endpoint = self.endpoints.get(&endpoint).or_else(|| leads_to(&endpoint).and_then(plain));
        by_endpoint.or_else(|| self.names.get(&config.name))
    }

    /// The target that is the server which was reached.
    fn same(&self, reached: &Reached) -> Option<&Occupant> {
        let by_process = reached.run_id.as_ref().and_then(|run_id| self.processes.get(run_id));
        let occupants = self.sockets.get(&reached.socket).into_iter().chain(by_process).flatten();
        occupants.into_iter().find(|one| one.up && one.reached.is_same_server(reached))
    }
}

fn check_modules(certificates: &TlsCache, modules: &Modules) -> Result<(), TlsError> {
    modules.values().filter_map(|module| module.tls.as_ref()).try_for_each(|tls| certificates.check(tls))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::config::Config;
    use crate::parse::Info;
    use crate::watch::Observation;

    const R1: &str = "run_id:1\r\n";
    const R2: &str = "run_id:2\r\n";

    /// A fleet with these configured targets and one entry with `discover`, named `c`, that may connect to everything.
    fn fleet(targets: &str, scheme: &str) -> (Fleet, Arc<Discovery>) {
        fleet_with(targets, &format!("addr: '{scheme}://10.0.0.1', discover: cluster, allow: ['*:*']"))
    }

    fn fleet_with(targets: &str, entry: &str) -> (Fleet, Arc<Discovery>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        std::fs::write(&path, format!("targets: [{targets}{{name: c, {entry}}}]")).unwrap();
        let words =
            ["redis-script-exporter", "--config.file", path.to_str().unwrap(), "--redis.tls-insecure"];
        let config = Config::from_cli(&Cli::parse_words(words, |_| None).unwrap()).unwrap();
        let fleet = Fleet::new(config.targets, None, Clock::start()).unwrap();
        fleet.discover(config.discoveries);
        let entry = Arc::clone(&fleet.discoveries.borrow()[0]);
        (fleet, entry)
    }

    /// The names that are watched once the servers at these hosts were found.
    fn found(fleet: &Fleet, entry: &Arc<Discovery>, hosts: &[&str]) -> Vec<String> {
        let endpoints = hosts.iter().map(|host| Endpoint::Tcp((*host).to_owned(), 6379).normal()).collect();
        fleet.set_discovered(entry, &endpoints);
        fleet.targets().iter().map(|one| one.name().to_owned()).collect()
    }

    /// The target has connected to this address, and the server has told this.
    fn reaches(fleet: &Fleet, name: &str, ip: &str, info: &str) {
        let watched = fleet.find(name).unwrap();
        let socket = SocketAddr::new(ip.parse().unwrap(), 6379);
        watched.set_reached(socket, socket.ip().is_loopback());
        watched.observe(Observation::Connected);
        watched.observe(Observation::Answered { since: watched.now().mono });
        watched.observe(Observation::Info(Box::new(Info::parse(info.as_bytes()))));
        assert!(watched.numbers().liveness().state().is_up(), "{name}");
    }

    #[test]
    fn servers_that_are_found_under_many_spellings_are_one_target_that_stays() {
        let (fleet, entry) = fleet("", "redis");
        let spellings = ["localhost", "127.0.0.1", "::ffff:127.0.0.1", "2130706433", "LOCALHOST."];
        assert_eq!(found(&fleet, &entry, &spellings[..1]), ["c/localhost:6379"]);
        assert_eq!(found(&fleet, &entry, &spellings), ["c/localhost:6379"], "it goes on as it was");
        assert_eq!(found(&fleet, &entry, &spellings[1..4]), ["c/127.0.0.1:6379"]);
    }

    #[test]
    fn one_socket_is_one_server_and_is_looked_at_again_when_that_changes() {
        let (fleet, entry) = fleet("{name: own, addr: 'redis://own.example'}, ", "redis");
        let hosts = ["10.0.0.7", "a.example"];
        let all = ["own", "c/10.0.0.7:6379", "c/a.example:6379"];
        assert_eq!(found(&fleet, &entry, &hosts), all);
        // The address is known for what it is, and the name when it was reached.
        reaches(&fleet, "own", "10.0.0.7", R1);
        assert_eq!(found(&fleet, &entry, &hosts), ["own", "c/a.example:6379"]);
        reaches(&fleet, "c/a.example:6379", "10.0.0.7", R1);
        assert_eq!(found(&fleet, &entry, &hosts), ["own"]);
        assert_eq!(found(&fleet, &entry, &hosts), ["own"], "and it stays so");
        // The configured one cannot be reached: the name may lead elsewhere by now.
        let own = fleet.find("own").unwrap();
        own.observe(Observation::Unreachable { detail: String::new() });
        assert_eq!(found(&fleet, &entry, &hosts), ["own", "c/a.example:6379"]);
        // It leads to another server.
        reaches(&fleet, "own", "10.0.0.8", R2);
        assert_eq!(found(&fleet, &entry, &hosts), ["own", "c/10.0.0.7:6379", "c/a.example:6379"]);
    }

    /// Behind one socket with TLS there may be many servers, told apart by the name that is asked for.
    #[test]
    fn with_tls_it_takes_the_run_id_too() {
        let (fleet, entry) = fleet("{name: own, addr: 'rediss://own.example'}, ", "rediss");
        let hosts = ["a.example", "b.example"];
        found(&fleet, &entry, &hosts);
        for (name, info) in [("own", R1), ("c/a.example:6379", R1), ("c/b.example:6379", R2)] {
            reaches(&fleet, name, "10.0.0.7", info);
        }
        assert_eq!(found(&fleet, &entry, &hosts), ["own", "c/b.example:6379"]);
    }

    /// A server can say whatever it likes: elsewhere it hides no other one by that.
    #[test]
    fn a_run_id_makes_one_server_of_two_addresses_of_this_machine_only() {
        let (fleet, entry) = fleet("{name: own, addr: 'redis://own.example'}, ", "redis");
        found(&fleet, &entry, &["10.0.0.8", "::1"]);
        reaches(&fleet, "own", "127.0.0.1", R1);
        reaches(&fleet, "c/10.0.0.8:6379", "10.0.0.8", R1);
        reaches(&fleet, "c/[::1]:6379", "::1", R1);
        assert_eq!(found(&fleet, &entry, &["10.0.0.8", "::1"]), ["own", "c/10.0.0.8:6379"]);
    }

    #[test]
    fn what_an_entry_has_learned_outlives_a_reload() {
        let (fleet, entry) = fleet_with("", "addr: 'redis://cache.example', discover: cluster");
        let admits = |entry: &Discovery| entry.allow.admits_address([10, 9, 9, 1].into(), 1);
        assert!(!admits(&entry));
        entry.allow.learn([[10, 9, 9, 200].into()]);
        for (text, goes_on) in [
            ("addr: 'redis://cache.example', discover: cluster, slow: {warning: 10ms}", true),
            ("addr: 'redis://other.example', discover: cluster", false),
        ] {
            let (_, new) = fleet_with("", text);
            let plan = fleet.plan(Vec::new(), vec![Discovery::clone(&new)], &Modules::new()).unwrap();
            assert_eq!(admits(&plan.discoveries[0]), goes_on, "{text}");
        }
    }
}
