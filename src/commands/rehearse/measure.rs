//! Runs of a script at growing sizes of its data.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{RehearseError, Remains};
use super::fill::{Data, Filled};
use super::fit::TimedRun;
use super::plan::Plan;
use super::session::{Callable, RUN_LIMIT, Run, Session};
use super::snapshot::{CommandTime, Difference};
use crate::clock::{Clock, Mono};
use crate::convert::float;

/// Smallest size.
const MIN_SIZE: u64 = 10;

/// Predicted time of a run above which no larger size is measured, so that few runs are killed.
const NEAR_LIMIT: f64 = 1.2;

/// Total time of the runs of one size that is aimed at.
const TARGET: f64 = 0.3;

/// Maximum number of batches per size.
const MAX_BATCHES: u32 = 9;

/// Largest size that is measured more often, and its maximum number of batches. These sizes tell n from n log n, and a few milliseconds
/// may all be disturbed by another program.
const SMALL: u64 = 3000;
const MAX_SMALL_BATCHES: u32 = 30;

/// Part of the time budget for one size, once its time is reproduced: many sizes tell more than many batches of a few.
const SIZE_SHARE: f64 = 1.0 / 16.0;

/// Ratio of the two shortest batches up to which the time of a size is reproduced.
const REPRODUCED: f64 = 1.3;

/// Time of a batch that is aimed at: short runs are repeated, because the server counts whole microseconds.
const BATCH: f64 = 0.002;

/// Maximum number of runs of a batch.
const MAX_BATCH: f64 = 50.0;

/// Time of a run above which its processor time is compared, which has the commands around the run in it.
const CPU_FROM: f64 = 0.005;

/// Number of sizes that are tried between the last run that ended and the first that was killed.
const REFINEMENTS: usize = 2;

/// Reference: creates strings and keeps them in a table, which takes time in proportion to their number, apart from the time that
/// memory takes: more strings fit into no cache. Both are as in scripts that read a collection.
const REFERENCE: &str = "\
local strings, format = {}, string.format
for i = 1, tonumber(ARGV[1]) do strings[i] = format('%016d', i) end
return #strings";

/// Elements of the reference that runs between copying the data and the script.
const WARM_UP: &str = "1000";

/// Frees what [`REFERENCE`] has left.
const COLLECT: &str = "return collectgarbage('collect')";

/// Largest size of the reference; it takes as much memory as a script that reads a collection.
const MAX_REFERENCE: u64 = 1_000_000;

/// Smallest size of the reference that is compared; below it the time is mostly that of the call.
const MIN_REFERENCE: u64 = 100;

/// Elements of the reference that measures the speed of the machine.
pub(crate) const CALIBRATION: u64 = 10_000;

/// Number of measurements of the reference.
const REFERENCE_RUNS: u32 = 5;

/// Measurement of one size.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Point {
    pub(crate) size: u64,
    /// Shortest time of a run, without the time in which the server waited for the processor, seconds.
    pub(crate) seconds: f64,
    /// Longest time of a run, by the server's clock, seconds.
    pub(crate) longest: f64,
    pub(crate) runs: u32,
    /// Bytes of the reply.
    pub(crate) reply: u64,
    /// Memory of the Lua virtual machine after the runs, bytes.
    pub(crate) lua_memory: u64,
    /// Commands of one run.
    pub(crate) commands: BTreeMap<String, CommandTime>,
    /// Changes to the data by one run.
    pub(crate) changes: u64,
    /// Part of the time in which the server waited for the processor, 0 to 1.
    pub(crate) waited: f64,
    /// Time of the reference at this size, seconds; 0 if it was not measured.
    pub(crate) reference: f64,
    /// True if two batches took the same time, or the processor time counted.
    pub(crate) is_reproduced: bool,
}

/// Reason for which no larger size was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The size of `--max-size` was measured.
    #[default]
    MaxSize,
    /// The next size would take longer than a run may.
    RunLimit,
    /// No time is left.
    Budget,
    /// The server has reached its memory limit.
    Memory,
    /// Nothing of the data grows.
    NothingGrows,
    /// A run was killed.
    Killed,
}

/// All measurements of a script.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Measurements {
    pub(crate) points: Vec<Point>,
    /// Size at which a run was killed.
    pub(crate) killed: Option<u64>,
    /// True if it had written and only the end of the server ended it.
    pub(crate) unkillable: bool,
    pub(crate) stop: Stop,
    /// Time of the reference without elements, seconds.
    overhead: f64,
    /// Time of the reference with [`CALIBRATION`] elements, seconds: the speed of this machine.
    pub(crate) calibration: f64,
}

