//! Distributes the losses over the causes.

/// The datagrams of each cause.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::udp) struct Apportioned {
    /// Of each range, a number within it.
    pub(in crate::udp) counts: Vec<u64>,
    /// Losses beyond the sum of the counts.
    pub(in crate::udp) rest: u64,
    /// The sum of the counts beyond the losses.
    pub(in crate::udp) surplus: u64,
}

/// Chooses a number in each range, lowest and highest, so that they sum to `lost` if possible. The losses above the
/// lowest numbers are divided in proportion to the widths of the ranges.
pub(in crate::udp) fn apportion(lost: u64, ranges: &[(u64, u64)]) -> Apportioned {
    let width = |range: &(u64, u64)| u128::from(range.1.saturating_sub(range.0));
    let lows: u128 = ranges.iter().map(|range| u128::from(range.0)).sum();
    let widths: u128 = ranges.iter().map(width).sum();
    let lost = u128::from(lost);
    let more = lost.saturating_sub(lows).min(widths);
    let mut counts = Vec::with_capacity(ranges.len());
    // Rounding the running sum, not each share, keeps the total exact.
    let (mut seen, mut given) = (0u128, 0u128);
    for range in ranges {
        seen += width(range);
        let until = match widths {
            0 => 0,
            _ => scaled(more, seen, widths),
        };
        counts.push(
            range
                .0
                .saturating_add(u64::try_from(until - given).unwrap_or(u64::MAX)),
        );
        given = until;
    }
    let sum = lows + more;
    let number = |of: u128| u64::try_from(of).unwrap_or(u64::MAX);
    Apportioned {
        counts,
        rest: number(lost.saturating_sub(sum)),
        surplus: number(sum.saturating_sub(lost)),
    }
}

/// `more * seen / widths`, rounded down, for `more` below 2^64. Widths that no real run has lose their lowest bits, so that the product
/// does not overflow.
fn scaled(more: u128, seen: u128, widths: u128) -> u128 {
    let bits = if widths >> 60 == 0 { 0 } else { 8 };
    more * (seen >> bits) / (widths >> bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_numbers_are_kept_and_the_rest_is_between() {
        let apportioned = apportion(54, &[(47, 47), (7, 7)]);
        assert_eq!(
            (apportioned.counts, apportioned.rest, apportioned.surplus),
            (vec![47, 7], 0, 0)
        );
        let apportioned = apportion(60, &[(47, 47), (7, 7)]);
        assert_eq!((apportioned.rest, apportioned.surplus), (6, 0));
        let apportioned = apportion(50, &[(47, 47), (7, 7)]);
        assert_eq!((apportioned.rest, apportioned.surplus), (0, 4));
    }

    #[test]
    fn runs_of_datagrams_sum_to_the_losses() {
        // Two drops of up to 64 datagrams each, and three of one.
        let apportioned = apportion(103, &[(2, 128), (3, 3)]);
        assert_eq!((apportioned.counts, apportioned.rest), (vec![100, 3], 0));
        let apportioned = apportion(u64::MAX, &[(0, u64::MAX), (0, u64::MAX)]);
        assert_eq!((apportioned.rest, apportioned.surplus), (0, 0));
    }

    proptest! {
        #[test]
        fn each_count_is_in_its_range_and_the_sum_is_accounted_for(
            lost in any::<u32>(),
            ranges in proptest::collection::vec((any::<u16>(), any::<u16>()), 0..13),
        ) {
            let ranges: Vec<(u64, u64)> = ranges.into_iter().map(|(low, width)| (low.into(), u64::from(low) + u64::from(width))).collect();
            let apportioned = apportion(lost.into(), &ranges);
            for (count, (low, high)) in apportioned.counts.iter().zip(&ranges) {
                prop_assert!((low..=high).contains(&count));
            }
            let sum: u64 = apportioned.counts.iter().sum();
            prop_assert_eq!(sum + apportioned.rest, u64::from(lost) + apportioned.surplus);
            prop_assert!(apportioned.rest == 0 || apportioned.surplus == 0);
        }

        #[test]
        fn any_numbers_are_apportioned_without_overflow(
            lost in any::<u64>(),
            ranges in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..13),
        ) {
            let apportioned = apportion(lost, &ranges);
            prop_assert_eq!(apportioned.counts.len(), ranges.len());
        }
    }
}
