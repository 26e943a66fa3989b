//! Counts of the buckets of an HDR histogram with 3 significant digits, with the bucket limits of the `hdrhistogram` crate.
//!
//! Values below 2,048 have a bucket each. Each further power of two is divided into 1,024 buckets. The counts are *dense*, an array of
//! all buckets (216 KiB), or *sparse*, a sorted list of the buckets in use. Sparse counts become dense when the list gets long.

/// Buckets up to 2^36 - 1, the limit of the power of two that 60 s in ns belongs to.
const BUCKETS: usize = 27 << 10;

/// Values with a bucket each, minus one.
const EXACT: u64 = (1 << 11) - 1;

/// Buckets in use from which the counts are dense: a list of 64 KiB.
const MAX_SPARSE: usize = 1 << 13;

/// Buckets that are summed together in the search for a rank.
const CHUNK: usize = 64;

/// The number of the bucket of a value. It is not below the number of buckets if the value is too large.
#[inline]
fn bucket_of(value: u64) -> usize {
    let exponent = u64::BITS - EXACT.count_ones() - (value | EXACT).leading_zeros();
    ((exponent as usize) << 10) + (value >> exponent) as usize
}

/// A bucket: its lowest value, and the binary logarithm of its width.
fn limits(bucket: usize) -> (u64, usize) {
    let exponent = (bucket >> 10).saturating_sub(1);
    (((bucket - (exponent << 10)) as u64) << exponent, exponent)
}

/// The lowest value of a bucket.
pub(super) fn lowest(bucket: usize) -> u64 {
    limits(bucket).0
}

/// The value in the middle of a bucket.
pub(super) fn middle(bucket: usize) -> u64 {
    let (lowest, exponent) = limits(bucket);
    lowest + ((1 << exponent) >> 1)
}

/// The highest value of a bucket.
pub(super) fn highest(bucket: usize) -> u64 {
    let (lowest, exponent) = limits(bucket);
    lowest + (1 << exponent) - 1
}

/// The count of each bucket.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    /// The count of each bucket; empty if the counts are sparse.
    dense: Vec<u64>,
    /// Bucket and count, in order of the buckets; empty if the counts are dense.
    sparse: Vec<(u32, u32)>,
}

impl Buckets {
    /// Dense counts, which record fastest.
    pub(super) fn dense() -> Self {
        Self {
            dense: vec![0; BUCKETS],
            sparse: Vec::new(),
        }
    }

    /// Sparse counts, which take as much memory as the recorded values need.
    pub(super) fn sparse() -> Self {
        Self {
            dense: Vec::new(),
            sparse: Vec::new(),
        }
    }

    /// Counts a value that has a bucket.
    #[inline]
    pub(super) fn record(&mut self, value: u64) {
        let bucket = bucket_of(value);
        match self.dense.get_mut(bucket) {
            Some(count) => *count += 1,
            None => self.add(bucket, 1),
        }
    }

    /// Counts a value `count` times. `false` if the value is too large for a bucket.
    pub(super) fn record_n(&mut self, value: u64, count: u64) -> bool {
        let bucket = bucket_of(value);
        let fits = bucket < BUCKETS;
        if let Some(sum) = self.dense.get_mut(bucket) {
            *sum = sum.saturating_add(count);
        } else if fits && count > 0 {
            self.add(bucket, count);
        }
        fits
    }

    /// Takes back one count of a value. `false` if its bucket is empty.
    pub(super) fn remove(&mut self, value: u64) -> bool {
        let bucket = bucket_of(value);
        if let Some(count @ 1..) = self.dense.get_mut(bucket) {
            *count -= 1;
            return true;
        }
        let place = self
            .sparse
            .binary_search_by_key(&bucket, |entry| entry.0 as usize);
        let Ok(place) = place else { return false };
        if let Some((_, count @ 2..)) = self.sparse.get_mut(place) {
            *count -= 1;
        } else {
            self.sparse.remove(place);
        }
        true
    }

    #[cold]
    #[inline(never)]
    fn add(&mut self, bucket: usize, more: u64) {
        if let Some(count) = self.dense.get_mut(bucket) {
            *count = count.saturating_add(more);
            return;
        }
        let (Ok(key), Ok(few)) = (u32::try_from(bucket), u32::try_from(more)) else {
            return self.add_dense(bucket, more);
        };
        // Counts of another histogram come in order.
        if self.sparse.len() < MAX_SPARSE && self.sparse.last().is_none_or(|last| last.0 < key) {
            return self.sparse.push((key, few));
        }
        match self.sparse.binary_search_by_key(&key, |entry| entry.0) {
            Ok(place) => match self.sparse.get_mut(place) {
                Some((_, count)) if count.checked_add(few).is_some() => *count += few,
                _ => self.add_dense(bucket, more),
            },
            Err(place) if self.sparse.len() < MAX_SPARSE => self.sparse.insert(place, (key, few)),
            Err(_) => self.add_dense(bucket, more),
        }
    }

    /// Makes sparse counts dense, and adds to a bucket.
    fn add_dense(&mut self, bucket: usize, more: u64) {
        if self.dense.is_empty() {
            self.dense = vec![0; BUCKETS];
            for (bucket, count) in std::mem::take(&mut self.sparse) {
                if let Some(place) = self.dense.get_mut(bucket as usize) {
                    *place = u64::from(count);
                }
            }
        }
        if let Some(count) = self.dense.get_mut(bucket) {
            *count = count.saturating_add(more);
        }
    }

