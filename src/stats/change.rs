//! Where the level of a series of values changed.
//!
//! A change is a split into two parts whose means differ by more than the values scatter around them: the largest two-sample t of
//! all splits, the likelihood-ratio test for a shift of a normal mean (Worsley, "On the likelihood ratio test for a shift in
//! location of normal populations", *Journal of the American Statistical Association* 74, 1979). Its p value is bounded by
//! Bonferroni's inequality over the splits, so that at most [`LEVEL`] of series without a change show one. Both parts are searched
//! again (binary segmentation: Scott and Knott, "A cluster analysis method for grouping means", *Biometrics* 30, 1974).
//!
//! The test assumes independent values of equal, roughly normal scatter. Rank tests assume less, but cannot reach this level with
//! the seven values of a week: Pettitt's (1979) has no p value below 0.2 there.

/// Fewest values in which a change is searched.
pub const FEWEST: usize = 5;

/// Largest p value of a change.
pub const LEVEL: f64 = 0.01;

/// Fewest values before and after a change: one value alone is an outlier.
const FEWEST_OF_PART: usize = 2;

/// A change of level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The first value of the new level.
    pub at: usize,
    /// Mean of the values before, back to the previous change.
    pub before: f64,
    /// Mean of the values from here to the next change.
    pub after: f64,
    /// Upper bound of the p value.
    pub p: f64,
}

/// The changes in `values`, in order. None if a value is not finite, or if there are fewer than [`FEWEST`].
pub fn changes(values: &[f64]) -> Vec<Change> {
    let mut found = Vec::new();
    if values.iter().all(|value| value.is_finite()) {
        search(values, 0, &mut found);
    }
    found.sort_by_key(|change| change.at);
    // The levels are those between adjacent changes.
    let ends: Vec<usize> = found.iter().map(|change| change.at).collect();
    for (number, change) in found.iter_mut().enumerate() {
        let start = number.checked_sub(1).map_or(0, |before| ends[before]);
        let end = ends.get(number + 1).copied().unwrap_or(values.len());
        change.before = mean(&values[start..change.at]);
        change.after = mean(&values[change.at..end]);
    }
    found
}

/// Searches `values`, the first of which has number `offset`.
fn search(values: &[f64], offset: usize, found: &mut Vec<Change>) {
    let Some((at, p)) = split(values).filter(|(_, p)| *p <= LEVEL) else {
        return;
    };
    let (before, after) = values.split_at(at);
    found.push(Change {
        at: offset + at,
        before: mean(before),
        after: mean(after),
        p,
    });
    search(before, offset, found);
    search(after, offset + at, found);
}

