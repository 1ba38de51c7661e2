//! Result of a rehearsal: measurements, growth, and the sizes at which limits are reached.

use std::time::Duration;

use serde::Serialize;

use super::fit::{Fit, Growth, Reached};
use super::measure::{CALIBRATION, Measurements, Point, Stop};
use super::plan::Plan;
use super::session::RUN_LIMIT;
use super::steps::{self, Steps};
use crate::convert::{float, millis};
use crate::lint::{self, Limits};
use crate::text;

/// Minimum duration of a run that clients notice.
const SLOW: Duration = Duration::from_secs(1);

/// Duration of a run after which a server replies BUSY by default.
const BUSY: Duration = Duration::from_secs(5);

/// Ratio of the time by the server's clock to the time used for the curve, above which a note reports that the machine was busy.
const BUSY_MACHINE: f64 = 1.3;

/// Note for a measurement that the time budget ended too early.
const TOO_FEW: &str =
    "not enough sizes were measured within --time-budget to determine how it grows; increase it";

/// Exit code if a script fails.
pub(crate) const FAILED: u8 = 2;

/// Rule of lint for commands that take longer for larger data, in a loop.
const REPEATED: &str = "linear-command-in-loop";

/// Maximum number of listed commands.
const MAX_COMMANDS: usize = 4;

/// Report of the rehearsal of a script.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) script: String,
    pub(crate) function: Option<String>,
    /// Server and its version.
    pub(crate) server: String,
    pub(crate) keys: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) assumptions: Vec<String>,
    pub(crate) notes: Vec<String>,
    /// Growth as a formula; `None` if the measurements do not show it.
    pub(crate) growth: Option<&'static str>,
    /// Root mean square of the relative deviations from the curve.
    pub(crate) deviation: Option<f64>,
    pub(crate) sizes: Vec<Row>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) expected: Option<Expected>,
    /// Size at which a run was killed.
    pub(crate) killed_at: Option<u64>,
    /// Size at which the script failed.
    pub(crate) failed_at: Option<u64>,
    /// Commands called by a run at the largest size, the longest first.
    pub(crate) commands: Vec<Inner>,
    /// Time of that run by the server's clock, in seconds.
    pub(crate) commands_run_seconds: f64,
    /// Time of the reference with 10,000 strings.
    pub(crate) calibration_seconds: f64,
    /// True if the exit code is 1.
    pub(crate) fails: bool,
    #[serde(skip)]
    pub(crate) fit: Option<Fit>,
    /// True if the time budget ended the measurement too early to determine the growth.
    #[serde(skip)]
    is_cut_short: bool,
}

/// Measurements of a size.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Row {
    pub(crate) size: u64,
    /// Shortest run by the server's clock or its CPU time. The curve is fitted to these times.
    pub(crate) seconds: f64,
    /// Shortest run by the server's clock.
    pub(crate) clock_seconds: f64,
    /// Longest run by the server's clock.
    pub(crate) longest_seconds: f64,
    pub(crate) runs: u32,
    pub(crate) reply_bytes: u64,
    pub(crate) lua_bytes: u64,
    pub(crate) changes: u64,
    /// Time of the reference at this size; 0 if it was not measured.
    pub(crate) reference_seconds: f64,
    /// Passes through the loops of the script and calls of its functions in one run, if they were counted at this size.
    pub(crate) steps: Option<u64>,
}

/// Duration and the size at which it is reached.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Limit {
    pub(crate) seconds: f64,
    pub(crate) name: &'static str,
    /// `None` if no size reaches it.
    pub(crate) reached: Option<Reached>,
}

/// Time at the expected size.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Expected {
    pub(crate) size: u64,
    /// `None` if it can't be predicted.
    pub(crate) seconds: Option<f64>,
    /// Longest time measured at a smaller size, if the time can't be predicted.
    pub(crate) at_least_seconds: Option<f64>,
    /// Time if it grows like n² above the largest measured size, if that is possible.
    pub(crate) at_most_seconds: Option<f64>,
    pub(crate) limit_seconds: f64,
    pub(crate) exceeds: bool,
}

