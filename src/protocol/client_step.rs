//! The client's side of a handshake with a proxy.

/// Result of the bytes received so far, for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStep {
    /// The reply is incomplete.
    More,
    /// Send these bytes; the proxy replies again. Bytes at hand may already contain that reply, so push again, with nothing if
    /// there is nothing new.
    Send(Vec<u8>),
    /// The connection leads to the server now.
    Open {
        /// Bytes of the server that already arrived.
        early: Vec<u8>,
    },
    /// The proxy refused or failed.
    Refused {
        /// The protocol's reply code.
        code: u16,
        /// The reason in words.
        detail: String,
    },
    /// Not a valid reply; the reason.
    Bad(String),
}
