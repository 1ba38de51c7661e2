//! Composition of the list of targets. Pure: no I/O and no locks of its own.
//!
//! A change takes two steps, because creating the handle of a new target requires I/O (its certificates are read):
//!
//! 1. [`select`] decides which configured and discovered targets are watched, and which of them keep their handle. It
//!    applies the precedence (configured, then discovered), admits one target per server, and limits the number of
//!    discovered targets.
//! 2. [`compose`] combines these handles with those of the probed targets, and returns the new list and the changes.

use core::net::SocketAddr;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::config::{Endpoint, TargetConfig};
use crate::watch::PeerIdentity;

/// Handle of a target.
pub(super) trait Handle: Clone {
    /// Returns its configuration.
    fn config(&self) -> &TargetConfig;

    /// Returns the identity of its address, which is the same for all forms of the address.
    fn identity(&self) -> &Endpoint;

    /// Returns the server of its last connection, and true if that server is up; `None` before the first connection.
    fn reached(&self) -> Option<(PeerIdentity, bool)>;

    /// True if both are the same handle, and not merely equal.
    fn is(&self, other: &Self) -> bool;
}

/// Result of [`select`].
#[derive(Debug)]
pub(super) struct Selection<H> {
    /// Configured targets, in the given order.
    pub(super) configured: Vec<Choice<H>>,
    /// Discovered targets, in the given order.
    pub(super) discovered: Vec<Choice<H>>,
    /// Discovered servers that are not watched.
    pub(super) rejected: Vec<Rejected>,
}

/// A target that is watched.
#[derive(Debug)]
pub(super) enum Choice<H> {
    /// An unchanged target, with its handle.
    Keep(H),
    /// A target that needs a new handle.
    Prepare(Box<TargetConfig>),
}

/// A discovered server that is not watched.
#[derive(Debug)]
pub(super) struct Rejected {
    /// Configuration that its target would have had.
    pub(super) config: TargetConfig,
    pub(super) reason: Rejection,
}

/// Reason why a discovered server is not watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The server is already watched as the target of this name.
    Duplicate(Arc<str>),
    /// The maximum number of discovered targets is reached.
    Limit,
}

/// Discovered addresses of servers that are watched under another address, by entry.
///
/// The server at each address is kept here, because an address that is not watched is not connected to again.
#[derive(Debug, Default)]
pub(super) struct Aliases(HashMap<Arc<str>, HashMap<Endpoint, PeerIdentity>>);

impl Aliases {
    /// Removes addresses that an entry no longer finds.
    pub(super) fn retain_found(&mut self, entry: &str, found: &BTreeSet<Endpoint>) {
        if let Some(aliases) = self.0.get_mut(entry) {
            aliases.retain(|endpoint, _| found.contains(endpoint));
        }
    }

    /// Removes entries that no longer exist.
    pub(super) fn retain_entries(&mut self, exists: impl Fn(&str) -> bool) {
        self.0.retain(|entry, _| exists(entry));
    }

    fn get(&self, config: &TargetConfig) -> Option<&PeerIdentity> {
        self.0.get(config.discovered_by()?)?.get(&config.address.endpoint)
    }

    fn insert(&mut self, config: &TargetConfig, reached: PeerIdentity) {
        if let Some(entry) = config.discovered_by() {
            let aliases = self.0.entry(Arc::clone(entry)).or_default();
            aliases.insert(config.address.endpoint.clone(), reached);
        }
    }

    fn remove(&mut self, config: &TargetConfig) {
        if let Some(aliases) = config.discovered_by().and_then(|entry| self.0.get_mut(entry)) {
            aliases.remove(&config.address.endpoint);
        }
    }
}

impl<H: Handle> Choice<H> {
    fn new(current: &HashMap<&str, &H>, wanted: Cow<'_, TargetConfig>) -> Self {
        match current.get(&*wanted.name) {
            // Compares pointers first, which is fast for the thousands of targets that a round does not affect.
            Some(&handle)
                if std::ptr::from_ref(handle.config()) == &raw const *wanted
                    || *handle.config() == *wanted =>
            {
                Self::Keep(handle.clone())
            }
            _ => Self::Prepare(Box::new(wanted.into_owned())),
        }
    }

