//! Targets requested by clients of `/probe`.
//!
//! A client chooses only the address; the credentials and the permitted addresses come from the module. The exporter never
//! connects to an address that the module does not admit. This is checked when the target is started and again at every
//! connect, because a name may resolve to another address later.

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

/// Module of a probe that does not specify one.
const DEFAULT_MODULE: &str = "default";

/// Maximum time that the first probe of a target waits for its numbers.
const FIRST_WAIT: Duration = Duration::from_millis(1500);

/// Interval between checks for the first numbers.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Time limit for resolving a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum length of a host name.
const MAX_HOST: usize = 253;

/// Maximum number of refused addresses that are logged.
const MAX_LOGGED: usize = 1000;

/// Number of checks for idle targets within the idle timeout.
const CHECKS_PER_TIMEOUT: u32 = 20;

/// Reason why a probe has no target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// The parameter `target` is invalid.
    #[error("target {0}")]
    Target(String),
    /// The module does not exist.
    #[error("the configuration file has no module {0:?}; name one with the parameter module")]
    Module(String),
    /// The module does not admit the address.
    #[error("the module's allow list does not admit this target")]
    Forbidden,
    /// The address is watched with other settings.
    #[error("this address is already watched with another module or scheme")]
    Taken,
    /// The maximum number of probed targets is reached.
    #[error("there are {0} probed targets, as many as --probe.max-targets allows")]
    Full(usize),
    /// The module's certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The exporter is stopping.
    #[error("the target was not started: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Starts probed targets, and ends idle ones.
#[derive(Debug)]
pub(crate) struct Probes {
    fleet: Arc<Fleet>,
    limits: ProbeLimits,
    /// Modules by name. Locked for writing while a reload replaces the targets.
    modules: RwLock<Modules>,
    /// Time of the last probe of each target.
    probed_at: Mutex<HashMap<Arc<str>, Mono>>,
    /// Refused addresses that were logged.
    logged: Mutex<BTreeSet<String>>,
}

impl Probes {
    /// Creates probes with these modules.
    ///
    /// # Errors
    /// A certificate or key of a module can't be used.
    pub(crate) fn new(fleet: Arc<Fleet>, modules: Modules, limits: ProbeLimits) -> Result<Self, TlsError> {
        fleet.check_modules(&modules)?;
        Ok(Self {
            fleet,
            limits,
            modules: RwLock::new(modules),
            probed_at: Mutex::default(),
            logged: Mutex::default(),
        })
    }

    /// Carries out a plan and replaces the modules. Probed targets of unchanged modules stay.
    pub(crate) fn replace(&self, mut modules: Modules, plan: Plan<'_>) -> ReloadSummary {
        let mut now = self.modules.write();
        for (name, module) in &mut modules {
            if let Some(same) = now.get(name).filter(|before| *before == module) {
                *module = Arc::clone(same);
            }
        }
        *now = modules;
        self.logged.lock().clear();
        self.fleet.carry_out(plan, &now)
    }

    /// Returns the target that a client requests, and starts it if it is new. Waits up to [`FIRST_WAIT`] for the numbers of a
    /// new target.
    ///
    /// # Errors
    /// The reason why it is not watched.
    pub(crate) async fn target(
        &self,
        text: &str,
        module: Option<&str>,
    ) -> Result<Arc<TargetHandle>, ProbeError> {
        if let Some(handle) = self.fleet.find(text).filter(|handle| !handle.is_probed()) {
            return Ok(handle);
        }
        let name = module.unwrap_or(DEFAULT_MODULE);
        let module = self.module(name).ok_or_else(|| ProbeError::Module(shown(name)))?;
        let address = address(text, &module).map_err(ProbeError::Target)?;
        let config = module.target(address);
        if let Some(handle) = self.fleet.find(&config.name) {
            return Ok(with_numbers(self.reuse(handle, &config)?).await);
        }
        let admitted = match &config.address.endpoint {
            Endpoint::Tcp(host, port) => self.admits(&module, host, *port).await,
            Endpoint::Unix(_) => None,
        };
        let Some(sockets) = admitted else {
            self.log_refused(&config.name, &module.name);
            return Err(ProbeError::Forbidden);
        };
        if let Some(handle) = self.watched_at(&config, &sockets) {
            return Ok(with_numbers(self.reuse(handle, &config)?).await);
        }
        let fleet = Arc::clone(&self.fleet);
        let wanted = config.clone();
        // The certificates are cached: they were read with the configuration.
        let handle = tokio::task::spawn_blocking(move || fleet.prepare(wanted)).await??;
        let added = {
            let modules = self.modules.read();
            if !modules.get(&module.name).is_some_and(|now| Arc::ptr_eq(now, &module)) {
                return Err(ProbeError::Module(shown(name)));
            }
            // Held during both steps. Otherwise, `run` could end the target between them, because no probe of it is recorded yet.
            let mut probed_at = self.probed_at.lock();
            let added = self.fleet.add_probed(&handle, self.limits.max_targets);
            if added.is_some() {
                probed_at.insert(Arc::clone(&config.name), self.fleet.clock().now().mono);
            }
            added
        };
        let added = added.ok_or(ProbeError::Full(self.limits.max_targets))?;
        if Arc::ptr_eq(&added, &handle) {
            info!(target = added.name(), module = module.name, "target started by a probe");
        }
        Ok(with_numbers(self.reuse(added, &config)?).await)
    }

