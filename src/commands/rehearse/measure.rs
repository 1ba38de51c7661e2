//! Runs of a script at growing sizes of its data.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::budget::{Budget, own_time};
use super::error::{RehearseError, Remains};
use super::fill::{Data, Filled};
use super::fit::TimedRun;
use super::plan::Plan;
use super::session::{Callable, RUN_LIMIT, Run, Session};
use super::snapshot::{CommandTime, Difference, Snapshot};
use super::steps::{self, Steps};
use crate::clock::Clock;
use crate::convert::float;

/// Smallest size.
const MIN_SIZE: u64 = 10;

/// Maximum predicted time of a run, in seconds. Larger sizes are not measured, so that few runs are killed: memory may double the
/// predicted time.
const NEAR_LIMIT: f64 = 0.9;

/// Target for the total time of the runs of one size, in seconds.
const TARGET: f64 = 0.3;

/// Maximum number of batches per size, or per visit of a small size.
const MAX_BATCHES: u32 = 9;

/// Largest size that is visited several times, and the number of visits. These sizes distinguish n from n log n, and another
/// program may disturb several short batches in a row.
const SMALL: u64 = 3000;
const VISITS: u32 = 4;

/// Fraction of the time budget up to which small sizes are visited again, and the fraction for larger sizes with short runs.
const SMALL_VISITS: f64 = 0.3;
const SHORT_VISITS: f64 = 0.8;

/// Maximum fraction of the time budget for creating the data of a visit: 1 s of 60.
const VISIT_FILL: f64 = 1.0 / 60.0;

/// Fraction of the time budget for one size once its time is reproduced. Many sizes reveal more than many batches of a few sizes.
const SIZE_SHARE: f64 = 1.0 / 16.0;

/// Maximum ratio of the two shortest batches at which the time of a size is considered reproduced.
const REPRODUCED: f64 = 1.3;

/// Target for the time of a batch, in seconds. Short runs are repeated because the server counts whole microseconds.
const BATCH: f64 = 0.002;

/// Maximum number of runs in a batch.
const MAX_BATCH: f64 = 50.0;

/// Time of a run, in seconds, above which its CPU time is reliable although it includes the commands around the run. Larger sizes
/// with shorter runs are also visited several times.
const CPU_FROM: f64 = 0.005;

/// Sizes at which the steps are counted, and the maximum time of a run for it, in seconds. Counting makes an empty loop 8 times as
/// slow.
const COUNTED: RangeInclusive<u64> = 100..=30_000;
const MAX_COUNTED: f64 = 0.03;

/// Half of the resolution of the server's clock, in seconds.
const UNIT: f64 = 0.5e-6;

/// Minimum number of measured sizes for a killed run to be unexpected.
const MIN_EXPECTATION: usize = 4;

/// Number of sizes tried between the last run that ended and the first that was killed.
const REFINEMENTS: usize = 2;

/// Reference script: creates strings and keeps them in a table. Its time is proportional to their number, except that memory
/// becomes slower when the strings no longer fit into a cache. Scripts that read a collection behave in the same way.
const REFERENCE: &str = "\
local strings, format = {}, string.format
for i = 1, tonumber(ARGV[1]) do strings[i] = format('%016d', i) end
return #strings";

/// Number of elements of the reference that runs between copying the data and running the script.
const WARM_UP: &str = "1000";

/// Script that frees the memory used by [`REFERENCE`].
const COLLECT: &str = "return collectgarbage('collect')";

/// Maximum size of the reference. It uses as much memory as a script that reads a collection.
const MAX_REFERENCE: u64 = 1_000_000;

/// Minimum size at which the reference is compared. At smaller sizes, most of the time is that of the call.
const MIN_REFERENCE: u64 = 100;

/// Number of elements of the reference that measures the speed of the machine.
pub(crate) const CALIBRATION: u64 = 10_000;

/// Maximum number of measurements of the reference.
const REFERENCE_RUNS: u32 = 5;

