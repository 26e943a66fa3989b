//! Open-loop pacing: an absolute schedule, which a late sender catches up with.
//!
//! Datagram k is due at `origin + k * interval`, whatever happened to those before it. After a stall
//! all that fell due is sent at once, none is forgotten, and each carries how late it was. That is what makes
//! latency from the intended send honest (no coordinated omission).

/// Fractions of a ns the schedule is kept in: at 10 million a second it drifts by less than a ns an hour.
const FRACTION_BITS: u32 = 24;

/// Slowest pace there is, in datagrams a second: one in about a quarter of an hour.
pub const SLOWEST_PPS: f64 = 0.001;

/// Fastest pace that can be asked for, in datagrams a second.
pub const FASTEST_PPS: f64 = 1e9;

/// An absolute schedule.
#[derive(Debug, Clone)]
pub struct Pacer {
    origin: u64,
    /// From the origin to the next datagram, in ns with the fraction.
    elapsed: u128,
    interval: u64,
}

impl Pacer {
    /// A schedule of `pps` datagrams a second (within [`SLOWEST_PPS`] and [`FASTEST_PPS`], else the nearer of the two),
    /// the first due at `origin` in ns.
    pub fn new(pps: f64, origin: u64) -> Self {
        let pps = if pps.is_nan() {
            SLOWEST_PPS
        } else {
            pps.clamp(SLOWEST_PPS, FASTEST_PPS)
        };
        let interval = (1e9 / pps * f64::from(1 << FRACTION_BITS)).round() as u64;
        Self {
            origin,
            elapsed: 0,
            interval,
        }
    }

    /// When the next datagram is due, in ns.
    #[inline]
    pub fn next_at(&self) -> u64 {
        self.origin
            .saturating_add((self.elapsed >> FRACTION_BITS) as u64)
    }

    /// Takes the next datagram off the schedule if it is due at `now`, and says when it was.
    #[inline]
    pub fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next_at();
        (due <= now).then(|| {
            self.elapsed += u128::from(self.interval);
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_is_due_at_the_origin_and_the_millionth_where_it_belongs() {
        let mut pacer = Pacer::new(3.0, 100);
        assert_eq!(pacer.take(99), None);
        assert_eq!(pacer.take(100), Some(100));
        for _ in 1..3_000_000 {
            pacer.take(u64::MAX);
        }
        let drift = pacer.next_at().abs_diff(100 + 1_000_000 * 1_000_000_000);
        assert!(drift <= 100, "{drift} ns off after 11 days");
    }

    #[test]
    fn absurd_paces_are_the_nearest_there_is() {
        for pps in [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MAX] {
            let mut pacer = Pacer::new(pps, u64::MAX - 5);
            assert_eq!(pacer.take(u64::MAX), Some(u64::MAX - 5));
            pacer.next_at();
        }
    }

    proptest! {
        #[test]
        fn a_stalled_sender_forgets_nothing(pps in 1.0f64..1e7, stalls in prop::collection::vec(0u64..50_000_000, 1..50)) {
            let mut pacer = Pacer::new(pps, 0);
            let (mut now, mut taken) = (0u64, 0u64);
            for stall in stalls {
                now += stall;
                // A real sender takes them one by one as well; bounded here to keep the test short.
                while taken < 200_000 && pacer.take(now).is_some() {
                    taken += 1;
                }
            }
            let expected = (now as f64 * pps / 1e9) as u64 + 1;
            prop_assert!(taken == 200_000 || taken.abs_diff(expected) <= 1, "{} of {}", taken, expected);
        }
    }
}
