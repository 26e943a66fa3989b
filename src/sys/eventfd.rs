//! Waking a thread out of its event loop from another (eventfd(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// A handle that can be cloned to whoever may wake the loop. Registered edge-triggered, each
/// [`Self::wake`] is an event of its own, so nobody needs to read it empty.
#[derive(Debug, Clone)]
pub struct EventFd {
    fd: Arc<OwnedFd>,
}

impl EventFd {
    /// A new event counter.
    ///
    /// # Errors
    /// As eventfd(2): out of file descriptors or memory.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers; the answer is a new descriptor that nobody else owns.
        let fd = unsafe {
            OwnedFd::from_raw_fd(syscall!(eventfd(
                0,
                libc::EFD_NONBLOCK | libc::EFD_CLOEXEC
            ))?)
        };
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Wakes the loop that this is registered with. Never blocks.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes, as eventfd(2) asks. It fails only with the counter full, and
        // then the loop has been woken often enough.
        unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
