//! Wakes a thread from its event loop (eventfd(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// A clonable handle. With edge-triggered registration each [`Self::wake`] is a separate event, so the counter is never
/// read.
#[derive(Debug, Clone)]
pub struct EventFd {
    fd: Arc<OwnedFd>,
}

impl EventFd {
    /// Creates an event counter.
    ///
    /// # Errors
    /// As eventfd(2): out of file descriptors or memory.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers. The result is a new descriptor without another owner.
        let fd = unsafe {
            OwnedFd::from_raw_fd(syscall!(eventfd(
                0,
                libc::EFD_NONBLOCK | libc::EFD_CLOEXEC
            ))?)
        };
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Wakes the loop that polls this descriptor. Never blocks.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes, as eventfd(2) requires. The write fails only if the counter is full, when
        // wake-ups are already pending.
        unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
