//! When a receiver of a busy stream had better doze than be woken.
//!
//! A sender that finds the receiver asleep pays for waking it, some µs on another core, and that can be
//! every few datagrams where each costs the sender a system call. A receiver that sleeps for a time of its own
//! choice costs the sender nothing: 13 % more datagrams without GSO. So after emptying its socket it dozes
//! for as long as an eighth of what there is room for takes to arrive. That delays datagrams, so it is not done when
//! paced, where latency is what is measured; else latency is mostly the run's own queue anyway. Nor is it done where
//! both share a CPU: there a sleeping receiver is woken for nothing, and one that dozes leaves the CPU idle.

/// Longest doze, in ns: what piles up meanwhile is worth a system call many times over.
const LONGEST_NS: u64 = 50_000;

/// Shorter is not worth it, in ns: going to sleep and waking up take as long.
const SHORTEST_NS: u64 = 3_000;

/// Fewer arrivals than this a doze are not worth it either.
const FEWEST: u64 = 4;

/// The rate of arrivals, from one doze to the next.
#[derive(Debug, Clone)]
pub struct Nap {
    /// Datagrams that may arrive meanwhile.
    welcome: u64,
    at: u64,
    arrived: u64,
}

impl Nap {
    /// Where there is room for `room` datagrams before any is lost or the sender has to wait.
    pub fn new(room: u64) -> Self {
        Self {
            welcome: room / 8,
            at: 0,
            arrived: 0,
        }
    }

    /// How long to doze, in ns, when everything is received at `now`, which is `arrived` datagrams in all;
    /// `None` when it is better to wait for the next.
    pub fn length(&mut self, now: u64, arrived: u64) -> Option<u64> {
        let datagrams = arrived.saturating_sub(self.arrived);
        let elapsed = now.saturating_sub(self.at);
        (self.at, self.arrived) = (now, arrived);
        let length = self
            .welcome
            .saturating_mul(elapsed)
            .checked_div(datagrams)?
            .min(LONGEST_NS);
        let expected = length.saturating_mul(datagrams) / elapsed.max(1);
        (length >= SHORTEST_NS && expected >= FEWEST).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_busy_stream_is_dozed_on_and_a_quiet_one_waited_for() {
        let mut nap = Nap::new(800);
        nap.length(1_000_000, 0);
        // 8 million a second: 100 datagrams take 12.5 us.
        assert_eq!(nap.length(1_100_000, 800), Some(12_500));
        // 700,000 a second: more than 50 us.
        assert_eq!(nap.length(1_200_000, 870), Some(LONGEST_NS));
        // 10,000 a second, and none at all.
        assert_eq!(nap.length(1_300_000, 871), None);
        assert_eq!(nap.length(1_400_000, 871), None);
    }

    #[test]
    fn where_little_fits_nobody_dozes() {
        let mut nap = Nap::new(7);
        nap.length(0, 0);
        assert_eq!(nap.length(1_000, 1_000), None);
    }

    proptest! {
        #[test]
        fn never_longer_than_there_is_room_for(room in 1u64..5_000, steps in prop::collection::vec((0u64..1_000_000, 0u64..5_000), 1..50)) {
            let mut nap = Nap::new(room);
            let (mut now, mut arrived) = (0, 0);
            for (elapsed, datagrams) in steps {
                now += elapsed;
                arrived += datagrams;
                if let Some(length) = nap.length(now, arrived) {
                    prop_assert!(length <= LONGEST_NS);
                    prop_assert!(length * datagrams <= elapsed * room / 8 + elapsed);
                }
            }
        }
    }
}
