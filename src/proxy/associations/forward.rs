//! The way of a batch: to datagrams of destinations or clients, to runs, to the sockets.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};

use super::association::{Association, End, no_socket};
use super::backend::{Backend, Paths, Received};
use super::destinations::{Header, Judge, Route, cause};
use super::lookups::Lookups;
use super::worker::{AssociationWorker, Common};
use crate::destination::Destination;
use crate::protocol::socks5::datagram::{self, header_length};
use crate::proxy::datagrams::backend::{Sends, Slots};
use crate::proxy::datagrams::record::{DropCause, Drops};
use crate::proxy::datagrams::runs::{Path, Piece, join};
use crate::proxy::datagrams::transmit::Outcome;
use crate::proxy::slab::Key;
use crate::sys::datagrams::Arrival;
use crate::sys::tcp;

/// Last destinations of a batch that are compared with that of a datagram before it is looked up.
const WINDOW: usize = 4;

/// The messages of a batch.
#[derive(Default)]
pub(super) struct Batch {
    received: Vec<Received>,
    to_servers: Sends,
    to_clients: Sends,
    /// Destinations of the batch, by the number of a piece's key.
    targets: Vec<Target>,
    /// The numbers of the destinations.
    numbers: HashMap<(Key, SocketAddr), usize>,
    /// Likewise, sources of datagrams to clients.
    sources: Vec<Source>,
    /// Lookups that have begun, with the client's address.
    pub(super) asks: Vec<(Key, Destination, IpAddr)>,
}

/// A destination of datagrams in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) association: Key,
    pub(super) to: SocketAddr,
    /// The longest datagrams that leave in runs.
    longest_segment: u16,
}

/// The source of datagrams to a client in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) association: Key,
    pub(super) header: Header,
    longest_segment: u16,
}

/// Makes pieces of the messages of a batch.
struct Sorter<'a> {
    judge: Judge<'a>,
    common: &'a Common,
    now: u64,
    lookups: &'a mut Lookups,
    to_servers: &'a mut Vec<Piece>,
    to_clients: &'a mut Vec<Piece>,
    targets: &'a mut Vec<Target>,
    numbers: &'a mut HashMap<(Key, SocketAddr), usize>,
    sources: &'a mut Vec<Source>,
    asks: &'a mut Vec<(Key, Destination, IpAddr)>,
    /// Of the present message.
    drops: Drops,
    /// Datagrams of the present message that pass or wait.
    valid: usize,
}

/// The route of the last datagram, and the number of its destination in the batch.
#[derive(Clone, Copy)]
struct Last<'b> {
    association: Key,
    header: &'b [u8],
    route: Route,
    lookup: Option<Key>,
    target: usize,
}

