//! The skew of the start: each rank starts by its own estimate of the server's clock.
//!
//! The estimate is wrong by at most half the best round trip, by as much as the two ways differ; then the clocks drift until the start.
//! The scheduler wakes a rank late, on an idle host by about 50 us.

use crate::Random;

/// Fleets of each size.
const TRIALS: usize = 200;

/// Drift after the estimate, in parts per million of the time since.
const DRIFT_PPM: f64 = 20.0;

pub(crate) fn table() {
    println!("median skew of the start in us, and the highest of {TRIALS} fleets");
    println!("best round trip, asymmetry, wait    32 ranks       1,000       10,000");
    let mut random = Random::new(7);
    for (round_trip_us, asymmetry, wait_s) in [
        (30.0, 0.1, 1.0),
        (200.0, 0.1, 1.0),
        (200.0, 0.5, 1.0),
        (200.0, 0.1, 60.0),
        (2_000.0, 0.1, 1.0),
        (20_000.0, 0.3, 1.0),
    ] {
        let cells = [32, 1_000, 10_000].map(|ranks| {
            let mut skews: Vec<f64> = (0..TRIALS)
                .map(|_| {
                    let starts = (0..ranks).map(|_| {
                        let ways = (2.0 * random.unit() - 1.0) * asymmetry;
                        let offset = round_trip_us / 2.0 * ways;
                        let drift = (2.0 * random.unit() - 1.0) * DRIFT_PPM * wait_s;
                        let late = -50.0 * (1.0 - random.unit()).ln();
                        offset + drift + late
                    });
                    let (low, high) = starts.fold((f64::MAX, f64::MIN), |(low, high), start| {
                        (low.min(start), high.max(start))
                    });
                    high - low
                })
                .collect();
            skews.sort_by(f64::total_cmp);
            format!("{:>5.0} {:>6.0}", skews[TRIALS / 2], skews[TRIALS - 1])
        });
        println!(
            "{round_trip_us:>7} us, {:>3.0} %, {wait_s:>3} s       {}",
            asymmetry * 100.0,
            cells.join(" ")
        );
    }
}
