//! What the calling thread has cost so far (getrusage(2), `RUSAGE_THREAD`).

use std::mem;
use std::ops::{AddAssign, Sub};

/// CPU seconds of one thread, split as the kernel splits them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTime {
    /// Seconds in user mode.
    pub user: f64,
    /// Seconds in the kernel on behalf of the thread.
    pub system: f64,
}

impl CpuTime {
    /// The calling thread's CPU time since it began.
    pub fn of_this_thread() -> Self {
        // SAFETY: rusage is plain integers, for which all zero is valid; the kernel fills it.
        // RUSAGE_THREAD exists since Linux 2.6.26, so the call cannot fail.
        let usage = unsafe {
            let mut usage: libc::rusage = mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
            usage
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Self {
            user: seconds(usage.ru_utime),
            system: seconds(usage.ru_stime),
        }
    }
}

/// The CPU time of a thread of this process in ns, which may be one of the kernel's: the first figure of its schedstat
/// (proc(5)). `None` when there is no such thread, or the kernel keeps no such figures.
pub fn of_task(thread: u32) -> Option<u64> {
    let told = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    told.split_whitespace().next()?.parse().ok()
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            system: self.system - earlier.system,
        }
    }
}

impl AddAssign for CpuTime {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
    }
}
