//! What the receiver makes of each datagram: ours or foreign, new or not, how late.
//!
//! Every datagram of every run goes through [`Account::datagram`]; it allocates nothing. Foreign ones
//! are counted by kind and touch nothing else. Latency and jitter are those of first arrivals
//! (RFC 5560 counts duplicates apart), so `latency.count` plus what was out of range is `unique`.

use std::mem;

use crate::stats::jitter::Jitter;
use crate::stats::latency::Latency;
use crate::udp::receive::sequence::{Arrival, SequenceWindow};
use crate::udp::wire::header::{HEADER, Header, Kind, NotOurs};

/// The latencies of a stretch of time. Boxed, because it changes hands between threads.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// From the actual send.
    pub actual: Latency,
    /// From the intended send; stays empty unless the run is paced.
    pub intended: Latency,
}

impl Latencies {
    /// Adds everything `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        self.actual.merge(&other.actual);
        self.intended.merge(&other.intended);
    }

    /// Empties both, keeping their memory.
    pub fn clear(&mut self) {
        self.actual.clear();
        self.intended.clear();
    }
}

/// Datagrams that belong to no stream of this run, by how they gave themselves away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Another run's token.
    pub token: u64,
    /// Shorter than a header.
    pub short: u64,
    /// No header of ours, or one that the datagram's length or direction contradicts.
    pub malformed: u64,
}

/// What a datagram was, as far as the receiver has something to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A piece of the message, accounted for.
    Data(Header),
    /// One whose number was given up: counted as late and as nothing else.
    Late,
    /// The sender asks for credit, having sent this many.
    Probe(u64),
    /// The sender asks for the time, with this number.
    Ping(u64),
    /// Not ours: counted, and never answered.
    Foreign,
}

/// One stream's account.
#[derive(Debug)]
pub struct Account {
    token: u64,
    /// Bytes of a full datagram.
    datagram: usize,
    paced: bool,
    window: SequenceWindow,
    jitter: Jitter,
    latencies: Box<Latencies>,
    foreign: Foreign,
    bytes: u64,
    /// The earliest stamp, or the largest number there is.
    first_sent: u64,
    first_received: Option<u64>,
    last_received: Option<u64>,
}

impl Account {
    /// Of the stream with this token and `chunk` message bytes a datagram. `paced` says whether
    /// latency from the intended send means anything.
    pub fn new(token: u64, chunk: usize, paced: bool, latencies: Box<Latencies>) -> Self {
        Self {
            token,
            datagram: chunk + HEADER,
            paced,
            window: SequenceWindow::default(),
            jitter: Jitter::default(),
            latencies,
            foreign: Foreign::default(),
            bytes: 0,
            first_sent: u64::MAX,
            first_received: None,
            last_received: None,
        }
    }

    /// Takes in a datagram received at `received`, in ns of the clock that the stamps are in.
    #[inline]
    pub fn datagram(&mut self, bytes: &[u8], received: u64) -> Seen {
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(NotOurs::Short) => {
                self.foreign.short += 1;
                return Seen::Foreign;
            }
            Err(NotOurs::Malformed) => return self.malformed(),
        };
        if header.token != self.token {
            self.foreign.token += 1;
            return Seen::Foreign;
        }
        match header.kind {
            Kind::Data if self.fits(&header, bytes.len()) => {
                self.data(&header, bytes.len(), received)
            }
            Kind::Probe if bytes.len() == HEADER => Seen::Probe(header.sequence),
            // A question may be as long as a datagram, to see whether that arrives.
            Kind::Ping if bytes.len() <= self.datagram => Seen::Ping(header.sequence),
            _ => self.malformed(),
        }
    }

    /// Counts a message of which the kernel cut off the end.
    pub fn truncated(&mut self) {
        self.foreign.malformed += 1;
    }

    fn malformed(&mut self) -> Seen {
        self.foreign.malformed += 1;
        Seen::Foreign
    }

    /// Only a stream's last datagram may be shorter than the others; none is empty.
    #[inline]
    fn fits(&self, header: &Header, length: usize) -> bool {
        length == self.datagram || (header.last && length > HEADER && length < self.datagram)
    }

    #[inline]
    fn data(&mut self, header: &Header, length: usize, received: u64) -> Seen {
        match self.window.record(header.sequence) {
            Arrival::InOrder | Arrival::Reordered => {}
            Arrival::Duplicate => return Seen::Data(*header),
            Arrival::Late => return Seen::Late,
        }
        self.bytes += (length - HEADER) as u64;
        self.first_sent = self.first_sent.min(header.sent);
        self.first_received.get_or_insert(received);
        self.last_received = Some(received);
        self.jitter.record(header.sent, received);
        self.latencies.actual.record_between(header.sent, received);
        if self.paced {
            let intended = header.sent.wrapping_sub(header.lateness);
            self.latencies.intended.record_between(intended, received);
        }
        Seen::Data(*header)
    }

    /// Takes the latencies recorded so far, and goes on recording into `empty`.
    pub fn exchange_latencies(&mut self, empty: Box<Latencies>) -> Box<Latencies> {
        mem::replace(&mut self.latencies, empty)
    }

    /// Everything counted so far. Cheap: plain numbers.
    pub fn tally(&self) -> Tally {
        Tally {
            unique: self.window.unique(),
            duplicates: self.window.duplicates(),
            reordered: self.window.reordered(),
            late: self.window.late(),
            foreign: self.foreign,
            bytes: self.bytes,
            next: self.window.next(),
            jitter_ns: self.jitter.ns(),
            first_sent: self.last_received.map(|_| self.first_sent),
            first_received: self.first_received,
            last_received: self.last_received,
        }
    }

    /// One above the highest sequence number seen.
    #[inline]
    pub fn next(&self) -> u64 {
        self.window.next()
    }

    /// First arrivals so far.
    #[inline]
    pub fn unique(&self) -> u64 {
        self.window.unique()
    }

    /// The account at its end: the figures, and the latencies since they were last exchanged.
    pub fn close(self) -> (Tally, Box<Latencies>) {
        (self.tally(), self.latencies)
    }
}

