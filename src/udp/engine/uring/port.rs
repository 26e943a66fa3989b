//! The socket of a sender or receiver.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use crate::sys::eventfd::EventFd;
use crate::sys::{error_queue, socket};
use crate::udp::engine::errors::PendingErrors;
use crate::udp::engine::stats::ReceiveStats;
use crate::uring::ring::Ring;

/// A socket with its ICMP errors.
pub(super) struct Port {
    pub(super) socket: UdpSocket,
    pub(super) errors: PendingErrors,
    /// Open as long as a ring polls it.
    wake: EventFd,
}

impl Port {
    pub(super) fn new(socket: UdpSocket, wake: &EventFd) -> Self {
        // If the option is refused, ICMP errors are skipped without being counted.
        let _ = error_queue::enable(&socket);
        Self {
            socket,
            errors: PendingErrors::default(),
            wake: wake.clone(),
        }
    }

    /// Files to register with a ring.
    pub(super) fn files(&self) -> [RawFd; 2] {
        [self.socket.as_raw_fd(), self.wake.as_fd().as_raw_fd()]
    }

    /// Drains the error queue.
    pub(super) fn collect_errors(&mut self) {
        self.errors.collect(self.socket.as_fd(), |_| ());
    }

    /// Whether an ICMP error caused the failure with `errno`, so that the send should be retried.
    pub(super) fn is_explained(&mut self, errno: i32) -> bool {
        self.errors.explain(self.socket.as_fd(), errno, |_| ())
    }

    /// Datagrams dropped at the socket so far.
    pub(super) fn drops(&self) -> u64 {
        socket::drops(self.socket.as_fd()).map_or(0, u64::from)
    }

    /// Completes the counters of a receiver.
    pub(super) fn receive_stats(&self, stats: ReceiveStats, ring: &Ring) -> ReceiveStats {
        let ring = ring.stats();
        ReceiveStats {
            syscalls: ring.enters,
            icmp: self.errors.icmp,
            ring: Some(ring),
            ..stats
        }
    }
}

/// Fails if the socket is unusable. Other errors concern earlier sends and are ignored.
pub(super) fn check_socket(errno: i32) -> io::Result<()> {
    match errno {
        libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::ENOMEM | libc::EINVAL => {
            Err(io::Error::from_raw_os_error(errno))
        }
        _ => Ok(()),
    }
}