    /// Records a probe of a target that is already watched at the address.
    ///
    /// # Errors
    /// The target is a probed one, and its settings differ from those of `config`.
    fn reuse(
        &self,
        handle: Arc<TargetHandle>,
        config: &TargetConfig,
    ) -> Result<Arc<TargetHandle>, ProbeError> {
        let watched = handle.config();
        let mut config = TargetConfig { name: Arc::clone(&watched.name), ..config.clone() };
        config.address.endpoint.clone_from(&watched.address.endpoint);
        if handle.is_probed() && *watched != config {
            return Err(ProbeError::Taken);
        }
        self.touch(&config.name);
        Ok(handle)
    }

    /// Returns the probed target at the address in another form, or the one that is connected to the only socket that the
    /// name resolves to.
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
        self.probed_at.lock().insert(Arc::clone(name), now);
    }

    /// Returns the sockets that the host is known to resolve to; `None` if the module does not admit the address.
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
            // The resolver returns each address once per socket type.
            sockets.collect::<BTreeSet<_>>().into_iter().collect()
        })
    }

    /// Logs a refused address, once.
    fn log_refused(&self, target: &str, module: &str) {
        let mut logged = self.logged.lock();
        if logged.len() < MAX_LOGGED && logged.insert(target.to_owned()) {
            warn!(target, module, "probe refused: the module's allow list does not admit this target");
            if logged.len() == MAX_LOGGED {
                warn!("further refused targets are not logged");
            }
        }
    }

    /// Ends idle targets until `stop` is cancelled.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let idle = self.limits.idle_timeout;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(idle / CHECKS_PER_TIMEOUT) => {}
            }
            let now = self.fleet.clock().now().mono;
            let mut probed_at = self.probed_at.lock();
            let over = |name: &str| probed_at.get(name).is_none_or(|last| now.since(*last) >= idle);
            self.fleet.end_probed(|handle| {
                let over = over(handle.name());
                if over {
                    info!(target = handle.name(), "target ended: no longer probed");
                }
                over
            });
            probed_at.retain(|_, last| now.since(*last) < idle);
        }
    }
}

/// Waits up to [`FIRST_WAIT`] for the first numbers of a target that has not been tried yet.
async fn with_numbers(handle: Arc<TargetHandle>) -> Arc<TargetHandle> {
    let tried = handle.numbers().liveness().state().is_tried();
    if !tried {
        let _ = timeout(FIRST_WAIT, first_numbers(&handle)).await;
    }
    handle
}

/// Waits for the first numbers of a target's slow log, or for a state that explains their absence.
async fn first_numbers(handle: &TargetHandle) {
    let known = || {
        let numbers = handle.numbers();
        let exporter = numbers.exporter();
        // INFO and SLOWLOG have been answered.
        let answered = exporter.successes + exporter.failures >= 2;
        numbers.liveness().state().is_tried() && (*numbers.liveness().state() != State::Ok || answered)
    };
    while !known() {
        sleep(FIRST_PAUSE).await;
    }
}

/// Parses the address of a probe. An error does not repeat the address.
fn address(text: &str, module: &Module) -> Result<Address, String> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("contains characters that are invalid in an address".to_owned());
    }
    let (mut address, credentials) = Address::parse(text)?;
    if credentials.user.is_some() || credentials.password.is_some() {
        return Err("has credentials: they belong in the module".to_owned());
    }
    if address.insecure {
        return Err("must not have #insecure: it belongs in the module".to_owned());
    }
    let Endpoint::Tcp(host, port) = &address.endpoint else {
        return Err("must be a host and a port".to_owned());
    };
    let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    if host.is_empty() || host.len() > MAX_HOST || !plain || *port == 0 {
        return Err("is not a host name or address with a port from 1 to 65535".to_owned());
    }
    // All forms of an address become the same name.
    address.endpoint = address.endpoint.normal();
    let scheme = text.trim_start().split_once("://").map(|(scheme, _)| scheme);
    if module.tls.is_some() && !address.tls && scheme.is_some() {
        return Err("does not use TLS, but the module does: start it with rediss://".to_owned());
    }
    Ok(address)
}

/// Returns the name of a module for an error: at most 40 printable characters, because it comes from a client.
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
    fn a_server_has_one_name_and_its_module_decides_on_tls() {
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
    fn errors_about_a_target_never_repeat_its_text() {
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
