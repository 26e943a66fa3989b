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
    fn timestamp_before_the_anchor_has_an_earlier_date() {
        let wall = WallClock {
            monotonic: 1_000,
            realtime: 50_000,
        };
        assert_eq!(wall.at(900), 49_900);
        assert_eq!(wall.at(1_100), 50_100);
    }
}
