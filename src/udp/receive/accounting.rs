//! The accounting of one stream: classifies each datagram and counts it.
//!
//! Every datagram of every run goes through [`StreamAccounting::datagram`], which allocates nothing. Foreign datagrams are counted
//! by kind and change nothing else. Latency and jitter are measured on first arrivals only (RFC 5560 counts duplicates apart), so
//! `latency.count` plus the latencies out of range is `unique`.

use std::mem;

use crate::stats::jitter::Jitter;
use crate::udp::latencies::Latencies;
use crate::udp::plan::sizes::SizePattern;
use crate::udp::receive::sequence::{Arrival, SequenceWindow};
use crate::udp::wire::header::{HEADER, Header, HeaderError, Kind};

/// Datagrams that belong to no stream of this run, by their fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Another token.
    pub token: u64,
    /// Shorter than a header.
    pub short: u64,
    /// An invalid header, or a header that contradicts the datagram's length or direction.
    pub malformed: u64,
}

/// The class of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classified {
    /// A data datagram, new or duplicate.
    Data(Header),
    /// A data datagram below the sequence window. Counted as late and as nothing else.
    Late,
    /// A request for credit, with the number of datagrams sent so far.
    Probe(u64),
    /// A clock exchange, with its number.
    Ping(u64),
    /// A response of this stream that is no longer awaited, such as the second one to a repeated probe.
    Response,
    /// A datagram of no stream of this run. Never answered.
    Foreign,
}

/// The accounting of one stream.
#[derive(Debug)]
pub struct StreamAccounting {
    token: u64,
    /// Bytes of a full datagram; no datagram is as long as this if sizes differ.
    datagram: usize,
    /// Bytes of the largest datagram.
    largest: usize,
    /// Sizes of the datagrams; `None` if all are full.
    sizes: Option<SizePattern>,
    /// This end sent probes, so a response is not foreign.
    expects_responses: bool,
    paced: bool,
    window: SequenceWindow,
    jitter: Jitter,
    latencies: Box<Latencies>,
    foreign: Foreign,
    bytes: u64,
    /// The earliest send stamp; `u64::MAX` before the first datagram.
    first_sent: u64,
    first_received: Option<u64>,
    last_received: Option<u64>,
}

