//! How long a receiver of a busy stream sleeps before it looks at its empty socket again.
//!
//! A sender that wakes a blocked receiver pays for the wake-up, some µs on another core, perhaps every few datagrams where each
//! datagram is a system call. A timed sleep of the receiver costs the sender nothing: 13 % more datagrams without GSO.
//! After emptying its socket, the receiver therefore sleeps for as long as an eighth of the receive buffer takes to fill.
//! The sleep delays datagrams, so paced runs, which measure latency, do without it; in other modes latency is mostly the run's
//! own queue. Runs whose two ends share a CPU do without it too: there the CPU would be idle while the receiver sleeps.

/// Longest sleep, in ns. The datagrams of this time are worth many system calls.
const MAX_NS: u64 = 50_000;

/// Shortest sleep, in ns: going to sleep and waking up take as long.
const MIN_NS: u64 = 3_000;

/// Fewest arrivals that a sleep is worth.
const MIN_ARRIVALS: u64 = 4;

/// The rate of arrivals, from one sleep to the next.
#[derive(Debug, Clone)]
pub struct Backoff {
    /// Datagrams that may arrive during a sleep.
    limit: u64,
    at: u64,
    arrived: u64,
}

impl Backoff {
    /// `capacity` is how many datagrams the receive buffer holds before one is lost or the sender has to wait.
    pub fn new(capacity: u64) -> Self {
        Self {
            limit: capacity / 8,
            at: 0,
            arrived: 0,
        }
    }

    /// How long to sleep, in ns, when the socket is empty at `now` after `arrived` datagrams in all. `None` when it is better to
    /// block until the next datagram.
    pub fn sleep_ns(&mut self, now: u64, arrived: u64) -> Option<u64> {
        let datagrams = arrived.saturating_sub(self.arrived);
        let elapsed = now.saturating_sub(self.at);
        (self.at, self.arrived) = (now, arrived);
        let length = self
            .limit
            .saturating_mul(elapsed)
            .checked_div(datagrams)?
            .min(MAX_NS);
        let expected = length.saturating_mul(datagrams) / elapsed.max(1);
        (length >= MIN_NS && expected >= MIN_ARRIVALS).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_busy_stream_sleeps_and_a_quiet_one_blocks() {
        let mut backoff = Backoff::new(800);
        backoff.sleep_ns(1_000_000, 0);
        // 8 million a second: 100 datagrams take 12.5 us.
        assert_eq!(backoff.sleep_ns(1_100_000, 800), Some(12_500));
        // 700,000 a second: more than 50 us.
        assert_eq!(backoff.sleep_ns(1_200_000, 870), Some(MAX_NS));
        // 10,000 a second, and none at all.
        assert_eq!(backoff.sleep_ns(1_300_000, 871), None);
        assert_eq!(backoff.sleep_ns(1_400_000, 871), None);
    }

    #[test]
    fn a_small_buffer_allows_no_sleep() {
        let mut backoff = Backoff::new(7);
        backoff.sleep_ns(0, 0);
        assert_eq!(backoff.sleep_ns(1_000, 1_000), None);
    }

    proptest! {
        #[test]
        fn no_sleep_is_longer_than_the_buffer_lasts(capacity in 1u64..5_000, steps in prop::collection::vec((0u64..1_000_000, 0u64..5_000), 1..50)) {
            let mut backoff = Backoff::new(capacity);
            let (mut now, mut arrived) = (0, 0);
            for (elapsed, datagrams) in steps {
                now += elapsed;
                arrived += datagrams;
                if let Some(length) = backoff.sleep_ns(now, arrived) {
                    prop_assert!(length <= MAX_NS);
                    prop_assert!(length * datagrams <= elapsed * capacity / 8 + elapsed);
                }
            }
        }
    }
}
