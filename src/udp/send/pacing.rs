//! Open-loop pacing: an absolute schedule, and how a late sender catches up with it.
//!
//! Datagram k is due at `origin + k * interval`, independent of the datagrams before it. After a stall every datagram is still
//! sent, and carries its lateness, so that latency from the intended send has no coordinated omission.
//!
//! After a short stall, half of the overdue datagrams are sent at once and the rest at twice the pace. A longer burst at the speed
//! of the sender's CPU would overflow a queue on the path that has room for the paced stream, and the sender would cause the loss.
//! A sender that wakes up late each time still keeps its pace, since more datagrams are sent at once the later it is.
//!
//! ```text
//!   due    |  |  |  |  |  |  |  |  |  |  |  |  |
//!   sent   |  |    stall     ||| | | | |  |  |       each with its own intended time
//! ```

use crate::udp::plan::{MAX_PPS, MIN_PPS};

/// Fractional bits of a ns in the schedule: at 10 million per second it drifts by less than a ns per hour.
const FRACTION_BITS: u32 = 24;

/// Overdue datagrams follow each other after the interval divided by this.
const CATCH_UP: u128 = 2;

/// After a stall, the datagrams of this part of the lateness are sent at once, at the pace of catching up.
const AT_ONCE: u64 = 4;

/// The least of that time, in ns: more than the lateness of a sleep on an idle machine.
const AT_ONCE_NS: u64 = 100_000;

/// Longest delay of an overdue datagram behind the previous one, in ns.
pub(super) const MAX_DELAY_NS: u64 = 20_000_000;

/// An absolute schedule.
#[derive(Debug, Clone)]
pub struct Pacer {
    origin: u64,
    /// From the origin to when the next datagram is due, in fractions of a ns.
    elapsed: u128,
    interval: u64,
    /// From the origin to when the next datagram may follow the previous one, in fractions of a ns.
    follows: u128,
}

impl Pacer {
    /// A schedule of `pps` datagrams per second, clamped to [`MIN_PPS`] and [`MAX_PPS`]. The first datagram is due at
    /// `origin`, in ns.
    pub fn new(pps: f64, origin: u64) -> Self {
        let pps = if pps.is_nan() {
            MIN_PPS
        } else {
            pps.clamp(MIN_PPS, MAX_PPS)
        };
        let interval = (1e9 / pps * f64::from(1 << FRACTION_BITS)).round() as u64;
        Self {
            origin,
            elapsed: 0,
            interval,
            follows: 0,
        }
    }

    /// Distance between two datagrams, in fractions of a ns.
    pub fn interval(&self) -> u64 {
        self.interval
    }

    /// Makes all datagrams between two calls of [`Self::step`] due at the same time.
    pub fn by_steps(self) -> Self {
        Self {
            interval: 0,
            ..self
        }
    }

    /// The next datagram of a schedule [by steps](Self::by_steps) is due `gap` after the previous one, in fractions of a ns.
    #[inline]
    pub fn step(&mut self, gap: u128) {
        self.elapsed += gap;
        self.follows += gap / CATCH_UP;
    }

    /// When the next datagram is due, in ns.
    #[inline]
    pub fn next_at(&self) -> u64 {
        self.at(self.elapsed)
    }

    /// When the next datagram may be sent, in ns: when it is due, or a little later while the stream catches up.
    #[inline]
    pub fn ready_at(&self) -> u64 {
        let due = self.next_at();
        let follows = self.at(self.follows);
        due.max(follows.min(due.saturating_add(MAX_DELAY_NS)))
    }

    /// From when the next datagram is due to `end` in ns, in fractions of a ns. 0 if it is due at the end or later.
    pub fn left_until(&self, end: u64) -> u128 {
        let length = u128::from(end.saturating_sub(self.origin)) << FRACTION_BITS;
        length.saturating_sub(self.elapsed)
    }

    /// Takes the next datagram off the schedule if it may be sent at `now`, and returns when it was due.
    #[inline]
    pub fn take(&mut self, now: u64) -> Option<u64> {
        (self.ready_at() <= now).then(|| {
            let due = self.next_at();
            self.elapsed += u128::from(self.interval);
            let at_once = ((now - due) / AT_ONCE).max(AT_ONCE_NS);
            let now = now.saturating_sub(self.origin);
            let earliest = u128::from(now.saturating_sub(at_once)) << FRACTION_BITS;
            self.follows = self.follows.max(earliest) + u128::from(self.interval) / CATCH_UP;
            due
        })
    }

