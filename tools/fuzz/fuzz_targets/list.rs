//! Any bytes are a list of some format, have invalid lines, or are rejected as a whole. A listed address is found in every spelling,
//! and a lookup agrees with a scan.

#![no_main]

use std::net::{IpAddr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use wirebench::blocklist::entry::{Entry, Subject};
use wirebench::blocklist::format::detect::detect;
use wirebench::blocklist::format::{self, Item};
use wirebench::blocklist::index::Index;
use wirebench::blocklist::ports::Ports;
use wirebench::blocklist::embedded::reachable;

/// Entries whose first and last address are looked up, each compared with a scan.
const MOST: usize = 50;

fuzz_target!(|content: &[u8]| {
    let mut entries: Vec<Entry> = Vec::new();
    let mut index = Index::default();
    let mut last = 0;
    let mut exceptions = 0;
    let format = format::read(content, |line, item| {
        assert!(line >= last.max(1), "lines come in order");
        last = line;
        match item {
            Item::Entry(text, entry) => {
                assert!(!text.is_empty() && text.trim() == text);
                assert_eq!(index.insert(text, entry.clone()), entries.len());
                entries.push(entry);
            }
            Item::Exception(text, _) => {
                assert!(!text.is_empty() && text.trim() == text);
                exceptions += 1;
            }
            Item::Bad(error) => {
                let sentence = error.to_string();
                assert!(!sentence.is_empty() && !sentence.contains('\n') && sentence.len() < 1_000);
            }
        }
    });
    assert_eq!(format, detect(content));
    let Ok(format) = format else {
        assert_eq!(last, 0, "nothing is taken of a file that is refused");
        return;
    };
    assert!(format.is_some() || entries.is_empty());
    assert!(exceptions == 0 || format.is_some_and(|format| format.has_exceptions()));
    assert!(last <= content.iter().filter(|&&byte| matches!(byte, b'\n' | b'\r')).count() + 1);
    for entry in entries.iter().take(MOST) {
        match &entry.subject {
            Subject::V4(first, end) => {
                for address in [first, end] {
                    found(&index, &entries, (*address).into());
                    for form in forms(address.to_bits()) {
                        let listed = |reading| index.address(reading, |_| true).is_some();
                        assert!(reachable(form.into()).any(listed), "{form}");
                    }
                }
            }
            Subject::V6(first, end) => {
                found(&index, &entries, (*first).into());
                found(&index, &entries, (*end).into());
            }
            Subject::Name(name) | Subject::Domain(name) => {
                let named = |entry: &Entry| entry.subject.names(name);
                let found = index.name(name, |_| true);
                assert_eq!(found.is_some(), entries.iter().any(named));
                assert!(found.is_none_or(|number| named(&entries[number])));
            }
        }
    }
});

fn found(index: &Index, entries: &[Entry], address: IpAddr) {
    for asked in [Ports::ALL, Ports::one(80)] {
        let suits = |ports: Ports| ports.covers(asked);
        let matches = |entry: &Entry| entry.subject.has(address) && suits(entry.ports);
        let found = index.address(address, suits);
        assert_eq!(found.is_some(), entries.iter().any(matches), "{address}");
        assert!(
            found.is_none_or(|number| matches(&entries[number])),
            "{address}"
        );
    }
}

/// IPv6 addresses that embed an IPv4 address.
fn forms(bits: u32) -> [Ipv6Addr; 6] {
    let low = u128::from(bits);
    [
        0xffff << 32 | low,
        0x64_ff9b << 96 | low,
        0x64_ff9b_0001 << 80 | low,
        0x2002 << 112 | low << 80,
        0x2001 << 112 | low << 64,
        0x2001 << 112 | u128::from(!bits),
    ]
    .map(Ipv6Addr::from_bits)
}
