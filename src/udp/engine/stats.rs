//! Counters of the I/O of one stream.

use serde::{Deserialize, Serialize};

use crate::sys::error_queue::IcmpKind;
pub use crate::uring::RingStats;

/// Counters of a sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendStats {
    /// System calls that send, including failed ones.
    pub syscalls: u64,
    /// Messages accepted by the kernel; with GSO each holds several datagrams.
    pub messages: u64,
    /// System calls that accepted only part of the batch.
    pub partial: u64,
    /// Times the send buffer was full.
    pub eagain: u64,
    /// Times the kernel or the device was out of memory.
    pub enobufs: u64,
    /// Messages refused permanently.
    pub errors: u64,
    /// The errno of the last refusal.
    pub last_error: Option<i32>,
    /// Waits.
    pub waits: u64,
    /// Times segmented sends were refused, so that from then on each datagram is its own message.
    pub fallbacks: u64,
    /// The errno of the last such refusal.
    pub fallback_error: Option<i32>,
    /// Returned ICMP errors.
    pub icmp: IcmpStats,
    /// Counters of the ring; `None` for other engines.
    pub ring: Option<RingStats>,
    /// Counters of zero-copy sends; `None` if not requested.
    pub zerocopy: Option<ZeroCopyStats>,
}

/// Counters of a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveStats {
    /// System calls that receive, including those without data.
    pub syscalls: u64,
    /// Messages received; with GRO each may hold several datagrams.
    pub messages: u64,
    /// System calls without data.
    pub eagain: u64,
    /// Messages longer than the buffer.
    pub truncated: u64,
    /// Waits.
    pub waits: u64,
    /// Datagrams sent back to the sender.
    pub answers: u64,
    /// Returned ICMP errors.
    #[serde(default)]
    pub icmp: IcmpStats,
    /// Counters of the ring; `None` for other engines.
    pub ring: Option<RingStats>,
}

impl ReceiveStats {
    /// Counts a batch of `messages` messages.
    #[inline]
    pub fn count_batch(&mut self, messages: usize) {
        self.messages += messages as u64;
        self.eagain += u64::from(messages == 0);
    }

    /// Adds the counters of another receiver.
    pub fn add(&mut self, other: Self) {
        self.syscalls += other.syscalls;
        self.messages += other.messages;
        self.eagain += other.eagain;
        self.truncated += other.truncated;
        self.waits += other.waits;
        self.answers += other.answers;
        self.icmp.add(other.icmp);
        add_some(&mut self.ring, other.ring, RingStats::add);
    }
}

/// Returned ICMP errors by kind, as far as the socket had room to queue them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IcmpStats {
    /// No socket was bound to the port.
    pub port_unreachable: u64,
    /// A router could not reach the host.
    pub host_unreachable: u64,
    /// A router had no route.
    pub net_unreachable: u64,
    /// A firewall rejected the datagram.
    pub admin_prohibited: u64,
    /// The host has no UDP.
    pub protocol_unreachable: u64,
    /// The hop limit was reached, or fragment reassembly timed out.
    pub time_exceeded: u64,
    /// The datagram exceeded the MTU of a hop.
    pub fragmentation_needed: u64,
    /// Other ICMP types.
    pub other: u64,
}

impl IcmpStats {
    /// Counts one.
    pub fn count(&mut self, kind: IcmpKind) {
        *match kind {
            IcmpKind::PortUnreachable => &mut self.port_unreachable,
            IcmpKind::HostUnreachable => &mut self.host_unreachable,
            IcmpKind::NetUnreachable => &mut self.net_unreachable,
            IcmpKind::AdminProhibited => &mut self.admin_prohibited,
            IcmpKind::ProtocolUnreachable => &mut self.protocol_unreachable,
            IcmpKind::TimeExceeded => &mut self.time_exceeded,
            IcmpKind::FragmentationNeeded => &mut self.fragmentation_needed,
            IcmpKind::Other => &mut self.other,
        } += 1;
    }

    /// The name of each kind in reports, with its count.
    pub fn kinds(&self) -> [(&'static str, u64); 8] {
        [
            ("port unreachable", self.port_unreachable),
            ("host unreachable", self.host_unreachable),
            ("net unreachable", self.net_unreachable),
            ("admin prohibited", self.admin_prohibited),
            ("protocol unreachable", self.protocol_unreachable),
            ("time exceeded", self.time_exceeded),
            ("fragmentation needed", self.fragmentation_needed),
            ("other", self.other),
        ]
    }

    /// Sum of all kinds.
    pub fn total(&self) -> u64 {
        let counts = self.kinds().into_iter().map(|(_, count)| count);
        counts.fold(0, u64::saturating_add)
    }

    /// Adds the counters of another socket. Values may come from another process, so the sum saturates.
    pub fn add(&mut self, other: Self) {
        for (sum, part) in [
            (&mut self.port_unreachable, other.port_unreachable),
            (&mut self.host_unreachable, other.host_unreachable),
            (&mut self.net_unreachable, other.net_unreachable),
            (&mut self.admin_prohibited, other.admin_prohibited),
            (&mut self.protocol_unreachable, other.protocol_unreachable),
            (&mut self.time_exceeded, other.time_exceeded),
            (&mut self.fragmentation_needed, other.fragmentation_needed),
            (&mut self.other, other.other),
        ] {
            *sum = sum.saturating_add(part);
        }
    }
}

/// Adds counters that only some engines have.
pub fn add_some<T>(sum: &mut Option<T>, part: Option<T>, add: fn(&mut T, T)) {
    match (sum.as_mut(), part) {
        (Some(sum), Some(part)) => add(sum, part),
        (None, part) => *sum = part,
        (Some(_), None) => {}
    }
}

/// Counters of zero-copy sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroCopyStats {
    /// Messages sent without a copy, as far as the kernel has reported their completion.
    pub messages: u64,
    /// Messages among these that the kernel copied nevertheless, as loopback does. Always 0 for splice, which has no
    /// completion report and never copies.
    pub copied: u64,
}

impl ZeroCopyStats {
    /// Adds the counters of another sender.
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.copied += other.copied;
    }
}
