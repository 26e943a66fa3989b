//! A timer that wakes an event loop at an absolute time (timerfd_create(2)).
//!
//! epoll_wait(2) takes milliseconds and mio rounds up to them; a timerfd keeps nanoseconds, and an
//! absolute deadline does not drift by the time it took to ask for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A non-blocking, close-on-exec timerfd on `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// Creates a disarmed timer.
    ///
    /// # Errors
    /// As timerfd_create(2): out of file descriptors or memory.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the answer is a new descriptor that nobody else owns.
        let fd = unsafe {
            let fd = syscall!(timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_NONBLOCK | libc::TFD_CLOEXEC
            ))?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { fd })
    }

    /// Arms the timer for `deadline`, in ns of [`super::clock::monotonic_ns`]; one that has passed
    /// fires at once. Arming again clears an expiry that was not read, so no read is ever needed.
    ///
    /// # Errors
    /// As timerfd_settime(2).
    pub fn arm(&self, deadline: u64) -> io::Result<()> {
        let value = libc::timespec {
            tv_sec: (deadline / 1_000_000_000) as libc::time_t,
            // An all-zero value would disarm it; time 0 has passed anyway, so 1 ns means the same.
            tv_nsec: (deadline % 1_000_000_000).max(1) as libc::c_long,
        };
        let once = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: value,
        };
        // SAFETY: `once` outlives the call, and a null old value is allowed.
        unsafe {
            syscall!(timerfd_settime(
                self.fd.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &raw const once,
                std::ptr::null_mut()
            ))?;
        }
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Asks that this thread's sleeps end as close to their deadline as the kernel can
/// (PR_SET_TIMERSLACK(2const), 1 ns instead of 50 µs).
///
/// # Errors
/// As prctl(2).
pub fn tighten_timer_slack() -> io::Result<()> {
    // SAFETY: takes no pointers and concerns only the calling thread.
    unsafe { syscall!(prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong))? };
    Ok(())
}

/// How much later than its deadline a sleep of this thread may end, in ns, as the kernel has it
/// (PR_GET_TIMERSLACK(2const)).
///
/// # Errors
/// As prctl(2).
pub fn timer_slack() -> io::Result<u64> {
    // SAFETY: takes no pointers and concerns only the calling thread.
    let slack = unsafe { syscall!(prctl(libc::PR_GET_TIMERSLACK))? };
    Ok(u64::try_from(slack).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::monotonic_ns;
    use mio::{Events, Interest, Poll, Token, unix::SourceFd};

    #[test]
    fn wakes_an_event_loop_at_its_deadline_and_not_before() {
        let timer = Timer::new().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.registry()
            .register(
                &mut SourceFd(&timer.as_fd().as_raw_fd()),
                Token(1),
                Interest::READABLE,
            )
            .unwrap();
        let mut events = Events::with_capacity(4);
        for _ in 0..3 {
            let deadline = monotonic_ns() + 2_000_000;
            timer.arm(deadline).unwrap();
            poll.poll(&mut events, None).unwrap();
            assert!(monotonic_ns() >= deadline);
        }
    }
}
