//! A stream's accounting against a simple model of it, over arbitrary bytes and over valid datagrams with sequence numbers near, far
//! and wrong, some of them with a changed byte.
//!
//! The input is a sequence of steps; see [`Network::next`].

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use wirebench::udp::receive::accounting::{StreamAccounting, Classified, StreamCounts};
use wirebench::udp::wire::header::{HEADER, Header, Kind, MAX_48_BIT};
use wirebench::udp::receive::sequence::REACH;

const TOKEN: u64 = 77;
const CHUNK: usize = 10;

fuzz_target!(|bytes: &[u8]| {
    // Of the end that sent the probes, or of the other one.
    let sent_probes = bytes.len() % 2 == 1;
    let mut accounting = StreamAccounting::new(TOKEN, CHUNK, true, Box::default()).with_responses(sent_probes);
    let mut network = Network { bytes, at: 0 };
    let mut expected = Expected::default();
    let mut received = 1_000_000;
    while let Some(datagram) = network.next() {
        received += 100;
        let before = accounting.counts();
        let classified = accounting.datagram(&datagram, received);
        expected.take(classified, &datagram, &before, &accounting.counts());
    }
    let (counts, latencies) = accounting.close();
    let foreign = counts.foreign.token + counts.foreign.short + counts.foreign.malformed;
    assert_eq!(
        counts.unique + counts.duplicates + counts.late + foreign,
        expected.data + expected.foreign,
        "every datagram is counted once"
    );
    assert_eq!(foreign, expected.foreign);
    assert_eq!(counts.unique, expected.numbers.len() as u64);
    assert_eq!(counts.bytes, expected.bytes);
    assert!(counts.bytes <= counts.unique * CHUNK as u64);
    assert!(counts.unique <= counts.next);
    assert!(counts.reordered <= counts.unique);
    for latency in [&latencies.actual, &latencies.intended] {
        let outside = latency.out_of_range();
        let recorded = latency.count() + outside.negative + outside.too_long;
        assert_eq!(recorded, counts.unique);
    }
});

/// The model: a set of sequence numbers instead of a window.
#[derive(Default)]
struct Expected {
    data: u64,
    foreign: u64,
    bytes: u64,
    numbers: HashSet<u64>,
    next: u64,
}

impl Expected {
    fn take(&mut self, classified: Classified, datagram: &[u8], before: &StreamCounts, after: &StreamCounts) {
        let header = match classified {
            Classified::Data(header) => header,
            Classified::Foreign => {
                self.foreign += 1;
                let foreign = after.foreign;
                assert_eq!(*after, StreamCounts { foreign, ..*before });
                return;
            }
            Classified::Probe(_) | Classified::Ping(_) | Classified::Response => {
                return assert_eq!(after, before);
            }
            Classified::Late => {
                self.data += 1;
                let number = Header::decode(datagram).map(|header| header.sequence);
                assert!(
                    number.is_ok_and(|number| number + REACH < self.next),
                    "late within the window"
                );
                assert_eq!(
                    *after,
                    StreamCounts {
                        late: before.late + 1,
                        ..*before
                    }
                );
                return;
            }
        };
        self.data += 1;
        assert_eq!(Header::decode(datagram), Ok(header));
        assert_eq!((header.token, header.kind), (TOKEN, Kind::Data));
        let new = self.numbers.insert(header.sequence);
        if after.unique > before.unique {
            assert!(new, "counted twice");
            let reordered = u64::from(header.sequence < self.next);
            assert_eq!(after.reordered, before.reordered + reordered);
            self.bytes += (datagram.len() - HEADER) as u64;
        } else {
            assert_eq!(after.duplicates, before.duplicates + 1);
            assert!(!new, "a first arrival counted as a duplicate");
        }
        self.next = self.next.max(header.sequence + 1);
        assert_eq!(after.next, self.next);
    }
}

/// Builds datagrams from the fuzzer's bytes.
struct Network<'a> {
    bytes: &'a [u8],
    /// The sequence number of the sender.
    at: u64,
}

impl Network<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    /// The next datagram: its first input byte selects a kind, the next ones a distance and a changed byte.
    fn next(&mut self) -> Option<Vec<u8>> {
        let step = self.byte()?;
        let far = u64::from(self.byte()?);
        let sequence = match step % 8 {
            0..=2 => self.at,
            // Back or ahead by a little, by about the window, or by any distance.
            3 => self.at.saturating_sub(far),
            4 => self.at + far,
            5 => (self.at + REACH - 128).saturating_sub(far),
            6 => (self.at + 128).saturating_sub(REACH + far),
            _ => self.at.rotate_left(far as u32 % 48) ^ far << (far % 41),
        };
        let sequence = sequence & MAX_48_BIT;
        if step & 8 == 0 {
            self.at = (sequence + 1) & MAX_48_BIT;
        }
        let header = Header {
            last: step & 16 != 0,
            sent: 1_000_000 + far * 50,
            lateness: far,
            ..Header::bare(Kind::Data, TOKEN, sequence)
        };
        let length = if header.last {
            far as usize % (CHUNK + 2)
        } else {
            CHUNK
        };
        let mut datagram = [header.encode().as_slice(), &[0; CHUNK + 2][..length]].concat();
        match step >> 5 {
            // One byte is changed, or the end is missing.
            1 => {
                let place = usize::from(self.byte()?) % datagram.len();
                datagram[place] = self.byte()?;
            }
            2 => datagram.truncate(usize::from(self.byte()?)),
            // Arbitrary bytes.
            3 => {
                let length = self.bytes.len().min(usize::from(self.byte()? % 64));
                datagram = self.bytes.iter().copied().take(length).collect();
            }
            _ => {}
        }
        Some(datagram)
    }
}