    fn config(&self) -> &TargetConfig {
        match self {
            Self::Keep(handle) => handle.config(),
            Self::Prepare(config) => config,
        }
    }

    fn identity(&self) -> Endpoint {
        match self {
            Self::Keep(handle) => handle.identity().clone(),
            Self::Prepare(config) => config.address.endpoint.identity(),
        }
    }

    /// Returns the server of the last connection, and true if it is up; `None` for a new target.
    fn reached(&self) -> Option<(PeerIdentity, bool)> {
        match self {
            Self::Keep(handle) => handle.reached(),
            Self::Prepare(_) => None,
        }
    }
}

/// Selects the targets to watch.
///
/// - All `configured` targets are selected; the caller ensures that their names are unique.
/// - If several `discovered` targets are the same server, the one among `current` is selected, otherwise the first.
/// - At most `max_discovered` discovered targets are selected, but this limit never removes those among `current`.
/// - A target that is among `current` with the same configuration keeps its handle.
pub(super) fn select<H: Handle>(
    current: &[H],
    configured: Vec<Cow<'_, TargetConfig>>,
    discovered: Vec<Cow<'_, TargetConfig>>,
    aliases: &mut Aliases,
    max_discovered: usize,
) -> Selection<H> {
    let by_name: HashMap<&str, &H> = current.iter().map(|handle| (&*handle.config().name, handle)).collect();
    let mut taken = Taken::default();
    let mut selection =
        Selection { configured: Vec::with_capacity(configured.len()), discovered: vec![], rejected: vec![] };
    for wanted in configured {
        let choice = Choice::new(&by_name, wanted);
        taken.add(&choice, choice.reached());
        selection.configured.push(choice);
    }
    let is_watched = |config: &TargetConfig| {
        by_name
            .get(&*config.name)
            .is_some_and(|handle| handle.config().discovered_by() == config.discovered_by())
    };
    let mut candidates: Vec<(usize, bool, Choice<H>)> = discovered
        .into_iter()
        .enumerate()
        .map(|(position, wanted)| (position, is_watched(&wanted), Choice::new(&by_name, wanted)))
        .collect();
    candidates.sort_by_key(|(position, watched, _)| (!watched, *position));
    let mut selected = Vec::with_capacity(candidates.len());
    for (position, watched, choice) in candidates {
        let reached = choice.reached();
        let same = reached.as_ref().and_then(|(reached, _)| taken.same_server(reached));
        if let Some(other) = same {
            aliases.insert(choice.config(), other.reached.clone());
        }
        // Valid only while the other target reaches the same server as before: its name may resolve elsewhere later.
        let alias = aliases.get(choice.config());
        let alias = alias.and_then(|alias| taken.same_server(alias).filter(|other| other.reached == *alias));
        if alias.is_none() {
            aliases.remove(choice.config());
        }
        let other = taken.at_address_or_name(&choice).or_else(|| alias.map(|other| &other.name));
        if let Some(name) = other {
            let reason = Rejection::Duplicate(Arc::clone(name));
            selection.rejected.push(Rejected { config: choice.config().clone(), reason });
            continue;
        }
        if !watched && selected.len() >= max_discovered {
            selection.rejected.push(Rejected { config: choice.config().clone(), reason: Rejection::Limit });
            continue;
        }
        taken.add(&choice, reached);
        selected.push((position, choice));
    }
    selected.sort_by_key(|(position, _)| *position);
    selection.discovered = selected.into_iter().map(|(_, choice)| choice).collect();
    selection
}

/// Names, addresses and servers of the selected targets.
#[derive(Debug, Default)]
struct Taken {
    names: HashSet<Arc<str>>,
    /// Names by [`Endpoint::identity`].
    endpoints: HashMap<Endpoint, Arc<str>>,
    /// Targets that were reached, by socket.
    sockets: HashMap<SocketAddr, Vec<Occupant>>,
    /// Targets on this machine whose `run_id` is known, by `run_id`.
    processes: HashMap<String, Vec<Occupant>>,
}

