//! The PROXY protocol, versions 1 and 2: who the client is, as told by the proxy before this one
//! (HAProxy, doc/proxy-protocol.txt).
//!
//! A header comes before any other byte of a connection, and only from peers that are trusted to send one.

mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

pub use v1::{MAX_V1, encode_v1};
pub use v2::{MAX_FIELDS, MAX_V2, encode_v2};

/// What the bytes at the front of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// The beginning of a header; ask again with the same bytes and more.
    More,
    /// A whole header.
    Header(Header),
    /// No header; why.
    Bad(String),
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// Both ends of the connection that is proxied. `None` where the sender speaks for itself (LOCAL), does not
    /// know (UNKNOWN, UNSPEC) or has no such address (UNIX): then the connection's own ends count.
    pub addresses: Option<Addresses>,
    /// What else goes into the header for the next server.
    pub carried: Carried,
    /// How many bytes it has; the connection's own follow.
    pub consumed: usize,
}

/// What goes from a header that came into the one that is sent on, beside addresses.
///
/// Fields of version 2 (TLVs) are passed on as they came and in their order: a cloud's endpoint id, TLS details, the name
/// that was asked for, ALPN. Padding (NOOP) is left out, and a checksum is made anew. Version 1 has no place for any of it, and
/// for paths of sockets it says UNKNOWN. A header of version 1 carries nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// The paths of both sockets of an AF_UNIX connection, 108 bytes each.
    paths: Option<Box<[u8; v2::PATHS]>>,
    /// Types, lengths and values; at most [`MAX_FIELDS`] bytes.
    fields: Vec<u8>,
    /// The header had a checksum, so the next one has.
    checked: bool,
}

impl Carried {
    /// Of a client without a name, connected to the socket at `path`. What of that is longer than 108 bytes is left out.
    pub fn of_unix(path: &[u8]) -> Self {
        let mut paths = Box::new([0; v2::PATHS]);
        let room = paths.iter_mut().skip(v2::PATHS / 2);
        room.zip(path).for_each(|(room, byte)| *room = *byte);
        Self {
            paths: Some(paths),
            ..Self::default()
        }
    }

    /// The fields: type, length in 16 bits, value, and the next.
    pub fn fields(&self) -> &[u8] {
        &self.fields
    }

    /// Paths are carried, which stand instead of addresses.
    pub fn has_paths(&self) -> bool {
        self.paths.is_some()
    }

    /// The line for a connection between two addresses, or of unknown ends: where there are none, or paths.
    pub fn encode_v1(&self, ends: Option<Addresses>) -> Vec<u8> {
        match (ends, &self.paths) {
            (Some(ends), None) => encode_v1(ends.source, ends.destination),
            _ => v1::UNKNOWN.to_vec(),
        }
    }

    /// The header of version 2 for a connection between the paths, or else two addresses, with all fields. Without either the
    /// sender speaks for itself (LOCAL).
    pub fn encode_v2(&self, ends: Option<Addresses>) -> Vec<u8> {
        v2::encode(ends, self)
    }
}

/// Both ends of a connection, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

impl Addresses {
    /// Addresses of one family: IPv4 in IPv6 is unwrapped, and wrapped again only where the other end is IPv6.
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

/// Reads the header at the front of a connection's bytes. At most [`MAX_V2`] bytes are needed to tell.
pub fn decode(bytes: &[u8]) -> Decoded {
    match bytes.first() {
        None => Decoded::More,
        Some(b'P') => v1::decode(bytes),
        Some(_) => v2::decode(bytes),
    }
}

#[cfg(test)]
mod tests;
