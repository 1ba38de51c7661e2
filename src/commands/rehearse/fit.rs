//! Growth of the measured times: the simplest curve that fits all of them.
//!
//! Times at different sizes differ by orders of magnitude, so the fit minimizes relative deviations. Each time is the sum of a
//! fixed part and a growing part, neither of which is negative. Data that does not fit into any cache makes a run slower than its
//! number of steps suggests. The factor reaches 10 between small and large sizes and hides the difference between n and n log n.
//! The small sizes therefore determine the growth, provided that their growing part exceeds the fixed part. The large sizes only
//! have to lie above the curve by no more than memory explains. Otherwise all sizes determine the growth: the factor is measured
//! with a reference at the same sizes, and the growing part may be slower by a share of it.

/// Deviation that any measurement has. Curves with smaller deviations are equally good.
const NOISE: f64 = 0.07;

/// Maximum deviation of times that are considered constant.
const CONSTANT_NOISE: f64 = 0.08;

/// Maximum ratio of the last time to the median of those at the first three sizes from [`MIN_SIZE`] on, for times that are considered
/// constant. From 300 to 10,000, log n grows by a factor of 1.6.
const MAX_CONSTANT_RATIO: f64 = 1.35;

/// The same for runs that follow a copy of the data.
const MAX_COLD_CONSTANT_RATIO: f64 = 2.5;

/// Tolerance for times of a few microseconds, in seconds. The server counts whole microseconds.
const RESOLUTION: f64 = 2e-6;

/// Ratio of the deviations of two curves above which the simpler curve is rejected.
const CLEARLY: f64 = 1.5;

/// Maximum deviation of an accepted curve.
const MAX_DEVIATION: f64 = 0.45;

/// Deviation above which a sample is considered disturbed.
const DISTURBED: f64 = 0.4;

/// Minimum number of sizes for a fit.
const MIN_SAMPLES: usize = 4;

/// Minimum number of sizes if the time budget ended the measurement. The largest of them is 30,000; up to 10,000, log n looks
/// constant.
const MIN_CUT_SAMPLES: usize = 8;

/// The same for n², which grows too fast to measure more sizes.
const MIN_CUT_QUADRATIC: usize = 7;

/// The same for n and n² if n log n is impossible.
const MIN_CUT_LINEAR: usize = 6;

/// Minimum ratio of the deviation of a simpler curve to that of n log n or n² at which a measurement ended by the time budget
/// excludes the simpler curve.
const EXCLUDED: f64 = 2.5;

/// Maximum deviation of a curve if the time budget ended the measurement.
const MAX_CUT_DEVIATION: f64 = 0.10;

/// Largest size at which the data fits into the processor's caches, and the weight of the sizes up to it. Times at these sizes
/// distinguish n from n log n.
const CACHED: f64 = 3000.0;
const CACHED_WEIGHT: f64 = 3.0;

/// Minimum number of small sizes for them to determine the growth.
const MIN_SMALL_SAMPLES: usize = 5;

/// Minimum ratio of the growing part to the fixed part, at the largest small size, for the small sizes to determine the growth.
const SMALL_GROWN: f64 = 5.0;

/// Deviation that small sizes always have, and the maximum at which they determine the growth. They are measured hundreds of times.
const SMALL_NOISE: f64 = 0.10;
const MAX_SMALL_DEVIATION: f64 = 0.16;

/// Ratio of the deviations of two curves through the small sizes above which the simpler curve is rejected. On a busy machine, n
/// may deviate 1.7 times as much as n log n.
const SMALL_CLEARLY: f64 = 2.0;

/// Number of tried ratios of the linear to the quadratic part, and the factor between successive ratios.
const LINEAR_PARTS: i32 = 26;
const LINEAR_RATIO: f64 = 1.4;

/// Maximum factor by which memory slows a run down, and its growth: `(size / MEMORY_FROM) ^ MEMORY_EXPONENT`.
const MAX_SLOWDOWN: f64 = 12.0;
const MEMORY_FROM: f64 = 1000.0;
const MEMORY_EXPONENT: f64 = 0.6;

/// Maximum deviation, as a logarithm, of a large size from the range that memory explains.
const MAX_OUTSIDE: f64 = 0.3;

/// Maximum exponent of the slowdown over the last factor of 10 in size. A larger exponent means that the growth itself is faster.
const MAX_EXPONENT: f64 = 0.6;

/// Maximum exponent that is extrapolated, and the factor in size over which it is extrapolated.
const MAX_TREND: f64 = 0.4;
const TREND_RANGE: f64 = 10.0;

/// Time in seconds, and ratio of the largest to the smallest time, below which a script that writes is considered constant. Each of
/// its runs follows a copy of the data, which evicts everything else from the processor's caches.
const COLD: f64 = 1e-4;
const MAX_COLD_RATIO: f64 = 10.0;

/// The same ratio if the time budget ended the measurement before this size.
const CERTAIN_COLD_RATIO: f64 = 4.0;
const CERTAIN_COLD_SIZE: f64 = 1e5;

/// Minimum size used for a growth slower than n. A script that reads the first 100 elements is constant from 100 elements on.
const MIN_SIZE: f64 = 100.0;

/// Minimum ratio of the growing part to the fixed part, at the largest size, for a growth of n or faster.
const MIN_GROWN: f64 = 2.0;

/// Minimum time of the largest size, in seconds, at which a growth faster than n is claimed. In a shorter time, the server's
/// rounding to whole microseconds and the fixed part of a call hide the growth.
const MIN_FASTER_THAN_LINEAR: f64 = 2e-4;

/// Shares of the slowdown that are tried.
const SHARES: [f64; 9] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0];

/// Tried ratios of a run's memory per element to that of the reference.
const FOOTPRINTS: [f64; 3] = [1.0, 3.0, 10.0];

