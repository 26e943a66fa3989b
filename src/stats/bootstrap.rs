//! The percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13): a figure is found anew from
//! values drawn with replacement, some thousands of times, and the middle 95 % are kept.

use serde::{Deserialize, Serialize};

/// Fewest runs of each side that an interval is given for. The median of 5 lies between their extremes
/// in 94 of 100 cases (1 - 2 / 2^5), of 4 only in 88: then not even the whole range is a 95 % interval.
pub const FEWEST: usize = 5;

/// How often runs are drawn anew. Efron and Tibshirani ask for 1000 or more for percentiles.
const RESAMPLES: usize = 5_000;

/// How many of the figures lie outside on each side: 2.5 %.
const OUTSIDE: usize = RESAMPLES / 40;

/// Any number would do. A constant gives the same interval for the same runs, wherever it is computed.
const SEED: u64 = 0x7769_7265_6265_6e63;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// That of 1 / the figure, which is above zero: of a speed, where this is of a time.
    pub fn inverse(self) -> Self {
        Self {
            low: 1.0 / self.high,
            high: 1.0 / self.low,
        }
    }
}

/// The interval of a figure that is `estimate`: what `draw` finds, again and again. `None` where it finds none.
pub(super) fn drawn(
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
        // Two medians that come from different rounds may have a figure that hardly any draw has.
        low: found[OUTSIDE].min(estimate),
        high: found[RESAMPLES - 1 - OUTSIDE].max(estimate),
    })
}

/// A small generator of random numbers (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014), good enough to draw lots and the same everywhere.
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

    /// A number below `end`, each as likely as the next to within `end` / 2^64.
    pub(super) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs of the authors' reference implementation for seed 1234567.
        let mut random = SplitMix(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }
}
