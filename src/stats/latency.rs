//! Latencies in an HDR histogram that also counts values out of its range.
//!
//! Percentiles cannot be averaged, so histograms are merged, and summarised at the end by [`Latency::summary`].

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest recorded latency, in ns: 60 s.
pub const LONGEST_NS: u64 = 60_000_000_000;

/// Significant decimal digits of every value.
pub const DIGITS: u8 = 3;

/// A histogram of latencies from 1 ns to 60 s with 3 significant digits. Its size is always about 220 KB.
#[derive(Debug, Clone)]
pub struct Latency {
    histogram: Histogram<u64>,
    /// Exact sum. The mean and the extremes of the histogram itself are those of its buckets.
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
    out_of_range: OutOfRange,
}

/// Values out of the histogram's range: counted, never clamped silently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfRange {
    /// Below zero: the error of the clocks' offset exceeds the latency.
    pub negative: u64,
    /// Above 60 s.
    pub too_long: u64,
}

/// The figures of a histogram, in ns. Without recorded values, all except `count` and `out_of_range` are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Recorded values, without those out of range.
    pub count: u64,
    /// Minimum.
    pub min: Option<u64>,
    /// Arithmetic mean, from the exact sum.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub stdev: Option<f64>,
    /// 50 % of the values are at or below.
    pub p50: Option<u64>,
    /// 90 % of the values are at or below.
    pub p90: Option<u64>,
    /// 99 % of the values are at or below.
    pub p99: Option<u64>,
    /// 99.9 % of the values are at or below.
    pub p99_9: Option<u64>,
    /// 99.99 % of the values are at or below.
    pub p99_99: Option<u64>,
    /// Maximum.
    pub max: Option<u64>,
    /// Values out of range.
    pub out_of_range: OutOfRange,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// An empty histogram. It never grows.
    pub fn new() -> Self {
        // The crate accepts these constant bounds, as the tests show.
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)
            .unwrap_or_else(|_| unreachable!("1 ns to 60 s with 3 digits are valid bounds"));
        Self {
            histogram,
            sum_ns: 0,
            min_ns: u64::MAX,
            max_ns: 0,
            out_of_range: OutOfRange::default(),
        }
    }

    /// Records the time from `sent` to `received`, both in ns of one clock.
    #[inline]
    pub fn record_between(&mut self, sent: u64, received: u64) {
        match received.checked_sub(sent) {
            Some(ns) => self.record(ns),
            None => self.out_of_range.negative += 1,
        }
    }

    /// Records one latency in ns.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        if ns <= LONGEST_NS {
            // Cannot fail: the value is within the bounds the histogram was made with.
            let _ = self.histogram.record(ns);
            self.sum_ns += u128::from(ns);
            self.extend_to(ns);
        } else {
            self.out_of_range.too_long += 1;
        }
    }

    /// Adds everything `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        // Cannot fail: both histograms have equal bounds.
        let _ = self.histogram.add(&other.histogram);
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.out_of_range.negative += other.out_of_range.negative;
        self.out_of_range.too_long += other.out_of_range.too_long;
    }

    /// Removes all values and keeps the memory.
    pub fn clear(&mut self) {
        self.histogram.reset();
        self.sum_ns = 0;
        (self.min_ns, self.max_ns) = (u64::MAX, 0);
        self.out_of_range = OutOfRange::default();
    }

    /// Recorded values, without those out of range.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// There is no value, in range or out of range.
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.out_of_range == OutOfRange::default()
    }

    /// The sum of all recorded latencies in ns.
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// The value in ns at or below which `percent` of all values lie; `None` without values. The result is the end of a bucket, or
    /// the maximum if that is smaller.
    ///
    /// Values out of range are part of the order: values below zero are the smallest and count as 0; the result is unknown if it
    /// falls among the values above 60 s.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let recorded = self.count();
        let OutOfRange { negative, too_long } = self.out_of_range;
        let end = |percent| self.histogram.value_at_percentile(percent).min(self.max_ns);
        if recorded == 0 {
            return None;
        }
        if (negative, too_long) == (0, 0) {
            return Some(end(percent));
        }
        let all = recorded.saturating_add(negative).saturating_add(too_long);
        let rank = ((all as f64 * percent / 100.0).ceil() as u64).clamp(1, all);
        match rank.checked_sub(negative) {
            None | Some(0) => Some(0),
            Some(rank) if rank > recorded => None,
            Some(rank) => Some(end(rank as f64 / recorded as f64 * 100.0)),
        }
    }

    /// The exact maximum in ns; `None` without values.
    pub fn max(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.max_ns)
    }

    fn extend_to(&mut self, ns: u64) {
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// The figures.
    pub fn summary(&self) -> Summary {
        let count = self.count();
        let out_of_range = self.out_of_range;
        if count == 0 {
            return Summary {
                out_of_range,
                ..Summary::default()
            };
        }
        Summary {
            count,
            min: Some(self.min_ns),
            mean: Some(self.sum_ns as f64 / count as f64),
            stdev: Some(self.histogram.stdev()),
            p50: self.percentile(50.0),
            p90: self.percentile(90.0),
            p99: self.percentile(99.0),
            p99_9: self.percentile(99.9),
            p99_99: self.percentile(99.99),
            max: Some(self.max_ns),
            out_of_range,
        }
    }

    /// The HDR histogram, for exports.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// The recorded values as plain numbers, for transfer to another process and [`Self::absorb`]: a value within each bucket and
    /// the bucket's count, ascending. The minimum and the maximum are among them.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.histogram.iter_recorded().flat_map(|step| {
            let (end, count) = (step.value_iterated_to(), step.count_at_value());
            let (min, max) = (self.min_ns, self.max_ns);
            let has = |ns| self.histogram.equivalent(ns, end);
            let (first, second) = match (has(min), has(max)) {
                (true, true) if min < max => ((min, 1), Some((max, count - 1))),
                (true, _) => ((min, count), None),
                (false, true) => ((max, count), None),
                (false, false) => ((end, count), None),
            };
            std::iter::once(first).chain(second)
        })
    }

    /// As [`Self::counts`], in buckets that are at most 1/32 of their value wide. Values out of range are included: 0 stands for
    /// those below zero, and `u64::MAX` for those that are too long. The largest value of a bucket represents it.
    pub fn coarse_counts(&self) -> Vec<(u64, u64)> {
        let OutOfRange { negative, too_long } = self.out_of_range;
        let below = (negative > 0).then_some((0, negative));
        let above = (too_long > 0).then_some((u64::MAX, too_long));
        let mut coarse: Vec<(u64, u64)> = Vec::new();
        for (value, count) in below.into_iter().chain(self.counts()).chain(above) {
            match coarse.last_mut() {
                Some((last, total)) if coarse_bucket(*last) == coarse_bucket(value) => {
                    *last = value;
                    *total = total.saturating_add(count);
                }
                _ => coarse.push((value, count)),
            }
        }
        coarse
    }

    /// Adds counts of [`Self::counts`] from another process. Values above the range count as too long. No count overflows, as the
    /// other process is not trusted.
    pub fn absorb(&mut self, counts: &[(u64, u64)]) {
        // More than the packets of any run, and small enough for sums of counts.
        const MOST: u64 = 1 << 56;
        for &(value, count) in counts {
            let count = count.min(MOST.saturating_sub(self.histogram.len()));
            if self.histogram.record_n(value, count).is_err() {
                self.out_of_range.too_long = self.out_of_range.too_long.saturating_add(count);
            } else if count > 0 {
                self.extend_to(value);
            }
        }
    }

    /// Adds the values that [`Self::counts`] lacks: the exact sum in ns, and the values out of range.
    pub fn absorb_totals(&mut self, sum_ns: u128, out_of_range: OutOfRange) {
        self.sum_ns = self.sum_ns.saturating_add(sum_ns);
        let OutOfRange { negative, too_long } = &mut self.out_of_range;
        *negative = negative.saturating_add(out_of_range.negative);
        *too_long = too_long.saturating_add(out_of_range.too_long);
    }

    /// Values out of range.
    pub fn out_of_range(&self) -> OutOfRange {
        self.out_of_range
    }
}

