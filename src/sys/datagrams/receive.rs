//! Receives batches of messages: recvmmsg(2) with the control messages of a forwarder.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::MAX_MESSAGE;
use crate::sys::cmsg::{Message, NAME_BYTES, next_control};

/// Bytes between the starts of two slots: room for a message, and 17 cache lines more, so that short messages of successive
/// slots do not compete for the same sets of the cache.
const STRIDE: usize = 65_536 + 17 * 64;

/// Words of control messages: `UDP_GRO`, `SO_RXQ_OVFL` and the TOS take 24 bytes each, `IPV6_PKTINFO` 40, and an IPv6 socket may
/// report the TOS of both families.
const CONTROL_WORDS: usize = 17;

/// A received message: a datagram, or a run of datagrams of one sender.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The payload.
    pub bytes: &'a [u8],
    /// Bytes per datagram; the last may be shorter. 0 for an empty datagram.
    pub segment: usize,
    /// The source; `None` for an unsupported address family.
    pub source: Option<SocketAddr>,
    /// The address of this host to which it was sent, if the socket reports that.
    pub to: Option<IpAddr>,
    /// TOS or traffic class: DSCP and ECN.
    pub tos: u8,
    /// The message was longer than the buffer, and its end is lost.
    pub truncated: bool,
    /// How many messages the socket had dropped when this one was queued; `None` before the first drop, and unless the socket
    /// reports it ([`super::connect`]).
    pub drops: Option<u32>,
}

impl<'a> Arrival<'a> {
    /// The number of datagrams: 1 if it is empty.
    pub fn datagrams(&self) -> usize {
        self.bytes.len().div_ceil(self.segment.max(1)).max(1)
    }

    /// Parses the output of recvmsg(2): payload, `msg_name`, `msg_control` and `msg_flags`.
    pub fn new(bytes: &'a [u8], name: &'a [u8], control: &[u8], flags: libc::c_int) -> Self {
        let message = Message::new(bytes, name, control, flags);
        let mut arrival = Self {
            bytes,
            // An impossible size must not become a run that is no run.
            segment: message.segment.min(bytes.len()),
            source: message.source(),
            to: None,
            tos: 0,
            truncated: message.truncated,
            drops: message.drops,
        };
        let mut rest = control;
        while let Some((level, kind, data)) = next_control(&mut rest) {
            match (level, kind) {
                (libc::SOL_IP, libc::IP_TOS) => {
                    arrival.tos = data.first().copied().unwrap_or(0);
                }
                (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                    let class = data.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
                    arrival.tos = class.unwrap_or(0) as u8;
                }
                // struct in_pktinfo: interface, local address, destination address. The local address is that of this host
                // if the destination is a broadcast address.
                (libc::SOL_IP, libc::IP_PKTINFO) => {
                    let address = data.get(4..8).and_then(|rest| rest.first_chunk::<4>());
                    arrival.to = address.map(|address| Ipv4Addr::from(*address).into());
                }
                // struct in6_pktinfo: destination address, interface.
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                    let address = data.first_chunk::<16>();
                    arrival.to = address.map(|address| Ipv6Addr::from(*address).into());
                }
                _ => {}
            }
        }
        if arrival.segment == 0 {
            arrival.segment = bytes.len();
        }
        arrival
    }
}

/// Slots for received messages of any length. The memory of a slot is used as far as its messages are long.
pub struct Arrivals {
    memory: Vec<u8>,
    /// Read by the kernel only.
    _vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    names: Vec<[u8; NAME_BYTES]>,
    controls: Vec<[u64; CONTROL_WORDS]>,
    /// The lengths in the headers of this slot and of all behind it are those of [`reset`].
    clean: usize,
}

// SAFETY: the pointers in the headers lead to memory on the heap that the batch owns, and that stays in place as no vector grows.
unsafe impl Send for Arrivals {}

/// Sets the lengths that the kernel changes.
fn reset(header: &mut libc::mmsghdr) {
    header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
    header.msg_hdr.msg_controllen = (CONTROL_WORDS * size_of::<u64>()) as _;
}

impl Arrivals {
    /// So many slots.
    pub fn new(slots: usize) -> Self {
        // SAFETY: plain integers and pointers, for which all-zero is valid.
        let (vector, header) = unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut memory = vec![0; slots * STRIDE];
        let mut vectors: Vec<libc::iovec> = vec![vector; slots];
        let mut headers: Vec<libc::mmsghdr> = vec![header; slots];
        let mut names = vec![[0; NAME_BYTES]; slots];
        let mut controls = vec![[0u64; CONTROL_WORDS]; slots];
        let rows = memory.chunks_exact_mut(STRIDE).zip(&mut vectors);
        let rows = rows.zip(&mut headers).zip(&mut names).zip(&mut controls);
        for ((((bytes, vector), header), name), control) in rows {
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = MAX_MESSAGE;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            reset(header);
        }
        Self {
            memory,
            _vectors: vectors,
            headers,
            names,
            controls,
            clean: 0,
        }
    }

    /// The number of slots.
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// Receives queued messages into at most `most` slots from slot `first` on, without waiting. Returns their number,
    /// which is lower than `most` if the queue is empty.
    ///
    /// # Errors
    /// As recvmmsg(2): `WouldBlock` if no message is queued; on a connected socket also the pending ICMP error.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        first: usize,
        most: usize,
    ) -> io::Result<usize> {
        let last = self.headers.len().min(first.saturating_add(most));
        let Some(headers) = self.headers.get_mut(first..last) else {
            return Ok(0);
        };
        // Few are changed by a call that has room for many.
        let changed = self.clean.saturating_sub(first);
        headers.iter_mut().take(changed).for_each(reset);
        // SAFETY: every header points to a vector, an address and a control buffer of this struct, each of the given
        // length, distinct and writable. `&mut self` keeps them so during the call. A null timeout is allowed, and
        // MSG_DONTWAIT makes the call return at once.
        let received = unsafe {
            syscall!(recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut()
            ))
        };
        let count = received.as_ref().map_or(0, |count| *count as usize);
        if last >= self.clean {
            self.clean = first + count;
        }
        received?;
        Ok(count)
    }

    /// The message in a slot that [`Self::receive`] filled.
    pub fn get(&self, slot: usize) -> Option<Arrival<'_>> {
        let header = self.headers.get(slot)?;
        let name = self.names.get(slot)?;
        let control = self.controls.get(slot)?;
        let mut bytes = [0; CONTROL_WORDS * size_of::<u64>()];
        for (place, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(control) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let control = bytes.get(..header.msg_hdr.msg_controllen as _);
        Some(Arrival::new(
            self.bytes(slot),
            name.get(..header.msg_hdr.msg_namelen as usize)
                .unwrap_or(name),
            control.unwrap_or_default(),
            header.msg_hdr.msg_flags,
        ))
    }

    /// The payload in a slot.
    pub fn bytes(&self, slot: usize) -> &[u8] {
        let length = self.headers.get(slot).map_or(0, |header| header.msg_len);
        let start = slot * STRIDE;
        self.memory
            .get(start..start + (length as usize).min(MAX_MESSAGE))
            .unwrap_or_default()
    }
}
