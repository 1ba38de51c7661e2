//! Changes to the list of targets by reloads, discovery and probes.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::compose::{Aliases, Changes, Choice, Handle, Rejection, Replaced, compose, select};
use super::{Discoveries, Fleet, check_modules};
use crate::client::{TlsCache, TlsError, TlsSetup};
use crate::config::{Discovery, Endpoint, Modules, TargetConfig, TargetOrigin};
use crate::poll::TargetHandle;
use crate::watch::PeerIdentity;

/// Maximum number of discovered targets, of all entries together.
const MAX_DISCOVERED: usize = 10_000;

/// Guard of `Fleet::composing`: permits replacing configured and discovered targets, and the entries of discovery.
#[derive(Debug)]
pub(super) struct Composing<'a>(MutexGuard<'a, Aliases>);

/// Targets of a new configuration, ready to replace the current ones. While a plan exists, discovery changes nothing.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    configured: Vec<Arc<TargetHandle>>,
    discovered: Vec<Arc<TargetHandle>>,
    /// TLS setups of targets that keep their handle.
    tls: Vec<(Arc<TargetHandle>, Option<TlsSetup>)>,
    discoveries: Discoveries,
    composing: Composing<'a>,
}

/// Effects of a reload, in numbers of targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReloadSummary {
    /// Unchanged targets.
    pub(crate) kept: usize,
    /// Targets whose configuration has changed.
    pub(crate) changed: usize,
    /// New targets.
    pub(crate) started: usize,
    /// Targets that are no longer watched.
    pub(crate) ended: usize,
}

/// Effects of a round of discovery.
#[derive(Debug, Default)]
pub(crate) struct DiscoveryChanges {
    /// Names of new targets.
    pub(crate) started: Vec<Arc<str>>,
    /// Discovered targets that are no longer watched.
    pub(crate) ended: Vec<EndedTarget>,
    /// Servers that are not watched as targets of this entry, and the reasons.
    pub(crate) problems: Vec<(Endpoint, String)>,
    /// Number of servers over the maximum.
    pub(crate) left_out: usize,
}

/// A discovered target that is no longer watched.
#[derive(Debug)]
pub(crate) struct EndedTarget {
    pub(crate) name: Arc<str>,
    /// Name of its entry.
    pub(crate) entry: Arc<str>,
    /// True if its server is still found, but is watched as another target.
    pub(crate) is_duplicate: bool,
}

impl Handle for Arc<TargetHandle> {
    fn config(&self) -> &TargetConfig {
        TargetHandle::config(self)
    }

    fn identity(&self) -> &Endpoint {
        TargetHandle::identity(self)
    }

    fn reached(&self) -> Option<(PeerIdentity, bool)> {
        TargetHandle::reached(self)
    }

    fn is(&self, other: &Self) -> bool {
        Self::ptr_eq(self, other)
    }
}

/// Targets by their origin.
#[derive(Default)]
struct ByOrigin<'a> {
    configured: Vec<&'a Arc<TargetHandle>>,
    discovered: Vec<&'a Arc<TargetHandle>>,
    probed: Vec<&'a Arc<TargetHandle>>,
}

impl<'a> ByOrigin<'a> {
    fn of(targets: &'a [Arc<TargetHandle>]) -> Self {
        let mut by_origin = Self::default();
        for handle in targets {
            match handle.config().origin {
                TargetOrigin::Configured => by_origin.configured.push(handle),
                TargetOrigin::Discovered { .. } => by_origin.discovered.push(handle),
                TargetOrigin::Probed { .. } => by_origin.probed.push(handle),
            }
        }
        by_origin
    }

    /// Groups the discovered targets by the name of their entry.
    fn discovered_by_entry(&self) -> HashMap<&'a str, Vec<&'a Arc<TargetHandle>>> {
        let mut by_entry: HashMap<&str, Vec<_>> = HashMap::new();
        for &handle in &self.discovered {
            if let Some(entry) = handle.config().discovered_by() {
                by_entry.entry(entry).or_default().push(handle);
            }
        }
        by_entry
    }
}

