//! What a client makes of a proxy's replies.

/// What follows from the bytes so far, for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientStep {
    /// The reply goes on.
    More,
    /// The proxy is sent this and replies again; what is already here may be enough, so push again,
    /// nothing if there is nothing new.
    Send(Vec<u8>),
    /// The connection is the server's now.
    Open {
        /// What the server has sent already.
        early: Vec<u8>,
    },
    /// The proxy will not, or could not.
    Refused {
        /// The protocol's own number for it.
        code: u16,
        /// The same in words.
        detail: String,
    },
    /// What came is no reply.
    Bad(String),
}
