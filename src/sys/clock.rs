//! Clocks: monotonic for measurements, wall time for dates.

use std::fs;

/// Nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)). The clock never steps and is common to all processes of a host.
/// Read through the vDSO in about 20 ns.
#[inline]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CPU time of the calling thread (`CLOCK_THREAD_CPUTIME_ID`). A system call, of about 200 ns.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds of wall time since 1970-01-01T00:00:00Z (`CLOCK_REALTIME`).
pub fn realtime_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec during the call. The clocks exist on every Linux, so the documented
    // errors (EINVAL, EFAULT) cannot occur.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Relates the monotonic clock to wall time, to print monotonic timestamps as dates.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    monotonic: u64,
    realtime: u64,
}

impl WallClock {
    /// Reads both clocks.
    pub fn now() -> Self {
        let before = monotonic_ns();
        let realtime = realtime_ns();
        let after = monotonic_ns();
        Self {
            monotonic: before + (after - before) / 2,
            realtime,
        }
    }

    /// Wall time in ns since the epoch of a timestamp of this host's monotonic clock.
    pub fn at(&self, monotonic: u64) -> u64 {
        if monotonic >= self.monotonic {
            self.realtime.saturating_add(monotonic - self.monotonic)
        } else {
            self.realtime.saturating_sub(self.monotonic - monotonic)
        }
    }
}

/// Relates the kernel's timestamps of datagrams, which are in wall time, to the monotonic clock.
///
/// Both clocks run at the same rate, so their difference is constant until wall time steps (clock_settime(2), a leap second). Each
/// reading brackets wall time by two readings of the monotonic clock. The narrowest bracket so far counts, until a later one
/// contradicts it.
#[derive(Debug, Clone, Copy)]
pub struct StampClock {
    /// Wall time minus monotonic time, in ns.
    difference: i64,
    /// Width of the bracket, in ns.
    width: u64,
    /// Steps of wall time so far.
    steps: u64,
}

impl StampClock {
    /// Reads both clocks.
    pub fn new() -> Self {
        let mut clock = Self {
            difference: 0,
            width: u64::MAX,
            steps: 0,
        };
        for _ in 0..16 {
            clock.read();
        }
        clock
    }

    /// Reads both clocks again. Returns whether wall time has stepped.
    #[inline]
    pub fn read(&mut self) -> bool {
        let before = monotonic_ns();
        let realtime = realtime_ns();
        let after = monotonic_ns();
        self.add(before, realtime, after)
    }

    fn add(&mut self, before: u64, realtime: u64, after: u64) -> bool {
        let width = after.saturating_sub(before);
        let middle = before.saturating_add(width / 2);
        let difference = (realtime as i64).wrapping_sub(middle as i64);
        let is_step = self.width != u64::MAX
            && difference.abs_diff(self.difference)
                > (width / 2)
                    .saturating_add(self.width / 2)
                    .saturating_add(TICK_NS);
        if is_step || width < self.width {
            (self.difference, self.width) = (difference, width);
        }
        self.steps += u64::from(is_step);
        is_step
    }

    /// The monotonic time of a timestamp in wall time, both in ns.
    #[inline]
    pub fn monotonic(&self, realtime: u64) -> u64 {
        realtime.wrapping_add_signed(self.difference.wrapping_neg())
    }

    /// Steps of wall time so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

impl Default for StampClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Rounding of both clocks to whole ns, in ns.
const TICK_NS: u64 = 2;

/// Identifies the monotonic clock of this process. Processes with the same identity share one clock, so their
/// timestamps can be subtracted without an estimate.
///
/// The kernel's boot id with the time namespace (time_namespaces(7) shifts the clock); `None` if /proc is unavailable.
pub fn identity() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/time")
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default();
    Some(format!("{} {namespace}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_clock_never_goes_back() {
        let first = monotonic_ns();
        assert!(monotonic_ns() >= first);
    }

    #[test]
    fn the_narrowest_bracket_counts_until_wall_time_steps() {
        let mut clock = StampClock {
            difference: 0,
            width: u64::MAX,
            steps: 0,
        };
        assert!(!clock.add(1_000, 500_400, 1_800));
        assert_eq!(clock.monotonic(500_400), 1_400);
        assert!(!clock.add(2_000, 501_080, 2_100));
        assert_eq!(clock.monotonic(501_080), 2_050);
        // A wide bracket that agrees changes nothing.
        assert!(!clock.add(3_000, 502_500, 4_000));
        assert_eq!(clock.monotonic(501_080), 2_050);
        assert!(clock.add(5_000, 900_000, 5_040));
        assert_eq!((clock.monotonic(900_000), clock.steps()), (5_020, 1));
        clock.add(u64::MAX, u64::MAX, 0);
        clock.monotonic(u64::MAX);
    }

    #[test]
    fn wall_time_now_is_monotonic_time_now() {
        let clock = StampClock::new();
        let before = monotonic_ns();
        let now = clock.monotonic(realtime_ns());
        let slack = clock.width + TICK_NS;
        assert!(now + slack >= before && now <= monotonic_ns() + slack);
    }

    #[test]
    fn timestamp_before_the_anchor_has_an_earlier_date() {
        let wall = WallClock {
            monotonic: 1_000,
            realtime: 50_000,
        };
        assert_eq!(wall.at(900), 49_900);
        assert_eq!(wall.at(1_100), 50_100);
    }
}
