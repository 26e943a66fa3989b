//! Sends batches of messages: sendmmsg(2), each with its own address, segment size and TOS.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

/// A message to send.
#[derive(Debug, Clone)]
pub struct Departure<P> {
    /// The payload, in parts.
    pub parts: P,
    /// Bytes per datagram; 0 sends the payload as one datagram.
    pub segment: u16,
    /// The destination, unless the socket is connected.
    pub to: Option<SocketAddr>,
    /// The source address, unless the socket's or the kernel's choice applies.
    pub from: Option<IpAddr>,
    /// TOS or traffic class; 0 leaves that of the socket.
    pub tos: u8,
}

/// Words of control messages: 24 bytes each for `UDP_SEGMENT` and the TOS, and 40 for `IPV6_PKTINFO`.
const CONTROL_WORDS: usize = 11;

/// Control messages in the layout of cmsg(3).
#[derive(Debug, Clone, Copy)]
struct Control {
    words: [u64; CONTROL_WORDS],
    used: usize,
}

impl Control {
    const EMPTY: Self = Self {
        words: [0; CONTROL_WORDS],
        used: 0,
    };

    /// Appends a control message.
    fn add(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        const HEADER: usize = size_of::<libc::cmsghdr>();
        let [a, b, c, d] = level.to_ne_bytes();
        let [e, f, g, h] = kind.to_ne_bytes();
        let header = [
            ((HEADER + data.len()) as u64).to_ne_bytes(),
            [a, b, c, d, e, f, g, h],
        ];
        let padded = data.chunks(size_of::<u64>()).map(|piece| {
            let mut word = [0; size_of::<u64>()];
            word.iter_mut()
                .zip(piece)
                .for_each(|(place, byte)| *place = *byte);
            word
        });
        let room = self.words.iter_mut().skip(self.used);
        for (place, word) in room.zip(header.into_iter().chain(padded)) {
            *place = u64::from_ne_bytes(word);
            self.used += 1;
        }
    }

