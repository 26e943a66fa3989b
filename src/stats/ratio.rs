//! The ratio of the medians of two settings, with a confidence interval.
//!
//! The interval is a percentile bootstrap (Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapters 8 and 13): the
//! runs are drawn with replacement some thousands of times, and the middle 95 % of the ratios are the interval. The bootstrap
//! assumes no distribution, which suits run times: they have a hard limit on one side and a long tail on the other.
//!
//! If the settings took turns, whole **rounds** are drawn ([`Ratio::paired`]), so that drift from round to round affects both
//! medians and cancels. Runs of two commands have nothing in common, so each setting is drawn alone ([`Ratio::unpaired`]). In a
//! simulation with noise of 1 to 3 % per run and a drift of 0 to 5 % per round, the paired interval contained the true ratio in 92
//! to 99 of 100 comparisons from [`FEWEST`] rounds on, and was up to five times as narrow as the unpaired interval. The median of the
//! rounds' own ratios is narrower still, but with 7 rounds it contained the true ratio in only 87 of 100 comparisons, and it is not
//! the quotient of the reported medians.

use serde::{Deserialize, Serialize};

use super::bootstrap::interval_of;
use super::random::SplitMix;
use super::spread::median;

pub use super::bootstrap::{FEWEST, Interval};

/// One setting's figure as a multiple of another's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The new setting's median divided by the base's.
    pub ratio: f64,
    /// The 95 % interval; null for fewer than [`FEWEST`] runs.
    pub interval: Option<Interval>,
    /// The conclusion from the interval.
    pub verdict: Verdict,
}

/// The conclusion from an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is above 1.
    Higher,
    /// The whole interval is below 1.
    Lower,
    /// The interval contains 1.
    NoDifferenceShown,
    /// There is no interval.
    TooFewRuns,
}

impl Verdict {
    /// The name in the files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::NoDifferenceShown => "no_difference_shown",
            Self::TooFewRuns => "too_few_runs",
        }
    }
}

impl Ratio {
    /// The ratio of settings that took turns; `rounds` has each round's figures, the base's first. `None` without rounds, or if a
    /// figure is not above zero.
    pub fn paired(mut rounds: Vec<(f64, f64)>) -> Option<Self> {
        // The order of the rounds has no meaning and must not affect the result.
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (base, new): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
        Self::of(base, new, |random, base, new| {
            for (base, new) in base.iter_mut().zip(new) {
                (*base, *new) = rounds[random.below(rounds.len())];
            }
        })
    }

    /// The ratio of runs of two commands. `None` as in [`Self::paired`].
    pub fn unpaired(mut base: Vec<f64>, mut new: Vec<f64>) -> Option<Self> {
        base.sort_by(f64::total_cmp);
        new.sort_by(f64::total_cmp);
        let (from_base, from_new) = (base.clone(), new.clone());
        Self::of(base, new, |random, base, new| {
            base.fill_with(|| from_base[random.below(from_base.len())]);
            new.fill_with(|| from_new[random.below(from_new.len())]);
        })
    }

    /// `draw` overwrites both lists with a resample.
    fn of(
        mut base: Vec<f64>,
        mut new: Vec<f64>,
        mut draw: impl FnMut(&mut SplitMix, &mut [f64], &mut [f64]),
    ) -> Option<Self> {
        let is_usable = |value: &f64| value.is_finite() && *value > 0.0;
        if !base.iter().chain(&new).all(is_usable) {
            return None;
        }
        let fewest = base.len().min(new.len());
        let ratio = median(&mut new)? / median(&mut base)?;
        let mut interval = None;
        if fewest >= FEWEST {
            interval = Some(interval_of(ratio, |random| {
                draw(random, &mut base, &mut new);
                Some(median(&mut new)? / median(&mut base)?)
            })?);
        }
        // The quotient of extreme figures may overflow.
        let ends = interval.map_or([ratio; 2], |interval| [interval.low, interval.high]);
        ends.iter().all(is_usable).then_some(Self {
            ratio,
            interval,
            verdict: verdict(interval),
        })
    }
}

