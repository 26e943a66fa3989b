//! What a failed call on a UDP socket means, and which failures belong to an earlier datagram.
//!
//! An ICMP error that comes back becomes the socket's pending error and fails the next call, whatever that call is for. The
//! datagram of that call was not refused and is sent again. Each such retry has taken an ICMP error of the same errno off the
//! error queue; one more is allowed, since the kernel drops entries when the receive buffer is full.

use std::os::fd::BorrowedFd;

use super::stats::IcmpStats;
use crate::sys::error_queue::{self, Entry};
use crate::sys::zerocopy::Done;

/// Retries of one message. More ICMP errors than this between two tries are not caused by what this socket sends.
const MOST_RETRIES: u32 = 100;

/// What the errno of a failed send says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The send buffer is full.
    Full,
    /// The kernel is out of memory, or the queue of the device is full.
    NoMemory,
    /// A signal came first.
    Interrupted,
    /// The socket is of no use any more.
    Useless,
    /// The message was not taken.
    Message,
}

impl Refusal {
    /// Of an errno that sendmsg(2) or udp(7) names.
    pub(super) fn of(errno: i32) -> Self {
        match errno {
            libc::EAGAIN => Self::Full,
            libc::ENOBUFS | libc::ENOMEM => Self::NoMemory,
            libc::EINTR => Self::Interrupted,
            libc::EBADF | libc::ENOTSOCK | libc::EFAULT => Self::Useless,
            _ => Self::Message,
        }
    }
}

/// Whether the kernel turns an ICMP error into this errno (`icmp_err_convert` in net/ipv4/icmp.c, `tab_unreach` in
/// net/ipv6/icmp.c, `__udp4_lib_err`).
pub(super) fn is_of_icmp(errno: i32) -> bool {
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

/// Whether a segmented send that fails with this errno may go as single datagrams: `EMSGSIZE` when a segment is longer than
/// the path MTU (`EINVAL` before Linux 6.12), `EIO` when the route or the device cannot segment (`udp_send_skb` in
/// net/ipv4/udp.c).
pub(super) fn is_of_segments(errno: i32) -> bool {
    matches!(errno, libc::EMSGSIZE | libc::EINVAL | libc::EIO)
}

/// The ICMP errors of one socket.
#[derive(Debug, Default)]
pub(super) struct PendingErrors {
    /// By kind, so far.
    pub(super) icmp: IcmpStats,
    /// Retries since the last message that was taken or refused.
    retries: u32,
    /// The retry without an entry has been used since then.
    forgiven: bool,
}

impl PendingErrors {
    /// Reads the error queue of `socket`, hands completions of zero-copy sends over, and says whether a call that fails with
    /// `errno` failed because of an ICMP error, so that it should be made again.
    pub(super) fn explain(
        &mut self,
        socket: BorrowedFd<'_>,
        errno: i32,
        done: impl FnMut(Done),
    ) -> bool {
        let explained = self.read(socket, Some(errno), done);
        if !is_of_icmp(errno) || self.retries >= MOST_RETRIES {
            return false;
        }
        if explained || !self.forgiven {
            self.retries += 1;
            self.forgiven |= !explained;
            return true;
        }
        false
    }

    /// Empties the error queue.
    pub(super) fn collect(&mut self, socket: BorrowedFd<'_>, done: impl FnMut(Done)) {
        self.read(socket, None, done);
    }

    /// A message was taken, or refused for a reason of its own.
    pub(super) fn resolved(&mut self) {
        self.retries = 0;
        self.forgiven = false;
    }

    fn read(
        &mut self,
        socket: BorrowedFd<'_>,
        errno: Option<i32>,
        mut done: impl FnMut(Done),
    ) -> bool {
        let mut found = false;
        // A socket without a queue that can be read fails the next call too, which then says so.
        let _ = error_queue::read(socket, |entry| match entry {
            Entry::Icmp { kind, errno: of } => {
                self.icmp.count(kind);
                found |= errno == Some(of);
            }
            Entry::ZeroCopy(sends) => done(sends),
            Entry::Local => {}
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    /// Connected to a port that no socket has, with one ICMP error pending.
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
    fn a_pending_error_is_worth_another_try_and_is_counted() {
        let sender = refused();
        let error = sender.send(b"y").unwrap_err().raw_os_error().unwrap();
        let mut errors = PendingErrors::default();
        assert!(errors.explain(sender.as_fd(), error, |_| ()));
        assert_eq!(errors.icmp.port_unreachable, 1);
        sender.send(b"y").unwrap();
    }

    #[test]
    fn a_refusal_of_its_own_is_tried_once_more_at_most() {
        let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut errors = PendingErrors::default();
        assert!(errors.explain(sender.as_fd(), libc::EHOSTUNREACH, |_| ()));
        assert!(!errors.explain(sender.as_fd(), libc::EHOSTUNREACH, |_| ()));
        errors.resolved();
        assert!(errors.explain(sender.as_fd(), libc::EHOSTUNREACH, |_| ()));
    }

    #[test]
    fn what_a_firewall_here_refuses_is_refused_even_when_it_also_sends_an_icmp_error() {
        let sender = refused();
        let mut errors = PendingErrors::default();
        assert!(!errors.explain(sender.as_fd(), libc::EPERM, |_| ()));
        assert_eq!(errors.icmp.port_unreachable, 1);
        sender.send(b"the pending error is gone").unwrap();
    }
}