/// Receiver of the progress.
pub(crate) trait Progress {
    /// A size is filled or measured; `share` of the time budget is used.
    fn at(&mut self, size: u64, share: f64, last: Option<&Point>);
}

/// Bounds of the measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) max_size: u64,
    pub(crate) budget: Duration,
}

/// Time of the runs of a batch.
struct Timing {
    /// All runs by the server's clock, seconds.
    clock: f64,
    /// Processor time of all runs and of the commands around them, seconds.
    cpu: f64,
    /// One run by the server's clock, seconds.
    seconds: f64,
    /// One run without the time in which the server waited for the processor, seconds.
    net: f64,
    reply: u64,
    lua_memory: u64,
    difference: Difference,
}

/// Measurement in progress.
struct Rehearsal<'a> {
    plan: &'a Plan,
    bounds: Bounds,
    clock: &'a Clock,
    start: Mono,
    data: Data<'a>,
    callable: Callable,
    reference: Callable,
    measured: Measurements,
    /// Seconds to create an element.
    fill_cost: f64,
    /// Seconds to provide the data of a run that follows one that wrote, per element.
    copy_cost: f64,
}

/// Measures a script at growing sizes.
///
/// # Errors
/// The script fails, or the server.
pub(crate) async fn measure(
    session: &mut Session,
    plan: &Plan,
    bounds: Bounds,
    clock: &Clock,
    progress: &mut impl Progress,
) -> Result<Measurements, RehearseError> {
    let callable = session.load(plan.source.as_bytes(), plan.function.as_deref()).await?;
    let reference = session.load(REFERENCE.as_bytes(), None).await?;
    let mut rehearsal = Rehearsal {
        plan,
        bounds,
        clock,
        start: clock.now().mono,
        data: Data::new(&plan.specs),
        callable,
        reference,
        measured: Measurements::default(),
        fill_cost: 1e-6,
        copy_cost: 0.5e-6,
    };
    let result = rehearsal.grow(session, progress).await;
    let removed = if rehearsal.measured.unkillable { Ok(()) } else { rehearsal.data.remove(session).await };
    // The error of the rehearsal is the one to report.
    result.map_err(|error| match error {
        RehearseError::Interrupted(_) if removed.is_ok() => RehearseError::Interrupted(Remains::Removed),
        error => error,
    })?;
    removed?;
    Ok(rehearsal.measured)
}