fn verdict(interval: Option<Interval>) -> Verdict {
    match interval {
        None => Verdict::TooFewRuns,
        Some(interval) if interval.low > 1.0 => Verdict::Higher,
        Some(interval) if interval.high < 1.0 => Verdict::Lower,
        Some(_) => Verdict::NoDifferenceShown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn figures(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(1.0..1_000.0, count)
    }

    fn rounds(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(f64, f64)>> {
        prop::collection::vec((1.0..1_000.0, 1.0..1_000.0), count)
    }

    #[test]
    fn verdict_follows_from_the_interval() {
        let base = [100.0, 101.0, 99.0, 102.0, 98.0].to_vec();
        let by = |factor: f64| base.iter().map(|value| value * factor).collect::<Vec<_>>();
        let verdict = |new| Ratio::unpaired(base.clone(), new).unwrap().verdict;
        assert_eq!(verdict(by(1.5)), Verdict::Higher);
        assert_eq!(verdict(by(0.5)), Verdict::Lower);
        assert_eq!(verdict(by(1.001)), Verdict::NoDifferenceShown);
        assert_eq!(verdict(by(1.5)[..4].to_vec()), Verdict::TooFewRuns);
    }

    #[test]
    fn common_drift_does_not_widen_a_paired_interval() {
        let drifting = [100.0, 90.0, 80.0, 70.0, 60.0, 50.0];
        let rounds = drifting.map(|value| (value, value * 1.02)).to_vec();
        let (base, new) = rounds.iter().copied().unzip();
        let paired = Ratio::paired(rounds).unwrap();
        assert_eq!(paired.verdict, Verdict::Higher);
        let unpaired = Ratio::unpaired(base, new).unwrap();
        assert_eq!(unpaired.verdict, Verdict::NoDifferenceShown);
        assert_eq!(paired.ratio, unpaired.ratio);
    }

    #[test]
    fn interval_contains_the_true_ratio_in_about_95_percent() {
        let mut random = SplitMix::new(1);
        let mut noise = || 1.0 + random.below(1_000) as f64 / 10_000.0;
        let mut covered = 0;
        for _ in 0..200 {
            let rounds = (0..7).map(|_| (noise(), 1.25 * noise())).collect();
            let interval = Ratio::paired(rounds).unwrap().interval.unwrap();
            covered += u32::from((interval.low..=interval.high).contains(&1.25));
        }
        assert!((176..200).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn figures_that_cannot_be_divided_have_no_ratio() {
        assert_eq!(Ratio::paired(Vec::new()), None);
        assert_eq!(Ratio::unpaired(vec![1.0], Vec::new()), None);
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Ratio::paired(vec![(1.0, odd)]), None, "{odd}");
            assert_eq!(Ratio::unpaired(vec![odd; 6], vec![1.0; 6]), None, "{odd}");
        }
        assert_eq!(Ratio::paired(vec![(f64::MIN_POSITIVE, f64::MAX); 6]), None);
        assert_eq!(Ratio::paired(vec![(f64::MAX, f64::MIN_POSITIVE); 6]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn estimate_lies_in_its_interval(rounds in rounds(FEWEST..12), base in figures(FEWEST..12), new in figures(FEWEST..12)) {
            for ratio in [Ratio::paired(rounds), Ratio::unpaired(base, new)] {
                let ratio = ratio.unwrap();
                let interval = ratio.interval.unwrap();
                prop_assert!(interval.low <= ratio.ratio && ratio.ratio <= interval.high);
            }
        }

        #[test]
        fn few_runs_have_a_ratio_without_an_interval(rounds in rounds(1..FEWEST), base in figures(1..FEWEST), new in figures(1..20)) {
            for ratio in [Ratio::paired(rounds), Ratio::unpaired(base, new)] {
                let ratio = ratio.unwrap();
                prop_assert_eq!((ratio.interval, ratio.verdict), (None, Verdict::TooFewRuns));
            }
        }

        #[test]
        fn equal_runs_show_no_difference(values in figures(FEWEST..12)) {
            let unpaired = Ratio::unpaired(values.clone(), values.clone()).unwrap();
            prop_assert_eq!(unpaired.verdict, Verdict::NoDifferenceShown);
            let paired = Ratio::paired(values.iter().map(|&value| (value, value)).collect()).unwrap();
            prop_assert_eq!(paired.interval, Some(Interval { low: 1.0, high: 1.0 }));
        }

        #[test]
        fn order_of_the_runs_does_not_matter(mut rounds in rounds(FEWEST..12)) {
            let ratio = Ratio::paired(rounds.clone());
            let (base, new): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
            let apart = Ratio::unpaired(base.clone(), new.clone());
            rounds.reverse();
            prop_assert_eq!(Ratio::paired(rounds), ratio);
            let back = |values: Vec<f64>| values.into_iter().rev().collect();
            prop_assert_eq!(Ratio::unpaired(back(base), back(new)), apart);
        }

        #[test]
        fn unit_does_not_matter(rounds in rounds(FEWEST..12)) {
            // A power of two changes no digit.
            let scaled = rounds.iter().map(|(base, new)| (base * 1_024.0, new * 1_024.0)).collect();
            prop_assert_eq!(Ratio::paired(scaled), Ratio::paired(rounds.clone()));
            let doubled = rounds.iter().map(|(base, new)| (*base, new * 2.0)).collect();
            let (once, twice) = (Ratio::paired(rounds).unwrap(), Ratio::paired(doubled).unwrap());
            prop_assert_eq!(twice.ratio, once.ratio * 2.0);
            prop_assert_eq!(twice.interval.unwrap().low, once.interval.unwrap().low * 2.0);
        }

        #[test]
        fn no_figure_panics(rounds: Vec<(f64, f64)>, base: Vec<f64>, new: Vec<f64>) {
            Ratio::paired(rounds);
            Ratio::unpaired(base, new);
        }
    }
}
