//! The steps of a schedule with bursts or random gaps. Pure.
//!
//! A step is a burst of datagrams that are due at the same time; without bursts it has one. The mean pace is that of the plan: after a
//! burst of n datagrams follows a gap n times as long. Gaps are equal, or exponentially distributed: bursts begin as a Poisson process,
//! the traffic of many independent sources. The gap before a datagram does not depend on how late an earlier one was sent.

use crate::stats::random::SplitMix;
use crate::udp::plan::traffic::{Gap, Schedule};

/// Random gaps that [`Steps::due_within`] draws at most. Later gaps count as the mean.
const MOST_DRAWS: u64 = 1_000_000;

/// The steps of one stream.
#[derive(Debug, Clone)]
pub struct Steps {
    /// Mean gap between two bursts, in fractions of a ns.
    gap: u128,
    burst: u64,
    /// Datagrams of the present burst that are not sent.
    left: u64,
    /// `None` if all gaps are equal.
    random: Option<SplitMix>,
}

impl Steps {
    /// The steps of stream number `stream`, whose datagrams have the mean distance `interval` in fractions of a ns. `None` if each
    /// step is one datagram and all gaps are equal. Streams have different gaps, and so have both directions of a run.
    pub fn new(schedule: Schedule, interval: u64, stream: usize, is_reverse: bool) -> Option<Self> {
        let random = match schedule.gap {
            Gap::Fixed if schedule.burst <= 1 => return None,
            Gap::Fixed => None,
            Gap::Poisson { seed } => {
                let number = ((stream as u64) << 1) | u64::from(is_reverse);
                // The seeds of a SplitMix lie far apart on its cycle after one step.
                let mut seeds = SplitMix::new((u64::from(seed) << 32) ^ number);
                Some(SplitMix::new(seeds.next()))
            }
        };
        let burst = u64::from(schedule.burst.max(1));
        Some(Self {
            gap: u128::from(interval) * u128::from(burst),
            burst,
            left: burst,
            random,
        })
    }

    /// Datagrams until the next gap, at least 1.
    #[inline]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes datagrams, at most [`Self::left`]. Returns the gap to the next burst, in fractions of a ns, if the burst is over.
    #[inline]
    pub fn take(&mut self, datagrams: u64) -> Option<u128> {
        self.left = self.left.saturating_sub(datagrams);
        if self.left > 0 {
            return None;
        }
        self.left = self.burst;
        Some(self.gap())
    }

    fn gap(&mut self) -> u128 {
        match &mut self.random {
            None => self.gap,
            Some(random) => (self.gap as f64 * random.exponential()) as u128,
        }
    }

    /// The datagrams that are due in the next `left` fractions of a ns, beginning with the present burst.
    pub fn due_within(&self, mut left: u128) -> u64 {
        if left == 0 {
            return 0;
        }
        let mut bursts: u64 = 0;
        if self.random.is_some() {
            let mut steps = self.clone();
            while bursts < MOST_DRAWS {
                let gap = steps.gap();
                if gap >= left {
                    left = 0;
                    break;
                }
                left -= gap;
                bursts += 1;
            }
        }
        let regular = left.saturating_sub(1) / self.gap.max(1);
        let bursts = bursts.saturating_add(u64::try_from(regular).unwrap_or(u64::MAX));
        bursts.saturating_mul(self.burst).saturating_add(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(burst: u32, gap: Gap, stream: usize, is_reverse: bool) -> Steps {
        Steps::new(Schedule { burst, gap }, 1 << 40, stream, is_reverse).unwrap()
    }

    /// The next gaps, as multiples of the mean.
    fn gaps(steps: &mut Steps, count: usize) -> Vec<f64> {
        let mean = steps.gap as f64;
        let mut next = || {
            let left = steps.left();
            assert!(left == 1 || steps.take(left - 1).is_none());
            steps.take(1).unwrap() as f64 / mean
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn bursts_keep_the_mean_pace() {
        let mut steps = steps(5, Gap::Fixed, 0, false);
        assert_eq!(steps.left(), 5);
        assert_eq!(steps.take(3), None);
        assert_eq!(steps.take(2), Some(5 << 40));
        assert_eq!(steps.left(), 5);
        assert!(Steps::new(Schedule::default(), 1, 0, false).is_none());
    }

    #[test]
    fn a_seed_has_one_schedule_for_each_stream_and_direction() {
        let of = |seed, stream, is_reverse| {
            gaps(&mut steps(1, Gap::Poisson { seed }, stream, is_reverse), 20)
        };
        assert_eq!(of(7, 1, false), of(7, 1, false));
        let all = [
            of(7, 0, false),
            of(7, 0, true),
            of(7, 1, false),
            of(8, 0, false),
        ];
        for (number, one) in all.iter().enumerate() {
            assert!(all[number + 1..].iter().all(|other| other[0] != one[0]));
        }
    }

    proptest! {
        /// The mean is that of the plan within five standard errors, and the distribution passes a Kolmogorov-Smirnov test: both
        /// limits are exceeded in fewer than one of 100,000 samples.
        #[test]
        fn poisson_gaps_are_exponential_with_the_planned_mean(seed: u32, burst in 1u32..100, stream in 0usize..128, is_reverse: bool) {
            const COUNT: usize = 4_000;
            let mut sample = gaps(&mut steps(burst, Gap::Poisson { seed }, stream, is_reverse), COUNT);
            let count = COUNT as f64;
            let mean = sample.iter().sum::<f64>() / count;
            prop_assert!((mean - 1.0).abs() < 5.0 / count.sqrt(), "mean {mean}");
            sample.sort_by(f64::total_cmp);
            let distance = sample.iter().enumerate().map(|(number, gap)| {
                let expected = 1.0 - (-gap).exp();
                (expected - number as f64 / count).abs().max((expected - (number + 1) as f64 / count).abs())
            });
            let distance = distance.fold(0.0, f64::max);
            prop_assert!(distance < 2.5 / count.sqrt(), "distance {distance}");
        }
    }
}
