//! Classification of failed socket calls, and attribution of ICMP errors to earlier datagrams.
//!
//! A returned ICMP error becomes the pending error of the socket and fails the next call, whatever its purpose. The
//! datagram of the failed call was not refused and is sent again. Each retry must match an ICMP error of the same errno
//! on the error queue. One retry without a match is allowed, since the kernel drops queue entries when the receive
//! buffer is full.

use std::os::fd::BorrowedFd;

use super::stats::IcmpStats;
use crate::sys::error_queue::{self, Entry, EntryBatch};
use crate::sys::tx_timestamp::TxStamp;
use crate::sys::zerocopy::Done;

/// Most retries of one message. More ICMP errors between two tries are not caused by this socket's datagrams.
const MOST_RETRIES: u32 = 100;

/// Meaning of the errno of a failed send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The send buffer is full.
    WouldBlock,
    /// The kernel is out of memory, or the device queue is full.
    NoMemory,
    /// Interrupted by a signal.
    Interrupted,
    /// The socket is unusable.
    SocketUnusable,
    /// The kernel refused this message.
    Message,
}

impl Refusal {
    /// Classifies an errno of sendmsg(2) or udp(7).
    pub(super) fn of(errno: i32) -> Self {
        match errno {
            libc::EAGAIN => Self::WouldBlock,
            libc::ENOBUFS | libc::ENOMEM => Self::NoMemory,
            libc::EINTR => Self::Interrupted,
            libc::EBADF | libc::ENOTSOCK | libc::EFAULT => Self::SocketUnusable,
            _ => Self::Message,
        }
    }
}

/// Whether the kernel turns an ICMP error into this errno (`icmp_err_convert` in net/ipv4/icmp.c, `tab_unreach` in
/// net/ipv6/icmp.c, `__udp4_lib_err`).
pub(super) fn is_icmp_errno(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ENOPROTOOPT
            | libc::EMSGSIZE
            | libc::EOPNOTSUPP
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EPROTO
            | libc::EACCES
    )
}

/// Whether a segmented send that failed with this errno may be sent as single datagrams: `EMSGSIZE` if a segment is
/// longer than the path MTU (`EINVAL` before Linux 6.12), `EIO` if the route or the device cannot segment
/// (`udp_send_skb` in net/ipv4/udp.c).
pub(super) fn is_segmentation_errno(errno: i32) -> bool {
    matches!(errno, libc::EMSGSIZE | libc::EINVAL | libc::EIO)
}

/// ICMP errors of one socket.
#[derive(Default)]
pub(super) struct PendingErrors {
    /// Counters by kind.
    pub(super) icmp: IcmpStats,
    /// Timestamps of sent datagrams that the sender has not taken. Empty unless it requests them.
    pub(super) stamps: Vec<TxStamp>,
    /// Reads the entries of a sender with stamps, which has two for each datagram.
    batch: Option<Box<EntryBatch>>,
    /// Retries since the last message that was accepted or refused.
    retries: u32,
    /// The retry without a queue entry was used since then.
    retried_unexplained: bool,
}

impl PendingErrors {
    /// Of a sender that requests stamps.
    pub(super) fn with_stamps() -> Self {
        Self {
            batch: Some(EntryBatch::new()),
            ..Self::default()
        }
    }

    /// Reads the error queue of `socket` and passes completions of zero-copy sends to `done`. Returns whether an ICMP
    /// error caused the failure with `errno`, so that the call should be retried.
    pub(super) fn explain(
        &mut self,
        socket: BorrowedFd<'_>,
        errno: i32,
        done: impl FnMut(Done),
    ) -> bool {
        let explained = self.read(socket, Some(errno), done);
        if !is_icmp_errno(errno) || self.retries >= MOST_RETRIES {
            return false;
        }
        if explained || !self.retried_unexplained {
            self.retries += 1;
            self.retried_unexplained |= !explained;
            return true;
        }
        false
    }

    /// Drains the error queue.
    pub(super) fn collect(&mut self, socket: BorrowedFd<'_>, done: impl FnMut(Done)) {
        self.read(socket, None, done);
    }

    /// Resets the retry limit after a message was accepted, or refused for its own reason.
    pub(super) fn resolved(&mut self) {
        self.retries = 0;
        self.retried_unexplained = false;
    }

    fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        errno: Option<i32>,
        mut done: impl FnMut(Done),
    ) -> bool {
        let mut matched = false;
        let (icmp, stamps) = (&mut self.icmp, &mut self.stamps);
        let each = |entry| match entry {
            Entry::Icmp { kind, errno: of } => {
                icmp.count(kind);
                matched |= errno == Some(of);
            }
            Entry::ZeroCopy(sends) => done(sends),
            Entry::Stamp(stamp) => stamps.push(stamp),
            Entry::Local => {}
        };
        // If the error queue is unreadable, the next call on the socket fails with the reason.
        let _ = match &mut self.batch {
            Some(batch) => batch.read(socket, each),
            None => error_queue::read(socket, each),
        };
        matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    /// A socket connected to a closed port, with one ICMP error pending.
    fn refused() -> UdpSocket {
        let closed = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        error_queue::enable(&sender).unwrap();
        sender.connect(closed.local_addr().unwrap()).unwrap();
        drop(closed);
        sender.send(b"x").unwrap();
        sender
    }

    #[test]
    fn pending_icmp_error_is_retried_and_counted() {
        let sender = refused();
        let error = sender.send(b"y").unwrap_err().raw_os_error().unwrap();
        let mut errors = PendingErrors::default();
        assert!(errors.explain(sender.as_fd(), error, |_| ()));
        assert_eq!(errors.icmp.port_unreachable, 1);
        sender.send(b"y").unwrap();
    }

    #[test]
    fn unexplained_refusal_is_retried_once() {
        let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut errors = PendingErrors::default();
        assert!(errors.explain(sender.as_fd(), libc::EHOSTUNREACH, |_| ()));
        assert!(!errors.explain(sender.as_fd(), libc::EHOSTUNREACH, |_| ()));
        errors.resolved();
        assert!(errors.explain(sender.as_fd(), libc::EHOSTUNREACH, |_| ()));
    }

    #[test]
    fn refusal_by_a_local_firewall_is_not_retried() {
        let sender = refused();
        let mut errors = PendingErrors::default();
        assert!(!errors.explain(sender.as_fd(), libc::EPERM, |_| ()));
        assert_eq!(errors.icmp.port_unreachable, 1);
        sender.send(b"the pending error is gone").unwrap();
    }
}