impl StreamAccounting {
    /// For the stream with this token and `chunk` message bytes per datagram. Only a `paced` stream has latency from the intended
    /// send.
    pub fn new(token: u64, chunk: usize, paced: bool, latencies: Box<Latencies>) -> Self {
        Self {
            token,
            datagram: chunk + HEADER,
            largest: chunk + HEADER,
            sizes: None,
            expects_responses: false,
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

    /// Expects responses to probes and pings that this end sent.
    pub fn with_responses(self, expects_responses: bool) -> Self {
        Self {
            expects_responses,
            ..self
        }
    }

    /// Expects datagrams of these sizes, the largest of which is the chunk.
    pub fn with_sizes(self, sizes: Option<SizePattern>) -> Self {
        Self {
            datagram: match sizes {
                Some(_) => usize::MAX,
                None => self.datagram,
            },
            sizes,
            ..self
        }
    }

    /// Counts a datagram that arrived at `received`, in ns of the clock of the stamps.
    #[inline]
    pub fn datagram(&mut self, bytes: &[u8], received: u64) -> Classified {
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(HeaderError::Short) => {
                self.foreign.short += 1;
                return Classified::Foreign;
            }
            Err(HeaderError::Malformed) => return self.malformed(),
        };
        if header.token != self.token {
            self.foreign.token += 1;
            return Classified::Foreign;
        }
        match header.kind {
            Kind::Data if self.fits(&header, bytes.len()) => {
                self.data(&header, bytes.len(), received)
            }
            Kind::Probe if bytes.len() == HEADER => Classified::Probe(header.sequence),
            // A path probe sends pings as long as a data datagram.
            Kind::Ping if bytes.len() <= self.largest => Classified::Ping(header.sequence),
            Kind::Credit | Kind::Pong if self.expects_responses && bytes.len() == HEADER => {
                Classified::Response
            }
            _ => self.malformed(),
        }
    }

    /// Counts a message that the kernel truncated.
    pub fn truncated(&mut self) {
        self.foreign.malformed += 1;
    }

    fn malformed(&mut self) -> Classified {
        self.foreign.malformed += 1;
        Classified::Foreign
    }

    /// Only the last datagram of a stream may be shorter than the size of its sequence number; no datagram is empty.
    #[inline]
    fn fits(&self, header: &Header, length: usize) -> bool {
        length == self.datagram || self.has_size(header, length)
    }

    /// Whether a datagram that is not full has its size, or is a short last one.
    fn has_size(&self, header: &Header, length: usize) -> bool {
        let full = match &self.sizes {
            Some(sizes) => sizes.size(header.sequence) + HEADER,
            None => self.datagram,
        };
        length == full || (header.last && length > HEADER && length < full)
    }

    #[inline]
    fn data(&mut self, header: &Header, length: usize, received: u64) -> Classified {
        match self.window.record(header.sequence) {
            Arrival::InOrder | Arrival::Reordered => {}
            Arrival::Duplicate => return Classified::Data(*header),
            Arrival::Late => return Classified::Late,
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
        Classified::Data(*header)
    }

    /// Returns the latencies recorded so far, and records into `empty` from now on.
    pub fn exchange_latencies(&mut self, empty: Box<Latencies>) -> Box<Latencies> {
        mem::replace(&mut self.latencies, empty)
    }

    /// The counts so far.
    pub fn counts(&self) -> StreamCounts {
        StreamCounts {
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

    /// One above the highest sequence number received.
    #[inline]
    pub fn next(&self) -> u64 {
        self.window.next()
    }

    /// Receive stamp of the last first arrival, in ns.
    pub fn last_received(&self) -> Option<u64> {
        self.last_received
    }

    /// First arrivals so far.
    #[inline]
    pub fn unique(&self) -> u64 {
        self.window.unique()
    }

    /// First and further arrivals so far.
    pub fn received(&self) -> u64 {
        self.window.unique() + self.window.duplicates()
    }

    /// The counts, and the latencies since they were last exchanged.
    pub fn close(self) -> (StreamCounts, Box<Latencies>) {
        (self.counts(), self.latencies)
    }
}

/// The cumulative counts of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StreamCounts {
    /// First arrivals.
    pub unique: u64,
    /// Further arrivals of a sequence number.
    pub duplicates: u64,
    /// First arrivals after a higher sequence number.
    pub reordered: u64,
    /// Arrivals below the sequence window.
    pub late: u64,
    /// Foreign datagrams.
    pub foreign: Foreign,
    /// Message bytes of the first arrivals.
    pub bytes: u64,
    /// One above the highest sequence number received.
    pub next: u64,
    /// RFC 3550 jitter, in ns.
    pub jitter_ns: Option<f64>,
    /// The earliest send stamp received, in ns.
    pub first_sent: Option<u64>,
    /// Receive stamp of the first datagram, in ns.
    pub first_received: Option<u64>,
    /// Receive stamp of the last first arrival, in ns.
    pub last_received: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::sizes::Sizes;
    use proptest::prelude::*;

    const TOKEN: u64 = 77;
    const CHUNK: usize = 10;

    fn accounting() -> StreamAccounting {
        StreamAccounting::new(TOKEN, CHUNK, true, Box::default())
    }

    fn data(sequence: u64, sent: u64) -> Vec<u8> {
        let header = Header {
            sent,
            ..Header::bare(Kind::Data, TOKEN, sequence)
        };
        [header.encode().as_slice(), &[0; CHUNK]].concat()
    }

    #[test]
    fn foreign_datagrams_are_counted_apart_and_change_nothing_else() {
        let mut accounting = accounting();
        accounting.datagram(&data(0, 5), 9);
        let before = accounting.counts();
        let other = Header::bare(Kind::Data, TOKEN + 1, 1).encode();
        let response = Header::bare(Kind::Credit, TOKEN, 1).encode();
        let cut = &data(1, 5)[..HEADER + 3];
        let empty = Header {
            last: true,
            ..Header::bare(Kind::Data, TOKEN, 1)
        }
        .encode();
        let long = [data(1, 5), vec![0]].concat();
        for bytes in [&b"x"[..], &[0; 100], &other, &response, cut, &empty, &long] {
            assert_eq!(accounting.datagram(bytes, 10), Classified::Foreign);
        }
        let foreign = Foreign {
            token: 1,
            short: 1,
            malformed: 5,
        };
        assert_eq!(accounting.counts(), StreamCounts { foreign, ..before });
    }

    #[test]
    fn a_second_response_of_the_stream_is_not_foreign() {
        let mut accounting = accounting().with_responses(true);
        let before = accounting.counts();
        for kind in [Kind::Credit, Kind::Pong] {
            let response = Header::bare(kind, TOKEN, 1).encode();
            assert_eq!(accounting.datagram(&response, 10), Classified::Response);
        }
        assert_eq!(accounting.counts(), before);
    }

    #[test]
    fn only_the_last_datagram_may_be_short_and_its_bytes_count_exactly() {
        let mut accounting = accounting();
        let header = Header {
            last: true,
            ..Header::bare(Kind::Data, TOKEN, 0)
        };
        let short = [header.encode().as_slice(), &[0; 3]].concat();
        assert!(matches!(
            accounting.datagram(&short, 1),
            Classified::Data(_)
        ));
        assert_eq!(accounting.counts().bytes, 3);
    }

    #[test]
    fn each_datagram_has_the_size_of_its_sequence_number() {
        let sizes = SizePattern::new(&Sizes::Range(3, CHUNK));
        let mut accounting = accounting().with_sizes(Some(sizes.clone()));
        let of = |sequence, length| [&data(sequence, 5)[..HEADER], &vec![0; length][..]].concat();
        for sequence in 0..20 {
            let size = sizes.size(sequence);
            for wrong in [size - 1, size + 1, CHUNK + 1] {
                let classified = accounting.datagram(&of(sequence, wrong), 9);
                assert_eq!(classified, Classified::Foreign, "{sequence}: {wrong}");
            }
            assert!(matches!(
                accounting.datagram(&of(sequence, size), 9),
                Classified::Data(_)
            ));
        }
        let counts = accounting.counts();
        assert_eq!((counts.unique, counts.bytes), (20, sizes.bytes(20)));
        assert_eq!(counts.foreign.malformed, 60);
        let ping = Header::bare(Kind::Ping, TOKEN, 1).encode();
        let long = [&ping[..], &[0; CHUNK][..]].concat();
        assert_eq!(accounting.datagram(&long, 9), Classified::Ping(1));
    }

    #[test]
    fn latency_is_measured_from_the_actual_and_the_intended_send() {
        let mut accounting = accounting();
        let header = Header {
            sent: 1_000,
            lateness: 400,
            ..Header::bare(Kind::Data, TOKEN, 0)
        };
        accounting.datagram(&[header.encode().as_slice(), &[0; CHUNK]].concat(), 1_100);
        let (_, latencies) = accounting.close();
        assert_eq!(latencies.actual.summary().max, Some(100));
        assert_eq!(latencies.intended.summary().max, Some(500));
    }

    proptest! {
        /// The accounting identities over a simulated network that loses, duplicates and reorders datagrams.
        #[test]
        fn identities_hold_over_a_bad_network(
            fates in prop::collection::vec((0u8..4, 0usize..40), 1..500),
            foreign in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
        ) {
            let sent = fates.len() as u64;
            // Each datagram is lost, or arrives one to three times, each time up to 40 places late.
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
            let mut accounting = accounting();
            for (place, bytes) in &network {
                accounting.datagram(bytes, *place as u64 + 1_000);
            }
            let (counts, latencies) = accounting.close();
            prop_assert_eq!(sent, counts.unique + lost);
            prop_assert_eq!(ours, counts.unique + counts.duplicates);
            prop_assert_eq!(counts.late, 0);
            prop_assert_eq!(counts.bytes, counts.unique * CHUNK as u64);
            prop_assert_eq!(latencies.actual.count(), counts.unique);
            let found = counts.foreign;
            prop_assert_eq!(found.short + found.malformed + found.token, foreign.len() as u64);
        }

        #[test]
        fn no_bytes_panic(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..50)) {
            let mut accounting = accounting();
            for bytes in datagrams {
                accounting.datagram(&bytes, 1);
            }
        }
    }
}
