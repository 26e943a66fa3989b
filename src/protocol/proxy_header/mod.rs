//! The PROXY protocol, versions 1 and 2: who the client is, as told by the proxy before this one
//! (HAProxy, doc/proxy-protocol.txt).
//!
//! A header comes before any other byte of a connection, and only from peers that are trusted to send one.

mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

pub use v1::{MOST_V1, encode_v1};
pub use v2::{MOST_V2, encode_v2};

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
    /// How many bytes it has; the connection's own follow.
    pub consumed: usize,
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

/// Reads the header at the front of a connection's bytes. At most [`MOST_V2`] bytes are needed to tell.
pub fn decode(bytes: &[u8]) -> Decoded {
    match bytes.first() {
        None => Decoded::More,
        Some(b'P') => v1::decode(bytes),
        Some(_) => v2::decode(bytes),
    }
}

#[cfg(test)]
mod tests;