/// The bucket of [`Latency::coarse_counts`] with this value: its leading six bits, and their place.
fn coarse_bucket(ns: u64) -> (u32, u64) {
    let rest = ns.checked_ilog2().unwrap_or(0).saturating_sub(5);
    (rest, ns >> rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn empty_histogram_has_no_figures() {
        let summary = Latency::new().summary();
        assert_eq!(summary, Summary::default());
        assert_eq!(summary.p50, None);
    }

    #[test]
    fn values_out_of_range_are_counted_and_not_recorded() {
        let mut latency = Latency::new();
        latency.record_between(10, 9);
        latency.record(LONGEST_NS);
        latency.record(LONGEST_NS + 1);
        assert_eq!(latency.count(), 1);
        assert_eq!(
            latency.out_of_range(),
            OutOfRange {
                negative: 1,
                too_long: 1
            }
        );
        assert_eq!(latency.sum_ns(), u128::from(LONGEST_NS));
    }

    #[test]
    fn coarse_counts_are_few_and_include_values_out_of_range() {
        let mut latency = Latency::new();
        (1..1_000_000).for_each(|ns| latency.record(ns * 60_000));
        latency.record_between(10, 9);
        latency.record(LONGEST_NS + 1);
        let counts = latency.coarse_counts();
        assert!(counts.len() < 700, "{}", counts.len());
        assert_eq!(counts.first(), Some(&(0, 1)));
        let mut absorbed = Latency::new();
        absorbed.absorb(&counts);
        assert_eq!(absorbed.out_of_range().too_long, 1);
    }

    #[test]
    fn negative_values_are_the_smallest_in_the_order() {
        let mut latency = Latency::new();
        (0..98).for_each(|_| latency.record_between(10, 9));
        latency.record(5_000);
        latency.record(LONGEST_NS + 1);
        assert_eq!(latency.percentile(50.0), Some(0));
        assert_eq!(latency.percentile(99.0), Some(5_000));
        assert_eq!(latency.percentile(100.0), None);
    }

    proptest! {
        #[test]
        fn coarse_counts_move_percentiles_by_at_most_a_thirtieth(values in prop::collection::vec(1u64..=LONGEST_NS, 1..200)) {
            let mut latency = Latency::new();
            values.iter().for_each(|&ns| latency.record(ns));
            let counts = latency.coarse_counts();
            prop_assert_eq!(counts.iter().map(|&(_, count)| count).sum::<u64>(), values.len() as u64);
            let mut coarse = Latency::new();
            coarse.absorb(&counts);
            prop_assert_eq!(coarse.max(), latency.max());
            for percent in [50.0, 90.0, 99.0, 99.9] {
                let (fine, found) = (latency.percentile(percent).unwrap(), coarse.percentile(percent).unwrap());
                let error = (found as f64 - fine as f64).abs();
                prop_assert!(error <= fine as f64 / 30.0 + 1.0, "{} for {}", found, fine);
            }
        }

        #[test]
        fn percentiles_keep_three_digits(mut values in prop::collection::vec(1u64..=LONGEST_NS, 1..200)) {
            let mut latency = Latency::new();
            values.iter().for_each(|&ns| latency.record(ns));
            values.sort_unstable();
            let median = values[values.len().div_ceil(2) - 1] as f64;
            let found = latency.percentile(50.0).unwrap() as f64;
            prop_assert!((found - median).abs() <= median / 1000.0 + 1.0, "{found} for {median}");
        }

        #[test]
        fn transferred_and_merged_histograms_equal_one_histogram(
            left in prop::collection::vec(0u64..2 * LONGEST_NS, 0..100),
            right in prop::collection::vec(0u64..2 * LONGEST_NS, 0..100),
        ) {
            let mut all = Latency::new();
            let mut a = Latency::new();
            let mut b = Latency::new();
            left.iter().for_each(|&ns| { all.record(ns); a.record(ns) });
            right.iter().for_each(|&ns| { all.record(ns); b.record(ns) });
            let mut carried = Latency::new();
            let counts: Vec<_> = b.counts().collect();
            carried.absorb(&counts);
            carried.absorb_totals(b.sum_ns(), b.out_of_range());
            a.merge(&carried);
            prop_assert_eq!(a.summary(), all.summary());
        }

        #[test]
        fn extremes_are_exact_and_no_percentile_is_above(values in prop::collection::vec(0u64..=LONGEST_NS, 1..50)) {
            let mut latency = Latency::new();
            values.iter().for_each(|&ns| latency.record(ns));
            let summary = latency.summary();
            prop_assert_eq!(summary.min, values.iter().min().copied());
            prop_assert_eq!(summary.max, values.iter().max().copied());
            let percentiles = [summary.p50, summary.p90, summary.p99, summary.p99_9, summary.p99_99, summary.max];
            prop_assert!(percentiles.is_sorted(), "{:?}", percentiles);
            latency.clear();
            prop_assert_eq!(latency.summary(), Summary::default());
        }
    }
}
