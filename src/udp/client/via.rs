//! The relay between the client and the server's UDP port.
//!
//! All flows go through it: each opens at the server by its first datagram, and the server identifies it by its token. To the server
//! the relay is the client's address, as a NAT would be. The control connection stays direct.

use std::net::SocketAddr;

use crate::protocol::User;
use crate::udp::relay_header::RelayHeader;

/// A relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// Forwards the datagrams of each client address and port from a port of its own to the server's UDP port, and the responses back.
    Udp(SocketAddr),
    /// The UDP relay of a SOCKS5 proxy.
    Socks5 {
        /// The proxy's TCP address.
        proxy: SocketAddr,
        /// The user to sign in as.
        user: Option<User>,
    },
}

impl Via {
    /// The address of the relay or of its proxy.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Udp(at) | Self::Socks5 { proxy: at, .. } => *at,
        }
    }

    /// The header of datagrams through the relay `via` to a UDP port of the server.
    pub fn header(via: Option<&Self>, server: SocketAddr) -> RelayHeader {
        match via {
            Some(Self::Socks5 { .. }) => RelayHeader::socks5(server),
            Some(Self::Udp(_)) | None => RelayHeader::default(),
        }
    }
}