/// The split with the largest t, and a bound of the p value of that t.
fn split(values: &[f64]) -> Option<(usize, f64)> {
    let count = values.len();
    if count < FEWEST {
        return None;
    }
    let splits = FEWEST_OF_PART..=count - FEWEST_OF_PART;
    let tests = splits.clone().count() as f64;
    let squares = |part: &[f64]| {
        let mean = mean(part);
        part.iter()
            .map(|value| (value - mean) * (value - mean))
            .sum::<f64>()
    };
    let all = squares(values);
    // Sums of squares of equal values, by the rounding of their mean.
    let largest = values
        .iter()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    let rounding = count as f64 * (largest * 1e-12).powi(2);
    let t = |at: usize| {
        let (before, after) = values.split_at(at);
        let within = squares(before) + squares(after);
        let between = (all - within).max(0.0);
        match between <= rounding + all * 1e-12 {
            true => 0.0,
            false => (between / (within / (count - 2) as f64)).sqrt(),
        }
    };
    let best = splits.map(|at| (at, t(at)));
    let (at, t) = best.max_by(|one, other| one.1.total_cmp(&other.1))?;
    Some((at, (tests * tail(t, count - 2)).min(1.0)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The probability that the absolute value of Student's t with `freedom` degrees of freedom is above `t` (Abramowitz and Stegun,
/// *Handbook of Mathematical Functions*, 1964, 26.7.3 and 26.7.4).
fn tail(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = !freedom.is_multiple_of(2);
    // The terms have even powers of the cosine, or odd powers.
    let (mut term, mut sum) = match (is_odd, freedom) {
        (true, 1) => (0.0, 0.0),
        (true, _) => (cosine, cosine),
        (false, _) => (1.0, 1.0),
    };
    let mut number = if is_odd { 3 } else { 2 };
    while number < freedom {
        term *= cosine * cosine * (number - 1) as f64 / number as f64;
        sum += term;
        number += 2;
    }
    let inside = match is_odd {
        true => (angle + sine * sum) * std::f64::consts::FRAC_2_PI,
        false => sine * sum,
    };
    (1.0 - inside).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix;
    use proptest::prelude::*;

    #[test]
    fn tail_is_that_of_the_tables() {
        // Two-sided critical values of Student's t.
        for (freedom, t, p) in [
            (1, 12.706, 0.05),
            (2, 4.303, 0.05),
            (3, 5.841, 0.01),
            (5, 2.571, 0.05),
            (5, 4.032, 0.01),
            (10, 3.169, 0.01),
            (29, 2.045, 0.05),
            (100, 2.626, 0.01),
        ] {
            let found = tail(t, freedom);
            assert!((found / p - 1.0).abs() < 2e-3, "{freedom}: {found}");
        }
        assert_eq!(tail(0.0, 4), 1.0);
        assert_eq!(tail(f64::INFINITY, 3), 0.0);
    }

    #[test]
    fn step_in_a_week_is_found_where_it_is() {
        let week = [100.1, 99.8, 100.3, 99.9, 90.2, 89.9, 90.1];
        let found = changes(&week);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].at, 4);
        assert!((found[0].before - 100.025).abs() < 1e-9);
        assert!((found[0].after - 90.066_666_7).abs() < 1e-6);
        assert!(found[0].p < 1e-4, "{}", found[0].p);
    }

    #[test]
    fn several_steps_are_found() {
        let values = [5.0, 5.1, 4.9, 5.0, 9.0, 9.1, 8.9, 9.0, 2.0, 2.1, 1.9, 2.0];
        let at: Vec<_> = changes(&values).iter().map(|change| change.at).collect();
        assert_eq!(at, [4, 8]);
    }

    #[test]
    fn neither_an_outlier_nor_too_few_values_are_a_change() {
        assert_eq!(changes(&[10.0, 10.1, 9.9, 50.0, 10.0, 10.1, 9.9]), []);
        assert_eq!(changes(&[10.0, 10.1, 9.9, 10.0, 10.1, 9.9, 50.0]), []);
        assert_eq!(changes(&[1.0, 1.0, 9.0, 9.0]), []);
        assert_eq!(changes(&[]), []);
        assert_eq!(changes(&[1.0, f64::NAN, 1.0, 5.0, 5.0, 5.0]), []);
    }

    #[test]
    fn values_without_scatter_change_only_if_they_differ() {
        assert_eq!(changes(&[3.3; 9]), []);
        let found = changes(&[0.1, 0.1, 0.1, 0.2, 0.2, 0.2]);
        assert_eq!((found.len(), found[0].at), (1, 3));
    }

    /// A sum of uniform numbers is roughly normal.
    fn noise(random: &mut SplitMix) -> f64 {
        let sum: f64 = (0..12)
            .map(|_| random.next() as f64 / u64::MAX as f64)
            .sum();
        sum - 6.0
    }

    #[test]
    fn series_without_a_change_rarely_show_one() {
        let mut random = SplitMix::new(7);
        for count in [7, 14, 30] {
            let false_alarms = (0..2_000)
                .filter(|_| {
                    let values: Vec<f64> = (0..count).map(|_| noise(&mut random)).collect();
                    !changes(&values).is_empty()
                })
                .count();
            // 20 are expected at most; 35 is more than three standard deviations above.
            assert!(false_alarms <= 35, "{count}: {false_alarms}");
        }
    }

    proptest! {
        #[test]
        fn changes_are_ordered_parts_of_the_series(values in prop::collection::vec(-1e6..1e6, 0..40)) {
            let found = changes(&values);
            let mut last = 0;
            for change in &found {
                prop_assert!(change.at >= last + FEWEST_OF_PART && change.at + FEWEST_OF_PART <= values.len());
                prop_assert!((0.0..=LEVEL).contains(&change.p));
                last = change.at;
            }
        }

        /// Units and the direction of time do not matter.
        #[test]
        fn a_large_step_is_found_in_any_unit(at in 2usize..8, seed: u64, scale in 1e-6..1e6, shift in -1e3..1e3) {
            let mut random = SplitMix::new(seed);
            let values: Vec<f64> = (0..10)
                .map(|n| scale * (shift + 0.1 * noise(&mut random) + if n < at { 0.0 } else { 20.0 }))
                .collect();
            let found = changes(&values);
            prop_assert!(found.iter().any(|change| change.at == at), "{found:?}");
            let backward: Vec<f64> = values.iter().rev().copied().collect();
            prop_assert!(changes(&backward).iter().any(|change| change.at == 10 - at));
        }
    }
}
