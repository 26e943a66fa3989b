//! The counters of a thread that serves associations, which other threads may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::proxy::counters::add;
use crate::proxy::datagrams::counters::TrafficCounter;
use crate::proxy::datagrams::record::{DropCause, Drops, Traffic};

/// The counters of one thread, its only writer, apart from `opened` and `refused`.
#[derive(Debug, Default)]
pub struct AssociationCounters {
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    to_server: TrafficCounter,
    to_client: TrafficCounter,
    drops: [AtomicU64; DropCause::ALL.len()],
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl AssociationCounters {
    /// Any thread may call it.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        add(&self.closed, 1);
    }

    /// Any thread may call it.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent_to_server(&self, traffic: Traffic) {
        self.to_server.add(traffic);
    }

    pub(super) fn sent_to_client(&self, traffic: Traffic) {
        self.to_client.add(traffic);
    }

    pub(super) fn dropped(&self, drops: &Drops) {
        for (count, cause) in self.drops.iter().zip(DropCause::ALL) {
            match drops.of(cause) {
                0 => {}
                some => add(count, some),
            }
        }
    }

    /// The counts so far.
    pub fn totals(&self) -> AssociationTotals {
        let mut drops = Drops::default();
        for (count, cause) in self.drops.iter().zip(DropCause::ALL) {
            drops.add(cause, read(count));
        }
        // Closed ones are read before opened ones, so that no more appear closed than opened.
        let closed = read(&self.closed);
        AssociationTotals {
            closed,
            opened: read(&self.opened),
            refused: read(&self.refused),
            to_server: self.to_server.read(),
            to_client: self.to_client.read(),
            drops,
        }
    }
}

/// Counts at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AssociationTotals {
    /// Associations that were opened.
    pub opened: u64,
    /// Associations that were closed.
    pub closed: u64,
    /// Requests for an association that were refused: over a limit, or for lack of file descriptors or ports.
    pub refused: u64,
    /// Sent to destinations, without headers.
    pub to_server: Traffic,
    /// Sent to clients, without headers.
    pub to_client: Traffic,
    /// Datagrams that were dropped.
    pub drops: Drops,
}

impl AssociationTotals {
    /// Open associations.
    pub fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }

    /// The sums of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            opened: self.opened.saturating_add(other.opened),
            closed: self.closed.saturating_add(other.closed),
            refused: self.refused.saturating_add(other.refused),
            to_server: self.to_server.and(other.to_server),
            to_client: self.to_client.and(other.to_client),
            drops: self.drops.and(other.drops),
        }
    }
}
