//! A clock for stamping the datagrams of a burst one by one, at less than half the price of the kernel's.
//!
//! The 17 to 33 ns of clock_gettime(2) are a sixth to a quarter of what a datagram costs a sender with GSO. This asks the kernel once a burst and adds what the CPU's time stamp counter says has
//! passed since. A burst takes microseconds, so what the counter's rate is off by does not show;
//! where the kernel itself does not keep time by the counter, each stamp is the kernel's.

use std::fs;

use super::clock::monotonic_ns;

/// Time in ns of [`monotonic_ns`], fast between two calls of [`Self::begin`].
#[derive(Debug, Clone, Copy)]
pub struct TscClock {
    /// ns a tick, times 2^32; 0 where the counter is not to be trusted.
    scale: u64,
    anchor_ns: u64,
    anchor_ticks: u64,
}

/// How long the counter is held against the kernel's clock, in ns: a reading is off by some 20 ns, which
/// makes the rate good to 1 in 5,000, and a stamp 10 µs into a burst to 2 ns.
const CALIBRATION_NS: u64 = 100_000;

impl TscClock {
    /// The kernel's clock and nothing else.
    pub fn without_counter() -> Self {
        Self {
            scale: 0,
            anchor_ns: 0,
            anchor_ticks: 0,
        }
    }

    /// Finds out how fast the counter runs, which takes 0.1 ms.
    pub fn calibrated() -> Self {
        let mut clock = Self::without_counter();
        if !kernel_trusts_counter() {
            return clock;
        }
        let (began_ns, began_ticks) = anchor();
        while monotonic_ns() < began_ns + CALIBRATION_NS {}
        let (ended_ns, ended_ticks) = anchor();
        let (ns, passed) = (ended_ns - began_ns, ended_ticks.wrapping_sub(began_ticks));
        // Between 0.1 and 100 GHz it is a counter of time; anything else is none of ours.
        if (ns / 10..=ns.saturating_mul(100)).contains(&passed) {
            clock.scale = (ns << 32) / passed;
        }
        clock
    }

    /// Reads the kernel's clock, as each burst must.
    #[inline]
    pub fn begin(&mut self) {
        if self.scale != 0 {
            (self.anchor_ns, self.anchor_ticks) = anchor();
        }
    }

    /// The time now.
    #[inline]
    pub fn now(&self) -> u64 {
        let passed = ticks().wrapping_sub(self.anchor_ticks);
        // A burst that was interrupted for a second gets the kernel's time: its ticks would not fit.
        if self.scale == 0 || passed > u64::from(u32::MAX) {
            return monotonic_ns();
        }
        self.anchor_ns + ((passed * self.scale) >> 32)
    }
}

/// Both clocks at one moment. A thread that is interrupted between the two readings tries again: else
/// every stamp of the burst would be off by as long as that took.
#[inline]
fn anchor() -> (u64, u64) {
    const TOGETHER: u64 = 2_000;
    const TRIES: u32 = 8;
    let mut both = (0, 0);
    for _ in 0..TRIES {
        let before = ticks();
        let ns = monotonic_ns();
        let after = ticks();
        both = (ns, after);
        if after.wrapping_sub(before) < TOGETHER {
            return (ns, before + (after - before) / 2);
        }
    }
    both
}

/// The kernel checks at boot and ever after that the counter runs evenly and alike on all CPUs.
fn kernel_trusts_counter() -> bool {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    cfg!(target_arch = "x86_64") && fs::read_to_string(path).is_ok_and(|name| name.trim() == "tsc")
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ticks() -> u64 {
    // SAFETY: RDTSC is part of x86-64 and reads nothing but the counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn ticks() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_kernel_during_a_burst() {
        let mut clock = TscClock::calibrated();
        for _ in 0..100 {
            clock.begin();
            for _ in 0..50 {
                let before = monotonic_ns();
                let told = clock.now();
                let after = monotonic_ns();
                // Within the precision of an anchor and the calibration, more when the test was interrupted meanwhile.
                let slack = 500 + (after - clock.anchor_ns) / 500;
                assert!(
                    told + slack >= before && told <= after + slack,
                    "{before} {told} {after}"
                );
            }
        }
    }

    #[test]
    fn without_a_counter_it_is_the_kernels_clock() {
        let clock = TscClock::without_counter();
        let before = monotonic_ns();
        assert!(clock.now() >= before);
    }
}
