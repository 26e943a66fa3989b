//! The share of a rank in the amount and the rate of a fleet. The shares of all ranks add up to the whole. Pure.

/// The share of the sender with number `index` of `count` in `whole`: the remainder goes to the lower numbers.
pub fn of(whole: u64, index: u64, count: u64) -> u64 {
    let count = count.max(1);
    whole / count + u64::from(index < whole % count)
}

/// The share in a rate. A whole rate of at least 1 for each is divided into whole rates.
pub fn of_rate(whole: f64, index: u64, count: u64) -> f64 {
    let is_exact = whole.fract() == 0.0 && whole >= count as f64 && whole < (1u64 << 53) as f64;
    match is_exact {
        true => of(whole as u64, index, count) as f64,
        false => whole / count.max(1) as f64,
    }
}

/// From the common start to the first send of a sender with `pps` datagrams per second, in ns: a part of its interval, so that the senders
/// take turns. `burst` datagrams are due at a time.
pub fn phase_ns(pps: f64, burst: u32, index: u64, count: u64) -> u64 {
    let interval_ns = 1e9 / pps * f64::from(burst.max(1));
    let phase = interval_ns * index as f64 / count.max(1) as f64;
    // A pace without a finite interval has phase 0.
    if phase.is_finite() { phase as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_add_up_and_lower_ranks_have_the_remainder(whole in 0u64..1 << 40, count in 1u64..500) {
            let shares: Vec<u64> = (0..count).map(|index| of(whole, index, count)).collect();
            prop_assert_eq!(shares.iter().sum::<u64>(), whole);
            prop_assert!(shares.is_sorted_by(|one, next| one >= next));
            prop_assert!(shares[0] - shares[count as usize - 1] <= 1);
        }

        #[test]
        fn phases_divide_the_interval_evenly(pps in 0.01f64..1e6, burst in 1u32..64, count in 1u64..500) {
            let phases: Vec<u64> = (0..count).map(|index| phase_ns(pps, burst, index, count)).collect();
            let step = 1e9 / pps * f64::from(burst) / count as f64;
            prop_assert_eq!(phases[0], 0);
            prop_assert!(phases.windows(2).all(|two| ((two[1] - two[0]) as f64 - step).abs() <= 1.0));
            prop_assert_eq!(phase_ns(0.0, burst, 1, count), 0);
        }

        #[test]
        fn whole_rates_are_divided_exactly(whole in 1u64..1 << 40, count in 1u64..500) {
            let sum: f64 = (0..count).map(|index| of_rate(whole as f64, index, count)).sum();
            if whole >= count {
                prop_assert_eq!(sum, whole as f64);
            } else {
                prop_assert!((sum / whole as f64 - 1.0).abs() < 1e-9);
            }
        }
    }
}
