//! The difference of the medians of two settings over common rounds, with a confidence interval. As in [`ratio`](super::ratio), whole
//! rounds are drawn.

use serde::{Deserialize, Serialize};

use super::bootstrap::{FEWEST, Interval, interval_of};
use super::spread::median;

/// One setting's figure minus another's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The new setting's median minus the base's.
    pub difference: f64,
    /// The 95 % interval; null for fewer than [`FEWEST`] rounds.
    pub interval: Option<Interval>,
}

impl Difference {
    /// The difference of settings that took turns; `rounds` has each round's figures, the base's first. `None` without rounds, or if a
    /// figure is not finite.
    pub fn paired(mut rounds: Vec<(f64, f64)>) -> Option<Self> {
        let all_finite = |&(base, new): &(f64, f64)| base.is_finite() && new.is_finite();
        if !rounds.iter().all(all_finite) {
            return None;
        }
        // The order of the rounds has no meaning and must not affect the result.
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (mut base, mut new): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
        let difference = median(&mut new)? - median(&mut base)?;
        let mut interval = None;
        if rounds.len() >= FEWEST {
            interval = Some(interval_of(difference, |random| {
                for (base, new) in base.iter_mut().zip(&mut new) {
                    (*base, *new) = rounds[random.below(rounds.len())];
                }
                Some(median(&mut new)? - median(&mut base)?)
            })?);
        }
        Some(Self {
            difference,
            interval,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_drift_cancels() {
        let rounds = [10.0, 20.0, 30.0, 40.0, 50.0].map(|drift| (drift, drift + 7.0));
        let difference = Difference::paired(rounds.to_vec()).unwrap();
        assert_eq!(difference.difference, 7.0);
        let interval = difference.interval.unwrap();
        assert_eq!((interval.low, interval.high), (7.0, 7.0));
    }

    #[test]
    fn few_rounds_have_no_interval() {
        let difference = Difference::paired(vec![(1.0, 3.0); FEWEST - 1]).unwrap();
        assert_eq!((difference.difference, difference.interval), (2.0, None));
        assert_eq!(Difference::paired(Vec::new()), None);
        assert_eq!(Difference::paired(vec![(1.0, f64::NAN)]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn estimate_lies_in_its_interval(rounds in prop::collection::vec((-1e9..1e9, -1e9..1e9), FEWEST..12)) {
            let difference = Difference::paired(rounds).unwrap();
            let interval = difference.interval.unwrap();
            prop_assert!(interval.low <= difference.difference && difference.difference <= interval.high);
        }
    }
}
