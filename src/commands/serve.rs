//! The exporter: watches the targets and serves their metrics until SIGINT or SIGTERM.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{CommandError, descriptors, runtime};
use crate::cli::{Cli, ignored_variables};
use crate::client::set_reply_budget;
use crate::clock::Clock;
use crate::config::{Config, ListenAddress, WebConfig, load_scripts};
use crate::files;
use crate::fleet::probes::Probes;
use crate::fleet::reload::Reloader;
use crate::fleet::supervisor::{Supervisor, UnexpectedEnd};
use crate::fleet::{Fleet, Persistence, discovery};
use crate::logging;
use crate::notify::Notifier;
use crate::web::{self, WebAuth};

/// Maximum time for tasks to end after cancellation.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// File with the host name of this machine, on Linux.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Maximum size of that file, in bytes.
const MAX_HOST_NAME: u64 = 1 << 10;

/// Runs the exporter until a signal stops it.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, CommandError> {
    let config = Config::from_cli(&cli).map_err(CommandError::usage)?;
    logging::start(cli.log_level, cli.log_format).map_err(CommandError::other)?;
    for warning in ignored_variables(|name| std::env::var(name).ok()) {
        warn!("{warning}");
    }
    let runtime = runtime()?;
    let result = runtime.block_on(start(cli, config));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    result.map(|()| ExitCode::SUCCESS)
}

/// Binds the listeners, then serves.
async fn start(cli: Cli, config: Config) -> Result<(), CommandError> {
    let hangup = signal(SignalKind::hangup())
        .map_err(|error| CommandError::other(format!("cannot handle SIGHUP: {error}")))?;
    set_reply_budget(config.reply_memory);
    config.warn_of_writable_files();
    let targets = config.targets.len();
    let names = load_scripts(&config.script_dirs, config.script_bundled).map_err(CommandError::usage)?;
    let clock = Clock::start();
    let hide_clients = config.web.privacy.hide_clients;
    let open = |path| Persistence::open(path, hide_clients, clock);
    let persistence = config.state_file.as_deref().map(open).transpose();
    let persistence = persistence.map_err(CommandError::other)?;
    descriptors::raise_limit(targets);
    let mut fleet = Fleet::new(config.targets, persistence, clock).map_err(CommandError::usage)?;
    fleet.set_shard(config.shard);
    fleet.set_max_heartbeat_rate(config.max_heartbeat_rate);
    if let Some(notify) = config.notify {
        fleet.set_notifier(Notifier::new(notify, instance(&config.web).await, clock));
    }
    fleet.set_catalogue(names);
    if let Some(url) = config.web.external_url.clone() {
        fleet.set_external_url(url);
    }
    fleet.discover(config.discoveries);
    let fleet = Arc::new(fleet);
    let probes =
        Probes::new(Arc::clone(&fleet), config.modules, config.probes).map_err(CommandError::usage)?;
    let auth = WebAuth::load(config.web.config_file.as_deref()).map_err(CommandError::usage)?;
    let listeners =
        if config.web.systemd_socket { passed_listeners()? } else { bind(&config.web.listen).await? };
    info!(version = env!("CARGO_PKG_VERSION"), revision = env!("BUILD_REVISION"), targets, "starting");
    if let Some(shard) = config.shard {
        info!(%shard, targets, in_other_shards = config.in_other_shards, "watching one shard");
    }
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
    }
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    let reloader = Arc::new(Reloader::new(Arc::clone(&fleet), Arc::new(probes), cli));
    tokio::spawn(reload_on_signal(hangup, Arc::clone(&reloader)));
    serve(fleet, reloader, &config.web, auth, listeners, stop).await.map_err(CommandError::other)?;
    info!("stopped");
    Ok(())
}

/// Returns the label `instance` that alerts have until a scrape provides one: the host name of this machine and the port.
async fn instance(web: &WebConfig) -> String {
    let name = files::read_text_async(Path::new(HOST_NAME), MAX_HOST_NAME).await;
    let name = name.ok().or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let name = name.trim();
    let name = if name.is_empty() { "localhost" } else { name };
    let address = web.listen.first().map(ListenAddress::local_address).unwrap_or_default();
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    format!("{name}:{port}")
}

