//! The way of a batch: to datagrams of destinations or clients, to runs, to the sockets.

use std::io;
use std::mem;

use super::association::{end_of, no_socket};
use super::sort::{Batch, Sorter};
use super::worker::AssociationWorker;
use crate::proxy::datagrams::backend::{Backend, Received, Slots};
use crate::proxy::datagrams::record::{DropCause, Drops, Outcome};
use crate::proxy::datagrams::runs::{Path, Piece, join};
use crate::proxy::datagrams::sends::Sends;
use crate::proxy::datagrams::sockets::{End, SocketId};
use crate::proxy::slab::Key;

impl<B: Backend> AssociationWorker<B> {
    /// Forwards the datagrams of a pass.
    ///
    /// # Errors
    /// As [`AssociationWorker::run`].
    pub(super) fn forward(&mut self, now: u64) -> io::Result<()> {
        let mut received = mem::take(&mut self.batch.received);
        loop {
            received.clear();
            if !self.backend.receive(&mut self.associations, &mut received) {
                break;
            }
            self.sort(&received, now);
            self.open_sockets();
            self.plan();
            self.send(now)?;
            self.backend.release();
            self.ask();
        }
        self.batch.received = received;
        Ok(())
    }

    /// Makes pieces of the messages.
    fn sort(&mut self, received: &[Received], now: u64) {
        let Self {
            associations,
            backend,
            batch,
            common,
            counters,
            generation,
            idle,
            lookups,
            timers,
            ..
        } = self;
        let Batch {
            sends: [to_servers, to_clients],
            targets,
            numbers,
            sources,
            asks,
            ..
        } = batch;
        to_servers.clear();
        to_clients.clear();
        targets.clear();
        numbers.clear();
        sources.clear();
        let mut sorter = Sorter {
            judge: common.judge(*generation),
            common,
            now,
            lookups,
            to_servers: &mut to_servers.pieces,
            to_clients: &mut to_clients.pieces,
            targets,
            numbers,
            sources,
            headers: &mut to_clients.headers,
            asks,
            drops: Drops::default(),
            valid: 0,
        };
        let (slots, _) = backend.slots();
        let (mut last_of_client, mut last_of_server) = (None, None);
        for &Received { socket, message } in received {
            let SocketId { key, end } = socket;
            let Some(association) = associations.get_mut(key) else {
                continue;
            };
            match message {
                Err(errno) => sorter.drops.add(DropCause::of_errno(Some(errno)), 1),
                Ok(slot) => {
                    let Some(arrival) = slots.arrival(slot) else {
                        continue;
                    };
                    let of = (key, &mut *association);
                    match end {
                        End::Client => sorter.of_client(of, slot, &arrival, &mut last_of_client),
                        End::Server | End::ServerV6 => {
                            sorter.of_server(of, slot, &arrival, &mut last_of_server);
                        }
                    }
                }
            }
            let drops = mem::take(&mut sorter.drops);
            association.drop_datagrams(&drops, counters);
            if mem::take(&mut sorter.valid) > 0 {
                association.touch(key, timers, now, *idle);
            }
        }
    }

    /// Opens the sockets for destinations that are missing.
    fn open_sockets(&mut self) {
        let Self {
            associations,
            backend,
            batch,
            common,
            counters,
            ..
        } = self;
        for (number, target) in batch.targets.iter().enumerate() {
            let end = end_of(target.to);
            let Some(association) = associations.get_mut(target.association) else {
                continue;
            };
            let Err(error) = association.open(end, target.association, backend, &common.own) else {
                continue;
            };
            let [Sends { pieces, .. }, _] = &mut batch.sends;
            let before = pieces.len();
            pieces.retain(|piece| piece.key != Key::from_number(number));
            let outcome = no_socket(&error, before - pieces.len());
            association.drop_datagrams(&outcome.drops, counters);
        }
    }

    /// Joins pieces to runs.
    fn plan(&mut self) {
        let Batch {
            sends: [to_servers, to_clients],
            targets,
            sources,
            ..
        } = &mut self.batch;
        // Stable: the order of a destination's datagrams stays.
        let pieces = &mut to_servers.pieces;
        if !pieces.is_sorted_by_key(|piece| piece.key) {
            pieces.sort_by_key(|piece| piece.key);
        }
        let path = |key: Key| {
            let target = targets.get(key.number());
            target.map_or_else(Path::default, |target| Path {
                socket: SocketId {
                    key: target.association,
                    end: end_of(target.to),
                },
                to: Some(target.to),
                longest_segment: target.longest_segment,
                ..Path::default()
            })
        };
        join(pieces, path, &mut to_servers.runs);
        // The order of a client's datagrams stays, whatever their sources are.
        let pieces = &mut to_clients.pieces;
        let source = |key: Key| sources.get(key.number());
        let client = |piece: &Piece| source(piece.key).map(|source| source.association);
        if !pieces.is_sorted_by_key(client) {
            pieces.sort_by_key(client);
        }
        let path = |key| {
            source(key).map_or_else(Path::default, |source| Path {
                socket: SocketId {
                    key: source.association,
                    end: End::Client,
                },
                is_v6: source.is_v6,
                longest_segment: source.longest_segment,
                prefix: source.header_length,
                ..Path::default()
            })
        };
        join(pieces, path, &mut to_clients.runs);
    }

    /// Sends the runs of the batch.
    fn send(&mut self, now: u64) -> io::Result<()> {
        let Self {
            associations,
            backend,
            batch,
            counters,
            idle,
            timers,
            ..
        } = self;
        backend.send(associations, &mut batch.sends)?;
        let [to_servers, to_clients] = &batch.sends;
        let mut all = Outcome::default();
        for (run, outcome) in to_servers.runs.iter().zip(&to_servers.outcomes) {
            all = all.and(*outcome);
            let Path { socket, to, .. } = run.path;
            if let Some(association) = associations.get_mut(socket.key) {
                association.to_server = association.to_server.and(outcome.sent);
                association.drops = association.drops.and(outcome.drops);
                if outcome.was_split
                    && let Some(to) = to
                {
                    association.destinations.on_split(to, run.segment);
                }
            }
        }
        counters.sent_to_server(all.sent);
        counters.dropped(&all.drops);
        all = Outcome::default();
        for (run, outcome) in to_clients.runs.iter().zip(&to_clients.outcomes) {
            all = all.and(*outcome);
            let key = run.path.socket.key;
            if let Some(association) = associations.get_mut(key) {
                association.to_client = association.to_client.and(outcome.sent);
                association.drops = association.drops.and(outcome.drops);
                if outcome.was_split {
                    let longest = run.segment.saturating_sub(1);
                    association.longest_segment = association.longest_segment.min(longest);
                }
                if outcome.sent.datagrams > 0 {
                    association.touch(key, timers, now, *idle);
                }
            }
        }
        counters.sent_to_client(all.sent);
        counters.dropped(&all.drops);
        Ok(())
    }
}