/// Deviation added per share of the slowdown, so that no slowdown is assumed without need.
const COST_OF_SHARE: f64 = 0.004;

/// Minimum relative uncertainty of a predicted time.
const UNCERTAINTY: f64 = 0.15;

/// Maximum predicted size.
const MAX_SIZE: f64 = 1e12;

/// Growth of the time with the size, in order from slowest to fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Growth {
    Constant,
    Logarithmic,
    Linear,
    Linearithmic,
    Quadratic,
}

impl Growth {
    /// All variants, the simplest first.
    pub(crate) const ALL: [Self; 5] =
        [Self::Constant, Self::Logarithmic, Self::Linear, Self::Linearithmic, Self::Quadratic];

    /// Returns the human-readable formula.
    pub(crate) const fn formula(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Logarithmic => "log n",
            Self::Linear => "n",
            Self::Linearithmic => "n log n",
            Self::Quadratic => "n²",
        }
    }

    fn at(self, size: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Logarithmic => size.max(2.0).ln(),
            Self::Linear => size,
            Self::Linearithmic => size * size.max(2.0).ln(),
            Self::Quadratic => size * size,
        }
    }

    /// Returns the pairs of share and footprint to try. A script with slow growth touches little data at any size.
    fn memory(self) -> impl Iterator<Item = (f64, f64)> {
        let (max_share, footprints) = match self {
            Self::Constant => (0.25, 1),
            Self::Logarithmic => (1.0, 1),
            _ => (2.0, FOOTPRINTS.len()),
        };
        let shares = SHARES.into_iter().filter(move |share| *share <= max_share);
        shares.flat_map(move |share| {
            let footprints = FOOTPRINTS.into_iter().take(if share > 0.0 { footprints } else { 1 });
            footprints.map(move |footprint| (share, footprint))
        })
    }
}

/// Time of a run at a size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TimedRun {
    pub(crate) size: f64,
    pub(crate) seconds: f64,
    /// Factor by which the memory of the machine is slower at this size than at small sizes; about 1 or more.
    pub(crate) slowdown: f64,
}

/// Curve: `base + factor × (growth(size) + linear × size) × (1 + share × (slowdown(footprint × size) - 1))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Curve {
    pub(crate) growth: Growth,
    base: f64,
    factor: f64,
    /// Coefficient of the linear part; 0 except for n².
    linear: f64,
    share: f64,
    footprint: f64,
    /// Exponent of the slowdown by memory above the largest measured size, up to [`TREND_RANGE`] times that size.
    trend: f64,
    /// Root mean square of the relative deviations, as logarithms.
    pub(crate) deviation: f64,
}

/// Size at which a time is reached, and its range.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Reached {
    pub(crate) size: f64,
    pub(crate) low: f64,
    /// `None` if the time may not be reached at any size.
    pub(crate) high: Option<f64>,
    /// True if `size` is above the largest measured size.
    pub(crate) is_extrapolated: bool,
}

/// Curve fitted to the samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fit {
    /// Cleaned samples in ascending order of size.
    samples: Vec<TimedRun>,
    pub(crate) curve: Curve,
    /// Curves that the samples do not exclude, including `curve`.
    candidates: Vec<Curve>,
    /// Smallest deviation of a simpler curve; infinite if there is none.
    simpler: f64,
    /// Smallest deviation of a curve with faster growth; infinite if there is none.
    faster: f64,
    /// True if n log n is possible.
    may_be_linearithmic: bool,
    /// True if all runs are short, each follows a copy of the data, and their times hardly differ.
    is_short_and_cold: bool,
}

impl Fit {
    /// Fits a curve of one of the possible growths, the slowest first, to samples in ascending order of size. Returns `None` if
    /// there are too few samples or no curve fits. `is_cold` is true if each run follows a copy of the data.
    pub(crate) fn new(samples: &[TimedRun], is_cold: bool, possible: &[Growth]) -> Option<Self> {
        let samples = cleaned(samples);
        if samples.len() < MIN_SAMPLES {
            return None;
        }
        let (first, last) = (samples.first()?.seconds, samples.last()?.seconds);
        let may_be_constant = possible.contains(&Growth::Constant);
        let may_be_linearithmic = possible.contains(&Growth::Linearithmic);
        let is_large = samples.last()?.size >= CERTAIN_COLD_SIZE;
        let certain_ratio = if is_large { MAX_COLD_RATIO } else { CERTAIN_COLD_RATIO };
        let is_short_and_cold = is_cold && last < COLD && last < certain_ratio * first;
        if may_be_constant && is_cold && last < COLD && last < MAX_COLD_RATIO * first {
            let curve = best_curve(Growth::Constant, &samples)?;
            return Some(Self {
                samples,
                curve,
                candidates: vec![curve],
                simpler: f64::INFINITY,
                faster: f64::INFINITY,
                may_be_linearithmic,
                is_short_and_cold,
            });
        }
        let excluded = match by_small_sizes(&samples, possible) {
            Small::Decide(curve, candidates, [simpler, faster]) => {
                return Some(Self {
                    samples,
                    curve,
                    candidates,
                    simpler,
                    faster,
                    may_be_linearithmic,
                    is_short_and_cold,
                });
            }
            Small::Exclude(growth) => Some(growth),
            Small::Unclear => None,
        };
        let curves: Vec<Curve> = possible.iter().filter_map(|growth| best_curve(*growth, &samples)).collect();
        let largest = samples.last()?;
        let shows = |curve: &&Curve| {
            if excluded.is_some_and(|excluded| curve.growth <= excluded) {
                return false;
            }
            curve.growth < Growth::Linear
                || curve.grown(&samples, largest.size) >= MIN_GROWN * curve.base.max(f64::MIN_POSITIVE)
        };
        let possible: Vec<Curve> = curves.iter().filter(shows).copied().collect();
        let best = possible.iter().map(|curve| curve.deviation).fold(f64::INFINITY, f64::min);
        // The median of three sizes, because a single time may be disturbed.
        let starts = samples.iter().filter(|sample| sample.size >= MIN_SIZE).map(|sample| sample.seconds);
        let mut starts: Vec<f64> = starts.take(3).collect();
        starts.sort_by(f64::total_cmp);
        let start = starts.get(starts.len() / 2).copied().unwrap_or(first);
        let max_ratio = if is_cold { MAX_COLD_CONSTANT_RATIO } else { MAX_CONSTANT_RATIO };
        let limit = |curve: &Curve| {
            if curve.growth == Growth::Constant && last <= max_ratio * start + RESOLUTION {
                return f64::INFINITY;
            }
            let noise = if curve.growth == Growth::Constant { CONSTANT_NOISE } else { NOISE };
            (best * CLEARLY).max(noise)
        };
        let curve = *possible.iter().find(|curve| curve.deviation <= limit(curve))?;
        if curve.deviation > MAX_DEVIATION {
            return None;
        }
        let is_near =
            |other: &Curve| other.growth >= curve.growth && other.deviation <= curve.deviation * CLEARLY;
        let [simpler, faster] = others(&curve, &possible);
        let candidates = possible.into_iter().filter(is_near).collect();
        Some(Self { samples, curve, candidates, simpler, faster, may_be_linearithmic, is_short_and_cold })
    }

