//! The program: command line, logging, sockets, signals, exit code.

use std::cell::RefCell;
use std::env::VarError;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use redis_script_exporter::cli::{CheckFlags, Cli, Command};
use redis_script_exporter::clock::Clock;
use redis_script_exporter::commands::{assets, catalogue, check, documents, healthcheck};
use redis_script_exporter::config::{Config, Endpoint, WebConfig, load_scripts};
use redis_script_exporter::fleet::probes::Probes;
use redis_script_exporter::fleet::reload::Reloader;
use redis_script_exporter::fleet::{Fleet, discovery};
use redis_script_exporter::web::Door;
use redis_script_exporter::{lint, logging, run};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Exit code for wrong flags or a wrong configuration (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Threads that serve HTTP and poll: the work is waiting.
const WORKERS: usize = 2;

/// How long tasks may take to end after they were told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(failed) => {
            let line = failed.problem.replace(['\n', '\r'], " ");
            // Where stderr is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "redis-script-exporter: {line}");
            ExitCode::from(failed.code)
        }
    }
}

/// Does what the command line asks for.
fn start() -> Result<ExitCode, Failed> {
    let garbled = RefCell::new(None);
    let words = Cli::parse_words(std::env::args_os(), |name| {
        std::env::var(name)
            .inspect_err(|error| {
                if matches!(error, VarError::NotUnicode(_)) {
                    garbled.replace(Some(name.to_owned()));
                }
            })
            .ok()
    });
    if let Some(name) = garbled.take() {
        return Err(Failed::usage(format!("the environment variable {name} is not valid UTF-8")));
    }
    let cli = match words {
        Ok(cli) => cli,
        // --help and --version
        Err(error) if !error.use_stderr() => return printed(error.print()),
        Err(error) => return Err(Failed::usage(usage_line(&error))),
    };
    match &cli.command {
        Some(Command::Rules) => return printed(assets::print_rules(&mut io::stdout().lock())),
        Some(Command::Dashboards { output }) => {
            return printed(assets::write_dashboards(output, &mut io::stdout().lock()));
        }
        Some(Command::Catalogue(args)) => {
            let (mut out, mut notes) = (io::stdout().lock(), io::stderr().lock());
            let collected = block_on(catalogue::run(&cli, args, &mut out, &mut notes))?;
            return collected
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| if error.is_usage() { Failed::usage(error) } else { Failed::other(error) });
        }
        Some(Command::Healthcheck) => {
            let web = WebConfig::from_cli(&cli).map_err(Failed::usage)?;
            let healthy = block_on(healthcheck::ask(&web))?.map_err(Failed::other);
            return healthy.map(|()| ExitCode::SUCCESS);
        }
        Some(Command::Check(flags)) => {
            let config = Config::from_cli(&cli).map_err(Failed::usage)?;
            if config.targets.is_empty() && config.discoveries.is_empty() {
                return Err(Failed::usage(
                    "--config.file: it names no targets, so there is nothing to check",
                ));
            }
            return check_servers(config, *flags);
        }
        Some(Command::Lint(flags)) => {
            let report = lint::run(flags, &mut io::stdin().lock());
            printed(report.print(flags.format, &mut anstream::stdout().lock()))?;
            return Ok(ExitCode::from(report.exit_code));
        }
        Some(Command::Completions { shell }) => {
            return printed(documents::print_completions(*shell, &mut io::stdout().lock()));
        }
        Some(Command::Man { output: None }) => {
            return printed(documents::print_man_page(&mut io::stdout().lock()));
        }
        Some(Command::Man { output: Some(folder) }) => {
            return printed(documents::write_man_pages(folder, &mut io::stdout().lock()));
        }
        None => {}
    }
    let config = Config::from_cli(&cli).map_err(Failed::usage)?;
    logging::start(cli.log_level, cli.log_format).map_err(Failed::other)?;
    let runtime = runtime()?;
    let result = runtime.block_on(export(cli, config));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    result.map(|()| ExitCode::SUCCESS)
}

