//! The way of a message: to datagrams of destinations or the client, to runs, to the socket.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use super::association::{Association, End, no_socket};
use super::destinations::{Header, Judge, Route, cause};
use super::lookups::Lookups;
use super::worker::AssociationWorker;
use crate::destination::Destination;
use crate::protocol::socks5::datagram::{self, header_length};
use crate::proxy::datagrams::record::{DropCause, Drops};
use crate::proxy::datagrams::runs::{Path, Piece, Run, join};
use crate::proxy::datagrams::transmit::{Outcome, Transmitter};
use crate::proxy::slab::Key;
use crate::sys::datagrams::{Arrival, Arrivals};
use crate::sys::tcp;

/// Messages of a batch.
const SLOTS: usize = 64;

/// Messages of a batch while they are long runs: they stay in the cache between receiving and sending.
const LONG_SLOTS: usize = 8;

/// Mean bytes of the messages of a batch from which the next one has [`LONG_SLOTS`].
const LONG: usize = 8_192;

/// Messages of a turn while other sockets are ready too.
const QUANTUM: usize = 16;

/// Destinations of a batch among which that of a datagram is searched. One that is not found is listed again.
const WINDOW: usize = 16;

/// The messages of a batch.
pub(super) struct Batch {
    arrivals: Arrivals,
    pieces: Vec<Piece>,
    runs: Vec<Run>,
    /// Destinations of the batch, by the number of a piece's key, with the longest datagrams that leave in runs.
    targets: Vec<(SocketAddr, u16)>,
    /// Likewise, the headers for sources.
    headers: Vec<Header>,
    pub(super) transmitter: Transmitter,
    /// Lookups that have begun, with the client's address.
    pub(super) asks: Vec<(Key, Destination, IpAddr)>,
    slots: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            arrivals: Arrivals::new(SLOTS),
            pieces: Vec::with_capacity(SLOTS),
            runs: Vec::with_capacity(SLOTS),
            targets: Vec::new(),
            headers: Vec::new(),
            transmitter: Transmitter::new(SLOTS),
            asks: Vec::new(),
            slots: SLOTS,
        }
    }

    /// Sets the slots of the next batch by those of this one.
    fn adapt(&mut self, count: usize, bytes: usize) {
        self.slots = match bytes > LONG * count.max(1) {
            true => LONG_SLOTS,
            false => SLOTS,
        };
    }
}

/// The outcome of a receive: the number of messages, and an ICMP error of an earlier datagram.
fn received(outcome: io::Result<usize>, most: usize) -> (usize, bool, Drops) {
    let mut drops = Drops::default();
    match outcome {
        Ok(count) => (count, count == most, drops),
        Err(error) => {
            match error.kind() {
                ErrorKind::WouldBlock => return (0, false, drops),
                ErrorKind::Interrupted => {}
                ErrorKind::ConnectionRefused => drops.add(DropCause::Refused, 1),
                _ => drops.add(DropCause::Unreachable, 1),
            }
            // Behind the error, which is reported once, there may be datagrams.
            (0, true, drops)
        }
    }
}

/// Finds the routes of a client's datagrams.
struct Router<'a> {
    judge: Judge<'a>,
    key: Key,
    client: IpAddr,
    now: u64,
    lookups: &'a mut Lookups,
    pieces: &'a mut Vec<Piece>,
    targets: &'a mut Vec<(SocketAddr, u16)>,
    asks: &'a mut Vec<(Key, Destination, IpAddr)>,
    drops: Drops,
    /// Datagrams that pass or wait.
    valid: usize,
}

/// The route of the last datagram, and the number of its destination in the batch.
#[derive(Clone, Copy)]
struct Last<'b> {
    header: &'b [u8],
    route: Route,
    lookup: Option<Key>,
    target: usize,
}