/// Command called by a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Inner {
    pub(crate) command: String,
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
}

impl Report {
    pub(crate) fn new(
        script: &str,
        plan: &Plan,
        server: String,
        measured: &Measurements,
        warning: Duration,
    ) -> Self {
        let called = measured.points.iter().flat_map(|point| point.commands.keys());
        let possible = steps::possible(&measured.steps, &plan.source, called.map(String::as_str));
        let is_cold = measured.points.iter().any(|point| point.changes > 0);
        let fit = Fit::new(&measured.samples(), is_cold, &possible);
        // A run was killed at a smaller size than the curve allows, so the growth is faster than the previous measurements show.
        let killed = measured.killed.map(float);
        let contradicts = |fit: &Fit| killed.is_some_and(|size| !fit.allows(size, RUN_LIMIT.as_secs_f64()));
        let is_contradicted = fit.as_ref().is_some_and(contradicts);
        let is_cut_short = measured.is_cut_short() && !fit.as_ref().is_some_and(Fit::is_certain);
        let is_too_short = fit.as_ref().is_some_and(Fit::is_too_short);
        let fit = fit.filter(|_| !is_contradicted && !is_cut_short && !is_too_short);
        let mut notes = notes(plan, measured);
        if is_contradicted {
            notes.push("the times before the killed run do not show how it grows".to_owned());
        } else if is_cut_short {
            notes.push(TOO_FEW.to_owned());
        } else if is_too_short {
            notes.push("the runs are too short to show how it grows: raise --max-size".to_owned());
        } else if fit.is_none() && measured.points.len() > 3 {
            notes.push("no curve passes near the measured times".to_owned());
        }
        let bound = Bound::new(plan, fit.as_ref(), measured);
        if let Some(Bound { size, line, .. }) = &bound {
            notes.push(format!(
                "a command in a loop takes longer for larger data (line {line}, lint: {REPEATED}), so above n = {} the time may grow like n²; the ranges allow for that",
                count(*size)
            ));
        }
        let expected =
            plan.expect_size.map(|size| expected(size, fit.as_ref(), bound.as_ref(), measured, warning));
        let killed_below = measured.killed.is_some_and(|killed| match plan.expect_size {
            Some(expected) => killed <= expected,
            None => measured.points.is_empty(),
        });
        let limit = |seconds: Duration, name| Limit {
            seconds: seconds.as_secs_f64(),
            name,
            reached: reached(fit.as_ref(), bound.as_ref(), measured, seconds.as_secs_f64())
                .filter(|reached| !measured.fails_at(reached.size)),
        };
        let commands = measured.points.last().map(commands).unwrap_or_default();
        Self {
            script: script.to_owned(),
            function: plan.function.clone(),
            server,
            keys: plan.specs.iter().map(ToString::to_string).collect(),
            args: plan.args.clone(),
            assumptions: plan.assumptions.clone(),
            notes,
            growth: fit.as_ref().map(|fit| fit.curve.growth.formula()),
            deviation: fit.as_ref().map(|fit| fit.curve.deviation),
            sizes: measured.points.iter().map(|point| row(point, &measured.steps)).collect(),
            limits: vec![limit(SLOW, "1 s"), limit(BUSY, "BUSY (5 s)")],
            killed_at: measured.killed,
            failed_at: measured.failed.as_ref().map(|(size, _)| *size),
            commands,
            commands_run_seconds: measured.points.last().map_or(0.0, |point| point.commands_clock),
            calibration_seconds: measured.calibration,
            fails: expected.is_some_and(|expected| expected.exceeds) || killed_below,
            expected,
            fit,
            is_cut_short,
        }
    }

