//! Histogram as plain data.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::convert::{ceiling, float, micros};

/// Counts of durations by upper bound. Histograms of one metric share their bounds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    /// Upper bounds in seconds, ascending.
    bounds: Arc<[f64]>,
    /// Number of observations at or below each bound and above the previous one; the last element counts those above all bounds.
    counts: Box<[u64]>,
    /// Sum of the observations, µs; saturates.
    sum: u64,
    /// The same observations by exponential bucket: bucket `i` contains those above `2^((i-1)/8)` and up to `2^(i/8)` seconds.
    /// Durations in whole microseconds have fewer than 520 distinct indices.
    exponential: Vec<(i32, u64)>,
    /// Number of observations of 0, which are in no exponential bucket.
    zeros: u64,
}

/// Binary logarithm of the number of exponential buckets per power of two: the schema of Prometheus native histograms.
pub(crate) const SCHEMA: i32 = 3;

/// Part of a histogram that is kept across restarts of the exporter; the bounds are saved separately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedHistogram {
    counts: Vec<u64>,
    sum: u64,
    exponential: Vec<(i32, u64)>,
    zeros: u64,
}

impl Histogram {
    /// Returns the part to keep across restarts of the exporter.
    #[must_use]
    pub(crate) fn saved(&self) -> SavedHistogram {
        SavedHistogram {
            counts: self.counts.to_vec(),
            sum: self.sum,
            exponential: self.exponential().0.collect(),
            zeros: self.zeros,
        }
    }

    /// Adds a saved histogram with the same bounds. Returns false, and adds nothing, if the number of counts differs.
    pub(crate) fn add(&mut self, saved: &SavedHistogram) -> bool {
        if saved.counts.len() != self.counts.len() {
            return false;
        }
        for (count, more) in self.counts.iter_mut().zip(&saved.counts) {
            *count = count.saturating_add(*more);
        }
        self.sum = self.sum.saturating_add(saved.sum);
        self.add_exponential(saved.exponential.iter().copied(), saved.zeros);
        true
    }

    /// Creates an empty histogram with these upper bounds (seconds, ascending).
    #[must_use]
    pub(crate) fn new(bounds: Arc<[f64]>) -> Self {
        let counts = vec![0; bounds.len() + 1].into();
        Self { bounds, counts, sum: 0, exponential: Vec::new(), zeros: 0 }
    }

    /// Counts one duration. Returns the index of its bucket.
    pub(crate) fn observe(&mut self, duration: Duration) -> usize {
        let seconds = duration.as_secs_f64();
        let index = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        self.sum = self.sum.saturating_add(micros(duration));
        if duration.is_zero() {
            self.zeros = self.zeros.saturating_add(1);
        } else {
            let exponent = seconds.log2() * f64::from(1 << SCHEMA);
            self.add_to_bucket(ceiling(exponent), 1);
        }
        index
    }

    /// Index and count of each non-empty exponential bucket, in ascending order, and the number of zeros.
    pub(crate) fn exponential(&self) -> (impl Iterator<Item = (i32, u64)>, u64) {
        (self.exponential.iter().copied(), self.zeros)
    }

