//! Median and extremes of repeated runs.

use serde::{Deserialize, Serialize};

use super::bootstrap::{FEWEST, Interval, interval_of};

/// Median and extremes of a figure over repeated runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of runs with the figure.
    pub count: usize,
    /// Minimum.
    pub min: f64,
    /// Median; of an even number, the mean of the two middle values.
    pub median: f64,
    /// Maximum.
    pub max: f64,
}

impl Spread {
    /// The spread of all values that are not NaN; `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Self {
            count: sorted.len(),
            min,
            median: median(&mut sorted)?,
            max,
        })
    }
}

/// The 95 % interval of the median (percentile bootstrap); `None` for fewer than [`FEWEST`] values.
pub fn interval_of_median(values: &[f64]) -> Option<Interval> {
    if values.len() < FEWEST {
        return None;
    }
    // The order must not affect the result.
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let estimate = median(&mut values.clone())?;
    let mut drawn = values.clone();
    interval_of(estimate, |random| {
        drawn.fill_with(|| values[random.below(values.len())]);
        median(&mut drawn)
    })
}

/// The median of `values`; `None` without values. Changes their order.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let is_even = values.len().is_multiple_of(2);
    let (below, &mut upper, _) = values.select_nth_unstable_by(values.len() / 2, f64::total_cmp);
    match below.iter().copied().max_by(f64::total_cmp) {
        Some(lower) if is_even => Some(f64::midpoint(lower, upper)),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_value() {
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (odd.min, odd.median, odd.max, odd.count),
            (1.0, 2.0, 3.0, 3)
        );
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn interval_of_a_median_needs_five_values_and_contains_it() {
        assert!(interval_of_median(&[1.0, 2.0, 3.0, 4.0]).is_none());
        let interval = interval_of_median(&[5.0, 1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!(interval.low >= 1.0 && interval.low <= 3.0 && interval.high >= 3.0);
    }
}
