//! The relay between the client and the server's UDP port.
//!
//! All flows go through it: each opens at the server by its first datagram, and the server identifies it by its token. To the server
//! the relay is the client's address, as a NAT would be. The control connection stays direct.

use std::net::SocketAddr;

/// A relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Forwards the datagrams of each client address and port from a port of its own to the server's UDP port, and the responses back.
    Udp(SocketAddr),
}

impl Via {
    /// The address to which a client sends.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Udp(relay) => *relay,
        }
    }
}
