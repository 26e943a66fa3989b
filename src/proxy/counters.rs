//! The counters of a proxy's threads, which other threads may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

use super::record::{CloseReason, ConnectionRecord, Decision};
use super::relay::Counts;
use crate::protocol::Kind;

/// The counters of one thread, its only writer.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
    protocols: [AtomicU64; Kind::ALL.len()],
    decisions: [AtomicU64; Decision::KINDS],
    to_server: AtomicU64,
    to_client: AtomicU64,
    spliced: AtomicU64,
    no_pipe: AtomicU64,
    pauses: AtomicU64,
    lookups: AtomicU64,
}

fn add(counter: &AtomicU64, some: u64) {
    // With one writer, an atomic addition is not needed; it would cost 20 times as much.
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(some),
        Ordering::Relaxed,
    );
}

fn count(counters: &[AtomicU64], index: usize) {
    if let Some(counter) = counters.get(index) {
        add(counter, 1);
    }
}

impl Counters {
    pub(super) fn accepted(&self) {
        add(&self.accepted, 1);
    }

    pub(super) fn lookup_started(&self) {
        add(&self.lookups, 1);
    }

    pub(super) fn paused(&self) {
        add(&self.pauses, 1);
    }

    /// Counts relayed bytes of both directions.
    pub(super) fn relayed(&self, to_server: u64, to_client: u64) {
        add(&self.to_server, to_server);
        add(&self.to_client, to_client);
    }

    /// Counts a closed connection. Its bytes are counted already.
    pub(super) fn closed(&self, record: &ConnectionRecord) {
        count(&self.closed, record.reason.index());
        count(&self.decisions, record.info.decision.index());
        if let Some(protocol) = record.info.protocol {
            count(&self.protocols, protocol.index());
        }
        for Counts {
            spliced, no_pipe, ..
        } in [record.to_server, record.to_client]
        {
            add(&self.spliced, spliced);
            add(&self.no_pipe, no_pipe);
        }
    }

    /// Counts a closed connection whose address is unknown.
    pub(super) fn closed_unknown(&self, reason: CloseReason) {
        count(&self.closed, reason.index());
        count(&self.decisions, Decision::Undecided.index());
    }

    /// The counts so far.
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Closed connections are read before accepted ones, so that no more appear closed than accepted.
        let closed = self.closed.each_ref().map(read);
        Totals {
            accepted: read(&self.accepted),
            closed,
            protocols: self.protocols.each_ref().map(read),
            decisions: self.decisions.each_ref().map(read),
            to_server: read(&self.to_server),
            to_client: read(&self.to_client),
            spliced: read(&self.spliced),
            no_pipe: read(&self.no_pipe),
            pauses: read(&self.pauses),
            lookups: read(&self.lookups),
        }
    }
}

/// Counts at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Accepted clients.
    pub accepted: u64,
    /// Closed connections by reason, in the order of [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::ALL.len()],
    /// Closed connections by the protocol of the request, in the order of [`Kind::ALL`].
    pub protocols: [u64; Kind::ALL.len()],
    /// Closed connections by decision, in the order of [`Decision::NAMES`].
    pub decisions: [u64; Decision::KINDS],
    /// Bytes sent to servers.
    pub to_server: u64,
    /// Bytes sent to clients.
    pub to_client: u64,
    /// Bytes in both directions that went through a pipe, of closed connections.
    pub spliced: u64,
    /// Chunks that were copied because no pipe was available, of closed connections.
    pub no_pipe: u64,
    /// Pauses in accepting for lack of file descriptors or memory.
    pub pauses: u64,
    /// Lookups of names.
    pub lookups: u64,
}

impl Totals {
    /// Connections that were closed for this reason.
    pub fn ended(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason.index()).copied().unwrap_or(0)
    }

    /// Open connections.
    pub fn open(&self) -> u64 {
        self.accepted.saturating_sub(self.closed.iter().sum())
    }

    /// The sums of both.
    pub fn and(self, other: Self) -> Self {
        fn each<const N: usize>(mut one: [u64; N], other: [u64; N]) -> [u64; N] {
            one.iter_mut()
                .zip(other)
                .for_each(|(one, other)| *one += other);
            one
        }
        Self {
            accepted: self.accepted + other.accepted,
            closed: each(self.closed, other.closed),
            protocols: each(self.protocols, other.protocols),
            decisions: each(self.decisions, other.decisions),
            to_server: self.to_server + other.to_server,
            to_client: self.to_client + other.to_client,
            spliced: self.spliced + other.spliced,
            no_pipe: self.no_pipe + other.no_pipe,
            pauses: self.pauses + other.pauses,
            lookups: self.lookups + other.lookups,
        }
    }
}
