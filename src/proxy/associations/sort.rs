//! Finds the routes of the messages of a batch, and makes pieces of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};

use super::association::Association;
use super::context::Common;
use super::destinations::{Judge, Route, cause};
use super::lookups::Lookups;
use crate::destination::Destination;
use crate::protocol::socks5::datagram::{self, header_length};
use crate::proxy::datagrams::backend::Received;
use crate::proxy::datagrams::record::{DropCause, Drops};
use crate::proxy::datagrams::runs::Piece;
use crate::proxy::datagrams::sends::{Headers, Sends};
use crate::proxy::slab::Key;
use crate::sys::datagrams::Arrival;
use crate::sys::tcp;

/// Last destinations of a batch that are compared with that of a datagram before it is looked up.
const WINDOW: usize = 4;

/// The messages of a batch.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) received: Vec<Received>,
    /// To destinations and to clients.
    pub(super) sends: [Sends; 2],
    /// Destinations of the batch, by the number of the key of a piece for one.
    pub(super) targets: Vec<Target>,
    /// The numbers of the destinations.
    pub(super) numbers: HashMap<(Key, SocketAddr), usize>,
    /// Sources of datagrams to clients, by the number of the key of a piece for a client.
    pub(super) sources: Vec<Source>,
    /// Lookups that have begun, with the client's address.
    pub(super) asks: Vec<(Key, Destination, IpAddr)>,
}

/// A destination of datagrams in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) association: Key,
    pub(super) to: SocketAddr,
    /// The longest datagrams that leave in runs.
    pub(super) longest_segment: u16,
}

/// The source of datagrams to a client in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) association: Key,
    pub(super) longest_segment: u16,
    /// The client is reached over IPv6.
    pub(super) is_v6: bool,
    pub(super) header_length: u16,
}

/// Makes pieces of the messages of a batch.
pub(super) struct Sorter<'a> {
    pub(super) judge: Judge<'a>,
    pub(super) common: &'a Common,
    pub(super) now: u64,
    pub(super) lookups: &'a mut Lookups,
    pub(super) to_servers: &'a mut Vec<Piece>,
    pub(super) to_clients: &'a mut Vec<Piece>,
    pub(super) targets: &'a mut Vec<Target>,
    pub(super) numbers: &'a mut HashMap<(Key, SocketAddr), usize>,
    pub(super) sources: &'a mut Vec<Source>,
    /// Of the sources.
    pub(super) headers: &'a mut Headers,
    pub(super) asks: &'a mut Vec<(Key, Destination, IpAddr)>,
    /// Of the present message.
    pub(super) drops: Drops,
    /// Datagrams of the present message that pass or wait.
    pub(super) valid: usize,
}

/// The route of the last datagram, and the number of its destination in the batch.
#[derive(Clone, Copy)]
pub(super) struct Last<'b> {
    association: Key,
    header: &'b [u8],
    route: Route,
    lookup: Option<Key>,
    target: usize,
}

impl Sorter<'_> {
    /// Finds the routes of the datagrams of a client's message.
    pub(super) fn of_client<'b>(
        &mut self,
        (key, association): (Key, &mut Association),
        slot: usize,
        arrival: &Arrival<'b>,
        last: &mut Option<Last<'b>>,
    ) {
        let segment = arrival.segment.max(1);
        let datagrams = arrival.datagrams();
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
    pub(super) fn of_server(
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
                    let (bytes, length) = datagram::encode(source);
                    self.headers.push(bytes.get(..length).unwrap_or_default());
                    self.sources.push(Source {
                        association: key,
                        longest_segment: association.longest_segment,
                        is_v6: association.has_v6_client(),
                        header_length: length as u16,
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
