//! Sends the runs of a batch by one call, in both directions.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::{MOST_SENDS, Memory, Operation, Uring};
use crate::proxy::datagrams::backend::{Sends, Way};
use crate::proxy::datagrams::runs::Run;
use crate::proxy::datagrams::table::FlowTable;
use crate::proxy::datagrams::transmit::{Outcome, departure, payload};
use crate::sys::datagrams::{Queued, QueuedDepartures};
use crate::uring::ring::{Ring, RingWithMemory};

/// The messages that are being sent, by [`Way`].
pub(in crate::proxy) type Queues = [QueuedDepartures; 2];

/// Queues messages, each with the number of its chain and its socket. Those with equal numbers in a row are a chain.
///
/// # Errors
/// As io_uring_enter(2).
///
/// # Safety
/// As [`Ring::push`].
pub(in crate::proxy) unsafe fn push_chains(
    ring: &mut Ring,
    messages: impl Iterator<Item = (Queued, (usize, RawFd))>,
    user_data: impl Iterator<Item = u64>,
) -> io::Result<()> {
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let mut rows = messages.zip(user_data).peekable();
    while let Some(((message, (chain, socket)), user_data)) = rows.next() {
        let continues = matches!(rows.peek(), Some(((_, (next, _)), _)) if *next == chain);
        let flags = match continues {
            true => squeue::Flags::IO_LINK,
            false => squeue::Flags::empty(),
        };
        let request = match message {
            // A message is shorter than 4 GiB.
            Queued::Plain(payload, length) => {
                let send = opcode::Send::new(Fd(socket), payload, length as u32);
                send.flags(FLAGS).build()
            }
            Queued::Message(header) => {
                let send = opcode::SendMsg::new(Fd(socket), header);
                send.flags(FLAGS as u32).build()
            }
        };
        let request = request.flags(flags).user_data(user_data);
        // SAFETY: the caller's obligation.
        unsafe { ring.push(&request)? };
    }
    Ok(())
}

/// The results of the sends of a batch.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Results {
    /// By the place of a run: bytes, or a negative errno.
    pub(in crate::proxy) of_runs: Vec<i32>,
    pub(in crate::proxy) in_flight: usize,
}

impl Results {
    pub(in crate::proxy) fn start(&mut self, runs: usize) {
        self.of_runs.clear();
        self.of_runs.resize(runs, -libc::ECANCELED);
        self.in_flight = runs;
    }

    /// A send has completed.
    pub(in crate::proxy) fn set(&mut self, place: usize, result: i32) {
        if let Some(place) = self.of_runs.get_mut(place) {
            *place = result;
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }
}

impl Uring {
    /// # Errors
    /// As io_uring_enter(2).
    pub(super) fn send_all(
        &mut self,
        flows: &FlowTable<UdpSocket>,
        to_servers: &mut Sends,
        to_clients: &mut Sends,
    ) -> io::Result<()> {
        let first_to_client = to_servers.runs.len();
        let count = first_to_client + to_clients.runs.len();
        if count == 0 {
            return Ok(());
        }
        self.results.start(count);
        if count > MOST_SENDS {
            // Long datagrams on a path that refuses runs of them.
            self.results.in_flight = 0;
        } else {
            // A chain must not be submitted in two parts.
            if self.ring.ring.room() < count {
                self.ring.ring.enter()?;
            }
            self.queue(Way::ToServer, flows, to_servers, 0)?;
            self.queue(Way::ToClient, flows, to_clients, first_to_client)?;
        }
        while self.results.in_flight > 0 {
            let sends = self.results.in_flight;
            self.ring.ring.submit_and_wait(sends, u64::MAX)?;
            self.reap()?;
        }
        self.finish(Way::ToServer, flows, to_servers, 0);
        self.finish(Way::ToClient, flows, to_clients, first_to_client);
        Ok(())
    }

