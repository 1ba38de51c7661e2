//! Targets that are watched because somebody asks `/probe` for them.
//!
//! Who asks decides nothing but the address: what may be connected to, with which credentials, is the module's. An address
//! that the module does not admit is never connected to. That is looked at when the target is started, and again at every
//! connect, since a name may lead elsewhere later.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::blocking::{self, PROBED_NAMES};
use crate::client::TlsError;
use crate::clock::Mono;
use crate::config::{Address, Endpoint, Module, Modules, ProbeLimits, TargetConfig};
use crate::fleet::Fleet;
use crate::fleet::update::{Plan, ReloadSummary};
use crate::poll::TargetHandle;
use crate::watch::State;

/// The module of a probe that names none.
const DEFAULT_MODULE: &str = "default";

/// How long the first probe of a target waits for its numbers.
const FIRST_WAIT: Duration = Duration::from_millis(1500);

/// How often it looks for them meanwhile.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest name of a host.
const MAX_HOST: usize = 253;

/// Refused addresses that are told; more are not.
const MAX_TOLD: usize = 1000;

/// How often idle targets are looked for: at least so many times within the timeout.
const LOOKS_PER_TIMEOUT: u32 = 20;

/// Why a probe is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// The target is no address that could be probed.
    #[error("target {0}")]
    Target(String),
    /// No such module.
    #[error("the configuration file has no module {0:?}; name one by the parameter module")]
    Module(String),
    /// Not admitted.
    #[error("the module's allow list does not admit this target")]
    Forbidden,
    /// It is watched, but as a target of something else.
    #[error("this address is watched already, with another module or another scheme")]
    Taken,
    /// As many targets as there may be.
    #[error("there are {0} probed targets, as many as --probe.max-targets allows")]
    Full(usize),
    /// The module's certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The exporter is about to stop.
    #[error("the target was not started: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Starts and ends the targets of probes.
#[derive(Debug)]
pub(crate) struct Probes {
    fleet: Arc<Fleet>,
    limits: ProbeLimits,
    /// Held for writing while the targets of another configuration are put in place.
    modules: RwLock<Modules>,
    /// When each target was last probed.
    probed: Mutex<HashMap<Arc<str>, Mono>>,
    /// Addresses whose refusal was told.
    told: Mutex<BTreeSet<String>>,
}