/// A selected target that was reached.
#[derive(Debug, Clone)]
struct Occupant {
    name: Arc<str>,
    reached: PeerIdentity,
    /// True if the server answers, which means that `reached` is current.
    up: bool,
}

impl Taken {
    fn add<H: Handle>(&mut self, choice: &Choice<H>, reached: Option<(PeerIdentity, bool)>) {
        let name = &choice.config().name;
        self.names.insert(Arc::clone(name));
        self.endpoints.entry(choice.identity()).or_insert_with(|| Arc::clone(name));
        if let Some((reached, up)) = reached {
            let occupant = Occupant { name: Arc::clone(name), reached, up };
            if let Some(run_id) = occupant.reached.run_id.clone().filter(|_| occupant.reached.is_local) {
                self.processes.entry(run_id).or_default().push(occupant.clone());
            }
            self.sockets.entry(occupant.reached.socket).or_default().push(occupant);
        }
    }

    /// Returns the name of the target that has this address in any form, or this name.
    fn at_address_or_name<H: Handle>(&self, choice: &Choice<H>) -> Option<&Arc<str>> {
        let config = choice.config();
        let identity = choice.identity();
        let socket = match &identity {
            Endpoint::Tcp(host, port) => host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
            Endpoint::Unix(_) => None,
        };
        let without_tls = |socket| {
            let mut occupants = self.sockets.get(&socket).into_iter().flatten();
            occupants.find(|one| !one.reached.tls && !config.address.tls).map(|one| &one.name)
        };
        let by_address = self.endpoints.get(&identity).or_else(|| socket.and_then(without_tls));
        by_address.or_else(|| self.names.get(&config.name))
    }

    /// Returns a target that is up and has reached this server.
    fn same_server(&self, reached: &PeerIdentity) -> Option<&Occupant> {
        let by_process = reached.run_id.as_ref().and_then(|run_id| self.processes.get(run_id));
        let occupants = self.sockets.get(&reached.socket).into_iter().chain(by_process).flatten();
        occupants.into_iter().find(|one| one.up && one.reached.is_same_server(reached))
    }
}

/// Result of [`compose`].
#[derive(Debug)]
pub(super) struct Changes<H> {
    /// All targets, in the order in which they are shown.
    pub(super) targets: Vec<H>,
    /// Number of targets that keep their handle.
    pub(super) kept: usize,
    /// Targets whose configuration has changed, but not their address: the new handle takes over the account of the old one.
    pub(super) replaced: Vec<Replaced<H>>,
    /// New targets.
    pub(super) started: Vec<H>,
    /// Targets that are no longer watched.
    pub(super) ended: Vec<H>,
}

/// A target that continues under a new handle.
#[derive(Debug)]
pub(super) struct Replaced<H> {
    pub(super) old: H,
    pub(super) new: H,
}

/// Joins the configured, discovered and probed targets, in this order. A probed target is left out if another target has
/// its name, or if an earlier one of `probed` has its address in any form. At most `max_probed` are included.
pub(super) fn compose<H: Handle>(
    current: &[H],
    configured: Vec<H>,
    discovered: Vec<H>,
    probed: Vec<H>,
    max_probed: usize,
) -> Changes<H> {
    let mut targets = configured;
    targets.extend(discovered);
    let names: HashSet<Arc<str>> = targets.iter().map(|handle| Arc::clone(&handle.config().name)).collect();
    let (mut own_names, mut identities) = (HashSet::new(), HashSet::new());
    let admitted = probed.into_iter().filter(|handle| {
        !names.contains(&handle.config().name)
            && own_names.insert(Arc::clone(&handle.config().name))
            && identities.insert(handle.identity().clone())
    });
    targets.extend(admitted.take(max_probed));
    let mut before: HashMap<&str, &H> =
        current.iter().map(|handle| (&*handle.config().name, handle)).collect();
    let mut changes = Changes::default();
    for new in &targets {
        match before.remove(&*new.config().name) {
            Some(old) if old.is(new) => changes.kept += 1,
            Some(old) if old.config().address.endpoint == new.config().address.endpoint => {
                changes.replaced.push(Replaced { old: old.clone(), new: new.clone() });
            }
            old => {
                changes.started.push(new.clone());
                changes.ended.extend(old.cloned());
            }
        }
    }
    let ended = current.iter().filter(|handle| before.contains_key(&*handle.config().name));
    changes.ended.extend(ended.cloned());
    changes.targets = targets;
    changes
}

