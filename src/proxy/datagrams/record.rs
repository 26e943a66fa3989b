//! The record of a closed flow, and the causes of dropped datagrams.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::proxy::record::{CloseReason, Decision};

/// Why a datagram was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropCause {
    /// It would have opened a flow beyond a limit: of flows, of flows of its client, of open files or of ports.
    OverLimit,
    /// The policy blocks the server.
    Blocked,
    /// The name of the server has no address, there is no route, or the route prohibits it.
    Unreachable,
    /// This host refuses to send it (`EPERM`): a firewall rule, or a full table of tracked connections.
    Denied,
    /// It is longer than the protocol of its destination permits.
    TooBig,
    /// A host answered an earlier datagram with an ICMP error: no program has the port. The kernel reports at least one
    /// error for any number of datagrams.
    Refused,
    /// The send buffer or the queue of the device is full.
    NoBuffer,
    /// The kernel dropped it, as the receive buffer of the proxy was full. It may count a run as one.
    QueueFull,
    /// It was in a receive buffer of the proxy when its flow or association was closed.
    Closed,
    /// It would have opened a flow while the proxy stops.
    Stopping,
    /// The name of its destination has no address, or was not looked up.
    Unresolved,
    /// It is a fragment (SOCKS5, RFC 1928, section 7).
    Fragment,
    /// Its SOCKS5 header is invalid.
    BadHeader,
    /// It is for an association of another client. The relay socket queues datagrams of any source until it is connected.
    WrongSource,
    /// It is from a source that the client of the association has not sent to. At a flow: from another source than its server.
    /// connect(2) binds the socket of a flow before it sets the peer, and in between the kernel queues datagrams of any source
    /// (1,146 of 795,000 sockets had one, where a program sent to all 32 ports that the kernel selected from).
    Unasked,
}

impl DropCause {
    /// All causes.
    pub const ALL: [Self; 15] = [
        Self::OverLimit,
        Self::Blocked,
        Self::Unreachable,
        Self::Denied,
        Self::TooBig,
        Self::Refused,
        Self::NoBuffer,
        Self::QueueFull,
        Self::Closed,
        Self::Stopping,
        Self::Unresolved,
        Self::Fragment,
        Self::BadHeader,
        Self::WrongSource,
        Self::Unasked,
    ];

    /// The causes of flows.
    pub fn of_flows() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|cause| *cause <= Self::Stopping || *cause == Self::Unasked)
    }

    /// The causes of open flows.
    pub fn of_open_flows() -> impl Iterator<Item = Self> {
        let others = [Self::OverLimit, Self::Blocked, Self::Stopping];
        Self::of_flows().filter(move |cause| !others.contains(cause))
    }

    /// The causes of associations.
    pub fn of_associations() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|cause| *cause != Self::Stopping)
    }

    /// The cause of an error that a socket reports: of an attempt to send, or of an earlier datagram by ICMP.
    pub const fn of_errno(errno: Option<i32>) -> Self {
        match errno {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::EPERM) => Self::Denied,
            _ => Self::Unreachable,
        }
    }

    /// The index in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OverLimit => "over_limit",
            Self::Blocked => "blocked",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::TooBig => "too_big",
            Self::Refused => "refused",
            Self::NoBuffer => "no_buffer",
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::Stopping => "stopping",
            Self::Unresolved => "unresolved",
            Self::Fragment => "fragment",
            Self::BadHeader => "bad_header",
            Self::WrongSource => "wrong_source",
            Self::Unasked => "unasked",
        }
    }
}

/// Dropped datagrams by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops([u64; DropCause::ALL.len()]);

impl Drops {
    /// Counts dropped datagrams.
    pub fn add(&mut self, cause: DropCause, datagrams: u64) {
        if let Some(count) = self.0.get_mut(cause.index()) {
            *count = count.saturating_add(datagrams);
        }
    }

    /// The datagrams that were dropped for this cause.
    pub fn of(&self, cause: DropCause) -> u64 {
        self.0.get(cause.index()).copied().unwrap_or(0)
    }

    /// All dropped datagrams.
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |total, count| total.saturating_add(*count))
    }

    /// Whether none was dropped.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; DropCause::ALL.len()]
    }

    /// The sums of both.
    pub fn and(mut self, other: Self) -> Self {
        self.add_all(&other);
        self
    }

    /// Adds those of `other`. Nothing is written if there are none, as in most cases.
    pub fn add_all(&mut self, other: &Self) {
        if !other.is_empty() {
            for cause in DropCause::ALL {
                self.add(cause, other.of(cause));
            }
        }
    }
}

/// Datagrams that were sent in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: u64,
    /// Bytes of their payload, including a PROXY header.
    pub bytes: u64,
    /// Messages in which they were sent: runs or single datagrams.
    pub sends: u64,
}

impl Traffic {
    /// The sums of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            datagrams: self.datagrams.saturating_add(other.datagrams),
            bytes: self.bytes.saturating_add(other.bytes),
            sends: self.sends.saturating_add(other.sends),
        }
    }
}

/// The outcome of sending a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) struct Outcome {
    pub(in crate::proxy) sent: Traffic,
    pub(in crate::proxy) drops: Drops,
    /// The kernel refused it as a run, and its datagrams were sent one by one.
    pub(in crate::proxy) was_split: bool,
}

impl Outcome {
    pub(in crate::proxy) fn sent(datagrams: usize, bytes: usize) -> Self {
        Self {
            sent: Traffic {
                datagrams: datagrams as u64,
                bytes: bytes as u64,
                sends: 1,
            },
            ..Self::default()
        }
    }

    pub(in crate::proxy) fn dropped(cause: DropCause, datagrams: usize) -> Self {
        let mut outcome = Self::default();
        outcome.drops.add(cause, datagrams as u64);
        outcome
    }

    pub(in crate::proxy) fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent.and(other.sent),
            drops: self.drops.and(other.drops),
            was_split: self.was_split || other.was_split,
        }
    }
}

/// Why flows are closed: no datagram for too long, a reloaded policy, the end of the proxy.
pub const FLOW_ENDS: [CloseReason; 3] = [
    CloseReason::IdleTimeout,
    CloseReason::Blocked,
    CloseReason::Stopped,
];

/// One flow, from its first datagram to its end.
#[derive(Debug, Clone)]
pub struct FlowRecord {
    /// The source of its datagrams.
    pub client: SocketAddr,
    /// The destination in the options of the proxy.
    pub asked: Arc<str>,
    /// The server's address.
    pub server: SocketAddr,
    /// The last decision on that address.
    pub decision: Decision,
    /// When its first datagram was received, in ns since 1970 (UTC).
    pub opened_at: u64,
    /// When its first datagram was received, in ns of [`crate::sys::clock::monotonic_ns`].
    pub opened: u64,
    /// When it was closed.
    pub closed: u64,
    /// From the client to the server.
    pub to_server: Traffic,
    /// From the server to the client.
    pub to_client: Traffic,
    /// Datagrams that were dropped in either direction.
    pub drops: Drops,
    /// Why it was closed.
    pub reason: CloseReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_index() {
        for (place, cause) in DropCause::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), place, "{}", cause.name());
        }
    }

    #[test]
    fn drops_are_counted_by_cause() {
        let mut drops = Drops::default();
        drops.add(DropCause::TooBig, 2);
        drops.add(DropCause::Stopping, u64::MAX);
        assert_eq!(drops.of(DropCause::TooBig), 2);
        assert_eq!(drops.and(drops).of(DropCause::TooBig), 4);
        assert_eq!(drops.total(), u64::MAX);
    }
}
