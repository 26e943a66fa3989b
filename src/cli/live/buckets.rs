//! The rows of the latency histogram: few buckets, each about twice as wide as the one before.

use crate::stats::latency::{LONGEST_NS, Latency};

/// A bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Its largest value, in ns.
    pub(super) to: u64,
    pub(super) count: u64,
}

/// The buckets from the smallest to the largest latency, at most `rows`. They end at 1, 2 and 5 times powers of ten, or at powers
/// of ten if there are too many; the lowest ones are joined if there are still too many.
pub(super) fn buckets(latency: &Latency, rows: usize) -> Vec<Bucket> {
    let counts: Vec<(u64, u64)> = latency.counts().collect();
    let fine = split(&counts, &[1, 2, 5]);
    let mut found = match fine.len() <= rows {
        true => fine,
        false => split(&counts, &[1]),
    };
    let excess = found.len().saturating_sub(rows.max(1));
    let joined: u64 = found.drain(..excess).map(|bucket| bucket.count).sum();
    if let Some(first) = found.first_mut() {
        first.count += joined;
    }
    found
}

fn split(counts: &[(u64, u64)], steps: &[u64]) -> Vec<Bucket> {
    let powers = (0..).map_while(|power| 10_u64.checked_pow(power));
    let ends =
        powers.flat_map(|power| steps.iter().map_while(move |step| power.checked_mul(*step)));
    let mut buckets = Vec::new();
    let mut counts = counts.iter().peekable();
    for to in ends {
        let mut count = 0;
        while let Some(&&(_, more)) = counts.peek().filter(|(ns, _)| *ns <= to) {
            count += more;
            counts.next();
        }
        if count > 0 || !buckets.is_empty() {
            buckets.push(Bucket { to, count });
        }
        if counts.peek().is_none() || to > LONGEST_NS {
            break;
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64], rows: usize) -> Vec<(u64, u64)> {
        let mut latency = Latency::new();
        values.iter().for_each(|&ns| latency.record(ns));
        let buckets = buckets(&latency, rows);
        buckets
            .iter()
            .map(|bucket| (bucket.to, bucket.count))
            .collect()
    }

    #[test]
    fn buckets_end_at_1_2_and_5_and_an_inner_one_may_be_empty() {
        assert_eq!(
            of(&[11, 20, 21, 150], 9),
            [(20, 2), (50, 1), (100, 0), (200, 1)]
        );
        assert_eq!(of(&[], 9), []);
        assert_eq!(of(&[LONGEST_NS], 9), [(100_000_000_000, 1)]);
    }

    #[test]
    fn too_many_buckets_become_decades_and_the_lowest_are_joined() {
        let values = [7, 70, 700, 7_000, 7_000];
        assert_eq!(of(&values, 4), [(10, 1), (100, 1), (1_000, 1), (10_000, 2)]);
        assert_eq!(of(&values, 2), [(1_000, 3), (10_000, 2)]);
        assert_eq!(of(&values, 0), [(10_000, 5)]);
    }
}
