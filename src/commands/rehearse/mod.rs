//! `redis-script-exporter rehearse`: runs a script at growing sizes of its data, and predicts the sizes at which it blocks.
//!
//! `plan` combines flags, comments (`directive`) and assumptions, and `spec` describes keys. `server` starts a private server,
//! `session` sends commands, and `fill` creates the data. `measure` runs the script within its `budget`, `steps` counts its loop passes,
//! `fit` finds the growth, and `report` and `output` show the result. `sample` reads the shape of real keys.

mod budget;
mod directive;
mod error;
mod fill;
mod fit;
mod measure;
mod output;
mod plan;
mod report;
mod sample;
mod server;
mod session;
mod snapshot;
mod spec;
mod steps;

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use walkdir::WalkDir;

use self::error::{RehearseError, Remains};
use self::measure::{Bounds, Point, Progress};
use self::plan::Plan;
use self::report::{FAILED, Report};
use self::session::Session;
use crate::cli::{Cli, RehearseFlags, RehearseFormat};
use crate::clock::Clock;
use crate::config::{Config, TargetConfig};
use crate::files;

/// Default maximum size, unless `--max-size` or a comment sets one.
const DEFAULT_MAX_SIZE: u64 = 10_000_000;

/// Maximum size of a script, in bytes.
const MAX_SCRIPT: u64 = 1 << 20;

/// Maximum number of scripts for `--all`.
const MAX_SCRIPTS: usize = 10_000;

/// File name extensions of formats that are not supported for charts.
const OTHER_FORMATS: [&str; 6] = ["gif", "jpeg", "jpg", "pdf", "png", "webp"];

/// Width of the progress bar, in columns.
const BAR: f64 = 30.0;

/// Parses arbitrary text as the comments of a script, as keys and as INFO, for fuzzing.
#[cfg(any(fuzzing, test))]
pub(crate) fn fuzz(text: &str) {
    let _ = self::directive::Directives::parse(text);
    let _ = self::snapshot::Snapshot::parse(text);
    for line in text.lines() {
        if let Ok(spec) = self::spec::KeySpec::parse(line) {
            let _ = (spec.affixes(), spec.elements(u64::MAX), spec.grows());
        }
    }
}

/// Rehearses the scripts named by the flags and prints the results.
///
/// # Errors
/// Flags are invalid, or a script or a server fails. In any case, the private server is ended and its directory removed.
pub(crate) async fn run(cli: &Cli, flags: &RehearseFlags) -> Result<ExitCode, RehearseError> {
    let failed = |source: io::Error| RehearseError::Usage(format!("signals: {source}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let interrupted = CancellationToken::new();
    let work = rehearse(cli, flags, &interrupted);
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => return result,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if !cli.redis_addr_is_flag {
        // The future owns the private server: dropping it ends the process and removes its directory.
        return Err(RehearseError::Interrupted(Remains::Private));
    }
    interrupted.cancel();
    tokio::select! {
        result = &mut work => result,
        _ = interrupt.recv() => Err(RehearseError::Interrupted(Remains::Unknown)),
        _ = terminate.recv() => Err(RehearseError::Interrupted(Remains::Unknown)),
    }
}

async fn rehearse(
    cli: &Cli,
    flags: &RehearseFlags,
    interrupted: &CancellationToken,
) -> Result<ExitCode, RehearseError> {
    if let Some(path) = flags.output.as_deref() {
        check_name(path)?;
    }
    let existing = existing_server(cli, flags)?;
    let rehearsal = Rehearsal { cli, flags, existing, interrupted, clock: Clock::start() };
    let mut out = io::stdout().lock();
    let Some(folder) = &flags.all else {
        let path = flags.file.as_deref().unwrap_or(Path::new(""));
        let report = rehearsal.script(path).await?;
        let text = match flags.format {
            RehearseFormat::Text => output::text(&report),
            RehearseFormat::Markdown => output::markdown(&report),
            RehearseFormat::Json => json(&report)?,
        };
        print(&mut out, &text)?;
        if let Some(path) = &flags.output {
            let svg = output::svg(&report).ok_or(RehearseError::NoChart)?;
            fs::write(path, svg).map_err(|source| RehearseError::File { path: path.clone(), source })?;
        }
        return Ok(ExitCode::from(report.exit_code()));
    };
    let mut reports = Vec::new();
    for path in scripts(folder)? {
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        let report = match rehearsal.script(&path).await {
            Ok(report) => Ok(report),
            Err(
                error @ (RehearseError::NoServer
                | RehearseError::Start { .. }
                | RehearseError::NotEmpty(_)
                | RehearseError::Interrupted(_)),
            ) => {
                return Err(error);
            }
            Err(error) => Err(error.to_string()),
        };
        reports.push((name, report));
    }
    if reports.is_empty() {
        return Err(RehearseError::Usage(format!("--all: no .lua file in {}", folder.display())));
    }
    let text = match flags.format {
        RehearseFormat::Text => output::summary(&reports, false),
        RehearseFormat::Markdown => output::summary(&reports, true),
        RehearseFormat::Json => {
            let entry = |(script, report): &(String, Result<Report, String>)| match report {
                Ok(report) => serde_json::json!({ "script": script, "report": report }),
                Err(error) => serde_json::json!({ "script": script, "error": error }),
            };
            json(&reports.iter().map(entry).collect::<Vec<_>>())?
        }
    };
    print(&mut out, &text)?;
    let codes = reports.iter().map(|(_, report)| report.as_ref().map_or(FAILED, Report::exit_code));
    Ok(ExitCode::from(codes.max().unwrap_or_default()))
}

/// Rejects a file name for the chart that has the extension of another format.
fn check_name(path: &Path) -> Result<(), RehearseError> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if OTHER_FORMATS.contains(&extension.as_str()) {
        return Err(RehearseError::Usage(format!(
            "--output {}: the chart is written as SVG; browsers, rsvg-convert and ImageMagick can convert it to other formats",
            path.display()
        )));
    }
    Ok(())
}

/// Prints text; a closed pipe is not an error.
fn print(out: &mut impl io::Write, text: &str) -> Result<(), RehearseError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, RehearseError> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    Ok(text + "\n")
}