/// Checks the servers and prints what was found; the exit code says how bad it is.
fn check_servers(config: Config, flags: CheckFlags) -> Result<ExitCode, Failed> {
    let waiting = move |target: &str| {
        if io::stderr().is_terminal() {
            // Where stderr is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "{}", check::waiting_line(target, flags.timeout));
        }
    };
    let report = block_on(async {
        let Config { mut targets, discoveries, .. } = config;
        let now = Clock::start().now().mono;
        let refused = |entry: &str, server: &Endpoint| {
            // Where stderr is closed there is nobody to tell.
            let _ = writeln!(
                io::stderr(),
                "{entry}: {server} is not checked: allow of the entry does not admit it"
            );
        };
        let found = discovery::find(discoveries, &targets, now, refused).await.map_err(Failed::other)?;
        targets.extend(found);
        check::run(&targets, flags, waiting).await.map_err(Failed::usage)
    })??;
    printed(report.print(flags.format, &mut anstream::stdout().lock()))?;
    Ok(ExitCode::from(report.exit_code))
}

/// Runs a subcommand to its end. What hangs then, a name that does not resolve, is not waited for.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failed> {
    let runtime = runtime()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(result)
}

fn runtime() -> Result<Runtime, Failed> {
    let built = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    built.map_err(|error| Failed::other(format!("cannot start: {error}")))
}

/// What went wrong, and the exit code for it.
struct Failed {
    code: u8,
    problem: String,
}

impl Failed {
    /// Wrong flags or configuration.
    #[expect(clippy::needless_pass_by_value, reason = "map_err hands errors over")]
    fn usage(problem: impl ToString) -> Self {
        Self { code: EXIT_USAGE, problem: problem.to_string() }
    }

    /// Anything else.
    #[expect(clippy::needless_pass_by_value, reason = "map_err hands errors over")]
    fn other(problem: impl ToString) -> Self {
        Self { code: 1, problem: problem.to_string() }
    }
}

/// Binds, watches and serves until SIGINT or SIGTERM.
async fn export(cli: Cli, config: Config) -> Result<(), Failed> {
    let hangup = signal(SignalKind::hangup())
        .map_err(|error| Failed::other(format!("cannot wait for signals: {error}")))?;
    let targets = config.targets.len();
    let names = load_scripts(&config.script_dirs).map_err(Failed::usage)?;
    let fleet =
        Fleet::new(config.targets, config.state_file.as_deref(), Clock::start()).map_err(Failed::usage)?;
    fleet.set_catalogue(names);
    fleet.discover(config.discoveries);
    let fleet = Arc::new(fleet);
    let probes = Probes::new(Arc::clone(&fleet), config.modules, config.probes).map_err(Failed::usage)?;
    let door = Door::open(config.web.config_file.as_deref()).map_err(Failed::usage)?;
    let mut listeners = Vec::with_capacity(config.web.listen.len());
    for address in &config.web.listen {
        let bound = TcpListener::bind(address.to_bind()).await;
        let listener = bound.map_err(|error| {
            Failed::other(format!("--web.listen-address: cannot listen on {address}: {error}"))
        })?;
        listeners.push(listener);
    }
    info!(version = env!("CARGO_PKG_VERSION"), revision = env!("BUILD_REVISION"), targets, "starting");
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
    }
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    let reloader = Arc::new(Reloader::new(Arc::clone(&fleet), Arc::new(probes), cli));
    tokio::spawn(reload_on_signal(hangup, Arc::clone(&reloader)));
    run(fleet, reloader, &config.web, door, listeners, stop).await.map_err(Failed::other)?;
    info!("stopped");
    Ok(())
}

/// Tells everything to stop at the first SIGINT or SIGTERM.
async fn stop_on_signal(stop: CancellationToken) {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            info!(signal = name, "stopping");
        }
        (Err(error), _) | (_, Err(error)) => error!(%error, "cannot wait for signals"),
    }
    stop.cancel();
}

/// Reads the configuration again at each SIGHUP.
async fn reload_on_signal(mut hangup: Signal, reloader: Arc<Reloader>) {
    while hangup.recv().await.is_some() {
        // Told in the log, and in the metrics.
        let _ = reloader.reload().await;
    }
}

/// clap's message as one line. What stands where a flag should is not repeated: it may be an address with a password, or
/// a part of one.
fn usage_line(error: &clap::Error) -> String {
    let stray = match error.get(ContextKind::InvalidArg).or_else(|| error.get(ContextKind::InvalidSubcommand))
    {
        Some(ContextValue::String(word)) => !word.starts_with('-'),
        _ => false,
    };
    if stray && matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        return "there is a value without a flag; an address goes with --redis.addr (see --help)".to_owned();
    }
    let text = error.to_string();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    format!("{} (see --help)", first.strip_prefix("error: ").unwrap_or(first))
}

/// What comes of printing. Who reads it may have seen enough: a closed pipe is no failure.
fn printed(result: io::Result<()>) -> Result<ExitCode, Failed> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failed::other(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