    /// Returns the exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.failed_at.is_some() { FAILED } else { u8::from(self.fails) }
    }

    /// Returns the verdict in one sentence.
    pub(crate) fn verdict(&self) -> String {
        let largest = self.sizes.last();
        match (self.growth, largest, self.killed_at) {
            (_, None, Some(size)) => {
                format!("does not end within {} at n = {}", text::duration(RUN_LIMIT), count(float(size)))
            }
            (Some("constant"), Some(row), _) => format!("takes {} at any size", seconds(row.seconds)),
            (Some(growth), _, _) => {
                let deviation = self.deviation.unwrap_or_default() * 100.0;
                format!("grows with {growth} (deviation {deviation:.0} %)")
            }
            (None, Some(row), None) if self.sizes.len() == 1 && !self.is_cut_short => {
                format!("takes {}; none of its data grows", seconds(row.seconds))
            }
            _ if self.is_cut_short => "too few sizes were measured to determine how it grows".to_owned(),
            _ => "grows, but the measurements do not show how".to_owned(),
        }
    }
}

fn row(point: &Point, steps: &[Steps]) -> Row {
    Row {
        size: point.size,
        seconds: point.seconds,
        clock_seconds: point.clock,
        longest_seconds: point.longest,
        runs: point.runs,
        reply_bytes: point.reply,
        lua_bytes: point.lua_memory,
        changes: point.changes,
        reference_seconds: point.reference,
        steps: steps.iter().find(|steps| steps.size == point.size).map(|steps| steps.count),
    }
}

fn commands(point: &Point) -> Vec<Inner> {
    let inner = |(command, time): (&String, &super::snapshot::CommandTime)| Inner {
        command: command.to_uppercase(),
        calls: time.calls,
        seconds: time.time.as_secs_f64(),
    };
    let mut commands: Vec<Inner> = point.commands.iter().map(inner).collect();
    commands.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    commands.truncate(MAX_COMMANDS);
    commands
}

/// Upper bound of the times above the largest measured size, where they may grow like n² although they have not yet.
struct Bound {
    /// Largest measured size, and its time in seconds.
    size: f64,
    seconds: f64,
    /// Line of the command that takes longer for larger data.
    line: usize,
}

impl Bound {
    /// Returns the bound of a script that repeats a command on data that grows, unless n² is what was measured.
    fn new(plan: &Plan, fit: Option<&Fit>, measured: &Measurements) -> Option<Self> {
        let growth = fit?.curve.growth;
        if !matches!(growth, Growth::Linear | Growth::Linearithmic) {
            return None;
        }
        let (findings, _) = lint::lint("", &plan.source, &Limits::default(), &[]);
        let line = findings.iter().find(|finding| finding.rule.name == REPEATED)?.line;
        let largest = measured.points.last()?;
        Some(Self { size: float(largest.size), seconds: largest.seconds, line })
    }

    /// Returns the time at a larger size, in seconds.
    fn at(&self, size: f64) -> f64 {
        self.seconds * (size / self.size).powi(2)
    }

    /// Returns the size at which a longer time is reached.
    fn reached(&self, seconds: f64) -> f64 {
        self.size * (seconds / self.seconds).sqrt()
    }
}

/// Returns the size at which a time is reached: from the fit, or between two measured sizes, or between the last run that ended and the
/// one that was killed.
fn reached(
    fit: Option<&Fit>,
    bound: Option<&Bound>,
    measured: &Measurements,
    seconds: f64,
) -> Option<Reached> {
    if let Some(fit) = fit {
        let mut reached = fit.reached(seconds)?;
        if let Some(bound) = bound.filter(|_| reached.is_extrapolated) {
            reached.low = reached.low.min(bound.reached(seconds));
        }
        return Some(reached);
    }
    let position = measured.points.iter().position(|point| point.seconds >= seconds);
    let killed = measured.killed.filter(|_| seconds <= RUN_LIMIT.as_secs_f64());
    let size =
        position.and_then(|position| measured.points.get(position)).map(|point| point.size).or(killed)?;
    let shorter = measured.points.iter().rev().find(|point| point.size < size && point.seconds < seconds);
    let low = shorter.map_or(0.0, |point| float(point.size));
    Some(Reached { size: float(size), low, high: Some(float(size)), is_extrapolated: false })
}