/// Binds the addresses of `--web.listen-address`.
async fn bind(addresses: &[ListenAddress]) -> Result<Vec<TcpListener>, CommandError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let bound = TcpListener::bind(address.to_bind()).await;
        let listener = bound.map_err(|error| {
            CommandError::other(format!("--web.listen-address: cannot listen on {address}: {error}"))
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Returns the sockets passed by systemd, or an error if there are none.
fn passed_listeners() -> Result<Vec<TcpListener>, CommandError> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let unusable = |error: std::io::Error| {
            let number = index.saturating_add(1);
            CommandError::usage(format!("--web.systemd-socket: cannot use socket {number}: {error}"))
        };
        let Some(listener) = passed.take_tcp_listener(index).map_err(unusable)? else { continue };
        listener.set_nonblocking(true).map_err(unusable)?;
        listeners.push(TcpListener::from_std(listener).map_err(unusable)?);
    }
    if listeners.is_empty() {
        return Err(CommandError::usage(
            "--web.systemd-socket: no socket was passed; start the exporter with a systemd socket unit, or remove the flag",
        ));
    }
    Ok(listeners)
}

/// Watches the fleet's targets and serves their metrics on `listeners` until `stop`.
///
/// # Errors
/// A task ended unexpectedly.
async fn serve(
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    web: &WebConfig,
    auth: WebAuth,
    listeners: Vec<TcpListener>,
    stop: CancellationToken,
) -> Result<(), UnexpectedEnd> {
    let probes = Arc::clone(reloader.probes());
    let endpoints = web::endpoints(web, Arc::clone(&fleet), reloader);
    let mut supervisor = Supervisor::new(stop.child_token());
    supervisor.start("the HTTP server", |stop| web::serve(listeners, endpoints, Arc::new(auth), stop));
    supervisor.start("the probes", |stop| probes.run(stop));
    supervisor.start("the discovery", |stop| discovery::run(Arc::clone(&fleet), stop));
    if let Some(notifier) = fleet.notifier() {
        let (targets, shared) = (fleet.subscribe(), Arc::clone(fleet.shared()));
        supervisor.start("the notifications", |stop| Arc::clone(notifier).run(targets, shared, stop));
    }
    supervisor.start("the log", |stop| Arc::clone(&fleet).keep_log(stop));
    // Stopped after all other tasks, so that the results of their last reads are saved.
    let mut storage = Supervisor::new(CancellationToken::new());
    if let Some(persistence) = fleet.persistence() {
        storage.start("the state file", |stop| Arc::clone(persistence).run(fleet.subscribe(), stop));
    }
    let mut targets = fleet.subscribe();
    let result = loop {
        let now = Arc::clone(&targets.borrow_and_update());
        supervisor.watch(&now);
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            end = supervisor.unexpected_end() => break Err(end),
            end = storage.unexpected_end() => break Err(end),
            // The sender is part of the fleet, so this cannot fail.
            _ = targets.changed() => {}
        }
    };
    if let Err(error) = &result {
        error!(%error, "a task ended unexpectedly, stopping");
    }
    supervisor.stop().await;
    storage.stop().await;
    fleet.log_omitted(true);
    result
}

/// Cancels `stop` at the first SIGINT or SIGTERM.
async fn stop_on_signal(stop: CancellationToken) {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            info!(signal = name, "stopping");
        }
        (Err(error), _) | (_, Err(error)) => error!(%error, "cannot handle signals, stopping"),
    }
    stop.cancel();
}

/// Reloads the configuration at each SIGHUP.
async fn reload_on_signal(mut hangup: Signal, reloader: Arc<Reloader>) {
    while hangup.recv().await.is_some() {
        // Failures are logged and counted by the reloader.
        let _ = reloader.reload().await;
    }
}
