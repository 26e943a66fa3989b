//! The record of a closed association.

use std::net::SocketAddr;

use crate::proxy::datagrams::record::{Drops, Traffic};
use crate::proxy::record::{CloseReason, Decision};
use crate::sys::endpoint::Peer;

/// One association, from its request to its end.
#[derive(Debug, Clone)]
pub struct AssociationRecord {
    /// The client of its TCP connection, or the one that the PROXY header of its peer names.
    pub client: Peer,
    /// The peer of its TCP connection.
    pub peer: Peer,
    /// The user that the client named.
    pub user: Option<String>,
    /// The first destination on which the rules decided, or else the first that they block or would block.
    pub first: Option<Decided>,
    /// Destinations that were asked. One that was not asked for long may count again.
    pub destinations: u64,
    /// When it was opened, in ns since 1970 (UTC).
    pub opened_at: u64,
    /// When it was opened, in ns of [`crate::sys::clock::monotonic_ns`].
    pub opened: u64,
    /// When it was closed.
    pub closed: u64,
    /// From the client to destinations, without headers.
    pub to_server: Traffic,
    /// From destinations to the client, without headers.
    pub to_client: Traffic,
    /// Datagrams that were dropped in either direction.
    pub drops: Drops,
    /// Why it was closed.
    pub reason: CloseReason,
}

/// A destination and the decision on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The destination in the header.
    pub asked: String,
    /// Its address; `None` if its name is blocked.
    pub server: Option<SocketAddr>,
    /// The decision.
    pub decision: Decision,
}