/// Measurement of one size.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Point {
    pub(crate) size: u64,
    /// Shortest time of a run by the server's clock or its CPU time, in seconds.
    pub(crate) seconds: f64,
    /// Shortest time of a run by the server's clock, in seconds.
    pub(crate) clock: f64,
    /// Longest time of a run by the server's clock, in seconds.
    pub(crate) longest: f64,
    pub(crate) runs: u32,
    /// Size of the reply, in bytes.
    pub(crate) reply: u64,
    /// Memory of the Lua virtual machine after the runs, in bytes.
    pub(crate) lua_memory: u64,
    /// Commands called by one run.
    pub(crate) commands: BTreeMap<String, CommandTime>,
    /// Time of that run by the server's clock, in seconds.
    pub(crate) commands_clock: f64,
    /// Number of changes to the data by one run.
    pub(crate) changes: u64,
    /// Time of the reference at this size, in seconds; 0 if it was not measured.
    pub(crate) reference: f64,
    /// True if two batches took about the same time, or if the run is long enough for a reliable CPU time.
    pub(crate) is_reproduced: bool,
    /// Time of a run in each batch, in seconds, in ascending order.
    pub(crate) batches: Vec<f64>,
}

/// Reason why no larger size was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The size of `--max-size` was measured.
    #[default]
    MaxSize,
    /// A run of the next size would exceed the time limit.
    RunLimit,
    /// The time budget is used up.
    Budget,
    /// The server has reached its memory limit.
    Memory,
    /// None of the data grows with the size.
    NothingGrows,
    /// A run was killed.
    Killed,
    /// The script failed, after it had succeeded with less data.
    Failed,
}

/// All measurements of a script.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Measurements {
    pub(crate) points: Vec<Point>,
    /// Steps of the script, if they could be counted.
    pub(crate) steps: Vec<Steps>,
    /// Size at which a run was killed.
    pub(crate) killed: Option<u64>,
    /// True if that run had written, so that only the end of the server could end it.
    pub(crate) unkillable: bool,
    /// Size at which one run was killed but another one completed.
    pub(crate) exceeded: Option<u64>,
    /// Size at which the script failed, and the error.
    pub(crate) failed: Option<(u64, String)>,
    pub(crate) stop: Stop,
    /// Time of the reference without elements, in seconds.
    overhead: f64,
    /// Time of the reference with [`CALIBRATION`] elements, in seconds: the speed of this machine.
    pub(crate) calibration: f64,
}

/// Receiver of progress reports.
pub(crate) trait Progress {
    /// Reports that a size is being filled or measured. `share` is the used fraction of the time budget, and `last` is the largest
    /// measured point.
    fn at(&mut self, size: u64, share: f64, last: Option<&Point>);
}

/// Bounds of the measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) max_size: u64,
    pub(crate) budget: Duration,
}

/// Times and other measurements of a batch.
#[derive(Debug, Clone, PartialEq)]
struct Timing {
    /// Mean time of a run by the server's clock, in seconds.
    clock: f64,
    /// Mean time of a run by the server's clock or its CPU time, whichever is shorter, in seconds. The CPU time includes the
    /// commands around the run, and the clock includes the time in which other programs used the processor. Neither is shorter than
    /// the run.
    net: f64,
    runs: u32,
    reply: u64,
    lua_memory: u64,
    difference: Difference,
}

impl Timing {
    fn new(callable: &Callable, runs: u32, reply: u64, lua_memory: u64, difference: Difference) -> Self {
        let clock = difference.commands.get(callable.command()).map_or(Duration::ZERO, |called| called.time);
        let [clock, processor] =
            [clock, difference.cpu].map(|time| time.as_secs_f64() / float(u64::from(runs)));
        let net = if processor > 0.0 { clock.min(processor) } else { clock };
        Self { clock, net, runs, reply, lua_memory, difference }
    }