impl Sorter<'_> {
    /// Finds the routes of the datagrams of a client's message.
    fn of_client<'b>(
        &mut self,
        (key, association): (Key, &mut Association),
        slot: usize,
        arrival: &Arrival<'b>,
        last: &mut Option<Last<'b>>,
    ) {
        let segment = arrival.segment.max(1);
        let datagrams = arrival.bytes.len().div_ceil(segment).max(1);
        let is_client = arrival
            .source
            .is_some_and(|source| association.is_client(source, &self.common.own));
        if !is_client {
            self.drops.add(DropCause::WrongSource, datagrams as u64);
            return;
        }
        for number in 0..datagrams {
            let start = number * segment;
            let end = arrival.bytes.len().min(start + segment);
            let datagram = arrival.bytes.get(start..end).unwrap_or_default();
            let found = match *last {
                Some(last) if last.association == key && datagram.starts_with(last.header) => last,
                _ => match self.find((key, association), datagram, arrival.source) {
                    Ok(found) => *last.insert(found),
                    Err(cause) => {
                        self.drops.add(cause, 1);
                        continue;
                    }
                },
            };
            let payload = start + found.header.len();
            match found.route {
                Route::To(_) => {
                    self.valid += 1;
                    self.to_servers.push(Piece {
                        key: Key::from_number(found.target),
                        slot,
                        start: payload,
                        end,
                        segment: end.saturating_sub(payload) as u16,
                        tos: arrival.tos,
                    });
                }
                Route::Drop(cause) => self.drops.add(cause, 1),
                Route::Wait => {
                    let bytes = arrival.bytes.get(payload..end).unwrap_or_default();
                    let waits = found.lookup.is_some_and(|lookup| {
                        self.lookups
                            .wait(&mut association.lookups, lookup, bytes, arrival.tos)
                    });
                    match waits {
                        true => self.valid += 1,
                        false => self.drops.add(DropCause::OverLimit, 1),
                    }
                }
            }
        }
    }

    /// # Errors
    /// Why the datagram is dropped.
    fn find<'b>(
        &mut self,
        (key, association): (Key, &mut Association),
        datagram: &'b [u8],
        source: Option<SocketAddr>,
    ) -> Result<Last<'b>, DropCause> {
        let length = header_length(datagram).map_err(|error| cause(&error))?;
        let header = datagram.get(..length).unwrap_or_default();
        if let (None, Some(source)) = (association.client, source) {
            // An invalid datagram of another program on the client's host must not fix the port.
            datagram::read(header).map_err(|error| cause(&error))?;
            let connected = association.connect(source);
            connected.map_err(|_| DropCause::Unreachable)?;
        }
        let found = association.destinations.route(header, self.judge, self.now);
        let mut lookup = found.lookup;
        if let Some(destination) = found.ask {
            let lookups = &mut association.lookups;
            let begun = self
                .lookups
                .begin(lookups, key, header, destination.clone());
            if let Some(key) = begun {
                association.destinations.asks(header, key, self.now);
                self.asks.push((key, destination, association.client_ip()));
                lookup = Some(key);
            }
        }
        let target = match found.route {
            Route::To(address) => self.target((key, association), address),
            _ => 0,
        };
        Ok(Last {
            association: key,
            header,
            route: found.route,
            lookup,
            target,
        })
    }

    /// The number of a destination in the batch.
    fn target(&mut self, (key, association): (Key, &mut Association), to: SocketAddr) -> usize {
        let listed = self.targets.iter().rev().take(WINDOW);
        if let Some(place) = listed
            .into_iter()
            .position(|target| target.to == to && target.association == key)
        {
            return self.targets.len() - 1 - place;
        }
        // A destination is listed once: datagrams of two lists would be sent in any order.
        let number = self.targets.len();
        match self.numbers.entry((key, to)) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(place) => place.insert(number),
        };
        self.targets.push(Target {
            association: key,
            to,
            longest_segment: association.destinations.longest_segment(to),
        });
        number
    }

    /// Adds the datagrams of a destination's message. `last` is the source of the previous one, and its number or why its datagrams
    /// do not pass.
    fn of_server(
        &mut self,
        (key, association): (Key, &mut Association),
        slot: usize,
        arrival: &Arrival<'_>,
        last: &mut Option<(Key, SocketAddr, Result<usize, DropCause>)>,
    ) {
        let Some(source) = arrival.source.map(tcp::canonical) else {
            return;
        };
        let number = match *last {
            Some((of, known, number)) if known == source && of == key => number,
            _ => {
                let answers = association
                    .destinations
                    .answers(source, self.judge, self.now);
                let number = match (answers, self.common.any_answers) {
                    (true, _) => Ok(()),
                    (false, true) if self.judge.allows(source) => Ok(()),
                    (false, true) => Err(DropCause::Blocked),
                    (false, false) => Err(DropCause::Unasked),
                };
                let number = number.map(|()| {
                    self.sources.push(Source {
                        association: key,
                        header: Header::of(source),
                        longest_segment: association.longest_segment,
                    });
                    self.sources.len() - 1
                });
                *last = Some((key, source, number));
                number
            }
        };
        let piece = Piece {
            key: Key::from_number(number.unwrap_or(0)),
            slot,
            start: 0,
            end: arrival.bytes.len(),
            segment: arrival.segment as u16,
            tos: arrival.tos,
        };
        match number {
            Ok(_) => self.to_clients.extend(piece.each()),
            Err(cause) => self.drops.add(cause, piece.datagrams() as u64),
        }
    }
}

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
            to_servers,
            to_clients,
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
            asks,
            drops: Drops::default(),
            valid: 0,
        };
        let (slots, _) = backend.slots();
        let (mut last_of_client, mut last_of_server) = (None, None);
        for &Received { key, end, message } in received {
            let Some(association) = associations.get_mut(key) else {
                continue;
            };
            match message {
                Err(cause) => sorter.drops.add(cause, 1),
                Ok(slot) => {
                    let Some(arrival) = slots.arrival(slot) else {
                        continue;
                    };
                    let of = (key, &mut *association);
                    match end {
                        End::Client => sorter.of_client(of, slot, &arrival, &mut last_of_client),
                        End::V4 | End::V6 => {
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
            let end = End::of(target.to);
            let Some(association) = associations.get_mut(target.association) else {
                continue;
            };
            let Err(error) = association.open(end, target.association, backend, &common.own) else {
                continue;
            };
            let pieces = &mut batch.to_servers.pieces;
            let before = pieces.len();
            pieces.retain(|piece| piece.key != Key::from_number(number));
            let outcome = no_socket(&error, before - pieces.len());
            association.drop_datagrams(&outcome.drops, counters);
        }
    }

    /// Joins pieces to runs.
    fn plan(&mut self) {
        let Batch {
            to_servers,
            to_clients,
            targets,
            sources,
            ..
        } = &mut self.batch;
        let paths = Paths { targets, sources };
        // Stable: the order of a destination's datagrams stays.
        let pieces = &mut to_servers.pieces;
        if !pieces.is_sorted_by_key(|piece| piece.key) {
            pieces.sort_by_key(|piece| piece.key);
        }
        let path = |key: Key| {
            let target = paths.target(key);
            target.map_or_else(Path::default, |target| Path {
                to: Some(target.to),
                longest_segment: target.longest_segment,
                ..Path::default()
            })
        };
        join(pieces, path, &mut to_servers.runs);
        // The order of a client's datagrams stays, whatever their sources are.
        let pieces = &mut to_clients.pieces;
        let client = |piece: &Piece| paths.source(piece.key).map(|source| source.association);
        if !pieces.is_sorted_by_key(client) {
            pieces.sort_by_key(client);
        }
        let path = |key| {
            let source = paths.source(key);
            source.map_or_else(Path::default, |source| Path {
                longest_segment: source.longest_segment,
                prefix: source.header.bytes().len() as u16,
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
        let Batch {
            to_servers,
            to_clients,
            targets,
            sources,
            ..
        } = batch;
        let paths = Paths { targets, sources };
        backend.send(associations, paths, to_servers, to_clients)?;
        let mut all = Outcome::default();
        for (run, outcome) in to_servers.runs.iter().zip(&to_servers.outcomes) {
            all = all.and(*outcome);
            let Some(target) = paths.target(run.key) else {
                continue;
            };
            if let Some(association) = associations.get_mut(target.association) {
                association.to_server = association.to_server.and(outcome.sent);
                association.drops = association.drops.and(outcome.drops);
                if outcome.was_split {
                    association.destinations.on_split(target.to, run.segment);
                }
            }
        }
        counters.sent_to_server(all.sent);
        counters.dropped(&all.drops);
        all = Outcome::default();
        for (run, outcome) in to_clients.runs.iter().zip(&to_clients.outcomes) {
            all = all.and(*outcome);
            let Some(source) = paths.source(run.key) else {
                continue;
            };
            if let Some(association) = associations.get_mut(source.association) {
                association.to_client = association.to_client.and(outcome.sent);
                association.drops = association.drops.and(outcome.drops);
                if outcome.was_split {
                    let longest = run.segment.saturating_sub(1);
                    association.longest_segment = association.longest_segment.min(longest);
                }
                if outcome.sent.datagrams > 0 {
                    association.touch(source.association, timers, now, *idle);
                }
            }
        }
        counters.sent_to_client(all.sent);
        counters.dropped(&all.drops);
        Ok(())
    }
}
