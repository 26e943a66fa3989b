//! Latencies in an HDR histogram that also counts values out of its range.
//!
//! Percentiles cannot be averaged, so histograms are merged, and summarised at the end by [`Latency::summary`].

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::buckets::{self, Buckets};

/// Longest recorded latency, in ns: 60 s.
pub const LONGEST_NS: u64 = 60_000_000_000;

/// Significant decimal digits of every value.
pub const DIGITS: u8 = 3;

/// A histogram of latencies from 1 ns to 60 s with 3 significant digits.
#[derive(Debug, Clone)]
pub struct Latency {
    buckets: Buckets,
    count: u64,
    /// Exact sum. The mean and the extremes of the buckets are less exact.
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
    out_of_range: OutOfRange,
}

/// Histograms with the name of each.
pub type NamedHistograms = Vec<(&'static str, Latency)>;

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

/// Where a percentage of the values lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Among the values below zero.
    Negative,
    /// At the lowest value in range.
    First,
    /// At this value in range, counted from 1.
    Value { rank: u64 },
    /// Among the values above the range.
    TooLong,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// An empty histogram of about 220 KB, which records fastest.
    pub fn new() -> Self {
        Self::with(Buckets::dense())
    }

    /// An empty histogram that grows with the number of its distinct values, up to the size of [`Self::new`].
    pub fn small() -> Self {
        Self::with(Buckets::sparse())
    }

    fn with(buckets: Buckets) -> Self {
        Self {
            buckets,
            count: 0,
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
            self.buckets.record(ns);
            self.count += 1;
            self.sum_ns += u128::from(ns);
            self.extend_to(ns);
        } else {
            self.out_of_range.too_long += 1;
        }
    }

    /// Replaces a recorded value by a larger one. If it was the minimum, the new one is exact to the width of its bucket.
    pub fn raise(&mut self, from: u64, to: u64) {
        if from > LONGEST_NS || !self.buckets.remove(from) {
            return;
        }
        self.count = self.count.saturating_sub(1);
        self.sum_ns = self.sum_ns.saturating_sub(from.into());
        if from == self.min_ns {
            let first = self.buckets.iter().next();
            self.min_ns = first.map_or(u64::MAX, |(bucket, _)| buckets::lowest(bucket).max(from));
        }
        self.record(to);
    }

    /// Adds everything `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.merge(&other.buckets);
        self.count = self.count.saturating_add(other.count);
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.out_of_range.negative += other.out_of_range.negative;
        self.out_of_range.too_long += other.out_of_range.too_long;
    }

    /// Removes all values and keeps the memory.
    pub fn clear(&mut self) {
        self.buckets.clear();
        (self.count, self.sum_ns) = (0, 0);
        (self.min_ns, self.max_ns) = (u64::MAX, 0);
        self.out_of_range = OutOfRange::default();
    }

    /// Recorded values, without those out of range.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// There is no value, in range or out of range.
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.out_of_range == OutOfRange::default()
    }

    /// The sum of all recorded latencies in ns.
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// Whether the values in the buckets can have the sum.
    pub fn is_sum_possible(&self) -> bool {
        let (mut lowest, mut highest) = (0u128, 0u128);
        for (bucket, count) in self.buckets.iter() {
            let of = |value: u64| u128::from(value) * u128::from(count);
            lowest = lowest.saturating_add(of(buckets::lowest(bucket)));
            highest = highest.saturating_add(of(buckets::highest(bucket)));
        }
        (lowest..=highest).contains(&self.sum_ns)
    }

    /// The value in ns at or below which `percent` of all values lie; `None` without values. The result is the end of a bucket, or
    /// the maximum if that is smaller.
    ///
    /// Values out of range are part of the order: values below zero are the smallest and count as 0; the result is unknown if it
    /// falls among the values above 60 s.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let [value] = self.percentiles([percent]);
        value
    }

    /// As [`Self::percentile`], of percentages that ascend.
    fn percentiles<const N: usize>(&self, percents: [f64; N]) -> [Option<u64>; N] {
        if self.count == 0 {
            return [None; N];
        }
        let places = percents.map(|percent| self.place(percent));
        let ranks = places.map(|place| match place {
            Place::Value { rank } => rank,
            Place::First | Place::Negative => 1,
            Place::TooLong => u64::MAX,
        });
        let buckets = self.buckets.at_ranks(ranks);
        let mut values = [None; N];
        for ((value, place), bucket) in values.iter_mut().zip(places).zip(buckets) {
            *value = match (place, bucket) {
                (Place::Negative, _) => Some(0),
                (Place::TooLong, _) => None,
                // The first value has no values below.
                (Place::First, bucket) => Some(bucket.map_or(0, buckets::lowest)),
                (Place::Value { .. }, bucket) => Some(bucket.map_or(0, buckets::highest)),
            }
            .map(|value: u64| value.min(self.max_ns));
        }
        values
    }

    /// Where a percentage lies, with at least one value in range.
    fn place(&self, percent: f64) -> Place {
        let recorded = self.count;
        let OutOfRange { negative, too_long } = self.out_of_range;
        let share = |percent: f64| (percent / 100.0).min(1.0);
        let of = |share: f64| match share {
            0.0 => Place::First,
            share => Place::Value {
                rank: ((share * recorded as f64).ceil() as u64).max(1),
            },
        };
        if (negative, too_long) == (0, 0) {
            return of(share(percent));
        }
        let all = recorded.saturating_add(negative).saturating_add(too_long);
        let rank = ((all as f64 * percent / 100.0).ceil() as u64).clamp(1, all);
        match rank.checked_sub(negative) {
            None | Some(0) => Place::Negative,
            Some(rank) if rank > recorded => Place::TooLong,
            Some(rank) => of(share(rank as f64 / recorded as f64 * 100.0)),
        }
    }

    /// The standard deviation, of the values in the middle of the buckets.
    fn stdev(&self) -> f64 {
        let count = self.count as f64;
        let middles = || {
            let buckets = self.buckets.iter();
            buckets.map(|(bucket, count)| (buckets::middle(bucket) as f64, count as f64))
        };
        let mean: f64 = middles().map(|(value, of)| value * of / count).sum();
        let squares = middles().map(|(value, of)| (value - mean) * (value - mean) * of);
        (squares.sum::<f64>() / count).sqrt()
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
        let [p50, p90, p99, p99_9, p99_99] = self.percentiles([50.0, 90.0, 99.0, 99.9, 99.99]);
        Summary {
            count,
            min: Some(self.min_ns),
            // The sum of another process may be unknown.
            mean: self
                .is_sum_possible()
                .then_some(self.sum_ns as f64 / count as f64),
            stdev: Some(self.stdev()),
            p50,
            p90,
            p99,
            p99_9,
            p99_99,
            max: Some(self.max_ns),
            out_of_range,
        }
    }

    /// The HDR histogram, for exports.
    pub fn histogram(&self) -> Histogram<u64> {
        // The crate accepts these constant bounds, as the tests show.
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)
            .unwrap_or_else(|_| unreachable!("1 ns to 60 s with 3 digits are valid bounds"));
        for (bucket, count) in self.buckets.iter() {
            // Cannot fail: the buckets are those of the bounds.
            let _ = histogram.record_n(buckets::highest(bucket), count);
        }
        histogram
    }

    /// The recorded values as plain numbers, for transfer to another process and [`Self::absorb`]: a value within each bucket and
    /// the bucket's count, ascending. The minimum and the maximum are among them.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().flat_map(|(bucket, count)| {
            let end = buckets::highest(bucket);
            let (min, max) = (self.min_ns, self.max_ns);
            let has = |ns| Buckets::is_same(ns, end);
            let (first, second) = match (has(min), has(max)) {
                (true, true) if min < max => ((min, 1), Some((max, count - 1))),
                (true, _) => ((min, count), None),
                (false, true) => ((max, count), None),
                (false, false) => ((end, count), None),
            };
            std::iter::once(first).chain(second)
        })
    }

    /// Adds counts of [`Self::counts`] from another process. Values above the range count as too long. No count overflows, as the
    /// other process is not trusted.
    pub fn absorb(&mut self, counts: &[(u64, u64)]) {
        // More than the packets of any run, and small enough for sums of counts.
        const MOST: u64 = 1 << 56;
        for &(value, count) in counts {
            let count = count.min(MOST.saturating_sub(self.count));
            if !self.buckets.record_n(value, count) {
                self.out_of_range.too_long = self.out_of_range.too_long.saturating_add(count);
            } else if count > 0 {
                self.count += count;
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
    fn a_raised_value_counts_once() {
        for mut latency in [Latency::new(), Latency::small()] {
            for ns in [100, 200, 300] {
                latency.record(ns);
            }
            latency.raise(100, 500);
            latency.raise(300, LONGEST_NS + 1);
            latency.raise(LONGEST_NS + 1, LONGEST_NS + 2);
            let summary = latency.summary();
            assert_eq!((summary.count, latency.sum_ns()), (2, 700));
            assert_eq!((summary.min, summary.max), (Some(200), Some(500)));
            assert_eq!(latency.out_of_range().too_long, 1);
        }
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
        fn percentiles_keep_three_digits(mut values in prop::collection::vec(1u64..=LONGEST_NS, 1..200)) {
            let mut latency = Latency::new();
            values.iter().for_each(|&ns| latency.record(ns));
            values.sort_unstable();
            let median = values[values.len().div_ceil(2) - 1] as f64;
            let found = latency.percentile(50.0).unwrap() as f64;
            prop_assert!((found - median).abs() <= median / 1000.0 + 1.0, "{found} for {median}");
        }

        #[test]
        fn small_histograms_and_those_of_the_crate_have_equal_figures(
            values in prop::collection::vec((0u64..=LONGEST_NS, 0u32..36), 1..100),
        ) {
            let (mut dense, mut small) = (Latency::new(), Latency::small());
            let mut of_crate = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, DIGITS).unwrap();
            for &(value, shift) in &values {
                dense.record(value >> shift);
                small.record(value >> shift);
                of_crate.record(value >> shift).unwrap();
            }
            prop_assert_eq!(small.summary(), dense.summary());
            prop_assert_eq!(small.summary().stdev, Some(of_crate.stdev()));
            prop_assert_eq!(small.histogram(), of_crate.clone());
            prop_assert_eq!((small.histogram().min(), small.histogram().max()), (of_crate.min(), of_crate.max()));
            prop_assert!(small.counts().eq(dense.counts()));
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
            prop_assert!(a.is_sum_possible());
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
