//! The percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13): the figure of values drawn
//! with replacement is computed some thousands of times, and the middle 95 % are the interval.

use serde::{Deserialize, Serialize};

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

/// A small generator of random numbers (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014). Its quality suffices for resampling, and it is equal on all machines.
pub(super) struct SplitMix(u64);

impl SplitMix {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, uniform to within `end` / 2^64.
    pub(super) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_is_the_published_one() {
        // The first outputs of the authors' reference implementation for seed 1234567.
        let mut random = SplitMix(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }
}