impl Rehearsal<'_> {
    /// Measures the sizes from the smallest on.
    async fn grow(
        &mut self,
        session: &mut Session,
        progress: &mut impl Progress,
    ) -> Result<(), RehearseError> {
        let mut size = MIN_SIZE.min(self.bounds.max_size);
        self.measured.calibration = self.measure_reference(session, CALIBRATION).await?.unwrap_or(0.0);
        self.measured.overhead = self.measure_reference(session, 0).await?.unwrap_or(0.0);
        loop {
            if let Some(stop) = self.measure_size(session, size, progress).await? {
                self.measured.stop = stop;
                break;
            }
            match self.next_size(size) {
                Ok(next) => size = next,
                Err(stop) => {
                    self.measured.stop = stop;
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

    fn used(&self) -> f64 {
        self.clock.now().mono.since(self.start).as_secs_f64()
    }

    /// True if the time budget suffices for a size.
    fn is_affordable(&self, size: u64, filled: u64, run: f64) -> bool {
        let elements = |size: u64| self.plan.specs.iter().map(|spec| float(spec.elements(size))).sum::<f64>();
        let mut cost = run * 2.0 + self.fill_cost * (elements(size) - elements(filled)).max(0.0);
        if self.data.is_written() {
            cost += 2.0 * self.copy_cost * elements(size);
        }
        self.used() + cost < self.bounds.budget.as_secs_f64()
    }

    /// Next size after one, or the reason for which there is none.
    fn next_size(&self, size: u64) -> Result<u64, Stop> {
        if !self.plan.grows() {
            return Err(Stop::NothingGrows);
        }
        let Some(next) = ladder(size).filter(|next| *next <= self.bounds.max_size) else {
            return self.last_size(size, self.bounds.max_size, Stop::MaxSize);
        };
        let predicted = self.predict(next);
        if predicted > NEAR_LIMIT {
            // The largest size that ends in time.
            let (mut low, mut high) = (size, next);
            for _ in 0..20 {
                let middle = geometric_mean(low, high);
                if self.predict(middle) > NEAR_LIMIT { high = middle } else { low = middle }
            }
            return self.last_size(size, round(low), Stop::RunLimit);
        }
        if self.is_affordable(next, size, predicted) { Ok(next) } else { Err(Stop::Budget) }
    }

    /// A last size, if it is notably larger than the one before.
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

    /// Time of a run at a size by the growth between the last two sizes.
    fn predict(&self, size: u64) -> f64 {
        let [.., before, last] = self.measured.points.as_slice() else {
            // Nothing is known: the second size is measured in any case.
            return self.measured.points.last().map_or(0.0, |point| point.seconds);
        };
        let exponent = (last.seconds / before.seconds).ln() / (float(last.size) / float(before.size)).ln();
        let exponent = if exponent.is_finite() { exponent.clamp(0.0, 4.0) } else { 1.0 };
        last.seconds * (float(size) / float(last.size)).powf(exponent)
    }

    /// Measures one size; returns the reason to stop, if there is one.
    async fn measure_size(
        &mut self,
        session: &mut Session,
        size: u64,
        progress: &mut impl Progress,
    ) -> Result<Option<Stop>, RehearseError> {
        let keys: Vec<String> = self.plan.keys.clone();
        let args = self.plan.args_at(size);
        let mut point = Point { size, ..Point::default() };
        let (mut batch, mut total, mut shortest, mut second) = (1_u32, 0.0, f64::INFINITY, f64::INFINITY);
        let (mut cpu, mut clock) = (0.0, 0.0);
        let start = self.used();
        for number in 0..if size <= SMALL { MAX_SMALL_BATCHES } else { MAX_BATCHES } {
            progress.at(size, self.used() / self.bounds.budget.as_secs_f64(), self.measured.points.last());
            let before_fill = self.used();
            if self.data.provide(session, size).await? == Filled::OutOfMemory {
                return Ok(Some(Stop::Memory));
            }
            self.learn(size, self.used() - before_fill, number == 0);
            if self.data.is_written() {
                // Copying has displaced the code and the stack of Lua from the processor's caches.
                session.run(&self.reference, &[], &[WARM_UP.to_owned()]).await?;
            }
            let timing = match self.batch(session, &self.callable, &keys, &args, batch).await? {
                Ok(timing) => timing,
                Err(Run::Failed(text)) => return Err(RehearseError::Script(text)),
                Err(end) => {
                    self.data.set_used();
                    return self.killed(session, size, &end).await.map(Some);
                }
            };
            clock += timing.clock;
            cpu += timing.cpu;
            point.runs += batch;
            point.reply = timing.reply;
            point.longest = point.longest.max(timing.seconds);
            point.lua_memory = point.lua_memory.max(timing.lua_memory);
            if timing.net >= shortest {
                second = second.min(timing.net);
            } else {
                second = shortest;
                shortest = timing.net;
                point.commands = inner(&timing.difference.commands, &self.callable, batch);
                point.changes = timing.difference.changes / u64::from(batch);
            }
            total += timing.clock;
            if timing.difference.changes > 0 {
                self.data.set_used();
            }
            // Enough: the time is used, or one more would exceed it.
            let spent = if self.data.is_written() { total + self.used() - before_fill } else { total };
            let is_reproduced = second <= shortest * REPRODUCED;
            let budget = self.bounds.budget.as_secs_f64();
            let is_enough = number >= 2 && spent > TARGET
                || number >= 2 && is_reproduced && self.used() - start > budget * SIZE_SHARE
                || number >= 1 && timing.seconds > TARGET
                || timing.seconds > 1.0;
            if is_enough || self.used() >= budget {
                break;
            }
            if !self.data.is_written() {
                batch = repetitions(timing.net);
            }
        }
        // A run of less than the server's unit takes half of it, on average.
        point.seconds = shortest.max(0.5e-6);
        point.is_reproduced = second <= shortest * REPRODUCED || shortest > CPU_FROM;
        point.waited = if clock > CPU_FROM && cpu > 0.0 { (1.0 - cpu / clock).max(0.0) } else { 0.0 };
        point.reference = self.measure_reference(session, size).await?.unwrap_or(0.0);
        let position = self.measured.points.partition_point(|other| other.size < size);
        self.measured.points.insert(position, point);
        Ok(None)
    }

    /// Runs a script several times; `Err` has the end of a run that did not reply.
    async fn batch(
        &self,
        session: &mut Session,
        callable: &Callable,
        keys: &[String],
        args: &[String],
        runs: u32,
    ) -> Result<Result<Timing, Run>, RehearseError> {
        let before = session.snapshot().await?;
        let mut reply = 0;
        for _ in 0..runs {
            match session.run(callable, keys, args).await? {
                Run::Ended { reply: bytes } => reply = bytes,
                end => return Ok(Err(end)),
            }
        }
        let after = session.snapshot().await?;
        let difference = after.since(&before);
        let clock = difference.commands.get(callable.command()).map_or(Duration::ZERO, |called| called.time);
        let (clock, cpu) = (clock.as_secs_f64(), difference.cpu.as_secs_f64());
        let count = float(u64::from(runs));
        let (seconds, processor) = (clock / count, cpu / count);
        let net = if seconds > CPU_FROM && processor > 0.0 { seconds.min(processor) } else { seconds };
        Ok(Ok(Timing { clock, cpu, seconds, net, reply, lua_memory: after.lua_memory, difference }))
    }

    /// Time of the reference at a size; `None` if the size is too large, or the time does not suffice.
    async fn measure_reference(
        &self,
        session: &mut Session,
        size: u64,
    ) -> Result<Option<f64>, RehearseError> {
        if size > MAX_REFERENCE || self.used() > self.bounds.budget.as_secs_f64() * 0.8 {
            return Ok(None);
        }
        let (mut runs, mut shortest) = (1, f64::INFINITY);
        for number in 0..REFERENCE_RUNS {
            let Ok(timing) = self.batch(session, &self.reference, &[], &[size.to_string()], runs).await?
            else {
                return Ok(None);
            };
            shortest = shortest.min(timing.net);
            runs = repetitions(timing.net);
            if number >= 1 && timing.seconds > TARGET {
                break;
            }
        }
        session.eval(COLLECT, &[], &[]).await?;
        Ok(Some(shortest))
    }

    /// Notes that a run was killed.
    async fn killed(&mut self, session: &mut Session, size: u64, end: &Run) -> Result<Stop, RehearseError> {
        self.measured.killed = Some(size);
        match end {
            Run::KilledWithServer => {
                self.measured.unkillable = true;
                session.restart().await?;
                self.callable =
                    session.load(self.plan.source.as_bytes(), self.plan.function.as_deref()).await?;
                self.data = Data::new(&self.plan.specs);
            }
            Run::RunsOn => self.measured.unkillable = true,
            _ => {}
        }
        Ok(Stop::Killed)
    }

    /// Learns the cost of providing data.
    fn learn(&mut self, size: u64, seconds: f64, is_first: bool) {
        let elements = |size: u64| self.plan.specs.iter().map(|spec| float(spec.elements(size))).sum::<f64>();
        let filled = elements(size);
        if filled < 10_000.0 {
            return;
        }
        if is_first {
            let before = self.measured.points.last().map_or(0.0, |point| elements(point.size));
            self.fill_cost = seconds / (filled - before).max(1.0);
        } else if self.data.is_written() {
            self.copy_cost = seconds / filled;
        }
    }
}

impl Measurements {
    /// True if no larger size was measured because the time budget was used.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.stop == Stop::Budget
    }

    /// Samples for the fit: sizes, times, and the factor by which memory was slower than at the best size. Of a measurement that was
    /// cut short, only those that are reproduced.
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

/// Commands that a run called, per run: all but those of the rehearsal.
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

/// Number of runs of a batch.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "1 to 50"
)]
fn repetitions(seconds: f64) -> u32 {
    (BATCH / seconds.max(1e-7)).clamp(1.0, MAX_BATCH) as u32
}

/// Next size of 10, 30, 100, 300 and so on.
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

/// Rounds down to two digits.
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

    #[test]
    fn sizes_grow_by_about_the_root_of_ten() {
        let sizes: Vec<u64> = std::iter::successors(Some(10), |size| ladder(*size)).take(6).collect();
        assert_eq!(sizes, [10, 30, 100, 300, 1000, 3000]);
        assert_eq!(ladder(450), Some(1000));
        assert_eq!((round(1234), round(99), round(98_765_432)), (1200, 99, 98_000_000));
    }
}
