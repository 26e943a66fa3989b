//! The record of a closed connection.

use std::net::SocketAddr;

use super::relay::Counts;
use crate::protocol::{Destination, Kind};
use crate::sys::clock::realtime_ns;
use crate::sys::endpoint::Peer;

/// One connection, from accept(2) to the close.
#[derive(Debug, Clone)]
pub struct ConnectionRecord {
    /// Client, request, decision and server.
    pub info: ConnectionInfo,
    /// When it was accepted, in ns since 1970 (UTC).
    pub accepted_at: u64,
    /// When it was accepted, in ns of [`crate::sys::clock::monotonic_ns`].
    pub accepted: u64,
    /// When the server was connected.
    pub connected: Option<u64>,
    /// When it was closed.
    pub closed: u64,
    /// From the client to the server, including bytes of the proxy itself. Bytes that a reset discarded are not counted as drained.
    pub to_server: Counts,
    /// From the server to the client, including bytes of the proxy itself.
    pub to_client: Counts,
    /// Why it was closed.
    pub reason: CloseReason,
}

impl ConnectionRecord {
    /// The record of a client that was closed as it was accepted, at `now` of [`crate::sys::clock::monotonic_ns`].
    pub fn at_once(peer: Peer, now: u64, reason: CloseReason, detail: String) -> Self {
        Self {
            info: ConnectionInfo {
                detail: Some(detail),
                ..ConnectionInfo::of(peer)
            },
            accepted_at: realtime_ns(),
            accepted: now,
            connected: None,
            closed: now,
            to_server: Counts::default(),
            to_client: Counts::default(),
            reason,
        }
    }
}

/// Information about a connection, as far as it is available.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The peer of the connection.
    pub peer: Peer,
    /// The peer, or the client that the peer's PROXY header names.
    pub client: Peer,
    /// The user that the client named, authenticated or not.
    pub user: Option<String>,
    /// The protocol of the request.
    pub protocol: Option<Kind>,
    /// It is the connection of an association of datagrams, which has a record of its own.
    pub is_association: bool,
    /// The requested destination.
    pub asked: Option<Destination>,
    /// The last address to which an attempt started, as passed to connect(2).
    pub server: Option<SocketAddr>,
    /// The decision on that address.
    pub decision: Decision,
    /// What failed, in words.
    pub detail: Option<String>,
}

impl ConnectionInfo {
    /// The information about a client that has connected.
    pub fn of(peer: Peer) -> Self {
        let peer = match peer {
            Peer::Ip(address) => Peer::Ip(without_mapping(address)),
            Peer::Unix => Peer::Unix,
        };
        Self {
            peer,
            client: peer,
            user: None,
            protocol: None,
            is_association: false,
            asked: None,
            server: None,
            decision: Decision::Undecided,
            detail: None,
        }
    }
}

/// An IPv4 client of a dual-stack listener is recorded by its IPv4 address.
pub(super) fn without_mapping(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The decision of the rules on a destination.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Decision {
    /// There was no decision.
    #[default]
    Undecided,
    /// Connect.
    Allowed,
    /// Connect, as this is a dry run; the policy blocks the destination by this entry.
    WouldBlock(String),
    /// Do not connect; the policy blocks the destination by this entry.
    Blocked(String),
}

impl Decision {
    /// The number of kinds.
    pub const KINDS: usize = 4;

    /// Their names, by [`Self::index`].
    pub const NAMES: [&str; Self::KINDS] = ["undecided", "allowed", "would_block", "blocked"];

    /// The number of its kind.
    pub const fn index(&self) -> usize {
        match self {
            Self::Undecided => 0,
            Self::Allowed => 1,
            Self::WouldBlock(_) => 2,
            Self::Blocked(_) => 3,
        }
    }

    /// The entry that blocks the destination, or would.
    pub fn entry(&self) -> Option<&str> {
        match self {
            Self::Undecided | Self::Allowed => None,
            Self::WouldBlock(entry) | Self::Blocked(entry) => Some(entry),
        }
    }
}

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides ended after their last byte.
    Finished,
    /// The client reset the connection.
    ClientReset,
    /// The server reset the connection.
    ServerReset,
    /// The client closed the connection before its request was complete.
    Left,
    /// The request was invalid or not permitted.
    Refused,
    /// The policy blocks the destination.
    Blocked,
    /// The client was over the limit.
    Busy,
    /// The server could not be connected, or its name not be looked up.
    Unreachable,
    /// The client sent no complete request in time.
    RequestTimeout,
    /// No server was connected in time, or the lookup of its name took too long.
    ConnectTimeout,
    /// There was no traffic for too long.
    IdleTimeout,
    /// One side ended, and there was no traffic from the other for too long.
    HalfClosedTimeout,
    /// The proxy stopped.
    Stopped,
}

impl CloseReason {
    /// All reasons.
    pub const ALL: [Self; 13] = [
        Self::Finished,
        Self::ClientReset,
        Self::ServerReset,
        Self::Left,
        Self::Refused,
        Self::Blocked,
        Self::Busy,
        Self::Unreachable,
        Self::RequestTimeout,
        Self::ConnectTimeout,
        Self::IdleTimeout,
        Self::HalfClosedTimeout,
        Self::Stopped,
    ];

    /// The index in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClientReset => "client_reset",
            Self::ServerReset => "server_reset",
            Self::Left => "left",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::RequestTimeout => "request_timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::HalfClosedTimeout => "half_closed_timeout",
            Self::Stopped => "stopped",
        }
    }
}

/// Why a client is refused as busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusyCause {
    /// The proxy is at its limit of connections.
    OverLimit,
    /// The client is at its limit of connections.
    OverClientLimit,
    /// The request was incomplete, and a client with fewer connections took its place.
    Displaced,
    /// The unfinished requests of all clients are at their limit of memory.
    RequestMemory,
}

impl BusyCause {
    /// All causes.
    pub const ALL: [Self; 4] = [
        Self::OverLimit,
        Self::OverClientLimit,
        Self::Displaced,
        Self::RequestMemory,
    ];

    /// The index in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OverLimit => "over_limit",
            Self::OverClientLimit => "over_client_limit",
            Self::Displaced => "displaced",
            Self::RequestMemory => "request_memory",
        }
    }

    /// The cause in words, for the log.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::OverLimit => "the proxy is at its connection limit; try again",
            Self::OverClientLimit => "the client is at its limit of connections",
            Self::Displaced => {
                "the proxy is at its connection limit, and a client with fewer connections took the place"
            }
            Self::RequestMemory => "unfinished requests are at their limit of memory",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_client_of_a_dual_stack_listener_is_recorded_by_its_ipv4_address() {
        for (peer, info) in [
            ("[::ffff:192.0.2.1]:7", "192.0.2.1:7"),
            ("192.0.2.1:7", "192.0.2.1:7"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
        ] {
            let ConnectionInfo { peer, client, .. } =
                ConnectionInfo::of(Peer::Ip(peer.parse().unwrap()));
            assert_eq!([peer, client].map(|ends| ends.to_string()), [info, info]);
        }
    }

    #[test]
    fn every_reason_has_its_index() {
        for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), place, "{}", reason.name());
        }
    }
}