    /// Returns the time of all runs, in seconds.
    fn total(&self) -> f64 {
        self.net * float(u64::from(self.runs))
    }
}

impl Point {
    /// Adds a batch of runs.
    fn add(&mut self, timing: &Timing, callable: &Callable) {
        let is_first = self.batches.is_empty();
        // A run shorter than the resolution of the server's clock takes half of it on average.
        let (net, clock) = (timing.net.max(UNIT), timing.clock.max(UNIT));
        if is_first || net < self.seconds {
            self.seconds = net;
            self.commands = inner(&timing.difference.commands, callable, timing.runs);
            self.commands_clock = clock;
            self.changes = timing.difference.changes / u64::from(timing.runs);
        }
        self.clock = if is_first { clock } else { self.clock.min(clock) };
        self.longest = self.longest.max(timing.clock);
        self.runs += timing.runs;
        self.reply = timing.reply;
        self.lua_memory = self.lua_memory.max(timing.lua_memory);
        self.batches.insert(self.batches.partition_point(|other| *other < net), net);
        let second = self.batches.get(1).copied().unwrap_or(f64::INFINITY);
        self.is_reproduced = second <= self.seconds * REPRODUCED || self.seconds > CPU_FROM;
    }
}

/// Measurement in progress.
struct Rehearsal<'a> {
    plan: &'a Plan,
    max_size: u64,
    budget: Budget,
    clock: &'a Clock,
    data: Data<'a>,
    callable: Callable,
    /// False if the steps can't be counted.
    is_counting: bool,
    reference: Callable,
    measured: Measurements,
    /// Time to create an element, in seconds.
    fill_cost: f64,
    /// Time per element to provide the data after a run that wrote, in seconds.
    copy_cost: f64,
}

/// Measures a script at growing sizes.
///
/// # Errors
/// The script or the server fails.
pub(crate) async fn measure(
    session: &mut Session,
    plan: &Plan,
    bounds: Bounds,
    clock: &Clock,
    progress: &mut impl Progress,
) -> Result<Measurements, RehearseError> {
    let reference = session.load(REFERENCE.as_bytes(), None).await?;
    let callable = session.load(plan.source.as_bytes(), plan.function.as_deref()).await?;
    let mut rehearsal = Rehearsal {
        plan,
        max_size: bounds.max_size,
        budget: Budget::new(bounds.budget, clock.now().mono, own_time()),
        clock,
        data: Data::new(&plan.specs),
        callable,
        is_counting: true,
        reference,
        measured: Measurements::default(),
        fill_cost: 1e-6,
        copy_cost: 0.5e-6,
    };
    let result = rehearsal.grow(session, progress).await;
    let removed = if rehearsal.measured.unkillable {
        Ok(())
    } else {
        let removed = rehearsal.data.remove(session).await;
        removed.and(session.delete_library().await)
    };
    // An error of the rehearsal takes precedence over one of the removal.
    result.map_err(|error| match error {
        RehearseError::Interrupted(_) if removed.is_ok() => RehearseError::Interrupted(Remains::Removed),
        error => error,
    })?;
    removed?;
    Ok(rehearsal.measured)
}

