//! The header of datagrams between a client and its UDP relay (RFC 1928, section 7).
//!
//! ```text
//! 00 00 fragment kind address port payload…       kind 01 IPv4, 03 length and name, 04 IPv6
//! ```
//!
//! The address is the destination of a client's datagram, and the source of one for the client. Fragment 0 is a datagram that is
//! no fragment.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::{Reply, destination, put_address, take, take_address, take_many, unknown_type};
use crate::destination::{Destination, Host};

/// Bytes of the longest header, whose address is a name of 255 bytes.
pub const MAX_HEADER: usize = 4 + 1 + 255 + 2;

/// Bytes of a header whose address is of IPv4.
pub const V4_HEADER: usize = 4 + 4 + 2;

/// Bytes of a header whose address is of IPv6.
pub const V6_HEADER: usize = 4 + 16 + 2;

/// Why a datagram has no destination.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// It ends before its header does.
    #[error("the datagram is shorter than its header")]
    Short,
    /// The reserved bytes are not 0.
    #[error("the reserved bytes of the header are not 0")]
    Reserved,
    /// It is a fragment, with its number.
    #[error("it is fragment {0}, and fragments are not reassembled")]
    Fragment(u8),
    /// Its address type is unknown, or its address is none.
    #[error("{0}")]
    Address(String),
}

/// Bytes of the header at the front of `datagram`. The address is not validated: equal headers have equal destinations.
///
/// # Errors
/// [`DatagramError`], apart from invalid addresses of known types.
pub fn header_length(datagram: &[u8]) -> Result<usize, DatagramError> {
    let mut rest = datagram;
    let reserved = take_many::<2>(&mut rest).ok_or(DatagramError::Short)?;
    let fragment = take(&mut rest).ok_or(DatagramError::Short)?;
    if reserved != [0; 2] {
        return Err(DatagramError::Reserved);
    }
    if fragment != 0 {
        return Err(DatagramError::Fragment(fragment));
    }
    let length = match rest {
        [super::V4, ..] => V4_HEADER,
        [super::V6, ..] => V6_HEADER,
        [super::NAME, name, ..] => 4 + 1 + usize::from(*name) + 2,
        [] | [super::NAME] => return Err(DatagramError::Short),
        [other, ..] => return Err(DatagramError::Address(unknown_type(*other))),
    };
    match datagram.len() >= length {
        true => Ok(length),
        false => Err(DatagramError::Short),
    }
}

/// The destination in the header at the front of `datagram`.
///
/// # Errors
/// [`DatagramError`].
pub fn read(datagram: &[u8]) -> Result<Destination, DatagramError> {
    let length = header_length(datagram)?;
    let mut address = datagram.get(3..length).unwrap_or_default();
    let (address, port) = take_address(&mut address).ok_or(DatagramError::Short)?;
    let invalid = |(_, detail): (Reply, String)| DatagramError::Address(detail);
    destination(address, port).map_err(invalid)
}

/// The header for a datagram to or from this address.
pub fn header(host: &Host, port: u16) -> Vec<u8> {
    let mut bytes = vec![0; 3];
    put_address(&mut bytes, host, port);
    bytes
}

/// The header for a datagram to or from this socket address.
pub fn header_of(address: SocketAddr) -> Vec<u8> {
    let (bytes, length) = encode(address);
    bytes.get(..length).unwrap_or_default().to_vec()
}

/// As [`header_of`], with the length of the header in the array.
pub fn encode(address: SocketAddr) -> ([u8; V6_HEADER], usize) {
    let mut bytes = [0; V6_HEADER];
    let [p, q] = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            bytes[..V4_HEADER].copy_from_slice(&[0, 0, 0, super::V4, a, b, c, d, p, q]);
            (bytes, V4_HEADER)
        }
        IpAddr::V6(ip) => {
            bytes[3] = super::V6;
            bytes[4..20].copy_from_slice(&ip.octets());
            bytes[20..].copy_from_slice(&[p, q]);
            (bytes, V6_HEADER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datagram(header: &[u8]) -> Vec<u8> {
        [header, b"payload"].concat()
    }

    #[test]
    fn headers_of_each_address_type_are_read() {
        for (text, length) in [
            ("192.0.2.1:53", V4_HEADER),
            ("[2001:db8::1]:53", V6_HEADER),
            ("www.example:65535", 4 + 1 + 11 + 2),
        ] {
            let destination: Destination = text.parse().unwrap();
            let header = header(&destination.host, destination.port);
            assert_eq!(header.len(), length);
            assert_eq!(header_length(&datagram(&header)), Ok(length));
            assert_eq!(read(&datagram(&header)), Ok(destination));
            // The payload may be empty.
            assert_eq!(header_length(&header), Ok(length));
            for end in 0..length {
                let cut = header.get(..end).unwrap();
                assert_eq!(header_length(cut), Err(DatagramError::Short), "{end}");
                assert_eq!(read(cut), Err(DatagramError::Short), "{end}");
            }
        }
    }

    #[test]
    fn invalid_headers_have_a_reason() {
        let v4 = [0, 0, 0, 1, 192, 0, 2, 1, 0, 53];
        let with = |place: usize, byte: u8| {
            let mut bytes = v4;
            bytes[place] = byte;
            read(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 1), DatagramError::Reserved);
        assert_eq!(with(1, 1), DatagramError::Reserved);
        assert_eq!(with(2, 1), DatagramError::Fragment(1));
        assert_eq!(with(2, 0x80), DatagramError::Fragment(0x80));
        assert_eq!(with(3, 2), DatagramError::Address(unknown_type(2)));
        // Port 0 is no destination.
        assert!(matches!(with(9, 0), DatagramError::Address(_)));
        // A name that inet_aton(3) reads as an address.
        let number = [&[0, 0, 0, 3, 5][..], b"127.1", &[0, 53]].concat();
        assert!(matches!(read(&number), Err(DatagramError::Address(_))));
        let empty = [0, 0, 0, 3, 0, 0, 53];
        assert!(matches!(read(&empty), Err(DatagramError::Address(_))));
    }

    #[test]
    fn name_in_the_form_of_an_address_is_that_address() {
        let text = [&[0, 0, 0, 3, 9][..], b"192.0.2.1", &[0, 53]].concat();
        assert_eq!(read(&text), Ok("192.0.2.1:53".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), zeros in 0usize..4) {
            let bytes = [&vec![0; zeros][..], &bytes].concat();
            let length = header_length(&bytes);
            if let Ok(length) = length {
                prop_assert!(length <= bytes.len() && length <= MAX_HEADER);
            }
            if let Ok(destination) = read(&bytes) {
                // The destination survives a header of our own.
                let again = header(&destination.host, destination.port);
                prop_assert_eq!(read(&again), Ok(destination));
                prop_assert!(length.is_ok());
            }
        }

        #[test]
        fn header_of_an_address_is_read_as_it(ip: std::net::IpAddr, port in 1u16.., payload in prop::collection::vec(any::<u8>(), 0..20)) {
            let address = SocketAddr::new(ip, port);
            let bytes = [header_of(address), payload.clone()].concat();
            let length = header_length(&bytes).unwrap();
            prop_assert_eq!(&bytes[length..], &payload);
            prop_assert_eq!(read(&bytes), Ok(Destination { host: Host::Ip(ip), port }));
        }
    }
}
