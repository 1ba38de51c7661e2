//! A histogram as plain data.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::number::{float, micros};

/// Counts of durations by upper bound. Two histograms of one metric share their bounds.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// Upper bounds in seconds, rising.
    bounds: Arc<[f64]>,
    /// Observations at or under each bound and over the one before; the last is for those over all bounds.
    counts: Box<[u64]>,
    /// Sum of the observations, µs; stays at the largest number rather than start over.
    sum: u64,
}

/// What is kept of a histogram over restarts of the exporter; its bounds are kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedHistogram {
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// What is to be kept over restarts of the exporter.
    #[must_use]
    pub fn saved(&self) -> SavedHistogram {
        SavedHistogram { counts: self.counts.to_vec(), sum: self.sum }
    }

    /// Adds what was saved of a histogram with the same bounds. Whether it has as many counts as that takes.
    pub fn add(&mut self, saved: &SavedHistogram) -> bool {
        if saved.counts.len() != self.counts.len() {
            return false;
        }
        for (count, more) in self.counts.iter_mut().zip(&saved.counts) {
            *count = count.saturating_add(*more);
        }
        self.sum = self.sum.saturating_add(saved.sum);
        true
    }

    /// An empty histogram with these upper bounds (seconds, rising).
    #[must_use]
    pub fn new(bounds: Arc<[f64]>) -> Self {
        let counts = vec![0; bounds.len() + 1].into();
        Self { bounds, counts, sum: 0 }
    }

    /// Counts one duration.
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
        self.sum = self.sum.saturating_add(micros(duration));
    }

    /// Upper bound (seconds) and number of observations at or under it, in rising order, without `+Inf`.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0_u64, |total, (bound, count)| {
            *total = total.saturating_add(*count);
            Some((*bound, *total))
        })
    }

    /// Upper bound (seconds; `None` for those over all bounds) and number of observations of each bucket by itself.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        self.bounds.iter().copied().map(Some).chain(std::iter::once(None)).zip(self.counts.iter().copied())
    }

    /// Adds the observations of another one. Where its bounds differ, they are counted under the next higher bound.
    pub fn absorb(&mut self, other: &Self) {
        for (bound, more) in other.buckets() {
            let index = bound.map_or(self.bounds.len(), |bound| self.bounds.partition_point(|b| *b < bound));
            if let Some(count) = self.counts.get_mut(index) {
                *count = count.saturating_add(more);
            }
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.saturating_add(*count))
    }

    /// Sum of the observations, seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        float(self.sum) / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
