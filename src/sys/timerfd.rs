//! Timer that wakes an event loop at an absolute time (timerfd_create(2)).
//!
//! epoll_wait(2) takes milliseconds, and mio rounds up to them. A timerfd takes nanoseconds, and an absolute deadline
//! does not drift.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A non-blocking, close-on-exec timerfd on `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub struct TimerFd {
    fd: OwnedFd,
}

impl TimerFd {
    /// Creates a disarmed timer.
    ///
    /// # Errors
    /// As timerfd_create(2): out of file descriptors or memory.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers. The result is a new descriptor without another owner.
        let fd = unsafe {
            let fd = syscall!(timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_NONBLOCK | libc::TFD_CLOEXEC
            ))?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { fd })
    }

    /// Arms the timer for `deadline`, in ns of [`super::clock::monotonic_ns`]. A past deadline expires at once. Arming
    /// clears an unread expiry, so the descriptor is never read.
    ///
    /// # Errors
    /// As timerfd_settime(2).
    pub fn arm(&self, deadline: u64) -> io::Result<()> {
        let value = libc::timespec {
            tv_sec: (deadline / 1_000_000_000) as _,
            // An all-zero value would disarm the timer. Time 0 has passed anyway, so 1 ns is equivalent.
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

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::monotonic_ns;
    use mio::{Events, Interest, Poll, Token, unix::SourceFd};

    #[test]
    fn event_loop_wakes_at_the_deadline_and_not_before() {
        let timer = TimerFd::new().unwrap();
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
