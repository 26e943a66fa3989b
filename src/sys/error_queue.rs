//! The error queue of a UDP socket: ICMP errors, the kernel's own path MTU errors, completions of `MSG_ZEROCOPY` and
//! timestamps of sent datagrams (recvmsg(2) `MSG_ERRQUEUE`, ip(7) `IP_RECVERR`, ipv6(7) `IPV6_RECVERR`).
//!
//! An ICMP error is also the pending error of the socket and fails one later, unrelated call. Reading the queue clears
//! the pending error. Unread entries are charged to the receive buffer and make every poll report `EPOLLERR`.

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use super::cmsg::{nanoseconds, next_control};
use super::socket::set_int;
use super::tx_timestamp::{TxStage, TxStamp};
use super::zerocopy::Done;

/// Meaning of an ICMP error (RFC 792, RFC 1812 5.2.7.1, RFC 4443).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpKind {
    /// No socket is bound to the port.
    PortUnreachable,
    /// The last router cannot reach the host.
    HostUnreachable,
    /// A router has no route.
    NetUnreachable,
    /// A firewall rejects the datagram.
    AdminProhibited,
    /// The host has no UDP.
    ProtocolUnreachable,
    /// The hop limit was reached, or fragment reassembly timed out.
    TimeExceeded,
    /// The datagram exceeds the MTU of a hop (IPv6: packet too big).
    FragmentationNeeded,
    /// Any other type.
    Other,
}

/// One entry of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A returned ICMP error.
    Icmp {
        /// Its meaning.
        kind: IcmpKind,
        /// The errno with which a later call fails.
        errno: i32,
    },
    /// The kernel has completed sends that used `MSG_ZEROCOPY`.
    ZeroCopy(Done),
    /// The kernel refused a send locally. The call already reported the error.
    Local,
    /// A timestamp of a sent datagram.
    Stamp(TxStamp),
}

/// Queues ICMP errors of `socket`, of both address families on an IPv6 socket.
///
/// Sends then also fail with `ENOBUFS` when the device queue is full. Otherwise the kernel drops such datagrams
/// silently (udp(7)).
///
/// # Errors
/// As setsockopt(2).
pub fn enable(socket: &UdpSocket) -> io::Result<()> {
    let v4 = set_int(socket.as_fd(), libc::SOL_IP, libc::IP_RECVERR, 1);
    match socket.local_addr()?.is_ipv6() {
        // Only effective if the socket also accepts IPv4.
        true => set_int(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_RECVERR, 1),
        false => v4,
    }
}

/// Room for the control data of an entry: the extended error with the address of its origin, for each family, and three
/// timestamps. In words, since a cmsghdr is word-aligned.
const CONTROL_WORDS: usize = 32;

