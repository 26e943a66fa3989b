//! The two clocks: monotonic for every measurement, wall time only to print a date.

use std::fs;

/// Nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)): never steps, the same for every process on
/// a host. Read through the vDSO, about 20 ns a call.
#[inline]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
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
    // SAFETY: `time` is a valid, writable timespec for the length of the call. Both clocks exist on
    // every Linux, so the only documented failures (EINVAL, EFAULT) cannot occur.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Ties the monotonic clock to wall time, so that a monotonic stamp can be printed as a date.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    monotonic: u64,
    realtime: u64,
}

impl WallClock {
    /// Reads both clocks now.
    pub fn now() -> Self {
        let before = monotonic_ns();
        let realtime = realtime_ns();
        let after = monotonic_ns();
        Self {
            monotonic: before + (after - before) / 2,
            realtime,
        }
    }

    /// The wall time, in ns since the epoch, of a stamp of this host's monotonic clock.
    pub fn at(&self, monotonic: u64) -> u64 {
        if monotonic >= self.monotonic {
            self.realtime.saturating_add(monotonic - self.monotonic)
        } else {
            self.realtime.saturating_sub(self.monotonic - monotonic)
        }
    }
}

/// Names the monotonic clock this process reads: two processes with the same name share one clock,
/// so their stamps can be subtracted without an estimate.
///
/// It is the kernel's boot id with the time namespace (time_namespaces(7) shifts the clock), or
/// `None` where /proc does not say.
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
    fn monotonic_never_goes_back() {
        let first = monotonic_ns();
        assert!(monotonic_ns() >= first);
    }

    #[test]
    fn a_stamp_before_the_anchor_is_dated_before_it() {
        let wall = WallClock {
            monotonic: 1_000,
            realtime: 50_000,
        };
        assert_eq!(wall.at(900), 49_900);
        assert_eq!(wall.at(1_100), 50_100);
    }
}