impl Probes {
    /// Probes with these modules.
    ///
    /// # Errors
    /// TLS files of a module that can't be used.
    pub(crate) fn new(fleet: Arc<Fleet>, modules: Modules, limits: ProbeLimits) -> Result<Self, TlsError> {
        fleet.check_modules(&modules)?;
        Ok(Self {
            fleet,
            limits,
            modules: RwLock::new(modules),
            probed: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// Carries out a plan, with these modules from now on. Targets of modules that are the same stay.
    pub(crate) fn replace(&self, mut modules: Modules, plan: Plan<'_>) -> ReloadSummary {
        let mut now = self.modules.write();
        for (name, module) in &mut modules {
            if let Some(same) = now.get(name).filter(|before| *before == module) {
                *module = Arc::clone(same);
            }
        }
        *now = modules;
        self.told.lock().clear();
        self.fleet.carry_out(plan, &now)
    }

    /// The target that is asked for, watched. The first time it is waited for, but not for long.
    ///
    /// # Errors
    /// Why it is not watched.
    pub(crate) async fn target(
        &self,
        text: &str,
        module: Option<&str>,
    ) -> Result<Arc<TargetHandle>, ProbeError> {
        if let Some(watched) = self.fleet.find(text).filter(|watched| !watched.is_probed()) {
            return Ok(watched);
        }
        let name = module.unwrap_or(DEFAULT_MODULE);
        let module = self.module(name).ok_or_else(|| ProbeError::Module(shown(name)))?;
        let address = address(text, &module).map_err(ProbeError::Target)?;
        let config = module.target(address);
        if let Some(watched) = self.fleet.find(&config.name) {
            return Ok(known(self.same(watched, &config)?).await);
        }
        let admitted = match &config.address.endpoint {
            Endpoint::Tcp(host, port) => self.admits(&module, host, *port).await,
            Endpoint::Unix(_) => None,
        };
        let Some(sockets) = admitted else {
            self.tell(&config.name, &module.name);
            return Err(ProbeError::Forbidden);
        };
        if let Some(watched) = self.watched_at(&config, &sockets) {
            return Ok(known(self.same(watched, &config)?).await);
        }
        let fleet = Arc::clone(&self.fleet);
        let wanted = config.clone();
        // Its certificates were read with the configuration.
        let watched = tokio::task::spawn_blocking(move || fleet.prepare(wanted)).await??;
        let added = {
            let modules = self.modules.read();
            if !modules.get(&module.name).is_some_and(|now| Arc::ptr_eq(now, &module)) {
                return Err(ProbeError::Module(shown(name)));
            }
            // Held over both, so that it does not end for never having been probed.
            let mut probed = self.probed.lock();
            let added = self.fleet.add_probed(&watched, self.limits.max_targets);
            if added.is_some() {
                probed.insert(Arc::clone(&config.name), self.fleet.clock().now().mono);
            }
            added
        };
        let added = added.ok_or(ProbeError::Full(self.limits.max_targets))?;
        if Arc::ptr_eq(&added, &watched) {
            info!(target = added.name(), module = module.name, "probed for the first time");
        }
        Ok(known(self.same(added, &config)?).await)
    }

    /// The target that is watched under the name or at the address, if it is asked in the way that is asked for.
    fn same(
        &self,
        watched: Arc<TargetHandle>,
        config: &TargetConfig,
    ) -> Result<Arc<TargetHandle>, ProbeError> {
        let known = watched.config();
        let mut config = TargetConfig { name: Arc::clone(&known.name), ..config.clone() };
        config.address.endpoint.clone_from(&known.address.endpoint);
        if watched.is_probed() && *known != config {
            return Err(ProbeError::Taken);
        }
        self.touch(&config.name);
        Ok(watched)
    }

    /// The target of another name that is watched at this address: in another spelling, or by the only socket that the
    /// name leads to.
    fn watched_at(&self, config: &TargetConfig, sockets: &[SocketAddr]) -> Option<Arc<TargetHandle>> {
        self.fleet.find_probed(&config.address.endpoint).or_else(|| match sockets {
            [socket] if !config.address.tls => self.fleet.find_probed_by_socket(*socket),
            _ => None,
        })
    }

    fn module(&self, name: &str) -> Option<Arc<Module>> {
        self.modules.read().get(name).cloned()
    }

    fn touch(&self, name: &Arc<str>) {
        let now = self.fleet.clock().now().mono;
        self.probed.lock().insert(Arc::clone(name), now);
    }

    /// The sockets that a target leads to as far as they are known, if the module admits it.
    async fn admits(&self, module: &Module, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let literal = host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, port));
        if module.allow.admits_name(host, port) {
            return Some(literal.into_iter().collect());
        }
        if let Some(socket) = literal {
            return module.allow.admits_address(socket.ip(), port).then(|| vec![socket]);
        }
        if !module.allow.admits_addresses(port) {
            return None;
        }
        let found = blocking::resolve(&PROBED_NAMES, host, port, RESOLVE_TIMEOUT).await.ok()?;
        found.iter().any(|one| module.allow.admits_address(one.ip(), port)).then(|| {
            let sockets = found.into_iter().map(|one| SocketAddr::new(one.ip().to_canonical(), port));
            // The resolver gives one for each kind of socket.
            sockets.collect::<BTreeSet<_>>().into_iter().collect()
        })
    }

    /// Tells of a refused address, once.
    fn tell(&self, target: &str, module: &str) {
        let mut told = self.told.lock();
        if told.len() < MAX_TOLD && told.insert(target.to_owned()) {
            warn!(target, module, "probe refused: the module's allow list does not admit this target");
            if told.len() == MAX_TOLD {
                warn!("more refused targets are not told of");
            }
        }
    }

    /// Ends targets that are no longer probed, until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let idle = self.limits.idle_timeout;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(idle / LOOKS_PER_TIMEOUT) => {}
            }
            let now = self.fleet.clock().now().mono;
            let mut probed = self.probed.lock();
            let over = |name: &str| probed.get(name).is_none_or(|last| now.since(*last) >= idle);
            self.fleet.end_probed(|watched| {
                let over = over(watched.name());
                if over {
                    info!(target = watched.name(), "no longer probed, no longer watched");
                }
                over
            });
            probed.retain(|_, last| now.since(*last) < idle);
        }
    }
}