    /// Returns true if the growth is certain even if the time budget ended the measurement. A machine that is too busy to measure
    /// more sizes has also disturbed those that were measured.
    pub(crate) fn is_certain(&self) -> bool {
        let deviation = self.curve.deviation;
        let is_alone = match self.curve.growth {
            Growth::Constant => true,
            Growth::Logarithmic => self.simpler >= CLEARLY * deviation,
            Growth::Linear => deviation <= NOISE || deviation <= CLEARLY * self.faster,
            Growth::Linearithmic | Growth::Quadratic => self.simpler >= EXCLUDED * deviation,
        };
        let least = match self.curve.growth {
            Growth::Linear | Growth::Quadratic if !self.may_be_linearithmic => MIN_CUT_LINEAR,
            Growth::Quadratic => MIN_CUT_QUADRATIC,
            _ => MIN_CUT_SAMPLES,
        };
        let is_near =
            deviation <= MAX_CUT_DEVIATION || self.is_short_and_cold && self.curve.growth == Growth::Constant;
        is_alone && is_near && self.samples.len() >= least
    }

    /// Returns true if a growth faster than n was found in runs that are too short to show it.
    pub(crate) fn is_too_short(&self) -> bool {
        self.curve.growth > Growth::Linear
            && self.samples.last().is_none_or(|largest| largest.seconds < MIN_FASTER_THAN_LINEAR)
    }

    /// Returns the time at a size, in seconds: interpolated between the measured times, or extrapolated with the curve above the
    /// largest measured size.
    pub(crate) fn at(&self, size: f64) -> f64 {
        self.by(&self.curve, size)
    }

    fn by(&self, curve: &Curve, size: f64) -> f64 {
        let last =
            self.samples.last().copied().unwrap_or(TimedRun { size: 1.0, seconds: 0.0, slowdown: 1.0 });
        if size > last.size {
            let trend = (size / last.size).min(TREND_RANGE).powf(curve.trend);
            return last.seconds * trend * curve.at(&self.samples, size) / curve.at(&self.samples, last.size);
        }
        interpolate(&self.samples, size, |sample| sample.seconds.ln()).exp()
    }

    /// Returns the relative uncertainty of a predicted time.
    fn uncertainty(&self) -> f64 {
        self.curve.deviation.max(UNCERTAINTY)
    }

    /// Returns the size at which a run takes this many seconds; `None` if no size does.
    pub(crate) fn reached(&self, seconds: f64) -> Option<Reached> {
        let size = self.size_at(&self.curve, seconds)?;
        let factor = 1.0 + self.uncertainty();
        let sizes = |seconds: f64| self.candidates.iter().map(move |curve| self.size_at(curve, seconds));
        let low = sizes(seconds / factor).flatten().fold(size, f64::min);
        let high = sizes(seconds * factor).try_fold(size, |high, size| Some(size?.max(high)));
        let largest = self.samples.last().map_or(0.0, |sample| sample.size);
        Some(Reached { size, low, high, is_extrapolated: size > largest })
    }

    fn size_at(&self, curve: &Curve, seconds: f64) -> Option<f64> {
        let first = self.samples.first()?;
        if first.seconds >= seconds {
            return Some(first.size);
        }
        if self.by(curve, MAX_SIZE) < seconds {
            return None;
        }
        let (mut low, mut high) = (first.size.ln(), MAX_SIZE.ln());
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.by(curve, middle.exp()) < seconds { low = middle } else { high = middle }
        }
        Some(high.exp())
    }

    /// Returns true if a run of at least `at_least` seconds at a size agrees with the fit.
    pub(crate) fn allows(&self, size: f64, at_least: f64) -> bool {
        self.at(size) * (1.0 + self.uncertainty()).powi(2) >= at_least
    }
}

impl Curve {
    /// Returns the time at a size, in seconds.
    fn at(&self, samples: &[TimedRun], size: f64) -> f64 {
        self.base + self.grown(samples, size)
    }

    /// Returns the growing part of the time at a size.
    fn grown(&self, samples: &[TimedRun], size: f64) -> f64 {
        let shape = shape(self.growth, samples, size, self.share, self.footprint);
        self.factor * (shape + self.linear * size)
    }
}