impl Router<'_> {
    /// Finds the routes of the datagrams of a message.
    fn message<'b>(
        &mut self,
        association: &mut Association,
        slot: usize,
        arrival: &Arrival<'b>,
        last: &mut Option<Last<'b>>,
    ) {
        let segment = arrival.segment.max(1);
        let datagrams = arrival.bytes.len().div_ceil(segment).max(1);
        for number in 0..datagrams {
            let start = number * segment;
            let end = arrival.bytes.len().min(start + segment);
            let datagram = arrival.bytes.get(start..end).unwrap_or_default();
            let found = match *last {
                Some(last) if datagram.starts_with(last.header) => last,
                _ => match self.find(association, datagram, arrival.source) {
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
                    self.pieces.push(Piece {
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
        association: &mut Association,
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
                .begin(lookups, self.key, header, destination.clone());
            if let Some(key) = begun {
                association.destinations.asks(header, key, self.now);
                self.asks.push((key, destination, self.client));
                lookup = Some(key);
            }
        }
        let target = match found.route {
            Route::To(address) => self.target(association, address),
            _ => 0,
        };
        Ok(Last {
            header,
            route: found.route,
            lookup,
            target,
        })
    }

    /// The number of a destination in the batch.
    fn target(&mut self, association: &mut Association, address: SocketAddr) -> usize {
        let listed = self.targets.iter().rev().take(WINDOW);
        if let Some(place) = listed
            .into_iter()
            .position(|(listed, _)| *listed == address)
        {
            return self.targets.len() - 1 - place;
        }
        let longest = association.destinations.longest_segment(address);
        self.targets.push((address, longest));
        self.targets.len() - 1
    }
}

impl AssociationWorker {
    /// Messages of a turn.
    fn quantum(&self) -> usize {
        match self.ready.is_empty() {
            true => self.batch.slots,
            false => self.batch.slots.min(QUANTUM),
        }
    }

    /// Receives from the client and sends to destinations. Whether there may be more.
    pub(super) fn read_client(&mut self, key: Key, now: u64) -> bool {
        let most = self.quantum();
        let Self {
            associations,
            batch,
            lookups,
            common,
            generation,
            ..
        } = self;
        let judge = common.judge(*generation);
        let Some(association) = associations.get_mut(key) else {
            return false;
        };
        let Some(relay) = association.socket(End::Client) else {
            return false;
        };
        let outcome = batch.arrivals.receive(relay.as_fd(), 0, most);
        let (count, has_more, drops) = received(outcome, most);
        batch.pieces.clear();
        batch.targets.clear();
        let mut router = Router {
            judge,
            key,
            client: association.client_ip(),
            now,
            lookups,
            pieces: &mut batch.pieces,
            targets: &mut batch.targets,
            asks: &mut batch.asks,
            drops,
            valid: 0,
        };
        let (mut last, mut bytes) = (None, 0);
        for slot in 0..count {
            let Some(arrival) = batch.arrivals.get(slot) else {
                continue;
            };
            bytes += arrival.bytes.len();
            let is_client = arrival
                .source
                .is_some_and(|source| association.is_client(source, &common.own));
            if !is_client {
                let datagrams = arrival.bytes.len().div_ceil(arrival.segment.max(1)).max(1);
                router.drops.add(DropCause::WrongSource, datagrams as u64);
                continue;
            }
            router.message(association, slot, &arrival, &mut last);
        }
        let (drops, valid) = (router.drops, router.valid);
        association.drop_datagrams(&drops, &self.counters);
        self.batch.adapt(count, bytes);
        self.send_to_servers(key);
        if !self.batch.asks.is_empty() {
            self.ask();
        }
        if valid > 0 {
            self.touch(key, now);
        }
        has_more
    }

    /// Sends the pieces of the batch to their destinations.
    fn send_to_servers(&mut self, key: Key) {
        let Self {
            associations,
            batch,
            common,
            poll,
            counters,
            ..
        } = self;
        let Batch {
            arrivals,
            pieces,
            runs,
            targets,
            transmitter,
            ..
        } = batch;
        let Some(association) = associations.get_mut(key) else {
            return;
        };
        // Stable: the order of a destination's datagrams stays.
        if !pieces.is_sorted_by_key(|piece| piece.key) {
            pieces.sort_by_key(|piece| piece.key);
        }
        runs.clear();
        let path = |key: Key| {
            let target = targets.get(key.number());
            target.map_or_else(Path::default, |(to, longest)| Path {
                to: Some(*to),
                longest_segment: *longest,
                ..Path::default()
            })
        };
        join(pieces, path, runs);
        let family = |run: &Run| run.path.to.map(End::of);
        for of_family in runs.chunk_by(|one, other| family(one) == family(other)) {
            let Some(end) = of_family.first().and_then(family) else {
                continue;
            };
            let mut all = Outcome::default();
            let mut split: Option<(SocketAddr, u16)> = None;
            match association.outgoing(end, key, poll.registry(), &common.own) {
                Ok(socket) => transmitter.send(
                    socket.as_fd(),
                    end == End::V6,
                    arrivals,
                    (pieces, of_family),
                    &mut |run, outcome| {
                        all = all.and(outcome);
                        if let (true, Some(to)) = (outcome.was_split, run.path.to) {
                            split = Some((to, run.segment));
                        }
                    },
                ),
                Err(error) => {
                    let datagrams = of_family.iter().map(|run| run.datagrams).sum();
                    all = no_socket(&error, datagrams);
                }
            }
            association.count_to_server(all, counters);
            if let Some((to, segment)) = split {
                association.destinations.on_split(to, segment);
            }
        }
    }

    /// Receives from destinations and sends to the client. Whether there may be more.
    pub(super) fn read_server(&mut self, end: End, key: Key, now: u64) -> bool {
        let most = self.quantum();
        let Self {
            associations,
            batch,
            common,
            generation,
            counters,
            ..
        } = self;
        let judge = common.judge(*generation);
        let Some(association) = associations.get_mut(key) else {
            return false;
        };
        let (Some(socket), Some(client)) = (association.socket(end), association.client) else {
            return false;
        };
        let outcome = batch.arrivals.receive(socket.as_fd(), 0, most);
        let (count, has_more, mut drops) = received(outcome, most);
        batch.pieces.clear();
        batch.headers.clear();
        let (mut last, mut bytes) = (None, 0);
        for slot in 0..count {
            let Some(arrival) = batch.arrivals.get(slot) else {
                continue;
            };
            bytes += arrival.bytes.len();
            let Some(source) = arrival.source.map(tcp::canonical) else {
                continue;
            };
            let number = match last {
                Some((known, number)) if known == source => number,
                _ => {
                    let passes =
                        association.destinations.answers(source, judge, now) || common.any_answers;
                    let number = passes.then(|| {
                        batch.headers.push(Header::of(source));
                        batch.headers.len() - 1
                    });
                    last = Some((source, number));
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
                Some(_) => batch.pieces.extend(piece.each()),
                None => drops.add(DropCause::Unasked, piece.datagrams() as u64),
            }
        }
        let longest_segment = association.longest_segment;
        let Batch {
            arrivals,
            pieces,
            runs,
            headers,
            transmitter,
            ..
        } = batch;
        runs.clear();
        let header = |key: Key| headers.get(key.number()).map_or(&[][..], Header::bytes);
        let path = |key| Path {
            longest_segment,
            prefix: header(key).len() as u16,
            ..Path::default()
        };
        join(pieces, path, runs);
        let (mut all, mut split) = (Outcome::default(), u16::MAX);
        if let Some(relay) = association.socket(End::Client) {
            transmitter.send_with_headers(
                relay.as_fd(),
                client.ip().to_canonical().is_ipv6(),
                arrivals,
                (pieces, runs),
                header,
                &mut |run, outcome| {
                    all = all.and(outcome);
                    if outcome.was_split {
                        split = split.min(run.segment.saturating_sub(1));
                    }
                },
            );
        }
        association.longest_segment = association.longest_segment.min(split);
        association.to_client = association.to_client.and(all.sent);
        counters.sent_to_client(all.sent);
        association.drop_datagrams(&all.drops.and(drops), counters);
        batch.adapt(count, bytes);
        if all.sent.datagrams > 0 {
            self.touch(key, now);
        }
        has_more
    }
}