impl Rehearsal<'_> {
    /// Measures the sizes, starting with the smallest.
    async fn grow(
        &mut self,
        session: &mut Session,
        progress: &mut impl Progress,
    ) -> Result<(), RehearseError> {
        let mut size = MIN_SIZE.min(self.max_size);
        self.measured.calibration = self.measure_reference(session, CALIBRATION).await?.unwrap_or(0.0);
        self.measured.overhead = self.measure_reference(session, 0).await?.unwrap_or(0.0);
        loop {
            let mut stop = self.measure_size(session, size, progress).await?;
            if stop == Some(Stop::Killed) && self.is_unexpected(session, size) {
                (self.measured.killed, self.measured.unkillable) = (None, false);
                stop = self.measure_size(session, size, progress).await?;
                self.measured.exceeded = self.measured.killed.is_none().then_some(size);
            }
            if stop.is_none() {
                stop = self.count_steps(session, size).await?;
            }
            if let Some(stop) = stop {
                self.measured.stop = stop;
                break;
            }
            let next = self.next_size(size);
            if size <= SMALL
                && !next.is_ok_and(|next| next <= SMALL)
                && let Some(stop) =
                    self.visit(session, progress, SMALL_VISITS, |point| point.seconds < TARGET).await?
            {
                self.measured.stop = stop;
                break;
            }
            match next {
                Ok(next) => size = next,
                Err(stop) => {
                    let is_short = |point: &Point| point.size > SMALL && point.seconds < CPU_FROM;
                    let visits = self.visit(session, progress, SHORT_VISITS, is_short).await?;
                    self.measured.stop = visits.unwrap_or(stop);
                    break;
                }
            }
        }
        for _ in 0..REFINEMENTS {
            let (Some(killed), Some(last)) = (self.measured.killed, self.measured.points.last()) else {
                break;
            };
            let between = round(geometric_mean(last.size, killed));
            let is_useful = between > last.size && between < killed && float(killed) / float(last.size) > 1.5;
            if !is_useful || !self.is_affordable(between, last.size, RUN_LIMIT.as_secs_f64()) {
                break;
            }
            if self.measured.unkillable && !session.is_private() {
                break;
            }
            self.measure_size(session, between, progress).await?;
        }
        Ok(())
    }

    /// Returns true if a killed run should have ended according to the times before, and another run is possible. Other programs
    /// may have evicted its data from the processor's caches.
    fn is_unexpected(&self, session: &Session, size: u64) -> bool {
        let is_possible = session.is_private() || !self.measured.unkillable;
        let filled = if self.measured.unkillable { 0 } else { size };
        is_possible
            && self.measured.points.len() >= MIN_EXPECTATION
            && self.predict(size) <= NEAR_LIMIT
            && self.is_affordable(size, filled, RUN_LIMIT.as_secs_f64())
    }

    /// Measures the sizes selected by `is_wanted` several more times, until a share of the time budget is used. Returns the reason
    /// to stop, if there is one.
    async fn visit(
        &mut self,
        session: &mut Session,
        progress: &mut impl Progress,
        share: f64,
        is_wanted: impl Fn(&Point) -> bool,
    ) -> Result<Option<Stop>, RehearseError> {
        let limit = self.budget.limit();
        for _ in 1..VISITS {
            let wanted = self.measured.points.iter().filter(|point| is_wanted(point));
            for size in wanted.map(|point| point.size).collect::<Vec<_>>() {
                if self.used() > limit * share {
                    return Ok(None);
                }
                if self.fill_cost * self.elements(size) > limit * VISIT_FILL {
                    continue;
                }
                if let Some(stop) = self.measure_size(session, size, progress).await? {
                    return Ok(Some(stop));
                }
            }
        }
        Ok(None)
    }

    /// Returns the number of elements in the data of a size.
    fn elements(&self, size: u64) -> f64 {
        self.plan.specs.iter().map(|spec| float(spec.elements(size))).sum()
    }

    /// Returns the used part of the time budget, in seconds.
    fn used(&self) -> f64 {
        self.budget.used(self.clock.now().mono, own_time())
    }

    /// Reads the statistics of the server, and charges its CPU time to the budget.
    async fn snapshot(&mut self, session: &mut Session) -> Result<Snapshot, RehearseError> {
        let snapshot = session.snapshot().await?;
        self.budget.read(snapshot.cpu);
        Ok(snapshot)
    }

    /// Returns true if the time budget suffices to measure a size with runs of `run` seconds. Data of the size `filled` already
    /// exists.
    fn is_affordable(&self, size: u64, filled: u64, run: f64) -> bool {
        let mut cost = run * 2.0 + self.fill_cost * (self.elements(size) - self.elements(filled)).max(0.0);
        if self.data.is_written() {
            cost += 2.0 * self.copy_cost * self.elements(size);
        }
        self.budget.allows(cost, self.clock.now().mono, own_time())
    }

    /// Returns the next size to measure, or the reason why there is none.
    fn next_size(&self, size: u64) -> Result<u64, Stop> {
        if !self.plan.grows() {
            return Err(Stop::NothingGrows);
        }
        let Some(next) = ladder(size).filter(|next| *next <= self.max_size) else {
            return self.last_size(size, self.max_size, Stop::MaxSize);
        };
        let predicted = self.predict(next);
        if predicted > NEAR_LIMIT {
            // Find the largest size with a run that ends in time.
            let (mut low, mut high) = (size, next);
            for _ in 0..20 {
                let middle = geometric_mean(low, high);
                if self.predict(middle) > NEAR_LIMIT { high = middle } else { low = middle }
            }
            return self.last_size(size, round(low), Stop::RunLimit);
        }
        if self.is_affordable(next, size, predicted) { Ok(next) } else { Err(Stop::Budget) }
    }

    /// Returns `last` if it is notably larger than `size` and the time budget suffices; otherwise the reason to stop.
    fn last_size(&self, size: u64, last: u64, stop: Stop) -> Result<u64, Stop> {
        let is_useful = float(last) >= float(size) * 1.25;
        if !is_useful {
            Err(stop)
        } else if self.is_affordable(last, size, self.predict(last)) {
            Ok(last)
        } else {
            Err(Stop::Budget)
        }
    }

    /// Predicts the time of a run at a size, in seconds, from the growth between the last two sizes.
    fn predict(&self, size: u64) -> f64 {
        let [.., before, last] = self.measured.points.as_slice() else {
            // The growth is still unknown. The second size is always measured.
            return self.measured.points.last().map_or(0.0, |point| point.seconds);
        };
        let exponent = (last.seconds / before.seconds).ln() / (float(last.size) / float(before.size)).ln();
        let exponent = if exponent.is_finite() { exponent.clamp(0.0, 4.0) } else { 1.0 };
        last.seconds * (float(size) / float(last.size)).powf(exponent)
    }

    /// Measures a size, possibly again. Returns the reason to stop, if there is one.
    async fn measure_size(
        &mut self,
        session: &mut Session,
        size: u64,
        progress: &mut impl Progress,
    ) -> Result<Option<Stop>, RehearseError> {
        let keys: Vec<String> = self.plan.keys.clone();
        let args = self.plan.args_at(size);
        let callable = self.callable.clone();
        let measured = self.measured.points.iter().find(|point| point.size == size).cloned();
        let is_new = measured.is_none();
        let mut point = measured.unwrap_or_else(|| Point { size, ..Point::default() });
        let target = if size <= SMALL { TARGET / float(u64::from(VISITS)) } else { TARGET };
        let (mut batch, mut total) = (if is_new { 1 } else { self.repetitions(point.seconds) }, 0.0);
        let start = self.used();
        for number in 0..MAX_BATCHES {
            progress.at(size, self.used() / self.budget.limit(), self.measured.points.last());
            let before_fill = self.used();
            if self.data.provide(session, size).await? == Filled::OutOfMemory {
                return Ok(Some(Stop::Memory));
            }
            self.snapshot(session).await?;
            self.learn(size, self.used() - before_fill, is_new && number == 0);
            if self.data.is_written() {
                // Copying has evicted the code and the stack of Lua from the processor's caches.
                session.run(&self.reference, &[], &[WARM_UP.to_owned()]).await?;
            }
            let timing = match self.batch(session, &callable, &keys, &args, batch).await? {
                Ok(timing) => timing,
                Err(Run::Failed(text)) if self.measured.points.is_empty() => {
                    return Err(RehearseError::Script(text));
                }
                Err(Run::Failed(text)) => {
                    self.data.set_used();
                    self.measured.failed = Some((size, text));
                    return Ok(Some(Stop::Failed));
                }
                Err(end) => {
                    self.data.set_used();
                    let stop = self.killed(session, size, &end).await?;
                    if point.batches.is_empty() || end == Run::RunsOn {
                        return Ok(Some(stop));
                    }
                    // Another run of this size completed.
                    (self.measured.killed, self.measured.unkillable) = (None, false);
                    self.measured.exceeded = Some(size);
                    self.keep(point);
                    return Ok(Some(Stop::RunLimit));
                }
            };
            point.add(&timing, &callable);
            total += timing.total();
            if timing.difference.changes > 0 {
                self.data.set_used();
            }
            // Stop if the time is used up, or if another batch would exceed it.
            let spent = if self.data.is_written() { total + self.used() - before_fill } else { total };
            let budget = self.budget.limit();
            let is_long = self.used() - start > budget * SIZE_SHARE;
            let is_enough = number >= 2 && spent > target
                || number >= 2 && point.is_reproduced && is_long
                || number >= 1 && timing.net > TARGET && is_long
                || number >= 1 && timing.net > 1.0;
            if is_enough || self.used() >= budget {
                break;
            }
            batch = self.repetitions(timing.net);
        }
        let reference = self.measure_reference(session, size).await?;
        point.reference = match reference {
            Some(reference) if is_new => reference,
            Some(reference) => reference.min(point.reference),
            None => point.reference,
        };
        self.keep(point);
        Ok(None)
    }

    /// Counts the steps at the last measured size, if it is small. Returns the reason to stop, if there is one.
    async fn count_steps(&mut self, session: &mut Session, size: u64) -> Result<Option<Stop>, RehearseError> {
        let is_short = |point: &&Point| COUNTED.contains(&size) && point.seconds < MAX_COUNTED;
        let Some(point) = self.measured.points.last().filter(is_short) else { return Ok(None) };
        let writes = point.changes > 0;
        if !self.is_counting {
            return Ok(None);
        }
        let copy = steps::counting(&self.plan.source, self.plan.function.as_deref(), !writes);
        self.is_counting = false;
        let Some(copy) = copy else { return Ok(None) };
        // The server rejects a copy with too many variables.
        let Ok(copy) = session.load(copy.as_bytes(), None).await else { return Ok(None) };
        if self.data.provide(session, size).await? == Filled::OutOfMemory {
            return Ok(Some(Stop::Memory));
        }
        let end = session.run(&copy, &self.plan.keys, &self.plan.args_at(size)).await?;
        if writes {
            self.data.set_used();
        }
        match end {
            Run::Ended { number: Some(count), .. } => {
                self.measured.steps.push(Steps { size, count: count.unsigned_abs() });
                self.is_counting = true;
            }
            Run::Ended { .. } | Run::Failed(_) => {}
            end => {
                self.data.set_used();
                let stop = self.killed(session, size, &end).await?;
                if end == Run::RunsOn {
                    return Ok(Some(stop));
                }
                // The script itself ended in time.
                (self.measured.killed, self.measured.unkillable) = (None, false);
            }
        }
        Ok(None)
    }

    /// Adds a point, or replaces the point of the same size.
    fn keep(&mut self, point: Point) {
        let points = &mut self.measured.points;
        let position = points.partition_point(|other| other.size < point.size);
        match points.get_mut(position).filter(|other| other.size == point.size) {
            Some(old) => *old = point,
            None => points.insert(position, point),
        }
    }

    /// Returns the number of runs in a batch: 1 if the script writes, because each run then needs its own data.
    fn repetitions(&self, seconds: f64) -> u32 {
        if self.data.is_written() { 1 } else { repetitions(seconds) }
    }

    /// Runs a script several times. The inner `Err` is the outcome of a run that did not succeed.
    async fn batch(
        &mut self,
        session: &mut Session,
        callable: &Callable,
        keys: &[String],
        args: &[String],
        runs: u32,
    ) -> Result<Result<Timing, Run>, RehearseError> {
        let before = self.snapshot(session).await?;
        let mut reply = 0;
        for _ in 0..runs {
            match session.run(callable, keys, args).await? {
                Run::Ended { reply: bytes, .. } => reply = bytes,
                end => return Ok(Err(end)),
            }
        }
        let after = self.snapshot(session).await?;
        Ok(Ok(Timing::new(callable, runs, reply, after.lua_memory, after.since(&before))))
    }

    /// Measures the time of the reference at a size, in seconds. Returns `None` if the size is too large or the time budget does
    /// not suffice.
    async fn measure_reference(
        &mut self,
        session: &mut Session,
        size: u64,
    ) -> Result<Option<f64>, RehearseError> {
        if size > MAX_REFERENCE || self.used() > self.budget.limit() * 0.8 {
            return Ok(None);
        }
        let reference = self.reference.clone();
        let (mut runs, mut shortest) = (1, f64::INFINITY);
        for number in 0..REFERENCE_RUNS {
            let Ok(timing) = self.batch(session, &reference, &[], &[size.to_string()], runs).await? else {
                return Ok(None);
            };
            shortest = shortest.min(timing.net);
            runs = repetitions(timing.net);
            if number >= 1 && timing.net > TARGET {
                break;
            }
        }
        session.eval(COLLECT, &[], &[]).await?;
        Ok(Some(shortest))
    }

    /// Records that a run was killed.
    async fn killed(&mut self, session: &mut Session, size: u64, end: &Run) -> Result<Stop, RehearseError> {
        self.measured.killed = Some(size);
        match end {
            Run::KilledWithServer => {
                self.measured.unkillable = true;
                session.restart().await?;
                self.budget.restart(RUN_LIMIT);
                self.callable =
                    session.load(self.plan.source.as_bytes(), self.plan.function.as_deref()).await?;
                self.data = Data::new(&self.plan.specs);
            }
            Run::RunsOn => self.measured.unkillable = true,
            _ => {
                self.snapshot(session).await?;
            }
        }
        Ok(Stop::Killed)
    }

    /// Updates the estimated cost of providing data.
    fn learn(&mut self, size: u64, seconds: f64, is_first: bool) {
        let filled = self.elements(size);
        if filled < 10_000.0 {
            return;
        }
        if is_first {
            let before = self.measured.points.last().map_or(0.0, |point| self.elements(point.size));
            self.fill_cost = seconds / (filled - before).max(1.0);
        } else if self.data.is_written() {
            self.copy_cost = seconds / filled;
        }
    }
}

