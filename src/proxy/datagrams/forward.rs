//! The way of a batch: from messages to pieces of flows, to runs, to the sockets.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::AsFd;

use super::counters::DatagramCounters;
use super::record::{DropCause, Drops};
use super::runs::{Path, Piece, Run, join};
use super::table::{Ends, Flow};
use super::transmit::{Outcome, Transmitter, payload};
use super::worker::DatagramWorker;
use crate::proxy::slab::Key;
use crate::sys::datagrams::{Arrival, Arrivals};

/// Messages of a batch.
const SLOTS: usize = 64;

/// Messages of a batch while they are long runs: they stay in the cache between receiving and sending.
const LONG_SLOTS: usize = 8;

/// Mean bytes of the messages of a batch from which the next one has [`LONG_SLOTS`].
const LONG: usize = 8_192;

/// Most batches of clients, and of servers, in one pass of the loop.
pub(super) const BATCHES: usize = 8;

/// Most messages that a flow receives from its server in its turn.
const FLOW_QUANTUM: usize = 16;

/// The messages of a batch.
pub(super) struct Batch {
    pub(super) arrivals: Arrivals,
    pieces: Vec<Piece>,
    runs: Vec<Run>,
    pub(super) transmitter: Transmitter,
    /// Slots of the next batch of clients.
    pub(super) slots: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            arrivals: Arrivals::new(SLOTS),
            pieces: Vec::with_capacity(SLOTS),
            runs: Vec::with_capacity(SLOTS),
            transmitter: Transmitter::new(SLOTS),
            slots: SLOTS,
        }
    }
}

impl DatagramWorker {
    /// Forwards the messages of a batch of clients.
    pub(super) fn forward_to_servers(&mut self, count: usize, now: u64) {
        let (mut bytes, mut last) = (0, None);
        self.batch.pieces.clear();
        for slot in 0..count {
            let Some(arrival) = self.batch.arrivals.get(slot) else {
                continue;
            };
            let Some(piece) = whole(slot, &arrival) else {
                continue;
            };
            bytes += piece.bytes();
            let Some(client) = arrival.source else {
                continue;
            };
            let local = arrival.to;
            let ends = Ends { client, local };
            let key = match last {
                Some((known, key)) if known == ends => key,
                _ => match self.flow_of(ends, now) {
                    Ok(key) => key,
                    Err(cause) => {
                        self.count_drops(cause, piece.datagrams());
                        continue;
                    }
                },
            };
            last = Some((ends, key));
            self.add_piece(Piece { key, ..piece });
        }
        self.batch.slots = match bytes > LONG * count.max(1) {
            true => LONG_SLOTS,
            false => SLOTS,
        };
        let Self {
            batch,
            flows,
            counters,
            ..
        } = self;
        let Batch {
            arrivals,
            pieces,
            runs,
            transmitter,
            ..
        } = batch;
        // Stable: the order of a flow's datagrams stays.
        if !pieces.is_sorted_by_key(|piece| piece.key) {
            pieces.sort_by_key(|piece| piece.key);
        }
        runs.clear();
        let path = |key| Path {
            longest_segment: flows.get(key).map_or(0, |flow| flow.longest_segments[0]),
            ..Path::default()
        };
        join(pieces, path, runs);
        for of_flow in runs.chunk_by(|one, other| one.key == other.key) {
            let Some(key) = of_flow.first().map(|run| run.key) else {
                continue;
            };
            flows.touch(key, now);
            let Some(flow) = flows.get(key) else {
                continue;
            };
            let (mut all, mut split_from) = (Outcome::default(), u16::MAX);
            let is_v6 = flow.server.is_ipv6();
            let runs = (&**pieces, of_flow);
            transmitter.send(
                flow.socket.as_fd(),
                is_v6,
                arrivals,
                runs,
                &mut |run, outcome| {
                    all = all.and(outcome);
                    if outcome.was_split {
                        split_from = split_from.min(run.segment);
                    }
                },
            );
            if let Some(flow) = flows.get_mut(key) {
                count_to_server(flow, counters, all);
                if all.was_split {
                    flow.longest_segments[0] = split_from.saturating_sub(1);
                }
            }
        }
    }

    /// Adds a piece to the batch, or sends its first datagram behind the flow's PROXY header and adds the rest.
    fn add_piece(&mut self, piece: Piece) {
        let Batch {
            arrivals,
            pieces,
            transmitter,
            ..
        } = &mut self.batch;
        let Some(flow) = self.flows.get_mut(piece.key) else {
            return;
        };
        let longest = flow.longest_segments[0];
        if flow.preamble.is_none() && piece.segment <= longest {
            pieces.push(piece);
            return;
        }
        for one in piece.each() {
            let Some(preamble) = &flow.preamble else {
                pieces.push(one);
                continue;
            };
            let parts = [&**preamble, payload(arrivals, &one)];
            let is_v6 = flow.server.is_ipv6();
            let outcome =
                transmitter.send_with_preamble(flow.socket.as_fd(), is_v6, parts, one.tos);
            if outcome.sent.datagrams > 0 {
                flow.preamble = None;
            }
            count_to_server(flow, &self.counters, outcome);
        }
    }

