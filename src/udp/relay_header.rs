//! The header between a client and a SOCKS5 relay, in front of each datagram (RFC 1928, section 7).
//!
//! Slots of a sender contain the header from the start, so that it costs a send nothing but its bytes.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use super::wire::header::HEADER;
use crate::protocol::socks5::datagram::{V6_HEADER, header_length, header_of};

/// The header of a client's datagrams; empty without a SOCKS5 relay.
#[derive(Debug, Clone, Default)]
pub struct RelayHeader(Option<Arc<[u8]>>);

impl RelayHeader {
    /// The header for datagrams to this server.
    pub fn socks5(server: SocketAddr) -> Self {
        Self(Some(header_of(server).into()))
    }

    /// The header as bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Bytes of the header.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether datagrams have no header.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes of the longest header of a received datagram: the relay may write the server's address as an IPv6 one.
    pub fn most(&self) -> usize {
        match self.0 {
            None => 0,
            Some(_) => V6_HEADER,
        }
    }

    /// A control datagram behind the header.
    pub fn wrap(&self, datagram: &[u8; HEADER]) -> Wrapped {
        let mut wrapped = Wrapped {
            bytes: [0; HEADER + V6_HEADER],
            length: 0,
        };
        let parts = self.bytes().iter().chain(datagram);
        for (place, byte) in wrapped.bytes.iter_mut().zip(parts) {
            *place = *byte;
            wrapped.length += 1;
        }
        wrapped
    }

    /// A received datagram without its header; empty if the header is invalid.
    pub fn payload<'a>(&self, datagram: &'a [u8]) -> &'a [u8] {
        if self.is_empty() {
            return datagram;
        }
        let payload = header_length(datagram).ok();
        payload
            .and_then(|length| datagram.get(length..))
            .unwrap_or_default()
    }
}

/// A control datagram with the header of a relay.
#[derive(Debug, Clone, Copy)]
pub struct Wrapped {
    bytes: [u8; HEADER + V6_HEADER],
    length: usize,
}

impl Deref for Wrapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wrapped_datagram_has_itself_as_its_payload() {
        let datagram = [7; HEADER];
        for (header, length) in [
            (RelayHeader::default(), 0),
            (RelayHeader::socks5("192.0.2.1:53".parse().unwrap()), 10),
            (RelayHeader::socks5("[2001:db8::1]:53".parse().unwrap()), 22),
        ] {
            let wrapped = header.wrap(&datagram);
            assert_eq!((header.len(), wrapped.len()), (length, length + HEADER));
            assert_eq!(header.payload(&wrapped), datagram);
            assert!(header.len() <= header.most());
        }
    }

    proptest! {
        #[test]
        fn the_payload_of_any_bytes_is_their_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let header = RelayHeader::socks5("192.0.2.1:53".parse().unwrap());
            prop_assert!(bytes.ends_with(header.payload(&bytes)));
            prop_assert_eq!(RelayHeader::default().payload(&bytes), &bytes[..]);
        }
    }
}