impl Fleet {
    fn start_composing(&self) -> Composing<'_> {
        Composing(self.composing.lock())
    }

    /// Prepares to replace the configured targets and the entries of discovery. Unchanged targets keep their handle.
    /// Discovered targets stay if their entry stays, and get its new settings.
    ///
    /// # Errors
    /// A certificate or key can't be used.
    pub(crate) fn plan(
        &self,
        targets: Vec<TargetConfig>,
        discoveries: Vec<Discovery>,
        modules: &Modules,
    ) -> Result<Plan<'_>, TlsError> {
        // All files are read before the lock is taken, because this may take a long time. They are read into a separate cache,
        // so that the current certificates stay in use until all new ones are known to be valid.
        let certificates = TlsCache::default();
        check_modules(&certificates, modules)?;
        for target in targets.iter().filter(|target| target.address.tls) {
            certificates.check(&target.tls)?;
        }
        for tls in discoveries.iter().filter_map(Discovery::tls) {
            // An error is reported by the next round of the entry.
            let _ = certificates.check(tls);
        }
        let mut composing = self.start_composing();
        self.certificates.replace(certificates);
        let discoveries = self.continued(discoveries);
        let current = self.targets();
        let mut by_entry = ByOrigin::of(&current).discovered_by_entry();
        let mut discovered = Vec::new();
        for entry in discoveries.iter() {
            let handles = by_entry.remove(&*entry.name).unwrap_or_default();
            let endpoints = handles.into_iter().map(|handle| handle.config().address.endpoint.clone());
            discovered.extend(endpoints.map(|endpoint| Cow::Owned(entry.target(endpoint))));
        }
        let configured = targets.into_iter().map(Cow::Owned).collect();
        let selection = select(&current, configured, discovered, &mut composing.0, MAX_DISCOVERED);
        let mut tls = Vec::new();
        let mut prepare = |choices: Vec<Choice<Arc<TargetHandle>>>| -> Result<Vec<_>, TlsError> {
            let handles = choices.into_iter().map(|choice| match choice {
                Choice::Keep(handle) => {
                    tls.push((Arc::clone(&handle), self.tls_of(handle.config())?));
                    Ok(handle)
                }
                Choice::Prepare(config) => self.prepare(*config),
            });
            handles.collect()
        };
        let configured = prepare(selection.configured)?;
        let discovered = prepare(selection.discovered)?;
        Ok(Plan { configured, discovered, tls, discoveries, composing })
    }

    /// Returns the entries. An unchanged entry is returned as its current instance, so that its task continues.
    fn continued(&self, entries: Vec<Discovery>) -> Discoveries {
        let current = Arc::clone(&self.discoveries.borrow());
        let continued = |mut new: Discovery| {
            current.iter().for_each(|old| new.replace(old));
            current.iter().find(|old| ***old == new).cloned().unwrap_or_else(|| new.into())
        };
        entries.into_iter().map(continued).collect()
    }

    /// Replaces the configured and discovered targets with those of a plan. Probed targets stay if their module is among
    /// `modules`.
    pub(crate) fn carry_out(&self, plan: Plan<'_>, modules: &Modules) -> ReloadSummary {
        let Plan { configured, discovered, tls, discoveries, composing } = plan;
        for (handle, tls) in tls {
            handle.set_tls(tls);
        }
        let stays = |handle: &TargetHandle| {
            let module = handle.config().module();
            module.is_some_and(|one| modules.get(&one.name).is_some_and(|now| Arc::ptr_eq(one, now)))
        };
        let changes = self.replace(&composing, configured, discovered, stays);
        for handle in changes.targets.iter().filter(|handle| handle.is_probed()) {
            // `plan` has read these certificates.
            if let Ok(tls) = self.tls_of(handle.config()) {
                handle.set_tls(tls);
            }
        }
        self.set_discoveries(composing, discoveries);
        self.changed();
        ReloadSummary {
            kept: changes.kept,
            changed: changes.replaced.len(),
            started: changes.started.len(),
            ended: changes.ended.len(),
        }
    }

    /// Starts discovery with these entries.
    pub(crate) fn discover(&self, discoveries: Vec<Discovery>) {
        let composing = self.start_composing();
        self.set_discoveries(composing, discoveries.into_iter().map(Arc::new).collect());
    }

    fn set_discoveries(&self, mut composing: Composing<'_>, discoveries: Discoveries) {
        composing.0.retain_entries(|name| discoveries.iter().any(|entry| *entry.name == *name));
        self.progress.set_entries(&discoveries);
        self.discoveries.send_replace(discoveries);
    }

    /// Replaces the targets of an entry with the servers that were found. A server that is already watched as a target of
    /// another origin or entry remains that target.
    pub(crate) fn set_discovered(
        &self,
        entry: &Arc<Discovery>,
        found: &BTreeSet<Endpoint>,
    ) -> DiscoveryChanges {
        let mut result = DiscoveryChanges::default();
        let mut composing = self.start_composing();
        let entries = Arc::clone(&self.discoveries.borrow());
        if !entries.iter().any(|one| Arc::ptr_eq(one, entry)) {
            return result;
        }
        composing.0.retain_found(&entry.name, found);
        let current = self.targets();
        let by_origin = ByOrigin::of(&current);
        let mut by_entry = by_origin.discovered_by_entry();
        let mut wanted: Vec<Cow<'_, TargetConfig>> = Vec::with_capacity(found.len());
        for one in entries.iter() {
            if Arc::ptr_eq(one, entry) {
                let found = found.iter().map(|endpoint| entry.target(endpoint.clone()));
                let own = found.filter(|config| self.shard.is_none_or(|shard| shard.owns(&config.name)));
                wanted.extend(own.map(Cow::Owned));
            } else {
                let handles = by_entry.remove(&*one.name).unwrap_or_default();
                wanted.extend(handles.into_iter().map(|handle| Cow::Borrowed(handle.config())));
            }
        }
        let configured = by_origin.configured.iter().map(|handle| Cow::Borrowed(handle.config())).collect();
        let selection = select(&current, configured, wanted, &mut composing.0, MAX_DISCOVERED);
        let mut duplicates = HashSet::new();
        for rejected in selection.rejected {
            duplicates.insert(Arc::clone(&rejected.config.name));
            // Servers of other entries are reported by the rounds of those entries.
            if rejected.config.discovered_by() == Some(&entry.name) {
                match rejected.reason {
                    Rejection::Duplicate(name) => {
                        let problem = format!("already watched as {name}");
                        result.problems.push((rejected.config.address.endpoint, problem));
                    }
                    Rejection::Limit => result.left_out += 1,
                }
            }
        }
        let mut discovered = Vec::with_capacity(selection.discovered.len());
        for choice in selection.discovered {
            match choice {
                Choice::Keep(handle) => discovered.push(handle),
                Choice::Prepare(config) => {
                    let endpoint = config.address.endpoint.clone();
                    match self.prepare(*config) {
                        Ok(handle) => discovered.push(handle),
                        Err(error) => result.problems.push((endpoint, error.to_string())),
                    }
                }
            }
        }
        let configured = by_origin.configured.into_iter().cloned().collect();
        let changes = self.replace(&composing, configured, discovered, |_| true);
        let name = |handle: &Arc<TargetHandle>| Arc::clone(&handle.config().name);
        result.started = changes.started.iter().map(name).collect();
        result.started.extend(changes.replaced.iter().map(|replaced| name(&replaced.new)));
        let ended = changes.ended.iter().filter_map(|handle| {
            let (name, entry) = (name(handle), Arc::clone(handle.config().discovered_by()?));
            let is_duplicate = duplicates.contains(&name);
            Some(EndedTarget { name, entry, is_duplicate })
        });
        result.ended = ended.collect();
        result
    }

    /// Replaces the configured and discovered targets. Probed targets stay if `stays` returns true for them.
    fn replace(
        &self,
        _composing: &Composing<'_>,
        configured: Vec<Arc<TargetHandle>>,
        discovered: Vec<Arc<TargetHandle>>,
        stays: impl Fn(&TargetHandle) -> bool,
    ) -> Changes<Arc<TargetHandle>> {
        self.modify(|current| {
            let probed = ByOrigin::of(current).probed.into_iter().filter(|handle| stays(handle)).cloned();
            compose(current, configured, discovered, probed.collect(), usize::MAX)
        })
    }

    /// Adds a target that a probe has requested, unless another target has its name or another probed target has its address.
    /// If there are `max` probed targets, the oldest one that has never answered is evicted. Returns the target that has the
    /// name or the address afterwards; `None` if there is no room for it.
    pub(crate) fn add_probed(&self, handle: &Arc<TargetHandle>, max: usize) -> Option<Arc<TargetHandle>> {
        let changes = self.modify_probed(max, |mut probed| {
            if probed.len() >= max
                && let Some(index) = probed.iter().position(|one| !one.numbers().liveness().has_answered())
            {
                probed.remove(index);
            }
            let added = std::iter::once(Arc::clone(handle));
            probed.into_iter().cloned().chain(added).collect()
        });
        let same = |one: &&Arc<TargetHandle>| {
            one.name() == handle.name() || one.is_probed_at(TargetHandle::identity(handle))
        };
        changes.targets.iter().find(same).cloned()
    }

    /// Ends probed targets.
    pub(crate) fn end_probed(&self, is_over: impl Fn(&TargetHandle) -> bool) {
        self.modify_probed(usize::MAX, |probed| {
            probed.into_iter().filter(|handle| !is_over(handle)).cloned().collect()
        });
    }

    /// Replaces the probed targets with the first `max` of `wanted`.
    fn modify_probed(
        &self,
        max: usize,
        wanted: impl FnOnce(Vec<&Arc<TargetHandle>>) -> Vec<Arc<TargetHandle>>,
    ) -> Changes<Arc<TargetHandle>> {
        self.modify(|current| {
            let ByOrigin { configured, discovered, probed } = ByOrigin::of(current);
            let [configured, discovered] =
                [configured, discovered].map(|handles| handles.into_iter().cloned().collect());
            compose(current, configured, discovered, wanted(probed), max)
        })
    }

    /// Applies the changes that `composed` computes from the current targets.
    fn modify(
        &self,
        composed: impl FnOnce(&[Arc<TargetHandle>]) -> Changes<Arc<TargetHandle>>,
    ) -> Changes<Arc<TargetHandle>> {
        let mut changes = Changes::default();
        self.targets.send_if_modified(|current| {
            changes = composed(current);
            let modified = changes.differs_from(current);
            if modified {
                for Replaced { old, new } in &changes.replaced {
                    self.hand_over(old, new);
                }
                *current = changes.targets.iter().cloned().collect();
                self.index(current);
                self.limit_heartbeats(current);
                self.changed();
            }
            modified
        });
        changes
    }

    /// Continues the account of `old` in `new`, even if `old` itself continues an account and has not been polled since.
    fn hand_over(&self, old: &TargetHandle, new: &TargetHandle) {
        let saved = old.numbers().snapshot(self.clock().now()).saved();
        let mut numbers = new.numbers();
        *numbers = self.target(new.config(), Some(saved));
        numbers.replace(&mut old.numbers());
        drop(numbers);
        self.shared.wake_writer();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::cli::Cli;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::parse::{Entry, Info, SlowlogReply};
    use crate::watch::{Observation, Outage, OutageReason};

    const R1: &str = "run_id:1\r\n";
    const R2: &str = "run_id:2\r\n";

    /// Returns a fleet with these configured targets and an entry with `discover` named `c`, which may connect to any address.
    fn fleet(targets: &str, scheme: &str) -> (Fleet, Arc<Discovery>) {
        fleet_with(targets, &format!("addr: '{scheme}://10.0.0.1', discover: cluster, allow: ['*:*']"))
    }

    fn fleet_with(targets: &str, entry: &str) -> (Fleet, Arc<Discovery>) {
        let config = config(targets, entry);
        let fleet = Fleet::new(config.targets, None, Clock::start()).unwrap();
        fleet.discover(config.discoveries);
        let entry = Arc::clone(&fleet.discoveries.borrow()[0]);
        (fleet, entry)
    }

    fn config(targets: &str, entry: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        std::fs::write(&path, format!("targets: [{targets}{{name: c, {entry}}}]")).unwrap();
        let words =
            ["redis-script-exporter", "--config.file", path.to_str().unwrap(), "--redis.tls-insecure"];
        Config::from_cli(&Cli::parse_words(words, |_| None).unwrap()).unwrap()
    }

    /// Applies a round that finds the servers at these hosts, and returns the names of all targets.
    fn found(fleet: &Fleet, entry: &Arc<Discovery>, hosts: &[&str]) -> Vec<String> {
        let endpoints = hosts.iter().map(|host| Endpoint::Tcp((*host).to_owned(), 6379).normal()).collect();
        fleet.set_discovered(entry, &endpoints);
        fleet.targets().iter().map(|one| one.name().to_owned()).collect()
    }

    /// Makes the target connect to a server at this address that replies to INFO with `info`.
    fn reaches(fleet: &Fleet, name: &str, ip: &str, info: &str) {
        let handle = fleet.find(name).unwrap();
        let socket = SocketAddr::new(ip.parse().unwrap(), 6379);
        handle.set_reached(socket, socket.ip().is_loopback());
        handle.observe(Observation::Connected { addresses: 1 });
        handle.observe(Observation::Answered { since: handle.now().mono });
        handle.observe(Observation::Info(Box::new(Info::parse(info.as_bytes()))));
        assert!(handle.numbers().liveness().state().kind().is_up(), "{name}");
    }

    #[test]
    fn a_server_found_under_many_spellings_stays_one_target() {
        let (fleet, entry) = fleet("", "redis");
        let spellings = ["localhost", "127.0.0.1", "::ffff:127.0.0.1", "2130706433", "LOCALHOST."];
        assert_eq!(found(&fleet, &entry, &spellings[..1]), ["c/localhost:6379"]);
        assert_eq!(found(&fleet, &entry, &spellings), ["c/localhost:6379"], "it continues unchanged");
        assert_eq!(found(&fleet, &entry, &spellings[1..4]), ["c/127.0.0.1:6379"]);
    }

    #[test]
    fn servers_at_one_socket_are_one_target_until_its_address_changes() {
        let (fleet, entry) = fleet("{name: own, addr: 'redis://own.example'}, ", "redis");
        let hosts = ["10.0.0.7", "a.example"];
        let all = ["own", "c/10.0.0.7:6379", "c/a.example:6379"];
        assert_eq!(found(&fleet, &entry, &hosts), all);
        // The address is recognized immediately, but the name only after it was reached.
        reaches(&fleet, "own", "10.0.0.7", R1);
        assert_eq!(found(&fleet, &entry, &hosts), ["own", "c/a.example:6379"]);
        reaches(&fleet, "c/a.example:6379", "10.0.0.7", R1);
        assert_eq!(found(&fleet, &entry, &hosts), ["own"]);
        assert_eq!(found(&fleet, &entry, &hosts), ["own"], "and it stays that way");
        // The configured target cannot be reached: its name may resolve elsewhere by now.
        let own = fleet.find("own").unwrap();
        own.observe(Observation::Unreachable(Outage::new(OutageReason::Other, "")));
        assert_eq!(found(&fleet, &entry, &hosts), ["own", "c/a.example:6379"]);
        // The name resolves to another server.
        reaches(&fleet, "own", "10.0.0.8", R2);
        assert_eq!(found(&fleet, &entry, &hosts), ["own", "c/10.0.0.7:6379", "c/a.example:6379"]);
    }

    /// Many servers may share one socket with TLS, distinguished by the requested server name.
    #[test]
    fn with_tls_servers_are_merged_only_if_their_run_ids_match() {
        let (fleet, entry) = fleet("{name: own, addr: 'rediss://own.example'}, ", "rediss");
        let hosts = ["a.example", "b.example"];
        found(&fleet, &entry, &hosts);
        for (name, info) in [("own", R1), ("c/a.example:6379", R1), ("c/b.example:6379", R2)] {
            reaches(&fleet, name, "10.0.0.7", info);
        }
        assert_eq!(found(&fleet, &entry, &hosts), ["own", "c/b.example:6379"]);
    }

    /// A server can report any `run_id`, so a forged one must not merge targets other than those on this machine.
    #[test]
    fn a_run_id_merges_two_addresses_only_on_this_machine() {
        let (fleet, entry) = fleet("{name: own, addr: 'redis://own.example'}, ", "redis");
        found(&fleet, &entry, &["10.0.0.8", "::1"]);
        reaches(&fleet, "own", "127.0.0.1", R1);
        reaches(&fleet, "c/10.0.0.8:6379", "10.0.0.8", R1);
        reaches(&fleet, "c/[::1]:6379", "::1", R1);
        assert_eq!(found(&fleet, &entry, &["10.0.0.8", "::1"]), ["own", "c/10.0.0.8:6379"]);
    }

    /// A reload may happen before the first poll of a target that the previous reload changed.
    #[test]
    fn an_account_outlives_reloads_without_a_poll_between_them() {
        let entry = "addr: 'redis://c.example', discover: cluster";
        let (fleet, _) = fleet_with("{name: own, addr: 'redis://10.0.0.9'}, ", entry);
        reaches(&fleet, "own", "10.0.0.9", R1);
        let counted = || fleet.find("own").unwrap().numbers().scripts().entries();
        for id in [5, 6] {
            let entry = Entry { id, ..Entry::with_arguments(&["EVAL", "return 1", "0"]) };
            let reply = SlowlogReply { received: 1, entries: vec![entry], ..SlowlogReply::default() };
            fleet.find("own").unwrap().observe(Observation::Slowlog(reply));
        }
        assert_eq!(counted(), (1, 0));
        for warning in ["10ms", "20ms", "30ms"] {
            let own = format!("{{name: own, addr: 'redis://10.0.0.9', slow: {{warning: {warning}}}}}, ");
            let new = config(&own, entry);
            let plan = fleet.plan(new.targets, new.discoveries, &Modules::new()).unwrap();
            assert_eq!(fleet.carry_out(plan, &Modules::new()).changed, 1);
            assert_eq!(counted(), (1, 0), "{warning}");
        }
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
