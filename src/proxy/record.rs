//! What is info of a connection when it is over.

use std::net::SocketAddr;

use super::relay::Counts;
use crate::protocol::{Destination, Kind};
use crate::sys::clock::realtime_ns;
use crate::sys::endpoint::Peer;

/// One connection, from the client's arrival to the end.
#[derive(Debug, Clone)]
pub struct ConnectionRecord {
    /// What became info of it on the way.
    pub info: ConnectionInfo,
    /// When it was accepted, in ns since 1970 (UTC).
    pub accepted_at: u64,
    /// The same in ns of [`crate::sys::clock::monotonic_ns`].
    pub accepted: u64,
    /// When the server was connected.
    pub connected: Option<u64>,
    /// When it was over.
    pub closed: u64,
    /// From the client to the server, and what the proxy itself said to it.
    pub to_server: Counts,
    /// From the server to the client, and what the proxy itself said to it.
    pub to_client: Counts,
    /// How it ended.
    pub reason: CloseReason,
}

impl ConnectionRecord {
    /// Of a client that was hung up on as it came, at `now` of [`crate::sys::clock::monotonic_ns`].
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

/// What is info of a connection as it goes.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Who connected.
    pub peer: Peer,
    /// The same, or who it came for by its PROXY header.
    pub client: Peer,
    /// The user that it named, right or wrong.
    pub user: Option<String>,
    /// How it asked, as far as that was heard.
    pub protocol: Option<Kind>,
    /// Where it wanted to go.
    pub asked: Option<Destination>,
    /// Where it went last, as given to connect(2); `None` where it did not come to that.
    pub server: Option<SocketAddr>,
    /// What was decided on that.
    pub decision: Decision,
    /// What went wrong, in words.
    pub detail: Option<String>,
}

impl ConnectionInfo {
    /// That somebody connected.
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
            asked: None,
            server: None,
            decision: Decision::Undecided,
            detail: None,
        }
    }
}

/// An IPv4 client of a listener for both families is info by its IPv4 address.
pub(super) fn without_mapping(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What the rules say of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Decision {
    /// It did not come to one.
    #[default]
    Undecided,
    /// Connect.
    Allowed,
    /// Connect, because this is a dry run; the policy is against it, by this entry.
    WouldBlock(String),
    /// Do not; by this entry.
    Blocked(String),
}

impl Decision {
    /// How many kinds there are.
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

    /// What blocks, or would.
    pub fn entry(&self) -> Option<&str> {
        match self {
            Self::Undecided | Self::Allowed => None,
            Self::WouldBlock(entry) | Self::Blocked(entry) => Some(entry),
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both ends said all they had to say.
    Finished,
    /// The client broke it.
    ClientReset,
    /// The server broke it.
    ServerReset,
    /// The client left before it asked for anything.
    Left,
    /// Its request was none, or not taken.
    Refused,
    /// By the policy.
    Blocked,
    /// It was one too many.
    Busy,
    /// The server could not be connected to, or its name not be looked up.
    Unreachable,
    /// The client did not say in time what it wants.
    RequestTimeout,
    /// The server did not answer connect(2) in time, or the lookup of its name took too long.
    ConnectTimeout,
    /// Neither end said or took anything for too long.
    IdleTimeout,
    /// The end that had not ended did not.
    HalfClosedTimeout,
    /// The proxy was stopped.
    Stopped,
}

impl CloseReason {
    /// All of them.
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

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in logs and counters.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_client_of_a_dual_stack_listener_is_known_by_its_ipv4_address() {
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
    fn every_ending_is_found_where_it_says() {
        for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), place, "{}", reason.name());
        }
    }
}
