//! The way of a batch: from messages to pieces of flows, to runs, to the sockets.

use std::io;
use std::mem;
use std::os::fd::AsFd;

use super::backend::{Backend, Received, Slots};
use super::record::{DropCause, Outcome, Traffic};
use super::runs::{Path, Piece, join};
use super::sends::{Sends, payload};
use super::sockets::{End, Socket, SocketId};
use super::table::{Ends, Flow, FlowTable};
use super::worker::{Batch, DatagramWorker};
use crate::proxy::slab::Key;
use crate::sys::datagrams::Arrival;

/// The direction of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl<B: Backend> DatagramWorker<B> {
    /// Forwards the datagrams of a pass. Whether there are any.
    ///
    /// # Errors
    /// As [`DatagramWorker::run`].
    pub(super) fn forward(&mut self, now: u64) -> io::Result<bool> {
        let mut received = mem::take(&mut self.batch.received);
        let mut any = false;
        loop {
            received.clear();
            self.batch.sends.iter_mut().for_each(Sends::clear);
            if !self.backend.receive(&mut self.sockets, &mut received) {
                break;
            }
            any |= !received.is_empty();
            self.sort(&received, now)?;
            let sent = self.send(now)?;
            self.pace.add(now, received.len(), sent);
            self.backend.release();
        }
        self.batch.received = received;
        Ok(any)
    }

    /// Makes pieces of the messages.
    ///
    /// # Errors
    /// As recvmmsg(2) on the listener.
    fn sort(&mut self, received: &[Received], now: u64) -> io::Result<()> {
        let mut last = None;
        for &Received { socket, message } in received {
            match (socket.end, message) {
                (End::Client, Ok(slot)) => self.add_of_client(slot, &mut last, now),
                (End::Client, Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                (_, Ok(slot)) => self.add_of_server(socket.key, slot),
                (_, Err(errno)) => self.add_drop(socket.key, DropCause::of_errno(Some(errno))),
            }
        }
        Ok(())
    }

    /// `last` is the flow of the previous message.
    fn add_of_client(&mut self, slot: usize, last: &mut Option<(Ends, Key)>, now: u64) {
        let (slots, _) = self.backend.slots();
        let Some(arrival) = slots.arrival(slot) else {
            return;
        };
        let (Some(piece), Some(client)) = (whole(slot, &arrival), arrival.source) else {
            return;
        };
        let local = arrival.to;
        let ends = Ends { client, local };
        let key = match *last {
            Some((known, key)) if known == ends => key,
            _ => match self.flow_of(ends, now) {
                Ok(key) => key,
                Err(cause) => {
                    self.count_drops(cause, piece.datagrams());
                    return;
                }
            },
        };
        *last = Some((ends, key));
        self.add_to_server(Piece { key, ..piece });
    }

    /// Adds a piece to the batch, or sends its first datagram behind the flow's PROXY header and adds the rest.
    fn add_to_server(&mut self, piece: Piece) {
        let [Sends { pieces, .. }, _] = &mut self.batch.sends;
        let Some(flow) = self.sockets.flows.get_mut(piece.key) else {
            return;
        };
        let [longest, _] = flow.longest_segments;
        if flow.preamble.is_none() && piece.segment <= longest {
            pieces.push(piece);
            return;
        }
        let (slots, transmitter) = self.backend.slots();
        for one in piece.each() {
            let Some(preamble) = &flow.preamble else {
                pieces.push(one);
                continue;
            };
            let parts = [&**preamble, payload(slots, &one)];
            let (socket, is_v6) = (flow.socket.as_fd(), flow.server.is_ipv6());
            let outcome = transmitter.send_one(socket, is_v6, None, parts, one.tos);
            if outcome.sent.datagrams > 0 {
                flow.preamble = None;
            }
            self.counters.sent_to_server(outcome.sent);
            self.counters.dropped(&outcome.drops);
            flow.to_server = flow.to_server.and(outcome.sent);
            flow.drops.add_all(&outcome.drops);
        }
    }

    fn add_of_server(&mut self, key: Key, slot: usize) {
        let (slots, _) = self.backend.slots();
        let arrival = slots.arrival(slot);
        let piece = arrival.and_then(|arrival| Some((arrival, whole(slot, &arrival)?)));
        let (Some(flow), Some((arrival, piece))) = (self.sockets.flows.get_mut(key), piece) else {
            return;
        };
        if let Some(dropped) = arrival.drops {
            flow.count_queue_drops(dropped, &self.counters);
        }
        if !flow.is_from_server(arrival.source) {
            flow.count_drops(DropCause::Unasked, piece.datagrams() as u64, &self.counters);
            return;
        }
        let [_, Sends { pieces, .. }] = &mut self.batch.sends;
        let piece = Piece { key, ..piece };
        let [_, longest] = flow.longest_segments;
        match piece.segment <= longest {
            true => pieces.push(piece),
            false => pieces.extend(piece.each()),
        }
    }

    fn add_drop(&mut self, key: Key, cause: DropCause) {
        match self.sockets.flows.get_mut(key) {
            Some(flow) => flow.count_drops(cause, 1, &self.counters),
            None => self.count_drops(cause, 1),
        }
    }

    /// Sends the pieces of the batch. Returns what was sent.
    fn send(&mut self, now: u64) -> io::Result<Traffic> {
        let Self {
            batch: Batch { sends, .. },
            sockets,
            counters,
            backend,
            ..
        } = self;
        let [to_servers, to_clients] = sends;
        plan(to_servers, &mut sockets.flows, Way::ToServer, now);
        plan(to_clients, &mut sockets.flows, Way::ToClient, now);
        backend.send(sockets, sends)?;
        let [to_servers, to_clients] = sends;
        let there = account(to_servers, &mut sockets.flows, Way::ToServer);
        counters.sent_to_server(there.sent);
        counters.dropped(&there.drops);
        let back = account(to_clients, &mut sockets.flows, Way::ToClient);
        counters.sent_to_client(back.sent);
        counters.dropped(&back.drops);
        Ok(there.sent.and(back.sent))
    }
}