/// Reads all entries of the queue, without waiting.
///
/// # Errors
/// As recvmsg(2), if the socket is unusable.
pub fn read(socket: BorrowedFd<'_>, mut each: impl FnMut(Entry)) -> io::Result<()> {
    loop {
        let mut control = [0u64; CONTROL_WORDS];
        // SAFETY: plain integers and pointers, for which all-zero is valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of_val(&control) as _;
        // SAFETY: the control buffer is writable and has the given length. Neither a name nor a vector is given.
        let outcome = unsafe {
            syscall!(recvmsg(
                socket.as_raw_fd(),
                &raw mut header,
                libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT
            ))
        };
        match outcome {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let written: usize = header.msg_controllen as _;
        entries(bytes(&control).get(..written).unwrap_or_default()).for_each(&mut each);
    }
}

/// Most entries per call of a batch.
const MOST_ENTRIES: usize = 16;

/// Most pending errors of the socket that a batch skips. Each ICMP error leaves one.
const MOST_PENDING: usize = 64;

/// Memory to read many entries per system call, which [`read`] has not.
pub struct EntryBatch {
    headers: [libc::mmsghdr; MOST_ENTRIES],
    controls: [[u64; CONTROL_WORDS]; MOST_ENTRIES],
}

// SAFETY: the pointers in the headers are set before each call and not used after it.
unsafe impl Send for EntryBatch {}

impl EntryBatch {
    /// Empty.
    pub fn new() -> Box<Self> {
        // SAFETY: plain integers and pointers, for which all-zero is valid.
        let header: libc::mmsghdr = unsafe { mem::zeroed() };
        Box::new(Self {
            headers: [header; MOST_ENTRIES],
            controls: [[0; CONTROL_WORDS]; MOST_ENTRIES],
        })
    }

    /// As [`read`].
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&mut self, socket: BorrowedFd<'_>, mut each: impl FnMut(Entry)) -> io::Result<()> {
        let mut pending = 0;
        loop {
            for (header, control) in self.headers.iter_mut().zip(&mut self.controls) {
                header.msg_hdr.msg_control = control.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = mem::size_of_val(control) as _;
                header.msg_hdr.msg_flags = 0;
            }
            // SAFETY: each header has a control buffer of its own in this struct, writable and of the given length, and neither a name
            // nor a vector. A null timeout is allowed, and MSG_DONTWAIT makes the call return at once.
            let outcome = unsafe {
                syscall!(recvmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    MOST_ENTRIES as libc::c_uint,
                    (libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) as _,
                    ptr::null_mut()
                ))
            };
            let count = match outcome {
                Ok(count) => count as usize,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Unlike recvmsg, recvmmsg first returns the pending error, whose entry is still in the queue.
                Err(_) if pending < MOST_PENDING => {
                    pending += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (header, control) in self.headers.iter().zip(&self.controls).take(count) {
                let written: usize = header.msg_hdr.msg_controllen as _;
                entries(bytes(control).get(..written).unwrap_or_default()).for_each(&mut each);
            }
            if count < MOST_ENTRIES {
                return Ok(());
            }
        }
    }
}

/// The bytes of control data.
fn bytes(control: &[u64; CONTROL_WORDS]) -> [u8; CONTROL_WORDS * size_of::<u64>()] {
    let mut bytes = [0; CONTROL_WORDS * size_of::<u64>()];
    for (place, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(control) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

// Constants of linux/errqueue.h.
const SO_EE_ORIGIN_LOCAL: u8 = 1;
const SO_EE_ORIGIN_ICMP: u8 = 2;
const SO_EE_ORIGIN_ICMP6: u8 = 3;
const SO_EE_ORIGIN_TIMESTAMPING: u8 = 4;
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;
// The kinds of a timestamp.
const SCM_TSTAMP_SND: u32 = 0;
const SCM_TSTAMP_SCHED: u32 = 1;

/// The extended errors in the control data of an entry. The time of a timestamp precedes its extended error
/// (ip_recv_error in net/ipv4/ip_sockglue.c).
fn entries(mut control: &[u8]) -> impl Iterator<Item = Entry> {
    let mut time = None;
    std::iter::from_fn(move || next_control(&mut control)).filter_map(move |(level, kind, data)| {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                time = nanoseconds(data);
                None
            }
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                entry(data, time)
            }
            _ => None,
        }
    })
}

/// Parses a `struct sock_extended_err`: errno, origin, type, code, a byte of padding, info, data. `time` is that of a timestamp, in
/// ns of wall time.
fn entry(data: &[u8], time: Option<u64>) -> Option<Entry> {
    let (errno, rest) = data.split_first_chunk()?;
    let (&[origin, kind, code, _], rest) = rest.split_first_chunk()?;
    let (info, rest) = rest.split_first_chunk()?;
    let (last, _) = rest.split_first_chunk()?;
    let errno = i32::from_ne_bytes(*errno);
    match origin {
        SO_EE_ORIGIN_ICMP => Some(Entry::Icmp {
            kind: icmp(kind, code),
            errno,
        }),
        SO_EE_ORIGIN_ICMP6 => Some(Entry::Icmp {
            kind: icmp6(kind, code),
            errno,
        }),
        SO_EE_ORIGIN_ZEROCOPY if errno == 0 => Some(Entry::ZeroCopy(Done {
            first: u32::from_ne_bytes(*info),
            last: u32::from_ne_bytes(*last),
            copied: code & SO_EE_CODE_ZEROCOPY_COPIED != 0,
        })),
        SO_EE_ORIGIN_LOCAL => Some(Entry::Local),
        SO_EE_ORIGIN_TIMESTAMPING => Some(Entry::Stamp(TxStamp {
            key: u32::from_ne_bytes(*last),
            stage: match u32::from_ne_bytes(*info) {
                SCM_TSTAMP_SCHED => TxStage::Scheduled,
                SCM_TSTAMP_SND => TxStage::Sent,
                _ => return None,
            },
            realtime_ns: time?,
        })),
        _ => None,
    }
}

