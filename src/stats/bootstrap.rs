//! The percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13): the figure of values drawn
//! with replacement is computed some thousands of times, and the middle 95 % are the interval.

use serde::{Deserialize, Serialize};

use super::random::SplitMix;

/// Fewest runs of each setting for an interval. The true median lies between the extremes of 5 runs in 94 of 100 cases
/// (1 - 2 / 2^5), and of 4 runs in only 88: not even their whole range is a 95 % interval.
pub const FEWEST: usize = 5;

/// Number of resamples. Efron and Tibshirani recommend 1000 or more for percentiles.
const RESAMPLES: usize = 5_000;

/// Number of resamples outside the interval on each side: 2.5 %.
const OUTSIDE: usize = RESAMPLES / 40;

/// A constant seed gives equal intervals for equal runs on any machine.
const SEED: u64 = 0x7769_7265_6265_6e63;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The interval of 1 / the figure, which must be above zero: of a speed, for the interval of a time.
    pub fn inverse(self) -> Self {
        Self {
            low: 1.0 / self.high,
            high: 1.0 / self.low,
        }
    }
}

/// The interval of the figure `estimate`; `draw` computes the figure of one resample. `None` if a resample has no figure.
pub(super) fn interval_of(
    estimate: f64,
    mut draw: impl FnMut(&mut SplitMix) -> Option<f64>,
) -> Option<Interval> {
    let mut random = SplitMix::new(SEED);
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        found.push(draw(&mut random)?);
    }
    found.sort_by(f64::total_cmp);
    Some(Interval {
        // The estimate divides medians of different rounds, so it may lie outside the resamples.
        low: found[OUTSIDE].min(estimate),
        high: found[RESAMPLES - 1 - OUTSIDE].max(estimate),
    })
}