/// A stream's figures, cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// First arrivals.
    pub unique: u64,
    /// Further arrivals of the same number.
    pub duplicates: u64,
    /// First arrivals after a higher number.
    pub reordered: u64,
    /// Arrivals after their number was given up.
    pub late: u64,
    /// What was not ours.
    pub foreign: Foreign,
    /// Message bytes of the first arrivals.
    pub bytes: u64,
    /// One above the highest number seen.
    pub next: u64,
    /// RFC 3550 jitter, in ns.
    pub jitter_ns: Option<f64>,
    /// The earliest send stamp seen, in ns.
    pub first_sent: Option<u64>,
    /// When the first first arrival came, in ns.
    pub first_received: Option<u64>,
    /// When the last first arrival came, in ns.
    pub last_received: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: u64 = 77;
    const CHUNK: usize = 10;

    fn account() -> Account {
        Account::new(TOKEN, CHUNK, true, Box::default())
    }

    fn data(sequence: u64, sent: u64) -> Vec<u8> {
        let header = Header {
            sent,
            ..Header::bare(Kind::Data, TOKEN, sequence)
        };
        [header.encode().as_slice(), &[0; CHUNK]].concat()
    }

    #[test]
    fn foreign_datagrams_are_counted_apart_and_touch_nothing_else() {
        let mut account = account();
        account.datagram(&data(0, 5), 9);
        let before = account.tally();
        let other = Header::bare(Kind::Data, TOKEN + 1, 1).encode();
        let answer = Header::bare(Kind::Credit, TOKEN, 1).encode();
        let cut = &data(1, 5)[..HEADER + 3];
        let empty = Header {
            last: true,
            ..Header::bare(Kind::Data, TOKEN, 1)
        }
        .encode();
        let long = [data(1, 5), vec![0]].concat();
        for bytes in [&b"x"[..], &[0; 100], &other, &answer, cut, &empty, &long] {
            assert_eq!(account.datagram(bytes, 10), Seen::Foreign);
        }
        let foreign = Foreign {
            token: 1,
            short: 1,
            malformed: 5,
        };
        assert_eq!(account.tally(), Tally { foreign, ..before });
    }

    #[test]
    fn only_the_last_may_be_short_and_its_bytes_count_exactly() {
        let mut account = account();
        let header = Header {
            last: true,
            ..Header::bare(Kind::Data, TOKEN, 0)
        };
        let short = [header.encode().as_slice(), &[0; 3]].concat();
        assert!(matches!(account.datagram(&short, 1), Seen::Data(_)));
        assert_eq!(account.tally().bytes, 3);
    }

    #[test]
    fn latency_is_taken_from_the_actual_and_the_intended_send() {
        let mut account = account();
        let header = Header {
            sent: 1_000,
            lateness: 400,
            ..Header::bare(Kind::Data, TOKEN, 0)
        };
        account.datagram(&[header.encode().as_slice(), &[0; CHUNK]].concat(), 1_100);
        let (_, latencies) = account.close();
        assert_eq!(latencies.actual.summary().max, Some(100));
        assert_eq!(latencies.intended.summary().max, Some(500));
    }

    proptest! {
        /// The identities of the report over a simulated network that loses, repeats and reorders.
        #[test]
        fn identities_hold_over_a_bad_network(
            fates in prop::collection::vec((0u8..4, 0usize..40), 1..500),
            foreign in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
        ) {
            let sent = fates.len() as u64;
            // Each datagram is lost, or arrives once to three times, each time up to 40 places late.
            let mut network: Vec<(usize, Vec<u8>)> = Vec::new();
            let mut lost = 0;
            for (sequence, &(copies, delay)) in fates.iter().enumerate() {
                lost += u64::from(copies == 0);
                for copy in 0..copies {
                    let place = sequence + delay * usize::from(copy + 1);
                    network.push((place, data(sequence as u64, sequence as u64)));
                }
            }
            let ours = network.len() as u64;
            network.extend(foreign.iter().cloned().enumerate());
            network.sort_by_key(|&(place, _)| place);
            let mut account = account();
            for (place, bytes) in &network {
                account.datagram(bytes, *place as u64 + 1_000);
            }
            let (tally, latencies) = account.close();
            prop_assert_eq!(sent, tally.unique + lost);
            prop_assert_eq!(ours, tally.unique + tally.duplicates);
            prop_assert_eq!(tally.late, 0);
            prop_assert_eq!(tally.bytes, tally.unique * CHUNK as u64);
            prop_assert_eq!(latencies.actual.count(), tally.unique);
            let told = tally.foreign;
            prop_assert_eq!(told.short + told.malformed + told.token, foreign.len() as u64);
        }

        #[test]
        fn no_bytes_panic(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..50)) {
            let mut account = account();
            for bytes in datagrams {
                account.datagram(&bytes, 1);
            }
        }
    }
}
