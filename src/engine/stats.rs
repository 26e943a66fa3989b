//! What the I/O of one stream cost, and what went wrong in it.

use serde::{Deserialize, Serialize};

use crate::sys::error_queue::IcmpKind;

/// Of a sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendStats {
    /// Calls that send, those that failed among them.
    pub syscalls: u64,
    /// Messages the kernel took; with GSO each holds several datagrams.
    pub messages: u64,
    /// Calls that took only some of the messages.
    pub partial: u64,
    /// Calls that found the send buffer full.
    pub eagain: u64,
    /// Calls that found the kernel or the device short of memory.
    pub enobufs: u64,
    /// Messages refused for good.
    pub errors: u64,
    /// The errno of the last refusal.
    pub last_error: Option<i32>,
    /// Times it slept.
    pub waits: u64,
    /// Times that segmented sends were refused, so that each datagram is a message of its own from then on.
    pub fallbacks: u64,
    /// The errno of that refusal.
    pub fallback_error: Option<i32>,
    /// ICMP errors that came back.
    pub icmp: IcmpStats,
    /// Of io_uring; `None` with other engines.
    pub ring: Option<RingStats>,
    /// Of sends without a copy; `None` where none were asked for.
    pub zerocopy: Option<ZeroCopyStats>,
}

/// Of a receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveStats {
    /// Calls that receive, those that found nothing among them.
    pub syscalls: u64,
    /// Messages received; with GRO each may hold several datagrams.
    pub messages: u64,
    /// Calls that found nothing.
    pub eagain: u64,
    /// Messages longer than the buffer.
    pub truncated: u64,
    /// Times it slept.
    pub waits: u64,
    /// Datagrams sent back.
    pub answers: u64,
    /// ICMP errors that came back.
    #[serde(default)]
    pub icmp: IcmpStats,
    /// Of io_uring; `None` with other engines.
    pub ring: Option<RingStats>,
}

impl ReceiveStats {
    /// Adds another receiver's.
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

/// ICMP errors by what they report, as far as the socket had room to queue them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IcmpStats {
    /// No process had the port.
    pub port_unreachable: u64,
    /// A router could not reach the host.
    pub host_unreachable: u64,
    /// A router had no route.
    pub net_unreachable: u64,
    /// A firewall rejected the datagram.
    pub admin_prohibited: u64,
    /// The host had no UDP.
    pub protocol_unreachable: u64,
    /// The hop limit was reached, or fragments did not come together in time.
    pub time_exceeded: u64,
    /// The datagram was longer than a hop's MTU.
    pub fragmentation_needed: u64,
    /// Of other types.
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

    /// Each kind's name in reports, with its count.
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

    /// All kinds together.
    pub fn total(&self) -> u64 {
        let counts = self.kinds().into_iter().map(|(_, count)| count);
        counts.fold(0, u64::saturating_add)
    }

    /// Adds another socket's, which may be what another process says.
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

/// Adds up what only some engines count.
pub fn add_some<T>(sum: &mut Option<T>, part: Option<T>, add: fn(&mut T, T)) {
    match (sum.as_mut(), part) {
        (Some(sum), Some(part)) => add(sum, part),
        (None, part) => *sum = part,
        (Some(_), None) => {}
    }
}

/// Of an io_uring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingStats {
    /// Entries of its submission ring.
    pub size: u32,
    /// Submission entries the kernel took.
    pub sqes: u64,
    /// Completion entries it gave.
    pub cqes: u64,
    /// Calls of io_uring_enter(2).
    pub enters: u64,
    /// Times a multishot receive ended, most often since its buffers ran out (`ENOBUFS`), and was asked for anew.
    pub rearms: u64,
    /// Times completions had to wait, their ring being full.
    pub cq_overflows: u64,
    /// CPU time of the kernel's submission thread in ns; `None` when there is none, or none to be found.
    pub thread_cpu_ns: Option<u64>,
}

impl RingStats {
    /// Adds another ring's; of the sizes the larger stands.
    pub fn add(&mut self, other: Self) {
        self.size = self.size.max(other.size);
        self.sqes += other.sqes;
        self.cqes += other.cqes;
        self.enters += other.enters;
        self.rearms += other.rearms;
        self.cq_overflows += other.cq_overflows;
        add_some(&mut self.thread_cpu_ns, other.thread_cpu_ns, |sum, part| {
            *sum += part;
        });
    }
}

/// What became of sends without a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroCopyStats {
    /// Messages handed over so, as far as the kernel has reported on them by the end.
    pub messages: u64,
    /// Those of them that the kernel reported to have copied all the same, as it does on loopback. Always 0 for
    /// splice, which reports nothing and copies nothing.
    pub copied: u64,
}

impl ZeroCopyStats {
    /// Adds another sender's.
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.copied += other.copied;
    }
}