    fn add_to_bucket(&mut self, index: i32, more: u64) {
        match self.exponential.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => {
                if let Some((_, count)) = self.exponential.get_mut(at) {
                    *count = count.saturating_add(more);
                }
            }
            Err(at) => {
                // Most histograms have one or two exponential buckets.
                self.exponential.reserve_exact(1);
                self.exponential.insert(at, (index, more));
            }
        }
    }

    fn add_exponential(&mut self, buckets: impl Iterator<Item = (i32, u64)>, zeros: u64) {
        for (index, more) in buckets {
            self.add_to_bucket(index, more);
        }
        self.zeros = self.zeros.saturating_add(zeros);
    }

    /// Each upper bound (seconds) and the number of observations at or below it, in ascending order, without `+Inf`.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0_u64, |total, (bound, count)| {
            *total = total.saturating_add(*count);
            Some((*bound, *total))
        })
    }

    /// Upper bound (seconds; `None` for the last bucket) and non-cumulative number of observations of each bucket.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        self.bounds.iter().copied().map(Some).chain(std::iter::once(None)).zip(self.counts.iter().copied())
    }

    /// Adds the observations of another histogram. If its bounds differ, observations are counted under the next higher bound.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for (bound, more) in other.buckets() {
            let index = bound.map_or(self.bounds.len(), |bound| self.bounds.partition_point(|b| *b < bound));
            if let Some(count) = self.counts.get_mut(index) {
                *count = count.saturating_add(more);
            }
        }
        self.sum = self.sum.saturating_add(other.sum);
        let (buckets, zeros) = other.exponential();
        self.add_exponential(buckets, zeros);
    }

    /// Estimates the quantile `q` in seconds like `histogram_quantile` in Prometheus, but at most `longest`. Returns
    /// `None` if there are no observations.
    #[must_use]
    pub(crate) fn quantile(&self, q: f64, longest: f64) -> Option<f64> {
        let rank = q * float(self.count());
        let (mut before, mut low) = (0.0, 0.0);
        for (bound, count) in self.buckets().filter(|_| rank > 0.0) {
            let high = bound.unwrap_or(longest).min(longest).max(low);
            let count = float(count);
            if count > 0.0 && before + count >= rank {
                return Some(low + (high - low) * (rank - before) / count);
            }
            (before, low) = (before + count, bound.unwrap_or(low).min(longest));
        }
        None
    }

    /// Number of observations.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.saturating_add(*count))
    }

    /// Sum of the observations, in seconds.
    #[must_use]
    pub(crate) fn sum(&self) -> f64 {
        float(self.sum) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_estimated_within_their_bucket() {
        let mut histogram = Histogram::new([1.0, 2.0, 4.0].into());
        assert_eq!(histogram.quantile(0.99, 0.0), None);
        for _ in 0..99 {
            histogram.observe(Duration::from_millis(500));
        }
        histogram.observe(Duration::from_secs(9));
        assert_eq!(histogram.quantile(0.99, 9.0), Some(1.0));
        assert_eq!(histogram.quantile(1.0, 9.0), Some(9.0));
        assert!(histogram.quantile(0.5, 9.0).unwrap() < 0.6);
        let mut short = Histogram::new([1.0].into());
        short.observe(Duration::from_millis(20));
        assert!(short.quantile(0.99, 0.02).unwrap() <= 0.02, "not over the longest");
    }

    #[test]
    fn histograms_with_other_bounds_are_added() {
        let mut sum = Histogram::new([1.0, 2.0].into());
        let mut other = Histogram::new([0.5, 1.5, 9.0].into());
        for ms in [400, 1400, 5000, 99_000] {
            other.observe(Duration::from_millis(ms));
        }
        sum.observe(Duration::from_secs(1));
        sum.absorb(&other);
        assert_eq!(sum.buckets().collect::<Vec<_>>(), [(Some(1.0), 2), (Some(2.0), 1), (None, 2)]);
        assert!((sum.sum() - 106.8).abs() < 1e-9);
    }

    #[test]
    fn exponential_buckets_have_the_same_observations() {
        let mut histogram = Histogram::new([1.0].into());
        for micros in [0, 1, 999_999, 1_000_000, 1_000_001, 2_000_000, u64::MAX] {
            histogram.observe(Duration::from_micros(micros));
        }
        let (buckets, zeros) = histogram.exponential();
        let buckets: Vec<_> = buckets.collect();
        let smallest = ceiling(1e-6_f64.log2() * 8.0);
        assert_eq!(buckets[..4], [(smallest, 1), (0, 2), (1, 1), (8, 1)]);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>() + zeros, histogram.count());
        let mut restored = Histogram::new([1.0].into());
        assert!(restored.add(&histogram.saved()));
        assert_eq!(restored.saved(), histogram.saved());
    }

    #[test]
    fn a_bound_includes_its_value() {
        let mut histogram = Histogram::new([0.5, 1.0, 2.0].into());
        for ms in [500, 501, 1000, 1001, 2000, 9000] {
            histogram.observe(Duration::from_millis(ms));
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(0.5, 1), (1.0, 3), (2.0, 5)]);
        assert_eq!(histogram.count(), 6);
        assert!((histogram.sum() - 14.002).abs() < 1e-9);
        histogram.observe(Duration::MAX);
        assert_eq!(histogram.count(), 7);
    }
}
