//! The receiver's accounting, compared with a set of numbers, over arbitrary bytes and valid datagrams with numbers near, far and
//! wrong, some of them with a byte changed.
//!
//! The input is a sequence of steps; see [`Network::next`].

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use wirebench::udp::receive::accounting::{Account, Seen, Tally};
use wirebench::udp::wire::header::{HEADER, Header, Kind, MOST_SHORT};
use wirebench::udp::receive::sequence::REACH;

const TOKEN: u64 = 77;
const CHUNK: usize = 10;

fuzz_target!(|bytes: &[u8]| {
    let mut account = Account::new(TOKEN, CHUNK, true, Box::default());
    let mut network = Network { bytes, at: 0 };
    let mut expected = Expected::default();
    let mut received = 1_000_000;
    while let Some(datagram) = network.next() {
        received += 100;
        let before = account.tally();
        let seen = account.datagram(&datagram, received);
        expected.take(seen, &datagram, &before, &account.tally());
    }
    let (tally, latencies) = account.close();
    let foreign = tally.foreign.token + tally.foreign.short + tally.foreign.malformed;
    assert_eq!(
        tally.unique + tally.duplicates + tally.late + foreign,
        expected.data + expected.foreign,
        "every datagram is counted once"
    );
    assert_eq!(foreign, expected.foreign);
    assert_eq!(tally.unique, expected.numbers.len() as u64);
    assert_eq!(tally.bytes, expected.bytes);
    assert!(tally.bytes <= tally.unique * CHUNK as u64);
    assert!(tally.unique <= tally.next);
    assert!(tally.reordered <= tally.unique);
    for latency in [&latencies.actual, &latencies.intended] {
        let outside = latency.out_of_range();
        let recorded = latency.count() + outside.negative + outside.too_long;
        assert_eq!(recorded, tally.unique);
    }
});

/// The expected counts, from a set of numbers instead of a window.
#[derive(Default)]
struct Expected {
    data: u64,
    foreign: u64,
    bytes: u64,
    numbers: HashSet<u64>,
    next: u64,
}

impl Expected {
    fn take(&mut self, seen: Seen, datagram: &[u8], before: &Tally, after: &Tally) {
        let header = match seen {
            Seen::Data(header) => header,
            Seen::Foreign => {
                self.foreign += 1;
                let foreign = after.foreign;
                assert_eq!(*after, Tally { foreign, ..*before });
                return;
            }
            Seen::Probe(_) | Seen::Ping(_) => return assert_eq!(after, before),
            Seen::Late => {
                self.data += 1;
                let number = Header::decode(datagram).map(|header| header.sequence);
                assert!(
                    number.is_ok_and(|number| number + REACH < self.next),
                    "given up too soon"
                );
                assert_eq!(
                    *after,
                    Tally {
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
            assert!(!new, "a first arrival taken for a duplicate");
        }
        self.next = self.next.max(header.sequence + 1);
        assert_eq!(after.next, self.next);
    }
}

/// Makes datagrams from the fuzzer's bytes.
struct Network<'a> {
    bytes: &'a [u8],
    /// The sender's current sequence number.
    at: u64,
}

impl Network<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    /// The next datagram. The first byte selects its kind, the next ones the distance and the changed byte.
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
        let sequence = sequence & MOST_SHORT;
        if step & 8 == 0 {
            self.at = (sequence + 1) & MOST_SHORT;
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