impl Measurements {
    /// Returns true if no larger size was measured because the time budget was used up.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.stop == Stop::Budget
    }

    /// Returns true if the script is known to fail at a size.
    pub(crate) fn fails_at(&self, size: f64) -> bool {
        self.failed.as_ref().is_some_and(|(failed, _)| size >= float(*failed))
    }

    /// Returns the samples for the fit: sizes, times, and the factor by which memory was slower than at the best size. If the
    /// measurement was cut short, only reproduced times are included.
    pub(crate) fn samples(&self) -> Vec<TimedRun> {
        let counts = |point: &&Point| point.is_reproduced || !self.is_cut_short();
        let per_element = |point: &Point| {
            let time = point.reference - self.overhead;
            (time > 0.0 && point.size >= MIN_REFERENCE).then(|| time / float(point.size))
        };
        let best = self.points.iter().filter_map(per_element).fold(f64::INFINITY, f64::min);
        let mut slowdown = 1.0;
        let sample = |point: &Point| {
            if let Some(time) = per_element(point) {
                slowdown = time / best;
            }
            TimedRun { size: float(point.size), seconds: point.seconds, slowdown }
        };
        self.points.iter().filter(counts).map(sample).collect()
    }
}

/// Returns the commands that the script called, per run, without those of the rehearsal itself.
fn inner(
    commands: &BTreeMap<String, CommandTime>,
    callable: &Callable,
    runs: u32,
) -> BTreeMap<String, CommandTime> {
    let is_inner = |(name, time): &(&String, &CommandTime)| {
        name.as_str() != callable.command() && !(name.as_str() == "info" && time.calls == 1)
    };
    let per_run =
        |time: &CommandTime| CommandTime { calls: time.calls / u64::from(runs), time: time.time / runs };
    commands.iter().filter(is_inner).map(|(name, time)| (name.clone(), per_run(time))).collect()
}

