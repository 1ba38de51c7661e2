//! Difference between the server's clock and this machine's.

use crate::clock::Unix;

/// Number of samples per period. The estimate uses the last one to two periods, so that a clock set back is detected.
const PERIOD: u32 = 30;

/// Estimated number of seconds by which the server's clock is ahead of this machine's.
///
/// A sample is the server's time reported by INFO minus the time at which this machine handled the reply. Delays between the
/// two (the network, a busy machine, the server's cached clock) make a sample too small, never too large, so the largest
/// recent sample is the most accurate.
#[derive(Debug, Clone, Default)]
pub(super) struct ClockOffset {
    /// Largest sample of the current period.
    current: Option<f64>,
    /// Largest sample of the previous period.
    previous: Option<f64>,
    /// Number of samples in the current period.
    samples: u32,
}

impl ClockOffset {
    /// Adds a sample: the server reported `theirs`, and the reply was handled at `ours`.
    pub(super) fn add(&mut self, theirs: Unix, ours: Unix) {
        if self.samples == PERIOD {
            *self = Self { previous: self.current, ..Self::default() };
        }
        let sample = theirs.as_secs_f64() - ours.as_secs_f64();
        self.current = Some(self.current.map_or(sample, |largest| largest.max(sample)));
        self.samples += 1;
    }

    /// Returns the estimate in seconds; `None` until the server reports its time.
    pub(super) fn seconds(&self) -> Option<f64> {
        match (self.current, self.previous) {
            (Some(current), Some(previous)) => Some(current.max(previous)),
            (current, previous) => current.or(previous),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(seconds: u64) -> Unix {
        Unix::from_epoch(std::time::Duration::from_secs(seconds))
    }

    #[test]
    fn late_replies_do_not_change_the_estimate() {
        let mut offset = ClockOffset::default();
        assert_eq!(offset.seconds(), None);
        for (late, estimate) in [(4, -4.0), (0, 0.0), (2, 0.0), (30, 0.0), (1, 0.0)] {
            offset.add(unix(1000), unix(1000 + late));
            assert_eq!(offset.seconds().map(f64::round), Some(estimate), "{late} s late");
        }
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_within_two_periods() {
        let mut offset = ClockOffset::default();
        offset.add(unix(1000), unix(1000));
        offset.add(unix(1060), unix(1000));
        assert_eq!(offset.seconds(), Some(60.0), "ahead: at once");
        for _ in 0..2 * PERIOD {
            offset.add(unix(940), unix(1000));
        }
        assert_eq!(offset.seconds(), Some(-60.0));
    }
}
