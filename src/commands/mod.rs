//! Subcommands. `assets` implements `rules` and `dashboards`, and `documents` implements `completions` and `man`. Each of the
//! others has its own file or directory. Without a subcommand, the exporter runs (`serve`).

mod assets;
mod catalogue;
mod check;
mod descriptors;
mod documents;
mod healthcheck;
mod lint;
mod rehearse;
mod serve;

#[cfg(any(fuzzing, test))]
pub(crate) use self::rehearse::fuzz as fuzz_rehearse;

use std::cell::RefCell;
use std::env::VarError;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;

use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, Subcommand, usage_line};
use crate::config::{Config, WebConfig};

/// Exit code for invalid flags or an invalid configuration (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Maximum number of worker threads of the runtime. Few are needed because tasks mostly wait.
const MAX_WORKERS: usize = 2;

/// Error that ends the program, with its exit code.
struct CommandError {
    exit_code: u8,
    message: String,
}

impl CommandError {
    /// Creates an error for invalid flags or an invalid configuration.
    #[expect(clippy::needless_pass_by_value, reason = "map_err passes errors by value")]
    fn usage(message: impl ToString) -> Self {
        Self { exit_code: EXIT_USAGE, message: message.to_string() }
    }

    /// Creates an error for a failed rehearsal. The exit code is 2 because 1 means that a script takes too long.
    #[expect(clippy::needless_pass_by_value, reason = "map_err passes errors by value")]
    fn rehearsal(message: impl ToString) -> Self {
        Self { exit_code: 2, message: message.to_string() }
    }

    /// Creates an error for any other failure.
    #[expect(clippy::needless_pass_by_value, reason = "map_err passes errors by value")]
    fn other(message: impl ToString) -> Self {
        Self { exit_code: 1, message: message.to_string() }
    }
}

/// Runs the program with the arguments and the environment of the process. An error is printed to stderr as one line.
#[must_use]
pub fn run() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(error) => {
            let line = error.message.replace(['\n', '\r'], " ");
            // stderr may be closed.
            let _ = writeln!(io::stderr(), "redis-script-exporter: {line}");
            ExitCode::from(error.exit_code)
        }
    }
}

/// Parses the command line and runs its subcommand.
fn dispatch() -> Result<ExitCode, CommandError> {
    let not_unicode = RefCell::new(None);
    let words: Vec<OsString> = std::env::args_os().collect();
    let parsed = Cli::parse_words(&words, |name| {
        std::env::var(name)
            .inspect_err(|error| {
                if matches!(error, VarError::NotUnicode(_)) {
                    not_unicode.replace(Some(name.to_owned()));
                }
            })
            .ok()
    });
    if let Some(name) = not_unicode.take() {
        return Err(CommandError::usage(format!("the environment variable {name} is not valid UTF-8")));
    }
    let cli = match parsed {
        Ok(cli) => cli,
        // --help and --version
        Err(error) if !error.use_stderr() => return printed(error.print()),
        Err(error) => return Err(CommandError::usage(usage_line(&error, &words))),
    };
    match &cli.command {
        None => serve::run(cli),
        Some(Subcommand::Rules) => printed(assets::print_rules(&mut io::stdout().lock())),
        Some(Subcommand::Dashboards { output }) => {
            printed(assets::write_dashboards(output, &mut io::stdout().lock()))
        }
        Some(Subcommand::Catalogue(args)) => {
            let (mut out, mut notes) = (io::stdout().lock(), io::stderr().lock());
            block_on(catalogue::run(&cli, args, &mut out, &mut notes))?.map_err(|error| {
                if error.is_usage() { CommandError::usage(error) } else { CommandError::other(error) }
            })
        }
        Some(Subcommand::Healthcheck) => {
            let web = WebConfig::from_cli(&cli).map_err(CommandError::usage)?;
            block_on(healthcheck::run(&web))?.map_err(CommandError::other)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Subcommand::Check(args)) => {
            check::run(Config::from_cli(&cli).map_err(CommandError::usage)?, args.flags)
        }
        Some(Subcommand::Lint(flags)) => lint::run(flags),
        Some(Subcommand::Rehearse(flags)) => block_on(rehearse::run(&cli, flags))?.map_err(|error| {
            if error.is_usage() { CommandError::usage(error) } else { CommandError::rehearsal(error) }
        }),
        Some(Subcommand::Completions { shell }) => {
            printed(documents::print_completions(*shell, &mut io::stdout().lock()))
        }
        Some(Subcommand::Man { output: None }) => {
            printed(documents::print_man_page(&mut io::stdout().lock()))
        }
        Some(Subcommand::Man { output: Some(folder) }) => {
            printed(documents::write_man_pages(folder, &mut io::stdout().lock()))
        }
    }
}

/// Runs the future of a subcommand to completion. Threads that are still blocked at that point, for example in a name lookup, are
/// not joined.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CommandError> {
    let runtime = runtime()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(result)
}

fn runtime() -> Result<Runtime, CommandError> {
    // On one core, additional threads would only wake up without finding work, and a scheduler that moves tasks between threads
    // takes more time per task.
    let workers = thread::available_parallelism().map_or(MAX_WORKERS, |cores| cores.get().min(MAX_WORKERS));
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let built = builder.worker_threads(workers).enable_all().build();
    built.map_err(|error| CommandError::other(format!("cannot start the runtime: {error}")))
}

/// Exit status of printing; a closed pipe is not an error.
fn printed(result: io::Result<()>) -> Result<ExitCode, CommandError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::other(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
