//! How much more one thing takes than another: the difference of the medians over rounds that both had a turn in, and how far it can
//! be trusted. As in [`ratio`](super::ratio), whole rounds are drawn.

use serde::{Deserialize, Serialize};

use super::bootstrap::{FEWEST, Interval, drawn};
use super::spread::median;

/// One figure less another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The median of the one less the median of the other.
    pub difference: f64,
    /// Where the true difference lies, with 95 % confidence; null for fewer than [`FEWEST`] rounds.
    pub interval: Option<Interval>,
}

impl Difference {
    /// Of things that took turns: each round's figures, the base's first. `None` when there are no rounds, or figures that are no
    /// numbers.
    pub fn paired(mut rounds: Vec<(f64, f64)>) -> Option<Self> {
        let all_finite = |&(base, new): &(f64, f64)| base.is_finite() && new.is_finite();
        if !rounds.iter().all(all_finite) {
            return None;
        }
        // Which round came first says nothing, so it must not change what is drawn.
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (mut base, mut new): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
        let difference = median(&mut new)? - median(&mut base)?;
        let mut interval = None;
        if rounds.len() >= FEWEST {
            interval = Some(drawn(difference, |random| {
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
    fn drift_that_both_share_cancels() {
        let rounds = [10.0, 20.0, 30.0, 40.0, 50.0].map(|drift| (drift, drift + 7.0));
        let told = Difference::paired(rounds.to_vec()).unwrap();
        assert_eq!(told.difference, 7.0);
        let interval = told.interval.unwrap();
        assert_eq!((interval.low, interval.high), (7.0, 7.0));
    }

    #[test]
    fn few_rounds_have_no_interval_and_none_no_difference() {
        let told = Difference::paired(vec![(1.0, 3.0); FEWEST - 1]).unwrap();
        assert_eq!((told.difference, told.interval), (2.0, None));
        assert_eq!(Difference::paired(Vec::new()), None);
        assert_eq!(Difference::paired(vec![(1.0, f64::NAN)]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_estimate_lies_in_its_interval(rounds in prop::collection::vec((-1e9..1e9, -1e9..1e9), FEWEST..12)) {
            let told = Difference::paired(rounds).unwrap();
            let interval = told.interval.unwrap();
            prop_assert!(interval.low <= told.difference && told.difference <= interval.high);
        }
    }
}
