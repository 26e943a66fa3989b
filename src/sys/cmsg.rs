//! A received message: payload, source address and control messages (recvmsg(2), cmsg(3)).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for a source address: `sockaddr_in6` is the larger of the two types.
pub const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Room for the control messages of one message: `UDP_GRO`, `SO_RXQ_OVFL`, and `IP_TOS` or `IPV6_TCLASS` take 24 bytes each,
/// timestamps 64.
pub const CONTROL_BYTES: usize = 136;

/// A datagram, or with GRO several datagrams of one sender, end to end.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The payload, truncated to the size of the buffer.
    pub bytes: &'a [u8],
    /// Bytes per datagram; the last may be shorter. Without GRO the length of the payload.
    pub segment: usize,
    /// The message was longer than the buffer, and its end is lost.
    pub truncated: bool,
    /// The drop count of the socket when this message was queued; `None` before the first drop.
    pub drops: Option<u32>,
    /// The TOS byte or traffic class of its IP packets; `None` unless the socket requests it.
    pub tos: Option<u8>,
    name: &'a [u8],
    control: &'a [u8],
}

impl<'a> Message<'a> {
    /// Parses the output of recvmsg(2): payload, `msg_name`, `msg_control` and `msg_flags`.
    #[inline]
    pub fn new(bytes: &'a [u8], name: &'a [u8], control: &'a [u8], flags: libc::c_int) -> Self {
        let mut message = Self {
            bytes,
            segment: bytes.len(),
            truncated: flags & libc::MSG_TRUNC != 0,
            drops: None,
            tos: None,
            name,
            control,
        };
        let mut rest = control;
        while let Some((level, kind, data)) = next_control(&mut rest) {
            let Some(value) = data.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)) else {
                // The only control message of one byte.
                if (level, kind) == (libc::SOL_IP, libc::IP_TOS) {
                    message.tos = data.first().copied();
                }
                continue;
            };
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => message.segment = value as usize,
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => message.drops = Some(value),
                (libc::SOL_IPV6, libc::IPV6_TCLASS) => message.tos = Some(value as u8),
                _ => {}
            }
        }
        message
    }

    /// When the kernel took the message from the device, in ns of wall time; `None` unless
    /// [`rx_timestamp::enable`](super::rx_timestamp::enable) requested it before. With GRO, the time of the first datagram.
    #[inline]
    pub fn stamp(&self) -> Option<u64> {
        let mut rest = self.control;
        while let Some((level, kind, data)) = next_control(&mut rest) {
            if (level, kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) {
                return nanoseconds(data);
            }
        }
        None
    }

    /// A message of one datagram with these bytes, otherwise as this one.
    pub fn with(&self, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            segment: bytes.len(),
            ..*self
        }
    }

    /// The source address; `None` for an unsupported address family.
    pub fn source(&self) -> Option<SocketAddr> {
        let (family, rest) = self.name.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let port = u16::from_be_bytes(*port);
        match libc::c_int::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => {
                let address: &[u8; 4] = rest.first_chunk()?;
                Some(SocketAddrV4::new(Ipv4Addr::from(*address), port).into())
            }
            libc::AF_INET6 => {
                let (flow, rest) = rest.split_first_chunk()?;
                let (address, rest): (&[u8; 16], _) = rest.split_first_chunk()?;
                let scope = u32::from_ne_bytes(*rest.first_chunk()?);
                let address = Ipv6Addr::from(*address);
                // std keeps the flow label in network order.
                Some(SocketAddrV6::new(address, port, u32::from_ne_bytes(*flow), scope).into())
            }
            _ => None,
        }
    }

    /// The datagrams of the message in sending order.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment.max(1))
    }
}

/// Splits off the next `struct cmsghdr` with its data: level, type, data. `None` at the end or if it is malformed.
#[inline]
pub(super) fn next_control<'a>(
    rest: &mut &'a [u8],
) -> Option<(libc::c_int, libc::c_int, &'a [u8])> {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let (length, after) = rest.split_first_chunk()?;
    let (level, after) = after.split_first_chunk()?;
    let (kind, _) = after.split_first_chunk()?;
    let length = usize::from_ne_bytes(*length);
    let data = rest.get(HEADER..length)?;
    *rest = rest
        .get(length.next_multiple_of(size_of::<usize>())..)
        .unwrap_or_default();
    let number = |bytes: &[u8; 4]| libc::c_int::from_ne_bytes(*bytes);
    Some((number(level), number(kind), data))
}

/// Parses a timespec of two 64-bit words, as on all 64-bit kernels. All-zero means no timestamp.
pub(super) fn nanoseconds(content: &[u8]) -> Option<u64> {
    let (seconds, rest) = content.split_first_chunk()?;
    let seconds = u64::from_ne_bytes(*seconds);
    let rest = u64::from_ne_bytes(*rest.first_chunk()?);
    let stamp = seconds.checked_mul(1_000_000_000)?.checked_add(rest)?;
    (stamp > 0).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn control(level: libc::c_int, kind: libc::c_int, value: u32) -> Vec<u8> {
        let mut bytes = 20usize.to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes.resize(24, 0);
        bytes
    }

    #[test]
    fn all_control_messages_are_parsed() {
        let all = [
            control(libc::SOL_IP, libc::IP_TTL, 64),
            control(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 7),
            control(libc::SOL_UDP, libc::UDP_GRO, 1_000),
        ]
        .concat();
        let message = Message::new(&[0; 2_500], &[], &all, 0);
        assert_eq!((message.segment, message.drops), (1_000, Some(7)));
        assert_eq!(message.datagrams().count(), 3);
        assert!(message.source().is_none());
    }

    proptest! {
        #[test]
        fn malformed_messages_are_ignored(name in prop::collection::vec(any::<u8>(), 0..40), control in prop::collection::vec(any::<u8>(), 0..80)) {
            let message = Message::new(b"payload", &name, &control, 0);
            message.source();
            message.stamp();
            prop_assert!(message.datagrams().map(<[u8]>::len).sum::<usize>() == 7);
        }
    }

    #[test]
    fn short_or_zero_timespec_is_no_timestamp() {
        assert_eq!(nanoseconds(&[0; 48]), None);
        assert_eq!(nanoseconds(&[1; 15]), None);
        assert_eq!(nanoseconds(&[0xff; 16]), None);
    }
}