/// RFC 792. Codes 6 to 15 of type 3 are from RFC 1122 and RFC 1812.
fn icmp(kind: u8, code: u8) -> IcmpKind {
    match (kind, code) {
        (3, 0 | 6 | 11) => IcmpKind::NetUnreachable,
        (3, 1 | 7 | 8 | 12) => IcmpKind::HostUnreachable,
        (3, 2) => IcmpKind::ProtocolUnreachable,
        (3, 3) => IcmpKind::PortUnreachable,
        (3, 4) => IcmpKind::FragmentationNeeded,
        (3, 9 | 10 | 13 | 14 | 15) => IcmpKind::AdminProhibited,
        (11, _) => IcmpKind::TimeExceeded,
        _ => IcmpKind::Other,
    }
}

/// RFC 4443.
fn icmp6(kind: u8, code: u8) -> IcmpKind {
    match (kind, code) {
        (1, 0) => IcmpKind::NetUnreachable,
        (1, 1 | 5 | 6) => IcmpKind::AdminProhibited,
        (1, 3) => IcmpKind::HostUnreachable,
        (1, 4) => IcmpKind::PortUnreachable,
        (2, _) => IcmpKind::FragmentationNeeded,
        (3, _) => IcmpKind::TimeExceeded,
        (4, 1) => IcmpKind::ProtocolUnreachable,
        _ => IcmpKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use proptest::prelude::*;

    fn all(socket: &UdpSocket) -> Vec<Entry> {
        let mut found = Vec::new();
        read(socket.as_fd(), |entry| found.push(entry)).unwrap();
        found
    }

    #[test]
    fn closed_port_is_reported_once_and_the_pending_error_is_cleared() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let closed = socket::bind_udp(local.parse().unwrap()).unwrap();
            let to = closed.local_addr().unwrap();
            drop(closed);
            let sender = socket::bind_udp(local.parse().unwrap()).unwrap();
            enable(&sender).unwrap();
            sender.connect(to).unwrap();
            sender.send(b"anybody?").unwrap();
            // Loopback returns the ICMP error during the call.
            let expected = Entry::Icmp {
                kind: IcmpKind::PortUnreachable,
                errno: libc::ECONNREFUSED,
            };
            assert_eq!(all(&sender), [expected]);
            assert!(sender.take_error().unwrap().is_none());
            assert_eq!(all(&sender), []);
        }
    }

    #[test]
    fn a_batch_reads_all_entries_and_clears_the_pending_error() {
        let closed = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = socket::bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        enable(&sender).unwrap();
        sender.connect(closed.local_addr().unwrap()).unwrap();
        drop(closed);
        for count in [1, MOST_ENTRIES, 2 * MOST_ENTRIES + 1] {
            let mut sent = 0;
            while sent < count {
                // Every second call fails with the error of the one before.
                sent += usize::from(sender.send(b"anybody?").is_ok());
            }
            let mut found = 0;
            let each = |entry| found += usize::from(matches!(entry, Entry::Icmp { .. }));
            EntryBatch::new().read(sender.as_fd(), each).unwrap();
            assert_eq!(found, count);
            assert!(sender.take_error().unwrap().is_none());
        }
    }

    #[test]
    fn kinds_follow_the_rfcs() {
        assert_eq!(icmp(3, 10), IcmpKind::AdminProhibited);
        assert_eq!(icmp(3, 13), IcmpKind::AdminProhibited);
        assert_eq!(icmp(3, 1), IcmpKind::HostUnreachable);
        assert_eq!(icmp(11, 0), IcmpKind::TimeExceeded);
        assert_eq!(icmp(12, 0), IcmpKind::Other);
        assert_eq!(icmp6(1, 4), IcmpKind::PortUnreachable);
        assert_eq!(icmp6(2, 0), IcmpKind::FragmentationNeeded);
        assert_eq!(icmp6(1, 6), IcmpKind::AdminProhibited);
    }

    proptest! {
        #[test]
        fn no_control_data_panics(control in prop::collection::vec(any::<u8>(), 0..120)) {
            entries(&control).for_each(drop);
        }
    }
}
