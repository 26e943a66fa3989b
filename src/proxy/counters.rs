//! The counters of a proxy's threads, which other threads may read at any time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::forwarding::{Cost, Learner};
use super::record::{BusyCause, CloseReason, ConnectionRecord, Decision};
use super::relay::{Counts, Forwarding, Via};
use crate::protocol::Kind;

/// The counters of one thread, its only writer.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
    busy: [AtomicU64; BusyCause::ALL.len()],
    protocols: [AtomicU64; Kind::ALL.len()],
    decisions: [AtomicU64; Decision::KINDS],
    to_server: AtomicU64,
    to_client: AtomicU64,
    spliced: AtomicU64,
    no_pipe: AtomicU64,
    pauses: AtomicU64,
    lookups: AtomicU64,
    choice: Choice,
}

/// How the bulk transfers of a thread are forwarded.
#[derive(Debug, Default)]
struct Choice {
    is_splice: AtomicBool,
    is_auto: AtomicBool,
    is_unavailable: AtomicBool,
    /// CPU time per byte by copying and by splicing, in ps; 0 if it was not measured.
    cpu: [AtomicU64; 2],
    /// Bytes a second, likewise.
    rate: [AtomicU64; 2],
}

pub(super) fn add(counter: &AtomicU64, some: u64) {
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

    /// Counts a client that is refused as busy.
    pub(super) fn busy(&self, cause: BusyCause) {
        count(&self.busy, cause.index());
    }

    pub(super) fn lookup_started(&self) {
        add(&self.lookups, 1);
    }

    pub(super) fn paused(&self) {
        add(&self.pauses, 1);
    }

    /// Counts relayed bytes of both directions, of which so many were spliced.
    pub(super) fn relayed(&self, [to_server, to_client]: [u64; 2], spliced: u64) {
        add(&self.to_server, to_server);
        add(&self.to_client, to_client);
        add(&self.spliced, spliced);
    }

    /// Records how bulk is forwarded, by `learner` if that is learnt.
    pub(super) fn chose(&self, forwarding: Forwarding, learner: Option<&Learner>) {
        let method = match (forwarding, learner) {
            (Forwarding::Splice, _) => Via::Pipe,
            (_, learner) => learner.map_or(Via::Copy, Learner::chosen),
        };
        let choice = &self.choice;
        let store = |to: &AtomicBool, value| to.store(value, Ordering::Relaxed);
        store(&choice.is_splice, method == Via::Pipe);
        store(&choice.is_auto, forwarding == Forwarding::Auto);
        let is_unavailable = learner.is_some_and(Learner::is_unavailable);
        store(&choice.is_unavailable, is_unavailable);
        if let Some(costs) = learner.and_then(Learner::costs) {
            let costs = [costs.copy, costs.splice].into_iter();
            for ((Cost { cpu, time }, to_cpu), to_rate) in costs.zip(&choice.cpu).zip(&choice.rate)
            {
                to_cpu.store((cpu * 1e3) as u64, Ordering::Relaxed);
                to_rate.store((1e9 / time) as u64, Ordering::Relaxed);
            }
        }
    }

    /// Counts a closed connection. Its bytes are counted already.
    pub(super) fn closed(&self, record: &ConnectionRecord) {
        count(&self.closed, record.reason.index());
        count(&self.decisions, record.info.decision.index());
        if let Some(protocol) = record.info.protocol {
            count(&self.protocols, protocol.index());
        }
        for Counts { no_pipe, .. } in [record.to_server, record.to_client] {
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
            busy: self.busy.each_ref().map(read),
            protocols: self.protocols.each_ref().map(read),
            decisions: self.decisions.each_ref().map(read),
            to_server: read(&self.to_server),
            to_client: read(&self.to_client),
            spliced: read(&self.spliced),
            no_pipe: read(&self.no_pipe),
            pauses: read(&self.pauses),
            lookups: read(&self.lookups),
            methods: self.choice.methods(),
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
    /// Clients that were refused as busy by cause, in the order of [`BusyCause::ALL`].
    pub busy: [u64; BusyCause::ALL.len()],
    /// Closed connections by the protocol of the request, in the order of [`Kind::ALL`].
    pub protocols: [u64; Kind::ALL.len()],
    /// Closed connections by decision, in the order of [`Decision::NAMES`].
    pub decisions: [u64; Decision::KINDS],
    /// Bytes sent to servers.
    pub to_server: u64,
    /// Bytes sent to clients.
    pub to_client: u64,
    /// Bytes in both directions that went through a pipe.
    pub spliced: u64,
    /// Chunks that were copied because no pipe was available, of closed connections.
    pub no_pipe: u64,
    /// Pauses in accepting for lack of file descriptors or memory.
    pub pauses: u64,
    /// Lookups of names.
    pub lookups: u64,
    /// How bulk transfers are forwarded now.
    pub methods: Methods,
}

/// How the bulk transfers of threads are forwarded. Pairs are of copying and of splicing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Methods {
    /// Threads that use each method.
    pub threads: [u64; 2],
    /// Threads that choose the method.
    pub auto: u64,
    /// Threads that found splicing unavailable.
    pub unavailable: u64,
    /// Threads that measured both methods.
    pub measured: u64,
    /// CPU time per byte in ps, the sum over the threads that measured it.
    pub cpu: [u64; 2],
    /// Bytes a second, the sum over the threads that measured it.
    pub rate: [u64; 2],
}

impl Choice {
    fn methods(&self) -> Methods {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let is = |flag: &AtomicBool| u64::from(flag.load(Ordering::Relaxed));
        let splices = is(&self.is_splice);
        let cpu = self.cpu.each_ref().map(read);
        Methods {
            threads: [1 - splices, splices],
            auto: is(&self.is_auto),
            unavailable: is(&self.is_unavailable),
            measured: u64::from(cpu.iter().all(|cpu| *cpu > 0)),
            cpu,
            rate: self.rate.each_ref().map(read),
        }
    }
}

impl Methods {
    /// Seconds of CPU time per GB by copying and by splicing, the mean over the threads that measured both.
    pub fn cpu_seconds_per_gb(&self) -> Option<[f64; 2]> {
        let threads = self.measured as f64 * 1e3;
        (self.measured > 0).then(|| self.cpu.map(|sum| sum as f64 / threads))
    }

    fn and(self, other: Self) -> Self {
        Self {
            threads: each(self.threads, other.threads),
            auto: self.auto + other.auto,
            unavailable: self.unavailable + other.unavailable,
            measured: self.measured + other.measured,
            cpu: each(self.cpu, other.cpu),
            rate: each(self.rate, other.rate),
        }
    }
}

/// The sums of both.
fn each<const N: usize>(mut one: [u64; N], other: [u64; N]) -> [u64; N] {
    one.iter_mut()
        .zip(other)
        .for_each(|(one, other)| *one += other);
    one
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
        Self {
            accepted: self.accepted + other.accepted,
            closed: each(self.closed, other.closed),
            busy: each(self.busy, other.busy),
            protocols: each(self.protocols, other.protocols),
            decisions: each(self.decisions, other.decisions),
            to_server: self.to_server + other.to_server,
            to_client: self.to_client + other.to_client,
            spliced: self.spliced + other.spliced,
            no_pipe: self.no_pipe + other.no_pipe,
            pauses: self.pauses + other.pauses,
            lookups: self.lookups + other.lookups,
            methods: self.methods.and(other.methods),
        }
    }
}