    #[inline]
    fn at(&self, elapsed: u128) -> u64 {
        self.origin
            .saturating_add((elapsed >> FRACTION_BITS) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_schedule_does_not_drift() {
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
    fn a_pace_out_of_range_is_clamped() {
        for pps in [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MAX] {
            let mut pacer = Pacer::new(pps, u64::MAX - 5);
            assert_eq!(pacer.take(u64::MAX), Some(u64::MAX - 5));
            pacer.next_at();
        }
    }

    /// Takes all datagrams that may be sent at `now`.
    fn take_all(pacer: &mut Pacer, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| pacer.take(now)).collect()
    }

    #[test]
    fn a_stream_catches_up_with_a_short_stall_at_twice_the_pace() {
        // One every 100 us, and a stall of 3 ms.
        let mut pacer = Pacer::new(10_000.0, 0);
        assert_eq!(take_all(&mut pacer, 0), [0]);
        let mut now = 3_000_000;
        let mut sent = Vec::new();
        // Until a datagram is sent when it is due.
        while sent.last().is_none_or(|&(due, at)| at > due) && sent.len() < 200 {
            for due in take_all(&mut pacer, now) {
                sent.push((due, now));
            }
            now = pacer.ready_at();
        }
        let due: Vec<u64> = sent.iter().map(|&(due, _)| due).collect();
        assert!(
            due.iter()
                .copied()
                .eq((1..).map(|n| n * 100_000).take(due.len()))
        );
        // About half are sent at once, the others follow after half the interval each.
        assert!(sent.iter().filter(|&&(_, at)| at == 3_000_000).count() <= 17);
        assert!(
            sent.windows(2)
                .skip(17)
                .all(|pair| pair[1].1 - pair[0].1 >= 49_999)
        );
        let (_, last) = sent[sent.len() - 1];
        assert!(
            (4_200_000..=4_800_000).contains(&last),
            "caught up at {last}"
        );
    }

    #[test]
    fn datagrams_of_a_long_stall_are_not_delayed_further() {
        let mut pacer = Pacer::new(1_000.0, 0);
        // A second late: all but a part of the last 20 ms are sent at once.
        let taken = take_all(&mut pacer, 1_000_000_000).len();
        assert!((980..=995).contains(&taken), "{taken}");
    }

    #[test]
    fn datagrams_of_a_step_are_due_together_and_a_late_step_is_not_delayed_by_the_one_before() {
        let mut pacer = Pacer::new(1e6, 0).by_steps();
        // On time: the gap is the step's alone.
        let mut now = 0;
        for gap in [5_000, 1, 700_000, 20] {
            assert_eq!(take_n(&mut pacer, now, 3), [now; 3]);
            pacer.step(gap << FRACTION_BITS);
            now += u64::try_from(gap).unwrap();
            assert_eq!(pacer.ready_at(), now);
        }
        // After a stall of 10 ms, steps of 1 ms follow each other after half their gap.
        let mut sent = Vec::new();
        now += 10_000_000;
        for _ in 0..40 {
            now = now.max(pacer.ready_at());
            take_n(&mut pacer, now, 2);
            sent.push(now - pacer.next_at());
            pacer.step(1_000_000 << FRACTION_BITS);
        }
        assert!(sent.windows(2).all(|pair| pair[1] <= pair[0]), "{sent:?}");
        assert!(sent[0] >= 9_000_000 && sent.last() == Some(&0), "{sent:?}");
    }

    /// Takes `count` datagrams at `now`.
    fn take_n(pacer: &mut Pacer, now: u64, count: usize) -> Vec<u64> {
        (0..count).map(|_| pacer.take(now).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn a_stalled_sender_skips_no_datagram(pps in 1.0f64..1e7, stalls in prop::collection::vec(0u64..50_000_000, 1..50)) {
            let mut pacer = Pacer::new(pps, 0);
            let (mut now, mut taken) = (0u64, 0u64);
            let due_by = |now: u64| (now as f64 * pps / 1e9) as u64 + 1;
            for stall in stalls {
                now += stall;
                // Bounded to keep the test short.
                while taken < 200_000 && pacer.take(now).is_some() {
                    taken += 1;
                }
                // A delayed datagram is at most 20 ms late, and none is early.
                let must = due_by(now.saturating_sub(MAX_DELAY_NS)) - u64::from(now < MAX_DELAY_NS);
                prop_assert!(taken == 200_000 || (taken + 1 >= must && taken <= due_by(now) + 1), "{} of {}", taken, due_by(now));
            }
            // Without further stalls the sender is back on its schedule.
            while taken < 200_000 && pacer.next_at() <= now {
                now = now.max(pacer.ready_at());
                while taken < 200_000 && pacer.take(now).is_some() {
                    taken += 1;
                }
            }
            let expected = due_by(now);
            prop_assert!(taken == 200_000 || taken.abs_diff(expected) <= 1, "{} of {}", taken, expected);
        }
    }
}
