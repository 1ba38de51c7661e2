//! The program: command line, logging, sockets, signals, exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use redis_script_exporter::cli::{Cli, Command};
use redis_script_exporter::config::Config;
use redis_script_exporter::redis::TlsSetup;
use redis_script_exporter::{RunError, healthcheck, logging, run};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Exit code for wrong flags or a wrong configuration (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Threads that serve HTTP and poll: the work is waiting.
const WORKERS: usize = 2;

/// How long tasks may take to end after they were told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = match Cli::parse_words(std::env::args_os(), |name| std::env::var(name).ok()) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // --help and --version
            return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Err(error) => return complain(EXIT_USAGE, &usage_line(&error)),
    };
    let config = match Config::from_cli(&cli) {
        Ok(config) => config,
        Err(error) => return complain(EXIT_USAGE, &error.to_string()),
    };
    if let Err(error) = logging::start(cli.log_level, cli.log_format) {
        return complain(1, &error.to_string());
    }
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return complain(1, &format!("cannot start: {error}")),
        };
    let result = match cli.command {
        Some(Command::Healthcheck) => {
            runtime.block_on(healthcheck::ask(&config.web)).map_err(|problem| Failed { code: 1, problem })
        }
        None => runtime.block_on(export(config)),
    };
    runtime.shutdown_timeout(STOP_TIMEOUT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => complain(failed.code, &failed.problem),
    }
}

/// What went wrong, and the exit code for it.
struct Failed {
    code: u8,
    problem: String,
}

impl From<RunError> for Failed {
    fn from(error: RunError) -> Self {
        let code = if matches!(error, RunError::Tls(_)) { EXIT_USAGE } else { 1 };
        Self { code, problem: error.to_string() }
    }
}

/// Binds, watches and serves until SIGINT or SIGTERM.
async fn export(config: Config) -> Result<(), Failed> {
    // Files that can't be used are wrong usage: that is said before anything else.
    for target in config.targets.iter().filter(|target| target.address.tls) {
        TlsSetup::new(&target.tls, &target.address.endpoint).map_err(RunError::Tls)?;
    }
    let mut listeners = Vec::with_capacity(config.web.listen.len());
    for address in &config.web.listen {
        let bound = TcpListener::bind(address.to_bind()).await;
        let listener = bound.map_err(|error| Failed {
            code: 1,
            problem: format!("--web.listen-address: cannot listen on {address}: {error}"),
        })?;
        listeners.push(listener);
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        revision = env!("BUILD_REVISION"),
        targets = config.targets.len(),
        "starting"
    );
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
    }
    let stop = CancellationToken::new();
    tokio::spawn(stop_on_signal(stop.clone()));
    run(config, listeners, stop).await?;
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

/// clap's message as one line.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    format!("{} (see --help)", first.strip_prefix("error: ").unwrap_or(first))
}

/// One line on stderr, and the exit code.
fn complain(code: u8, problem: &str) -> ExitCode {
    let line = problem.replace(['\n', '\r'], " ");
    // Where stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "redis-script-exporter: {line}");
    ExitCode::from(code)
}
