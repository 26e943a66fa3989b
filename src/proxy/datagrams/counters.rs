//! The counters of a thread that forwards datagrams, which other threads may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::record::{DropCause, Drops, FLOW_ENDS, FlowRecord, Traffic};
use crate::proxy::counters::add;
use crate::proxy::record::{CloseReason, Decision};

/// The counters of one thread, its only writer.
#[derive(Debug, Default)]
pub struct DatagramCounters {
    opened: AtomicU64,
    ended: [AtomicU64; FLOW_ENDS.len()],
    would_block: AtomicU64,
    to_server: TrafficCounter,
    to_client: TrafficCounter,
    drops: [AtomicU64; DropCause::ALL.len()],
    /// Datagrams that the kernel dropped at the listener.
    listener_drops: AtomicU64,
}

/// Sent datagrams.
#[derive(Debug, Default)]
pub(in crate::proxy) struct TrafficCounter {
    datagrams: AtomicU64,
    bytes: AtomicU64,
    sends: AtomicU64,
}

impl TrafficCounter {
    pub(in crate::proxy) fn add(&self, traffic: Traffic) {
        add(&self.datagrams, traffic.datagrams);
        add(&self.bytes, traffic.bytes);
        add(&self.sends, traffic.sends);
    }

    pub(in crate::proxy) fn read(&self) -> Traffic {
        Traffic {
            datagrams: read(&self.datagrams),
            bytes: read(&self.bytes),
            sends: read(&self.sends),
        }
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl DatagramCounters {
    pub(super) fn opened(&self) {
        add(&self.opened, 1);
    }

    /// Counts a closed flow. Its datagrams are counted already.
    pub(super) fn ended(&self, record: &FlowRecord) {
        let ends = FLOW_ENDS.iter().zip(&self.ended);
        for (_, count) in ends.filter(|(end, _)| **end == record.reason) {
            add(count, 1);
        }
        if matches!(record.decision, Decision::WouldBlock(_)) {
            add(&self.would_block, 1);
        }
    }

    pub(super) fn sent_to_server(&self, traffic: Traffic) {
        self.to_server.add(traffic);
    }

    pub(super) fn sent_to_client(&self, traffic: Traffic) {
        self.to_client.add(traffic);
    }

    pub(super) fn count_drops(&self, cause: DropCause, datagrams: u64) {
        if let Some(count) = self.drops.get(cause.index()) {
            add(count, datagrams);
        }
    }

    pub(super) fn dropped(&self, drops: &Drops) {
        if drops.is_empty() {
            return;
        }
        for (count, cause) in self.drops.iter().zip(DropCause::ALL) {
            match drops.of(cause) {
                0 => {}
                some => add(count, some),
            }
        }
    }

    /// All datagrams that the kernel has dropped at the listener so far.
    pub(super) fn set_listener_drops(&self, all: u64) {
        self.listener_drops.store(all, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn totals(&self) -> DatagramTotals {
        let mut drops = Drops::default();
        for (count, cause) in self.drops.iter().zip(DropCause::ALL) {
            drops.add(cause, read(count));
        }
        drops.add(DropCause::QueueFull, read(&self.listener_drops));
        // Closed flows are read before opened ones, so that no more appear closed than opened.
        let ended = self.ended.each_ref().map(read);
        DatagramTotals {
            ended,
            opened: read(&self.opened),
            would_block: read(&self.would_block),
            to_server: self.to_server.read(),
            to_client: self.to_client.read(),
            drops,
        }
    }
}

/// Counts at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DatagramTotals {
    /// Flows that were opened.
    pub opened: u64,
    /// Closed flows by reason, in the order of [`FLOW_ENDS`].
    pub ended: [u64; FLOW_ENDS.len()],
    /// Closed flows whose server the policy would block, but for a dry run.
    pub would_block: u64,
    /// Sent to servers.
    pub to_server: Traffic,
    /// Sent to clients.
    pub to_client: Traffic,
    /// Datagrams that were not forwarded.
    pub drops: Drops,
}

impl DatagramTotals {
    /// Open flows.
    pub fn open(&self) -> u64 {
        let ended = self
            .ended
            .iter()
            .fold(0u64, |sum, count| sum.saturating_add(*count));
        self.opened.saturating_sub(ended)
    }

    /// Flows that were closed for this reason.
    pub fn ended_for(&self, reason: CloseReason) -> u64 {
        let mut ends = FLOW_ENDS.iter().zip(self.ended);
        ends.find(|(end, _)| **end == reason)
            .map_or(0, |(_, count)| count)
    }

    /// The sums of both.
    pub fn and(mut self, other: Self) -> Self {
        let each = self.ended.iter_mut().zip(other.ended);
        each.for_each(|(one, other)| *one = one.saturating_add(other));
        Self {
            opened: self.opened.saturating_add(other.opened),
            ended: self.ended,
            would_block: self.would_block.saturating_add(other.would_block),
            to_server: self.to_server.and(other.to_server),
            to_client: self.to_client.and(other.to_client),
            drops: self.drops.and(other.drops),
        }
    }
}