    /// The control messages of a departure to `peer`, its destination or that of its connected socket.
    fn of(segment: u16, from: Option<IpAddr>, tos: u8, is_v6: bool) -> Self {
        let mut control = Self::EMPTY;
        if segment > 0 {
            control.add(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        if tos > 0 {
            let (level, kind) = match is_v6 {
                true => (libc::SOL_IPV6, libc::IPV6_TCLASS),
                // Also of an IPv6 socket that sends to an IPv4-mapped address.
                false => (libc::SOL_IP, libc::IP_TOS),
            };
            control.add(level, kind, &libc::c_int::from(tos).to_ne_bytes());
        }
        match from.map(|from| from.to_canonical()) {
            // struct in_pktinfo, with the interface left to the route.
            Some(IpAddr::V4(from)) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&from.octets());
                control.add(libc::SOL_IP, libc::IP_PKTINFO, &info);
            }
            Some(IpAddr::V6(from)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&from.octets());
                control.add(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        control
    }
}

/// Header arrays for sends of up to a fixed number of messages.
pub struct Departures {
    most: usize,
    vectors: Vec<libc::iovec>,
    /// The end of each message's vectors.
    ends: Vec<usize>,
    names: Vec<Option<SockAddr>>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers in the header arrays are set before each call and not used after it.
unsafe impl Send for Departures {}

impl Departures {
    /// Room for `most` messages per call.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            vectors: Vec::new(),
            ends: Vec::new(),
            names: Vec::new(),
            controls: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Sends messages in order without waiting. Returns the number accepted. Messages beyond the capacity are left for the
    /// next call. `is_v6` is the family of a connected socket's peer.
    ///
    /// # Errors
    /// As sendmmsg(2) or send(2), only if the first message was refused.
    pub fn send<'a, P: Iterator<Item = &'a [u8]>>(
        &mut self,
        socket: BorrowedFd<'_>,
        is_v6: bool,
        messages: impl Iterator<Item = Departure<P>>,
    ) -> io::Result<usize> {
        if self.prepare(|_| is_v6, messages) == 0 {
            return Ok(0);
        }
        if let Some(payload) = self.plain() {
            // SAFETY: the vector leads to a slice borrowed for 'a, which is readable during the call.
            unsafe {
                syscall!(send(
                    socket.as_raw_fd(),
                    payload.iov_base,
                    payload.iov_len,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL
                ))?;
            }
            return Ok(1);
        }
        // SAFETY: each header points to vectors, an address and control messages in arrays of `self` that no longer change,
        // and each vector to a slice borrowed for 'a, so all are readable during the call. sendmmsg writes only `msg_len`.
        let taken = unsafe {
            syscall!(sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                // The types of flags and control lengths differ between glibc and musl.
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _
            ))?
        };
        Ok(taken as usize)
    }

    /// The payload of the only message, if that is all there is to it: send(2) takes about 5 % less time than sendmmsg(2).
    fn plain(&self) -> Option<libc::iovec> {
        match &*self.headers {
            [header] => plain(&header.msg_hdr),
            _ => None,
        }
    }

    /// Sets the headers of the next call. Returns their number.
    fn prepare<'a, P: Iterator<Item = &'a [u8]>>(
        &mut self,
        is_v6: impl Fn(usize) -> bool,
        messages: impl Iterator<Item = Departure<P>>,
    ) -> usize {
        self.vectors.clear();
        self.ends.clear();
        self.names.clear();
        self.controls.clear();
        self.headers.clear();
        for (place, message) in messages.take(self.most).enumerate() {
            let vectors = message.parts.map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            });
            self.vectors.extend(vectors);
            self.ends.push(self.vectors.len());
            let to = message.to;
            let is_v6 = to.map_or_else(|| is_v6(place), |to| to.ip().to_canonical().is_ipv6());
            self.names.push(to.map(SockAddr::from));
            self.controls.push(Control::of(
                message.segment,
                message.from,
                message.tos,
                is_v6,
            ));
        }
        let mut start = 0;
        let rows = self.ends.iter().zip(&self.names).zip(&mut self.controls);
        for ((&end, name), control) in rows {
            // SAFETY: plain integers and pointers, for which all-zero is valid.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            let vectors = self.vectors.get_mut(start..end).unwrap_or_default();
            header.msg_hdr.msg_iov = vectors.as_mut_ptr();
            header.msg_hdr.msg_iovlen = vectors.len() as _;
            if let Some(name) = name {
                header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
                header.msg_hdr.msg_namelen = name.len();
            }
            header.msg_hdr.msg_control = match control.used {
                0 => ptr::null_mut(),
                _ => control.words.as_mut_ptr().cast(),
            };
            header.msg_hdr.msg_controllen = (control.used * size_of::<u64>()) as _;
            self.headers.push(header);
            start = end;
        }
        self.headers.len()
    }
}

/// The payload of a message in one part and without address and control messages.
fn plain(header: &libc::msghdr) -> Option<libc::iovec> {
    let is_plain =
        header.msg_iovlen == 1 && header.msg_name.is_null() && header.msg_controllen == 0;
    // SAFETY: headers with a vector point to one in an array of the same struct, which has not changed since.
    is_plain.then(|| unsafe { *header.msg_iov })
}

/// A message that io_uring(7) sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Queued {
    /// By send(2): a payload and its length.
    Plain(*const u8, usize),
    /// By sendmsg(2).
    Message(*const libc::msghdr),
}

/// Messages that io_uring(7) sends: headers, addresses and control messages in one place until they are sent.
pub(crate) struct QueuedDepartures {
    departures: Departures,
}

impl QueuedDepartures {
    /// No messages.
    pub(crate) fn new() -> Self {
        Self {
            departures: Departures::new(usize::MAX),
        }
    }

    /// Replaces the messages. `is_v6` is the family of the peer of a connected socket. The result is valid until the next call
    /// and while the payloads stay in place.
    pub(crate) fn set<'a, P: Iterator<Item = &'a [u8]>>(
        &mut self,
        is_v6: impl Fn(usize) -> bool,
        messages: impl Iterator<Item = Departure<P>>,
    ) -> impl Iterator<Item = Queued> {
        self.departures.prepare(is_v6, messages);
        let headers = self.departures.headers.iter();
        headers.map(|header| match plain(&header.msg_hdr) {
            Some(payload) => Queued::Plain(payload.iov_base.cast(), payload.iov_len),
            None => Queued::Message(&raw const header.msg_hdr),
        })
    }
}