/// Removes disturbances from samples. A disturbance only adds time, and a larger size takes no less time than a smaller one. Each
/// sample is therefore limited to the minimum of the samples at larger sizes.
fn cleaned(samples: &[TimedRun]) -> Vec<TimedRun> {
    let mut cleaned = samples.to_vec();
    let (mut seconds, mut slowdown) = (f64::INFINITY, f64::INFINITY);
    for sample in cleaned.iter_mut().rev() {
        seconds = sample.seconds.min(seconds);
        slowdown = sample.slowdown.min(slowdown);
        (sample.seconds, sample.slowdown) = (seconds, slowdown);
    }
    let least = slowdown;
    for sample in &mut cleaned {
        sample.slowdown /= least;
    }
    cleaned
}

/// Returns the value of a growth at a size, including the slowdown by memory.
fn shape(growth: Growth, samples: &[TimedRun], size: f64, share: f64, footprint: f64) -> f64 {
    let slowdown =
        if share > 0.0 { interpolate(samples, size * footprint, |sample| sample.slowdown) } else { 1.0 };
    growth.at(size) * (1.0 + share * (slowdown - 1.0))
}

/// Interpolates a value at a size, linearly in the logarithm of the size. Outside the samples, returns the value of the nearest
/// one.
fn interpolate(samples: &[TimedRun], size: f64, value: impl Fn(&TimedRun) -> f64) -> f64 {
    let after = samples.partition_point(|sample| sample.size < size);
    match (after.checked_sub(1).and_then(|before| samples.get(before)), samples.get(after)) {
        (Some(before), Some(after)) => {
            let weight = (size / before.size).ln() / (after.size / before.size).ln();
            value(before) + weight * (value(after) - value(before))
        }
        (Some(nearest), None) | (None, Some(nearest)) => value(nearest),
        (None, None) => 1.0,
    }
}

/// Returns the curve with the smallest deviation for a growth.
fn best_curve(growth: Growth, samples: &[TimedRun]) -> Option<Curve> {
    let curves = growth.memory().map(|(share, footprint)| {
        let curve = curve(growth, samples, share, footprint);
        Curve { deviation: curve.deviation + COST_OF_SHARE * share, ..curve }
    });
    curves.filter(|curve| curve.deviation.is_finite()).min_by(|a, b| a.deviation.total_cmp(&b.deviation))
}

/// Fits a curve to all samples, except at most one that another program may have slowed down.
fn curve(growth: Growth, samples: &[TimedRun], share: f64, footprint: f64) -> Curve {
    let counts = |sample: &&TimedRun| growth >= Growth::Linear || sample.size >= MIN_SIZE;
    let point = |sample: &TimedRun| Weighted {
        seconds: sample.seconds,
        shape: shape(growth, samples, sample.size, share, footprint),
        weight: if sample.size <= CACHED { CACHED_WEIGHT } else { 1.0 },
    };
    let points: Vec<Weighted> = samples.iter().filter(counts).map(point).collect();
    let (base, factor, deviations) = least_squares(growth, &points);
    let (worst, deviation) = deviations.iter().enumerate().fold((0, 0.0), |worst, (index, deviation)| {
        if *deviation > worst.1 { (index, *deviation) } else { worst }
    });
    let is_disturbed = deviation > DISTURBED && points.len() > MIN_SAMPLES;
    let others = points.iter().enumerate().filter(|(index, _)| !is_disturbed || *index != worst);
    let points: Vec<Weighted> = others.map(|(_, point)| *point).collect();
    let (base, factor, deviations) =
        if is_disturbed { least_squares(growth, &points) } else { (base, factor, deviations) };
    let squares = deviations.iter().zip(&points).map(|(deviation, point)| point.weight * deviation.powi(2));
    let weights = points.iter().map(|point| point.weight).sum::<f64>();
    let deviation = (squares.sum::<f64>() / weights).sqrt();
    Curve { growth, base, factor, linear: 0.0, share, footprint, trend: 0.0, deviation }
}

/// Result of fitting the small sizes.
enum Small {
    /// The curve, all curves that no size excludes, and the smallest deviations of a simpler and of a faster curve.
    Decide(Curve, Vec<Curve>, [f64; 2]),
    /// The growth is faster than this one, which fits the small sizes.
    Exclude(Growth),
    Unclear,
}

fn by_small_sizes(samples: &[TimedRun], possible: &[Growth]) -> Small {
    let small: Vec<TimedRun> = samples.iter().filter(|sample| sample.size <= CACHED).copied().collect();
    let Some(TimedRun { size: largest, .. }) = small.last().filter(|_| small.len() >= MIN_SMALL_SAMPLES)
    else {
        return Small::Unclear;
    };
    let growths = possible.iter().copied().filter(|growth| *growth >= Growth::Linear);
    let curves: Vec<Curve> = growths.filter_map(|growth| small_curve(growth, &small)).collect();
    let best = curves.iter().map(|curve| curve.deviation).fold(f64::INFINITY, f64::min);
    let limit = (best * SMALL_CLEARLY).clamp(SMALL_NOISE, MAX_SMALL_DEVIATION);
    let decides = |curve: &&Curve| {
        let grown = curve.factor * curve.growth.at(*largest);
        let linear = curve.factor * curve.linear * largest;
        curve.deviation <= limit && grown >= SMALL_GROWN * curve.base && grown >= MIN_GROWN * linear
    };
    // Without n log n, memory is slower than expected, unless the times rise like n².
    let may_be_linearithmic = possible.contains(&Growth::Linearithmic);
    let continues = |curve: &Curve| {
        let is_slow = !curve.is_capped(samples) && curve.exponent(samples) <= MAX_EXPONENT;
        curve.continues(samples) || is_slow && !may_be_linearithmic
    };
    let Some(curve) = curves.iter().filter(decides).find(|curve| continues(curve)) else {
        let slower = curves.iter().filter(decides).find(|curve| !curve.is_capped(samples));
        return slower.map_or(Small::Unclear, |curve| Small::Exclude(curve.growth));
    };
    let near = curves.iter().filter(decides).filter(|other| other.growth >= curve.growth);
    let near = near.filter(|other| other.deviation <= curve.deviation * CLEARLY && continues(other));
    // The slowdown by memory may continue or end.
    let candidates =
        near.flat_map(|curve| [*curve, Curve { trend: curve.exponent(samples).max(0.0), ..*curve }]);
    let trend = curve.exponent(samples).clamp(0.0, MAX_TREND);
    let others = others(curve, &curves);
    Small::Decide(Curve { trend, ..*curve }, candidates.collect(), others)
}

