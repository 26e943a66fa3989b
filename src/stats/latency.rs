//! Latencies in an HDR histogram that says what it could not hold.
//!
//! Percentiles cannot be averaged, so [`Latency`] keeps counts, can be merged with another without
//! loss, and is summed up only at the end, by [`Latency::summary`].

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency the histogram holds, in ns: 60 s.
pub const LONGEST_NS: u64 = 60_000_000_000;

/// Significant decimal digits kept of every value.
pub const DIGITS: u8 = 3;

/// A histogram of latencies in ns, 1 ns to 60 s with 3 significant digits. About 220 KB, whatever
/// it holds.
#[derive(Debug, Clone)]
pub struct Latency {
    histogram: Histogram<u64>,
    /// Exact, unlike the histogram's own mean and extremes, which are those of buckets.
    sum_ns: u128,
    min_ns: u64,
    max_ns: u64,
    out_of_range: OutOfRange,
}

/// Values that are no latency the histogram holds: counted, never clamped in silence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfRange {
    /// Below zero: received before it was sent, so the clocks' offset is wrong by at least that.
    pub negative: u64,
    /// Above 60 s.
    pub too_long: u64,
}

/// The figures of one histogram, in ns. All but `count` and `out_of_range` are absent when nothing was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Values recorded, those out of range not among them.
    pub count: u64,
    /// The smallest.
    pub min: Option<u64>,
    /// Arithmetic mean, from the exact sum.
    pub mean: Option<f64>,
    /// Standard deviation.
    pub stdev: Option<f64>,
    /// Half of the values are at or below this.
    pub p50: Option<u64>,
    /// 90 % are.
    pub p90: Option<u64>,
    /// 99 % are.
    pub p99: Option<u64>,
    /// 99.9 % are.
    pub p99_9: Option<u64>,
    /// 99.99 % are.
    pub p99_99: Option<u64>,
    /// The largest.
    pub max: Option<u64>,
    /// What could not be recorded.
    pub out_of_range: OutOfRange,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    /// An empty histogram, allocated once and for all.
    pub fn new() -> Self {
        // The bounds are constants that the crate accepts, which a test proves; its error type
        // leaves no other way to say so.
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
        // Cannot fail: both have the same bounds.
        let _ = self.histogram.add(&other.histogram);
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.out_of_range.negative += other.out_of_range.negative;
        self.out_of_range.too_long += other.out_of_range.too_long;
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.histogram.reset();
        self.sum_ns = 0;
        (self.min_ns, self.max_ns) = (u64::MAX, 0);
        self.out_of_range = OutOfRange::default();
    }

    /// Values recorded, those out of range not among them.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Whether nothing was seen at all, in range or out of it.
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.out_of_range == OutOfRange::default()
    }

    /// The sum of all recorded latencies in ns.
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// The value in ns at or below which `percent` of all lie; `None` when there are none. It is the end of a bucket, unless
    /// that is above the largest value.
    ///
    /// Values out of range have their place in the order: those below zero are the smallest, and count as 0; where those
    /// above 60 s are reached, the value is not known.
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

    /// The largest value in ns, exactly; `None` when there is none.
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

    /// The HDR histogram itself, for exports.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// Everything in it as plain numbers, to be carried somewhere else and rebuilt by [`Self::absorb`]:
    /// each bucket's count with a value in it, ascending. The smallest and the largest value are among them.
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

    /// Takes in counts that [`Self::counts`] gave elsewhere. Values beyond the range count as too long,
    /// and no count overflows, since who gives them may not be honest.
    pub fn absorb(&mut self, counts: &[(u64, u64)]) {
        // More than any run has packets, and few enough for the histogram to add up.
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

    /// Takes in what does not show in the counts: the exact sum in ns, and the values out of range.
    pub fn absorb_totals(&mut self, sum_ns: u128, out_of_range: OutOfRange) {
        self.sum_ns = self.sum_ns.saturating_add(sum_ns);
        let OutOfRange { negative, too_long } = &mut self.out_of_range;
        *negative = negative.saturating_add(out_of_range.negative);
        *too_long = too_long.saturating_add(out_of_range.too_long);
    }

    /// What could not be recorded.
    pub fn out_of_range(&self) -> OutOfRange {
        self.out_of_range
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_has_no_figures() {
        let summary = Latency::new().summary();
        assert_eq!(summary, Summary::default());
        assert_eq!(summary.p50, None);
    }

    #[test]
    fn what_is_out_of_range_is_counted_and_not_recorded() {
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
    fn what_is_below_zero_keeps_its_place_in_the_order() {
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
            let told = latency.percentile(50.0).unwrap() as f64;
            prop_assert!((told - median).abs() <= median / 1000.0 + 1.0, "{told} for {median}");
        }

        #[test]
        fn carried_and_merged_is_as_recorded_in_one(
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
        fn the_extremes_are_those_seen_and_no_percentile_is_above(values in prop::collection::vec(0u64..=LONGEST_NS, 1..50)) {
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