/// Returns the server named on the command line. An address from the environment is ignored because it is probably that of a
/// production server.
fn existing_server(cli: &Cli, flags: &RehearseFlags) -> Result<Option<TargetConfig>, RehearseError> {
    if !cli.redis_addr_is_flag {
        return Ok(None);
    }
    if flags.server.is_some() {
        return Err(RehearseError::Usage("give either --server or --redis.addr".to_owned()));
    }
    let mut targets = Config::from_cli(&Cli { config_file: None, ..cli.clone() })?.targets;
    if targets.len() > 1 {
        return Err(RehearseError::Usage("--redis.addr: give one address".to_owned()));
    }
    Ok(targets.pop())
}

/// Returns the scripts in a directory, sorted by name.
fn scripts(folder: &Path) -> Result<Vec<PathBuf>, RehearseError> {
    let mut paths = Vec::new();
    for entry in WalkDir::new(folder).max_depth(32).sort_by_file_name() {
        let entry =
            entry.map_err(|error| RehearseError::File { path: folder.to_owned(), source: error.into() })?;
        let is_lua = entry.path().extension().is_some_and(|extension| extension == "lua");
        if entry.file_type().is_file() && is_lua && paths.len() < MAX_SCRIPTS {
            paths.push(entry.into_path());
        }
    }
    Ok(paths)
}

/// Settings shared by all scripts.
struct Rehearsal<'a> {
    cli: &'a Cli,
    flags: &'a RehearseFlags,
    existing: Option<TargetConfig>,
    interrupted: &'a CancellationToken,
    clock: Clock,
}

impl Rehearsal<'_> {
    async fn script(&self, path: &Path) -> Result<Report, RehearseError> {
        let failed = |source| RehearseError::File { path: path.to_owned(), source };
        let bytes = File::open(path).and_then(|file| files::read(file, MAX_SCRIPT)).map_err(failed)?;
        let source = String::from_utf8(bytes)
            .map_err(|_| RehearseError::Usage(format!("{}: the script is not UTF-8", path.display())))?;
        let usage = |problem| RehearseError::Usage(format!("{}: {problem}", path.display()));
        let samples = sample::read(self.cli, self.flags).await?;
        let plan = Plan::new(source, self.flags, &samples).map_err(usage)?;
        let mut session = match &self.existing {
            Some(target) => Session::existing(target, self.interrupted.clone()).await?,
            None => session::start(self.flags.server.as_deref(), self.flags.max_memory << 20, None).await?,
        };
        let snapshot = session.snapshot().await?;
        if snapshot.keys > 0 {
            return Err(RehearseError::NotEmpty(snapshot.keys));
        }
        let bounds =
            Bounds { max_size: plan.max_size.unwrap_or(DEFAULT_MAX_SIZE), budget: self.flags.time_budget };
        let mut progress = Bar::new(path);
        let measured = measure::measure(&mut session, &plan, bounds, &self.clock, &mut progress).await;
        progress.end();
        let measured = measured?;
        let server = format!("{} {}", snapshot.server, snapshot.version);
        let mut report =
            Report::new(&path.display().to_string(), &plan, server, &measured, self.cli.slow_warning);
        if !session.is_private() && measured.unkillable {
            let what = if plan.function.is_some() { "keys and library" } else { "keys" };
            report.notes.push(format!(
                "the script still runs on the server of --redis.addr, so the {what} of the rehearsal were not deleted"
            ));
        } else if !session.is_private() {
            let left = session.snapshot().await?.keys;
            if left > 0 {
                report
                    .notes
                    .push(format!("{left} keys are on the server that are not the rehearsal's; they were written by the script or by another client, and were not deleted"));
            }
        }
        Ok(report)
    }
}

/// Progress bar on stderr, shown if stderr is a terminal.
struct Bar {
    script: String,
    is_shown: bool,
}

impl Bar {
    fn new(path: &Path) -> Self {
        let script = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { script, is_shown: io::stderr().is_terminal() }
    }

    /// Removes the bar.
    fn end(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Progress for Bar {
    fn at(&mut self, size: u64, share: f64, last: Option<&Point>) {
        if self.is_shown {
            let share = share.clamp(0.0, 1.0);
            let done = "█".repeat(columns(share));
            let rest = "░".repeat(columns(1.0 - share));
            let last = last.map_or(String::new(), |point| {
                format!(", {} at {}", report::seconds(point.seconds), point.size)
            });
            // stderr may be closed.
            let _ = write!(io::stderr(), "\r\x1b[K{done}{rest} {}: n = {size}{last}", self.script);
        }
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 30"
)]
fn columns(share: f64) -> usize {
    (share * BAR).round() as usize
}