/// Waits for the first numbers of a target that was not tried yet, but not for long.
async fn known(watched: Arc<TargetHandle>) -> Arc<TargetHandle> {
    let tried = watched.numbers().liveness().state().is_tried();
    if !tried {
        let _ = timeout(FIRST_WAIT, first_numbers(&watched)).await;
    }
    watched
}

/// Waits until there is something to tell of a target: the first numbers of its slow log, or why there are none.
async fn first_numbers(watched: &TargetHandle) {
    let known = || {
        let numbers = watched.numbers();
        let exporter = numbers.exporter();
        // INFO, then the slow log.
        let answered = exporter.poll_duration.count() + exporter.failures.values().sum::<u64>() >= 2;
        numbers.liveness().state().is_tried() && (*numbers.liveness().state() != State::Ok || answered)
    };
    while !known() {
        sleep(FIRST_PAUSE).await;
    }
}

/// The address of a probe, or what is wrong with it. The words never repeat it.
fn address(text: &str, module: &Module) -> Result<Address, String> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("holds characters that no address has".to_owned());
    }
    let (mut address, credentials) = Address::parse(text)?;
    if credentials.user.is_some() || credentials.password.is_some() {
        return Err("holds credentials: they belong into the module".to_owned());
    }
    if address.insecure {
        return Err("can't have #insecure: it belongs into the module".to_owned());
    }
    let Endpoint::Tcp(host, port) = &address.endpoint else {
        return Err("must be a host and a port".to_owned());
    };
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    if host.is_empty() || host.len() > MAX_HOST || !plain || *port == 0 {
        return Err("is no host name or address with a port from 1 on".to_owned());
    }
    // One name for one server.
    address.endpoint = address.endpoint.normal();
    let scheme = text.trim_start().split_once("://").map(|(scheme, _)| scheme);
    if module.tls.is_some() && !address.tls && scheme.is_some() {
        return Err("is to be asked without TLS, and the module has TLS: begin with rediss://".to_owned());
    }
    Ok(address)
}

/// The name of a module as it may be shown: it comes from whoever asks.
fn shown(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::config::Config;

    /// The modules `plain` and `tls`, which admit everything.
    fn modules() -> Modules {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        let text = "modules: {plain: {allow: ['*:*']}, tls: {allow: ['*:*'], tls: {insecure: true}}}";
        std::fs::write(&path, text).unwrap();
        let words = ["redis-script-exporter", "--config.file", path.to_str().unwrap()];
        Config::from_cli(&Cli::parse_words(words, |_| None).unwrap()).unwrap().modules
    }

    #[test]
    fn one_server_has_one_name_and_its_module_says_how_it_is_asked() {
        let modules = modules();
        for (text, module, name, tls) in [
            ("Cache.Internal.:7000", "plain", "cache.internal:7000", false),
            ("cache", "plain", "cache:6379", false),
            ("redis://cache/3", "plain", "cache:6379", false),
            ("rediss://cache", "plain", "cache:6379", true),
            ("[FD00::1]:1", "plain", "[fd00::1]:1", false),
            ("cache", "tls", "cache:6379", true),
            ("valkeys://cache", "tls", "cache:6379", true),
        ] {
            let module = &modules[module];
            let config = module.target(address(text, module).unwrap());
            assert_eq!((&*config.name, config.address.tls), (name, tls), "{text}");
            assert!(config.module().is_some());
        }
    }

    #[test]
    fn what_is_wrong_with_a_target_is_never_repeated() {
        let modules = modules();
        for (text, module) in [
            ("redis://sesame:x@a", "plain"),
            ("redis://:sesame@a", "plain"),
            ("sesame@a:1", "plain"),
            ("rediss://sesame#insecure", "plain"),
            ("unix:///sesame", "plain"),
            ("sesame\n:1", "plain"),
            (" sesame:1", "plain"),
            ("ses%61me:1", "plain"),
            ("sesame$:1", "plain"),
            ("sesame:0", "plain"),
            ("redis://sesame:1", "tls"),
        ] {
            let error = address(text, &modules[module]).unwrap_err();
            assert!(!error.contains("ses"), "{text}: {error}");
        }
    }
}