/// Joins pieces to runs.
fn plan(sends: &mut Sends, flows: &mut FlowTable<Socket>, way: Way, now: u64) {
    let Sends { pieces, runs, .. } = sends;
    // Stable: the order of a flow's datagrams stays.
    if !pieces.is_sorted_by_key(|piece| piece.key) {
        pieces.sort_by_key(|piece| piece.key);
    }
    let path = |key| {
        flows.touch(key, now);
        flows.get(key).map_or_else(Path::default, |flow| match way {
            Way::ToServer => Path {
                socket: SocketId::of_flow(key),
                is_v6: flow.server.is_ipv6(),
                longest_segment: flow.longest_segments[0],
                ..Path::default()
            },
            Way::ToClient => Path {
                socket: SocketId::LISTENER,
                to: Some(flow.ends.client),
                from: flow.ends.local,
                longest_segment: flow.longest_segments[1],
                ..Path::default()
            },
        })
    };
    join(pieces, path, runs);
}

/// Adds outcomes to those of their flows. Returns all.
fn account(sends: &Sends, flows: &mut FlowTable<Socket>, way: Way) -> Outcome {
    let mut all = Outcome::default();
    for (run, outcome) in sends.runs.iter().zip(&sends.outcomes) {
        all = all.and(*outcome);
        let Some(flow) = flows.get_mut(run.key) else {
            continue;
        };
        let Flow {
            to_server,
            to_client,
            drops,
            longest_segments: [to_servers_longest, to_clients_longest],
            ..
        } = flow;
        let (traffic, longest) = match way {
            Way::ToServer => (to_server, to_servers_longest),
            Way::ToClient => (to_client, to_clients_longest),
        };
        *traffic = traffic.and(outcome.sent);
        drops.add_all(&outcome.drops);
        if outcome.was_split {
            *longest = run.segment.saturating_sub(1).min(*longest);
        }
    }
    all
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