fn expected(
    size: u64,
    fit: Option<&Fit>,
    bound: Option<&Bound>,
    measured: &Measurements,
    warning: Duration,
) -> Expected {
    let limit_seconds = warning.as_secs_f64();
    let measured_time = measured.points.iter().find(|point| point.size == size).map(|point| point.seconds);
    let predicted = fit.filter(|_| !measured.fails_at(float(size))).map(|fit| fit.at(float(size)));
    let seconds = measured_time.or(predicted);
    let smaller = measured.points.iter().filter(|point| point.size < size).map(|point| point.seconds);
    let at_least_seconds = if seconds.is_none() { smaller.reduce(f64::max) } else { None };
    let at_most_seconds = bound
        .filter(|bound| seconds.is_some() && float(size) > bound.size)
        .map(|bound| bound.at(float(size)));
    let is_killed = measured.killed.is_some_and(|killed| killed <= size) && warning <= RUN_LIMIT;
    let mut times = [seconds, at_least_seconds, at_most_seconds].into_iter().flatten();
    let exceeds = is_killed || times.any(|time| time > limit_seconds);
    Expected { size, seconds, at_least_seconds, at_most_seconds, limit_seconds, exceeds }
}

fn notes(plan: &Plan, measured: &Measurements) -> Vec<String> {
    let mut notes = Vec::new();
    let limit = text::duration(RUN_LIMIT);
    if let Some(size) = measured.killed {
        let size = count(float(size));
        let how = if measured.unkillable {
            "SCRIPT KILL could not end it; after a write, only SHUTDOWN NOSAVE can"
        } else {
            "it was killed"
        };
        notes.push(format!("a run with n = {size} took longer than {limit}; {how}"));
    }
    if let Some((size, error)) = &measured.failed {
        notes.push(format!(
            "at n = {} the script fails, which ended the measurement: {error}",
            count(float(*size))
        ));
    }
    if let Some(point) = measured.points.iter().find(|point| Some(point.size) == measured.exceeded) {
        let size = count(float(point.size));
        notes.push(format!(
            "a run with n = {size} took longer than {limit} and was killed; another one took {}",
            seconds(point.seconds)
        ));
    }
    let stop = match measured.stop {
        Stop::Budget => "larger sizes would exceed --time-budget",
        Stop::Memory => "the server reached --max-memory at the next size",
        Stop::NothingGrows => {
            "no key or argument grows; give --key NAME=TYPE, --data 'PATTERN=TYPE' or --arg '{n}'"
        }
        Stop::MaxSize | Stop::RunLimit | Stop::Killed | Stop::Failed => "",
    };
    if !stop.is_empty() {
        notes.push(stop.to_owned());
    }
    let busiest = measured.points.iter().max_by(|a, b| waiting(a).total_cmp(&waiting(b)));
    if let Some(point) = busiest.filter(|point| waiting(point) > BUSY_MACHINE) {
        notes.push(format!(
            "the machine was busy: a run with n = {} took {} of wall-clock time and {} of CPU time, which is the time reported",
            count(float(point.size)),
            seconds(point.clock),
            seconds(point.seconds)
        ));
    }
    let calibration = Duration::try_from_secs_f64(measured.calibration).unwrap_or_default();
    notes.push(format!(
        "this machine creates {CALIBRATION} strings in Lua in {:.2} ms; on another machine times may differ by a factor of 2",
        float(millis(calibration * 1000)) / 1000.0
    ));
    if plan.expect_size.is_none() {
        notes.push(
            "with --expect-size N, the exit code is 1 if a run at that size takes longer than --slow.warning"
                .to_owned(),
        );
    }
    notes
}