    /// Queues the sends of one direction.
    fn queue(
        &mut self,
        way: Way,
        flows: &FlowTable<UdpSocket>,
        sends: &Sends,
        first: usize,
    ) -> io::Result<()> {
        let RingWithMemory { ring, memory } = &mut self.ring;
        let Sends { pieces, runs, .. } = sends;
        let Memory {
            messages,
            queues: [to_servers, to_clients],
            ..
        } = &mut **memory;
        let messages = &*messages;
        let departures = runs.iter().map(|run| {
            let parts = pieces.get(run.pieces.clone()).unwrap_or_default().iter();
            departure(run, parts.map(|piece| payload(messages, piece)))
        });
        let flow_of = |run: &Run| flows.get(run.key);
        let is_v6 = |place: usize| {
            let flow = runs.get(place).and_then(flow_of);
            flow.is_some_and(|flow| flow.server.is_ipv6())
        };
        let queue = match way {
            Way::ToServer => to_servers,
            Way::ToClient => to_clients,
        };
        let queued = queue.set(is_v6, departures);
        let listener = self.listener.as_raw_fd();
        let sockets = runs.iter().map(|run| {
            let socket = match way {
                Way::ToServer => flow_of(run).map_or(-1, |flow| flow.socket.as_raw_fd()),
                Way::ToClient => listener,
            };
            (run.key.number(), socket)
        });
        let user_data = (first..).map(|place| Operation::Send(place).user_data());
        // SAFETY: a header points to arrays of the queue, which does not change, and to received messages, which are
        // released after the sends have completed. Both outlive the ring.
        unsafe { push_chains(ring, queued.zip(sockets), user_data) }
    }

    /// Sets outcomes. Sends the runs of a flow anew from the first one on that failed.
    fn finish(&mut self, way: Way, flows: &FlowTable<UdpSocket>, sends: &mut Sends, first: usize) {
        let results = self.results.of_runs.get(first..).unwrap_or_default();
        let (pieces, runs, mut add) = sends.split();
        for (of_flow, results) in chains(runs, results) {
            let failed = results.iter().position(|result| *result < 0);
            let (sent, rest) = of_flow.split_at(failed.unwrap_or(of_flow.len()));
            for run in sent {
                add(run, Outcome::sent(run.datagrams, run.bytes));
            }
            let (Some(run), Some(errno)) = (rest.first(), failed.and_then(|at| results.get(at)))
            else {
                continue;
            };
            let Some(flow) = flows.get(run.key) else {
                continue;
            };
            // A cancelled send was not attempted.
            let error = (*errno != -libc::ECANCELED).then(|| io::Error::from_raw_os_error(-errno));
            let (socket, is_v6): (BorrowedFd<'_>, bool) = match way {
                Way::ToServer => (flow.socket.as_fd(), flow.server.is_ipv6()),
                Way::ToClient => (self.listener.as_fd(), self.is_v6),
            };
            let messages = &self.ring.memory.messages;
            self.transmitter
                .send_after(error, socket, is_v6, messages, (pieces, rest), &mut add);
        }
    }
}

/// The runs of each flow with their results.
pub(in crate::proxy) fn chains<'a>(
    runs: &'a [Run],
    mut results: &'a [i32],
) -> impl Iterator<Item = (&'a [Run], &'a [i32])> {
    let each = runs.chunk_by(|one, other| one.key == other.key);
    each.map(move |of_flow| {
        let (some, rest) = results.split_at_checked(of_flow.len()).unwrap_or_default();
        results = rest;
        (of_flow, some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::datagrams::runs::{Path, Piece, join};
    use crate::proxy::slab::Key;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_chain_has_all_runs_of_a_flow_and_their_results(lengths in prop::collection::vec(0usize..5, 0..10)) {
            let flows = (0..).zip(&lengths);
            let pieces: Vec<_> = flows.flat_map(|(flow, &length)| {
                (0..length).map(move |slot| Piece {
                    key: Key::from_number(flow),
                    slot,
                    start: 0,
                    end: 1,
                    segment: 1,
                    tos: 0,
                })
            }).collect();
            let mut runs = Vec::new();
            join(&pieces, |_| Path::default(), &mut runs);
            prop_assert_eq!(runs.len(), pieces.len());
            let results: Vec<i32> = (0..).take(runs.len()).collect();
            let mut next = 0;
            let mut left = lengths.iter().filter(|length| **length > 0);
            for (of_flow, results) in chains(&runs, &results) {
                prop_assert_eq!(Some(&of_flow.len()), left.next());
                prop_assert_eq!(of_flow.len(), results.len());
                for (run, result) in of_flow.iter().zip(results) {
                    prop_assert_eq!((run.key, *result), (of_flow[0].key, next));
                    next += 1;
                }
            }
            prop_assert!(left.next().is_none() && next as usize == runs.len());
        }
    }
}
