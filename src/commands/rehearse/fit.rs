//! Growth of the measured times: the simplest curve that passes near all of them.
//!
//! Times at different sizes differ by orders of magnitude, so relative deviations are minimised. A time is the sum of a fixed part
//! and a part that grows; neither is negative. Memory that fits into no cache makes a run slower than its number of steps tells, by
//! a factor of up to 10 between small and large sizes. The factor is measured with a reference at the same sizes, and the part that
//! grows may be slower by some power of it.

/// Deviation that measurements have in any case; curves below it are equally good.
const NOISE: f64 = 0.07;

/// Deviation up to which times count as constant.
const CONSTANT_NOISE: f64 = 0.08;

/// Factor between the deviations of two curves from which on the simpler one is rejected.
const CLEARLY: f64 = 1.5;

/// Largest deviation at which a curve is accepted at all.
const MAX_DEVIATION: f64 = 0.45;

/// Deviation from which on a sample counts as disturbed.
const DISTURBED: f64 = 0.4;

/// Minimum number of sizes.
const MIN_SAMPLES: usize = 4;

/// Largest size whose data fits into the processor's caches, and the weight of those sizes: there the times tell n from n log n.
const CACHED: f64 = 3000.0;
const CACHED_WEIGHT: f64 = 3.0;

/// Smallest size that counts for a growth below n. A script that reads the first 100 elements is constant from 100 elements on.
const MIN_SIZE: f64 = 100.0;

/// Minimum ratio of the part that grows to the fixed part, at the largest size, for a growth of n and more.
const MIN_GROWN: f64 = 2.0;

/// Parts of the slowdown that a run may have.
const SHARES: [f64; 9] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0];

/// Factors between the memory of an element of a run and of the reference.
const FOOTPRINTS: [f64; 3] = [1.0, 3.0, 10.0];

/// Deviation that a share of the slowdown costs, so that none is assumed without need.
const COST_OF_SHARE: f64 = 0.004;

/// Smallest relative uncertainty of a predicted time.
const UNCERTAINTY: f64 = 0.15;

/// Largest size that is predicted.
const MAX_SIZE: f64 = 1e12;

/// Growth, the slowest first.
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
    /// All, the simplest first.
    const ALL: [Self; 5] =
        [Self::Constant, Self::Logarithmic, Self::Linear, Self::Linearithmic, Self::Quadratic];

    /// Formula for people.
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

    /// Shares of the slowdown and footprints that are tried. Little data is touched at each size if the growth is slow.
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
pub(crate) struct Sample {
    pub(crate) size: f64,
    pub(crate) seconds: f64,
    /// Factor by which the memory of the machine is slower at this size than at small ones, about 1 or more.
    pub(crate) slowdown: f64,
}

/// Curve: `base + factor × growth(size) × (1 + share × (slowdown(footprint × size) - 1))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Curve {
    pub(crate) growth: Growth,
    base: f64,
    factor: f64,
    share: f64,
    footprint: f64,
    /// Root mean square of the relative deviations, as logarithms.
    pub(crate) deviation: f64,
}

/// Size at which a time is reached, and its range.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Reached {
    pub(crate) size: f64,
    pub(crate) low: f64,
    /// `None` if it may not be reached at all.
    pub(crate) high: Option<f64>,
    /// True if it is above the largest measured size.
    pub(crate) is_extrapolated: bool,
}

/// Curve through the samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fit {
    /// Samples in ascending order, cleaned.
    samples: Vec<Sample>,
    pub(crate) curve: Curve,
    /// Curves that the samples do not exclude, with the one above.
    candidates: Vec<Curve>,
}

