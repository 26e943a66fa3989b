//! The PROXY protocol, versions 1 and 2: the client's address as reported by a previous proxy (HAProxy, doc/proxy-protocol.txt).
//!
//! A header precedes all other bytes of a connection and is only accepted from trusted peers.

mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

pub use v1::{MAX_V1, encode_v1};
pub use v2::{MAX_FIELDS, MAX_V2, encode_v2, encode_v2_datagram};

/// The first bytes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Possibly an incomplete header: retry with more bytes.
    More,
    /// A complete header.
    Header(Header),
    /// Not a header; the reason.
    Bad(String),
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// Both ends of the proxied connection. `None` if the sender connects for itself (LOCAL), does not know them (UNKNOWN, UNSPEC)
    /// or has no IP address (UNIX); then the ends of the connection itself apply.
    pub addresses: Option<Addresses>,
    /// Other parts, for the header to the next server.
    pub carried: Carried,
    /// Length of the header in bytes.
    pub consumed: usize,
}

/// Parts of a received header that are passed on to the next server, besides addresses.
///
/// Version 2 fields (TLVs) are passed on unchanged and in order: a cloud's endpoint id, TLS details, the requested name, ALPN.
/// Padding (NOOP) is omitted, and a checksum is recomputed. Version 1 cannot carry fields and encodes Unix sockets as UNKNOWN.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// The paths of both sockets of an AF_UNIX connection, 108 bytes each.
    paths: Option<Box<[u8; v2::PATHS]>>,
    /// Types, lengths and values, up to [`MAX_FIELDS`] bytes.
    fields: Vec<u8>,
    /// Whether the header had a checksum; then the next one has too.
    checked: bool,
}

impl Carried {
    /// For an unnamed client connected to the socket at `path`, of which up to 108 bytes are used.
    pub fn of_unix(path: &[u8]) -> Self {
        let mut paths = Box::new([0; v2::PATHS]);
        let room = paths.iter_mut().skip(v2::PATHS / 2);
        room.zip(path).for_each(|(room, byte)| *room = *byte);
        Self {
            paths: Some(paths),
            ..Self::default()
        }
    }

    /// The encoded fields: type, 16-bit length and value of each.
    pub fn fields(&self) -> &[u8] {
        &self.fields
    }

    /// Whether there are paths, which replace addresses.
    pub fn has_paths(&self) -> bool {
        self.paths.is_some()
    }

    /// A version 1 header; UNKNOWN for paths or without addresses.
    pub fn encode_v1(&self, ends: Option<Addresses>) -> Vec<u8> {
        match (ends, &self.paths) {
            (Some(ends), None) => encode_v1(ends.source, ends.destination),
            _ => v1::UNKNOWN.to_vec(),
        }
    }

    /// A version 2 header with the paths, or else the addresses, and all fields; LOCAL without either.
    pub fn encode_v2(&self, ends: Option<Addresses>) -> Vec<u8> {
        v2::encode(ends, self)
    }
}

/// Both ends of a connection, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// The address that it connected to.
    pub destination: SocketAddr,
}

impl Addresses {
    /// Converts both to one family: IPv4-mapped addresses become IPv4, unless the other end is IPv6.
    fn alike(source: SocketAddr, destination: SocketAddr) -> Self {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let (source, destination) = (plain(source), plain(destination));
        if source.is_ipv4() == destination.is_ipv4() {
            return Self {
                source,
                destination,
            };
        }
        let wide = |end: SocketAddr| match end.ip() {
            IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), end.port()),
            IpAddr::V6(_) => end,
        };
        Self {
            source: wide(source),
            destination: wide(destination),
        }
    }
}

/// Decodes a header at the start of a connection. [`MAX_V2`] bytes are always enough.
pub fn decode(bytes: &[u8]) -> Decoded {
    match bytes.first() {
        None => Decoded::More,
        Some(b'P') => v1::decode(bytes),
        Some(_) => v2::decode(bytes),
    }
}

#[cfg(test)]
mod tests;
