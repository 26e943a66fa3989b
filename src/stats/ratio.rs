//! How the runs of one setting stand to those of another: the ratio of their medians, and how far it can be trusted.
//!
//! The interval is the percentile bootstrap's (Efron and Tibshirani, *An Introduction to the
//! Bootstrap*, 1993, chapters 8 and 13): the runs are drawn anew with replacement, as many as there
//! are, some thousands of times, and the middle 95 % of the ratios are kept. It assumes no
//! distribution, which suits run times: these have a hard edge on one side and a long tail on the other.
//!
//! What is drawn depends on how the runs were done. Where the settings took turns, whole **rounds** are
//! drawn ([`Ratio::paired`]): what drifted from round to round then hits both medians alike and cancels. Runs of
//! two commands share nothing, so each side is drawn by itself ([`Ratio::unpaired`]). In a simulation
//! with noise of 1 to 3 % a run and a drift of 0 to 5 % a round, the paired interval held the true ratio
//! in 92 to 99 of 100 comparisons from [`FEWEST`] rounds on, and was up to five times as narrow as the
//! unpaired. The median of the rounds' own ratios would be narrower still, but with 7 rounds it held the true
//! one in only 87 of 100, and it is not the quotient of the medians that a reader sees.

use serde::{Deserialize, Serialize};

use super::bootstrap::{SplitMix, drawn};
use super::spread::median;

pub use super::bootstrap::{FEWEST, Interval};

/// One setting's figure as a multiple of another's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median of the one divided by the median of the other.
    pub ratio: f64,
    /// Where the true ratio lies, with 95 % confidence; null for fewer than [`FEWEST`] runs.
    pub interval: Option<Interval>,
    /// What that shows.
    pub verdict: Verdict,
}

/// What a ratio and its interval show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of the interval is above 1.
    Higher,
    /// All of it is below 1.
    Lower,
    /// 1 is in it.
    NoDifferenceShown,
    /// There is none.
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
    /// Of settings that took turns: each round's figures, the base's first. `None` when there are
    /// no rounds, or figures that are not above zero.
    pub fn paired(mut rounds: Vec<(f64, f64)>) -> Option<Self> {
        // Which round came first says nothing, so it must not change what is drawn.
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (base, new): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
        Self::of(base, new, |random, base, new| {
            for (base, new) in base.iter_mut().zip(new) {
                (*base, *new) = rounds[random.below(rounds.len())];
            }
        })
    }

    /// Of runs that share nothing, such as those of two commands. `None` as in [`Self::paired`].
    pub fn unpaired(mut base: Vec<f64>, mut new: Vec<f64>) -> Option<Self> {
        base.sort_by(f64::total_cmp);
        new.sort_by(f64::total_cmp);
        let (from_base, from_new) = (base.clone(), new.clone());
        Self::of(base, new, |random, base, new| {
            base.fill_with(|| from_base[random.below(from_base.len())]);
            new.fill_with(|| from_new[random.below(from_new.len())]);
        })
    }

    /// `draw` fills both lists anew.
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
            interval = Some(drawn(ratio, |random| {
                draw(random, &mut base, &mut new);
                Some(median(&mut new)? / median(&mut base)?)
            })?);
        }
        // Figures far out of any reason may overflow when divided.
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
    fn a_clear_difference_is_shown_and_a_lack_of_one_too() {
        let base = [100.0, 101.0, 99.0, 102.0, 98.0].to_vec();
        let by = |factor: f64| base.iter().map(|value| value * factor).collect::<Vec<_>>();
        let told = |new| Ratio::unpaired(base.clone(), new).unwrap().verdict;
        assert_eq!(told(by(1.5)), Verdict::Higher);
        assert_eq!(told(by(0.5)), Verdict::Lower);
        assert_eq!(told(by(1.001)), Verdict::NoDifferenceShown);
        assert_eq!(told(by(1.5)[..4].to_vec()), Verdict::TooFewRuns);
    }

    #[test]
    fn drift_that_both_share_does_not_blur_a_paired_ratio() {
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
    fn the_interval_holds_the_truth_about_as_often_as_it_says() {
        let mut random = SplitMix::new(1);
        let mut noise = || 1.0 + random.below(1_000) as f64 / 10_000.0;
        let mut held = 0;
        for _ in 0..200 {
            let rounds = (0..7).map(|_| (noise(), 1.25 * noise())).collect();
            let interval = Ratio::paired(rounds).unwrap().interval.unwrap();
            held += u32::from((interval.low..=interval.high).contains(&1.25));
        }
        assert!((176..200).contains(&held), "{held} of 200");
    }

    #[test]
    fn what_cannot_be_divided_has_no_ratio() {
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
        fn the_estimate_lies_in_its_interval(rounds in rounds(FEWEST..12), base in figures(FEWEST..12), new in figures(FEWEST..12)) {
            for told in [Ratio::paired(rounds), Ratio::unpaired(base, new)] {
                let told = told.unwrap();
                let interval = told.interval.unwrap();
                prop_assert!(interval.low <= told.ratio && told.ratio <= interval.high);
            }
        }

        #[test]
        fn few_runs_have_a_ratio_and_no_interval(rounds in rounds(1..FEWEST), base in figures(1..FEWEST), new in figures(1..20)) {
            for told in [Ratio::paired(rounds), Ratio::unpaired(base, new)] {
                let told = told.unwrap();
                prop_assert_eq!((told.interval, told.verdict), (None, Verdict::TooFewRuns));
            }
        }

        #[test]
        fn nothing_differs_from_itself(values in figures(FEWEST..12)) {
            let unpaired = Ratio::unpaired(values.clone(), values.clone()).unwrap();
            prop_assert_eq!(unpaired.verdict, Verdict::NoDifferenceShown);
            let paired = Ratio::paired(values.iter().map(|&value| (value, value)).collect()).unwrap();
            prop_assert_eq!(paired.interval, Some(Interval { low: 1.0, high: 1.0 }));
        }

        #[test]
        fn the_order_of_the_runs_does_not_matter(mut rounds in rounds(FEWEST..12)) {
            let told = Ratio::paired(rounds.clone());
            let (base, new): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
            let apart = Ratio::unpaired(base.clone(), new.clone());
            rounds.reverse();
            prop_assert_eq!(Ratio::paired(rounds), told);
            let back = |values: Vec<f64>| values.into_iter().rev().collect();
            prop_assert_eq!(Ratio::unpaired(back(base), back(new)), apart);
        }

        #[test]
        fn the_unit_does_not_matter(rounds in rounds(FEWEST..12)) {
            // A power of two, so that not even the last digit changes.
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