impl Fit {
    /// Fits samples in ascending order of their sizes. `None` if there are too few, or no curve passes near them.
    pub(crate) fn new(samples: &[Sample]) -> Option<Self> {
        let samples = cleaned(samples);
        if samples.len() < MIN_SAMPLES {
            return None;
        }
        let curves: Vec<Curve> =
            Growth::ALL.iter().filter_map(|growth| best_curve(*growth, &samples)).collect();
        let largest = samples.last()?;
        let shows = |curve: &&Curve| {
            curve.growth < Growth::Linear
                || curve.grown(&samples, largest.size) >= MIN_GROWN * curve.base.max(f64::MIN_POSITIVE)
        };
        let possible: Vec<Curve> = curves.iter().filter(shows).copied().collect();
        let best = possible.iter().map(|curve| curve.deviation).fold(f64::INFINITY, f64::min);
        let limit = |curve: &Curve| {
            let noise = if curve.growth == Growth::Constant { CONSTANT_NOISE } else { NOISE };
            (best * CLEARLY).max(noise)
        };
        let curve = *possible.iter().find(|curve| curve.deviation <= limit(curve))?;
        if curve.deviation > MAX_DEVIATION {
            return None;
        }
        let is_near =
            |other: &Curve| other.growth >= curve.growth && other.deviation <= curve.deviation * CLEARLY;
        let candidates = possible.into_iter().filter(is_near).collect();
        Some(Self { samples, curve, candidates })
    }

    /// Time at a size: between the measured times, or by the curve from the last of them on.
    pub(crate) fn at(&self, size: f64) -> f64 {
        self.by(&self.curve, size)
    }

    fn by(&self, curve: &Curve, size: f64) -> f64 {
        let last = self.samples.last().copied().unwrap_or(Sample { size: 1.0, seconds: 0.0, slowdown: 1.0 });
        if size > last.size {
            return last.seconds * curve.at(&self.samples, size) / curve.at(&self.samples, last.size);
        }
        interpolate(&self.samples, size, |sample| sample.seconds.ln()).exp()
    }

    /// Relative uncertainty of a time.
    fn uncertainty(&self) -> f64 {
        self.curve.deviation.max(UNCERTAINTY)
    }

    /// Size at which a run takes this long; `None` if no size does.
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

    /// Least time at which a run at a size would agree with the fit.
    pub(crate) fn allows(&self, size: f64, at_least: f64) -> bool {
        self.at(size) * (1.0 + self.uncertainty()).powi(2) >= at_least
    }
}

impl Curve {
    /// Time at a size.
    fn at(&self, samples: &[Sample], size: f64) -> f64 {
        self.base + self.grown(samples, size)
    }

    /// Part of the time that grows.
    fn grown(&self, samples: &[Sample], size: f64) -> f64 {
        self.factor * shape(self.growth, samples, size, self.share, self.footprint)
    }
}