/// Returns the smallest deviations of the curves with slower growth than `curve`, and of those with faster growth; infinite if
/// there are none.
fn others(curve: &Curve, curves: &[Curve]) -> [f64; 2] {
    let least = |accepts: &dyn Fn(Growth) -> bool| {
        let others = curves.iter().filter(|other| accepts(other.growth));
        others.map(|other| other.deviation).fold(f64::INFINITY, f64::min)
    };
    [least(&|growth| growth < curve.growth), least(&|growth| growth > curve.growth)]
}

/// Fits a growth to the small sizes. At most one size is left out, because a listpack, a rehash or another program may have changed
/// its time.
fn small_curve(growth: Growth, small: &[TimedRun]) -> Option<Curve> {
    let linear: Vec<f64> = match growth {
        Growth::Quadratic => {
            std::iter::once(0.0).chain((0..LINEAR_PARTS).map(|power| LINEAR_RATIO.powi(power))).collect()
        }
        _ => vec![0.0],
    };
    let curves = linear.into_iter().flat_map(|linear| {
        let without = (0..=small.len()).map(move |left_out| {
            let used = small.iter().enumerate().filter(|(index, _)| *index != left_out);
            let points: Vec<Weighted> = used
                .map(|(_, sample)| Weighted {
                    seconds: sample.seconds,
                    shape: growth.at(sample.size) + linear * sample.size,
                    weight: 1.0,
                })
                .collect();
            let (base, factor, deviations) = least_squares(growth, &points);
            let squares = deviations.iter().map(|deviation| deviation.powi(2)).sum::<f64>();
            let weights = points.iter().map(|point| point.weight).sum::<f64>();
            let deviation = (squares / (weights - 1.0)).sqrt();
            Curve { growth, base, factor, linear, share: 0.0, footprint: 1.0, trend: 0.0, deviation }
        });
        without.collect::<Vec<_>>()
    });
    curves.filter(|curve| curve.deviation.is_finite()).min_by(|a, b| a.deviation.total_cmp(&b.deviation))
}

impl Curve {
    /// Returns the factor by which a sample is above the curve.
    fn slowdown(&self, samples: &[TimedRun], sample: &TimedRun) -> f64 {
        sample.seconds / self.at(samples, sample.size)
    }

    /// Returns true if memory explains the times of the large sizes.
    fn continues(&self, samples: &[TimedRun]) -> bool {
        let mut large = samples.iter().filter(|sample| sample.size > CACHED);
        let is_within = |sample: &TimedRun| {
            let most = (sample.size / MEMORY_FROM).powf(MEMORY_EXPONENT).min(MAX_SLOWDOWN);
            let slowdown = self.slowdown(samples, sample).ln();
            slowdown > -MAX_OUTSIDE && slowdown < most.ln() + MAX_OUTSIDE
        };
        large.all(is_within) && self.exponent(samples) <= MAX_EXPONENT
    }

    /// Returns true if a large size takes clearly less time than the curve predicts.
    fn is_capped(&self, samples: &[TimedRun]) -> bool {
        let mut large = samples.iter().filter(|sample| sample.size > CACHED);
        large.any(|sample| self.slowdown(samples, sample).ln() < -MAX_OUTSIDE)
    }

    /// Returns the exponent of the slowdown over the last factor of 10 in size; 0 if there are too few sizes.
    fn exponent(&self, samples: &[TimedRun]) -> f64 {
        let last = samples.last();
        let before = last.and_then(|last| {
            let earlier = samples.iter().rev().find(|sample| sample.size <= last.size / 9.0)?;
            (earlier.size >= CACHED).then_some((earlier, last))
        });
        before.map_or(0.0, |(earlier, last)| {
            let slowdown = self.slowdown(samples, last) / self.slowdown(samples, earlier);
            slowdown.ln() / (last.size / earlier.size).ln()
        })
    }
}

/// Time of a sample, value of the growth at its size, and weight.
#[derive(Debug, Clone, Copy)]
struct Weighted {
    seconds: f64,
    shape: f64,
    weight: f64,
}