    /// Adds the counts of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.iter() {
            self.add(bucket, count);
        }
    }

    /// Removes all counts and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.dense.fill(0);
        self.sparse.clear();
    }

    /// The buckets in use with their counts, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let dense = self.dense.iter().enumerate();
        let dense = dense.filter_map(|(bucket, &count)| (count > 0).then_some((bucket, count)));
        let sparse = self.sparse.iter();
        dense.chain(sparse.map(|&(bucket, count)| (bucket as usize, u64::from(count))))
    }

    /// The buckets of the values with these ranks, which ascend and are counted from 1.
    pub(super) fn at_ranks<const N: usize>(&self, ranks: [u64; N]) -> [Option<usize>; N] {
        let mut found = [None; N];
        let mut ranks = ranks.into_iter().zip(&mut found).peekable();
        let mut below: u64 = 0;
        for (number, chunk) in self.dense.chunks(CHUNK).enumerate() {
            let Some(&(rank, _)) = ranks.peek() else {
                break;
            };
            let sum = below.saturating_add(chunk.iter().sum());
            if sum < rank {
                below = sum;
                continue;
            }
            for (place, &count) in chunk.iter().enumerate() {
                below = below.saturating_add(count);
                while let Some((_, found)) = ranks.next_if(|(rank, _)| below >= *rank) {
                    *found = Some(number * CHUNK + place);
                }
            }
        }
        for &(bucket, count) in &self.sparse {
            below = below.saturating_add(u64::from(count));
            while let Some((_, found)) = ranks.next_if(|(rank, _)| below >= *rank) {
                *found = Some(bucket as usize);
            }
        }
        found
    }

    /// Whether two values have the same bucket.
    pub(super) fn is_same(value: u64, other: u64) -> bool {
        bucket_of(value) == bucket_of(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    use crate::stats::latency::{DIGITS, LONGEST_NS};

    #[test]
    fn sparse_counts_become_dense_at_the_limit_of_the_list_and_of_a_count() {
        let mut buckets = Buckets::sparse();
        (0..MAX_SPARSE as u64).for_each(|bucket| buckets.record(highest(bucket as usize)));
        assert_eq!((buckets.sparse.len(), buckets.dense.len()), (MAX_SPARSE, 0));
        buckets.record(LONGEST_NS);
        assert_eq!((buckets.sparse.len(), buckets.dense.len()), (0, BUCKETS));
        assert_eq!(buckets.iter().count(), MAX_SPARSE + 1);

        let mut buckets = Buckets::sparse();
        assert!(buckets.record_n(5, u64::from(u32::MAX)));
        buckets.record(5);
        assert!(buckets.iter().eq([(5, 1 << 32)]));
        assert!(!buckets.record_n(1 << 36, 1));
    }

    #[test]
    fn a_removed_value_leaves_no_count() {
        for mut buckets in [Buckets::sparse(), Buckets::dense()] {
            for value in [5, 5, 70_000] {
                buckets.record(value);
            }
            assert!(buckets.remove(5) && buckets.remove(70_001) && !buckets.remove(6));
            assert!(buckets.iter().eq([(5, 1)]));
            assert!(buckets.remove(5) && !buckets.remove(5));
            assert_eq!(buckets.iter().count(), 0);
        }
    }

    proptest! {
        #[test]
        fn buckets_are_those_of_the_crate(value in 0u64..=LONGEST_NS, shift in 0u32..36) {
            let value = value >> shift;
            let histogram = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, DIGITS).unwrap();
            let bucket = bucket_of(value);
            prop_assert_eq!(lowest(bucket), histogram.lowest_equivalent(value));
            prop_assert_eq!(middle(bucket), histogram.median_equivalent(value));
            prop_assert_eq!(highest(bucket), histogram.highest_equivalent(value));
            prop_assert!(bucket < histogram.distinct_values());
            prop_assert_eq!(BUCKETS, histogram.distinct_values());
        }

        #[test]
        fn ranks_of_dense_and_sparse_counts_are_those_of_the_crate(
            values in prop::collection::vec((0u64..=LONGEST_NS, 0u32..36), 1..200),
            percent in 0.0f64..=100.0,
        ) {
            let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, DIGITS).unwrap();
            let (mut dense, mut sparse) = (Buckets::dense(), Buckets::sparse());
            for &(value, shift) in &values {
                histogram.record(value >> shift).unwrap();
                dense.record(value >> shift);
                sparse.record(value >> shift);
            }
            prop_assert!(dense.iter().eq(sparse.iter()));
            let rank = ((percent / 100.0 * values.len() as f64).ceil() as u64).max(1);
            let expected = Some(histogram.value_at_percentile(percent));
            let count = values.len() as u64;
            let least = values.iter().map(|(value, shift)| value >> shift).min().map(bucket_of);
            let most = values.iter().map(|(value, shift)| value >> shift).max().map(bucket_of);
            for buckets in [&dense, &sparse] {
                let [first, middle, equal, last, none] = buckets.at_ranks([1, rank, rank, count, count + 1]);
                prop_assert_eq!((first, last, none), (least, most, None));
                prop_assert_eq!((middle.map(highest), middle), (expected, equal));
            }
            let mut merged = Buckets::sparse();
            merged.merge(&dense);
            merged.merge(&sparse);
            let doubled = dense.iter().map(|(bucket, count)| (bucket, 2 * count));
            prop_assert!(merged.iter().eq(doubled));
        }
    }
}