/// Returns the number of runs in a batch.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "1 to 50"
)]
fn repetitions(seconds: f64) -> u32 {
    (BATCH / seconds.max(1e-7)).clamp(1.0, MAX_BATCH) as u32
}

/// Returns the next size in the sequence 10, 30, 100, 300 and so on.
fn ladder(size: u64) -> Option<u64> {
    let mut step = MIN_SIZE;
    while step <= size {
        let triple = step.checked_mul(3)?;
        step = if triple > size { triple } else { step.checked_mul(10)? };
    }
    Some(step)
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between the sizes"
)]
fn geometric_mean(low: u64, high: u64) -> u64 {
    (float(low) * float(high)).sqrt() as u64
}

/// Rounds down to two significant digits.
fn round(size: u64) -> u64 {
    let mut unit = 1;
    while size / unit >= 100 {
        unit *= 10;
    }
    size / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the timing of a batch. `clock` and `cpu` are the total times by the server's clock and its CPU, in microseconds.
    fn timing(runs: u32, clock: u64, cpu: u64) -> Timing {
        let called = CommandTime { calls: u64::from(runs), time: Duration::from_micros(clock) };
        let difference = Difference {
            commands: BTreeMap::from([("evalsha".to_owned(), called)]),
            cpu: Duration::from_micros(cpu),
            changes: 0,
        };
        Timing::new(&Callable::Script { sha1: String::new() }, runs, 0, 0, difference)
    }

    #[test]
    fn time_without_the_processor_does_not_count() {
        for (runs, clock, cpu, expected) in [
            // An idle machine: the CPU time includes the commands around the run.
            (50, 35, 350, 0.7e-6),
            (1, 900_000, 910_000, 0.9),
            // Other programs ran for a while, even during a run of 0.4 ms.
            (1, 900_000, 300_000, 0.3),
            (4, 6_000, 1_600, 0.4e-3),
            // No CPU time is reported.
            (1, 900_000, 0, 0.9),
        ] {
            let timing = timing(runs, clock, cpu);
            assert!((timing.net - expected).abs() < expected * 1e-9, "{timing:?}");
        }
    }

    #[test]
    fn a_point_takes_the_time_of_its_shortest_batch() {
        let callable = Callable::Script { sha1: String::new() };
        let mut point = Point::default();
        point.add(&timing(2, 8_000, 2_000), &callable);
        assert!(!point.is_reproduced);
        point.add(&timing(1, 900, 1_000), &callable);
        assert!(point.is_reproduced, "1 ms and 0.9 ms");
        point.add(&timing(1, 5_000, 5_000), &callable);
        assert_eq!((point.seconds, point.clock, point.longest, point.runs), (0.9e-3, 0.9e-3, 5e-3, 4));
        assert_eq!(point.batches, [0.9e-3, 1e-3, 5e-3]);
        let mut short = Point::default();
        short.add(&timing(1, 0, 30), &callable);
        assert_eq!(short.batches, [UNIT]);
    }

    #[test]
    fn sizes_grow_by_about_the_root_of_ten() {
        let sizes: Vec<u64> = std::iter::successors(Some(10), |size| ladder(*size)).take(6).collect();
        assert_eq!(sizes, [10, 30, 100, 300, 1000, 3000]);
        assert_eq!(ladder(450), Some(1000));
        assert_eq!((round(1234), round(99), round(98_765_432)), (1200, 99, 98_000_000));
    }
}