/// Determines base and factor by least squares of the relative deviations: `base/t + factor × shape/t = 1`. Also returns the
/// logarithms of the relative deviations.
fn least_squares(growth: Growth, points: &[Weighted]) -> (f64, f64, Vec<f64>) {
    let (mut xx, mut xy, mut yy, mut x1, mut y1) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for Weighted { seconds, shape, weight } in points {
        let (x, y) = (1.0 / seconds, shape / seconds);
        xx += weight * x * x;
        xy += weight * x * y;
        yy += weight * y * y;
        x1 += weight * x;
        y1 += weight * y;
    }
    let determinant = xx * yy - xy * xy;
    let (base, factor) = ((x1 * yy - y1 * xy) / determinant, (y1 * xx - x1 * xy) / determinant);
    let (base, factor) = if growth == Growth::Constant || !base.is_finite() || base < 0.0 {
        (0.0, y1 / yy)
    } else if factor < 0.0 {
        (x1 / xx, 0.0)
    } else {
        (base, factor)
    };
    let deviation = |point: &Weighted| (point.seconds / (base + factor * point.shape)).ln();
    (base, factor, points.iter().map(deviation).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Measured sizes.
    const SIZES: [f64; 11] = [10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6];

    /// Slowdown by memory at these sizes, as measured.
    const SLOWDOWN: [f64; 11] = [1.0, 1.0, 1.0, 1.0, 1.03, 1.03, 1.05, 1.15, 2.5, 3.5, 4.0];

    /// Returns samples of a time, each multiplied by its noise.
    fn samples(time: impl Fn(f64) -> f64, share: f64, noise: &[f64]) -> Vec<TimedRun> {
        let sizes = SIZES.iter().zip(SLOWDOWN).zip(noise);
        let sample = |((size, slowdown), noise): ((&f64, f64), &f64)| {
            let seconds = (2e-6 + time(*size) * (1.0 + share * (slowdown - 1.0))) * noise;
            TimedRun { size: *size, seconds, slowdown }
        };
        sizes.map(sample).collect()
    }

    /// Time in seconds as a function of the size.
    type Time = fn(f64) -> f64;

    /// Example of each growth.
    const TIMES: [(Growth, Time); 5] = [
        (Growth::Constant, |_| 5e-6),
        (Growth::Logarithmic, |size| 5e-6 * size.ln()),
        (Growth::Linear, |size| 1e-7 * size),
        (Growth::Linearithmic, |size| 3e-8 * size * size.ln()),
        (Growth::Quadratic, |size| 2e-8 * size * size),
    ];

    proptest! {
        #[test]
        fn the_growth_is_found_in_noise(
            noise in proptest::collection::vec(0.96..1.04_f64, 11),
            disturbed in 0..10_usize,
            share in 0.0..1.0_f64,
        ) {
            for (growth, time) in TIMES {
                let share = if growth < Growth::Linear { 0.0 } else { share };
                let mut samples = samples(time, share, &noise);
                // Another program evicted the data from the processor's cache. That may hide the difference between n and n log n.
                if growth != Growth::Linearithmic {
                    samples[disturbed].seconds *= 1.6;
                }
                let found = Fit::new(&samples, false, &Growth::ALL).map(|fit| fit.curve.growth);
                prop_assert_eq!(found, Some(growth));
            }
        }

        #[test]
        fn the_size_reached_in_a_given_time_lies_within_its_range(noise in proptest::collection::vec(0.95..1.05_f64, 11)) {
            let fit = Fit::new(&samples(|size| 1e-7 * size, 0.0, &noise), false, &Growth::ALL).unwrap();
            let reached = fit.reached(1.0).unwrap();
            prop_assert!((0.8e7..1.25e7).contains(&reached.size) && reached.is_extrapolated, "{:?}", reached);
            prop_assert!(reached.low < 1e7 && reached.high.unwrap() > 1e7, "{:?}", reached);
            let reached = fit.reached(0.01).unwrap();
            prop_assert!((0.9e5..1.1e5).contains(&reached.size) && !reached.is_extrapolated, "{:?}", reached);
        }

        #[test]
        fn any_times_give_a_fit_or_none(times in proptest::collection::vec((1e-6..10.0_f64, 0.5..9.0_f64), 0..12)) {
            let sizes = SIZES.iter().zip(times);
            let samples: Vec<TimedRun> =
                sizes.map(|(size, (seconds, slowdown))| TimedRun { size: *size, seconds, slowdown }).collect();
            if let Some(fit) = Fit::new(&samples, false, &Growth::ALL) {
                prop_assert!(fit.at(5e7).is_finite() && fit.curve.deviation.is_finite());
                let reached = fit.reached(1.0);
                prop_assert!(reached.is_none_or(|reached| reached.low <= reached.size), "{:?}", reached);
            }
        }
    }

    /// Returns samples of times in nanoseconds per element, without slowdown of the reference.
    fn measured(per_element: &[f64]) -> Vec<TimedRun> {
        let times = SIZES.iter().zip(per_element);
        times
            .map(|(size, time)| TimedRun { size: *size, seconds: size * time * 1e-9, slowdown: 1.0 })
            .collect()
    }

    /// Times measured with Redis 7.0.15 on a machine with 7 runnable processes per core.
    #[test]
    fn small_sizes_tell_n_from_n_log_n() {
        for (growth, times) in [
            // SMEMBERS, HGETALL, SCAN, LRANGE with a loop.
            (Growth::Linear, &[270.0, 143.0, 111.0, 98.0, 97.0, 105.0, 202.0, 314.0, 438.0, 662.0][..]),
            (Growth::Linear, &[322.0, 183.0, 134.0, 125.0, 136.0, 149.0, 157.0, 476.0, 648.0, 886.0]),
            (Growth::Linear, &[286.0, 161.0, 135.0, 133.0, 125.0, 173.0, 207.0, 568.0, 648.0, 718.0]),
            (Growth::Linear, &[268.0, 164.7, 131.0, 124.9, 152.3, 263.5, 399.2, 448.3, 670.3, 1052.5]),
            (Growth::Linear, &[292.0, 166.7, 134.6, 139.1, 150.2, 182.0, 424.9, 493.6, 684.1]),
            (Growth::Linear, &[344.0, 204.0, 154.0, 141.0, 140.0, 156.0, 133.0, 144.0, 286.0, 321.0, 700.0]),
            // RPOP until the list is empty, with three times as many processes as cores.
            (Growth::Linear, &[2100.0, 1467.0, 830.0, 713.0, 1028.0, 1042.0, 1241.0, 1210.0]),
            // A heap, a merge sort, table.sort.
            (Growth::Linearithmic, &[300.0, 317.0, 406.0, 506.0, 589.0, 690.0, 846.0, 954.0, 1306.0, 1588.0]),
            (
                Growth::Linearithmic,
                &[660.0, 592.0, 664.0, 760.0, 903.0, 1082.0, 1516.0, 1582.0, 2223.0, 2700.0],
            ),
            (Growth::Linearithmic, &[272.0, 181.0, 191.0, 221.0, 255.0, 325.0, 454.0, 657.0, 1084.0, 1518.0]),
            // table.insert(t, 1, …) with the elements of a set, LINDEX in a loop.
            (Growth::Quadratic, &[360.0, 317.0, 486.0, 1156.0, 3307.0, 10126.0, 33145.0]),
            (Growth::Quadratic, &[640.0, 757.0, 1779.0, 4913.0, 16573.0, 48517.0]),
        ] {
            let fit = Fit::new(&measured(times), false, &Growth::ALL);
            assert_eq!(fit.map(|fit| fit.curve.growth), Some(growth), "{times:?}");
        }
    }

    #[test]
    fn the_slowdown_by_memory_is_extrapolated() {
        // HGETALL: 1,093 ns per element at a million elements.
        let fit = Fit::new(
            &measured(&[322.0, 183.0, 134.0, 125.0, 136.0, 149.0, 385.0, 400.0, 508.0, 760.0]),
            false,
            &Growth::ALL,
        )
        .unwrap();
        let reached = fit.reached(1.0).unwrap();
        assert!((0.8e6..1.1e6).contains(&reached.size), "{reached:?}");
        assert!(reached.high.is_some_and(|high| high > 1.3e6), "it may end: {reached:?}");
    }

    #[test]
    fn microsecond_times_that_rise_slightly_are_constant() {
        // LRANGE of 100 elements, with other programs running.
        let times = [2.6, 5.1, 9.2, 8.7, 8.8, 9.7, 9.9, 10.0, 10.5, 12.9, 11.6];
        let per_element: Vec<f64> = SIZES.iter().zip(times).map(|(size, time)| time * 1e3 / size).collect();
        let fit = Fit::new(&measured(&per_element), false, &Growth::ALL).unwrap();
        assert_eq!(fit.curve.growth, Growth::Constant);
        // HGET of a field.
        let times = [1.0, 1.0, 1.1, 1.0, 1.2, 1.2, 1.6, 2.0, 2.6, 3.1];
        let per_element: Vec<f64> = SIZES.iter().zip(times).map(|(size, time)| time * 1e3 / size).collect();
        let fit = Fit::new(&measured(&per_element), false, &Growth::ALL).unwrap();
        assert_eq!(fit.curve.growth, Growth::Constant);
        // 300 lookups, whose time at 100 elements is too short.
        let times = [272.8, 265.5, 217.6, 269.4, 344.5, 348.7, 344.8];
        let per_element: Vec<f64> = SIZES.iter().zip(times).map(|(size, time)| time * 1e3 / size).collect();
        let fit = Fit::new(&measured(&per_element), false, &Growth::ALL).unwrap();
        assert_eq!(fit.curve.growth, Growth::Constant);
        // 20 lookups per bit of n.
        let times = [32.7, 41.8, 68.6, 119.6, 71.9, 84.6, 95.7, 109.8, 116.8, 130.0];
        let per_element: Vec<f64> = SIZES.iter().zip(times).map(|(size, time)| time * 1e3 / size).collect();
        let fit = Fit::new(&measured(&per_element), false, &Growth::ALL).unwrap();
        assert_eq!(fit.curve.growth, Growth::Logarithmic);
    }

    /// HSET, ZADD and ZRANGE of a few elements, after a copy of the data.
    #[test]
    fn cache_misses_after_a_copy_do_not_count_as_growth() {
        let times = [8.0, 7.0, 8.0, 10.0, 7.0, 8.0, 10.0, 18.0, 32.0, 28.0];
        let samples: Vec<TimedRun> = SIZES
            .iter()
            .zip(times)
            .map(|(size, time)| TimedRun { size: *size, seconds: time * 1e-6, slowdown: 1.0 })
            .collect();
        let growth = |is_cold| Fit::new(&samples, is_cold, &Growth::ALL).map(|fit| fit.curve.growth);
        assert_eq!(growth(true), Some(Growth::Constant));
        // If the time budget ended the measurement, the times of at least eight sizes must hardly differ.
        let certain = |count: usize| Fit::new(&samples[..count], true, &Growth::ALL).unwrap().is_certain();
        assert_eq!([7, 8].map(certain), [false, true]);
        let disturbed = |count: usize, factor: f64| {
            let mut samples = samples[..count].to_vec();
            samples[count - 1].seconds *= factor;
            Fit::new(&samples, true, &Growth::ALL).unwrap().is_certain()
        };
        assert_eq!([disturbed(8, 3.0), disturbed(9, 2.0)], [false, true]);
        // LPUSH and RPOP, 100 times each.
        let times = [98.0, 95.0, 97.0, 99.0, 102.0, 110.0, 125.0, 150.0, 165.0, 170.0];
        let per_element: Vec<f64> = SIZES.iter().zip(times).map(|(size, time)| time * 1e3 / size).collect();
        let fit = Fit::new(&measured(&per_element), true, &Growth::ALL).unwrap();
        assert_eq!(fit.curve.growth, Growth::Constant);
        // The same with 44 runnable processes.
        let times = [101.0, 95.0, 111.0, 104.0, 117.0, 119.1, 131.0, 213.0, 160.0, 210.0];
        let per_element: Vec<f64> = SIZES.iter().zip(times).map(|(size, time)| time * 1e3 / size).collect();
        let fit = Fit::new(&measured(&per_element), true, &Growth::ALL).unwrap();
        assert_eq!(fit.curve.growth, Growth::Constant);
        assert!(growth(false) > Some(Growth::Constant));
    }

    #[test]
    fn a_quadratic_part_that_only_large_sizes_show_is_not_linear() {
        let times: Vec<f64> = SIZES.iter().map(|size| 100.0 + 1e-3 * size).collect();
        let fit = Fit::new(&measured(&times), false, &Growth::ALL);
        assert!(fit.is_none_or(|fit| fit.curve.growth > Growth::Linear));
    }

    #[test]
    fn a_growth_that_the_data_does_not_show_is_not_claimed() {
        // 1 ms, plus 10 ns per element up to 10,000 elements: 10 % more.
        let samples: Vec<TimedRun> = samples(|size| 1e-3 + 1e-8 * size, 0.0, &[1.0; 7]);
        let fit = Fit::new(&samples, false, &Growth::ALL).unwrap();
        assert!(fit.curve.growth < Growth::Linear, "{:?}", fit.curve);
        assert_eq!(fit.reached(5.0), None);
        assert_eq!(Fit::new(&samples[..3], false, &Growth::ALL), None, "too few");
    }

    #[test]
    fn growth_is_certain_once_enough_sizes_rule_out_simpler_growth() {
        // 20 lookups per bit of n look constant up to 3,000.
        let logarithm = samples(|size| 2e-5 * size.ln(), 0.0, &[1.0; 11]);
        let certain = |count: usize| {
            Fit::new(&logarithm[..count], false, &Growth::ALL)
                .filter(Fit::is_certain)
                .map(|fit| fit.curve.growth)
        };
        assert_eq!((4..8).map(certain).collect::<Vec<_>>(), [None; 4]);
        assert_eq!(certain(8), Some(Growth::Logarithmic));
        let quadratic = samples(|size| 2e-8 * size * size, 0.0, &[1.0; 11]);
        let certain = |count: usize| {
            Fit::new(&quadratic[..count], false, &Growth::ALL).is_some_and(|fit| fit.is_certain())
        };
        assert_eq!((certain(6), certain(7)), (false, true));
        // The same logarithm with disturbed first sizes: from 100 to 30,000, the time rises by less than half.
        let noise = [1.3, 1.3, 1.3, 1.0, 1.0, 1.0, 1.0, 1.0];
        let disturbed =
            Fit::new(&samples(|size| 2e-5 * size.ln(), 0.0, &noise), false, &Growth::ALL).unwrap();
        assert!(disturbed.curve.growth == Growth::Logarithmic || !disturbed.is_certain(), "{disturbed:?}");
        // Without n log n, fewer sizes suffice for n and n².
        let linear = samples(|size| 1e-7 * size, 0.0, &[1.0; 11]);
        let certain = |count: usize, possible: &[Growth]| {
            Fit::new(&linear[..count], false, possible).is_some_and(|fit| fit.is_certain())
        };
        let without = [Growth::Constant, Growth::Linear, Growth::Quadratic];
        assert_eq!(
            (certain(5, &without), certain(6, &without), certain(7, &Growth::ALL)),
            (false, true, false)
        );
        // n log n with noise that does not exclude n.
        let noise = [1.1, 0.9, 1.1, 1.0, 1.1, 0.9, 1.1, 0.9, 1.0];
        let unclear = Fit::new(&samples(|size| 3e-8 * size * size.ln(), 0.0, &noise), false, &Growth::ALL);
        let is_possible = |growth| matches!(growth, Growth::Linear | Growth::Linearithmic);
        assert!(unclear.is_none_or(|fit| is_possible(fit.curve.growth) && !fit.is_certain()));
    }

    #[test]
    fn microsecond_runs_are_too_short_to_show_superlinear_growth() {
        let is_too_short = |seconds_at_ten: f64| {
            let samples = samples(|size| seconds_at_ten * size * size / 100.0, 0.0, &[1.0; 5]);
            let fit = Fit::new(&samples, false, &Growth::ALL).unwrap();
            assert_eq!(fit.curve.growth, Growth::Quadratic);
            fit.is_too_short()
        };
        // 0.1 ms and 10 ms at 1,000 elements.
        assert!(is_too_short(1e-8));
        assert!(!is_too_short(1e-6));
        let linear = Fit::new(&samples(|size| 1e-9 * size, 0.0, &[1.0; 5]), false, &Growth::ALL).unwrap();
        assert!(!linear.is_too_short());
    }

    #[test]
    fn impossible_growths_are_not_claimed() {
        // A merge sort beside a large linear part, which looks like n with slower memory, and HGETALL on a busy machine.
        let merge = [1250.0, 1254.0, 1270.0, 1300.0, 1380.0, 1390.0, 1700.0, 2000.0, 2500.0, 2900.0];
        let hash = [322.0, 183.0, 134.0, 150.0, 170.0, 200.0, 240.0, 476.0, 648.0, 886.0];
        let growth = |times: &[f64], possible: &[Growth]| {
            Fit::new(&measured(times), false, possible).map(|fit| fit.curve.growth)
        };
        assert_eq!(growth(&merge, &Growth::ALL), Some(Growth::Linear));
        assert_eq!(growth(&merge, &Growth::ALL[3..]), Some(Growth::Linearithmic));
        assert_eq!(growth(&hash, &Growth::ALL), Some(Growth::Linearithmic));
        let without = [Growth::Constant, Growth::Logarithmic, Growth::Linear, Growth::Quadratic];
        assert_eq!(growth(&hash, &without), Some(Growth::Linear));
        // On a machine whose memory is even slower, and n² that only the large sizes show.
        let slow = [300.0, 170.0, 135.0, 132.0, 140.0, 190.0, 700.0, 1100.0, 1500.0, 1900.0];
        assert_eq!(growth(&slow, &without), Some(Growth::Linear));
        let late: Vec<f64> = SIZES.iter().map(|size| 100.0 + 1e-3 * size).collect();
        assert_ne!(growth(&late, &without), Some(Growth::Linear));
    }

    #[test]
    fn a_run_that_was_killed_may_contradict_the_fit() {
        let fit = Fit::new(&samples(|size| 1e-7 * size, 0.0, &[1.0; 9]), false, &Growth::ALL).unwrap();
        assert!(fit.allows(3e7, 2.0));
        assert!(!fit.allows(3e5, 2.0));
    }
}