    /// Receives from servers and forwards to clients: one turn for each flow that is ready, up to so many batches.
    pub(super) fn read_servers(&mut self, now: u64) {
        self.batch.pieces.clear();
        let mut used = 0;
        let mut batches = 0;
        for _ in 0..self.ready.len() {
            if used == SLOTS {
                self.forward_to_clients(now);
                (used, batches) = (0, batches + 1);
            }
            if batches == BATCHES {
                break;
            }
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            used += self.read_server(key, used);
        }
        self.forward_to_clients(now);
    }

    /// Receives from a flow's server into slots from `first` on. Returns their number.
    fn read_server(&mut self, key: Key, first: usize) -> usize {
        let Some(flow) = self.flows.get_mut(key) else {
            return 0;
        };
        let Batch {
            arrivals, pieces, ..
        } = &mut self.batch;
        // A flow without competitors gets a whole batch, whose datagrams form longer runs.
        let quantum = (SLOTS / (self.ready.len() + 1)).max(FLOW_QUANTUM);
        let most = quantum.min(SLOTS - first);
        let count = match arrivals.receive(flow.socket.as_fd(), first, most) {
            Ok(count) => count,
            Err(error) => {
                // An error of an earlier datagram is reported once; behind it there may be datagrams.
                let mut drops = Drops::default();
                match error.kind() {
                    ErrorKind::WouldBlock => {}
                    ErrorKind::ConnectionRefused => drops.add(DropCause::Refused, 1),
                    ErrorKind::Interrupted => {}
                    _ => drops.add(DropCause::Unreachable, 1),
                }
                flow.drops = flow.drops.and(drops);
                self.counters.dropped(&drops);
                flow.is_ready = error.kind() != ErrorKind::WouldBlock;
                if flow.is_ready {
                    self.ready.push_back(key);
                }
                return 0;
            }
        };
        flow.is_ready = count == most;
        if flow.is_ready {
            self.ready.push_back(key);
        }
        let longest = flow.longest_segments[1];
        for slot in first..first + count {
            let Some(piece) = arrivals.get(slot).and_then(|arrival| whole(slot, &arrival)) else {
                continue;
            };
            let piece = Piece { key, ..piece };
            match piece.segment <= longest {
                true => pieces.push(piece),
                false => pieces.extend(piece.each()),
            }
        }
        count
    }

    /// Sends the pieces of the batch to their clients.
    fn forward_to_clients(&mut self, now: u64) {
        let Self {
            batch,
            flows,
            counters,
            listener,
            local,
            ..
        } = self;
        let Batch {
            arrivals,
            pieces,
            runs,
            transmitter,
            ..
        } = batch;
        runs.clear();
        let path = |key| {
            flows.get(key).map_or_else(Path::default, |flow| Path {
                to: Some(flow.ends.client),
                from: flow.ends.local,
                longest_segment: flow.longest_segments[1],
                ..Path::default()
            })
        };
        join(pieces, path, runs);
        for of_flow in runs.chunk_by(|one, other| one.key == other.key) {
            if let Some(run) = of_flow.first() {
                flows.touch(run.key, now);
            }
        }
        let is_v6 = local.is_ipv6();
        transmitter.send(
            listener.as_fd(),
            is_v6,
            arrivals,
            (pieces, runs),
            &mut |run, outcome| {
                counters.sent_to_client(outcome.sent);
                counters.dropped(&outcome.drops);
                if let Some(flow) = flows.get_mut(run.key) {
                    flow.to_client = flow.to_client.and(outcome.sent);
                    flow.drops = flow.drops.and(outcome.drops);
                    if outcome.was_split {
                        let [_, longest] = &mut flow.longest_segments;
                        *longest = run.segment.saturating_sub(1).min(*longest);
                    }
                }
            },
        );
        pieces.clear();
    }
}

/// A message as a piece of no flow yet; `None` if its end is lost.
fn whole(slot: usize, arrival: &Arrival<'_>) -> Option<Piece> {
    // A slot is longer than any datagram.
    let segment = u16::try_from(arrival.segment).ok()?;
    (!arrival.truncated).then_some(Piece {
        key: Key::from_number(0),
        slot,
        start: 0,
        end: arrival.bytes.len(),
        segment,
        tos: arrival.tos,
    })
}

fn count_to_server(flow: &mut Flow<UdpSocket>, counters: &DatagramCounters, outcome: Outcome) {
    counters.sent_to_server(outcome.sent);
    counters.dropped(&outcome.drops);
    flow.to_server = flow.to_server.and(outcome.sent);
    flow.drops = flow.drops.and(outcome.drops);
}