/// Returns the ratio of the time by the server's clock to the time used for the curve.
fn waiting(point: &Point) -> f64 {
    point.clock / point.seconds
}

/// Formats seconds in human-readable form.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 1e-5 {
        return format!("{:.1} µs", seconds * 1e6);
    }
    text::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Formats a number with commas between groups of three digits.
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number rounded to two significant digits.
pub(crate) fn about(number: f64) -> String {
    let unit = 10_f64.powf(number.max(1.0).log10().floor() - 1.0).max(1.0);
    count((number / unit).round() * unit)
}

/// Formats a number of bytes in human-readable form.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = float(bytes);
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            source: String::new(),
            function: None,
            keys: Vec::new(),
            args: Vec::new(),
            specs: Vec::new(),
            assumptions: Vec::new(),
            expect_size: None,
            max_size: None,
        }
    }

    /// Returns measured times in microseconds at the sizes 10, 30, 100 and so on.
    fn measured(stop: Stop, times: &[f64], is_reproduced: impl Fn(usize) -> bool) -> Measurements {
        let sizes = [10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000];
        let point = |(index, (size, time)): (usize, (u64, &f64))| Point {
            size,
            seconds: time * 1e-6,
            is_reproduced: is_reproduced(index),
            ..Point::default()
        };
        let mut measured = Measurements::default();
        measured.points = sizes.into_iter().zip(times).enumerate().map(point).collect();
        measured.stop = stop;
        measured
    }

    fn report(stop: Stop, times: &[f64], is_reproduced: impl Fn(usize) -> bool) -> Report {
        report_of(&plan(), &measured(stop, times, is_reproduced))
    }

    fn report_of(plan: &Plan, measured: &Measurements) -> Report {
        Report::new("x.lua", plan, String::new(), measured, SLOW)
    }

    #[test]
    fn without_a_growth_measured_times_decide() {
        let times = measured(Stop::Budget, &[1.0, 2.0, 500_000.0, 1_500_000.0], |_| true);
        let at = |size| report_of(&Plan { expect_size: Some(size), ..plan() }, &times);
        let larger = at(1000);
        let expected = larger.expected.unwrap();
        assert_eq!((larger.growth, expected.seconds, expected.at_least_seconds), (None, None, Some(1.5)));
        assert_eq!((expected.exceeds, larger.exit_code()), (true, 1));
        let reached = larger.limits[0].reached.unwrap();
        assert_eq!((reached.low, reached.size, reached.is_extrapolated), (100.0, 300.0, false));
        assert!(larger.limits[1].reached.is_none());
        let between = at(200);
        assert_eq!((between.expected.unwrap().at_least_seconds, between.exit_code()), (Some(0.5), 0));
    }

    #[test]
    fn a_command_that_takes_longer_for_larger_data_widens_the_ranges() {
        let linear: Vec<f64> = (0..11).map(|step| 10_f64.powf(f64::from(step) / 2.0)).collect();
        let times = measured(Stop::MaxSize, &linear, |_| true);
        let of = |body: &str| {
            let source = format!("for i = 1, redis.call('LLEN', KEYS[1]) do {body} end");
            report_of(&Plan { source, expect_size: Some(9_000_000), ..plan() }, &times)
        };
        let [walks, pops] = ["redis.call('LINDEX', KEYS[1], i)", "redis.call('LPOP', KEYS[1])"].map(of);
        assert_eq!([walks.growth, pops.growth], [Some("n"); 2]);
        let low = |report: &Report| report.limits[1].reached.unwrap().low;
        assert!(low(&walks) < low(&pops) / 1.5, "{} and {}", low(&walks), low(&pops));
        let most = walks.expected.unwrap().at_most_seconds.unwrap();
        assert!((most - 8.1).abs() < 0.1, "{most} s");
        assert_eq!([walks.exit_code(), pops.exit_code()], [1, 0]);
    }

    #[test]
    fn a_script_that_fails_with_larger_data_keeps_its_measurements() {
        let linear: Vec<f64> = (0..8).map(|step| 10_f64.powf(f64::from(step) / 2.0)).collect();
        let mut times = measured(Stop::Failed, &linear, |_| true);
        times.failed = Some((100_000, "ERR too many results to unpack".to_owned()));
        let report = report_of(&Plan { expect_size: Some(100_000), ..plan() }, &times);
        assert_eq!((report.growth, report.failed_at, report.exit_code()), (Some("n"), Some(100_000), FAILED));
        assert!(report.limits.iter().all(|limit| limit.reached.is_none()), "{:?}", report.limits);
        assert_eq!(report.expected.unwrap().seconds, None);
        let note =
            "at n = 100,000 the script fails, which ended the measurement: ERR too many results to unpack";
        assert!(report.notes.iter().any(|line| line == note), "{:?}", report.notes);
    }

    #[test]
    fn few_sizes_within_the_time_budget_claim_no_growth() {
        let linear: Vec<f64> = (0..8).map(|step| 2.0 + 10_f64.powf(f64::from(step) / 2.0)).collect();
        let claimed = report(Stop::Budget, &linear, |_| true);
        assert_eq!((claimed.growth, claimed.is_cut_short), (Some("n"), false));
        // Too few sizes, or a fifth time that is not reproduced.
        for cut in [
            report(Stop::Budget, &linear[..7], |_| true),
            report(Stop::Budget, &linear, |index| index != 4),
            report(Stop::Budget, &linear[..1], |_| true),
            report(Stop::Budget, &[], |_| true),
        ] {
            assert_eq!(cut.growth, None);
            assert!(cut.limits.iter().all(|limit| limit.reached.is_none()));
            assert!(cut.notes.iter().any(|note| note == TOO_FEW), "{:?}", cut.notes);
            assert_eq!(cut.verdict(), "too few sizes were measured to determine how it grows");
        }
        // If the measurement ended for another reason, the times are trusted.
        let ended = report(Stop::RunLimit, &linear[..7], |index| index != 4);
        assert_eq!((ended.growth, ended.is_cut_short), (Some("n"), false));
    }

    #[test]
    fn a_busy_machine_is_noted() {
        let report = |clock: f64| {
            let points = [(10, 1e-3, 1e-3), (30, 3e-3, 3e-3 * clock)];
            let point = |(size, seconds, clock)| Point {
                size,
                seconds,
                clock,
                is_reproduced: true,
                ..Point::default()
            };
            let mut measured = Measurements::default();
            measured.points = points.map(point).to_vec();
            Report::new("x.lua", &plan(), String::new(), &measured, SLOW)
        };
        let busy = "the machine was busy: a run with n = 30 took 6 ms of wall-clock time and 3 ms of CPU time, which is the time reported";
        assert!(report(2.0).notes.iter().any(|note| note == busy), "{:?}", report(2.0).notes);
        assert_eq!(report(2.0).sizes.last().map(|row| (row.seconds, row.clock_seconds)), Some((3e-3, 6e-3)));
        assert!(!report(1.2).notes.iter().any(|note| note.contains("busy")), "{:?}", report(1.2).notes);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            (count(1_234_567.0), count(12.0), count(100.0)),
            ("1,234,567".into(), "12".into(), "100".into())
        );
        assert_eq!(
            (about(1_234_567.0), about(98.7), about(9.0)),
            ("1,200,000".into(), "99".into(), "9".into())
        );
        assert_eq!(
            (bytes(7), bytes(1536), bytes(3 << 30)),
            ("7 B".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
        assert_eq!((seconds(1.5e-6), seconds(0.012)), ("1.5 µs".to_owned(), "12 ms".to_owned()));
    }
}