impl<H> Default for Changes<H> {
    fn default() -> Self {
        Self { targets: vec![], kept: 0, replaced: vec![], started: vec![], ended: vec![] }
    }
}

impl<H: Handle> Changes<H> {
    /// True if the list differs from `current`.
    pub(super) fn differs_from(&self, current: &[H]) -> bool {
        self.targets.len() != current.len() || self.targets.iter().zip(current).any(|(new, old)| !new.is(old))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::cli::Cli;
    use crate::config::{Config, TargetOrigin};

    const ENTRIES: [&str; 2] = ["A", "B"];

    /// Forms of addresses; each row contains the forms of one address.
    const HOSTS: [&[&str]; 4] =
        [&["127.0.0.1", "localhost", "::ffff:127.0.0.1"], &["10.0.0.1"], &["h1", "H1."], &["h2"]];

    /// A configured target and the module `m`.
    static CONFIG: LazyLock<Config> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        std::fs::write(&path, "{targets: [{addr: a}], modules: {m: {allow: ['*:*']}}}").unwrap();
        let words = ["redis-script-exporter", "--config.file", path.to_str().unwrap()];
        Config::from_cli(&Cli::parse_words(words, |_| None).unwrap()).unwrap()
    });

    #[derive(Debug, Clone)]
    struct Fake {
        config: Rc<TargetConfig>,
        identity: Endpoint,
        reached: Option<(PeerIdentity, bool)>,
    }

    impl Handle for Fake {
        fn config(&self) -> &TargetConfig {
            &self.config
        }

        fn identity(&self) -> &Endpoint {
            &self.identity
        }

        fn reached(&self) -> Option<(PeerIdentity, bool)> {
            self.reached.clone()
        }

        fn is(&self, other: &Self) -> bool {
            Rc::ptr_eq(&self.config, &other.config)
        }
    }

    impl Fake {
        fn new(config: TargetConfig) -> Self {
            Self { identity: config.address.endpoint.identity(), config: Rc::new(config), reached: None }
        }
    }

    fn endpoint(host: &str) -> Endpoint {
        Endpoint::Tcp(host.to_owned(), 6379).normal()
    }

    /// Configuration of a target; `slots` stands for any setting that may change.
    fn config(name: &str, host: &str, slots: usize, origin: TargetOrigin) -> TargetConfig {
        let mut config = CONFIG.targets[0].clone();
        config.address.endpoint = endpoint(host);
        TargetConfig { name: name.into(), max_scripts: slots, origin, ..config }
    }

    fn discovered(entry: &str, host: &str, slots: usize) -> TargetConfig {
        let allow = Arc::new(CONFIG.modules["m"].allow.clone());
        // Targets of entry A have only their address as a name, like probed ones.
        let name =
            if entry == "A" { endpoint(host).to_string() } else { format!("{entry}/{}", endpoint(host)) };
        config(&name, host, slots, TargetOrigin::Discovered { entry: entry.into(), allow })
    }

    fn probed(host: &str) -> TargetConfig {
        let module = Arc::clone(&CONFIG.modules["m"]);
        config(&endpoint(host).to_string(), host, 1, TargetOrigin::Probed { module })
    }

    /// Step that changes the model.
    #[derive(Debug, Clone)]
    enum Step {
        /// The configuration contains these hosts, with unrelated names, and this setting.
        Reload(Vec<(u8, &'static str)>, usize),
        /// An entry finds these hosts.
        Find(usize, BTreeSet<&'static str>),
        Probe(&'static str),
        EndProbe(&'static str),
        /// The target at this position connects to this server, which is up if the flag is true.
        Reach(prop::sample::Index, u8, bool),
    }

    fn host() -> impl Strategy<Value = &'static str> {
        prop::sample::select(HOSTS.concat())
    }

    fn step() -> impl Strategy<Value = Step> {
        let targets = prop::collection::vec((0..3_u8, host()), 0..4);
        prop_oneof![
            1 => (targets, 1..3_usize).prop_map(|(targets, slots)| Step::Reload(targets, slots)),
            2 => (0..2_usize, prop::collection::btree_set(host(), 0..5))
                .prop_map(|(entry, hosts)| Step::Find(entry, hosts)),
            1 => host().prop_map(Step::Probe),
            1 => host().prop_map(Step::EndProbe),
            4 => (any::<prop::sample::Index>(), 0..2_u8, prop::bool::weighted(0.8))
                .prop_map(|(index, server, up)| Step::Reach(index, server, up)),
        ]
    }

    /// A fleet without I/O.
    #[derive(Default)]
    struct Model {
        targets: Vec<Fake>,
        aliases: Aliases,
        configured: Vec<TargetConfig>,
        found: [BTreeSet<&'static str>; 2],
        slots: usize,
        probed: Vec<Fake>,
    }

    const MAX_DISCOVERED: usize = 3;
    const MAX_PROBED: usize = 2;

    impl Model {
        fn wanted(&self) -> Vec<TargetConfig> {
            let of_entry = |(entry, hosts): (&&str, &BTreeSet<&'static str>)| {
                // As in the fleet: one target per canonical form, in the order of the endpoints.
                let endpoints: BTreeSet<Endpoint> = hosts.iter().map(|host| endpoint(host)).collect();
                let host = |endpoint| match endpoint {
                    Endpoint::Tcp(host, _) => host,
                    Endpoint::Unix(_) => String::new(),
                };
                let hosts: Vec<String> = endpoints.into_iter().map(host).collect();
                hosts.iter().map(|host| discovered(entry, host, self.slots)).collect::<Vec<_>>()
            };
            ENTRIES.iter().zip(&self.found).flat_map(of_entry).collect()
        }

        fn apply(&mut self, step: &Step) {
            match step {
                Step::Reload(targets, slots) => {
                    let mut names = HashSet::new();
                    let unique = targets.iter().filter(|(name, _)| names.insert(*name));
                    // A configured name may be the same as that of a probed or discovered target.
                    let name = |number: u8| ["own", "10.0.0.1:6379", "h1:6379"][usize::from(number)];
                    let configs = unique
                        .map(|(number, host)| config(name(*number), host, *slots, TargetOrigin::Configured));
                    (self.configured, self.slots) = (configs.collect(), *slots);
                }
                Step::Find(entry, hosts) => self.found[*entry].clone_from(hosts),
                Step::Probe(host) => self.probed.push(Fake::new(probed(host))),
                Step::EndProbe(host) => {
                    self.probed.retain(|handle| handle.config.name != probed(host).name);
                }
                Step::Reach(index, server, up) => {
                    if !self.targets.is_empty() {
                        let handle = index.get(&self.targets).config.clone();
                        let reached = PeerIdentity {
                            socket: SocketAddr::new([10, 0, 0, *server].into(), 6379),
                            is_local: false,
                            tls: false,
                            run_id: Some(server.to_string()),
                        };
                        let same = self.targets.iter_mut().find(|one| Rc::ptr_eq(&one.config, &handle));
                        same.unwrap().reached = Some((reached, *up));
                    }
                }
            }
        }

        /// Selects and composes; returns what changed, and the discovered servers that are not watched.
        fn update(&mut self) -> (Changes<Fake>, Vec<Rejected>) {
            let current = self.targets.clone();
            let configured = self.configured.iter().map(Cow::Borrowed).collect();
            let wanted = self.wanted();
            let wanted = wanted.iter().map(Cow::Borrowed).collect();
            let selection = select(&current, configured, wanted, &mut self.aliases, MAX_DISCOVERED);
            let prepare = |choices: Vec<Choice<Fake>>| {
                let handle = |choice| match choice {
                    Choice::Keep(handle) => handle,
                    Choice::Prepare(config) => Fake::new(*config),
                };
                choices.into_iter().map(handle).collect::<Vec<_>>()
            };
            let (configured, discovered) = (prepare(selection.configured), prepare(selection.discovered));
            let changes = compose(&current, configured, discovered, self.probed.clone(), MAX_PROBED);
            self.targets.clone_from(&changes.targets);
            self.probed = self.targets.iter().filter(|handle| is_probed(handle)).cloned().collect();
            (changes, selection.rejected)
        }
    }

    fn is_probed(handle: &Fake) -> bool {
        handle.config.module().is_some()
    }

    fn is_configured(handle: &Fake) -> bool {
        handle.config.origin == TargetOrigin::Configured
    }

    fn is_discovered(handle: &Fake) -> bool {
        handle.config.discovered_by().is_some()
    }

    proptest! {
        /// Checks the invariants after any sequence of reloads, rounds of discovery, probes and connections.
        #[test]
        fn any_sequence_of_changes_gives_a_consistent_list_of_targets(steps in prop::collection::vec(step(), 1..20)) {
            let mut model = Model { slots: 1, ..Model::default() };
            for step in &steps {
                let before = model.targets.clone();
                model.apply(step);
                let reached = model.targets.clone();
                let (changes, rejected) = model.update();
                let targets = &changes.targets;

                // Names are unique, and so are the addresses of discovered targets and of probed targets.
                let names: HashSet<&str> = targets.iter().map(|one| &*one.config.name).collect();
                prop_assert_eq!(names.len(), targets.len(), "{:?}", targets);
                for kind in [is_discovered, is_probed] {
                    let mut addresses = HashSet::new();
                    prop_assert!(targets.iter().filter(|one| kind(one)).all(|one| addresses.insert(&one.identity)));
                }

                // Configured targets come first, in their order, and none is missing.
                let order: Vec<&TargetConfig> = targets.iter().map(|one| &*one.config).collect();
                prop_assert!(order.len() >= model.configured.len());
                prop_assert!(order.iter().zip(&model.configured).all(|(one, wanted)| *one == wanted));
                // They are followed by discovered targets, by entry and endpoint, and then by probed ones.
                let rank = |one: &&TargetConfig| match &one.origin {
                    TargetOrigin::Configured => (0, None, None),
                    TargetOrigin::Discovered { entry, .. } => {
                        (1, Some(Arc::clone(entry)), Some(one.address.endpoint.clone()))
                    }
                    TargetOrigin::Probed { .. } => (2, None, None),
                };
                prop_assert!(order.is_sorted_by_key(rank), "{:?}", order);

                // Precedence: no discovered target has the address of a configured one.
                for one in targets.iter().filter(|one| is_discovered(one)) {
                    prop_assert!(!targets.iter().any(|other| is_configured(other) && other.identity == one.identity));
                }
                // Each discovered server is either watched or rejected.
                let discovered = targets.iter().filter(|one| is_discovered(one)).count();
                prop_assert_eq!(discovered + rejected.len(), model.wanted().len());
                // A duplicate names a target that is watched.
                for one in &rejected {
                    if let Rejection::Duplicate(name) = &one.reason {
                        prop_assert!(names.contains(&**name), "{:?}", one);
                    }
                }
                // Limits.
                prop_assert!(discovered <= MAX_DISCOVERED);
                prop_assert!(targets.iter().filter(|one| is_probed(one)).count() <= MAX_PROBED);

                // An unchanged target keeps its handle.
                for old in &before {
                    for new in targets.iter().filter(|new| *new.config == *old.config) {
                        prop_assert!(new.is(old), "{:?}", new);
                    }
                }
                // The changes account for every target before and after the update.
                let replaced = changes.replaced.len();
                prop_assert_eq!(changes.kept + replaced + changes.started.len(), targets.len());
                prop_assert_eq!(changes.kept + replaced + changes.ended.len(), before.len());
                for Replaced { old, new } in &changes.replaced {
                    prop_assert_eq!(&old.config.name, &new.config.name);
                    prop_assert_eq!(&old.config.address.endpoint, &new.config.address.endpoint);
                }
                // No two targets that are up and were reached before are the same server, unless both are configured.
                let up: Vec<(&Fake, &PeerIdentity)> = targets
                    .iter()
                    .filter(|one| !is_probed(one) && reached.iter().any(|old| old.is(one)))
                    .filter_map(|one| one.reached.as_ref().filter(|(_, up)| *up).map(|(reached, _)| (one, reached)))
                    .collect();
                for (position, (one, server)) in up.iter().enumerate() {
                    for (other, _) in up.iter().skip(position + 1).filter(|(_, other)| other == server) {
                        prop_assert!(is_configured(one) && is_configured(other), "{:?} {:?}", one, other);
                    }
                }

                // A second update without a new step changes nothing.
                let (again, _) = model.update();
                prop_assert!(!again.differs_from(&changes.targets));
                prop_assert_eq!((again.started.len(), again.ended.len(), again.replaced.len()), (0, 0, 0));
            }
        }
    }

    fn model(configured: &[(&str, &str)], found: [&[&'static str]; 2]) -> Model {
        let configured =
            configured.iter().map(|(name, host)| config(name, host, 1, TargetOrigin::Configured));
        let found = found.map(|hosts| hosts.iter().copied().collect());
        Model { configured: configured.collect(), found, slots: 1, ..Model::default() }
    }

    fn names(model: &Model) -> Vec<&str> {
        model.targets.iter().map(|handle| &*handle.config.name).collect()
    }

    #[test]
    fn a_configured_target_takes_over_from_a_discovered_and_a_probed_one() {
        let mut model = model(&[], [&["h1"], &[]]);
        model.apply(&Step::Probe("h2"));
        model.update();
        assert_eq!(names(&model), ["h1:6379", "h2:6379"]);
        model.configured = ["h2", "h1"]
            .map(|host| config(&format!("{host}:6379"), host, 1, TargetOrigin::Configured))
            .into();
        let (changes, rejected) = model.update();
        assert_eq!(names(&model), ["h2:6379", "h1:6379"]);
        assert_eq!((changes.replaced.len(), changes.started.len(), changes.ended.len()), (2, 0, 0));
        assert_eq!(rejected[0].reason, Rejection::Duplicate("h1:6379".into()));
    }

    #[test]
    fn the_entry_that_has_a_server_keeps_it() {
        let mut model = model(&[], [&[], &["h1"]]);
        model.update();
        model.apply(&Step::Find(0, ["h1", "h2"].into()));
        model.update();
        assert_eq!(names(&model), ["h2:6379", "B/h1:6379"]);
        model.apply(&Step::Find(1, BTreeSet::new()));
        model.update();
        assert_eq!(names(&model), ["h1:6379", "h2:6379"]);
    }

    #[test]
    fn another_address_under_one_name_is_another_target() {
        let mut model = model(&[("own", "h1")], [&[], &[]]);
        model.update();
        model.configured = vec![config("own", "h2", 1, TargetOrigin::Configured)];
        let (changes, _) = model.update();
        assert_eq!((changes.replaced.len(), changes.started.len(), changes.ended.len()), (0, 1, 1));
    }

    #[test]
    fn limits_end_no_target_that_is_watched() {
        let mut model = model(&[], [&[], &["10.0.0.1", "h1", "h2"]]);
        for host in ["h1", "localhost", "h2"] {
            model.apply(&Step::Probe(host));
        }
        model.update();
        let before = ["B/10.0.0.1:6379", "B/h1:6379", "B/h2:6379", "h1:6379", "localhost:6379"];
        assert_eq!(names(&model), before);
        model.apply(&Step::Find(0, ["127.0.0.1"].into()));
        let (_, rejected) = model.update();
        assert_eq!(names(&model), before);
        assert_eq!(rejected[0].reason, Rejection::Limit);
    }
}