/// Samples without disturbances. Those only add time, and a larger size takes no less time than a smaller one: no sample is above
/// a later one.
fn cleaned(samples: &[Sample]) -> Vec<Sample> {
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

/// Growth with the slowdown of memory.
fn shape(growth: Growth, samples: &[Sample], size: f64, share: f64, footprint: f64) -> f64 {
    let slowdown =
        if share > 0.0 { interpolate(samples, size * footprint, |sample| sample.slowdown) } else { 1.0 };
    growth.at(size) * (1.0 + share * (slowdown - 1.0))
}

/// Value at a size, linear in its logarithm between the samples, and that of the nearest sample beyond them.
fn interpolate(samples: &[Sample], size: f64, value: impl Fn(&Sample) -> f64) -> f64 {
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

/// Curve of a growth with the smallest deviation.
fn best_curve(growth: Growth, samples: &[Sample]) -> Option<Curve> {
    let curves = growth.memory().map(|(share, footprint)| {
        let curve = curve(growth, samples, share, footprint);
        Curve { deviation: curve.deviation + COST_OF_SHARE * share, ..curve }
    });
    curves.filter(|curve| curve.deviation.is_finite()).min_by(|a, b| a.deviation.total_cmp(&b.deviation))
}

/// Curve through all samples but one that another program may have disturbed, which adds time.
fn curve(growth: Growth, samples: &[Sample], share: f64, footprint: f64) -> Curve {
    let counts = |sample: &&Sample| growth >= Growth::Linear || sample.size >= MIN_SIZE;
    let point = |sample: &Sample| Weighted {
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
    Curve { growth, base, factor, share, footprint, deviation: (squares.sum::<f64>() / weights).sqrt() }
}

/// Time, the shape of the growth at its size, and the weight of the sample.
#[derive(Debug, Clone, Copy)]
struct Weighted {
    seconds: f64,
    shape: f64,
    weight: f64,
}

/// Base and factor by least squares of the relative deviations: `base/t + factor × shape/t = 1`. Returns also the logarithms of the
/// relative deviations.
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

    /// Sizes that are measured.
    const SIZES: [f64; 11] = [10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6];

    /// Slowdown of memory at these sizes, as measured.
    const SLOWDOWN: [f64; 11] = [1.0, 1.0, 1.0, 1.0, 1.03, 1.03, 1.05, 1.15, 2.5, 3.5, 4.0];

    /// Samples of a time, each multiplied by its noise.
    fn samples(time: impl Fn(f64) -> f64, share: f64, noise: &[f64]) -> Vec<Sample> {
        let sizes = SIZES.iter().zip(SLOWDOWN).zip(noise);
        let sample = |((size, slowdown), noise): ((&f64, f64), &f64)| {
            let seconds = (2e-6 + time(*size) * (1.0 + share * (slowdown - 1.0))) * noise;
            Sample { size: *size, seconds, slowdown }
        };
        sizes.map(sample).collect()
    }

    /// Time at a size.
    type Time = fn(f64) -> f64;

    /// Time of each growth.
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
                // Another program took the processor's cache. That may hide the difference of n and n log n.
                if growth != Growth::Linearithmic {
                    samples[disturbed].seconds *= 1.6;
                }
                let found = Fit::new(&samples).map(|fit| fit.curve.growth);
                prop_assert_eq!(found, Some(growth));
            }
        }

        #[test]
        fn the_size_of_a_time_is_in_its_range(noise in proptest::collection::vec(0.95..1.05_f64, 11)) {
            let fit = Fit::new(&samples(|size| 1e-7 * size, 0.0, &noise)).unwrap();
            let reached = fit.reached(1.0).unwrap();
            prop_assert!((0.8e7..1.25e7).contains(&reached.size) && reached.is_extrapolated, "{:?}", reached);
            prop_assert!(reached.low < 1e7 && reached.high.unwrap() > 1e7, "{:?}", reached);
            let reached = fit.reached(0.01).unwrap();
            prop_assert!((0.9e5..1.1e5).contains(&reached.size) && !reached.is_extrapolated, "{:?}", reached);
        }

        #[test]
        fn any_times_give_a_fit_or_none(times in proptest::collection::vec((1e-6..10.0_f64, 0.5..9.0_f64), 0..12)) {
            let sizes = SIZES.iter().zip(times);
            let samples: Vec<Sample> =
                sizes.map(|(size, (seconds, slowdown))| Sample { size: *size, seconds, slowdown }).collect();
            if let Some(fit) = Fit::new(&samples) {
                prop_assert!(fit.at(5e7).is_finite() && fit.curve.deviation.is_finite());
                let reached = fit.reached(1.0);
                prop_assert!(reached.is_none_or(|reached| reached.low <= reached.size), "{:?}", reached);
            }
        }
    }

    #[test]
    fn a_growth_that_the_data_does_not_show_is_not_claimed() {
        // 1 ms and 10 ns per element, up to 10 000 elements: 10 % more.
        let samples: Vec<Sample> = samples(|size| 1e-3 + 1e-8 * size, 0.0, &[1.0; 7]);
        let fit = Fit::new(&samples).unwrap();
        assert!(fit.curve.growth < Growth::Linear, "{:?}", fit.curve);
        assert_eq!(fit.reached(5.0), None);
        assert_eq!(Fit::new(&samples[..3]), None, "too few");
    }

    #[test]
    fn a_run_that_was_killed_may_contradict_the_fit() {
        let fit = Fit::new(&samples(|size| 1e-7 * size, 0.0, &[1.0; 9])).unwrap();
        assert!(fit.allows(3e7, 2.0));
        assert!(!fit.allows(3e5, 2.0));
    }
}
